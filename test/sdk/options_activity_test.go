package sdk

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var activityOptions = map[string]option{
	"TaskQueue":              runs(activityTaskQueue),
	"ScheduleToCloseTimeout": runs(activityScheduleToClose),
	"ScheduleToStartTimeout": runs(activityTimeouts),
	"StartToCloseTimeout":    runs(activityTimeouts),
	"HeartbeatTimeout":       runs(activityTimeouts),
	"WaitForCancellation":    runs(activityCancelWait),
	"ActivityID":             runs(activityInfo),
	"RetryPolicy":            runs(activityExhausted),
	"DisableEagerExecution":  runs(activityDisableEager),
	"VersioningIntent":       runs(activityVersioningIntent),
	"Summary":                runs(activitySummary),
	"Priority":               runs(activityPriority),
}

func activityTaskQueue(e *env) {
	other := e.unique()
	e.workWith(e.c, other, worker.Options{}, code{"act": func(ctx context.Context) (string, error) { return activity.GetInfo(ctx).TaskQueue, nil }})
	e.work(code{"main": func(ctx workflow.Context) (queue string, err error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: other, StartToCloseTimeout: time.Minute})
		err = workflow.ExecuteActivity(ctx, "act").Get(ctx, &queue)
		return queue, err
	}})
	require.Equal(e, other, result[string](e, e.start("main")))
}

// The timeout ends the retries of an activity that would fail for ever.
func activityScheduleToClose(e *env) {
	var attempts atomic.Int32
	e.work(code{
		"act": func() error {
			attempts.Add(1)
			return errors.New("no")
		},
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				ScheduleToCloseTimeout: time.Second, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 1},
			})
			err := workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
			var failed *temporal.ActivityError
			if !errors.As(err, &failed) {
				return errors.Join(errors.New("the activity did not fail"), err)
			}
			return check(failed.RetryState() == enumspb.RETRY_STATE_TIMEOUT, "retry state %s", failed.RetryState())
		},
	})
	e.done(e.start("main"))
	require.Greater(e, attempts.Load(), int32(1))
}

func activityDisableEager(e *env) {
	asked, got := e.eagerRun(worker.Options{}, 2, workflow.ActivityOptions{DisableEagerExecution: true})
	require.Zero(e, asked)
	require.Zero(e, got)
}

func activitySummary(e *env) {
	e.work(code{
		"act": func() error { return nil },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, Summary: "what it does"})
			return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
		},
	})
	run := e.start("main")
	e.done(run)
	scheduled := e.history(run).one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
	require.JSONEq(e, `"what it does"`, string(scheduled.GetUserMetadata().GetSummary().GetData()))
}

// Of the activities that wait, the one with the highest priority is started first.
func activityPriority(e *env) {
	other := e.unique()
	e.work(code{"main": func(ctx workflow.Context) error {
		var futures []workflow.Future
		for _, key := range []int{4, 5, 2} {
			ctx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
				TaskQueue: other, StartToCloseTimeout: time.Minute, Priority: temporal.Priority{PriorityKey: key},
			})
			futures = append(futures, workflow.ExecuteActivity(ctx, "act"))
		}
		for _, f := range futures {
			if err := f.Get(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	}})
	run := e.start("main")
	e.awaitBacklog(other, enumspb.TASK_QUEUE_TYPE_ACTIVITY, 2, 4, 5)
	var order []int32
	for range 3 {
		task, err := e.c.WorkflowService().PollActivityTaskQueue(e.ctx, &workflowservice.PollActivityTaskQueueRequest{
			Namespace: "default", Identity: "test", TaskQueue: &taskqueuepb.TaskQueue{Name: other, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		})
		require.NoError(e, err)
		order = append(order, task.GetPriority().GetPriorityKey())
		require.NoError(e, e.c.CompleteActivity(e.ctx, task.TaskToken, nil, nil))
	}
	require.Equal(e, []int32{2, 4, 5}, order)
	e.done(run)
}

var localActivityOptions = map[string]option{
	"ScheduleToCloseTimeout": runs(localScheduleToClose),
	"StartToCloseTimeout":    runs(localStartToClose),
	"RetryPolicy":            runs(localRetry),
	"Summary":                runs(localSummary),
}

func localScheduleToClose(e *env) {
	e.work(code{
		"act": func() error { return errors.New("no") },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
				ScheduleToCloseTimeout: 500 * time.Millisecond, RetryPolicy: &temporal.RetryPolicy{InitialInterval: 20 * time.Millisecond, BackoffCoefficient: 1},
			})
			return check(workflow.ExecuteLocalActivity(ctx, "act").Get(ctx, nil) != nil, "it cannot have succeeded")
		},
	})
	e.done(e.start("main"))
}

func localStartToClose(e *env) {
	e.work(code{
		"hang": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
				StartToCloseTimeout: 100 * time.Millisecond, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
			})
			err := workflow.ExecuteLocalActivity(ctx, "hang").Get(ctx, nil)
			return check(errors.As(err, new(*temporal.TimeoutError)), "got %v", err)
		},
	})
	e.done(e.start("main"))
}

func localSummary(e *env) {
	e.work(code{
		"act": func() error { return nil },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute, Summary: "what it does"})
			return workflow.ExecuteLocalActivity(ctx, "act").Get(ctx, nil)
		},
	})
	run := e.start("main")
	e.done(run)
	marker := e.history(run).one(e, enumspb.EVENT_TYPE_MARKER_RECORDED)
	require.JSONEq(e, `"what it does"`, string(marker.GetUserMetadata().GetSummary().GetData()))
}
