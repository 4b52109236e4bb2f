package workflow

import (
	"cmp"
	"slices"

	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// User timers. Their number needs no limit of its own: each has its TIMER_STARTED, and the history is limited.

func (c *completion) startTimer(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_TIMER_ATTRIBUTES
	a := cmd.GetStartTimerCommandAttributes()
	switch {
	case a == nil:
		return reject(cause, "StartTimerCommandAttributes is not set on StartTimerCommand.")
	case a.TimerId == "":
		return reject(cause, "TimerId is not set on StartTimerCommand.")
	case len(a.TimerId) > idLengthMax:
		return reject(cause, "%s", tooLong("TimerId", "StartTimerCommand", a.TimerId).text)
	case !nonNegative(a.StartToFireTimeout):
		return reject(cause, "An invalid StartToFireTimeout is set on StartTimerCommand: %s. TimerId=%s", durationFault(a.StartToFireTimeout), a.TimerId)
	case c.timers.has(a.TimerId):
		return impossible(enumspb.WORKFLOW_TASK_FAILED_CAUSE_START_TIMER_DUPLICATE_ID, "timer-started", "TimerID", a.TimerId)
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_TIMER_STARTED, cmd)
	e.Attributes = &historypb.HistoryEvent_TimerStartedEventAttributes{TimerStartedEventAttributes: &historypb.TimerStartedEventAttributes{
		TimerId: a.TimerId, StartToFireTimeout: a.StartToFireTimeout, WorkflowTaskCompletedEventId: c.completed,
	}}
	c.add(e)
	c.timers.put(a.TimerId, &statepb.Timer{
		TimerId: a.TimerId, StartedEventId: e.EventId, Due: timestamppb.New(c.now.Add(capped(a.StartToFireTimeout).AsDuration())),
	})
	return nil
}

func (c *completion) cancelTimer(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_CANCEL_TIMER_ATTRIBUTES
	a := cmd.GetCancelTimerCommandAttributes()
	switch {
	case a == nil:
		return reject(cause, "CancelTimerCommandAttributes is not set on CancelTimerCommand.")
	case a.TimerId == "":
		return reject(cause, "TimerId is not set on CancelTimerCommand.")
	}
	started, ok := c.takeTimer(a.TimerId)
	if !ok {
		return impossible(cause, "timer-canceled", "TimerID", cut(a.TimerId, quotedMax))
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_TIMER_CANCELED, cmd)
	e.Attributes = &historypb.HistoryEvent_TimerCanceledEventAttributes{TimerCanceledEventAttributes: &historypb.TimerCanceledEventAttributes{
		TimerId: a.TimerId, StartedEventId: started, WorkflowTaskCompletedEventId: c.completed, Identity: c.req.Identity,
	}}
	c.add(e)
	return nil
}

// takeTimer removes a timer and returns the event that started it. One that has fired unseen by the worker counts as pending:
// its buffered event goes, and the cancel wins.
func (t *Tx) takeTimer(id string) (started int64, ok bool) {
	if timer, ok := t.timers.get(id); ok {
		t.timers.delete(id)
		return timer.StartedEventId, true
	}
	for n, b := range t.buffered.all() {
		if a := b.Event.GetTimerFiredEventAttributes(); a.GetTimerId() == id {
			t.core.BufferedCount--
			t.core.BufferedBytes -= int64(proto.Size(b.Event))
			t.buffered.delete(n)
			return a.StartedEventId, true
		}
	}
	return 0, false
}

// fireTimers records the timers that are due, in order of time.
func (t *Tx) fireTimers() {
	var due []*statepb.Timer
	for _, timer := range t.timers.all() {
		if t.isDue(timer.Due) {
			due = append(due, timer)
		}
	}
	slices.SortFunc(due, func(a, b *statepb.Timer) int {
		return cmp.Or(a.Due.AsTime().Compare(b.Due.AsTime()), cmp.Compare(a.StartedEventId, b.StartedEventId))
	})
	for _, timer := range due {
		e := t.newEvent(enumspb.EVENT_TYPE_TIMER_FIRED)
		e.Attributes = &historypb.HistoryEvent_TimerFiredEventAttributes{TimerFiredEventAttributes: &historypb.TimerFiredEventAttributes{
			TimerId: timer.TimerId, StartedEventId: timer.StartedEventId,
		}}
		t.record(e)
		t.timers.delete(timer.TimerId)
	}
}
