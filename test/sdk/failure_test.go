package sdk

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var failureFeatures = group{"failure", map[string]func(*env){
	"workflow":        failureWorkflow,
	"panic-then-fix":  failurePanicThenFix,
	"non-determinism": failureNonDeterminism,
	"restart":         failureRestart,
	"unregistered":    failureUnregistered,
	"sticky":          failureSticky,
}}

// taskTimeout is how long it takes to try a task again whose failure the worker does not report, which are all but the first. It is
// long enough for a busy machine to answer in time.
const taskTimeout = 4 * time.Second

func failureWorkflow(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error {
		return temporal.NewApplicationErrorWithCause("outer", "Outer", errors.New("inner"), "detail", 7)
	}})
	run := e.start("main")
	err := e.failure(run)
	var failed *temporal.WorkflowExecutionError
	var cause *temporal.ApplicationError
	require.ErrorAs(e, err, &failed)
	require.ErrorAs(e, err, &cause)
	require.Equal(e, "Outer", cause.Type())
	require.ErrorContains(e, cause.Unwrap(), "inner")
	var s string
	var n int
	require.NoError(e, cause.Details(&s, &n))
	require.Equal(e, "detail", s)
	require.Equal(e, 7, n)
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, e.status(run))
}

// A panic fails the task, not the workflow, which goes on when the code is mended.
func failurePanicThenFix(e *env) {
	var mended atomic.Bool
	e.work(code{"main": func(ctx workflow.Context) (string, error) {
		if !mended.Load() {
			panic("a mistake")
		}
		return "mended", nil
	}})
	o := e.options()
	o.WorkflowTaskTimeout = taskTimeout
	run := e.startWith(o, "main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, 1)
	failed := e.history(run).all(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)[0].GetWorkflowTaskFailedEventAttributes()
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE, failed.Cause)
	require.Contains(e, failed.Failure.GetMessage(), "a mistake")
	e.eventually("the task is tried again", func() bool {
		d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), "")
		return err == nil && d.PendingWorkflowTask.GetAttempt() >= 2
	})
	mended.Store(true)
	require.Equal(e, "mended", result[string](e, run))
	require.Equal(e, 1, e.history(run).count(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED), "only the first failure is recorded")
}

// Code that does not fit the history fails the task; the code that does goes on.
func failureNonDeterminism(e *env) {
	right := code{
		"act": func(ctx context.Context) error { return nil },
		"main": func(ctx workflow.Context) error {
			if err := workflow.ExecuteActivity(withActivity(ctx), "act").Get(ctx, nil); err != nil {
				return err
			}
			workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
			return nil
		},
	}
	wrong := code{"main": func(ctx workflow.Context) error { return workflow.Sleep(ctx, long) }}
	w := e.work(right)
	o := e.options()
	o.WorkflowTaskTimeout = taskTimeout
	run := e.startWith(o, "main")
	e.awaitIdle(run, 2)
	w.Stop()
	worker.PurgeStickyWorkflowCache()
	w = e.work(wrong)
	e.signal(run, "go", nil)
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, 1)
	failed := e.history(run).all(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)[0].GetWorkflowTaskFailedEventAttributes()
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR, failed.Cause)
	w.Stop()
	worker.PurgeStickyWorkflowCache()
	e.work(right)
	e.done(run)
}

// awaitIdle waits until a run has completed so many tasks and has none.
func (e *env) awaitIdle(run client.WorkflowRun, tasks int) {
	e.Helper()
	e.eventually("the workflow waits", func() bool {
		d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), run.GetRunID())
		if err != nil || d.PendingWorkflowTask != nil || len(d.PendingActivities) > 0 {
			return false
		}
		return e.historyOf(run.GetID(), run.GetRunID()).count(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED) >= tasks
	})
}

// Workers come and go while a workflow runs; each replays it, and nothing is done twice.
func failureRestart(e *env) {
	var done atomic.Int32
	code := code{
		"act": func(ctx context.Context, n int) (int, error) { done.Add(1); return n, nil },
		"main": func(ctx workflow.Context) (sum int, err error) {
			ctx = withActivity(ctx)
			for n := range 4 {
				var got int
				if err := workflow.ExecuteActivity(ctx, "act", n).Get(ctx, &got); err != nil {
					return 0, err
				}
				sum += got
				workflow.GetSignalChannel(ctx, "next").Receive(ctx, nil)
			}
			return sum, nil
		},
	}
	run := e.start("main")
	for n := range 4 {
		w := e.work(code)
		e.awaitIdle(run, 2*n+2)
		w.Stop()
		worker.PurgeStickyWorkflowCache()
		e.signal(run, "next", nil)
	}
	e.work(code)
	require.Equal(e, 6, result[int](e, run))
	require.EqualValues(e, 4, done.Load())
}

// A workflow or an activity that a worker does not know waits for one that does.
func failureUnregistered(e *env) {
	known := e.work(code{"other": func(ctx workflow.Context) error { return nil }})
	o := e.options()
	o.WorkflowTaskTimeout = taskTimeout
	run := e.startWith(o, "main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, 1)
	known.Stop()
	e.work(code{"main": func(ctx workflow.Context) error { return nil }})
	e.done(run)
}

// Tasks after the first go to the worker that has the workflow in its cache, if it has one.
func failureSticky(e *env) {
	e.work(code{"main": func(ctx workflow.Context) ([]int, error) { return collect(ctx, "n", 1) }})
	run := e.start("main")
	e.awaitIdle(run, 1)
	e.signal(run, "n", 1)
	e.done(run)
	second := e.history(run).all(enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)[1].GetWorkflowTaskScheduledEventAttributes().TaskQueue
	if cached() {
		require.Equal(e, enumspb.TASK_QUEUE_KIND_STICKY, second.Kind)
		require.Equal(e, e.queue, second.NormalName)
	} else {
		require.Equal(e, enumspb.TASK_QUEUE_KIND_NORMAL, second.Kind)
		require.Equal(e, e.queue, second.Name)
	}
}
