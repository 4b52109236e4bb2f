package history

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

func (h *host) query(id string) (*workflowservice.QueryWorkflowResponse, error) {
	return h.queryWith(h.ctx, &workflowservice.QueryWorkflowRequest{Execution: execution(id, "")})
}

func (h *host) queryWith(ctx context.Context, r *workflowservice.QueryWorkflowRequest) (*workflowservice.QueryWorkflowResponse, error) {
	r.Query = &querypb.WorkflowQuery{QueryType: "state"}
	return h.QueryWorkflow(ctx, &historypb.QueryWorkflowRequest{NamespaceId: h.id(), Request: r})
}

// answerQueries has matching hand queries to a worker that answers with the name of the queue.
func (h *host) answerQueries() {
	h.queues.OnQuery(func(ctx context.Context, in *matchingpb.QueryRequest) (*workflowservice.QueryWorkflowResponse, error) {
		isSticky := in.GetPartition().GetKind() == enumspb.TASK_QUEUE_KIND_STICKY
		out, err := h.RecordQueryTaskStarted(ctx, &historypb.RecordQueryTaskStartedRequest{
			NamespaceId: h.id(), Execution: in.GetRequest().GetExecution(), Sticky: isSticky, Query: in.GetRequest().GetQuery(),
		})
		if err != nil {
			return nil, err
		}
		require.Zero(h.t, out.Task.StartedEventId)
		require.EqualValues(h.t, 1, out.Task.Attempt)
		require.Equal(h.t, "state", out.Task.Query.QueryType)
		require.Equal(h.t, isSticky, len(out.Task.History.GetEvents()) == 0)
		return &workflowservice.QueryWorkflowResponse{QueryResult: payload(in.GetPartition().GetTaskQueue())}, nil
	})
}

func result(out *workflowservice.QueryWorkflowResponse) string {
	return string(out.GetQueryResult().GetPayloads()[0].GetData())
}

func TestDirectQueries(t *testing.T) {
	h := startHost(t)
	h.answerQueries()
	h.run("w")
	h.complete(h.task())
	out, err := h.query("w")
	require.NoError(t, err)
	require.Equal(t, testQueue, result(out))
	require.Len(t, h.events("w", ""), 4) // it leaves no trace

	require.NoError(t, h.signal("w", "s"))
	h.completeSticky(h.task())
	out, err = h.query("w")
	require.NoError(t, err)
	require.Equal(t, stickyQueue, result(out))

	require.NoError(t, h.terminateRun("w", ""))
	out, err = h.query("w") // closed, by the full history
	require.NoError(t, err)
	require.Equal(t, testQueue, result(out))
}

// A sticky worker that does not answer loses its stickiness, and the normal queue is asked.
func TestStickyQueryFallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		h.completeSticky(h.task())
		for _, gone := range []bool{true, false} {
			h.queues.OnQuery(func(ctx context.Context, in *matchingpb.QueryRequest) (*workflowservice.QueryWorkflowResponse, error) {
				switch {
				case in.GetPartition().GetKind() != enumspb.TASK_QUEUE_KIND_STICKY:
					return &workflowservice.QueryWorkflowResponse{QueryResult: payload(testQueue)}, nil
				case gone:
					return nil, serviceerror.NewFailedPrecondition("no worker")
				}
				<-ctx.Done()
				return nil, serviceerror.NewDeadlineExceeded("no answer")
			})
			out, err := h.query("w")
			require.NoError(t, err)
			require.Equal(t, testQueue, result(out))
		}
		require.NoError(t, h.signal("w", "s"))
		require.EqualValues(t, 1, h.task().History.Events[0].EventId) // not sticky any more
	})
}

func (h *host) queryAsync(id string) <-chan any {
	answer := make(chan any, 1)
	go func() {
		out, err := h.query(id)
		if err != nil {
			answer <- err
		} else {
			answer <- result(out)
		}
	}()
	synctest.Wait()
	return answer
}

// A query travels with the open task, and is answered by its completion.
func TestQueryTravelsWithATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		answer := h.queryAsync("w")
		_, err := h.query("w")
		require.Equal(t, codes.ResourceExhausted, code(err)) // one at a time
		task := h.task()
		require.Len(t, task.Queries, 1)
		results := map[string]*querypb.WorkflowQueryResult{}
		for id, q := range task.Queries {
			require.Equal(t, "state", q.QueryType)
			results[id] = &querypb.WorkflowQueryResult{ResultType: enumspb.QUERY_RESULT_TYPE_ANSWERED, Answer: payload("fine")}
		}
		require.NoError(t, err2(h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken, QueryResults: results})))
		require.Equal(t, "fine", <-answer)
		require.Zero(t, h.waiters("w"))

		require.NoError(t, h.signal("w", "s"))
		answer = h.queryAsync("w")
		task = h.task()
		for id := range task.Queries {
			results = map[string]*querypb.WorkflowQueryResult{id: {ResultType: enumspb.QUERY_RESULT_TYPE_FAILED, ErrorMessage: "no such query"}}
		}
		require.NoError(t, err2(h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken, QueryResults: results})))
		var failed *serviceerror.QueryFailed
		require.ErrorAs(t, (<-answer).(error), &failed)
	})
}

func err2[T any](_ T, err error) error { return err }

// A query that comes while a task runs, or that its completion leaves unanswered, goes to a worker by itself afterwards.
func TestQueryIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.answerQueries()
		h.run("w")
		task := h.task()
		answer := h.queryAsync("w")
		h.complete(task)
		require.Equal(t, testQueue, <-answer)

		require.NoError(t, h.signal("w", "s"))
		answer = h.queryAsync("w")
		task = h.task()
		require.Len(t, task.Queries, 1)
		h.complete(task)
		require.Equal(t, testQueue, <-answer)

		require.NoError(t, h.signal("w", "s"))
		answer = h.queryAsync("w")
		require.NoError(t, h.terminateRun("w", ""))
		require.Equal(t, testQueue, <-answer)
	})
}

func TestQueriesThatCannotBeAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := h.queryWith(ctx, &workflowservice.QueryWorkflowRequest{Execution: execution("w", "")})
		require.Equal(t, codes.DeadlineExceeded, code(err))
		require.Zero(t, h.waiters("w"))

		for range 2 { // the task fails twice: the third attempt is refused
			_, err = h.RespondWorkflowTaskFailed(h.ctx, &historypb.RespondWorkflowTaskFailedRequest{
				NamespaceId: h.id(), Token: decodeToken(t, h.task().TaskToken), Request: &workflowservice.RespondWorkflowTaskFailedRequest{},
			})
			require.NoError(t, err)
		}
		_, err = h.query("w")
		var notReady *serviceerror.WorkflowNotReady
		require.ErrorAs(t, err, &notReady)

		require.NoError(t, h.terminateRun("w", ""))
		_, err = h.query("w")
		require.EqualError(t, err, "Workflow execution closed before WorkflowTaskStarted event")
		out, err := h.queryWith(h.ctx, &workflowservice.QueryWorkflowRequest{
			Execution: execution("w", ""), QueryRejectCondition: enumspb.QUERY_REJECT_CONDITION_NOT_COMPLETED_CLEANLY,
		})
		require.NoError(t, err)
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, out.QueryRejected.Status)
	})
}
