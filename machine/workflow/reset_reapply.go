package workflow

import (
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	updatepb "go.temporal.io/api/update/v1"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// reapply applies to a reset run what came from outside behind the reset point: signals, updates (as admitted ones: the worker
// decides anew) and the request to cancel.
func (t *Tx) reapply(later []*historypb.HistoryEvent, exclude []enumspb.ResetReapplyExcludeType) {
	signals := !slices.Contains(exclude, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL)
	updates := !slices.Contains(exclude, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE)
	cancels := !slices.Contains(exclude, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_CANCEL_REQUEST)
	for _, e := range later {
		switch a := e.Attributes.(type) {
		case *historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes:
			if signals {
				t.reapplySignal(e)
			}
		case *historypb.HistoryEvent_WorkflowExecutionUpdateAdmittedEventAttributes:
			if updates {
				t.reapplyUpdate(a.WorkflowExecutionUpdateAdmittedEventAttributes.Request)
			}
		case *historypb.HistoryEvent_WorkflowExecutionUpdateAcceptedEventAttributes:
			if updates {
				t.reapplyUpdate(a.WorkflowExecutionUpdateAcceptedEventAttributes.AcceptedRequest)
			}
		case *historypb.HistoryEvent_WorkflowExecutionCancelRequestedEventAttributes:
			if cancels && !t.core.CancelRequested {
				t.core.CancelRequested = true
				t.record(t.again(e))
			}
		}
	}
}

// again is an event with the same contents that happens now.
func (t *Tx) again(e *historypb.HistoryEvent) *historypb.HistoryEvent {
	n := t.newEvent(e.EventType)
	n.Attributes, n.Links, n.UserMetadata = e.Attributes, e.Links, e.UserMetadata
	return n
}

func (t *Tx) reapplySignal(e *historypb.HistoryEvent) {
	if t.core.SignalCount < signalsMax {
		t.core.SignalCount++
		t.record(t.again(e))
	}
}

// reapplyUpdate admits an update by an event, once. A request that the base did not keep (it had been re-applied there before)
// came with the UPDATE_ADMITTED of that reset.
func (t *Tx) reapplyUpdate(req *updatepb.Request) {
	id := req.GetMeta().GetUpdateId()
	if id == "" || t.updates.has(id) || t.updates.len() >= updatesMax {
		return
	}
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED)
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionUpdateAdmittedEventAttributes{WorkflowExecutionUpdateAdmittedEventAttributes: &historypb.WorkflowExecutionUpdateAdmittedEventAttributes{
		Request: req, Origin: enumspb.UPDATE_ADMITTED_EVENT_ORIGIN_REAPPLY,
	}}
	t.updates.put(id, &statepb.Update{Id: id})
	t.record(e)
}

// keepBuffered takes the events that waited for the end of the base's task into the new run: what they tell (an activity has
// ended, a timer has fired) is already part of the state. Those that are applied again come from the base's later history, or
// are excluded.
func (t *Tx) keepBuffered(waiting []*statepb.Buffered) {
	for _, b := range waiting {
		switch a := b.Event.Attributes.(type) {
		case *historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes:
			t.core.SignalCount--
		case *historypb.HistoryEvent_WorkflowExecutionCancelRequestedEventAttributes:
			t.core.CancelRequested, t.core.CancelRequestId = false, ""
		case *historypb.HistoryEvent_WorkflowExecutionUpdateAdmittedEventAttributes:
			t.updates.delete(a.WorkflowExecutionUpdateAdmittedEventAttributes.Request.GetMeta().GetUpdateId())
		case *historypb.HistoryEvent_WorkflowExecutionPausedEventAttributes, *historypb.HistoryEvent_WorkflowExecutionUnpausedEventAttributes:
		default:
			t.recordRequest(b.Event, b.RequestId)
			continue
		}
		if t.requests.has(b.RequestId) {
			t.requests.delete(b.RequestId)
		}
	}
}
