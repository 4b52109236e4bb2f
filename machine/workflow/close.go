package workflow

import (
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"
)

// A run closes once, with one last event. Whatever else was pending ends with it; only effects live on: telling the parent,
// and the fate of the children.

var errCompleted = serviceerror.NewNotFound("workflow execution already completed")

// close ends the run with an event.
func (t *Tx) close(status enumspb.WorkflowExecutionStatus, e *historypb.HistoryEvent) {
	t.add(e)
	t.core.Status = status
	t.core.CloseTime = t.timestamp()
	t.core.CloseEventId = e.EventId
	t.core.FirstTaskDue, t.core.FirstTaskHeld = nil, false
	t.clearSticky()
	t.closePending()
}

// closePending drops what a closed run has no use for, and notes what it still owes to others. Signals and cancel requests under
// way stay: they have been promised by their events.
func (t *Tx) closePending() {
	for id, a := range t.activities.all() {
		t.settled(a.EffectId)
		t.activities.delete(id)
	}
	for id := range t.timers.all() {
		t.timers.delete(id)
	}
	t.core.Pause = nil
	t.notePause()
	t.closeUpdates()
	t.closeChildren()
	t.notifyParent()
}

// checkClosing refuses to close while events or updates wait for delivery: the worker must see them first (CONTRACT 8.2.12).
func (c *completion) checkClosing() error {
	if c.hasBuffered() || c.hasUnsentUpdates() {
		return reject(enumspb.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND, "")
	}
	return nil
}

func (c *completion) completeWorkflow(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_COMPLETE_WORKFLOW_EXECUTION_ATTRIBUTES
	a := cmd.GetCompleteWorkflowExecutionCommandAttributes()
	if err := c.checkClosing(); err != nil {
		return err
	}
	if a == nil {
		return reject(cause, "CompleteWorkflowExecutionCommandAttributes is not set on CompleteWorkflowExecutionCommand.")
	}
	if proto.Size(a.Result) > blobSizeMax {
		return tooLarge(cause, "The result is larger than %d bytes.", blobSizeMax)
	}
	next, err := c.successorOfSuccess(a.Result)
	if err != nil {
		return err
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, cmd)
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{
		Result: a.Result, WorkflowTaskCompletedEventId: c.completed, NewExecutionRunId: next,
	}}
	c.closeWith(enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, e, next)
	return nil
}

func (c *completion) failWorkflow(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES
	a := cmd.GetFailWorkflowExecutionCommandAttributes()
	if err := c.checkClosing(); err != nil {
		return err
	}
	switch {
	case a == nil:
		return reject(cause, "FailWorkflowExecutionCommandAttributes is not set on FailWorkflowExecutionCommand.")
	case a.Failure == nil:
		return reject(cause, "Failure is not set on FailWorkflowExecutionCommand.")
	case proto.Size(a.Failure) > blobSizeMax:
		return tooLarge(cause, "The failure is larger than %d bytes.", blobSizeMax)
	}
	next, retryState, err := c.successorOfFailure(a.Failure)
	if err != nil {
		return err
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, cmd)
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{
		Failure: a.Failure, RetryState: retryState, WorkflowTaskCompletedEventId: c.completed, NewExecutionRunId: next,
	}}
	c.closeWith(enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, e, next)
	return nil
}

func (c *completion) cancelWorkflow(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_CANCEL_WORKFLOW_EXECUTION_ATTRIBUTES
	a := cmd.GetCancelWorkflowExecutionCommandAttributes()
	if err := c.checkClosing(); err != nil {
		return err
	}
	if a == nil {
		return reject(cause, "CancelWorkflowExecutionCommandAttributes is not set on CancelWorkflowExecutionCommand.")
	}
	if proto.Size(a.Details) > blobSizeMax {
		return tooLarge(cause, "The details are larger than %d bytes.", blobSizeMax)
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED, cmd)
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionCanceledEventAttributes{WorkflowExecutionCanceledEventAttributes: &historypb.WorkflowExecutionCanceledEventAttributes{
		WorkflowTaskCompletedEventId: c.completed, Details: a.Details,
	}}
	c.closeWith(enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED, e, "")
	return nil
}

// closeWith closes the run; next is the run that follows it, "" for none.
func (t *Tx) closeWith(status enumspb.WorkflowExecutionStatus, e *historypb.HistoryEvent, next string) {
	t.core.NewRunId = next
	t.close(status, e)
}

// Termination ends a run from outside.
type Termination struct {
	Reason   string
	Details  *commonpb.Payloads
	Identity string
	Links    []*commonpb.Link
}

// Terminate closes the run at once. It works on any open run, however broken.
func (t *Tx) Terminate(in Termination) error {
	if !t.open() {
		return errCompleted
	}
	t.terminate(in)
	return nil
}

func (t *Tx) terminate(in Termination) {
	t.breakTask()
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)
	e.Links = in.Links
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes{WorkflowExecutionTerminatedEventAttributes: &historypb.WorkflowExecutionTerminatedEventAttributes{
		Reason: in.Reason, Details: in.Details, Identity: in.Identity,
	}}
	t.closeWith(enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, e, "")
}

// breakTask ends a started workflow task because the run is about to close over it: the failure is recorded (not of a
// transient task), and what waited is flushed (CONTRACT 8.7.42).
func (t *Tx) breakTask() {
	if !t.taskStarted() {
		if task := t.task(); task != nil {
			t.settled(task.EffectId)
			t.core.Task, t.volatile.Task = nil, nil
		}
		t.flush()
		return
	}
	task := t.endTask(false, serverIdentity)
	if !task.Transient {
		e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
		e.Attributes = &historypb.HistoryEvent_WorkflowTaskFailedEventAttributes{WorkflowTaskFailedEventAttributes: &historypb.WorkflowTaskFailedEventAttributes{
			ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId,
			Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND, Identity: serverIdentity,
		}}
		t.add(e)
	}
	t.flush()
}

// timeOutRun closes the run whose run or execution timeout has passed, or lets the next of its chain follow.
func (t *Tx) timeOutRun() error {
	t.breakTask()
	next, retryState, err := t.successorOfTimeout()
	if err != nil {
		return err
	}
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT)
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionTimedOutEventAttributes{WorkflowExecutionTimedOutEventAttributes: &historypb.WorkflowExecutionTimedOutEventAttributes{
		RetryState: retryState, NewExecutionRunId: next,
	}}
	t.closeWith(enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT, e, next)
	return nil
}

// MarkDeleting notes that the run is to be deleted as soon as it owes nothing to others: a new owner goes on with it.
func (t *Tx) MarkDeleting() {
	if !t.core.Deleting {
		t.core.Deleting = true
		t.write()
	}
}

// Deleting tells whether the run is only waiting to be deleted.
func (s *State) Deleting() bool { return s.Core.Deleting }
