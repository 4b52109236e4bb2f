package contract

import (
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// Activities.
var activities = []point{
	{"8.29 the cancel flag and its acknowledgement", activityCanceled},
	{"8.29 no retry after a cancel request", noRetryAfterCancel},
	{"8.29 an activity that nobody runs is canceled at once", unstartedCanceled},
	{"8.29 an activity that waits for its retry is canceled at once", backingOffCanceled},
	{"8.29 acknowledging a cancel by id", canceledByID},
	{"8.30 heartbeat details reach the next attempt", heartbeatDetails},
	{"8.30 details of the failure reach the next attempt", failureDetails},
	{"8.30 heartbeats keep an attempt alive", heartbeatTimer},
	{"8.31 schedule-to-start is not retried", scheduleToStartTimeout},
	{"8.31 start-to-close is retried", startToCloseRetried},
	{"8.31 heartbeat timeout is retried", heartbeatTimeoutRetried},
	{"8.31 no time for another attempt, after a timeout", noTimeAfterTimeout},
	{"8.31 no time for another attempt, after a failure", noTimeAfterFailure},
	{"8.31 the failure's own delay", nextRetryDelay},
	{"8.31 non-retryable types", nonRetryableType},
	{"9.19 failures that are no application failures", strangeFailures},
	{"2.4 a running activity's start is not in the history", startNotInHistory},
	{"8.32 what a retried attempt keeps", retriedAttempt},
	{"8.33 a paused activity", pausedActivity},
	{"8.33 a queued task of a paused activity is dropped", pausedQueuedActivity},
}

// runningActivity starts a workflow with one activity and takes the activity's first task.
func (e *env) runningActivity(mods ...func(*activityAttributes)) (run string, a *activityTask) {
	e.Helper()
	run = e.start()
	e.complete(e.poll(), e.activity("a", mods...))
	return run, e.pollActivity()
}

func newCanceled(a *activityTask) *workflowservice.RespondActivityTaskCanceledRequest {
	return &workflowservice.RespondActivityTaskCanceledRequest{TaskToken: a.TaskToken, Details: payloads("bye"), Identity: "worker"}
}

func (e *env) pendingActivity(run string) *workflowpb.PendingActivityInfo {
	e.Helper()
	all := e.describe(run).PendingActivities
	require.Len(e, all, 1)
	return all[0]
}

func (e *env) cancelActivity(scheduled int64) {
	e.Helper()
	e.signal("cancel the activity")
	e.complete(e.poll(), cancelActivity(scheduled))
}

func activityCanceled(e *env) {
	run, a := e.runningActivity()
	require.False(e, e.heartbeat(a, 1).CancelRequested)
	refused[*serviceerror.InvalidArgument](e, e.api.RespondActivityTaskCanceled, newCanceled(a))
	e.cancelActivity(5)
	require.True(e, e.heartbeat(a, 2).CancelRequested)
	require.Equal(e, enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED, e.pendingActivity(run).State)
	do(e, e.api.RespondActivityTaskCanceled, newCanceled(a))
	closed := e.event(run, "ActivityCanceled").GetActivityTaskCanceledEventAttributes()
	require.Equal(e, e.event(run, "ActivityCancelRequested").EventId, closed.LatestCancelRequestedEventId)
	require.Equal(e, "bye", text(closed.Details))
}

func noRetryAfterCancel(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 0)))
	e.cancelActivity(5)
	e.failActivity(a, failure("Bad"))
	closed := e.event(run, "ActivityFailed").GetActivityTaskFailedEventAttributes()
	require.Equal(e, enumspb.RETRY_STATE_CANCEL_REQUESTED, closed.RetryState)
}

func unstartedCanceled(e *env) {
	run := e.start()
	e.complete(e.poll(), e.activity("a"))
	e.cancelActivity(5)
	e.wantHistory(run, firstTask, "ActivityScheduled Signaled TaskScheduled TaskStarted TaskCompleted ActivityCancelRequested ActivityCanceled TaskScheduled")
	e.pollNoActivity()
}

func backingOffCanceled(e *env) {
	run, a := e.runningActivity(withRetry(retry(3600, 0)))
	e.failActivity(a, failure("Bad"))
	e.cancelActivity(5)
	require.Equal(e, 1, e.count(run, "ActivityCanceled"))
	require.Empty(e, e.describe(run).PendingActivities)
}

func heartbeatDetails(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 2)))
	e.heartbeat(a, "step one")
	e.heartbeat(a, "step two")
	require.Equal(e, "step two", text(e.pendingActivity(run).HeartbeatDetails))
	e.failActivity(a, failure("Bad"))
	again := e.pollActivity()
	require.EqualValues(e, 2, again.Attempt)
	require.Equal(e, "step two", text(again.HeartbeatDetails))
	e.failActivity(again, failure("Bad"))
	e.eventually("the failure is recorded", func() bool { return e.count(run, "ActivityFailed") == 1 })
}

func failureDetails(e *env) {
	_, a := e.runningActivity(withRetry(retry(1, 2)))
	e.heartbeat(a, "old")
	do(e, e.api.RespondActivityTaskFailed, &workflowservice.RespondActivityTaskFailedRequest{
		TaskToken: a.TaskToken, Failure: failure("Bad"), LastHeartbeatDetails: payloads("newest"),
	})
	require.Equal(e, "newest", text(e.pollActivity().HeartbeatDetails))
}

func heartbeatTimer(e *env) {
	run, a := e.runningActivity(func(a *activityAttributes) { a.HeartbeatTimeout, a.RetryPolicy = seconds(10), retry(1, 1) })
	for range 3 {
		e.pass(5 * time.Second)
		e.heartbeat(a, "alive")
	}
	require.Equal(e, enumspb.PENDING_ACTIVITY_STATE_STARTED, e.pendingActivity(run).State)
	e.eventually("the heartbeat timeout", func() bool { return e.count(run, "ActivityTimedOut") == 1 })
	timedOut := e.timedOut(run)
	require.Equal(e, enumspb.TIMEOUT_TYPE_HEARTBEAT, timedOut.Failure.GetTimeoutFailureInfo().GetTimeoutType())
	require.Equal(e, "alive", text(timedOut.Failure.GetTimeoutFailureInfo().GetLastHeartbeatDetails()))
}

func (e *env) timedOut(run string) *historypb.ActivityTaskTimedOutEventAttributes {
	e.Helper()
	e.eventually("a timeout", func() bool { return e.count(run, "ActivityTimedOut") == 1 })
	return e.event(run, "ActivityTimedOut").GetActivityTaskTimedOutEventAttributes()
}

func scheduleToStartTimeout(e *env) {
	run := e.start()
	e.complete(e.poll(), e.activity("a", func(a *activityAttributes) { a.ScheduleToStartTimeout, a.RetryPolicy = seconds(1), retry(1, 5) }))
	timedOut := e.timedOut(run)
	require.Equal(e, enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, timedOut.Failure.GetTimeoutFailureInfo().GetTimeoutType())
	require.Equal(e, enumspb.RETRY_STATE_TIMEOUT, timedOut.RetryState)
}

func startToCloseRetried(e *env) {
	run, a := e.runningActivity(func(a *activityAttributes) { a.StartToCloseTimeout, a.RetryPolicy = seconds(10), retry(1, 2) })
	again := e.pollActivity()
	require.EqualValues(e, 2, again.Attempt)
	require.Equal(e, enumspb.TIMEOUT_TYPE_START_TO_CLOSE, e.pendingActivity(run).LastFailure.GetTimeoutFailureInfo().GetTimeoutType())
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskCompleted, &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: a.TaskToken})
	timedOut := e.timedOut(run)
	require.Equal(e, enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED, timedOut.RetryState)
	require.Equal(e, enumspb.TIMEOUT_TYPE_START_TO_CLOSE, timedOut.Failure.GetTimeoutFailureInfo().GetTimeoutType())
}

func heartbeatTimeoutRetried(e *env) {
	_, a := e.runningActivity(func(a *activityAttributes) { a.HeartbeatTimeout, a.RetryPolicy = seconds(1), retry(1, 2) })
	e.heartbeat(a, "so far")
	again := e.pollActivity()
	require.EqualValues(e, 2, again.Attempt)
	require.Equal(e, "so far", text(again.HeartbeatDetails))
	refused[*serviceerror.NotFound](e, e.api.RecordActivityTaskHeartbeat, newHeartbeat(a, "late"))
}

func noTimeAfterTimeout(e *env) {
	run, _ := e.runningActivity(func(a *activityAttributes) {
		a.StartToCloseTimeout, a.ScheduleToCloseTimeout, a.RetryPolicy = seconds(4), seconds(14), retry(3600, 0)
	})
	timedOut := e.timedOut(run)
	require.Equal(e, enumspb.RETRY_STATE_TIMEOUT, timedOut.RetryState)
	require.Equal(e, enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, timedOut.Failure.GetTimeoutFailureInfo().GetTimeoutType())
	require.Equal(e, enumspb.TIMEOUT_TYPE_START_TO_CLOSE, timedOut.Failure.GetCause().GetTimeoutFailureInfo().GetTimeoutType())
}

func noTimeAfterFailure(e *env) {
	run, a := e.runningActivity(func(a *activityAttributes) { a.ScheduleToCloseTimeout, a.RetryPolicy = seconds(30), retry(3600, 0) })
	e.failActivity(a, failure("Bad"))
	closed := e.event(run, "ActivityFailed").GetActivityTaskFailedEventAttributes()
	require.Equal(e, enumspb.RETRY_STATE_TIMEOUT, closed.RetryState)
	require.Equal(e, "Bad", closed.Failure.GetApplicationFailureInfo().GetType())
}

func nextRetryDelay(e *env) {
	run, a := e.runningActivity(withRetry(retry(3600, 0)))
	f := failure("Bad")
	f.GetApplicationFailureInfo().NextRetryDelay = seconds(1)
	e.failActivity(a, f)
	pending := e.pendingActivity(run)
	require.Equal(e, time.Second, pending.CurrentRetryInterval.AsDuration())
	require.EqualValues(e, 2, e.pollActivity().Attempt)
}

func nonRetryableType(e *env) {
	policy := retry(1, 0)
	policy.NonRetryableErrorTypes = []string{"Fatal"}
	run, a := e.runningActivity(withRetry(policy))
	e.failActivity(a, failure("Fatal"))
	require.Equal(e, enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE, e.event(run, "ActivityFailed").GetActivityTaskFailedEventAttributes().RetryState)
}

func retriedAttempt(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 0)))
	e.failActivity(a, failure("Bad"))
	again := e.pollActivity()
	require.Equal(e, a.ActivityId, again.ActivityId)
	require.EqualValues(e, 2, again.Attempt)
	require.Equal(e, a.ScheduledTime.AsTime(), again.ScheduledTime.AsTime())
	require.True(e, again.CurrentAttemptScheduledTime.AsTime().After(a.CurrentAttemptScheduledTime.AsTime()))
	for _, err := range []error{
		second(try(e, callMax, e.api.RespondActivityTaskCompleted, &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: a.TaskToken})),
		second(try(e, callMax, e.api.RespondActivityTaskFailed, &workflowservice.RespondActivityTaskFailedRequest{TaskToken: a.TaskToken, Failure: failure("Bad")})),
		second(try(e, callMax, e.api.RecordActivityTaskHeartbeat, newHeartbeat(a, "late"))),
		second(try(e, callMax, e.api.RespondActivityTaskCanceled, newCanceled(a))),
	} {
		asError[*serviceerror.NotFound](e, err)
	}
	e.completeActivity(again, "second")
	closed := e.event(run, "ActivityCompleted").GetActivityTaskCompletedEventAttributes()
	require.EqualValues(e, 5, closed.ScheduledEventId)
	started := e.event(run, "ActivityStarted").GetActivityTaskStartedEventAttributes()
	require.EqualValues(e, 2, started.Attempt)
	require.Equal(e, "Bad happened", started.LastFailure.GetMessage())
}

func second[R any](_ R, err error) error { return err }

func (e *env) pauseActivity() {
	e.Helper()
	do(e, e.api.PauseActivity, &workflowservice.PauseActivityRequest{
		Execution: execution(e.id, ""), Activity: &workflowservice.PauseActivityRequest_Id{Id: "a"}, Identity: "client", Reason: "wait",
	})
}

func (e *env) unpauseActivity() {
	e.Helper()
	do(e, e.api.UnpauseActivity, &workflowservice.UnpauseActivityRequest{Execution: execution(e.id, ""), Activity: &workflowservice.UnpauseActivityRequest_Id{Id: "a"}})
}

func pausedActivity(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 3)))
	e.pauseActivity()
	require.True(e, e.heartbeat(a, 1).ActivityPaused)
	require.Equal(e, enumspb.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED, e.pendingActivity(run).State)
	e.failActivity(a, failure("Bad"))
	pending := e.pendingActivity(run)
	require.Equal(e, enumspb.PENDING_ACTIVITY_STATE_PAUSED, pending.State)
	require.True(e, pending.Paused)
	e.pollNoActivity()
	e.unpauseActivity()
	again := e.pollActivity()
	require.EqualValues(e, 2, again.Attempt)
	e.completeActivity(again, "done")
}

func pausedQueuedActivity(e *env) {
	run := e.start()
	e.complete(e.poll(), e.activity("a"))
	e.pauseActivity()
	e.pollNoActivity()
	e.unpauseActivity()
	a := e.pollActivity()
	require.EqualValues(e, 1, a.Attempt)
	e.pollNoActivity() // the task of before the pause is not there as well
	e.completeActivity(a, "once")
	require.Equal(e, 1, e.count(run, "ActivityCompleted"))
}

func canceledByID(e *env) {
	run, _ := e.runningActivity()
	e.cancelActivity(5)
	do(e, e.api.RespondActivityTaskCanceledById, &workflowservice.RespondActivityTaskCanceledByIdRequest{WorkflowId: e.id, ActivityId: "a", Details: payloads("bye")})
	require.Equal(e, "bye", text(e.event(run, "ActivityCanceled").GetActivityTaskCanceledEventAttributes().Details))
}

func strangeFailures(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 1)))
	timeout := &failurepb.Failure{Message: "late", FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{}}}
	refused[*serviceerror.InvalidArgument](e, e.api.RespondActivityTaskFailed, &workflowservice.RespondActivityTaskFailedRequest{TaskToken: a.TaskToken, Failure: timeout})
	require.Zero(e, e.count(run, "ActivityFailed"))
	e.failActivity(a, nil)
	require.Equal(e, 1, e.count(run, "ActivityFailed"))
}

func startNotInHistory(e *env) {
	run, a := e.runningActivity()
	e.wantHistory(run, firstTask, "ActivityScheduled")
	e.completeActivity(a, "done")
	e.wantHistory(run, firstTask, "ActivityScheduled ActivityStarted ActivityCompleted TaskScheduled")
	started := e.event(run, "ActivityStarted").GetActivityTaskStartedEventAttributes()
	require.EqualValues(e, 1, started.Attempt)
	require.Equal(e, "worker", started.Identity)
	require.NotEmpty(e, started.RequestId)
}
