package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/test/harness"
)

const (
	taskQueue = "journeys"
	// attemptMax bounds one call of the load; a failed one is repeated.
	attemptMax = 30 * time.Second
	// settleMax is how long the journeys that are under way may take to end once the faults are over: an activity whose task was lost
	// with a process is given up after its timeout, and so on.
	settleMax = 3 * time.Minute
)

// journey is what each workflow of the load goes through: all that can be lost or doubled.
type journey struct {
	Echo    int
	Child   int
	Signals int
	Updates int
	// Once is whether the activity with one attempt has said that it ran; if its task was lost it has not, and must not have twice.
	Once bool
}

func journeyWorkflow(ctx workflow.Context, n int) (journey, error) {
	var j journey
	err := workflow.SetUpdateHandler(ctx, "add", func(_ workflow.Context, by int) (int, error) {
		j.Updates += by
		return j.Updates, nil
	})
	if err != nil {
		return j, err
	}
	if err := workflow.SetQueryHandler(ctx, "journey", func() (journey, error) { return j, nil }); err != nil {
		return j, err
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID + "-child",
	}), childWorkflow, n)
	again := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 5 * time.Second, HeartbeatTimeout: 20 * time.Second, // the SDK gives a heartbeat two fifths of it
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumInterval: time.Second},
	})
	if err := workflow.ExecuteActivity(again, "echo", n).Get(ctx, &j.Echo); err != nil {
		return j, err
	}
	once := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 5 * time.Second, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	switch err := workflow.ExecuteActivity(once, "once").Get(ctx, nil); {
	case err == nil:
		j.Once = true
	case !temporal.IsTimeoutError(err):
		return j, err
	}
	if err := workflow.Sleep(ctx, 200*time.Millisecond); err != nil {
		return j, err
	}
	signals := workflow.GetSignalChannel(ctx, "go")
	signals.Receive(ctx, nil)
	j.Signals++
	for signals.ReceiveAsync(nil) {
		j.Signals++
	}
	if err := workflow.Await(ctx, func() bool { return j.Updates == 2 && workflow.AllHandlersFinished(ctx) }); err != nil {
		return j, err
	}
	return j, child.Get(ctx, &j.Child)
}

func childWorkflow(ctx workflow.Context, n int) (int, error) {
	return 2 * n, workflow.Sleep(ctx, 50*time.Millisecond)
}

// load drives journeys through a fleet.
type load struct {
	t       testing.TB
	client  client.Client
	started atomic.Int64
	done    atomic.Int64
	// underWay are the journeys that have not ended, by workflow id.
	underWay sync.Map
	// once counts the executions of the activity with one attempt, by workflow id.
	once sync.Map
	// failed counts the calls that failed below the SDK's retries; failures are the first of them.
	failed atomic.Int64
	// slowest is the longest call that does not wait for something to happen, in nanoseconds.
	slowest  atomic.Int64
	mu       sync.Mutex
	failures []string
	wrong    []string

	stop chan struct{}
	// given is done when the test has ended without finish: it has failed.
	given context.Context
	work  sync.WaitGroup
}

// failuresKept bounds the failed calls that a load remembers.
const failuresKept = 20

func (f *fleet) dial(interceptors ...grpc.UnaryClientInterceptor) client.Client {
	f.t.Helper()
	options := []grpc.DialOption{grpc.WithResolvers(f.resolver)}
	for _, i := range interceptors {
		options = append(options, grpc.WithChainUnaryInterceptor(i))
	}
	c, err := client.Dial(client.Options{
		HostPort: "fleet:///", Logger: harness.Quiet{}, ConnectionOptions: client.ConnectionOptions{DialOptions: options},
	})
	require.NoError(f.t, err)
	f.t.Cleanup(c.Close)
	return c
}

// startLoad keeps so many journeys under way until finish.
func (f *fleet) startLoad(parallel int) *load {
	f.t.Helper()
	l := &load{t: f.t, stop: make(chan struct{})}
	l.client = f.dial(l.watch)
	w := worker.New(l.client, taskQueue, worker.Options{MaxConcurrentActivityExecutionSize: 50, WorkerStopTimeout: 5 * time.Second})
	w.RegisterWorkflow(journeyWorkflow)
	w.RegisterWorkflow(childWorkflow)
	w.RegisterActivityWithOptions(func(ctx context.Context, n int) (int, error) {
		activity.RecordHeartbeat(ctx, n)
		return n, nil
	}, activity.RegisterOptions{Name: "echo"})
	w.RegisterActivityWithOptions(func(ctx context.Context) error {
		id := activity.GetInfo(ctx).WorkflowExecution.ID
		count, _ := l.once.LoadOrStore(id, new(atomic.Int64))
		count.(*atomic.Int64).Add(1)
		return nil
	}, activity.RegisterOptions{Name: "once"})
	require.NoError(f.t, w.Start())
	f.t.Cleanup(w.Stop)
	var giveUp context.CancelFunc
	l.given, giveUp = context.WithCancel(context.Background())
	f.t.Cleanup(func() {
		giveUp()
		l.work.Wait()
	})
	for range parallel {
		l.work.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				case <-l.given.Done():
					return
				default:
					l.journey(int(l.started.Add(1)))
				}
			}
		})
	}
	return l
}

// watch notes the calls that fail although nothing is wrong with them.
func (l *load) watch(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	begun := time.Now()
	err := invoke(ctx, method, req, reply, conn, opts...)
	switch req.(type) {
	case *workflowservice.SignalWorkflowExecutionRequest, *workflowservice.StartWorkflowExecutionRequest,
		*workflowservice.RespondActivityTaskCompletedRequest, *workflowservice.RespondWorkflowTaskCompletedRequest:
		for took := int64(time.Since(begun)); ; {
			longest := l.slowest.Load()
			if took <= longest || l.slowest.CompareAndSwap(longest, took) {
				break
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		l.failed.Add(1)
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.failures) < failuresKept {
			l.failures = append(l.failures, fmt.Sprintf("%s %s: %s: %s\n", time.Now().UTC().Format(time.StampMilli), method, status.Code(err), status.Convert(err).Message()))
		}
	}
	return err
}

func journeyID(n int) string { return fmt.Sprintf("journey-%d", n) }

// journey is one workflow from its start to its result. Whatever fails is repeated, as a careful client would.
func (l *load) journey(n int) {
	id := journeyID(n)
	l.underWay.Store(id, true)
	defer l.underWay.Delete(id)
	l.insist(func(ctx context.Context) error {
		_, err := l.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: id, TaskQueue: taskQueue, WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE, WorkflowTaskTimeout: 5 * time.Second,
		}, journeyWorkflow, n)
		return err
	})
	l.insist(func(ctx context.Context) error { return l.client.SignalWorkflow(ctx, id, "", "go", nil) })
	for i := range 2 {
		l.insist(func(ctx context.Context) error {
			handle, err := l.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
				WorkflowID: id, UpdateID: fmt.Sprint("update-", i), UpdateName: "add", Args: []any{1}, WaitForStage: client.WorkflowUpdateStageCompleted,
			})
			if err != nil {
				return err
			}
			var sum int
			return handle.Get(ctx, &sum)
		})
	}
	var got journey
	l.insist(func(ctx context.Context) error { return l.client.GetWorkflow(ctx, id, "").Get(ctx, &got) })
	if got.Echo != n || got.Child != 2*n || got.Signals < 1 || got.Updates != 2 {
		l.mu.Lock()
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %+v", id, got))
		l.mu.Unlock()
	}
	l.done.Add(1)
}

// insist repeats a call for as long as the test may still succeed.
func (l *load) insist(call func(context.Context) error) {
	deadline := time.Now().Add(2 * settleMax)
	for {
		ctx, cancel := context.WithTimeout(l.given, attemptMax)
		err := call(ctx)
		cancel()
		var started *serviceerror.WorkflowExecutionAlreadyStarted
		if err == nil || errors.As(err, &started) || l.given.Err() != nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Errorf("gave up: %v", err)
			return
		}
		timer := time.NewTimer(50 * time.Millisecond)
		<-timer.C
	}
}

// await waits until so many more journeys have come to their end: the fleet works.
func (l *load) await(more int64) {
	l.t.Helper()
	target := l.done.Load() + more
	require.Eventually(l.t, func() bool { return l.done.Load() >= target }, settleMax, 10*time.Millisecond, "the load does not go on; failed calls: %v", l.sample())
}

func (l *load) sample() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.failures...)
}

// finish ends the load and counts.
func (l *load) finish(f *fleet) {
	l.t.Helper()
	close(l.stop)
	ended := make(chan struct{})
	go func() {
		l.work.Wait()
		close(ended)
	}()
	timer := time.NewTimer(settleMax)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		l.underWay.Range(func(id, _ any) bool {
			l.t.Errorf("has not ended: %s", f.show(id.(string)))
			return true
		})
		l.t.Fatalf("%d of %d journeys have not ended; failed calls: %v", l.started.Load()-l.done.Load(), l.started.Load(), l.sample())
	}
	require.Empty(l.t, l.wrong)
	require.Equal(l.t, l.started.Load(), l.done.Load())
	l.once.Range(func(id, count any) bool {
		require.EqualValues(l.t, 1, count.(*atomic.Int64).Load(), "%v: an activity with one attempt", id)
		return true
	})
	l.requireHistories()
	l.requireListed()
	f.requireNoPanics()
	f.requireSound()
	l.t.Logf("%d journeys; %d calls failed below the SDK's retries; the slowest that does not wait took %v",
		l.done.Load(), l.failed.Load(), time.Duration(l.slowest.Load()))
}

// requireHistories checks that histories are dense and that every workflow has ended once.
func (l *load) requireHistories() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), recoverMax)
	defer cancel()
	for n := 1; n <= int(l.done.Load()); n++ {
		next, closes := int64(1), 0
		for it := l.client.GetWorkflowHistory(ctx, journeyID(n), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); next++ {
			e, err := it.Next()
			require.NoError(l.t, err)
			require.Equal(l.t, next, e.EventId, journeyID(n))
			if e.EventType == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED {
				closes++
			}
		}
		require.Equal(l.t, 1, closes, journeyID(n))
	}
}

// requireListed checks that visibility says what has happened, and that no task is left behind.
func (l *load) requireListed() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), recoverMax)
	defer cancel()
	count := func(query string) int64 {
		answer, err := l.client.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		require.NoError(l.t, err)
		return answer.GetCount()
	}
	const all = "WorkflowType IN ('journeyWorkflow', 'childWorkflow') AND ExecutionStatus = "
	require.Equal(l.t, 2*l.done.Load(), count(all+"'Completed'"), "journeys and their children")
	require.Zero(l.t, count(all+"'Running'"))
}
