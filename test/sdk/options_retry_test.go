package sdk

import (
	"errors"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var retryOptions = map[string]option{
	"InitialInterval": runs(func(e *env) {
		e.awaitBackoff(temporal.RetryPolicy{InitialInterval: long}, 2, long)
	}),
	"BackoffCoefficient": runs(func(e *env) {
		e.awaitBackoff(temporal.RetryPolicy{InitialInterval: 20 * time.Millisecond, BackoffCoefficient: 5000, MaximumInterval: long}, 3, 100*time.Second)
	}),
	"MaximumInterval": runs(func(e *env) {
		e.awaitBackoff(temporal.RetryPolicy{InitialInterval: 20 * time.Millisecond, BackoffCoefficient: 1e6, MaximumInterval: 30 * time.Minute}, 3, 30*time.Minute)
	}),
	"MaximumAttempts":        runs(activityExhausted),
	"NonRetryableErrorTypes": runs(activityNonRetryable),
}

// awaitBackoff runs an activity that always fails until it waits for that attempt, and so long.
func (e *env) awaitBackoff(policy temporal.RetryPolicy, attempt int32, interval time.Duration) {
	e.Helper()
	e.work(code{
		"act": func() error { return errors.New("no") },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: &policy})
			return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
		},
	})
	run := e.start("main")
	e.eventually("the activity waits for its next attempt", func() bool {
		d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), "")
		require.NoError(e, err)
		if len(d.PendingActivities) != 1 || d.PendingActivities[0].Attempt < attempt {
			return false
		}
		a := d.PendingActivities[0]
		require.Equal(e, attempt, a.Attempt)
		require.Equal(e, interval, a.CurrentRetryInterval.AsDuration())
		return true
	})
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough"))
}
