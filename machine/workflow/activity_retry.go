package workflow

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

const (
	// The retry policy of an activity where the worker leaves it open (CONTRACT 5.3).
	retryIntervalDefault    = time.Second
	retryCoefficientDefault = 2.0
	retryIntervalMaxFactor  = 100
	// lastFailureMax bounds the failure that a pending activity keeps, in bytes: it is shown, and rides on every write of it.
	lastFailureMax = 4 << 10
	// timeoutTypePrefix marks a timeout among the non-retryable types of a retry policy.
	timeoutTypePrefix = "TemporalTimeout:"
)

// retryActivity gives an activity whose attempt has failed another one, if it may have one; otherwise the activity is left as
// it is, to be closed.
func (t *Tx) retryActivity(a *statepb.Activity, failure *failurepb.Failure) enumspb.RetryState {
	wait, state := t.nextAttempt(a, failure)
	if state != enumspb.RETRY_STATE_IN_PROGRESS {
		return state
	}
	a.Attempt++
	a.Backoff = true
	a.AttemptScheduledTime, a.RetryInterval = timestamppb.New(t.now.Add(wait)), durationpb.New(wait)
	a.StartedTime, a.StartId, a.Identity, a.Eager = nil, "", "", false
	a.LastFailure = truncateFailure(failure, lastFailureMax)
	if a.ResetHeartbeats {
		a.HeartbeatDetails, a.LastHeartbeatTime = nil, nil
	}
	a.Reset_, a.ResetHeartbeats = false, false
	return state
}

// nextAttempt decides whether an activity is tried again, and after what time (CONTRACT 8.5.29, 8.5.31).
func (t *Tx) nextAttempt(a *statepb.Activity, failure *failurepb.Failure) (wait time.Duration, state enumspb.RetryState) {
	policy := a.RetryPolicy
	switch {
	case a.CancelRequested:
		return 0, enumspb.RETRY_STATE_CANCEL_REQUESTED
	case policy == nil:
		return 0, enumspb.RETRY_STATE_RETRY_POLICY_NOT_SET
	case nonRetryable(failure, policy.NonRetryableErrorTypes):
		return 0, enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE
	case policy.MaximumAttempts > 0 && a.Attempt >= policy.MaximumAttempts:
		return 0, enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
	}
	wait = retryInterval(policy, a.Attempt)
	if d := failure.GetApplicationFailureInfo().GetNextRetryDelay().AsDuration(); d > 0 {
		wait = d
	}
	if end := timeoutAt(a.ScheduledTime, a.ScheduleToCloseTimeout); !end.IsZero() && !t.now.Add(wait).Before(end) {
		return 0, enumspb.RETRY_STATE_TIMEOUT
	}
	return wait, enumspb.RETRY_STATE_IN_PROGRESS
}

// nonRetryable tells whether a failure, by its own word or the policy's, must not be tried again. A cancellation, a termination,
// and the timeouts that another attempt would meet at once never are.
func nonRetryable(failure *failurepb.Failure, types []string) bool {
	switch info := failure.GetFailureInfo().(type) {
	case *failurepb.Failure_ApplicationFailureInfo:
		return info.ApplicationFailureInfo.NonRetryable || slices.Contains(types, info.ApplicationFailureInfo.Type)
	case *failurepb.Failure_ServerFailureInfo:
		return info.ServerFailureInfo.NonRetryable
	case *failurepb.Failure_CanceledFailureInfo, *failurepb.Failure_TerminatedFailureInfo:
		return true
	case *failurepb.Failure_TimeoutFailureInfo:
		switch typ := info.TimeoutFailureInfo.TimeoutType; typ {
		case enumspb.TIMEOUT_TYPE_START_TO_CLOSE, enumspb.TIMEOUT_TYPE_HEARTBEAT:
			return slices.Contains(types, timeoutTypePrefix+typ.String())
		}
		return true
	}
	return false
}

// retryInterval is the time between an attempt (counted from 1) and the next.
func retryInterval(policy *commonpb.RetryPolicy, attempt int32) time.Duration {
	limit := policy.MaximumInterval.AsDuration()
	wait := float64(policy.InitialInterval.AsDuration()) * math.Pow(policy.BackoffCoefficient, float64(attempt-1))
	if limit > 0 && wait > float64(limit) {
		return limit
	}
	if wait > float64(durationMax) {
		return durationMax
	}
	return time.Duration(wait)
}

// completeRetryPolicy fills in what a policy leaves open; no policy at all is the default one.
func completeRetryPolicy(policy *commonpb.RetryPolicy) *commonpb.RetryPolicy {
	p := &commonpb.RetryPolicy{}
	if policy != nil {
		p = proto.CloneOf(policy)
	}
	if p.InitialInterval.AsDuration() == 0 {
		p.InitialInterval = durationpb.New(retryIntervalDefault)
	}
	if p.BackoffCoefficient == 0 {
		p.BackoffCoefficient = retryCoefficientDefault
	}
	if p.MaximumInterval.AsDuration() == 0 {
		p.MaximumInterval = capped(durationpb.New(scale(p.InitialInterval.AsDuration(), retryIntervalMaxFactor)))
	}
	return p
}

func scale(d time.Duration, factor int) time.Duration {
	if d > durationMax/time.Duration(factor) {
		return durationMax
	}
	return d * time.Duration(factor)
}

// checkRetryPolicy returns what is wrong with a policy that a worker or client sent; "": nothing. A policy that allows one
// attempt only is not looked at further.
func checkRetryPolicy(p *commonpb.RetryPolicy) string {
	switch {
	case p == nil || p.MaximumAttempts == 1:
		return ""
	case !nonNegative(p.InitialInterval):
		return "invalid InitialInterval set on retry policy: " + durationFault(p.InitialInterval)
	case !nonNegative(p.MaximumInterval):
		return "invalid MaximumInterval set on retry policy: " + durationFault(p.MaximumInterval)
	case p.BackoffCoefficient != 0 && !(p.BackoffCoefficient >= 1):
		return "BackoffCoefficient cannot be less than 1 on retry policy."
	case p.MaximumInterval.AsDuration() > 0 && p.MaximumInterval.AsDuration() < p.InitialInterval.AsDuration():
		return "MaximumInterval cannot be less than InitialInterval on retry policy."
	case p.MaximumAttempts < 0:
		return "MaximumAttempts cannot be negative on retry policy."
	}
	for _, typ := range p.NonRetryableErrorTypes {
		if name, ok := strings.CutPrefix(typ, timeoutTypePrefix); ok {
			if _, err := enumspb.TimeoutTypeFromString(name); err != nil {
				return "Invalid timeout type value: " + cut(name, quotedMax) + "."
			}
		}
	}
	return ""
}

// truncateFailure cuts a failure down to about max bytes. What kind of failure it is, and that it must not be retried, stays;
// its causes, details and the end of its texts may go.
func truncateFailure(f *failurepb.Failure, limit int) *failurepb.Failure {
	if proto.Size(f) <= limit {
		return f
	}
	short := &failurepb.Failure{
		Message:    cut(f.Message, limit/2),
		Source:     cut(f.Source, limit/16),
		StackTrace: cut(f.StackTrace, limit/8),
	}
	switch info := f.FailureInfo.(type) {
	case *failurepb.Failure_ApplicationFailureInfo:
		short.FailureInfo = &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{
			Type: cut(info.ApplicationFailureInfo.Type, limit/16), NonRetryable: info.ApplicationFailureInfo.NonRetryable,
			NextRetryDelay: info.ApplicationFailureInfo.NextRetryDelay, Category: info.ApplicationFailureInfo.Category,
		}}
	case *failurepb.Failure_TimeoutFailureInfo:
		short.FailureInfo = &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{TimeoutType: info.TimeoutFailureInfo.TimeoutType}}
	default:
		short.FailureInfo = &failurepb.Failure_ServerFailureInfo{ServerFailureInfo: &failurepb.ServerFailureInfo{NonRetryable: nonRetryable(f, nil)}}
	}
	return short
}

// cut returns the beginning of a text, in whole characters.
func cut(s string, bytes int) string {
	if len(s) <= bytes {
		return s
	}
	for bytes > 0 && !utf8.RuneStart(s[bytes]) {
		bytes--
	}
	return s[:bytes]
}
