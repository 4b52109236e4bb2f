package matching

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// query is a direct query from the call of Query to its answer.
type query struct {
	id          string
	namespaceID string
	request     *workflowservice.QueryWorkflowRequest
	// answered gets one value. Its buffer is 1, and only who takes the query out of Service.queries sends.
	answered chan queryAnswer
}

// queryAnswer is a result or an error.
type queryAnswer struct {
	response *workflowservice.QueryWorkflowResponse
	err      error
}

// Query hands a query to a poller and waits for the answer until a second before the caller's deadline. A query that finds no
// poller, or gets no answer, ends in DEADLINE_EXCEEDED. On a sticky queue whose worker is gone it fails at once, with
// FAILED_PRECONDITION and the detail StickyWorkerUnavailable: the normal queue is to be asked.
func (s *Service) Query(ctx context.Context, req *matchingpb.QueryRequest) (*workflowservice.QueryWorkflowResponse, error) {
	key, err := keyOf(req.GetPartition())
	if err != nil {
		return nil, err
	}
	p, err := s.enter(ctx, req.GetPartition(), !key.sticky)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, errStickyGone(key.TaskQueue)
	}
	defer p.leave()
	q := &query{
		id:          uuid.NewString(),
		namespaceID: key.NamespaceID,
		request:     req.GetRequest(),
		answered:    make(chan queryAnswer, 1),
	}
	s.queriesMu.Lock()
	s.queries[q.id] = q
	s.queriesMu.Unlock()
	t := &task{source: sourceQuery, level: levelOf(req.GetPriority().GetPriorityKey()), query: q}
	if err := p.offerQuery(t); err != nil {
		s.take(q.id)
		return nil, err
	}
	wait, cancel := context.WithDeadline(ctx, waitDeadline(ctx, s.now(), pollCall{}))
	defer cancel()
	select {
	case a := <-q.answered:
		return a.response, a.err
	case <-wait.Done():
	}
	waiting := p.withdraw(t)
	if s.take(q.id) == nil {
		a := <-q.answered // just in time
		return a.response, a.err
	}
	if waiting {
		return nil, serviceerror.NewDeadlineExceeded("no worker polled the task queue in time to answer the query")
	}
	return nil, serviceerror.NewDeadlineExceeded("the worker did not answer the query in time")
}

func (p *partition) offerQuery(t *task) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errMoved()
	case p.key.sticky && !p.workerAlive(p.service.now()):
		return errStickyGone(p.key.TaskQueue)
	case p.matcher.queries >= p.service.config.WaitingTasksMax:
		return errTooMany("queries", p.service.config.WaitingTasksMax)
	}
	p.matcher.add(t)
	p.dispatch()
	return nil
}

// take takes a query out of those that wait for an answer. Nil: it is not, or no longer, among them.
func (s *Service) take(id string) *query {
	s.queriesMu.Lock()
	defer s.queriesMu.Unlock()
	q := s.queries[id]
	delete(s.queries, id)
	return q
}

// answer ends the wait of a query, unless it has ended.
func (s *Service) answer(q *query, a queryAnswer) {
	if s.take(q.id) != nil {
		q.answered <- a
	}
}

// startQuery makes the poll response of a query.
func (s *Service) startQuery(ctx context.Context, t *task, address *matchingpb.Partition) (proto.Message, error) {
	got, err := s.history.RecordQueryTaskStarted(ctx, &historypb.RecordQueryTaskStartedRequest{
		NamespaceId: address.GetNamespaceId(),
		Execution:   t.query.request.GetExecution(),
		Sticky:      address.GetKind() == enumspb.TASK_QUEUE_KIND_STICKY,
		Query:       t.query.request.GetQuery(),
	})
	if err != nil {
		return nil, err
	}
	token, err := proto.Marshal(&tokenpb.Query{
		NamespaceId: address.GetNamespaceId(),
		TaskQueue:   address.GetTaskQueue(),
		QueryId:     t.query.id,
		Owner:       s.owner,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the token of a query: %w", err)
	}
	response := shallowCopy(got.GetTask())
	response.TaskToken = token
	if response.Query == nil {
		response.Query = t.query.request.GetQuery()
	}
	return response, nil
}

// RespondQueryTaskCompleted passes a worker's answer on to the caller of Query. NOT_FOUND: nobody waits for it any more.
func (s *Service) RespondQueryTaskCompleted(
	_ context.Context, req *matchingpb.RespondQueryTaskCompletedRequest,
) (*workflowservice.RespondQueryTaskCompletedResponse, error) {
	s.queriesMu.Lock()
	defer s.queriesMu.Unlock()
	q := s.queries[req.GetQueryId()]
	if q == nil || q.namespaceID != req.GetNamespaceId() {
		return nil, serviceerror.NewNotFound("query task not found, or already expired")
	}
	a, err := answerOf(req.GetRequest())
	if err != nil {
		return nil, err
	}
	delete(s.queries, q.id)
	q.answered <- a
	return &workflowservice.RespondQueryTaskCompletedResponse{}, nil
}

func answerOf(r *workflowservice.RespondQueryTaskCompletedRequest) (queryAnswer, error) {
	switch r.GetCompletedType() {
	case enumspb.QUERY_RESULT_TYPE_ANSWERED:
		return queryAnswer{response: &workflowservice.QueryWorkflowResponse{QueryResult: r.GetQueryResult()}}, nil
	case enumspb.QUERY_RESULT_TYPE_FAILED:
		return queryAnswer{err: serviceerror.NewQueryFailedWithFailure(r.GetErrorMessage(), r.GetFailure())}, nil
	}
	return queryAnswer{}, serviceerror.NewInvalidArgumentf("the completed type of a query must be ANSWERED or FAILED, not %v", r.GetCompletedType())
}

// errStickyGone tells a caller of Query to use the normal queue.
func errStickyGone(taskQueue string) error {
	st := status.Newf(codes.FailedPrecondition, "the worker of sticky task queue %q is gone", taskQueue)
	if detailed, err := st.WithDetails(&matchingpb.StickyWorkerUnavailable{}); err == nil {
		st = detailed
	}
	return serviceerror.FromStatus(st)
}
