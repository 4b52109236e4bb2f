package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var chainFeatures = group{"chain", map[string]func(*env){
	"continue-as-new":   chainContinueAsNew,
	"retry":             chainRetry,
	"retry-exhausted":   chainRetryExhausted,
	"run-timeout":       chainRunTimeout,
	"execution-timeout": chainExecutionTimeout,
	"cron":              chainCron,
	"cron-failure":      chainCronFailure,
	"start-delay":       chainStartDelay,
	"delay-signal":      chainDelayAndSignal,
	"reset":             chainReset,
}}

// The result of the last run is the result of the first; each run knows where it comes from.
func chainContinueAsNew(e *env) {
	e.work(code{"main": func(ctx workflow.Context, n int) (int, error) {
		if n < 3 {
			return 0, workflow.NewContinueAsNewError(ctx, "main", n+1)
		}
		return n, check(workflow.GetInfo(ctx).ContinuedExecutionRunID != "", "the run does not know its predecessor")
	}})
	run := e.start("main", 0)
	firstRun := run.GetRunID()
	require.Equal(e, 3, result[int](e, run))
	h := e.historyOf(run.GetID(), firstRun)
	next := h.one(e, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW).GetWorkflowExecutionContinuedAsNewEventAttributes().NewExecutionRunId
	started := e.historyOf(run.GetID(), next)[0].GetWorkflowExecutionStartedEventAttributes()
	require.Equal(e, firstRun, started.FirstExecutionRunId)
	require.Equal(e, firstRun, started.ContinuedExecutionRunId)
}

func chainRetry(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (int32, error) {
		info := workflow.GetInfo(ctx)
		if info.Attempt > 1 && workflow.GetLastError(ctx) == nil {
			return 0, temporal.NewNonRetryableApplicationError("the last error is lost", "", nil)
		}
		return info.Attempt, check(info.Attempt == 3, "not yet")
	}})
	o := e.options()
	o.RetryPolicy = &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond}
	run := e.startWith(o, "main")
	firstRun := run.GetRunID()
	require.EqualValues(e, 3, result[int32](e, run))
	failed := e.historyOf(run.GetID(), firstRun).one(e, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED).GetWorkflowExecutionFailedEventAttributes()
	require.Equal(e, enumspb.RETRY_STATE_IN_PROGRESS, failed.RetryState)
	require.NotEmpty(e, failed.NewExecutionRunId)
}

func chainRetryExhausted(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error {
		return temporal.NewApplicationError("no", "No", workflow.GetInfo(ctx).Attempt)
	}})
	o := e.options()
	o.RetryPolicy = &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond, MaximumAttempts: 2}
	var cause *temporal.ApplicationError
	require.ErrorAs(e, e.failure(e.startWith(o, "main")), &cause)
	var attempt int32
	require.NoError(e, cause.Details(&attempt))
	require.EqualValues(e, 2, attempt)
}

// The run timeout ends a run, and the retry policy makes another.
func chainRunTimeout(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (int32, error) {
		if workflow.GetInfo(ctx).Attempt == 1 {
			return 0, workflow.Sleep(ctx, long)
		}
		return workflow.GetInfo(ctx).Attempt, nil
	}})
	o := e.options()
	o.WorkflowRunTimeout = time.Second
	o.RetryPolicy = &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond}
	require.EqualValues(e, 2, result[int32](e, e.startWith(o, "main")))
}

// The execution timeout ends all runs, however often the workflow continues as new.
func chainExecutionTimeout(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error {
		if err := workflow.Sleep(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		return workflow.NewContinueAsNewError(ctx, "main")
	}})
	o := e.options()
	o.WorkflowExecutionTimeout = 3 * time.Second
	var timeout *temporal.TimeoutError
	require.ErrorAs(e, e.failure(e.startWith(o, "main")), &timeout)
}

// Each run of a cron gets the result of the last.
func chainCron(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (n int, err error) {
		if workflow.HasLastCompletionResult(ctx) {
			err = workflow.GetLastCompletionResult(ctx, &n)
		}
		return n + 1, err
	}})
	o := e.options()
	o.CronSchedule = "@every 1s"
	run := e.startWith(o, "main")
	e.eventually("the third run", func() bool { return lastResult(e, run.GetID()) >= 2 })
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough"))
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, e.closed(run.GetID(), ""))
}

// lastResult is the result of the run before the current one.
func lastResult(e *env, id string) (n int) {
	it := e.c.GetWorkflowHistory(e.ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !it.HasNext() {
		return 0
	}
	first, err := it.Next()
	if err != nil {
		return 0
	}
	last := first.GetWorkflowExecutionStartedEventAttributes().LastCompletionResult
	if len(last.GetPayloads()) == 0 {
		return 0
	}
	_, err = fmt.Sscan(string(last.Payloads[0].Data), &n)
	require.NoError(e, err)
	return n
}

// A run that fails does not end a cron, nor lose the last result.
func chainCronFailure(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (n int, err error) {
		if !workflow.HasLastCompletionResult(ctx) {
			return 1, nil
		}
		if err := workflow.GetLastCompletionResult(ctx, &n); err != nil {
			return 0, err
		}
		if workflow.GetLastError(ctx) == nil && n == 1 {
			return 0, errors.New("once")
		}
		return n + 1, nil
	}})
	o := e.options()
	o.CronSchedule = "@every 1s"
	run := e.startWith(o, "main")
	e.eventually("the run after the failed one", func() bool { return lastResult(e, run.GetID()) >= 2 })
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough"))
}

func chainStartDelay(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error { return nil }})
	o := e.options()
	o.StartDelay = 1500 * time.Millisecond
	run := e.startWith(o, "main")
	e.done(run)
	h := e.history(run)
	scheduled := h.one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
	require.GreaterOrEqual(e, scheduled.EventTime.AsTime().Sub(h[0].EventTime.AsTime()), o.StartDelay)
	d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), "")
	require.NoError(e, err)
	require.Equal(e, o.StartDelay, d.WorkflowExecutionInfo.ExecutionTime.AsTime().Sub(d.WorkflowExecutionInfo.StartTime.AsTime()))
}

// A signal does not end the delay, but a cancellation does.
func chainDelayAndSignal(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error { return ctx.Err() }})
	o := e.options()
	o.StartDelay = long
	run := e.startWith(o, "main")
	e.signal(run, "n", 1)
	require.Zero(e, e.history(run).count(enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED))
	require.NoError(e, e.c.CancelWorkflow(e.ctx, run.GetID(), ""))
	require.ErrorAs(e, e.failure(run), new(*temporal.CanceledError))
}

// A reset goes back before the workflow's mistake; the signals since then are given to the new run.
func chainReset(e *env) {
	attempts := make(chan bool, 10)
	e.work(code{
		"act": func(ctx context.Context) error { attempts <- true; return nil },
		"main": func(ctx workflow.Context) ([]int, error) {
			if err := workflow.ExecuteActivity(withActivity(ctx), "act").Get(ctx, nil); err != nil {
				return nil, err
			}
			return collect(ctx, "n", 2)
		},
	})
	run := e.start("main")
	receive(e, attempts)
	e.signal(run, "n", 1)
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 2)
	first := e.history(run).all(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)[0]
	reset, err := e.c.ResetWorkflowExecution(e.ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		Reason: "a mistake", WorkflowTaskFinishEventId: first.EventId, RequestId: uuid.NewString(),
	})
	require.NoError(e, err)
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, e.closed(run.GetID(), run.GetRunID()))
	receive(e, attempts)
	e.signal(run, "n", 2)
	again := e.c.GetWorkflow(e.ctx, run.GetID(), reset.RunId)
	require.Equal(e, []int{1, 2}, result[[]int](e, again))
}
