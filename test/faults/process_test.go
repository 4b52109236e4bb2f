package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const parallelJourneys = 20

// A rolling restart of history and matching is seen by nobody: no failed call, no ERROR in any log.
func TestGracefulStopsAreNotSeen(t *testing.T) {
	f := newFleet(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	for _, n := range []*node{f.history[0], f.matching[0], f.history[1], f.matching[1]} {
		n.stop()
		l.await(10)
		n.start()
		n.awaitReady()
		l.await(10)
	}
	l.finish(f)
	require.Empty(t, l.sample(), "failed calls")
	require.Empty(t, f.errorsLogged())
}

// A frontend that stops sends its callers to the other one: the SDK repeats, the program hears nothing.
func TestGracefulStopOfAFrontend(t *testing.T) {
	f := newFleet(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	f.frontends[0].stop()
	l.await(20)
	f.frontends[0].start()
	f.frontends[0].awaitReady()
	l.finish(f)
	require.Empty(t, f.errorsLogged())
}

func TestKill(t *testing.T) {
	for service, of := range map[string]func(*fleet) []*node{
		"history":  func(f *fleet) []*node { return f.history },
		"matching": func(f *fleet) []*node { return f.matching },
		"frontend": func(f *fleet) []*node { return f.frontends },
	} {
		t.Run(service, func(t *testing.T) {
			f := newFleet(t)
			l := f.startLoad(parallelJourneys)
			for _, n := range of(f) {
				l.await(parallelJourneys)
				n.kill()
				l.await(parallelJourneys)
				n.start()
				n.awaitReady()
			}
			l.finish(f)
		})
	}
}

// Every process of the cluster dies at once and comes back.
func TestKillEverything(t *testing.T) {
	f := newFleet(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	for _, n := range f.nodes() {
		n.kill()
	}
	for _, n := range f.nodes() {
		n.start()
	}
	f.awaitReady()
	l.finish(f)
}

// Processes that run all services each share the work, and go on without each other.
func TestAllInOneProcesses(t *testing.T) {
	f := newPair(t)
	l := f.startLoad(parallelJourneys)
	for _, n := range f.frontends {
		l.await(parallelJourneys)
		n.kill()
		l.await(parallelJourneys)
		n.start()
		n.awaitReady()
	}
	for _, n := range f.frontends {
		l.await(parallelJourneys)
		n.stop()
		n.start()
		n.awaitReady()
	}
	l.finish(f)
}

// takeoverMax is how long the shards of a dead host may be without an owner.
const takeoverMax = 5 * time.Second

// A dead history host's shards are served elsewhere in seconds.
func TestTakeover(t *testing.T) {
	f := newFleet(t)
	c := f.dial()
	ids := sleepers(t, c, 64)
	f.history[0].kill()
	took := signalAll(t, c, ids)
	t.Logf("all shards were served again after %v", took)
	judge(t, took, takeoverMax)
}

// A host that is frozen for longer than its lease finds itself fenced, and goes on.
func TestFreeze(t *testing.T) {
	f := newFleet(t)
	ids := sleepers(t, f.dial(), 64)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	frozen := f.history[0]
	frozen.freeze()
	took := signalAll(t, f.dial(), ids)
	t.Logf("the shards of a frozen host were served again after %v", took)
	awaitLease(t)
	frozen.thaw()
	require.Eventually(t, frozen.ready, recoverMax, 20*time.Millisecond)
	require.Contains(t, frozen.output(), "giving up what it owned")
	l.await(2 * parallelJourneys)
	l.finish(f)
}

// awaitLease waits until the lease of every process of that moment would have ended.
func awaitLease(t testing.TB) {
	t.Helper()
	const lease = 10 * time.Second
	timer := time.NewTimer(lease)
	defer timer.Stop()
	<-timer.C
}

// sleepers starts workflows that only wait for signals, spread over the shards.
func sleepers(t *testing.T, c client.Client, count int) []string {
	t.Helper()
	w := worker.New(c, "sleepers", worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		workflow.GetSignalChannel(ctx, "wake").Receive(ctx, nil)
		return nil
	}, workflow.RegisterOptions{Name: "sleeper"})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	ids := make([]string, count)
	for i := range ids {
		ids[i] = fmt.Sprint("sleeper-", i)
		_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: ids[i], TaskQueue: "sleepers"}, "sleeper")
		require.NoError(t, err)
	}
	return ids
}

// wake signals one workflow, for longer than the SDK does by itself.
func wake(ctx context.Context, c client.Client, id string) error {
	for {
		err := c.SignalWorkflow(ctx, id, "", "wake", nil)
		var ended *serviceerror.NotFound
		if err == nil || errors.As(err, &ended) || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// signalAll wakes workflows side by side and returns how long it took until the last one was awake and had ended.
func signalAll(t *testing.T, c client.Client, ids []string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), recoverMax)
	defer cancel()
	begun := time.Now()
	errs := make([]error, len(ids))
	var signaled sync.WaitGroup
	for i, id := range ids {
		signaled.Go(func() { errs[i] = wake(ctx, c, id) })
	}
	signaled.Wait()
	took := time.Since(begun)
	for i, id := range ids {
		require.NoError(t, errs[i], id)
		require.NoError(t, c.GetWorkflow(ctx, id, "").Get(ctx, nil), id)
	}
	return took
}
