package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var asyncFeatures = group{"async", map[string]func(*env){
	"by-token":        asyncByToken,
	"by-id":           asyncByID,
	"fail-by-token":   asyncFailByToken,
	"heartbeat-by-id": asyncHeartbeatByID,
	"cancel-by-token": asyncCancelByToken,
}}

// check is an error unless a condition holds: for workflows, which have no test to fail.
func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// pending runs a workflow whose activity is left to the test, and returns the activity's task token.
func (e *env) pending(o workflow.ActivityOptions) (workflowID string, token []byte, wait func() (string, error)) {
	tokens := make(chan []byte, 10)
	e.work(code{
		"act": func(ctx context.Context) (string, error) {
			tokens <- activity.GetInfo(ctx).TaskToken
			return "", activity.ErrResultPending
		},
		"main": func(ctx workflow.Context) (s string, err error) {
			ctx = workflow.WithActivityOptions(ctx, o)
			cancellable, cancel := workflow.WithCancel(ctx)
			workflow.Go(ctx, func(ctx workflow.Context) {
				workflow.GetSignalChannel(ctx, "cancel").Receive(ctx, nil)
				cancel()
			})
			err = workflow.ExecuteActivity(cancellable, "act").Get(ctx, &s)
			return s, err
		},
	})
	run := e.start("main")
	return run.GetID(), receive(e, tokens), func() (s string, err error) {
		err = run.Get(e.ctx, &s)
		return s, err
	}
}

var aMinute = workflow.ActivityOptions{ActivityID: "act-1", StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}}

func asyncByToken(e *env) {
	_, token, wait := e.pending(aMinute)
	require.NoError(e, e.c.CompleteActivity(e.ctx, token, "by token", nil))
	s, err := wait()
	require.NoError(e, err)
	require.Equal(e, "by token", s)
	var notFound *serviceerror.NotFound
	require.ErrorAs(e, e.c.CompleteActivity(e.ctx, token, "twice", nil), &notFound)
}

func asyncByID(e *env) {
	id, _, wait := e.pending(aMinute)
	var notFound *serviceerror.NotFound
	require.ErrorAs(e, e.c.CompleteActivityByID(e.ctx, "default", id, "", "act-2", "?", nil), &notFound)
	require.NoError(e, e.c.CompleteActivityByID(e.ctx, "default", id, "", "act-1", "by id", nil))
	s, err := wait()
	require.NoError(e, err)
	require.Equal(e, "by id", s)
}

func asyncFailByToken(e *env) {
	_, token, wait := e.pending(aMinute)
	require.NoError(e, e.c.CompleteActivity(e.ctx, token, nil, temporal.NewApplicationError("from outside", "Outside")))
	_, err := wait()
	var cause *temporal.ApplicationError
	require.ErrorAs(e, err, &cause)
	require.Equal(e, "Outside", cause.Type())
}

// Heartbeats from outside keep an activity alive longer than its heartbeat timeout, and show in describe.
func asyncHeartbeatByID(e *env) {
	o := aMinute
	o.HeartbeatTimeout = 2 * time.Second
	id, token, wait := e.pending(o)
	deadline := time.Now().Add(3 * time.Second)
	for n := 0; time.Now().Before(deadline); n++ {
		require.NoError(e, e.c.RecordActivityHeartbeatByID(e.ctx, "default", id, "", "act-1", n))
		e.eventually("the heartbeat is seen", func() bool {
			d, err := e.c.DescribeWorkflowExecution(e.ctx, id, "")
			return err == nil && len(d.PendingActivities) == 1 && string(d.PendingActivities[0].HeartbeatDetails.GetPayloads()[0].Data) == fmt.Sprint(n)
		})
	}
	require.NoError(e, e.c.RecordActivityHeartbeat(e.ctx, token, "last"))
	require.NoError(e, e.c.CompleteActivity(e.ctx, token, "alive", nil))
	s, err := wait()
	require.NoError(e, err)
	require.Equal(e, "alive", s)
}

func asyncCancelByToken(e *env) {
	o := aMinute
	o.WaitForCancellation = true
	id, token, wait := e.pending(o)
	require.NoError(e, e.c.SignalWorkflow(e.ctx, id, "", "cancel", nil))
	e.awaitEvents(e.c.GetWorkflow(e.ctx, id, ""), enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED, 1)
	var cancelled *temporal.CanceledError
	require.ErrorAs(e, e.c.RecordActivityHeartbeat(e.ctx, token, nil), &cancelled, "a heartbeat tells of the cancellation")
	require.NoError(e, e.c.CompleteActivity(e.ctx, token, nil, temporal.NewCanceledError()))
	_, err := wait()
	require.True(e, errors.As(err, &cancelled), "got %v", err)
}
