// Package overload floods a real server and looks at who suffers: those who flood, for as long as they do, and nobody else.
package overload

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, "cmd/perdure")) }

const (
	flooded = "flooded"
	calm    = "calm"
	// workflows of each namespace, and how long one may take on a busy machine.
	workflows = 10
	patience  = 2 * time.Minute
)

// limited runs a server in which each namespace may make some calls per second.
func limited(t *testing.T, args ...string) (addr string) {
	t.Helper()
	addr = harness.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	harness.Start(t, nil, "perdure", append([]string{"server", "start-dev", "--headless", "--port", port,
		"--namespace", flooded, "--namespace", calm}, args...)...).AwaitReady(addr)
	return addr
}

// refusals counts what a client is refused, before its library tries again.
type refusals struct {
	atomic.Int64
}

func (r *refusals) intercept(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	if status.Code(err) == codes.ResourceExhausted {
		r.Add(1)
	}
	return err
}

func dial(t *testing.T, addr, namespace string) (client.Client, *refusals) {
	t.Helper()
	r := &refusals{}
	options := client.Options{HostPort: addr, Namespace: namespace, Logger: harness.Quiet{}}
	// It is the innermost one: it sees every try.
	options.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(r.intercept)}
	c, err := client.Dial(options)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, r
}

func double(_ context.Context, n int) (int, error) { return 2 * n, nil }

func twice(ctx workflow.Context, n int) (result int, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: patience})
	err = workflow.ExecuteActivity(ctx, "double", n).Get(ctx, &result)
	return result, err
}

// work runs workflows with a worker of the namespace, all at once.
func work(t *testing.T, c client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w := worker.New(c, "q", worker.Options{})
	w.RegisterWorkflow(twice)
	w.RegisterActivityWithOptions(double, activity.RegisterOptions{Name: "double"})
	if err := w.Start(); err != nil {
		t.Error(err)
		return
	}
	defer w.Stop()
	var all sync.WaitGroup
	for i := range workflows {
		all.Go(func() {
			run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: fmt.Sprint("w", i), TaskQueue: "q"}, twice, i)
			if err != nil {
				t.Error(err)
				return
			}
			var result int
			if err := run.Get(ctx, &result); err != nil || result != 2*i {
				t.Errorf("workflow %d: %d, %v", i, result, err)
			}
		})
	}
	all.Wait()
}

// A namespace that floods the server is refused what is too much. Its workers are late and come through when the flood ends; another
// namespace notices nothing.
func TestFlood(t *testing.T) {
	addr := limited(t, "--limit-namespace-rps", "400", "--limit-namespace-visibility-rps", "1")
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	raw := workflowservice.NewWorkflowServiceClient(conn)
	start := func(ctx context.Context, id string) error {
		_, err := raw.StartWorkflowExecution(ctx, &workflowservice.StartWorkflowExecutionRequest{
			Namespace: flooded, WorkflowId: id, RequestId: id,
			WorkflowType: &commonpb.WorkflowType{Name: "nobody"}, TaskQueue: &taskqueuepb.TaskQueue{Name: "none"},
		})
		return err
	}

	flood, stop := context.WithCancel(t.Context())
	var floods sync.WaitGroup
	var accepted, refused atomic.Int64
	t.Cleanup(func() {
		stop()
		floods.Wait()
	})
	for f := range 8 {
		floods.Go(func() {
			for n := 0; flood.Err() == nil; n++ {
				err := start(context.Background(), fmt.Sprint("flood", f, "-", n))
				if err == nil {
					accepted.Add(1)
					continue
				}
				refused.Add(1)
				e, ok := serviceerror.FromStatus(status.Convert(err)).(*serviceerror.ResourceExhausted)
				if !ok || e.Cause != enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT || e.Scope != enumspb.RESOURCE_EXHAUSTED_SCOPE_NAMESPACE {
					t.Errorf("%T %v", err, err)
					return
				}
			}
		})
	}
	require.Eventually(t, func() bool { return refused.Load() > 100 }, patience, time.Millisecond)

	quiet, refusedQuiet := dial(t, addr, calm)
	busy, refusedBusy := dial(t, addr, flooded)
	var workers sync.WaitGroup
	t.Cleanup(workers.Wait)
	workers.Go(func() { work(t, busy) })
	work(t, quiet)
	require.Zero(t, refusedQuiet.Load(), "of the namespace that keeps within its limits")
	require.Eventually(t, func() bool { return refusedBusy.Load() > 0 }, patience, time.Millisecond)
	stop()
	floods.Wait()
	workers.Wait()
	require.Positive(t, accepted.Load())

	// What one kind of call is refused, others are not.
	list := func() error {
		_, err := raw.ListWorkflowExecutions(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Namespace: calm})
		return err
	}
	_ = list()
	require.Equal(t, codes.ResourceExhausted, status.Code(list()))
	_, err = raw.DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: calm})
	require.NoError(t, err)
}

// Polls beyond the limit are refused and do not wait; an SDK's worker, which then has fewer polls than it wants, works all the same.
func TestTooManyPolls(t *testing.T) {
	addr := limited(t, "--limit-namespace-waiting", "4")
	busy, refused := dial(t, addr, flooded)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w := worker.New(busy, "q", worker.Options{MaxConcurrentActivityTaskPollers: 3, MaxConcurrentWorkflowTaskPollers: 3})
	w.RegisterWorkflow(twice)
	w.RegisterActivityWithOptions(double, activity.RegisterOptions{Name: "double"})
	require.NoError(t, w.Start())
	defer w.Stop()
	require.Eventually(t, func() bool { return refused.Load() > 0 }, patience, time.Millisecond)
	run, err := busy.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "w", TaskQueue: "q"}, twice, 21)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // waiting for the result would be one more that waits
		d, err := busy.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
		return err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	}, patience, 50*time.Millisecond)
}
