package matching

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// idleQueueBytesMax is what a partition with one waiting poll may take of the heap: the partition, the poll, its timer and the
// call's own request and context.
const idleQueueBytesMax = 4 << 10

func TestIdleQueuesAreCheap(t *testing.T) {
	const queues = 100_000
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
		before := heap()
		goroutines := runtime.NumGoroutine()
		done := make(chan struct{}, queues)
		for i := range queues {
			go func() {
				defer func() { done <- struct{}{} }()
				_, _ = f.poll(ctx, normalNamed(fmt.Sprint("queue-", i)))
			}()
		}
		each := (heap() - before) / queues
		t.Logf("%d bytes per idle queue", each)
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
