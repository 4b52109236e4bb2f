package sdk

import (
	"context"
	"errors"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var updateFeatures = group{"update", map[string]func(*env){
	"complete":        updateComplete,
	"validator":       updateValidator,
	"fails":           updateFails,
	"accepted":        updateAccepted,
	"dedup":           updateDedup,
	"concurrent":      updateConcurrent,
	"with-start":      updateWithStart,
	"closed":          updateClosed,
	"close-aborts":    updateCloseAborts,
	"no-worker":       updateNoWorker,
	"continue-as-new": updateContinueAsNew,
}}

// account is a workflow that is changed by updates, until it is told to end.
func account(ctx workflow.Context) (balance int, err error) {
	busy := workflow.NewMutex(ctx)
	deposit := func(ctx workflow.Context, n int) (int, error) {
		balance += n
		return balance, nil
	}
	positive := func(ctx workflow.Context, n int) error { return check(n > 0, "%d is not positive", n) }
	booked := func(ctx workflow.Context, n int) (int, error) { // in an activity
		if err := busy.Lock(ctx); err != nil {
			return 0, err
		}
		defer busy.Unlock()
		var fee int
		err := workflow.ExecuteActivity(withActivity(ctx), "fee", n).Get(ctx, &fee)
		balance += n - fee
		return balance, err
	}
	err = errors.Join(
		workflow.SetUpdateHandlerWithOptions(ctx, "deposit", deposit, workflow.UpdateHandlerOptions{Validator: positive}),
		workflow.SetUpdateHandler(ctx, "book", booked),
		workflow.SetUpdateHandler(ctx, "fail", func(ctx workflow.Context) error { return temporal.NewApplicationError("no money", "Poor", balance) }),
		workflow.SetUpdateHandler(ctx, "wait", func(ctx workflow.Context) (int, error) {
			workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
			return balance, nil
		}),
		workflow.SetQueryHandler(ctx, "balance", func() (int, error) { return balance, nil }),
	)
	if err != nil {
		return 0, err
	}
	workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
	return balance, nil
}

var accountCode = code{"main": account, "fee": func(ctx context.Context, n int) (int, error) { return n / 10, nil }}

func updateComplete(e *env) {
	e.work(accountCode)
	run := e.start("main")
	require.Equal(e, 5, update[int](e, run, "deposit", 5))
	require.Equal(e, 95, update[int](e, run, "book", 100))
	require.Equal(e, 96, update[int](e, run, "deposit", 1))
	require.Equal(e, 96, query[int](e, run, "balance"))
	e.signal(run, "end", nil)
	require.Equal(e, 96, result[int](e, run))
	h := e.history(run)
	require.Equal(e, 3, h.count(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED))
	require.Equal(e, 3, h.count(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED))
}

// A rejected update leaves nothing in the history.
func updateValidator(e *env) {
	e.work(accountCode)
	run := e.start("main")
	require.Equal(e, 5, update[int](e, run, "deposit", 5))
	before := len(e.history(run))
	for range 3 {
		h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
			WorkflowID: run.GetID(), UpdateName: "deposit", Args: []any{-5}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		require.NoError(e, err)
		require.ErrorContains(e, h.Get(e.ctx, nil), "-5 is not positive")
	}
	require.Len(e, e.history(run), before)
	h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), UpdateName: "unknown", WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.NoError(e, err)
	require.ErrorContains(e, h.Get(e.ctx, nil), "unknown")
	require.Equal(e, 6, update[int](e, run, "deposit", 1))
	e.signal(run, "end", nil)
	require.Equal(e, 6, result[int](e, run))
}

func updateFails(e *env) {
	e.work(accountCode)
	run := e.start("main")
	h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), UpdateName: "fail", WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.NoError(e, err)
	var cause *temporal.ApplicationError
	require.ErrorAs(e, h.Get(e.ctx, nil), &cause)
	require.Equal(e, "Poor", cause.Type())
	e.signal(run, "end", nil)
	e.done(run)
}

// A caller that waits for the acceptance alone gets the outcome later, by any client.
func updateAccepted(e *env) {
	e.work(accountCode)
	run := e.start("main")
	h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), UpdateID: "the-update", UpdateName: "wait", WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	require.NoError(e, err)
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED, 1)
	require.Equal(e, 3, update[int](e, run, "deposit", 3))
	e.signal(run, "go", nil)
	var balance int
	require.NoError(e, h.Get(e.ctx, &balance))
	require.Equal(e, 3, balance)
	later := e.c.GetWorkflowUpdateHandle(client.GetWorkflowUpdateHandleOptions{WorkflowID: run.GetID(), UpdateID: "the-update"})
	balance = 0
	require.NoError(e, later.Get(e.ctx, &balance))
	require.Equal(e, 3, balance)
	unknown := e.c.GetWorkflowUpdateHandle(client.GetWorkflowUpdateHandleOptions{WorkflowID: run.GetID(), UpdateID: "another"})
	require.ErrorAs(e, unknown.Get(e.ctx, nil), new(*serviceerror.NotFound))
	e.signal(run, "end", nil)
	e.done(run)
}

// An update with the id of another is that other one.
func updateDedup(e *env) {
	e.work(accountCode)
	run := e.start("main")
	for range 3 {
		h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
			WorkflowID: run.GetID(), UpdateID: "once", UpdateName: "deposit", Args: []any{5}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		require.NoError(e, err)
		var balance int
		require.NoError(e, h.Get(e.ctx, &balance))
		require.Equal(e, 5, balance)
	}
	require.Equal(e, 5, query[int](e, run, "balance"))
	e.signal(run, "end", nil)
	e.done(run)
}

func updateConcurrent(e *env) {
	const count = 8
	e.work(accountCode)
	run := e.start("main")
	failures := make(chan error, count)
	for range count {
		go func() {
			h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
				WorkflowID: run.GetID(), UpdateName: "book", Args: []any{10}, WaitForStage: client.WorkflowUpdateStageCompleted,
			})
			if err == nil {
				err = h.Get(e.ctx, nil)
			}
			failures <- err
		}()
	}
	for range count {
		require.NoError(e, receive(e, failures))
	}
	require.Equal(e, 9*count, query[int](e, run, "balance"))
	e.signal(run, "end", nil)
	require.Equal(e, 9*count, result[int](e, run))
}

func updateWithStart(e *env) {
	e.work(accountCode)
	o := e.options()
	o.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	var runs []string
	for n, want := range []int{7, 14} {
		start := e.c.NewWithStartWorkflowOperation(o, "main")
		h, err := e.c.UpdateWithStartWorkflow(e.ctx, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: start,
			UpdateOptions:          client.UpdateWorkflowOptions{UpdateName: "deposit", Args: []any{7}, WaitForStage: client.WorkflowUpdateStageCompleted},
		})
		require.NoError(e, err, "call %d", n)
		var balance int
		require.NoError(e, h.Get(e.ctx, &balance))
		require.Equal(e, want, balance)
		run, err := start.Get(e.ctx)
		require.NoError(e, err)
		runs = append(runs, run.GetRunID())
	}
	require.Equal(e, runs[0], runs[1])
	// The start fails: the update is not made.
	o.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	_, err := e.c.UpdateWithStartWorkflow(e.ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: e.c.NewWithStartWorkflowOperation(o, "main"),
		UpdateOptions:          client.UpdateWorkflowOptions{UpdateName: "deposit", Args: []any{7}, WaitForStage: client.WorkflowUpdateStageCompleted},
	})
	require.ErrorAs(e, err, new(*serviceerror.WorkflowExecutionAlreadyStarted))
	run := e.c.GetWorkflow(e.ctx, o.ID, "")
	require.Equal(e, 14, query[int](e, run, "balance"))
	e.signal(run, "end", nil)
	e.done(run)
}

func updateClosed(e *env) {
	e.work(accountCode)
	run := e.start("main")
	require.Equal(e, 5, update[int](e, run, "deposit", 5))
	e.signal(run, "end", nil)
	e.done(run)
	_, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), UpdateName: "deposit", Args: []any{1}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.ErrorAs(e, err, new(*serviceerror.NotFound))
}

// An accepted update whose workflow ends has an outcome: a failure that says so.
func updateCloseAborts(e *env) {
	e.work(accountCode)
	run := e.start("main")
	h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), UpdateName: "wait", WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	require.NoError(e, err)
	e.signal(run, "end", nil)
	e.done(run)
	var cause *temporal.ApplicationError
	require.ErrorAs(e, h.Get(e.ctx, nil), &cause)
	require.Equal(e, "AcceptedUpdateCompletedWorkflow", cause.Type())
}

// An update waits for a worker that comes later.
func updateNoWorker(e *env) {
	run := e.start("main")
	asked, answer := make(chan bool), make(chan error, 1)
	go func() {
		close(asked)
		h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
			WorkflowID: run.GetID(), UpdateName: "deposit", Args: []any{2}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err == nil {
			err = h.Get(e.ctx, nil)
		}
		answer <- err
	}()
	receive(e, asked)
	e.work(accountCode)
	require.NoError(e, receive(e, answer))
	e.signal(run, "end", nil)
	require.Equal(e, 2, result[int](e, run))
}

// Updates that arrive around a continue-as-new reach one of the runs.
func updateContinueAsNew(e *env) {
	e.work(code{"main": func(ctx workflow.Context, total, runs int) (int, error) {
		got := 0
		if err := workflow.SetUpdateHandler(ctx, "add", func(ctx workflow.Context, n int) (int, error) {
			got++
			total += n
			return total, nil
		}); err != nil {
			return 0, err
		}
		if err := workflow.Await(ctx, func() bool { return got > 0 && workflow.AllHandlersFinished(ctx) }); err != nil {
			return 0, err
		}
		if runs == 0 {
			return total, nil
		}
		return 0, workflow.NewContinueAsNewError(ctx, "main", total, runs-1)
	}})
	run := e.start("main", 0, 2)
	for n := 1; n <= 3; n++ {
		require.Equal(e, n, update[int](e, run, "add", 1))
	}
	require.Equal(e, 3, result[int](e, run))
}
