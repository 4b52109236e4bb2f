package workflow

import (
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// ChildClose tells a parent how a child's chain ended.
type ChildClose struct {
	InitiatedID int64
	// FirstRunID is the child's run that the parent started, Execution its last one.
	FirstRunID string
	Execution  *commonpb.WorkflowExecution
	// Event is the closing event of the last run.
	Event *historypb.HistoryEvent
	// Redirected: the child was started by an earlier run, of which a reset has made this one.
	Redirected bool
}

// ChildClosed records how a child ended, once. A child that the parent does not (or no longer) wait for is passed over.
// NotFound: the run has closed (see also [State.ResetRunID]).
func (t *Tx) ChildClosed(in ChildClose) error {
	if !t.open() {
		return errCompleted
	}
	c, ok := t.children.get(in.InitiatedID)
	if !ok || c.WorkflowId != in.Execution.GetWorkflowId() || (c.RunId != "" && in.FirstRunID != "" && c.RunId != in.FirstRunID) {
		return nil
	}
	if in.Redirected && c.CreateRequestId == createRequestID(t.start.RunId, in.InitiatedID) {
		return nil // this run has started a child of its own, by an event of the same id
	}
	e := t.childClosedEvent(c, in)
	if e == nil {
		return nil
	}
	if c.RunId == "" {
		// It ended (terminated, timed out) before the answer to its start came.
		t.recordChildStarted(in.InitiatedID, in.FirstRunID, nil)
		c, _ = t.children.get(in.InitiatedID)
	}
	t.dropChild(c)
	t.record(e)
	return nil
}

// childClosedEvent makes the parent's event of a child's closing event; nil: that does not close a chain.
func (t *Tx) childClosedEvent(c *statepb.Child, in ChildClose) *historypb.HistoryEvent {
	switch a := in.Event.GetAttributes().(type) {
	case *historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes:
		e := t.newEvent(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
		e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionCompletedEventAttributes{ChildWorkflowExecutionCompletedEventAttributes: &historypb.ChildWorkflowExecutionCompletedEventAttributes{
			Result: a.WorkflowExecutionCompletedEventAttributes.Result, Namespace: c.Namespace, NamespaceId: c.NamespaceId,
			WorkflowExecution: in.Execution, WorkflowType: c.WorkflowType, InitiatedEventId: c.InitiatedEventId, StartedEventId: c.StartedEventId,
		}}
		return e
	case *historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes:
		e := t.newEvent(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED)
		e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionFailedEventAttributes{ChildWorkflowExecutionFailedEventAttributes: &historypb.ChildWorkflowExecutionFailedEventAttributes{
			Failure: a.WorkflowExecutionFailedEventAttributes.Failure, RetryState: a.WorkflowExecutionFailedEventAttributes.RetryState,
			Namespace: c.Namespace, NamespaceId: c.NamespaceId,
			WorkflowExecution: in.Execution, WorkflowType: c.WorkflowType, InitiatedEventId: c.InitiatedEventId, StartedEventId: c.StartedEventId,
		}}
		return e
	case *historypb.HistoryEvent_WorkflowExecutionCanceledEventAttributes:
		e := t.newEvent(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED)
		e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionCanceledEventAttributes{ChildWorkflowExecutionCanceledEventAttributes: &historypb.ChildWorkflowExecutionCanceledEventAttributes{
			Details: a.WorkflowExecutionCanceledEventAttributes.Details, Namespace: c.Namespace, NamespaceId: c.NamespaceId,
			WorkflowExecution: in.Execution, WorkflowType: c.WorkflowType, InitiatedEventId: c.InitiatedEventId, StartedEventId: c.StartedEventId,
		}}
		return e
	case *historypb.HistoryEvent_WorkflowExecutionTimedOutEventAttributes:
		e := t.newEvent(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT)
		e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionTimedOutEventAttributes{ChildWorkflowExecutionTimedOutEventAttributes: &historypb.ChildWorkflowExecutionTimedOutEventAttributes{
			RetryState: a.WorkflowExecutionTimedOutEventAttributes.RetryState, Namespace: c.Namespace, NamespaceId: c.NamespaceId,
			WorkflowExecution: in.Execution, WorkflowType: c.WorkflowType, InitiatedEventId: c.InitiatedEventId, StartedEventId: c.StartedEventId,
		}}
		return e
	case *historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes:
		e := t.newEvent(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED)
		e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionTerminatedEventAttributes{ChildWorkflowExecutionTerminatedEventAttributes: &historypb.ChildWorkflowExecutionTerminatedEventAttributes{
			Namespace: c.Namespace, NamespaceId: c.NamespaceId,
			WorkflowExecution: in.Execution, WorkflowType: c.WorkflowType, InitiatedEventId: c.InitiatedEventId, StartedEventId: c.StartedEventId,
		}}
		return e
	}
	return nil
}

// closeChildren turns what the closing run owes to its children into close effects: the parent close policy, also when the run
// continues as new, and the release of children that it abandons.
func (t *Tx) closeChildren() {
	for _, id := range t.childIDs() {
		c := t.children.edit(id)
		c.Released = t.released(c)
		t.dropChild(c)
		if t.inherited[c.CreateRequestId] || (c.ParentClosePolicy == enumspb.PARENT_CLOSE_POLICY_ABANDON && c.Released) {
			continue
		}
		c.NextTry, c.Tries = nil, 0
		t.owe(&statepb.CloseEffect{Child: c})
	}
}

// childIDs are the initiated event ids of the pending children, in order.
func (t *Tx) childIDs() []int64 {
	var ids []int64
	for id := range t.children.all() {
		ids = append(ids, id)
	}
	return sorted(ids)
}

// released tells whether a child is known to have been released.
func (t *Tx) released(c *statepb.Child) bool {
	return c.Released || (c.RunId != "" && (t.volatile.Acked[c.EffectId] || acknowledged(t.core, c.EffectId)))
}

// notifyParent notes that the parent must be told how this run ended, unless another run goes on with the work.
func (t *Tx) notifyParent() {
	if t.start.Parent != nil && t.core.NewRunId == "" && t.core.ResetRun == nil {
		t.owe(&statepb.CloseEffect{NotifyParent: true})
	}
}

// owe adds a close effect.
func (t *Tx) owe(c *statepb.CloseEffect) {
	c.EffectId = t.nextEffect()
	t.closeEffects.put(c.EffectId, c)
	t.effects = append(t.effects, closeEffect(c))
}

// CloseEffectDone notes that a close effect has been carried out, or that nothing is left to carry out. It is volatile: a close
// effect that comes twice is harmless.
func (t *Tx) CloseEffectDone(id int64) { t.Acknowledge(id) }

// OwesEffects tells whether the run still owes something to another execution, now or at a later try. Until then it must not
// be deleted.
func (s *State) OwesEffects() bool {
	owes := func(id int64) bool { return !s.Acknowledged(id) }
	for _, c := range s.Children {
		if owes(c.EffectId) {
			return true
		}
	}
	for _, x := range s.Externals {
		if owes(x.EffectId) {
			return true
		}
	}
	for _, c := range s.CloseEffects {
		if owes(c.EffectId) {
			return true
		}
	}
	return false
}
