package matching

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	workflowservice "go.temporal.io/api/workflowservice/v1"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// idleQueueBytesMax is what a partition with one waiting poll may take of the heap, the caller's own request excluded.
const idleQueueBytesMax = 2 << 10

func TestIdleQueuesAreCheap(t *testing.T) {
	const queues = 20_000
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		heap := func() uint64 {
			synctest.Wait()
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			return stats.HeapAlloc
		}
		ctx, cancel := context.WithCancel(t.Context())
		// The runtime keeps what it needs for a goroutine. Let it have that for as many as there will be: each poll's caller has one, and
		// each queue is loaded by one that ends.
		ready := make(chan struct{})
		for range 2 * queues {
			go func() { <-ready }()
		}
		synctest.Wait()
		close(ready)
		// What callers hold in any case: a goroutine's bookkeeping and a request.
		empty := heap()
		proceed := make(chan struct{})
		for i := range queues {
			go func() {
				request := &matchingpb.PollWorkflowTaskQueueRequest{
					Partition: normalNamed(fmt.Sprint("queue-", i)), PollId: "poll",
					Request: &workflowservice.PollWorkflowTaskQueueRequest{Identity: "worker", WorkerInstanceKey: "instance"},
				}
				<-proceed
				runtime.KeepAlive(request)
			}()
		}
		callers := (heap() - empty) / queues
		close(proceed)
		before := heap()
		goroutines := runtime.NumGoroutine()
		done := make(chan struct{}, queues)
		for i := range queues {
			go func() {
				defer func() { done <- struct{}{} }()
				_, _ = f.poll(ctx, normalNamed(fmt.Sprint("queue-", i)))
			}()
		}
		each := (heap()-before)/queues - callers
		t.Logf("%d bytes per idle queue, and %d of its caller", each, callers)
		require.Less(t, each, uint64(idleQueueBytesMax))
		require.LessOrEqual(t, runtime.NumGoroutine()-goroutines, queues, "only the callers' goroutines")
		cancel()
		for range queues {
			<-done
		}
		time.Sleep(idleUnload + 2*sweepInterval)
		synctest.Wait()
		require.Empty(t, f.service.partitions)
		require.Nil(t, f.service.sweeper, "nothing is left to wake up for")
		f.stop()
	})
}

// BenchmarkSyncMatch is the cost of a task that meets a waiting poll, history excluded.
func BenchmarkSyncMatch(b *testing.B) {
	f := &fixture{store: newFakeStore(), history: newFakeHistory()}
	f.service = New(Params{Store: f.store, History: constantHistory{}, Config: Config{DispatchRateMax: 1e9}})
	defer f.service.Stop(context.Background()) //nolint:errcheck // nothing is stored
	task := newTask("w", 0)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_, _ = f.poll(ctx, workflowQueue)
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.add(workflowQueue, task); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-ended
}
