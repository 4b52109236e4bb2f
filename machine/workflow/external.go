package workflow

import (
	"regexp"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// A signal or cancel request to another workflow is an effect with an answer: initiated, then done or failed. The receiver
// applies it once, by the request id that is fixed at the initiation. It is delivered also when the sender closes meanwhile.

// pendingSignalsMax and pendingCancelsMax bound the requests to other workflows that have not been answered (CONTRACT 5.2).
const (
	pendingSignalsMax = 2000
	pendingCancelsMax = 2000
)

// runIDForm is the form of a UUID.
var runIDForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func (c *completion) signalExternal(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES
	a := cmd.GetSignalExternalWorkflowExecutionCommandAttributes()
	switch {
	case a == nil:
		return reject(cause, "SignalExternalWorkflowExecutionCommandAttributes is not set on SignalExternalWorkflowExecutionCommand.")
	case a.Execution == nil:
		return reject(cause, "Execution is not set on SignalExternalWorkflowExecutionCommand.")
	}
	if f := signalFault(a); f.text != "" {
		return reject(cause, "%s", f.of("WorkflowId", a.Execution.WorkflowId, "Namespace", c.namespaceOf(a.Namespace),
			"RunId", a.Execution.RunId, "SignalName", a.SignalName))
	}
	switch {
	case proto.Size(a.Input) > blobSizeMax:
		return tooLarge(enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SIGNAL_INPUT_SIZE, "SignalExternalWorkflowExecutionCommandAttributes.Input exceeds size limit.")
	case c.countPending().signals >= pendingSignalsMax:
		return reject(enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_SIGNALS_LIMIT_EXCEEDED,
			"The run has %d pending signals to other workflows, which is the limit.", pendingSignalsMax)
	}
	namespace, namespaceID, err := c.targetNamespace(a.Namespace, cause)
	if err != nil {
		return err
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED, cmd)
	e.Attributes = &historypb.HistoryEvent_SignalExternalWorkflowExecutionInitiatedEventAttributes{SignalExternalWorkflowExecutionInitiatedEventAttributes: &historypb.SignalExternalWorkflowExecutionInitiatedEventAttributes{
		WorkflowTaskCompletedEventId: c.completed, Namespace: namespace, NamespaceId: namespaceID, WorkflowExecution: a.Execution,
		SignalName: a.SignalName, Input: a.Input, Control: a.Control, ChildWorkflowOnly: a.ChildWorkflowOnly, Header: a.Header,
	}}
	c.sendExternal(e, &statepb.External{
		Namespace: namespace, NamespaceId: namespaceID, Target: a.Execution, ChildWorkflowOnly: a.ChildWorkflowOnly, Control: a.Control,
	})
	return nil
}

func (c *completion) cancelExternal(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_ATTRIBUTES
	a := cmd.GetRequestCancelExternalWorkflowExecutionCommandAttributes()
	if a == nil {
		return reject(cause, "RequestCancelExternalWorkflowExecutionCommandAttributes is not set on RequestCancelExternalWorkflowExecutionCommand.")
	}
	f := targetFault("RequestCancelExternalWorkflowExecutionCommand", a.WorkflowId, a.RunId)
	if f.text != "" {
		return reject(cause, "%s", f.of("WorkflowId", a.WorkflowId, "Namespace", c.namespaceOf(a.Namespace), "RunId", a.RunId))
	}
	if c.startedChildren[a.WorkflowId] {
		f.text = "Start and RequestCancel for child workflow is not allowed in same workflow task."
		return reject(cause, "%s", f.of("WorkflowId", a.WorkflowId, "RunId", a.RunId, "Namespace", c.namespaceOf(a.Namespace)))
	}
	if c.countPending().cancels >= pendingCancelsMax {
		return reject(enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_REQUEST_CANCEL_LIMIT_EXCEEDED,
			"The run has %d pending cancel requests to other workflows, which is the limit.", pendingCancelsMax)
	}
	namespace, namespaceID, err := c.targetNamespace(a.Namespace, cause)
	if err != nil {
		return err
	}
	target := &commonpb.WorkflowExecution{WorkflowId: a.WorkflowId, RunId: a.RunId}
	e := c.commandEvent(enumspb.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED, cmd)
	e.Attributes = &historypb.HistoryEvent_RequestCancelExternalWorkflowExecutionInitiatedEventAttributes{RequestCancelExternalWorkflowExecutionInitiatedEventAttributes: &historypb.RequestCancelExternalWorkflowExecutionInitiatedEventAttributes{
		WorkflowTaskCompletedEventId: c.completed, Namespace: namespace, NamespaceId: namespaceID, WorkflowExecution: target,
		Control: a.Control, ChildWorkflowOnly: a.ChildWorkflowOnly, Reason: a.Reason,
	}}
	c.sendExternal(e, &statepb.External{
		Cancel: true, Namespace: namespace, NamespaceId: namespaceID, Target: target, ChildWorkflowOnly: a.ChildWorkflowOnly,
	})
	return nil
}

func signalFault(a *commandpb.SignalExternalWorkflowExecutionCommandAttributes) fault {
	const command = "SignalExternalWorkflowExecutionCommand"
	f := targetFault(command, a.Execution.WorkflowId, a.Execution.RunId)
	switch {
	case f.text != "":
	case a.SignalName == "":
		f = notSet("SignalName", command)
	case len(a.SignalName) > idLengthMax:
		f = tooLong("SignalName", command, a.SignalName)
	}
	return f
}

// targetFault returns what is wrong with the address of another workflow.
func targetFault(command, workflowID, runID string) fault {
	switch {
	case workflowID == "":
		return notSet("WorkflowId", command)
	case len(workflowID) > idLengthMax:
		return tooLong("WorkflowId", command, workflowID)
	case runID != "" && !runIDForm.MatchString(runID):
		return fault{"", "Invalid RunId set on " + command + "."}
	}
	return fault{}
}

// pendingCounts is how much of each kind a run waits for.
type pendingCounts struct{ children, signals, cancels int }

// countPending counts once for all commands of a completion; they keep the counts.
func (c *completion) countPending() *pendingCounts {
	if c.counts == nil {
		c.counts = &pendingCounts{children: c.children.len()}
		for _, x := range c.externals.all() {
			*c.counts.external(x.Cancel)++
		}
	}
	return c.counts
}

func (p *pendingCounts) external(cancel bool) *int {
	if cancel {
		return &p.cancels
	}
	return &p.signals
}

// sendExternal appends the initiation and makes its effect.
func (c *completion) sendExternal(e *historypb.HistoryEvent, x *statepb.External) {
	c.add(e)
	x.InitiatedEventId, x.EffectId = e.EventId, c.nextEffect()
	x.RequestId = c.derivedID(x.EffectId)
	c.externals.put(e.EventId, x)
	*c.countPending().external(x.Cancel)++
	c.effects = append(c.effects, SendExternal{ID: x.EffectId, External: x})
}

// IsSelf tells whether a request is addressed to the run that sends it: that fails, as if there were no such workflow
// (CONTRACT 9.18).
func (s *State) IsSelf(x *statepb.External) bool {
	return x.NamespaceId == s.Start.NamespaceId && x.Target.GetWorkflowId() == s.Start.WorkflowId &&
		(x.Target.GetRunId() == "" || x.Target.GetRunId() == s.Start.RunId)
}

// ExternalDone records that the target has got a signal or cancel request.
func (t *Tx) ExternalDone(initiatedID int64) {
	x := t.takeExternal(initiatedID)
	if x == nil {
		return
	}
	if x.Cancel {
		e := t.newEvent(enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
		e.Attributes = &historypb.HistoryEvent_ExternalWorkflowExecutionCancelRequestedEventAttributes{ExternalWorkflowExecutionCancelRequestedEventAttributes: &historypb.ExternalWorkflowExecutionCancelRequestedEventAttributes{
			InitiatedEventId: initiatedID, Namespace: x.Namespace, NamespaceId: x.NamespaceId, WorkflowExecution: x.Target,
		}}
		t.record(e)
		return
	}
	e := t.newEvent(enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED)
	e.Attributes = &historypb.HistoryEvent_ExternalWorkflowExecutionSignaledEventAttributes{ExternalWorkflowExecutionSignaledEventAttributes: &historypb.ExternalWorkflowExecutionSignaledEventAttributes{
		InitiatedEventId: initiatedID, Namespace: x.Namespace, NamespaceId: x.NamespaceId, WorkflowExecution: x.Target, Control: x.Control,
	}}
	t.record(e)
}

// ExternalFailed records that a signal or cancel request could not be delivered. The causes of both have the same meanings;
// a cancel request knows those of a missing target only.
func (t *Tx) ExternalFailed(initiatedID int64, cause enumspb.SignalExternalWorkflowExecutionFailedCause) {
	x := t.takeExternal(initiatedID)
	if x == nil {
		return
	}
	if x.Cancel {
		e := t.newEvent(enumspb.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
		e.Attributes = &historypb.HistoryEvent_RequestCancelExternalWorkflowExecutionFailedEventAttributes{RequestCancelExternalWorkflowExecutionFailedEventAttributes: &historypb.RequestCancelExternalWorkflowExecutionFailedEventAttributes{
			Cause: cancelCause(cause), Namespace: x.Namespace, NamespaceId: x.NamespaceId, WorkflowExecution: x.Target, InitiatedEventId: initiatedID,
		}}
		t.record(e)
		return
	}
	e := t.newEvent(enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
	e.Attributes = &historypb.HistoryEvent_SignalExternalWorkflowExecutionFailedEventAttributes{SignalExternalWorkflowExecutionFailedEventAttributes: &historypb.SignalExternalWorkflowExecutionFailedEventAttributes{
		Cause: cause, Namespace: x.Namespace, NamespaceId: x.NamespaceId, WorkflowExecution: x.Target, InitiatedEventId: initiatedID, Control: x.Control,
	}}
	t.record(e)
}

func cancelCause(cause enumspb.SignalExternalWorkflowExecutionFailedCause) enumspb.CancelExternalWorkflowExecutionFailedCause {
	if cause == enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_NAMESPACE_NOT_FOUND {
		return enumspb.CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_NAMESPACE_NOT_FOUND
	}
	return enumspb.CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND
}

// takeExternal removes a pending request and returns it; nil: it is not pending, or the run has closed and has no use for the
// answer.
func (t *Tx) takeExternal(initiatedID int64) *statepb.External {
	x, ok := t.externals.get(initiatedID)
	switch {
	case !ok:
		return nil
	case !t.open():
		t.Acknowledge(x.EffectId)
		return nil
	}
	t.settled(x.EffectId)
	t.externals.delete(initiatedID)
	t.write()
	return x
}
