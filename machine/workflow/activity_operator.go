package workflow

import (
	"encoding/binary"
	"strings"
	"time"

	activitypb "go.temporal.io/api/activity/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// What an operator does to pending activities. Whatever changes how or whether an activity is dispatched gives it a new stamp, so
// that tasks which are already under way are turned away at their start.

// ActivitySelector names pending activities: one by id, those of a type, or all.
type ActivitySelector struct {
	ID   string
	Type string
	All  bool
}

// selected are the activities that a selector names, in order. NotFound: there is none.
func (t *Tx) selected(by ActivitySelector) ([]int64, error) {
	if !t.open() {
		return nil, errCompleted
	}
	var ids []int64
	for _, id := range t.activityIDs() {
		a, _ := t.activities.get(id)
		if by.All || (by.ID != "" && a.ActivityId == by.ID) || (by.Type != "" && a.ActivityType.GetName() == by.Type) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, serviceerror.NewNotFound("Can't find pending activity with such ID. Invalid activityID or activity already completed")
	}
	return ids, nil
}

// ActivityPause keeps activities from being given to workers. A running attempt goes on, and is told in its heartbeat.
type ActivityPause struct {
	Activities ActivitySelector
	Identity   string
	Reason     string
}

// PauseActivity pauses activities; what is paused already stays as it is.
func (t *Tx) PauseActivity(in ActivityPause) error {
	ids, err := t.selected(in.Activities)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if a, _ := t.activities.get(id); a.Paused {
			continue
		}
		a := t.editActivity(id)
		a.Paused, a.PauseTime, a.PauseIdentity, a.PauseReason = true, t.timestamp(), in.Identity, in.Reason
		a.Stamp++
		t.settled(a.EffectId)
	}
	t.notePause()
	return nil
}

// ActivityUnpause lets activities go on.
type ActivityUnpause struct {
	Activities ActivitySelector
	// ResetAttempts starts over with attempt 1 and without a wait; ResetHeartbeat drops what was heartbeaten.
	ResetAttempts  bool
	ResetHeartbeat bool
	// Jitter spreads the activities over a time.
	Jitter time.Duration
}

// UnpauseActivity ends a pause; what is not paused stays as it is.
func (t *Tx) UnpauseActivity(in ActivityUnpause) error {
	ids, err := t.selected(in.Activities)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if a, _ := t.activities.get(id); !a.Paused {
			continue
		}
		a := t.editActivity(id)
		unpause(a)
		if in.ResetHeartbeat {
			resetHeartbeats(a)
		}
		if isStarted(a) {
			continue
		}
		if in.ResetAttempts {
			startOver(a)
			a.AttemptScheduledTime = t.timestamp()
		}
		t.schedule(a, in.Jitter)
	}
	t.notePause()
	return nil
}

func unpause(a *statepb.Activity) {
	a.Paused, a.PauseTime, a.PauseIdentity, a.PauseReason = false, nil, "", ""
	a.Stamp++
}

// resetHeartbeats drops what was heartbeaten: at once, or with the end of the running attempt, which still needs it.
func resetHeartbeats(a *statepb.Activity) {
	if isStarted(a) {
		a.ResetHeartbeats = true
		return
	}
	a.HeartbeatDetails, a.LastHeartbeatTime = nil, nil
}

// startOver forgets the attempts of an activity that is not started.
func startOver(a *statepb.Activity) {
	a.Attempt, a.LastFailure, a.RetryInterval = 1, nil, a.RetryPolicy.GetInitialInterval()
}

// schedule dispatches an activity that is not started, or makes it wait for its time.
func (t *Tx) schedule(a *statepb.Activity, jitter time.Duration) {
	at := a.AttemptScheduledTime.AsTime()
	if at.Before(t.now) {
		at = t.now
	}
	if jitter > 0 {
		sum := t.derived(a.ScheduledEventId<<32 | int64(a.Stamp))
		at = at.Add(time.Duration(binary.BigEndian.Uint64(sum[:]) % uint64(jitter)))
	}
	a.AttemptScheduledTime, a.Backoff = timestamppb.New(at), at.After(t.now)
	if !a.Backoff && !a.Paused {
		t.dispatchActivity(a)
	}
}

// ActivityReset makes activities start over.
type ActivityReset struct {
	Activities ActivitySelector
	// ResetHeartbeat drops what was heartbeaten; KeepPaused leaves a paused activity paused; RestoreOptions takes the options
	// back to those that the activity was scheduled with.
	ResetHeartbeat bool
	KeepPaused     bool
	RestoreOptions bool
	// Jitter spreads the activities over a time.
	Jitter time.Duration
}

// ResetActivity takes activities back to their first attempt, with fresh timeouts. An attempt that is running keeps its worker, who
// is told in the heartbeat; one above the first loses it (recorded of the reference: its token misses from then on, and
// the activity goes on when a timeout ends the attempt).
func (t *Tx) ResetActivity(in ActivityReset) error {
	ids, err := t.selected(in.Activities)
	if err != nil {
		return err
	}
	for _, id := range ids {
		a := t.editActivity(id)
		if a.Paused && !in.KeepPaused {
			unpause(a)
		}
		if in.RestoreOptions {
			restoreOptions(a)
		}
		if in.ResetHeartbeat {
			resetHeartbeats(a)
		}
		a.Stamp++
		a.ScheduledTime = t.timestamp()
		if isStarted(a) {
			a.Attempt, a.Reset_ = 1, true
			continue
		}
		startOver(a)
		a.AttemptScheduledTime = t.timestamp()
		t.schedule(a, in.Jitter)
	}
	t.notePause()
	return nil
}

// ActivityOptionsUpdate changes how activities run.
type ActivityOptionsUpdate struct {
	Activities ActivitySelector
	// Options are taken as far as Paths (of a field mask, in either case) name them; unknown paths are ignored.
	Options *activitypb.ActivityOptions
	Paths   []string
	// Restore takes the options back to those that the activity was scheduled with, instead.
	Restore bool
}

// UpdateActivityOptions changes the options of activities and returns those of the first. What changes applies to a running
// attempt as well, except the queue.
func (t *Tx) UpdateActivityOptions(in ActivityOptionsUpdate) (*activitypb.ActivityOptions, error) {
	ids, err := t.selected(in.Activities)
	if err != nil {
		return nil, err
	}
	var first *activitypb.ActivityOptions
	for _, id := range ids {
		a := t.editActivity(id)
		if in.Restore {
			restoreOptions(a)
		} else if err := t.changeOptions(a, in); err != nil {
			return nil, err
		}
		a.Stamp++
		if !isStarted(a) && !a.Backoff && !a.Paused {
			t.dispatchActivity(a)
		}
		if first == nil {
			first = activityOptions(a)
		}
	}
	return first, nil
}

func (t *Tx) changeOptions(a *statepb.Activity, in ActivityOptionsUpdate) error {
	before := activityOptions(a)
	options := proto.CloneOf(before)
	for _, path := range in.Paths {
		setPath(options.ProtoReflect(), in.Options.ProtoReflect(), strings.Split(path, "."))
	}
	timeouts := activityTimeouts{
		scheduleToClose: options.ScheduleToCloseTimeout, scheduleToStart: options.ScheduleToStartTimeout,
		startToClose: options.StartToCloseTimeout, heartbeat: options.HeartbeatTimeout,
	}
	for _, text := range []string{queueFault(options.TaskQueue), timeouts.fault(a.ActivityId, a.ActivityType.GetName()), checkRetryPolicy(options.RetryPolicy), priorityFault(options.Priority)} {
		if text != "" {
			return serviceerror.NewInvalidArgument(text)
		}
	}
	timeouts = completeTimeouts(timeouts, t.start.RunTimeout)
	options.ScheduleToCloseTimeout, options.ScheduleToStartTimeout = timeouts.scheduleToClose, timeouts.scheduleToStart
	options.StartToCloseTimeout, options.HeartbeatTimeout = timeouts.startToClose, timeouts.heartbeat
	options.RetryPolicy = completeRetryPolicy(options.RetryPolicy)
	setOptions(a, options)
	if a.OriginalOptions == nil {
		a.OriginalOptions = before
	}
	if a.Backoff && !proto.Equal(before.RetryPolicy, options.RetryPolicy) {
		t.waitAnew(a)
	}
	return nil
}

// waitAnew lets a changed retry policy apply to the wait that is under way.
func (t *Tx) waitAnew(a *statepb.Activity) {
	failed := a.AttemptScheduledTime.AsTime().Add(-a.RetryInterval.AsDuration())
	wait := retryInterval(a.RetryPolicy, a.Attempt-1)
	a.RetryInterval, a.AttemptScheduledTime = durationpb.New(wait), timestamppb.New(failed.Add(wait))
}

func restoreOptions(a *statepb.Activity) {
	if a.OriginalOptions != nil {
		setOptions(a, a.OriginalOptions)
		a.OriginalOptions = nil
	}
}

func setOptions(a *statepb.Activity, o *activitypb.ActivityOptions) {
	a.TaskQueue = o.TaskQueue.GetName()
	a.ScheduleToCloseTimeout, a.ScheduleToStartTimeout = o.ScheduleToCloseTimeout, o.ScheduleToStartTimeout
	a.StartToCloseTimeout, a.HeartbeatTimeout = o.StartToCloseTimeout, o.HeartbeatTimeout
	a.RetryPolicy, a.OwnPriority = o.RetryPolicy, o.Priority
}

// activityOptions are an activity's options as describe shows them (the queue in the reference's form).
func activityOptions(a *statepb.Activity) *activitypb.ActivityOptions {
	return &activitypb.ActivityOptions{
		TaskQueue:              &taskqueuepb.TaskQueue{Name: a.TaskQueue, NormalName: a.TaskQueue},
		ScheduleToCloseTimeout: a.ScheduleToCloseTimeout, ScheduleToStartTimeout: a.ScheduleToStartTimeout,
		StartToCloseTimeout: a.StartToCloseTimeout, HeartbeatTimeout: a.HeartbeatTimeout,
		RetryPolicy: a.RetryPolicy, Priority: a.OwnPriority,
	}
}

// setPath copies the field that a path of a field mask names, and nothing if there is no such field.
func setPath(to, from protoreflect.Message, path []string) {
	field := to.Descriptor().Fields().ByName(protoreflect.Name(snakeCase(path[0])))
	switch {
	case field == nil:
	case len(path) > 1 && field.Kind() == protoreflect.MessageKind && !field.IsList() && !field.IsMap():
		setPath(to.Mutable(field).Message(), from.Get(field).Message(), path[1:])
	case len(path) > 1:
	case from.Has(field):
		to.Set(field, from.Get(field))
	default:
		to.Clear(field)
	}
}
