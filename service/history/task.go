package history

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	eventpb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// RecordWorkflowTaskStarted implements HistoryService.
func (s *Service) RecordWorkflowTaskStarted(ctx context.Context, in *historypb.RecordWorkflowTaskStartedRequest) (*historypb.RecordWorkflowTaskStartedResponse, error) {
	var reply *taskReply
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), in.GetExecution().GetWorkflowId()), func(x *access) error {
		r, err := x.find(in.GetExecution().GetRunId())
		if err != nil {
			return err
		}
		reply, err = x.startTask(r, workflow.TaskStart{
			ScheduledEventID: in.GetScheduledEventId(), EffectID: in.GetEffectId(),
			StartID: in.GetRequestId(), Identity: in.GetPoll().GetIdentity(),
			Sticky: in.GetPoll().GetTaskQueue().GetKind() == enumspb.TASK_QUEUE_KIND_STICKY,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	task, err := reply.complete(ctx)
	if err != nil {
		return nil, err
	}
	return &historypb.RecordWorkflowTaskStartedResponse{Task: task}, nil
}

// startTask gives the open workflow task to a poller.
func (x *access) startTask(r *run, in workflow.TaskStart) (*taskReply, error) {
	var task *statepb.WorkflowTask
	_, err := x.transition(r, func(tx *workflow.Tx) (err error) {
		task, err = tx.StartTask(in)
		return err
	})
	if err != nil {
		return nil, err
	}
	if r.followers > 0 && r.startedInMemory() {
		r.notify()
	}
	return x.replyWith(r, task, in.Sticky)
}

// taskReply is a workflow task on its way to a worker, but for its history, which is read without the lock.
type taskReply struct {
	task    *workflowservice.PollWorkflowTaskQueueResponse
	history durable
	// from is the first event that the worker needs; suffix follows the durable events.
	from   int64
	suffix []*eventpb.HistoryEvent
}

// replyWith describes a started task. A sticky worker has what came before in its cache.
func (x *access) replyWith(r *run, task *statepb.WorkflowTask, sticky bool) (reply *taskReply, err error) {
	reply = x.describeTask(r)
	reply.suffix, _ = r.state.ProvisionalEvents(true)
	if sticky {
		reply.from = r.state.Core.LastCompletedTaskStartedEventId + 1
	}
	t := reply.task
	t.TaskToken = x.taskToken(r, task)
	t.StartedEventId, t.Attempt = task.StartedEventId, task.Attempt
	t.ScheduledTime, t.StartedTime = task.ScheduledTime, task.StartedTime
	t.Queries = r.deliverQueries(task.StartId)
	if t.Messages, err = r.state.UpdateMessages(); err != nil {
		return nil, fmt.Errorf("encode the updates of run %s: %w", r.id, err)
	}
	return reply, nil
}

// queryReply describes a direct query: a task that does not stand in the history.
func (x *access) queryReply(r *run, query *querypb.WorkflowQuery) *taskReply {
	reply := x.describeTask(r)
	reply.task.Attempt, reply.task.Query = 1, query
	return reply
}

func (x *access) describeTask(r *run) *taskReply {
	core := r.state.Core
	return &taskReply{
		task: &workflowservice.PollWorkflowTaskQueueResponse{
			WorkflowExecution:          &commonpb.WorkflowExecution{WorkflowId: x.chain.key.BusinessID, RunId: r.id},
			WorkflowType:               r.state.Start.WorkflowType,
			PreviousStartedEventId:     core.LastCompletedTaskStartedEventId,
			WorkflowExecutionTaskQueue: &taskqueuepb.TaskQueue{Name: core.TaskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		},
		history: x.durableOf(r),
		from:    1,
	}
}

func (x *access) taskToken(r *run, task *statepb.WorkflowTask) []byte {
	token, _ := proto.Marshal(&tokenpb.Task{ // plain fields always encode
		NamespaceId: x.chain.key.NamespaceID, WorkflowId: x.chain.key.BusinessID, RunId: r.id,
		ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId, Attempt: task.Attempt, StartId: task.StartId,
	})
	return token
}

// complete reads the task's history, or its first page.
func (t *taskReply) complete(ctx context.Context) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	// Beyond the task's start nothing may be seen; what is not durable of it comes behind the durable events.
	last := t.task.StartedEventId
	token := &tokenpb.HistoryPage{
		RunId: t.history.runID, LastEventId: last,
		TaskScheduledEventId: last, TaskStartedEventId: last,
	}
	if len(t.suffix) > 0 {
		token.TaskScheduledEventId = t.suffix[0].EventId
	}
	history, next, err := workerPage(ctx, t.history, t.from, historyPageMax, token, t.suffix)
	if err != nil {
		return nil, err
	}
	t.task.History, t.task.NextPageToken = history, next
	return t.task, nil
}

// workerPage is one page of what a worker reads for its task: durable events, then those that are not durable yet.
func workerPage(ctx context.Context, d durable, from int64, limit int, token *tokenpb.HistoryPage, suffix []*eventpb.HistoryEvent) (*eventpb.History, []byte, error) {
	events, err := d.read(ctx, from, token.LastEventId, limit)
	if err != nil {
		return nil, nil, err
	}
	next := from + int64(len(events))
	if next <= min(d.last, token.LastEventId) {
		token.NextEventId = next
		data, err := proto.Marshal(token)
		return &eventpb.History{Events: events}, data, err
	}
	for _, e := range suffix {
		if e.EventId >= next && e.EventId <= token.LastEventId {
			events = append(events[:len(events):len(events)], e)
		}
	}
	return &eventpb.History{Events: events}, nil, nil
}

// RespondWorkflowTaskCompleted implements HistoryService.
func (s *Service) RespondWorkflowTaskCompleted(ctx context.Context, in *historypb.RespondWorkflowTaskCompletedRequest) (*workflowservice.RespondWorkflowTaskCompletedResponse, error) {
	var c *completed
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), in.GetToken().GetWorkflowId()), func(x *access) (err error) {
		c, err = x.completeTask(in.GetToken(), in.GetRequest())
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.refused != nil {
		return nil, c.refused
	}
	if c.next != nil {
		if c.out.WorkflowTask, err = c.next.complete(ctx); err != nil {
			// The completion stands. The worker gets no next task; it times out and is dispatched.
			c.out.WorkflowTask = nil
		}
	}
	return c.out, nil
}

// completed is an applied answer to a workflow task.
type completed struct {
	out *workflowservice.RespondWorkflowTaskCompletedResponse
	// refused is what the worker must be told: its commands were recorded as a failure.
	refused error
	// next is the task that goes out with the reply; nil: none.
	next *taskReply
}

func (x *access) completeTask(token *tokenpb.Task, req *workflowservice.RespondWorkflowTaskCompletedRequest) (*completed, error) {
	r, err := x.find(token.GetRunId())
	if err != nil {
		return nil, err
	}
	c, err := x.begin(r, needsStart(r, req))
	if err != nil {
		return nil, err
	}
	if c.tx.EnforceLimits() {
		if err := x.commit(c); err != nil {
			return nil, err
		}
		return nil, errTaskNotFound
	}
	done, err := c.tx.CompleteTask(token, req)
	if err != nil {
		return nil, err
	}
	if done.Err == nil {
		r.takeAnswers(req.GetQueryResults())
	}
	if err := x.commit(c); err != nil {
		r.forgetAnswers()
		if err == errTooLarge {
			return x.tooLarge(r)
		}
		return nil, err
	}
	out := &completed{refused: done.Err, out: &workflowservice.RespondWorkflowTaskCompletedResponse{ResetHistoryEventId: done.ResetHistoryEventID}}
	if task := c.res.InlineTask; task != nil {
		if out.next, err = x.replyWith(r, task, true); err != nil {
			return nil, err
		}
	}
	for _, id := range done.EagerActivities {
		activity, err := x.activityTask(r, id)
		if err != nil {
			continue // it has been started: its timeout brings it back
		}
		activity.RetryPolicy = nil // as recorded of the reference
		out.out.ActivityTasks = append(out.out.ActivityTasks, activity)
	}
	return out, nil
}

// errTaskNotFound answers a token whose task is over.
var errTaskNotFound = serviceerror.NewNotFound("Workflow task not found.")

// needsStart tells whether a completion may bring a new run, which repeats what the first event says.
func needsStart(r *run, req *workflowservice.RespondWorkflowTaskCompletedRequest) bool {
	commands := req.GetCommands()
	if len(commands) == 0 {
		return false
	}
	switch commands[len(commands)-1].GetCommandType() {
	case enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:
		return true
	case enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION, enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
		return r.state.MayContinue()
	}
	return false
}

// tooLarge ends a run whose worker wants to write more at once than the database takes: it would only do so again.
func (x *access) tooLarge(r *run) (*completed, error) {
	err := x.terminate(r, workflow.Termination{Reason: "Transaction size exceeds limit.", Identity: serverIdentity})
	if err != nil {
		return nil, err
	}
	return nil, errTooLarge
}

// RespondWorkflowTaskFailed implements HistoryService.
func (s *Service) RespondWorkflowTaskFailed(ctx context.Context, in *historypb.RespondWorkflowTaskFailedRequest) (*workflowservice.RespondWorkflowTaskFailedResponse, error) {
	req, token := in.GetRequest(), in.GetToken()
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), token.GetWorkflowId()), func(x *access) error {
		r, err := x.find(token.GetRunId())
		if err != nil {
			return err
		}
		_, err = x.transition(r, func(tx *workflow.Tx) error {
			return tx.FailTask(token, workflow.TaskFailure{
				Cause: req.GetCause(), Failure: req.GetFailure(), Identity: req.GetIdentity(),
				Event: func(a *eventpb.WorkflowTaskFailedEventAttributes) {
					a.BinaryChecksum, a.WorkerVersion = req.GetBinaryChecksum(), req.GetWorkerVersion() // old workers still send them
				},
			})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RespondWorkflowTaskFailedResponse{}, nil
}

// ResetStickyTaskQueue implements HistoryService.
func (s *Service) ResetStickyTaskQueue(ctx context.Context, in *historypb.ResetStickyTaskQueueRequest) (*workflowservice.ResetStickyTaskQueueResponse, error) {
	execution := in.GetRequest().GetExecution()
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), execution.GetWorkflowId()), func(x *access) error {
		r, err := x.find(execution.GetRunId())
		if err != nil {
			return err
		}
		return x.resetSticky(r)
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.ResetStickyTaskQueueResponse{}, nil
}

func (x *access) resetSticky(r *run) error {
	_, err := x.transition(r, (*workflow.Tx).ResetSticky)
	return err
}
