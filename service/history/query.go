package history

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	eventpb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// A query must see everything that happened before it was asked. If the worker has seen it all (no workflow task is open, or
// the run is closed) the query goes to a worker by itself, through matching. Otherwise it waits on the cached run for the
// open task, travels with it if it has not been handed out yet, and is answered by its completion; if that brings no answer,
// the decision is taken anew (CONTRACT 8.3).

// bufferedQuery is a query that waits for a workflow task. It is guarded by its run's chain.
type bufferedQuery struct {
	run   *run
	id    string
	query *querypb.WorkflowQuery
	// delivered is the start of the task that it travels with; "": none.
	delivered string
	// answer is what the completion that is being applied says.
	answer *queryAnswer
	// released is closed when the wait is over: with outcome, or without one to decide anew.
	released chan struct{}
	outcome  *queryAnswer
}

type queryAnswer struct {
	response *workflowservice.QueryWorkflowResponse
	err      error
}

// queryPlan is how a query is to be answered: at once, by a worker, or (neither) by waiting.
type queryPlan struct {
	answer *queryAnswer
	direct bool
	wait   *bufferedQuery

	runID, sticky, queue string
	stickyTimeout        time.Duration
}

// QueryWorkflow implements HistoryService.
func (s *Service) QueryWorkflow(ctx context.Context, in *historypb.QueryWorkflowRequest) (*workflowservice.QueryWorkflowResponse, error) {
	req := in.GetRequest()
	key := workflowKey(in.GetNamespaceId(), req.GetExecution().GetWorkflowId())
	runID := req.GetExecution().GetRunId()
	for {
		var plan *queryPlan
		err := s.with(ctx, key, func(x *access) error {
			r, err := x.find(runID)
			if err == nil {
				plan, err = x.planQuery(r, req)
			}
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case plan.answer != nil:
			return plan.answer.response, plan.answer.err
		case plan.direct:
			return s.askWorker(ctx, in, plan)
		}
		runID = plan.runID // of what was asked first, whatever follows it
		if a := s.awaitQuery(ctx, plan.wait); a != nil {
			return a.response, a.err
		}
	}
}

// planQuery decides how a query is answered, and lets it wait if that is it.
func (x *access) planQuery(r *run, req *workflowservice.QueryWorkflowRequest) (*queryPlan, error) {
	core := r.state.Core
	plan := &queryPlan{
		runID: r.id, queue: core.TaskQueue, sticky: core.StickyQueue, stickyTimeout: core.StickyTimeout.AsDuration(),
	}
	if rejects(req.GetQueryRejectCondition(), core.Status) {
		plan.answer = &queryAnswer{response: &workflowservice.QueryWorkflowResponse{
			QueryRejected: &querypb.QueryRejected{Status: core.Status},
		}}
		return plan, nil
	}
	var err error
	if plan.direct, err = routeQuery(x.ctx, r); err != nil || plan.direct {
		return plan, err
	}
	if len(r.queries) >= bufferedQueriesMax {
		return nil, serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW,
			"Another query waits for this workflow's task already; try again in a moment.")
	}
	plan.wait = &bufferedQuery{run: r, id: uuid.NewString(), query: req.GetQuery(), released: make(chan struct{})}
	r.queries = append(r.queries, plan.wait)
	return plan, nil
}

func rejects(condition enumspb.QueryRejectCondition, status enumspb.WorkflowExecutionStatus) bool {
	switch status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return false
	case enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED:
		return true
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return condition == enumspb.QUERY_REJECT_CONDITION_NOT_OPEN
	}
	return condition == enumspb.QUERY_REJECT_CONDITION_NOT_OPEN || condition == enumspb.QUERY_REJECT_CONDITION_NOT_COMPLETED_CLEANLY
}

// routeQuery tells whether a query goes to a worker by itself; false: it waits for the open or first workflow task.
func routeQuery(ctx context.Context, r *run) (direct bool, err error) {
	core, task := r.state.Core, r.state.Task()
	switch {
	case !r.state.Open() && core.CompletedTasks == 0:
		return false, serviceerror.NewWorkflowNotReady("Workflow execution closed before WorkflowTaskStarted event")
	case !r.state.Open():
		return true, nil
	case task != nil && task.Attempt >= queryAttemptsMax:
		return false, serviceerror.NewWorkflowNotReady("Unable to query the workflow: its workflow task keeps failing.")
	case core.CompletedTasks > 0:
		return task == nil, nil
	}
	if deadline, ok := ctx.Deadline(); ok && core.FirstTaskDue != nil && core.FirstTaskDue.AsTime().After(deadline) {
		return false, serviceerror.NewWorkflowNotReady("The workflow's first task is not due before the query's deadline.")
	}
	return false, nil
}

// awaitQuery waits for the workflow task that a query travels with. Nil: decide anew.
func (s *Service) awaitQuery(ctx context.Context, q *bufferedQuery) *queryAnswer {
	wait, cancel := context.WithTimeout(ctx, waitTime(ctx, queryWaitMax))
	defer cancel()
	var err error
	select {
	case <-q.released:
		return q.outcome
	case <-wait.Done():
		err = wait.Err()
	case <-s.ctx.Done():
		err = errStopped
	}
	s.onRun(q.run, func() { q.run.removeQuery(q) })
	if errors.Is(err, context.DeadlineExceeded) {
		err = serviceerror.NewDeadlineExceeded("no workflow task was completed in time to answer the query")
	}
	return &queryAnswer{err: err}
}

func (r *run) removeQuery(q *bufferedQuery) {
	for i, other := range r.queries {
		if other == q {
			r.queries = append(r.queries[:i:i], r.queries[i+1:]...)
			return
		}
	}
}

// release ends a query's wait; without an outcome it is decided anew.
func (r *run) release(q *bufferedQuery, outcome *queryAnswer) {
	r.removeQuery(q)
	q.outcome = outcome
	close(q.released)
}

// failQueries ends the wait of every query: the run has been dropped from memory.
func (r *run) failQueries(err error) {
	for len(r.queries) > 0 {
		r.release(r.queries[0], &queryAnswer{err: err})
	}
}

// deliverQueries gives the waiting queries to a task that is being handed out.
func (r *run) deliverQueries(start string) map[string]*querypb.WorkflowQuery {
	if len(r.queries) == 0 {
		return nil
	}
	delivered := make(map[string]*querypb.WorkflowQuery, len(r.queries))
	for _, q := range r.queries {
		q.delivered = start
		delivered[q.id] = q.query
	}
	return delivered
}

// takeAnswers notes what a completion answers. It counts once the completion is committed: see reviewQueries.
func (r *run) takeAnswers(results map[string]*querypb.WorkflowQueryResult) {
	for _, q := range r.queries {
		if result := results[q.id]; result != nil {
			q.answer = answerOf(result)
		}
	}
}

func (r *run) forgetAnswers() {
	for _, q := range r.queries {
		q.answer = nil
	}
}

// queryResultMax bounds the result of a query (CONTRACT 5.1).
const queryResultMax = 2 << 20

func answerOf(result *querypb.WorkflowQueryResult) *queryAnswer {
	switch {
	case result.GetResultType() != enumspb.QUERY_RESULT_TYPE_ANSWERED:
		return &queryAnswer{err: serviceerror.NewQueryFailedWithFailure(result.GetErrorMessage(), result.GetFailure())}
	case proto.Size(result.GetAnswer()) > queryResultMax:
		return &queryAnswer{err: serviceerror.NewQueryFailed("The result of the query is larger than the server accepts.")}
	}
	return &queryAnswer{response: &workflowservice.QueryWorkflowResponse{QueryResult: result.GetAnswer()}}
}

// reviewQueries releases, after a transition, the queries that have their answer, and those that no longer need to wait.
func (r *run) reviewQueries() {
	for i := 0; i < len(r.queries); {
		q, task := r.queries[i], r.state.Task()
		direct, err := routeQuery(context.Background(), r)
		switch {
		case q.answer != nil:
			r.release(q, q.answer)
		case direct || err != nil:
			r.release(q, nil)
		default:
			if task == nil || task.StartId != q.delivered {
				q.delivered = "" // the task is over without an answer: the next one takes it along
			}
			i++
		}
	}
}

// askWorker hands a query to a worker: to the one that has the run in its cache, if it is there.
func (s *Service) askWorker(ctx context.Context, in *historypb.QueryWorkflowRequest, plan *queryPlan) (*workflowservice.QueryWorkflowResponse, error) {
	req := proto.CloneOf(in.GetRequest())
	req.Execution.RunId = plan.runID
	if plan.sticky != "" {
		response, err := s.askSticky(ctx, in.GetNamespaceId(), req, plan)
		if !notAnswered(err) || ctx.Err() != nil {
			return response, err
		}
		s.unstick(ctx, target{key: workflowKey(in.GetNamespaceId(), req.GetExecution().GetWorkflowId()), runID: plan.runID}, plan.sticky)
	}
	return s.matching.Query(ctx, &matchingpb.QueryRequest{
		Partition: workflowPartition(in.GetNamespaceId(), plan.queue, ""), Request: req,
	})
}

func (s *Service) askSticky(ctx context.Context, namespaceID string, req *workflowservice.QueryWorkflowRequest, plan *queryPlan) (*workflowservice.QueryWorkflowResponse, error) {
	// Matching answers deadlineMargin before the deadline.
	ctx, cancel := context.WithTimeout(ctx, max(plan.stickyTimeout, time.Second)+deadlineMargin)
	defer cancel()
	return s.matching.Query(ctx, &matchingpb.QueryRequest{
		Partition: workflowPartition(namespaceID, plan.sticky, plan.queue), Request: req,
	})
}

// notAnswered tells the errors after which the normal queue is asked: no worker took the query from the sticky one.
func notAnswered(err error) bool {
	if err == nil {
		return false
	}
	switch code(err) {
	case codes.FailedPrecondition, codes.DeadlineExceeded, codes.Unavailable, codes.Canceled:
		return true
	}
	return false
}

// unstick makes the next workflow task go to the normal queue: the worker that had the run in its cache does not answer.
func (s *Service) unstick(ctx context.Context, t target, sticky string) {
	_ = s.with(ctx, t.key, func(x *access) error { // if it fails, the next task finds out by itself
		r, err := x.load(t.runID)
		if err != nil || r == nil || !r.state.Open() || r.state.Core.StickyQueue != sticky {
			return err
		}
		return x.resetSticky(r)
	})
}

// RecordQueryTaskStarted implements HistoryService: the run's history as far as it is durable, and none for a worker that has
// it in its cache.
func (s *Service) RecordQueryTaskStarted(ctx context.Context, in *historypb.RecordQueryTaskStartedRequest) (*historypb.RecordQueryTaskStartedResponse, error) {
	var reply *taskReply
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), in.GetExecution().GetWorkflowId()), func(x *access) error {
		r, err := x.find(in.GetExecution().GetRunId())
		if err != nil {
			return err
		}
		reply = x.queryReply(r, in.GetQuery())
		return nil
	})
	if err != nil {
		return nil, err
	}
	reply.task.History = &eventpb.History{} // an SDK takes a task without any for a broken one
	if !in.GetSticky() {
		token := &tokenpb.HistoryPage{RunId: reply.history.runID, LastEventId: reply.history.last}
		reply.task.History, reply.task.NextPageToken, err = workerPage(ctx, reply.history, 1, historyPageMax, token, nil)
	}
	return &historypb.RecordQueryTaskStartedResponse{Task: reply.task}, err
}
