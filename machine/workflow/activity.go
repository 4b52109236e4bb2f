package workflow

import (
	"cmp"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// A pending activity is in one of these states:
//
//	scheduled --start--> started --complete, fail for good, cancel, time out for good--> gone
//	started --fail, time out, attempts left--> backoff --time--> scheduled
//	scheduled, backoff --cancel, schedule-to-start, schedule-to-close--> gone
//
// Paused, it stays what it is but is not given to workers. An attempt is durably started before a worker gets it, yet its
// ACTIVITY_TASK_STARTED is written only with the closing event (CONTRACT 2.4): a retried attempt leaves no event.

const (
	// pendingActivitiesMax bounds the activities of a run that are pending at the same time (CONTRACT 5.2).
	pendingActivitiesMax = 2000
	// eagerActivitiesMax bounds the activities that a completion gets back at once.
	eagerActivitiesMax = 3
)

var errActivityNotFound = serviceerror.NewNotFound(
	"invalid activityID or activity already timed out or invoking workflow is completed")

// errActivityObsolete turns away a dispatched activity task; the poller gets another one.
var errActivityObsolete = serviceerror.NewNotFound("The activity task is obsolete.")

func isStarted(a *statepb.Activity) bool { return a.StartedTime != nil }

// activity returns a pending activity with its newest heartbeat. It must not be changed.
func (t *Tx) activity(id int64) (*statepb.Activity, bool) {
	a, ok := t.activities.get(id)
	if h := t.volatile.Heartbeats[id]; ok && isNewest(h, a) {
		return h.Activity, true
	}
	return a, ok
}

// isNewest tells whether a volatile heartbeat belongs to the activity's current attempt.
func isNewest(h *Heartbeat, a *statepb.Activity) bool {
	return h != nil && isStarted(a) && h.Attempt == a.Attempt
}

// editActivity returns a pending activity for changing, with its newest heartbeat folded in. It must exist.
func (t *Tx) editActivity(id int64) *statepb.Activity {
	if h := t.volatile.Heartbeats[id]; h != nil {
		if a, _ := t.activities.get(id); isNewest(h, a) {
			t.activities.put(id, proto.CloneOf(h.Activity))
		}
		delete(t.volatile.Heartbeats, id)
	}
	t.write()
	return t.activities.edit(id)
}

// dropActivity forgets an activity that has ended.
func (t *Tx) dropActivity(a *statepb.Activity) {
	t.settled(a.EffectId)
	t.activities.delete(a.ScheduledEventId)
	delete(t.volatile.Heartbeats, a.ScheduledEventId)
	t.write()
	if a.Paused {
		t.notePause()
	}
}

// dispatchable tells whether an activity waits for a worker, and how it is put on its queue.
func dispatchable(a *statepb.Activity) (DispatchActivity, bool) {
	if isStarted(a) || a.Backoff || a.Paused {
		return DispatchActivity{}, false
	}
	return DispatchActivity{
		ID: a.EffectId, ScheduledEventID: a.ScheduledEventId, Attempt: a.Attempt, Stamp: a.Stamp,
		Queue: a.TaskQueue, ScheduledTime: a.AttemptScheduledTime.AsTime(), Expiry: expiry(a), Priority: a.Priority,
	}, true
}

// expiry is when a scheduled activity must have been started; zero: never.
func expiry(a *statepb.Activity) time.Time {
	var d deadline
	d.time(timeoutAt(a.ScheduledTime, a.ScheduleToCloseTimeout))
	d.time(timeoutAt(a.AttemptScheduledTime, a.ScheduleToStartTimeout))
	return d.at
}

// timeoutAt adds a timeout to a time; zero, which is no timeout, gives the zero time: never.
func timeoutAt(at *timestamppb.Timestamp, timeout *durationpb.Duration) time.Time {
	if d := timeout.AsDuration(); d > 0 {
		return at.AsTime().Add(d)
	}
	return time.Time{}
}

// dispatchActivity puts an activity's current attempt on its queue, as a new effect: whatever of it is under way is obsolete.
// While the run is paused the effect only waits in the state.
func (t *Tx) dispatchActivity(a *statepb.Activity) {
	t.settled(a.EffectId)
	a.EffectId = t.nextEffect()
	a.Priority = mergePriority(t.core.Priority, a.OwnPriority)
	if d, ok := dispatchable(a); ok && !t.paused() {
		t.effects = append(t.effects, d)
	}
}

// redispatchActivities puts every waiting activity on its queue again: the run was paused, and tasks that came meanwhile have
// been dropped.
func (t *Tx) redispatchActivities() {
	for _, id := range t.activityIDs() {
		if a, _ := t.activity(id); !isStarted(a) && !a.Backoff && !a.Paused {
			t.dispatchActivity(t.editActivity(id))
		}
	}
}

// activityIDs are the scheduled event ids of the pending activities, in order.
func (t *Tx) activityIDs() []int64 {
	var ids []int64
	for id := range t.activities.all() {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// activityDue is the next thing that happens to an activity by itself: a timeout, or (unspecified) the end of its backoff.
type activityDue struct {
	id   int64
	at   time.Time
	what enumspb.TimeoutType
}

// nextDue tells what is due next; at is zero if nothing is.
func nextDue(a *statepb.Activity, hb *Heartbeat) activityDue {
	due := activityDue{id: a.ScheduledEventId}
	// The first of equals wins: that nobody took the task says more than that the time is up.
	consider := func(at time.Time, what enumspb.TimeoutType) {
		if !at.IsZero() && (due.at.IsZero() || at.Before(due.at)) {
			due.at, due.what = at, what
		}
	}
	switch {
	case isStarted(a):
		consider(timeoutAt(a.StartedTime, a.StartToCloseTimeout), enumspb.TIMEOUT_TYPE_START_TO_CLOSE)
		consider(timeoutAt(lastSign(a, hb), a.HeartbeatTimeout), enumspb.TIMEOUT_TYPE_HEARTBEAT)
	case a.Paused: // only the time for all attempts runs on
	case a.Backoff:
		consider(a.AttemptScheduledTime.AsTime(), enumspb.TIMEOUT_TYPE_UNSPECIFIED)
	default:
		consider(timeoutAt(a.AttemptScheduledTime, a.ScheduleToStartTimeout), enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START)
	}
	consider(timeoutAt(a.ScheduledTime, a.ScheduleToCloseTimeout), enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE)
	return due
}

// lastSign is when a started attempt was last heard of.
func lastSign(a *statepb.Activity, hb *Heartbeat) *timestamppb.Timestamp {
	if isNewest(hb, a) {
		a = hb.Activity
	}
	if a.LastHeartbeatTime != nil && a.LastHeartbeatTime.AsTime().After(a.StartedTime.AsTime()) {
		return a.LastHeartbeatTime
	}
	return a.StartedTime
}

// activityDeadline is when the next timeout or retry of an activity is due; zero: never.
func activityDeadline(a *statepb.Activity, hb *Heartbeat) time.Time { return nextDue(a, hb).at }

// fireActivities applies the timeouts and retries that are due, in order of time. One may bring the next: the end of a backoff
// long past, say, a schedule-to-close timeout.
func (t *Tx) fireActivities() {
	for {
		var due []activityDue
		for id, a := range t.activities.all() {
			if d := nextDue(a, t.volatile.Heartbeats[id]); !d.at.IsZero() && !t.now.Before(d.at) {
				due = append(due, d)
			}
		}
		if len(due) == 0 {
			return
		}
		slices.SortFunc(due, func(a, b activityDue) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
		for _, d := range due {
			t.fireActivity(d)
		}
	}
}

func (t *Tx) fireActivity(due activityDue) {
	if due.what == enumspb.TIMEOUT_TYPE_UNSPECIFIED {
		a := t.editActivity(due.id)
		a.Backoff = false
		t.dispatchActivity(a)
		return
	}
	t.timeOutActivity(due.id, due.what)
}

// timeOutActivity ends an attempt that took too long. If it was the last one the activity ends; if only the time for all
// attempts forbids another one, that is the timeout to tell of (CONTRACT 8.5.31).
func (t *Tx) timeOutActivity(id int64, what enumspb.TimeoutType) {
	a := t.editActivity(id)
	failure := timeoutFailure(what)
	state := enumspb.RETRY_STATE_TIMEOUT
	if what == enumspb.TIMEOUT_TYPE_START_TO_CLOSE || what == enumspb.TIMEOUT_TYPE_HEARTBEAT {
		if state = t.retryActivity(a, failure); state == enumspb.RETRY_STATE_IN_PROGRESS {
			return
		}
	}
	cause := a.LastFailure
	if state == enumspb.RETRY_STATE_TIMEOUT && what != enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START && what != enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE {
		if cause == nil {
			cause = failure
		}
		failure = timeoutFailure(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE)
	}
	failure.GetTimeoutFailureInfo().LastHeartbeatDetails = a.HeartbeatDetails
	failure.Cause = cause
	e := t.newEvent(enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT)
	e.Attributes = &historypb.HistoryEvent_ActivityTaskTimedOutEventAttributes{ActivityTaskTimedOutEventAttributes: &historypb.ActivityTaskTimedOutEventAttributes{
		Failure: failure, ScheduledEventId: id, RetryState: state,
	}}
	t.closeActivity(a, e)
}

func timeoutFailure(what enumspb.TimeoutType) *failurepb.Failure {
	return &failurepb.Failure{
		Message:     "activity " + what.String() + " timeout",
		Source:      "Server",
		FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{TimeoutType: what}},
	}
}

// closeActivity records how an activity ended, behind the start of the attempt if there was one.
func (t *Tx) closeActivity(a *statepb.Activity, e *historypb.HistoryEvent) {
	if isStarted(a) {
		started := t.newEvent(enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED)
		started.EventTime = a.StartedTime
		started.Attributes = &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{
			ScheduledEventId: a.ScheduledEventId, Identity: a.Identity, RequestId: a.StartId, Attempt: a.Attempt, LastFailure: a.LastFailure,
		}}
		t.record(started)
	}
	t.record(e)
	t.dropActivity(a)
}
