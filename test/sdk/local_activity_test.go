package sdk

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var localActivityFeatures = group{"local-activity", map[string]func(*env){
	"result":             localResult,
	"retry":              localRetry,
	"long-backoff":       localLongBackoff,
	"longer-than-a-task": localLongerThanTask,
	"cancel":             localCancel,
}}

func localResult(e *env) {
	e.work(code{
		"double": func(ctx context.Context, n int) (int, error) {
			return 2 * n, check(activity.GetInfo(ctx).IsLocalActivity, "not local")
		},
		"main": func(ctx workflow.Context) (n int, err error) {
			ctx = withLocalActivity(ctx)
			n = 1
			for range 5 {
				if err := workflow.ExecuteLocalActivity(ctx, "double", n).Get(ctx, &n); err != nil {
					return 0, err
				}
			}
			return n, nil
		},
	})
	run := e.start("main")
	require.Equal(e, 32, result[int](e, run))
	h := e.history(run)
	require.Equal(e, 5, h.count(enumspb.EVENT_TYPE_MARKER_RECORDED))
	require.Zero(e, h.count(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED))
	require.Equal(e, 1, h.count(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED))
}

func localRetry(e *env) {
	e.work(code{
		"flaky": func(ctx context.Context) (int32, error) {
			return activity.GetInfo(ctx).Attempt, check(activity.GetInfo(ctx).Attempt == 3, "not yet")
		},
		"main": func(ctx workflow.Context) (attempt int32, err error) {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond},
			})
			err = workflow.ExecuteLocalActivity(ctx, "flaky").Get(ctx, &attempt)
			return attempt, err
		},
	})
	require.EqualValues(e, 3, result[int32](e, e.start("main")))
}

// A backoff that is longer than the task becomes a timer of the workflow.
func localLongBackoff(e *env) {
	e.work(code{
		"flaky": func(ctx context.Context) error { return check(activity.GetInfo(ctx).Attempt == 2, "not yet") },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 2 * time.Second, MaximumAttempts: 2},
			})
			return workflow.ExecuteLocalActivity(ctx, "flaky").Get(ctx, nil)
		},
	})
	o := e.options()
	o.WorkflowTaskTimeout = time.Second
	run := e.startWith(o, "main")
	e.done(run)
	h := e.history(run)
	h.one(e, enumspb.EVENT_TYPE_TIMER_STARTED)
	h.one(e, enumspb.EVENT_TYPE_TIMER_FIRED)
}

// The worker keeps its task by heartbeats while a local activity runs on, and the activity runs once.
func localLongerThanTask(e *env) {
	var runs atomic.Int32
	release := make(chan bool)
	e.work(code{
		"slow": func(ctx context.Context) error {
			runs.Add(1)
			select {
			case <-release:
			case <-ctx.Done():
			}
			return ctx.Err()
		},
		"main": func(ctx workflow.Context) error {
			ctx = withLocalActivity(ctx)
			return workflow.ExecuteLocalActivity(ctx, "slow").Get(ctx, nil)
		},
	})
	o := e.options()
	o.WorkflowTaskTimeout = taskTimeout
	run := e.startWith(o, "main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 2)
	close(release)
	e.done(run)
	require.EqualValues(e, 1, runs.Load())
	h := e.history(run)
	require.Zero(e, h.count(enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT))
	require.Zero(e, h.count(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED))
	h.one(e, enumspb.EVENT_TYPE_MARKER_RECORDED)
}

// A cancellation reaches the worker with the next heartbeat of its task.
func localCancel(e *env) {
	running := make(chan bool, 10)
	e.work(code{
		"slow": func(ctx context.Context) error {
			running <- true
			<-ctx.Done()
			return ctx.Err()
		},
		"main": func(ctx workflow.Context) error {
			return workflow.ExecuteLocalActivity(withLocalActivity(ctx), "slow").Get(ctx, nil)
		},
	})
	o := e.options()
	o.WorkflowTaskTimeout = time.Second
	run := e.startWith(o, "main")
	receive(e, running)
	require.NoError(e, e.c.CancelWorkflow(e.ctx, run.GetID(), ""))
	err := e.failure(run)
	require.True(e, errors.As(err, new(*temporal.CanceledError)), "got %v", err)
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED, e.status(run))
}
