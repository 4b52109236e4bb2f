package workflow

import (
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
)

// signalsMax bounds the signals of one run (CONTRACT 5.2).
const signalsMax = 10_000

// Signal is a signal to the run.
type Signal struct {
	Name      string
	Input     *commonpb.Payloads
	Header    *commonpb.Header
	Identity  string
	RequestID string
	Links     []*commonpb.Link
	// Sender is the workflow that sent it; nil: a client.
	Sender *commonpb.WorkflowExecution
}

// Signal records a signal, once per request id.
func (t *Tx) Signal(in Signal) error {
	if in.RequestID != "" && t.requests.has(in.RequestID) {
		return nil
	}
	switch {
	case !t.open():
		return errCompleted
	case t.closing():
		return errClosing
	case t.core.SignalCount >= signalsMax:
		return serviceerror.NewInvalidArgumentf("The run has received %d signals, which is the limit; let the workflow continue as new.", signalsMax)
	}
	t.core.SignalCount++
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
	e.Links = in.Links
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{
		SignalName: in.Name, Input: in.Input, Header: in.Header, Identity: in.Identity, ExternalWorkflowExecution: in.Sender,
	}}
	t.recordRequest(e, in.RequestID)
	return nil
}

// errClosing turns callers away while the worker closes the run: what they send now could keep it open for ever.
var errClosing = serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW,
	"The workflow is about to close; try again in a moment.")

// closing tells whether the task that must deliver the last buffered events is running (CONTRACT 2.1).
func (t *Tx) closing() bool { return t.core.ClosingGuard && t.taskStarted() }

// Cancellation asks the workflow to end itself.
type Cancellation struct {
	Reason    string
	Identity  string
	RequestID string
	Links     []*commonpb.Link
	// Requester is the workflow that asked, and the event by which it did.
	Requester        *commonpb.WorkflowExecution
	InitiatedEventID int64
}

// RequestCancel records a request to cancel. A second one changes nothing, and neither does one to a closed run, or one that an
// earlier run of the chain has had.
func (t *Tx) RequestCancel(in Cancellation) error {
	if !t.open() || t.core.CancelRequested || t.requests.has(in.RequestID) {
		return nil
	}
	t.core.CancelRequested, t.core.CancelRequestId = true, in.RequestID
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
	e.Links = in.Links
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionCancelRequestedEventAttributes{WorkflowExecutionCancelRequestedEventAttributes: &historypb.WorkflowExecutionCancelRequestedEventAttributes{
		Cause: in.Reason, Identity: in.Identity, ExternalWorkflowExecution: in.Requester, ExternalInitiatedEventId: in.InitiatedEventID,
	}}
	t.recordRequest(e, in.RequestID)
	// The worker hears of it at once, also before the first task would be due.
	t.core.FirstTaskDue = nil
	return nil
}
