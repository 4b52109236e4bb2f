package sdk

import (
	"context"
	"errors"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/workflow"
)

var signalFeatures = group{"signal", map[string]func(*env){
	"order":      signalOrder,
	"buffered":   signalBuffered,
	"with-start": signalWithStart,
	"closed":     signalClosed,
	"unhandled":  signalUnhandledClose,
	"before":     signalBeforeFirstTask,
}}

// collect receives so many signals.
func collect(ctx workflow.Context, name string, count int) (got []int, err error) {
	for range count {
		var n int
		workflow.GetSignalChannel(ctx, name).Receive(ctx, &n)
		got = append(got, n)
	}
	return got, nil
}

func signalOrder(e *env) {
	const count = 40
	e.work(code{"main": func(ctx workflow.Context) ([]int, error) { return collect(ctx, "n", count) }})
	run := e.start("main")
	var want []int
	for n := range count {
		e.signal(run, "n", n)
		want = append(want, n)
	}
	require.Equal(e, want, result[[]int](e, run))
	require.Equal(e, count, e.history(run).count(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED))
}

// Signals that come while a task runs are in the history after it, in order.
func signalBuffered(e *env) {
	running, release := make(chan bool, 10), make(chan bool)
	e.work(code{
		"block": func(ctx context.Context) error {
			running <- true
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		},
		"main": func(ctx workflow.Context) ([]int, error) {
			ctx = withLocalActivity(ctx)
			if err := workflow.ExecuteLocalActivity(ctx, "block").Get(ctx, nil); err != nil {
				return nil, err
			}
			return collect(ctx, "n", 3)
		},
	})
	run := e.start("main")
	receive(e, running)
	for n := range 3 {
		e.signal(run, "n", n)
	}
	close(release)
	require.Equal(e, []int{0, 1, 2}, result[[]int](e, run))
	h := e.history(run)
	first := h.all(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)[0]
	for _, signal := range h.all(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) {
		require.Greater(e, signal.EventId, first.EventId)
	}
}

func signalWithStart(e *env) {
	e.work(code{"main": func(ctx workflow.Context) ([]int, error) { return collect(ctx, "n", 2) }})
	o := e.options()
	first, err := e.c.SignalWithStartWorkflow(e.ctx, o.ID, "n", 1, o, "main")
	require.NoError(e, err)
	second, err := e.c.SignalWithStartWorkflow(e.ctx, o.ID, "n", 2, o, "main")
	require.NoError(e, err)
	require.Equal(e, first.GetRunID(), second.GetRunID())
	require.Equal(e, []int{1, 2}, result[[]int](e, first))
	third, err := e.c.SignalWithStartWorkflow(e.ctx, o.ID, "n", 3, o, "main")
	require.NoError(e, err)
	require.NotEqual(e, first.GetRunID(), third.GetRunID(), "a closed workflow is started again")
	e.signal(third, "n", 4)
	require.Equal(e, []int{3, 4}, result[[]int](e, third))
}

func signalClosed(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error { return nil }})
	run := e.start("main")
	e.done(run)
	var notFound *serviceerror.NotFound
	require.ErrorAs(e, e.c.SignalWorkflow(e.ctx, run.GetID(), "", "n", 1), &notFound)
	require.ErrorAs(e, e.c.SignalWorkflow(e.ctx, e.unique(), "", "n", 1), &notFound)
}

// A workflow does not close over a signal that it has not seen: its last task fails, and the next one shows the signal.
func signalUnhandledClose(e *env) {
	running, release := make(chan bool, 10), make(chan bool)
	e.work(code{
		"block": func(ctx context.Context) error {
			running <- true
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		},
		"main": func(ctx workflow.Context) (n int, err error) {
			err = workflow.ExecuteLocalActivity(withLocalActivity(ctx), "block").Get(ctx, nil)
			workflow.GetSignalChannel(ctx, "n").ReceiveAsync(&n)
			return n, err
		},
	})
	run := e.start("main")
	receive(e, running)
	e.signal(run, "n", 7)
	close(release)
	require.Equal(e, 7, result[int](e, run))
	failed := e.history(run).one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND, failed.GetWorkflowTaskFailedEventAttributes().Cause)
}

func signalBeforeFirstTask(e *env) {
	run := e.start("main")
	e.signal(run, "n", 1)
	e.signal(run, "n", 2)
	e.work(code{"main": func(ctx workflow.Context) ([]int, error) {
		var got []int
		for n := 0; workflow.GetSignalChannel(ctx, "n").ReceiveAsync(&n); {
			got = append(got, n)
		}
		if len(got) != 2 {
			return got, errors.New("the signals are not there at the start")
		}
		return got, nil
	}})
	require.Equal(e, []int{1, 2}, result[[]int](e, run))
}
