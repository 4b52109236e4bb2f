package admin

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/google/uuid"

	"github.com/perdure/perdure/examples/order"
	"github.com/perdure/perdure/test/harness"
)

// workloadMax bounds the making of a database.
const workloadMax = 2 * time.Minute

var attributeColor = temporal.NewSearchAttributeKeyKeyword("Color")

const queue = "fsck"

// populate runs workflows of many kinds on a server, some to their end, and kills the server.
func (f *fixture) populate(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), workloadMax)
	defer cancel()
	c := f.dial(ctx, t)
	defer c.Close()
	orders := worker.New(c, order.TaskQueue, worker.Options{})
	order.Register(orders, &order.Shop{Log: slog.New(slog.DiscardHandler), Limit: 100_000})
	require.NoError(t, orders.Start())
	defer orders.Stop()
	others := worker.New(c, queue, worker.Options{})
	for _, w := range []any{busy, chain, family, child, waiting, listed, failing} {
		others.RegisterWorkflow(w)
	}
	others.RegisterActivity(flaky)
	require.NoError(t, others.Start())

	o := order.Order{ID: "o", Customer: "Ada", Items: []order.Item{{Name: "cup", Quantity: 2, Price: 650}}}
	start := func(id string, workflowType any, args ...any) client.WorkflowRun {
		options := client.StartWorkflowOptions{ID: id, TaskQueue: queue, Memo: map[string]any{"made by": id}}
		if workflowType == order.WorkflowType {
			options.TaskQueue = order.TaskQueue
		}
		run, err := c.ExecuteWorkflow(ctx, options, workflowType, args...)
		require.NoError(t, err)
		return run
	}
	slow := o
	slow.PackingTime = time.Hour
	start("order-slow", order.WorkflowType, slow)
	for id, run := range map[string]client.WorkflowRun{
		"order": start("order", order.WorkflowType, o), "busy": start("busy", busy), "chain": start("chain", chain, 3),
		"family": start("family", family), "listed": start("listed", listed),
	} {
		require.NoError(t, run.Get(ctx, nil), id)
	}
	require.Error(t, start("failing", failing).Get(ctx, nil))
	start("waiting", waiting)
	for _, id := range []string{"canceled", "terminated"} {
		start(id, waiting)
	}
	require.NoError(t, c.CancelWorkflow(ctx, "canceled", ""))
	require.NoError(t, c.TerminateWorkflow(ctx, "terminated", "", "enough"))
	require.Error(t, c.GetWorkflow(ctx, "canceled", "").Get(ctx, nil))
	for range 5 {
		require.NoError(t, c.SignalWorkflow(ctx, "waiting", "", "hello", "you"))
	}
	handle, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{WorkflowID: "waiting", UpdateName: "greet", WaitForStage: client.WorkflowUpdateStageCompleted})
	require.NoError(t, err)
	require.NoError(t, handle.Get(ctx, nil))
	_, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "unpolled", TaskQueue: "nobody"}, "unknown")
	require.NoError(t, err)
	_, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "delayed", TaskQueue: queue, StartDelay: time.Hour}, waiting)
	require.NoError(t, err)
	require.NoError(t, reset(ctx, t, c, "order", 1).Get(ctx, nil))
	others.Stop()
	reset(ctx, t, c, "busy", 15) // and nobody goes on with it
	f.server.Kill()
}

func (f *fixture) dial(ctx context.Context, t *testing.T) client.Client {
	namespaces, err := client.NewNamespaceClient(client.Options{HostPort: f.addr, Logger: harness.Quiet{}})
	require.NoError(t, err)
	defer namespaces.Close()
	err = namespaces.Register(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: client.DefaultNamespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if !errors.As(err, new(*serviceerror.NamespaceAlreadyExists)) {
		require.NoError(t, err)
	}
	c, err := client.Dial(client.Options{HostPort: f.addr, Logger: harness.Quiet{}})
	require.NoError(t, err)
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: client.DefaultNamespace, SearchAttributes: map[string]enumspb.IndexedValueType{"Color": enumspb.INDEXED_VALUE_TYPE_KEYWORD},
	})
	require.NoError(t, err)
	return c
}

// reset runs a workflow again from the end of its nth workflow task on.
func reset(ctx context.Context, t *testing.T, c client.Client, id string, nth int) client.WorkflowRun {
	t.Helper()
	var point int64
	for it := c.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext() && nth > 0; {
		e, err := it.Next()
		require.NoError(t, err)
		if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			point = e.GetEventId()
			nth--
		}
	}
	described, err := c.DescribeWorkflowExecution(ctx, id, "")
	require.NoError(t, err)
	answer, err := c.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: client.DefaultNamespace, WorkflowExecution: described.GetWorkflowExecutionInfo().GetExecution(),
		Reason: "again", WorkflowTaskFinishEventId: point, RequestId: uuid.NewString(),
	})
	require.NoError(t, err)
	return c.GetWorkflow(ctx, id, answer.GetRunId())
}

func withActivities(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Millisecond, MaximumInterval: 5 * time.Millisecond},
	})
}

// flaky fails twice: attempts make rows without events.
func flaky(ctx context.Context) error {
	activity.RecordHeartbeat(ctx, "alive")
	if activity.GetInfo(ctx).Attempt < 3 {
		return errors.New("not yet")
	}
	return nil
}

// busy makes more rows than a snapshot waits for.
func busy(ctx workflow.Context) error {
	ctx = withActivities(ctx)
	for range 20 {
		if err := workflow.ExecuteActivity(ctx, flaky).Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func chain(ctx workflow.Context, left int) error {
	if left > 0 {
		return workflow.NewContinueAsNewError(ctx, chain, left-1)
	}
	return nil
}

func family(ctx workflow.Context) error {
	done := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: "child-done"}), child)
	stays := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: "child-stays", ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
	}), waiting)
	return errors.Join(stays.GetChildWorkflowExecution().Get(ctx, nil), done.Get(ctx, nil))
}

func child(ctx workflow.Context) error {
	return workflow.SignalExternalWorkflow(ctx, "family", "", "hello", nil).Get(ctx, nil)
}

// waiting takes signals and updates until it is cancelled, with a timer and an activity pending.
func waiting(ctx workflow.Context) error {
	if err := workflow.SetUpdateHandler(ctx, "greet", func(workflow.Context) (string, error) { return "hello", nil }); err != nil {
		return err
	}
	elsewhere := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: "nobody", ScheduleToCloseTimeout: time.Hour})
	workflow.ExecuteActivity(elsewhere, "nothing")
	return workflow.Sleep(ctx, 2*time.Hour)
}

func listed(ctx workflow.Context) error {
	if err := workflow.UpsertTypedSearchAttributes(ctx, attributeColor.ValueSet("blue")); err != nil {
		return err
	}
	return workflow.UpsertMemo(ctx, map[string]any{"note": "seen"})
}

func failing(ctx workflow.Context) error { return errors.New("no") }
