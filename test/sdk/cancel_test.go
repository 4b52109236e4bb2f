package sdk

import (
	"context"
	"errors"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var cancelFeatures = group{"cancel", map[string]func(*env){
	"workflow":     cancelWorkflow,
	"scopes":       cancelScopes,
	"disconnected": cancelDisconnected,
	"ignored":      cancelIgnored,
	"closed":       cancelClosed,
	"terminate":    cancelTerminate,
}}

func cancelWorkflow(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error { return workflow.Sleep(ctx, long) }})
	run := e.start("main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_TIMER_STARTED, 1)
	require.NoError(e, e.c.CancelWorkflow(e.ctx, run.GetID(), ""))
	require.NoError(e, e.c.CancelWorkflow(e.ctx, run.GetID(), run.GetRunID()), "a second request is no error")
	require.ErrorAs(e, e.failure(run), new(*temporal.CanceledError))
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED, e.status(run))
	e.history(run).one(e, enumspb.EVENT_TYPE_TIMER_CANCELED)
}

// One scope is cancelled, its sibling and its parent are not.
func cancelScopes(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (got []string, err error) {
		outer, cancelOuter := workflow.WithCancel(ctx)
		inner, _ := workflow.WithCancel(outer)
		sibling, cancelSibling := workflow.WithCancel(ctx)
		timers := map[string]workflow.Future{"inner": workflow.NewTimer(inner, long), "outer": workflow.NewTimer(outer, long), "sibling": workflow.NewTimer(sibling, long)}
		cancelOuter()
		for _, name := range []string{"inner", "outer"} {
			if !temporal.IsCanceledError(timers[name].Get(ctx, nil)) {
				return nil, errors.New(name + " is not cancelled")
			}
		}
		if timers["sibling"].IsReady() || ctx.Err() != nil {
			return nil, errors.New("too much is cancelled")
		}
		workflow.GetSignalChannel(ctx, "next").Receive(ctx, nil)
		cancelSibling()
		return nil, check(temporal.IsCanceledError(timers["sibling"].Get(ctx, nil)), "the sibling is not cancelled")
	}})
	run := e.start("main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 1)
	e.signal(run, "next", nil)
	e.done(run)
}

// A cancelled workflow cleans up in a context of its own.
func cancelDisconnected(e *env) {
	cleaned := make(chan string, 1)
	e.work(code{
		"clean": func(ctx context.Context, what string) error { cleaned <- what; return nil },
		"main": func(ctx workflow.Context) error {
			err := workflow.Sleep(ctx, long)
			if temporal.IsCanceledError(err) {
				apart, _ := workflow.NewDisconnectedContext(withActivity(ctx))
				if cleanErr := workflow.ExecuteActivity(apart, "clean", "table").Get(apart, nil); cleanErr != nil {
					return cleanErr
				}
			}
			return err
		},
	})
	run := e.start("main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_TIMER_STARTED, 1)
	require.NoError(e, e.c.CancelWorkflow(e.ctx, run.GetID(), ""))
	require.ErrorAs(e, e.failure(run), new(*temporal.CanceledError))
	require.Equal(e, "table", receive(e, cleaned))
}

func cancelIgnored(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (string, error) {
		if err := workflow.Sleep(ctx, long); !temporal.IsCanceledError(err) {
			return "", err
		}
		return "done all the same", nil
	}})
	run := e.start("main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_TIMER_STARTED, 1)
	require.NoError(e, e.c.CancelWorkflow(e.ctx, run.GetID(), ""))
	require.Equal(e, "done all the same", result[string](e, run))
}

func cancelClosed(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error { return nil }})
	run := e.start("main")
	e.done(run)
	require.NoError(e, e.c.CancelWorkflow(e.ctx, run.GetID(), ""), "to cancel what has ended is no error")
	require.ErrorAs(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "late"), new(*serviceerror.NotFound))
	require.ErrorAs(e, e.c.CancelWorkflow(e.ctx, e.unique(), ""), new(*serviceerror.NotFound))
}

func cancelTerminate(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error { return workflow.Sleep(ctx, long) }})
	run := e.start("main")
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough", "of", "it"))
	require.ErrorAs(e, e.failure(run), new(*temporal.TerminatedError))
	h := e.history(run)
	terminated := h[len(h)-1].GetWorkflowExecutionTerminatedEventAttributes()
	require.Equal(e, "enough", terminated.GetReason())
	require.Len(e, terminated.GetDetails().GetPayloads(), 2)
}
