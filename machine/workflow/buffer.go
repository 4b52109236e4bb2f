package workflow

import (
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// While a workflow task is started, events of the buffered types wait outside the history (CONTRACT 2.2, 2.3): a worker must
// find the history that it was given unchanged when it answers.

const (
	// bufferedEventsMax and bufferedBytesMax bound what may wait; beyond them the running task is failed (CONTRACT 2.3).
	bufferedEventsMax = 100
	bufferedBytesMax  = 2 << 20
)

// storePending keeps the transition's events for the end of the running task.
func (t *Tx) storePending() {
	for _, b := range t.pending {
		t.core.LastBufferedId++
		t.core.BufferedCount++
		t.core.BufferedBytes += int64(proto.Size(b.Event))
		t.buffered.put(t.core.LastBufferedId, b)
	}
	t.pending = nil
}

func (t *Tx) bufferOverflow() bool {
	return t.core.BufferedCount > bufferedEventsMax || t.core.BufferedBytes > bufferedBytesMax
}

// hasBuffered tells whether events wait: a closing command must not overtake them.
func (t *Tx) hasBuffered() bool { return len(t.pending) > 0 || t.buffered.len() > 0 }

// takeBuffered removes and returns all waiting events in order of arrival.
func (t *Tx) takeBuffered() []*statepb.Buffered {
	byNumber := map[int64]*statepb.Buffered{}
	for n, b := range t.buffered.all() {
		byNumber[n] = b
	}
	var waiting []*statepb.Buffered
	for _, n := range sortedKeys(byNumber) {
		waiting = append(waiting, byNumber[n])
		t.buffered.delete(n)
	}
	waiting = append(waiting, t.pending...)
	t.pending = nil
	t.core.BufferedCount, t.core.BufferedBytes = 0, 0
	return waiting
}

// dropBuffered forgets what waited for a task that will not come: the run has closed.
func (t *Tx) dropBuffered() { t.takeBuffered() }

// flush appends the waiting events and tells whether there were any. Closing events of activities and children go behind the
// rest, so that a STARTED always precedes its close; then the ids of the STARTED events are known and are wired into them.
func (t *Tx) flush() (appended bool) {
	waiting := t.takeBuffered()
	var closing []*statepb.Buffered
	for _, b := range waiting {
		if closesPending(b.Event.EventType) {
			closing = append(closing, b)
			continue
		}
		t.flushOne(b)
	}
	for _, b := range closing {
		t.flushOne(b)
	}
	return len(waiting) > 0
}

func (t *Tx) flushOne(b *statepb.Buffered) {
	e := proto.CloneOf(b.Event)
	t.wireStarted(e)
	t.add(e)
	t.noteFlushed(e)
	t.noteRequest(b.RequestId, e)
	t.wake = t.wake || wakes(e.EventType)
}

// wireStarted fills in the started event id of a closing event, which had none when the event was made.
func (t *Tx) wireStarted(e *historypb.HistoryEvent) {
	switch a := e.Attributes.(type) {
	case *historypb.HistoryEvent_ActivityTaskCompletedEventAttributes:
		t.wireActivity(a.ActivityTaskCompletedEventAttributes.ScheduledEventId, &a.ActivityTaskCompletedEventAttributes.StartedEventId)
	case *historypb.HistoryEvent_ActivityTaskFailedEventAttributes:
		t.wireActivity(a.ActivityTaskFailedEventAttributes.ScheduledEventId, &a.ActivityTaskFailedEventAttributes.StartedEventId)
	case *historypb.HistoryEvent_ActivityTaskTimedOutEventAttributes:
		t.wireActivity(a.ActivityTaskTimedOutEventAttributes.ScheduledEventId, &a.ActivityTaskTimedOutEventAttributes.StartedEventId)
	case *historypb.HistoryEvent_ActivityTaskCanceledEventAttributes:
		t.wireActivity(a.ActivityTaskCanceledEventAttributes.ScheduledEventId, &a.ActivityTaskCanceledEventAttributes.StartedEventId)
	case *historypb.HistoryEvent_ChildWorkflowExecutionCompletedEventAttributes:
		t.wireChild(a.ChildWorkflowExecutionCompletedEventAttributes.InitiatedEventId, &a.ChildWorkflowExecutionCompletedEventAttributes.StartedEventId)
	case *historypb.HistoryEvent_ChildWorkflowExecutionFailedEventAttributes:
		t.wireChild(a.ChildWorkflowExecutionFailedEventAttributes.InitiatedEventId, &a.ChildWorkflowExecutionFailedEventAttributes.StartedEventId)
	case *historypb.HistoryEvent_ChildWorkflowExecutionCanceledEventAttributes:
		t.wireChild(a.ChildWorkflowExecutionCanceledEventAttributes.InitiatedEventId, &a.ChildWorkflowExecutionCanceledEventAttributes.StartedEventId)
	case *historypb.HistoryEvent_ChildWorkflowExecutionTimedOutEventAttributes:
		t.wireChild(a.ChildWorkflowExecutionTimedOutEventAttributes.InitiatedEventId, &a.ChildWorkflowExecutionTimedOutEventAttributes.StartedEventId)
	case *historypb.HistoryEvent_ChildWorkflowExecutionTerminatedEventAttributes:
		t.wireChild(a.ChildWorkflowExecutionTerminatedEventAttributes.InitiatedEventId, &a.ChildWorkflowExecutionTerminatedEventAttributes.StartedEventId)
	}
}

// wireActivity finds the ACTIVITY_TASK_STARTED of a closing event: it is flushed with it, always.
func (t *Tx) wireActivity(scheduled int64, started *int64) {
	for _, e := range t.events {
		if a := e.GetActivityTaskStartedEventAttributes(); a != nil && a.ScheduledEventId == scheduled {
			*started = e.EventId
		}
	}
}

// wireChild finds the CHILD_WORKFLOW_EXECUTION_STARTED of a closing event if it is flushed with it; else the child's part knew it.
func (t *Tx) wireChild(initiated int64, started *int64) {
	for _, e := range t.events {
		if a := e.GetChildWorkflowExecutionStartedEventAttributes(); a != nil && a.InitiatedEventId == initiated {
			*started = e.EventId
		}
	}
}

// noteFlushed records the id that a part was waiting for.
func (t *Tx) noteFlushed(e *historypb.HistoryEvent) {
	switch {
	case e.GetChildWorkflowExecutionStartedEventAttributes() != nil:
		if id := e.GetChildWorkflowExecutionStartedEventAttributes().InitiatedEventId; t.children.has(id) {
			t.children.edit(id).StartedEventId = e.EventId
		}
	case e.GetWorkflowExecutionUpdateAdmittedEventAttributes() != nil:
		if id := e.GetWorkflowExecutionUpdateAdmittedEventAttributes().GetRequest().GetMeta().GetUpdateId(); t.updates.has(id) {
			t.updates.edit(id).AdmittedEventId = e.EventId
		}
	}
}

func (t *Tx) noteRequest(id string, e *historypb.HistoryEvent) {
	if id != "" && t.requests.has(id) {
		t.requests.edit(id).EventId = e.EventId
	}
}

func closesPending(typ enumspb.EventType) bool {
	switch typ {
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED,
		enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT, enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
		enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED,
		enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT,
		enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED:
		return true
	}
	return false
}

// wakes tells whether an event of a buffered type is news for the worker. A start alone is not: the close that follows is.
func wakes(typ enumspb.EventType) bool {
	switch typ {
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED:
		return false
	}
	return true
}
