package matching

import (
	"context"
	"time"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// startFunc asks history to start a task and returns the poll's response.
type startFunc func(ctx context.Context, t *task) (proto.Message, error)

// Results of starts, as the metric names them.
const (
	startDone     = "started"
	startObsolete = "obsolete"
	startRetried  = "retried"
)

// start has a task started for a poll. Nil: the poll did not get it. Then the task is obsolete and dropped, or it waits again,
// with its request id if history may have started it.
//
// A client that goes away before the response is on its way does not take the task along: the same start is given to the next
// poll. What is lost on the wire after that runs into the task's own timeout.
func (p *partition) start(ctx context.Context, t *task, start startFunc) proto.Message {
	if ctx.Err() != nil {
		p.putBack(t, 0)
		return nil
	}
	p.claim(t)
	wait := startRetryWaitMin
	deadline := p.service.now().Add(startRetryWindow)
	for {
		response, err := p.tryStart(ctx, t, start)
		switch {
		case err == nil && ctx.Err() != nil:
			p.putBack(t, 0)
			return nil
		case err == nil:
			p.service.metrics.started.WithLabelValues(startDone).Inc()
			p.started(t)
			return response
		case t.query != nil && !retryable(err):
			p.service.answer(t.query, queryAnswer{err: err})
			return nil
		case isObsolete(err):
			p.service.metrics.started.WithLabelValues(startObsolete).Inc()
			p.obsolete(t)
			return nil
		}
		p.service.metrics.started.WithLabelValues(startRetried).Inc()
		if !retryable(err) || !p.service.now().Add(wait).Before(deadline) || !pause(ctx, wait) {
			p.letRest(ctx, t, err)
			return nil
		}
		wait = min(2*wait, startRetryWaitMax)
	}
}

// claim gives a task the request id of its start, unless one is open.
func (p *partition) claim(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.startID == "" {
		t.startID = uuid.NewString()
	}
}

func (p *partition) tryStart(ctx context.Context, t *task, start startFunc) (proto.Message, error) {
	if t.query == nil && t.data == nil {
		p.service.logger.Error("dropped an undecodable task of the backlog",
			zap.String("namespace_id", p.key.NamespaceID),
			zap.String("task_queue", p.key.TaskQueue),
			zap.Int64("task_id", t.key.ID))
		return nil, serviceerror.NewNotFound("the task cannot be decoded")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return start(ctx, t)
}

// letRest lets a task wait before it meets another poll: whatever is in its way, other tasks are not to wait behind it.
func (p *partition) letRest(ctx context.Context, t *task, err error) {
	if ctx.Err() != nil {
		p.putBack(t, 0) // it was the poll that ended
		return
	}
	rest := startRestMin << min(t.failures, 16)
	t.failures++
	p.service.logger.Warn("a task could not be started; it will be tried again",
		zap.String("namespace_id", p.key.NamespaceID),
		zap.String("task_queue", p.key.TaskQueue),
		zap.String("workflow_id", t.data.GetWorkflowId()),
		zap.String("run_id", t.data.GetRunId()),
		zap.Int64("scheduled_event_id", t.data.GetScheduledEventId()),
		zap.Error(err))
	p.putBack(t, min(rest, startRestMax))
}

// pause waits. It is false if the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// isObsolete is true if history says that the task is not to be started any more: it was started by another poll, timed out,
// or its run is over.
func isObsolete(err error) bool {
	switch serviceerror.ToStatus(err).Code() {
	case codes.NotFound, codes.AlreadyExists:
		return true
	default:
		return false
	}
}

// retryable is true if the same call may soon have another outcome. Other errors should not happen; a task that meets one is
// kept, since dropping it could block its workflow for good.
func retryable(err error) bool {
	switch serviceerror.ToStatus(err).Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Aborted, codes.Unknown:
		return true
	default:
		return false
	}
}

func (s *Service) startWorkflowTask(
	ctx context.Context, t *task, req *matchingpb.PollWorkflowTaskQueueRequest,
) (proto.Message, error) {
	response, err := s.history.RecordWorkflowTaskStarted(ctx, &historypb.RecordWorkflowTaskStartedRequest{
		NamespaceId:      req.GetPartition().GetNamespaceId(),
		Execution:        executionOf(t),
		ScheduledEventId: t.data.GetScheduledEventId(),
		Stamp:            t.data.GetStamp(),
		Attempt:          t.data.GetAttempt(),
		EffectId:         t.data.GetEffectId(),
		RequestId:        t.startID,
		Poll:             req.GetRequest(),
	})
	if err != nil {
		return nil, err
	}
	if response.GetTask() == nil {
		return nil, errNoTask()
	}
	return response.GetTask(), nil
}

func (s *Service) startActivityTask(
	ctx context.Context, t *task, req *matchingpb.PollActivityTaskQueueRequest,
) (proto.Message, error) {
	response, err := s.history.RecordActivityTaskStarted(ctx, &historypb.RecordActivityTaskStartedRequest{
		NamespaceId:      req.GetPartition().GetNamespaceId(),
		Execution:        executionOf(t),
		ScheduledEventId: t.data.GetScheduledEventId(),
		Stamp:            t.data.GetStamp(),
		Attempt:          t.data.GetAttempt(),
		EffectId:         t.data.GetEffectId(),
		RequestId:        t.startID,
		Poll:             req.GetRequest(),
	})
	if err != nil {
		return nil, err
	}
	if response.GetTask() == nil {
		return nil, errNoTask()
	}
	return response.GetTask(), nil
}

func executionOf(t *task) *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: t.data.GetWorkflowId(), RunId: t.data.GetRunId()}
}

func errNoTask() error {
	return serviceerror.NewInternal("history started a task without describing it")
}
