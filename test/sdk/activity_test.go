package sdk

import (
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var activityFeatures = group{"activity", map[string]func(*env){
	"retry":             activityRetry,
	"exhausted":         activityExhausted,
	"non-retryable":     activityNonRetryable,
	"next-delay":        activityNextDelay,
	"timeouts":          activityTimeouts,
	"heartbeat-details": activityHeartbeatDetails,
	"heartbeat-lost":    activityHeartbeatLost,
	"cancel-wait":       activityCancelWait,
	"cancel-no-wait":    activityCancelNoWait,
	"cancel-backoff":    activityCancelInBackoff,
	"info":              activityInfo,
	"panic":             activityPanic,
}}

// The third attempt succeeds; the history has one scheduled event, and a started one that tells of the last failure.
func activityRetry(e *env) {
	e.work(code{
		"flaky": func(ctx context.Context) (int32, error) {
			if attempt := activity.GetInfo(ctx).Attempt; attempt < 3 {
				return 0, errors.New("not yet")
			}
			return activity.GetInfo(ctx).Attempt, nil
		},
		"main": func(ctx workflow.Context) (attempts int32, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond},
			})
			err = workflow.ExecuteActivity(ctx, "flaky").Get(ctx, &attempts)
			return attempts, err
		},
	})
	run := e.start("main")
	require.EqualValues(e, 3, result[int32](e, run))
	h := e.history(run)
	h.one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
	started := h.one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED).GetActivityTaskStartedEventAttributes()
	require.EqualValues(e, 3, started.Attempt)
	require.Equal(e, "not yet", started.LastFailure.Message)
	h.one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
}

func activityExhausted(e *env) {
	e.work(code{
		"broken": func(ctx context.Context) error {
			return temporal.NewApplicationError("it is broken", "Broken", activity.GetInfo(ctx).Attempt)
		},
		"main": func(ctx workflow.Context) (int32, error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond, MaximumAttempts: 2},
			})
			err := workflow.ExecuteActivity(ctx, "broken").Get(ctx, nil)
			var failed *temporal.ActivityError
			var cause *temporal.ApplicationError
			if !errors.As(err, &failed) || !errors.As(err, &cause) || failed.RetryState() != enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED || cause.Type() != "Broken" {
				return 0, errors.Join(errors.New("not what was expected"), err)
			}
			var attempt int32
			return attempt, errors.Join(cause.Details(&attempt), check(attempt == 2, "the details are of attempt %d", attempt))
		},
	})
	e.done(e.start("main"))
}

func activityNonRetryable(e *env) {
	e.work(code{
		"declared": func() error { return temporal.NewApplicationError("no", "Declared") },
		"marked":   func() error { return temporal.NewNonRetryableApplicationError("never", "Marked", nil) },
		"main": func(ctx workflow.Context) (types []string, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{NonRetryableErrorTypes: []string{"Declared"}},
			})
			for _, name := range []string{"declared", "marked"} {
				err := workflow.ExecuteActivity(ctx, name).Get(ctx, nil)
				var failed *temporal.ActivityError
				var cause *temporal.ApplicationError
				if errors.As(err, &failed) && errors.As(err, &cause) && failed.RetryState() == enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE {
					types = append(types, cause.Type())
				}
			}
			return types, nil
		},
	})
	require.Equal(e, []string{"Declared", "Marked"}, result[[]string](e, e.start("main")))
}

// The failure names the delay of the next attempt, against the policy's hour.
func activityNextDelay(e *env) {
	e.work(code{
		"act": func(ctx context.Context) error {
			if activity.GetInfo(ctx).Attempt == 1 {
				return temporal.NewApplicationErrorWithOptions("soon", "Soon", temporal.ApplicationErrorOptions{NextRetryDelay: 10 * time.Millisecond})
			}
			return nil
		},
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: long},
			})
			return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
		},
	})
	e.done(e.start("main"))
}

func activityTimeouts(e *env) {
	nobody := e.unique()
	e.work(code{
		"hang": func(ctx context.Context) error {
			activity.RecordHeartbeat(ctx, "alive")
			<-ctx.Done()
			return ctx.Err()
		},
		"main": func(ctx workflow.Context) (types []string, err error) {
			once := &temporal.RetryPolicy{MaximumAttempts: 1}
			futures := []workflow.Future{}
			for _, o := range []workflow.ActivityOptions{
				{TaskQueue: nobody, ScheduleToStartTimeout: time.Second, StartToCloseTimeout: time.Minute},
				{StartToCloseTimeout: time.Second, RetryPolicy: once},
				{ScheduleToCloseTimeout: time.Second},
				{StartToCloseTimeout: time.Minute, HeartbeatTimeout: 3 * time.Second, RetryPolicy: once},
			} {
				futures = append(futures, workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), "hang"))
			}
			for _, f := range futures {
				err := f.Get(ctx, nil)
				var timeout *temporal.TimeoutError
				if !errors.As(err, &timeout) {
					return nil, errors.Join(errors.New("no timeout"), err)
				}
				types = append(types, timeout.TimeoutType().String())
				var details string
				if timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_HEARTBEAT && (timeout.LastHeartbeatDetails(&details) != nil || details != "alive") {
					return nil, errors.New("the heartbeat timeout lost the details")
				}
			}
			return types, nil
		},
	})
	run := e.start("main")
	require.Equal(e, []string{"ScheduleToStart", "StartToClose", "ScheduleToClose", "Heartbeat"}, result[[]string](e, run))
	require.Equal(e, 4, e.history(run).count(enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT))
}

// An attempt that fails leaves its heartbeat details to the next one.
func activityHeartbeatDetails(e *env) {
	e.work(code{
		"count": func(ctx context.Context) (n int, err error) {
			if activity.HasHeartbeatDetails(ctx) {
				if err := activity.GetHeartbeatDetails(ctx, &n); err != nil {
					return 0, err
				}
			}
			n++
			activity.RecordHeartbeat(ctx, n)
			if n < 4 {
				return 0, errors.New("again")
			}
			return n, nil
		},
		"main": func(ctx workflow.Context) (n int, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond},
			})
			err = workflow.ExecuteActivity(ctx, "count").Get(ctx, &n)
			return n, err
		},
	})
	require.Equal(e, 4, result[int](e, e.start("main")))
}

// The first attempt's heart stops; the second one goes on from its details.
func activityHeartbeatLost(e *env) {
	e.work(code{
		"act": func(ctx context.Context) (n int, err error) {
			if !activity.HasHeartbeatDetails(ctx) {
				activity.RecordHeartbeat(ctx, 41)
				<-ctx.Done()
				return 0, ctx.Err()
			}
			err = activity.GetHeartbeatDetails(ctx, &n)
			return n + 1, err
		},
		"main": func(ctx workflow.Context) (n int, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, HeartbeatTimeout: 3 * time.Second, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond},
			})
			err = workflow.ExecuteActivity(ctx, "act").Get(ctx, &n)
			return n, err
		},
	})
	run := e.start("main")
	require.Equal(e, 42, result[int](e, run))
	started := e.history(run).one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED).GetActivityTaskStartedEventAttributes()
	require.EqualValues(e, 2, started.Attempt)
	require.Equal(e, enumspb.TIMEOUT_TYPE_HEARTBEAT, started.LastFailure.GetTimeoutFailureInfo().GetTimeoutType())
}

// beatUntilCancelled is what an activity does that can be cancelled.
func beatUntilCancelled(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}

func cancelActivity(ctx workflow.Context, wait bool) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: 20 * time.Second, WaitForCancellation: wait,
	})
	cancellable, cancel := workflow.WithCancel(ctx)
	future := workflow.ExecuteActivity(cancellable, "act")
	workflow.GetSignalChannel(ctx, "cancel").Receive(ctx, nil)
	cancel()
	return future.Get(ctx, nil)
}

func activityCancelWait(e *env) {
	running := make(chan bool, 1)
	e.work(code{
		"act": func(ctx context.Context) error {
			running <- true
			beatUntilCancelled(ctx)
			return temporal.NewCanceledError("cleaned up")
		},
		"main": func(ctx workflow.Context) (string, error) {
			err := cancelActivity(ctx, true)
			var cancelled *temporal.CanceledError
			var details string
			if !errors.As(err, &cancelled) || !cancelled.HasDetails() {
				return "", errors.Join(errors.New("no cancellation with details"), err)
			}
			return details, errors.Join(cancelled.Details(&details), check(details == "cleaned up", "details %q", details))
		},
	})
	run := e.start("main")
	receive(e, running)
	e.signal(run, "cancel", nil)
	e.done(run)
	h := e.history(run)
	h.one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED)
	h.one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED)
}

func activityCancelNoWait(e *env) {
	running, release := make(chan bool, 1), make(chan bool)
	defer close(release)
	e.work(code{
		"act": func(ctx context.Context) error {
			running <- true
			<-release // it does not listen
			return nil
		},
		"main": func(ctx workflow.Context) error {
			if err := cancelActivity(ctx, false); !temporal.IsCanceledError(err) {
				return errors.Join(errors.New("the future is not cancelled at once"), err)
			}
			return nil
		},
	})
	run := e.start("main")
	receive(e, running)
	e.signal(run, "cancel", nil)
	e.done(run)
	e.history(run).one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED)
}

// An activity that waits for its next attempt is cancelled by the server, at once.
func activityCancelInBackoff(e *env) {
	e.work(code{
		"act": func(ctx context.Context) error { return errors.New("later") },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, WaitForCancellation: true, RetryPolicy: &temporal.RetryPolicy{InitialInterval: long},
			})
			cancellable, cancel := workflow.WithCancel(ctx)
			future := workflow.ExecuteActivity(cancellable, "act")
			workflow.GetSignalChannel(ctx, "cancel").Receive(ctx, nil)
			cancel()
			if err := future.Get(ctx, nil); !temporal.IsCanceledError(err) {
				return errors.Join(errors.New("not cancelled"), err)
			}
			return nil
		},
	})
	run := e.start("main")
	e.eventually("the activity is in its backoff", func() bool {
		d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), "")
		return err == nil && len(d.PendingActivities) == 1 && d.PendingActivities[0].Attempt == 2 &&
			d.PendingActivities[0].LastFailure.GetMessage() == "later"
	})
	e.signal(run, "cancel", nil)
	e.done(run)
	e.history(run).one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED)
}

// What the worker tells the activity about itself is what the workflow asked for.
func activityInfo(e *env) {
	type facts struct {
		ID, Type, Workflow, Queue, Namespace string
		Heartbeat                            time.Duration
		Deadline                             time.Duration
	}
	e.work(code{
		"act": func(ctx context.Context) (facts, error) {
			info := activity.GetInfo(ctx)
			return facts{
				info.ActivityID, info.ActivityType.Name, info.WorkflowExecution.ID, info.TaskQueue, info.Namespace, info.HeartbeatTimeout,
				time.Until(info.Deadline).Round(time.Minute),
			}, nil
		},
		"main": func(ctx workflow.Context) (f facts, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				ActivityID: "the-id", StartToCloseTimeout: time.Minute, ScheduleToCloseTimeout: long, HeartbeatTimeout: 30 * time.Second,
			})
			err = workflow.ExecuteActivity(ctx, "act").Get(ctx, &f)
			return f, err
		},
	})
	run := e.start("main")
	require.Equal(e, facts{"the-id", "act", run.GetID(), e.queue, "default", 30 * time.Second, time.Minute}, result[facts](e, run))
}

func activityPanic(e *env) {
	e.work(code{
		"act": func(ctx context.Context) error { panic("oh no") },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
			})
			err := workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
			return check(temporal.IsPanicError(err) || errors.As(err, new(*temporal.PanicError)), "got %v", err)
		},
	})
	e.done(e.start("main"))
}
