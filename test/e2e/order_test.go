package e2e

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/perdure/perdure/examples/order"
	"github.com/perdure/perdure/test/harness"
)

var sample = order.Order{ID: "o-1", Customer: "Ada", Items: []order.Item{{Name: "cup", Quantity: 2, Price: 650}}}

func startWorker(t *testing.T, c client.Client, o worker.Options) worker.Worker {
	t.Helper()
	w := worker.New(c, order.TaskQueue, o)
	order.Register(w, &order.Shop{Log: slog.New(slog.DiscardHandler), Limit: 100_000})
	require.NoError(t, w.Start())
	return w
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestOrderExample(t *testing.T) {
	for _, f := range harness.Flavours {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			s := f.Start(t)
			c := s.Dial(t)
			w := startWorker(t, c, worker.Options{})
			defer w.Stop()

			run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "order-1", TaskQueue: order.TaskQueue}, order.WorkflowType, sample)
			require.NoError(t, err)
			var receipt order.Receipt
			require.NoError(t, run.Get(ctx, &receipt))
			require.Equal(t, order.Receipt{OrderID: "o-1", Total: 1300, Payment: "payment-o-1", Tracking: "track-o-1"}, receipt)

			// Somebody else can ask for the result by the id alone.
			other := s.Dial(t)
			receipt = order.Receipt{}
			require.NoError(t, other.GetWorkflow(ctx, "order-1", "").Get(ctx, &receipt))
			require.Equal(t, "track-o-1", receipt.Tracking)

			d, err := other.DescribeWorkflowExecution(ctx, "order-1", "")
			require.NoError(t, err)
			require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, d.WorkflowExecutionInfo.Status)
		})
	}
}

// A failure that no retry can mend ends the workflow with its type.
func TestOrderDeclined(t *testing.T) {
	ctx := testContext(t)
	s := harness.StartDev(t)
	c := s.Dial(t)
	w := startWorker(t, c, worker.Options{})
	defer w.Stop()
	dear := sample
	dear.Items = []order.Item{{Name: "piano", Quantity: 1, Price: 1_000_000}}
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "order-dear", TaskQueue: order.TaskQueue}, order.WorkflowType, dear)
	require.NoError(t, err)
	require.ErrorContains(t, run.Get(ctx, nil), order.DeclinedError)
}

// The server dies in the middle of a workflow, while its timer runs, and the workflow goes on from there: nothing is done twice.
func TestOrderSurvivesCrash(t *testing.T) {
	for _, f := range harness.Flavours {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			s := f.Start(t)
			c := s.Dial(t)
			w := startWorker(t, c, worker.Options{})
			defer w.Stop()
			slow := sample
			slow.PackingTime = 2 * time.Second
			run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "order-slow", TaskQueue: order.TaskQueue}, order.WorkflowType, slow)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return countEvents(ctx, c, "order-slow")[enumspb.EVENT_TYPE_TIMER_STARTED] == 1 }, time.Minute, 20*time.Millisecond)

			s.Crash()

			var receipt order.Receipt
			require.NoError(t, s.Dial(t).GetWorkflow(ctx, run.GetID(), run.GetRunID()).Get(ctx, &receipt))
			require.Equal(t, "track-o-1", receipt.Tracking)
			events := countEvents(ctx, c, "order-slow")
			require.Equal(t, 2, events[enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED])
			require.Equal(t, 2, events[enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED])
			require.Equal(t, 1, events[enumspb.EVENT_TYPE_TIMER_FIRED])
		})
	}
}

// countEvents reads a history and checks that its ids are dense.
func countEvents(ctx context.Context, c client.Client, id string) map[enumspb.EventType]int {
	counts := map[enumspb.EventType]int{}
	next := int64(1)
	for it := c.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); next++ {
		e, err := it.Next()
		if err != nil {
			return nil
		}
		if e.EventId != next {
			panic("the history has a gap")
		}
		counts[e.EventType]++
	}
	return counts
}
