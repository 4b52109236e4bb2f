package workflow

import (
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// heartbeatDurableMax bounds the age that the durable heartbeat of an activity may have while newer ones are in memory; with a
// heartbeat timeout it is a quarter of that, so that a crash does not make a live activity look dead.
const heartbeatDurableMax = 10 * time.Second

// ActivityStart is a poller that takes an activity task.
type ActivityStart struct {
	ScheduledEventID int64
	// EffectID, Attempt and Stamp are those of the dispatch; another one has made this task obsolete.
	EffectID int64
	Attempt  int32
	Stamp    int32
	// StartID tells this delivery from others; the same again gets the same answer.
	StartID  string
	Identity string
}

// StartActivity gives the current attempt of an activity to a poller. It is durable: no attempt runs that is not on record.
// NotFound: the task is obsolete.
func (t *Tx) StartActivity(in ActivityStart) (*statepb.Activity, error) {
	a, ok := t.activity(in.ScheduledEventID)
	switch {
	case !t.open(), !ok, a.EffectId != in.EffectID, a.Attempt != in.Attempt, a.Stamp != in.Stamp:
		return nil, errActivityObsolete
	case isStarted(a) && a.StartId == in.StartID:
		return a, nil
	case isStarted(a):
		return nil, serviceerror.NewNotFound("The activity task has been started by another poll.")
	case a.Backoff, a.Paused, t.paused():
		return nil, errActivityObsolete
	}
	if end := expiry(a); !end.IsZero() && !t.now.Before(end) {
		return nil, errActivityObsolete // its timeout is about to be applied
	}
	a = t.editActivity(in.ScheduledEventID)
	t.begin(a, in.StartID, in.Identity)
	return a, nil
}

// begin starts an attempt. Whoever dispatches it again is turned away, so the dispatch needs no acknowledgement any more.
func (t *Tx) begin(a *statepb.Activity, startID, identity string) {
	a.StartedTime, a.StartId = t.timestamp(), startID
	a.Identity, a.LastWorkerIdentity = identity, identity
	t.settled(a.EffectId)
}

// find looks up the activity that a worker answers for: by its attempt, or, if the token holds no event, by its id alone. It
// must not be changed.
func (t *Tx) find(token *tokenpb.Task) (*statepb.Activity, error) {
	if !t.open() {
		return nil, errCompleted
	}
	if token.ScheduledEventId == 0 {
		return t.findByID(token.ActivityId)
	}
	a, ok := t.activity(token.ScheduledEventId)
	if !ok || !isStarted(a) || a.Attempt != token.Attempt || a.StartId != token.StartId {
		return nil, errActivityNotFound
	}
	return a, nil
}

func (t *Tx) findByID(activityID string) (*statepb.Activity, error) {
	for id, a := range t.activities.all() {
		if a.ActivityId == activityID {
			a, _ = t.activity(id)
			return a, nil
		}
	}
	return nil, serviceerror.NewNotFoundf("cannot find pending activity with ActivityID %s, check workflow execution history for more details", activityID)
}

// findStarted is like find, for answers that only the worker of a started attempt can give.
func (t *Tx) findStarted(token *tokenpb.Task) (*statepb.Activity, error) {
	a, err := t.find(token)
	if err == nil && !isStarted(a) {
		return nil, errActivityNotFound
	}
	return a, err
}

// CompleteActivity ends an activity with its result. By id it works on one that no worker has started, too.
func (t *Tx) CompleteActivity(token *tokenpb.Task, req *workflowservice.RespondActivityTaskCompletedRequest) error {
	found, err := t.find(token)
	if err != nil {
		return err
	}
	a := t.editActivity(found.ScheduledEventId)
	if !isStarted(a) {
		t.begin(a, t.derivedID(a.EffectId), req.Identity)
	}
	if proto.Size(req.Result) > blobSizeMax {
		t.giveUp(a, req.Identity, "The result of the activity is larger than the server accepts.")
		return nil
	}
	e := t.newEvent(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
	e.Attributes = &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{
		Result: req.Result, ScheduledEventId: a.ScheduledEventId, Identity: req.Identity, WorkerVersion: req.WorkerVersion,
	}}
	t.closeActivity(a, e)
	return nil
}

// giveUp ends an activity whose worker sent something that cannot be kept: another attempt would only send it again.
func (t *Tx) giveUp(a *statepb.Activity, identity, text string) {
	t.addActivityFailed(a, &workflowservice.RespondActivityTaskFailedRequest{Identity: identity}, unkeepable(text), enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE)
}

// unkeepable is the failure of an activity whose worker sent something too large.
func unkeepable(text string) *failurepb.Failure {
	return &failurepb.Failure{
		Message:     text,
		Source:      "Server",
		FailureInfo: &failurepb.Failure_ServerFailureInfo{ServerFailureInfo: &failurepb.ServerFailureInfo{NonRetryable: true}},
	}
}

// FailActivity ends an attempt as failed: it is retried, or the activity ends. The failures returned tell the worker what of its
// report was too large to be kept.
func (t *Tx) FailActivity(token *tokenpb.Task, req *workflowservice.RespondActivityTaskFailedRequest) ([]*failurepb.Failure, error) {
	found, err := t.findStarted(token)
	if err != nil {
		return nil, err
	}
	a := t.editActivity(found.ScheduledEventId)
	var cut []*failurepb.Failure
	switch size := proto.Size(req.LastHeartbeatDetails); {
	case size > blobSizeMax:
		cut = append(cut, unkeepable("The heartbeat details are larger than the server accepts; they were dropped."))
	case size > 0:
		a.HeartbeatDetails, a.LastHeartbeatTime = req.LastHeartbeatDetails, t.timestamp()
	}
	failure := req.Failure
	if proto.Size(failure) > blobSizeMax {
		failure = unkeepable("The failure of the activity is larger than the server accepts; its beginning is the cause.")
		failure.GetServerFailureInfo().NonRetryable = nonRetryable(req.Failure, a.RetryPolicy.GetNonRetryableErrorTypes())
		failure.Cause = truncateFailure(req.Failure, lastFailureMax)
		cut = append(cut, failure)
	}
	state := t.retryActivity(a, failure)
	if state == enumspb.RETRY_STATE_IN_PROGRESS {
		a.LastAttemptCompleteTime = t.timestamp()
		return cut, nil
	}
	t.addActivityFailed(a, req, failure, state)
	return cut, nil
}

func (t *Tx) addActivityFailed(a *statepb.Activity, req *workflowservice.RespondActivityTaskFailedRequest, failure *failurepb.Failure, state enumspb.RetryState) {
	e := t.newEvent(enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED)
	e.Attributes = &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{
		Failure: failure, ScheduledEventId: a.ScheduledEventId, Identity: req.Identity, RetryState: state, Cause: req.Cause,
		WorkerVersion: req.WorkerVersion,
	}}
	t.closeActivity(a, e)
}

// CancelActivity is a worker's word that it has stopped the activity as it was asked to.
func (t *Tx) CancelActivity(token *tokenpb.Task, req *workflowservice.RespondActivityTaskCanceledRequest) error {
	found, err := t.findStarted(token)
	switch {
	case err != nil:
		return err
	case !found.CancelRequested:
		return serviceerror.NewInvalidArgument("unable to mark activity as canceled without activity being request canceled first")
	}
	a := t.editActivity(found.ScheduledEventId)
	if proto.Size(req.Details) > blobSizeMax {
		t.giveUp(a, req.Identity, "The cancellation details of the activity are larger than the server accepts.")
		return nil
	}
	e := t.canceledEvent(a, req.Identity, req.Details)
	e.GetActivityTaskCanceledEventAttributes().WorkerVersion = req.WorkerVersion
	t.closeActivity(a, e)
	return nil
}

// HeartbeatReply tells a worker what has been asked of its activity.
type HeartbeatReply struct {
	CancelRequested bool
	Paused          bool
	Reset           bool
}

// HeartbeatActivity notes a sign of life. Most are volatile and ride on the next durable transition: of an activity one is
// durable at most every heartbeatDurableMax, or quarter of its heartbeat timeout.
func (t *Tx) HeartbeatActivity(token *tokenpb.Task, details *commonpb.Payloads) (HeartbeatReply, error) {
	found, err := t.findStarted(token)
	if err != nil {
		return HeartbeatReply{}, err
	}
	id := found.ScheduledEventId
	if proto.Size(details) > blobSizeMax {
		a := t.editActivity(id)
		t.giveUp(a, a.Identity, "The heartbeat details of the activity are larger than the server accepts.")
		return HeartbeatReply{CancelRequested: true}, nil
	}
	reply := HeartbeatReply{CancelRequested: found.CancelRequested, Paused: found.Paused, Reset: found.Reset_}
	if durable, _ := t.activities.get(id); t.now.Sub(lastSign(durable, nil).AsTime()) >= heartbeatInterval(durable) {
		a := t.editActivity(id)
		a.LastHeartbeatTime, a.HeartbeatDetails = t.timestamp(), details
		return reply, nil
	}
	a := proto.CloneOf(found)
	a.LastHeartbeatTime, a.HeartbeatDetails = t.timestamp(), details
	if t.volatile.Heartbeats == nil {
		t.volatile.Heartbeats = map[int64]*Heartbeat{}
	}
	t.volatile.Heartbeats[id] = &Heartbeat{Time: t.now, Attempt: a.Attempt, Activity: a}
	t.touched = true
	return reply, nil
}

// heartbeatInterval is the time that at least passes between two durable heartbeats.
func heartbeatInterval(a *statepb.Activity) time.Duration {
	if d := a.HeartbeatTimeout.AsDuration() / 4; d > 0 {
		return min(d, heartbeatDurableMax)
	}
	return heartbeatDurableMax
}
