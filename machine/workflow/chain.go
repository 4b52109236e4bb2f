package workflow

import (
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A chain is the runs that follow one another under one workflow id: by continue-as-new, by the retry of a failed run, by cron.
// The next run is made in the transition that closes the one before it, and both are committed together: a chain never breaks
// between two runs. The parent of a child hears of the chain's end only.

// chainIntervalMin is the least time between the beginnings of two runs of a chain (CONTRACT 9.3): a workflow that continues
// at once, for ever, must not have the server for itself. What is missing is added to the first task's backoff.
const chainIntervalMin = time.Second

// successorRequest numbers the request id of the run that follows, among the derived ids of a run; effects have the others.
const successorRequest = -1

// MayContinue tells whether another run may follow when this one completes, fails or times out. Then [Env.NewRunID] and
// [Env.StartEvent] must be given to every transition that can close the run.
func (s *State) MayContinue() bool { return s.Start.RetryPolicy != nil || s.Start.CronSchedule != "" }

// successorOfSuccess makes the run after one that completed: cron goes on.
func (t *Tx) successorOfSuccess(result *commonpb.Payloads) (newRunID string, err error) {
	if t.start.CronSchedule == "" {
		return "", nil
	}
	backoff, ok := t.cronBackoff()
	if !ok || t.expires(backoff) {
		return "", nil
	}
	return t.repeat(enumspb.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE, 1, backoff, func(a *historypb.WorkflowExecutionStartedEventAttributes) {
		a.LastCompletionResult, a.ContinuedFailure = result, nil
	})
}

// successorOfFailure makes the run after one that failed: a retry if the policy has one left, else cron goes on. The retry state
// says why there is no retry, also where cron goes on.
func (t *Tx) successorOfFailure(failure *failurepb.Failure) (newRunID string, state enumspb.RetryState, err error) {
	initiator, attempt := enumspb.CONTINUE_AS_NEW_INITIATOR_RETRY, t.start.Attempt+1
	backoff, state := t.retryBackoff(failure)
	if state != enumspb.RETRY_STATE_IN_PROGRESS {
		wait, ok := t.cronBackoff()
		if !ok || t.expires(wait) {
			return "", state, nil
		}
		initiator, attempt, backoff = enumspb.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE, 1, wait
	}
	newRunID, err = t.repeat(initiator, attempt, backoff, func(a *historypb.WorkflowExecutionStartedEventAttributes) {
		a.ContinuedFailure = failure
	})
	return newRunID, state, err
}

// successorOfTimeout makes the run after one whose run timeout has passed. Nothing follows the end of the execution timeout.
func (t *Tx) successorOfTimeout() (newRunID string, state enumspb.RetryState, err error) {
	if t.isDue(t.start.ExecutionDeadline) {
		return "", enumspb.RETRY_STATE_TIMEOUT, nil
	}
	return t.successorOfFailure(&failurepb.Failure{
		Message: "workflow timeout", Source: "Server",
		FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{TimeoutType: enumspb.TIMEOUT_TYPE_START_TO_CLOSE}},
	})
}

// retryBackoff decides on a retry of the run: how long to wait for it, or why there is none.
func (t *Tx) retryBackoff(failure *failurepb.Failure) (time.Duration, enumspb.RetryState) {
	policy := t.start.RetryPolicy
	switch {
	case policy == nil:
		return 0, enumspb.RETRY_STATE_RETRY_POLICY_NOT_SET
	case nonRetryable(failure, policy.NonRetryableErrorTypes):
		return 0, enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE
	case policy.MaximumAttempts > 0 && t.start.Attempt >= policy.MaximumAttempts:
		return 0, enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
	}
	backoff := retryInterval(policy, t.start.Attempt)
	if d := failure.GetApplicationFailureInfo().GetNextRetryDelay().AsDuration(); d > 0 {
		backoff = d
	}
	if t.expires(backoff) {
		return 0, enumspb.RETRY_STATE_TIMEOUT
	}
	return backoff, enumspb.RETRY_STATE_IN_PROGRESS
}

// cronBackoff is the wait for the next time of the schedule; false: there is none.
func (t *Tx) cronBackoff() (time.Duration, bool) {
	return cronWait(t.start.CronSchedule, t.start.ExecutionTime.AsTime(), t.now)
}

// expires tells whether a run that waits for so long would begin after the end of its execution timeout.
func (t *Tx) expires(backoff time.Duration) bool {
	x := t.start.ExecutionDeadline
	return x != nil && !t.now.Add(backoff).Before(x.AsTime())
}

// repeat makes a run like this one: its first event says the same again, but for what change sets.
func (t *Tx) repeat(initiator enumspb.ContinueAsNewInitiator, attempt int32, backoff time.Duration, change func(*historypb.WorkflowExecutionStartedEventAttributes)) (string, error) {
	first := t.env.StartEvent.GetWorkflowExecutionStartedEventAttributes()
	if first == nil {
		return "", errors.New("the run may continue, but its first event was not given to the transition")
	}
	a := proto.CloneOf(first)
	a.Initiator, a.Attempt = initiator, attempt
	a.Identity, a.EagerExecutionAccepted = "", false
	change(a)
	o := Opening{Attributes: a, UserMetadata: t.env.StartEvent.UserMetadata}
	return t.follow(o, backoff)
}

// follow makes the run that comes after this one; its attributes say what it does, here it gets its place in the chain.
func (t *Tx) follow(o Opening, backoff time.Duration) (newRunID string, err error) {
	newRunID = t.env.NewRunID
	if newRunID == "" {
		return "", fmt.Errorf("no run id was given for the run that follows %s", t.start.RunId)
	}
	p, a := t.start, o.Attributes
	a.WorkflowId = p.WorkflowId
	a.FirstExecutionRunId, a.ContinuedExecutionRunId, a.OriginalExecutionRunId = p.FirstRunId, p.RunId, newRunID
	a.WorkflowExecutionTimeout, a.WorkflowExecutionExpirationTime = p.ExecutionTimeout, p.ExecutionDeadline
	a.ParentWorkflowNamespace, a.ParentWorkflowNamespaceId = p.ParentNamespace, p.ParentNamespaceId
	a.ParentWorkflowExecution, a.ParentInitiatedEventId = p.Parent, p.ParentInitiatedEventId
	a.RootWorkflowExecution = p.Root
	a.Priority, a.VersioningOverride = t.core.Priority, t.core.VersioningOverride
	a.FirstWorkflowTaskBackoff = nil
	if backoff = t.spaced(backoff); backoff > 0 {
		a.FirstWorkflowTaskBackoff = durationpb.New(backoff)
	}
	t.expireResetPoints()
	a.PrevAutoResetPoints = t.core.ResetPoints

	o.NamespaceID, o.ParentNamespaceID = p.NamespaceId, p.ParentNamespaceId
	o.RunID, o.RequestID = newRunID, t.derivedID(successorRequest)
	o.OriginalStartTime = p.OriginalStartTime.AsTime()
	next := Open(o, t.now, t.env)
	next.core.ResetPoints = t.core.ResetPoints
	next.inheritRequests(t.knownRequests(), t.start)
	t.successor = next
	return newRunID, nil
}

// spaced lengthens a backoff so that the next run begins no sooner than chainIntervalMin after this one did.
func (t *Tx) spaced(backoff time.Duration) time.Duration {
	since := max(t.now.Sub(t.start.ExecutionTime.AsTime()), 0)
	return max(backoff, chainIntervalMin-since, 0)
}

// expireResetPoints notes until when this run's points can be reset to: as long as the closed run is kept.
func (t *Tx) expireResetPoints() {
	points := proto.CloneOf(t.core.ResetPoints)
	for _, p := range points.GetPoints() {
		if p.RunId == t.start.RunId && p.ExpireTime == nil && t.env.Retention > 0 {
			p.ExpireTime = timestamppb.New(t.now.Add(t.env.Retention))
		}
	}
	t.core.ResetPoints = points
}
