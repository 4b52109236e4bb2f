package sdk

import (
	"errors"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var externalFeatures = group{"external", map[string]func(*env){
	"signal":  externalSignal,
	"cancel":  externalCancel,
	"unknown": externalUnknown,
}}

func externalSignal(e *env) {
	e.work(code{
		"target": func(ctx workflow.Context) ([]int, error) { return collect(ctx, "n", 3) },
		"main": func(ctx workflow.Context, id string) error {
			for n := range 3 {
				if err := workflow.SignalExternalWorkflow(ctx, id, "", "n", n).Get(ctx, nil); err != nil {
					return err
				}
			}
			return nil
		},
	})
	target := e.start("target")
	run := e.start("main", target.GetID())
	e.done(run)
	require.Equal(e, []int{0, 1, 2}, result[[]int](e, target))
	signal := e.history(target).all(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)[0].GetWorkflowExecutionSignaledEventAttributes()
	require.Equal(e, run.GetID(), signal.ExternalWorkflowExecution.GetWorkflowId())
}

func externalCancel(e *env) {
	e.work(code{
		"target": waitEnd,
		"main": func(ctx workflow.Context, id string) error {
			return workflow.RequestCancelExternalWorkflow(ctx, id, "").Get(ctx, nil)
		},
	})
	target := e.start("target")
	e.done(e.start("main", target.GetID()))
	require.ErrorAs(e, e.failure(target), new(*temporal.CanceledError))
}

func externalUnknown(e *env) {
	e.work(code{"main": func(ctx workflow.Context, id string) error {
		signal := workflow.SignalExternalWorkflow(ctx, id, "", "n", 1).Get(ctx, nil)
		cancel := workflow.RequestCancelExternalWorkflow(ctx, id, "").Get(ctx, nil)
		var unknown *temporal.UnknownExternalWorkflowExecutionError
		return errors.Join(check(errors.As(signal, &unknown), "signal: got %v", signal), check(errors.As(cancel, &unknown), "cancel: got %v", cancel))
	}})
	run := e.start("main", e.unique())
	e.done(run)
	h := e.history(run)
	h.one(e, enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
	h.one(e, enumspb.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
}
