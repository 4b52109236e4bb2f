package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var childFeatures = group{"child", map[string]func(*env){
	"result":  childResult,
	"failure": childFailure,
	"retry":   childRetry,
	"terminate": func(e *env) {
		childClosePolicy(e, enumspb.PARENT_CLOSE_POLICY_TERMINATE, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED)
	},
	"request-cancel": func(e *env) {
		childClosePolicy(e, enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL, enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED)
	},
	"abandon": func(e *env) {
		childClosePolicy(e, enumspb.PARENT_CLOSE_POLICY_ABANDON, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	},
	"cancel":          childCancel,
	"terminated":      childTerminated,
	"timeout":         childTimeout,
	"exists":          childExists,
	"signal":          childSignal,
	"continue-as-new": childContinueAsNew,
	"many":            childMany,
}}

func withChild(ctx workflow.Context, id string) workflow.Context {
	return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id})
}

// waitEnd is a child that runs until its signal, or its cancellation.
func waitEnd(ctx workflow.Context) (string, error) {
	selector := workflow.NewSelector(ctx)
	selector.AddReceive(workflow.GetSignalChannel(ctx, "end"), func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, nil) })
	selector.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
	selector.Select(ctx)
	return "ended", ctx.Err()
}

func childResult(e *env) {
	e.work(code{
		"child": func(ctx workflow.Context, n int) (string, error) {
			parent := workflow.GetInfo(ctx).ParentWorkflowExecution
			return fmt.Sprintf("%d of %s", n, parent.ID), nil
		},
		"main": func(ctx workflow.Context, childID string) (string, error) {
			var s string
			future := workflow.ExecuteChildWorkflow(withChild(ctx, childID), "child", 7)
			var started workflow.Execution
			if err := future.GetChildWorkflowExecution().Get(ctx, &started); err != nil || started.ID != childID {
				return "", errors.Join(errors.New("the wrong child"), err)
			}
			err := future.Get(ctx, &s)
			return s, err
		},
	})
	childID := e.unique()
	run := e.start("main", childID)
	require.Equal(e, "7 of "+run.GetID(), result[string](e, run))
	h := e.history(run)
	initiated := h.one(e, enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED)
	started := h.one(e, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
	completed := h.one(e, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED).GetChildWorkflowExecutionCompletedEventAttributes()
	require.Equal(e, initiated.EventId, completed.InitiatedEventId)
	require.Equal(e, started.EventId, completed.StartedEventId)
}

func childFailure(e *env) {
	e.work(code{
		"act": func(ctx context.Context) error { return temporal.NewNonRetryableApplicationError("deep", "Deep", nil) },
		"child": func(ctx workflow.Context) error {
			return workflow.ExecuteActivity(withActivity(ctx), "act").Get(ctx, nil)
		},
		"main": func(ctx workflow.Context, childID string) error {
			return workflow.ExecuteChildWorkflow(withChild(ctx, childID), "child").Get(ctx, nil)
		},
	})
	childID := e.unique()
	err := e.failure(e.start("main", childID))
	var child *temporal.ChildWorkflowExecutionError
	var act *temporal.ActivityError
	var cause *temporal.ApplicationError
	require.ErrorAs(e, err, &child)
	require.ErrorAs(e, err, &act)
	require.ErrorAs(e, act, &cause)
	require.Equal(e, childID, child.WorkflowID())
	require.Equal(e, "Deep", cause.Type())
}

// The parent sees the end of the child's runs, not each of them.
func childRetry(e *env) {
	e.work(code{
		"child": func(ctx workflow.Context) (int32, error) {
			attempt := workflow.GetInfo(ctx).Attempt
			return attempt, check(attempt == 3, "not yet")
		},
		"main": func(ctx workflow.Context) (attempt int32, err error) {
			ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond}})
			err = workflow.ExecuteChildWorkflow(ctx, "child").Get(ctx, &attempt)
			return attempt, err
		},
	})
	run := e.start("main")
	require.EqualValues(e, 3, result[int32](e, run))
	h := e.history(run)
	h.one(e, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
	h.one(e, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
	require.Zero(e, h.count(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED))
}

func childClosePolicy(e *env, policy enumspb.ParentClosePolicy, want enumspb.WorkflowExecutionStatus) {
	e.work(code{
		"child": waitEnd,
		"main": func(ctx workflow.Context, childID string) error {
			ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: childID, ParentClosePolicy: policy})
			return workflow.ExecuteChildWorkflow(ctx, "child").GetChildWorkflowExecution().Get(ctx, nil)
		},
	})
	childID := e.unique()
	e.done(e.start("main", childID))
	if policy == enumspb.PARENT_CLOSE_POLICY_ABANDON {
		require.NoError(e, e.c.SignalWorkflow(e.ctx, childID, "", "end", nil))
	}
	require.Equal(e, want, e.closed(childID, ""))
}

func childCancel(e *env) {
	e.work(code{
		"child": waitEnd,
		"main": func(ctx workflow.Context, childID string) error {
			ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: childID, WaitForCancellation: true})
			return workflow.ExecuteChildWorkflow(ctx, "child").Get(ctx, nil)
		},
	})
	childID := e.unique()
	run := e.start("main", childID)
	e.awaitEvents(run, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, 1)
	require.NoError(e, e.c.CancelWorkflow(e.ctx, run.GetID(), ""))
	require.ErrorAs(e, e.failure(run), new(*temporal.CanceledError))
	e.history(run).one(e, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED)
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED, e.closed(childID, ""))
}

func childTerminated(e *env) {
	e.work(code{
		"child": waitEnd,
		"main": func(ctx workflow.Context, childID string) error {
			err := workflow.ExecuteChildWorkflow(withChild(ctx, childID), "child").Get(ctx, nil)
			return check(errors.As(err, new(*temporal.TerminatedError)), "got %v", err)
		},
	})
	childID := e.unique()
	run := e.start("main", childID)
	e.awaitEvents(run, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, 1)
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, childID, "", "enough"))
	e.done(run)
}

func childTimeout(e *env) {
	e.work(code{
		"child": waitEnd,
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowRunTimeout: time.Second})
			err := workflow.ExecuteChildWorkflow(ctx, "child").Get(ctx, nil)
			return check(errors.As(err, new(*temporal.TimeoutError)), "got %v", err)
		},
	})
	run := e.start("main")
	e.done(run)
	e.history(run).one(e, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT)
}

func childExists(e *env) {
	e.work(code{
		"child": waitEnd,
		"main": func(ctx workflow.Context, childID string) error {
			err := workflow.ExecuteChildWorkflow(withChild(ctx, childID), "child").Get(ctx, nil)
			return check(errors.As(err, new(*temporal.ChildWorkflowExecutionAlreadyStartedError)), "got %v", err)
		},
	})
	other := e.start("child")
	run := e.start("main", other.GetID())
	e.done(run)
	e.history(run).one(e, enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED)
	e.signal(other, "end", nil)
	e.done(other)
}

func childSignal(e *env) {
	e.work(code{
		"child": waitEnd,
		"main": func(ctx workflow.Context) (s string, err error) {
			future := workflow.ExecuteChildWorkflow(ctx, "child")
			if err := future.SignalChildWorkflow(ctx, "end", nil).Get(ctx, nil); err != nil {
				return "", err
			}
			err = future.Get(ctx, &s)
			return s, err
		},
	})
	run := e.start("main")
	require.Equal(e, "ended", result[string](e, run))
	e.history(run).one(e, enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED)
}

func childContinueAsNew(e *env) {
	e.work(code{
		"child": func(ctx workflow.Context, n int) (int, error) {
			if n < 3 {
				return 0, workflow.NewContinueAsNewError(ctx, "child", n+1)
			}
			return n, nil
		},
		"main": func(ctx workflow.Context) (n int, err error) {
			err = workflow.ExecuteChildWorkflow(ctx, "child", 1).Get(ctx, &n)
			return n, err
		},
	})
	require.Equal(e, 3, result[int](e, e.start("main")))
}

func childMany(e *env) {
	const count = 25
	e.work(code{
		"child": func(ctx workflow.Context, n int) (int, error) { return n, nil },
		"main": func(ctx workflow.Context) (sum int, err error) {
			var futures []workflow.Future
			for n := range count {
				futures = append(futures, workflow.ExecuteChildWorkflow(ctx, "child", n))
			}
			for _, f := range futures {
				var n int
				if err := f.Get(ctx, &n); err != nil {
					return 0, err
				}
				sum += n
			}
			return sum, nil
		},
	})
	require.Equal(e, count*(count-1)/2, result[int](e, e.start("main")))
}
