package workflow

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// startedTask makes a run whose first workflow task is started.
func startedTask(t *testing.T) (*State, *tokenpb.Task) {
	tx := Open(Opening{RunID: "run", Attributes: StartAttributes(&workflowservice.StartWorkflowExecutionRequest{WorkflowId: "w"})}, scriptEpoch, Env{})
	s := applied(t, tx)
	tx = Begin(s, scriptEpoch, Env{})
	task, err := tx.StartTask(TaskStart{EffectID: s.Task().EffectId, StartID: "start"})
	require.NoError(t, err)
	return applied(t, tx), &tokenpb.Task{ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId, Attempt: 1, StartId: "start"}
}

func applied(t *testing.T, tx *Tx) *State {
	_, err := tx.Finish()
	require.NoError(t, err)
	return tx.Apply()
}

func scheduleMany(n int) *workflowservice.RespondWorkflowTaskCompletedRequest {
	req := &workflowservice.RespondWorkflowTaskCompletedRequest{}
	for i := range n {
		req.Commands = append(req.Commands, activityCommand(parseInput(fmt.Sprintf("activity a%d start=1s", i))))
	}
	return req
}

func TestPendingActivitiesLimit(t *testing.T) {
	s, token := startedTask(t)
	tx := Begin(s, scriptEpoch, Env{})
	c, err := tx.CompleteTask(token, scheduleMany(pendingActivitiesMax+1))
	require.NoError(t, err)
	require.ErrorContains(t, c.Err, enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_ACTIVITIES_LIMIT_EXCEEDED.String())

	tx = Begin(s, scriptEpoch, Env{})
	c, err = tx.CompleteTask(token, scheduleMany(pendingActivitiesMax))
	require.NoError(t, err)
	require.NoError(t, c.Err)
	s = applied(t, tx)
	require.Len(t, s.Activities, pendingActivitiesMax)
	require.Len(t, s.PendingEffects(), pendingActivitiesMax)

	// All of them time out at once, in order.
	tx = Begin(s, scriptEpoch.Add(time.Second), Env{})
	require.NoError(t, tx.Fire())
	r, err := tx.Finish()
	require.NoError(t, err)
	require.Len(t, r.Events, pendingActivitiesMax+1)
	for i, e := range r.Events[:pendingActivitiesMax] {
		require.EqualValues(t, 5+i, e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId())
	}
	require.Empty(t, tx.Apply().Activities)
}

func TestRetryInterval(t *testing.T) {
	policy := &commonpb.RetryPolicy{InitialInterval: durationpb.New(time.Second), BackoffCoefficient: 2, MaximumInterval: durationpb.New(10 * time.Second)}
	for attempt, want := range map[int32]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second, math.MaxInt32: 10 * time.Second} {
		require.Equal(t, want, retryInterval(policy, attempt), "attempt %d", attempt)
	}
	policy.MaximumInterval = nil
	require.Equal(t, durationMax, retryInterval(policy, 1000))
}

func TestCompleteRetryPolicy(t *testing.T) {
	given := &commonpb.RetryPolicy{InitialInterval: durationpb.New(3 * time.Second), MaximumAttempts: 2}
	require.True(t, proto.Equal(&commonpb.RetryPolicy{
		InitialInterval: durationpb.New(3 * time.Second), BackoffCoefficient: 2, MaximumInterval: durationpb.New(300 * time.Second), MaximumAttempts: 2,
	}, completeRetryPolicy(given)))
	require.Nil(t, given.MaximumInterval, "the policy that was given has been changed")
	endless := completeRetryPolicy(&commonpb.RetryPolicy{InitialInterval: durationpb.New(durationMax)})
	require.Equal(t, durationMax, endless.MaximumInterval.AsDuration())
}

func TestCheckRetryPolicy(t *testing.T) {
	good := func() *commonpb.RetryPolicy {
		return &commonpb.RetryPolicy{InitialInterval: durationpb.New(time.Second), BackoffCoefficient: 1, MaximumInterval: durationpb.New(time.Minute)}
	}
	for name, change := range map[string]func(*commonpb.RetryPolicy){
		"invalid InitialInterval set on retry policy: negative duration":       func(p *commonpb.RetryPolicy) { p.InitialInterval = durationpb.New(-1) },
		"invalid MaximumInterval set on retry policy: negative duration":       func(p *commonpb.RetryPolicy) { p.MaximumInterval = durationpb.New(-1) },
		"MaximumInterval cannot be less than InitialInterval on retry policy.": func(p *commonpb.RetryPolicy) { p.MaximumInterval = durationpb.New(time.Millisecond) },
		"BackoffCoefficient cannot be less than 1 on retry policy.":            func(p *commonpb.RetryPolicy) { p.BackoffCoefficient = math.NaN() },
		"MaximumAttempts cannot be negative on retry policy.":                  func(p *commonpb.RetryPolicy) { p.MaximumAttempts = -1 },
		"Invalid timeout type value: Never.":                                   func(p *commonpb.RetryPolicy) { p.NonRetryableErrorTypes = []string{"TemporalTimeout:Never"} },
	} {
		p := good()
		require.Empty(t, checkRetryPolicy(p))
		change(p)
		require.Equal(t, name, checkRetryPolicy(p))
		p.MaximumAttempts = 1
		require.Empty(t, checkRetryPolicy(p), "one attempt only: nothing of it is used")
	}
	require.Empty(t, checkRetryPolicy(nil))
	p := good()
	p.NonRetryableErrorTypes = []string{"Mine", "TemporalTimeout:Heartbeat"}
	require.Empty(t, checkRetryPolicy(p))
}

func TestTruncateFailure(t *testing.T) {
	long := strings.Repeat("ü", 5000)
	application := &failurepb.Failure{
		Message: "x" + long, Source: long, StackTrace: long, Cause: &failurepb.Failure{Message: long},
		EncodedAttributes: &commonpb.Payload{Data: []byte(long)},
		FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{
			Type: "Type", NonRetryable: true, Details: ofSize(5000), NextRetryDelay: durationpb.New(time.Second),
		}},
	}
	timeout := proto.CloneOf(application)
	timeout.FailureInfo = &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{
		TimeoutType: enumspb.TIMEOUT_TYPE_HEARTBEAT, LastHeartbeatDetails: ofSize(5000),
	}}
	other := proto.CloneOf(application)
	other.FailureInfo = &failurepb.Failure_ActivityFailureInfo{ActivityFailureInfo: &failurepb.ActivityFailureInfo{ActivityId: long}}
	for _, f := range []*failurepb.Failure{application, timeout, other} {
		before := proto.CloneOf(f)
		short := truncateFailure(f, lastFailureMax)
		require.LessOrEqual(t, proto.Size(short), lastFailureMax)
		require.True(t, utf8.ValidString(short.Message) && strings.HasPrefix(f.Message, short.Message) && len(short.Message) > 1000)
		require.True(t, proto.Equal(before, f), "the failure that was given has been changed")
		_, err := proto.Marshal(short)
		require.NoError(t, err)
	}
	short := truncateFailure(application, lastFailureMax)
	require.True(t, nonRetryable(short, nil))
	require.Equal(t, "Type", short.GetApplicationFailureInfo().GetType())
	require.Equal(t, enumspb.TIMEOUT_TYPE_HEARTBEAT, truncateFailure(timeout, lastFailureMax).GetTimeoutFailureInfo().GetTimeoutType())

	fits := &failurepb.Failure{Message: "short"}
	require.Same(t, fits, truncateFailure(fits, lastFailureMax))
}

func TestActivityAttributes(t *testing.T) {
	long := strings.Repeat("x", idLengthMax+1)
	for want, change := range map[string]func(*commandpb.ScheduleActivityTaskCommandAttributes){
		"activityId exceeds length limit. Length=1001 Limit=1000":   func(a *commandpb.ScheduleActivityTaskCommandAttributes) { a.ActivityId = long },
		"activityType exceeds length limit. Length=1001 Limit=1000": func(a *commandpb.ScheduleActivityTaskCommandAttributes) { a.ActivityType.Name = long },
		"activityType is not set":                                   func(a *commandpb.ScheduleActivityTaskCommandAttributes) { a.ActivityType = nil },
		"taskQueue length exceeds limit":                            func(a *commandpb.ScheduleActivityTaskCommandAttributes) { a.TaskQueue.Name = long },
		"taskQueue is not set":                                      func(a *commandpb.ScheduleActivityTaskCommandAttributes) { a.TaskQueue = nil },
		"invalid ScheduleToCloseTimeout: negative duration": func(a *commandpb.ScheduleActivityTaskCommandAttributes) {
			a.ScheduleToCloseTimeout = durationpb.New(-1)
		},
		"invalid ScheduleToStartTimeout: negative duration": func(a *commandpb.ScheduleActivityTaskCommandAttributes) {
			a.ScheduleToStartTimeout = durationpb.New(-1)
		},
		"invalid HeartbeatTimeout: negative duration": func(a *commandpb.ScheduleActivityTaskCommandAttributes) { a.HeartbeatTimeout = durationpb.New(-1) },
		"invalid priorities: fairness key length exceeds limit": func(a *commandpb.ScheduleActivityTaskCommandAttributes) {
			a.Priority = &commonpb.Priority{FairnessKey: long}
		},
		"invalid StartToCloseTimeout: invalid duration": func(a *commandpb.ScheduleActivityTaskCommandAttributes) {
			a.StartToCloseTimeout = &durationpb.Duration{Nanos: -1, Seconds: 1}
		},
	} {
		a := activityCommand(parseInput("activity a")).GetScheduleActivityTaskCommandAttributes()
		require.Empty(t, activityFault(a))
		change(a)
		require.Contains(t, activityFault(a), want)
	}
}

// A worker must see what it was offered: the suggestion to continue as new comes with the history's length.
func TestSuggestContinueAsNew(t *testing.T) {
	s, token := startedTask(t)
	req := &workflowservice.RespondWorkflowTaskCompletedRequest{ForceCreateNewWorkflowTask: true, ReturnNewWorkflowTask: true}
	for range suggestEvents {
		req.Commands = append(req.Commands, markerCommand(parseInput("marker m")))
	}
	tx := Begin(s, scriptEpoch, Env{})
	_, err := tx.CompleteTask(token, req)
	require.NoError(t, err)
	r, err := tx.Finish()
	require.NoError(t, err)
	require.True(t, r.InlineTask.SuggestContinueAsNew)
	require.Equal(t, []enumspb.SuggestContinueAsNewReason{enumspb.SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_HISTORY_EVENTS}, r.InlineTask.SuggestReasons)
	offered, _ := tx.Apply().ProvisionalEvents(true)
	require.Equal(t, r.InlineTask.HistorySizeBytes, offered[0].GetWorkflowTaskStartedEventAttributes().HistorySizeBytes)
	require.True(t, offered[0].GetWorkflowTaskStartedEventAttributes().SuggestContinueAsNew)
}

func TestFailuresThatAreNotRetried(t *testing.T) {
	timeout := func(typ enumspb.TimeoutType) *failurepb.Failure {
		return &failurepb.Failure{FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{TimeoutType: typ}}}
	}
	never := map[string]*failurepb.Failure{
		"canceled":          {FailureInfo: &failurepb.Failure_CanceledFailureInfo{CanceledFailureInfo: &failurepb.CanceledFailureInfo{}}},
		"terminated":        {FailureInfo: &failurepb.Failure_TerminatedFailureInfo{TerminatedFailureInfo: &failurepb.TerminatedFailureInfo{}}},
		"schedule to close": timeout(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
		"schedule to start": timeout(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START),
		"final":             {FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{NonRetryable: true}}},
	}
	for name, failure := range never {
		require.True(t, nonRetryable(failure, nil), name)
	}
	again := map[string]*failurepb.Failure{
		"no info":        {Message: "oops"},
		"start to close": timeout(enumspb.TIMEOUT_TYPE_START_TO_CLOSE),
		"heartbeat":      timeout(enumspb.TIMEOUT_TYPE_HEARTBEAT),
		"of an activity": {FailureInfo: &failurepb.Failure_ActivityFailureInfo{ActivityFailureInfo: &failurepb.ActivityFailureInfo{}}, Cause: never["final"]},
	}
	for name, failure := range again {
		require.False(t, nonRetryable(failure, []string{"Other"}), name)
	}
	require.True(t, nonRetryable(again["heartbeat"], []string{"TemporalTimeout:Heartbeat"}))
}
