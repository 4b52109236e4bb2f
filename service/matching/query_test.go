package matching

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

func addRequest(address *matchingpb.Partition, id string) *matchingpb.AddTaskRequest {
	return &matchingpb.AddTaskRequest{Partition: address, Task: newTask(id, 0)}
}

func cancelAll() *matchingpb.CancelPollsRequest {
	return &matchingpb.CancelPollsRequest{Partition: stickyQueue, WorkerInstanceKey: "instance", UnloadSticky: true}
}

type queried struct {
	response *workflowservice.QueryWorkflowResponse
	err      error
}

func (f *fixture) goQuery(ctx context.Context, address *matchingpb.Partition) <-chan queried {
	done := make(chan queried, 1)
	go func() {
		response, err := f.service.Query(ctx, &matchingpb.QueryRequest{
			Partition: address,
			Request: &workflowservice.QueryWorkflowRequest{
				Execution: &commonpb.WorkflowExecution{WorkflowId: "w", RunId: "run"},
				Query:     &querypb.WorkflowQuery{QueryType: "state"},
			},
		})
		done <- queried{response, err}
	}()
	synctest.Wait()
	return done
}

// respond answers the query of a poll's response.
func (f *fixture) respond(task *workflowservice.PollWorkflowTaskQueueResponse, answer *workflowservice.RespondQueryTaskCompletedRequest) error {
	var token tokenpb.Query
	require.NoError(f.t, proto.Unmarshal(task.GetTaskToken(), &token))
	require.Equal(f.t, "host", token.GetOwner())
	_, err := f.service.RespondQueryTaskCompleted(f.t.Context(), &matchingpb.RespondQueryTaskCompletedRequest{
		NamespaceId: token.GetNamespaceId(), TaskQueue: token.GetTaskQueue(), QueryId: token.GetQueryId(), Request: answer,
	})
	return err
}

func fine() *workflowservice.RespondQueryTaskCompletedRequest {
	return &workflowservice.RespondQueryTaskCompletedRequest{
		CompletedType: enumspb.QUERY_RESULT_TYPE_ANSWERED,
		QueryResult:   &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte("fine")}}},
	}
}

func TestQuery(t *testing.T) {
	for name, pollFirst := range map[string]bool{"poll first": true, "query first": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				var poll <-chan polled
				var query <-chan queried
				if pollFirst {
					poll = f.goPoll(t.Context(), workflowQueue)
					query = f.goQuery(t.Context(), workflowQueue)
				} else {
					query = f.goQuery(t.Context(), workflowQueue)
					poll = f.goPoll(t.Context(), workflowQueue)
				}
				task := (<-poll).response
				require.Equal(t, "state", task.GetQuery().GetQueryType())
				require.NoError(t, f.respond(task, fine()))
				got := <-query
				require.NoError(t, got.err)
				require.Equal(t, "fine", string(got.response.GetQueryResult().GetPayloads()[0].GetData()))

				var notFound *serviceerror.NotFound
				require.ErrorAs(t, f.respond(task, fine()), &notFound, "an answer counts once")
				require.Empty(t, f.service.queries)
			})
		})
	}
}

func TestAWorkerThatCannotAnswerAQuery(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		query := f.goQuery(t.Context(), workflowQueue)
		task := (<-f.goPoll(t.Context(), workflowQueue)).response
		var invalid *serviceerror.InvalidArgument
		require.ErrorAs(t, f.respond(task, &workflowservice.RespondQueryTaskCompletedRequest{}), &invalid)
		require.NoError(t, f.respond(task, &workflowservice.RespondQueryTaskCompletedRequest{
			CompletedType: enumspb.QUERY_RESULT_TYPE_FAILED,
			ErrorMessage:  "unknown query",
			Failure:       &failurepb.Failure{Message: "UnknownQuery happened"},
		}))
		var failed *serviceerror.QueryFailed
		require.ErrorAs(t, (<-query).err, &failed)
		require.Equal(t, "unknown query", failed.Message)
		require.Equal(t, "UnknownQuery happened", failed.Failure.GetMessage())
		var notFound *serviceerror.NotFound
		require.ErrorAs(t, f.respond(task, &workflowservice.RespondQueryTaskCompletedRequest{}), &notFound, "who waits is asked before how it is answered")
	})
}

func TestAQueryThatNobodyAnswers(t *testing.T) {
	for name, withPoller := range map[string]bool{"no poller": false, "silent worker": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				begin := time.Now()
				query := f.goQuery(ctx, workflowQueue)
				var task *workflowservice.PollWorkflowTaskQueueResponse
				if withPoller {
					task = (<-f.goPoll(t.Context(), workflowQueue)).response
				}
				var deadline *serviceerror.DeadlineExceeded
				require.ErrorAs(t, (<-query).err, &deadline)
				require.Equal(t, 9*time.Second, time.Since(begin))
				require.Equal(t, "", f.mustPoll(2*time.Second), "it is not offered any more")
				if withPoller {
					var notFound *serviceerror.NotFound
					require.ErrorAs(t, f.respond(task, fine()), &notFound)
				}
			})
		})
	}
}

func TestAQueryOfAMissingRunFails(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.history.setFault(failTimes(1, false, serviceerror.NewNotFound("workflow not found")))
		poll := f.goPoll(t.Context(), workflowQueue)
		var notFound *serviceerror.NotFound
		require.ErrorAs(t, (<-f.goQuery(t.Context(), workflowQueue)).err, &notFound)
		f.goQuery(t.Context(), workflowQueue)
		require.Equal(t, "state", (<-poll).response.GetQuery().GetQueryType(), "the same poll continues")
	})
}

func TestAQueryWhosePollerVanishesGoesToTheNext(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		f.history.setFault(func(string) (bool, error) { cancel(); return true, nil })
		first := f.goPoll(ctx, workflowQueue)
		query := f.goQuery(t.Context(), workflowQueue)
		require.Empty(t, (<-first).response.GetTaskToken())
		require.NoError(t, f.respond((<-f.goPoll(t.Context(), workflowQueue)).response, fine()))
		require.NoError(t, (<-query).err)
	})
}

func TestStickyQueue(t *testing.T) {
	requireGone := func(t *testing.T, f *fixture, gone bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		query := <-f.goQuery(ctx, stickyQueue)
		st := serviceerror.ToStatus(query.err)
		if !gone {
			require.Equal(t, codes.DeadlineExceeded, st.Code())
			return
		}
		require.Equal(t, codes.FailedPrecondition, st.Code())
		require.Len(t, st.Details(), 1)
		require.IsType(t, &matchingpb.StickyWorkerUnavailable{}, st.Details()[0])
		response, err := f.add(stickyQueue, newTask("w", 0))
		require.NoError(t, err)
		require.True(t, response.GetStickyWorkerUnavailable())
		require.Zero(t, time.Since(begin), "at once")
	}
	t.Run("never polled", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fixture) {
			requireGone(t, f, true)
			require.Empty(t, f.service.partitions)
		})
	})
	t.Run("polled lately", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fixture) {
			require.Equal(t, "", f.pollID(stickyQueue, 2*time.Second))
			requireGone(t, f, false)
			time.Sleep(stickyPollerGone)
			requireGone(t, f, true)
		})
	})
	t.Run("a poll waits", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fixture) {
			poll := f.goPoll(t.Context(), stickyQueue)
			time.Sleep(2 * stickyPollerGone)
			response, err := f.add(stickyQueue, newTask("w", 0))
			require.NoError(t, err)
			require.True(t, response.GetMatched())
			require.Equal(t, "w", (<-poll).id())
		})
	})
	t.Run("a task waits for its worker without being stored", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fixture) {
			require.Equal(t, "", f.pollID(stickyQueue, 2*time.Second))
			add := f.goAdd(stickyQueue, "w")
			time.Sleep(5 * time.Second)
			require.Equal(t, "w", f.pollID(stickyQueue, time.Minute))
			require.True(t, (<-add).response.GetMatched())
			require.Empty(t, f.store.calls)
		})
	})
	t.Run("a task under way does not bring a leaving worker back", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fixture) {
			f.history.entered = make(chan string)
			f.history.proceed = make(chan struct{})
			poll := f.goPoll(t.Context(), stickyQueue)
			f.goAdd(stickyQueue, "w")
			<-f.history.entered
			_, err := f.service.CancelPolls(t.Context(), cancelAll())
			require.NoError(t, err)
			close(f.history.proceed)
			require.Equal(t, "w", (<-poll).id())
			requireGone(t, f, true)
		})
	})
	t.Run("the worker says goodbye", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fixture) {
			require.Equal(t, "", f.pollID(stickyQueue, 2*time.Second))
			add := f.goAdd(stickyQueue, "w")
			query := f.goQuery(t.Context(), stickyQueue)
			_, err := f.service.CancelPolls(t.Context(), cancelAll())
			require.NoError(t, err)
			require.True(t, (<-add).response.GetStickyWorkerUnavailable(), "what waits is told, too")
			require.Equal(t, codes.FailedPrecondition, serviceerror.ToStatus((<-query).err).Code())
			requireGone(t, f, true)
			time.Sleep(departedKept) // until then its polls are those of a worker that is gone
			require.Equal(t, "", f.pollID(stickyQueue, 2*time.Second))
			requireGone(t, f, false)
		})
	})
}

// TestAPollOfADepartedWorker checks that a poll which arrives after its worker's goodbye neither gets a task nor makes the sticky queue
// look alive.
func TestAPollOfADepartedWorker(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		poll := f.goPoll(t.Context(), stickyQueue)
		synctest.Wait()
		_, err := f.service.CancelPolls(t.Context(), cancelAll())
		require.NoError(t, err)
		require.Empty(t, (<-poll).id())

		begin := time.Now()
		late, err := f.poll(t.Context(), stickyQueue)
		require.NoError(t, err)
		require.Empty(t, late.GetTaskToken())
		require.Zero(t, time.Since(begin), "it ends at once")
		response, err := f.add(stickyQueue, newTask("w", 0))
		require.NoError(t, err)
		require.True(t, response.GetStickyWorkerUnavailable())

		time.Sleep(departedKept)
		require.Empty(t, f.pollID(stickyQueue, 5*time.Second))
		require.Equal(t, 4*time.Second, time.Since(begin)-departedKept, "it is forgotten")
	})
}

func TestDepartedWorkersAreBounded(t *testing.T) {
	var d departed
	for i := range departedMax + 10 {
		d.note(fmt.Sprint(i), epochStart)
	}
	require.LessOrEqual(t, len(d.at), departedMax)
	require.False(t, d.has("", epochStart))
}
