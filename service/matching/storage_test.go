package matching

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/persistence"
)

func TestUnknownOutcomeOfAWrite(t *testing.T) {
	for name, applied := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				f.store.failNext("write", applied, persistence.ErrOutcomeUnknown)
				response, err := f.add(workflowQueue, newTask("w", 0))
				require.NoError(t, err)
				require.False(t, response.GetMatched())
				require.Equal(t, 2, f.store.count("take"), "the lease is taken again to decide it")
				require.Equal(t, "w", f.mustPoll(time.Minute))
				require.Equal(t, "", f.mustPoll(10*time.Second), "a second copy is obsolete")
				require.Equal(t, []string{"w"}, f.history.starts())
				require.Zero(t, f.store.rows(workflowKey))
			})
		})
	}
}

func TestATaskWhoseWritesStayUnknownIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.store.setFault(func(op string) (bool, error) {
			if op == "write" {
				return true, persistence.ErrOutcomeUnknown
			}
			return false, nil
		})
		_, err := f.add(workflowQueue, newTask("w", 0))
		var unavailable *serviceerror.Unavailable
		require.ErrorAs(t, err, &unavailable)
		require.Equal(t, writeTriesMax, f.store.count("write"))
		require.Equal(t, writeTriesMax, f.store.rows(workflowKey))

		// What is stored all the same is found without another write, also if the lease cannot be taken at first.
		f.store.setFault(func(op string) (bool, error) {
			if op == "take" {
				return false, persistence.ErrUnavailable
			}
			return false, nil
		})
		time.Sleep(10 * storeRetryDelay)
		f.store.setFault(nil)
		time.Sleep(2 * storeRetryDelay)
		require.EqualValues(t, writeTriesMax, f.describe().GetStats().GetApproximateBacklogCount())
		require.Equal(t, "w", f.mustPoll(time.Minute))
		require.Equal(t, "", f.mustPoll(10*time.Second), "the other copies are obsolete")
		require.Zero(t, f.store.rows(workflowKey))
	})
}

func TestUnknownOutcomeOfADeletion(t *testing.T) {
	for name, applied := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				f.spool(0, "a")
				f.store.failNext("update", applied, persistence.ErrOutcomeUnknown)
				require.Equal(t, "a", f.mustPoll(time.Minute))
				time.Sleep(time.Minute)
				require.Zero(t, f.store.rows(workflowKey))
				f.spool(0, "b")
				require.Equal(t, "b", f.mustPoll(time.Minute))
			})
		})
	}
}

func TestAFencedPartitionIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "a")
		_, err := f.store.TakeQueue(t.Context(), "other host", workflowKey)
		require.NoError(t, err)
		_, err = f.add(workflowQueue, newTask("b", 0))
		var unavailable *serviceerror.Unavailable
		require.ErrorAs(t, err, &unavailable)
		require.Empty(t, f.service.partitions)
		require.Equal(t, 1, f.store.rows(workflowKey), "nothing was written")

		_, err = f.add(workflowQueue, newTask("b", 0))
		require.NoError(t, err, "the caller's retry takes it back")
		require.Equal(t, "a", f.mustPoll(time.Minute))
		require.Equal(t, "b", f.mustPoll(time.Minute))
	})
}

func TestAFencedDeletionSendsPollsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "a")
		require.Equal(t, "a", f.mustPoll(time.Minute))
		begin := time.Now()
		poll := f.goPoll(t.Context(), workflowQueue)
		_, err := f.store.TakeQueue(t.Context(), "other host", workflowKey)
		require.NoError(t, err)
		got := <-poll
		require.NoError(t, got.err)
		require.Empty(t, got.response.GetTaskToken())
		require.LessOrEqual(t, time.Since(begin), ackFlushDelay, "it does not wait for a task that goes elsewhere")
	})
}

func TestStoreFailures(t *testing.T) {
	for _, op := range []string{"get", "take", "write"} {
		t.Run(op, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				f.store.failNext(op, false, persistence.ErrUnavailable)
				_, err := f.add(workflowQueue, newTask("w", 0))
				var unavailable *serviceerror.Unavailable
				require.ErrorAs(t, err, &unavailable)
				_, err = f.add(workflowQueue, newTask("w", 0))
				require.NoError(t, err)
				require.Equal(t, "w", f.mustPoll(time.Minute))
			})
		})
	}
	t.Run("read", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fixture) {
			f.spool(0, "w")
			f.stop()
			f.boot()
			f.store.failNext("read", false, persistence.ErrUnavailable)
			begin := time.Now()
			require.Equal(t, "w", f.mustPoll(time.Minute))
			require.Equal(t, storeRetryDelay, time.Since(begin))
		})
	})
	t.Run("update", func(t *testing.T) {
		inBubble(t, func(t *testing.T, f *fixture) {
			f.spool(0, "w")
			f.store.failNext("update", false, persistence.ErrUnavailable)
			require.Equal(t, "w", f.mustPoll(time.Minute))
			time.Sleep(time.Minute)
			require.Zero(t, f.store.rows(workflowKey))
		})
	})
}

// TestConcurrentTasksShareAWrite checks the group commit: while a write is under way, the others collect.
func TestConcurrentTasksShareAWrite(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		const tasks = 3 * writeBatchMax
		f.store.setFault(func(op string) (bool, error) {
			if op == "write" {
				time.Sleep(10 * time.Millisecond)
			}
			return false, nil
		})
		var adds []<-chan added
		for i := range tasks {
			done := make(chan added, 1)
			adds = append(adds, done)
			go func() {
				response, err := f.add(workflowQueue, newTask(fmt.Sprint(i), 0))
				done <- added{response, err}
			}()
		}
		for _, add := range adds {
			require.NoError(t, (<-add).err)
		}
		require.Equal(t, tasks, f.store.rows(workflowKey))
		require.LessOrEqual(t, f.store.count("write"), 5)
	})
}

// TestALongBacklogStaysOnDisk checks that memory is bounded, the count exact, and the order kept.
func TestALongBacklogStaysOnDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		const tasks, polls = 100_000, 3 * readPage
		q, err := f.store.TakeQueue(t.Context(), "earlier", workflowKey)
		require.NoError(t, err)
		rows := make([]persistence.BacklogTask, tasks)
		for i := range rows {
			rows[i] = backlogRow(t, rowKey(int64(q.Epoch)<<idCounterBits|int64(i+1)), fmt.Sprint(i))
		}
		require.NoError(t, f.store.WriteTasks(t.Context(), workflowKey, q.Epoch, rows))
		f.service.store = &sortedStore{fakeStore: f.store, rows: rows}

		for i := range polls {
			require.Equal(t, fmt.Sprint(i), f.mustPoll(time.Minute))
			synctest.Wait()
			require.EqualValues(t, tasks-i-1, f.describe().GetStats().GetApproximateBacklogCount())
			f.requireBounded()
		}
	})
}

// requireBounded checks what a partition holds of its backlog.
func (f *fixture) requireBounded() {
	p := f.service.partitions[queueKey{QueueKey: workflowKey}]
	p.mu.Lock()
	defer p.mu.Unlock()
	level := p.backlog.levels[levelDefault-1]
	require.LessOrEqual(f.t, level.waiting, loadedTasksMax)
	require.LessOrEqual(f.t, len(p.matcher.lanes[levelDefault-1].backlog), loadedTasksMax)
	require.LessOrEqual(f.t, len(level.acks.rows), loadedTasksMax+ackFlushTasks)
}

// sortedStore reads a long, constant backlog without sorting it each time.
type sortedStore struct {
	*fakeStore
	rows []persistence.BacklogTask
}

func (s *sortedStore) ReadTasks(_ context.Context, _ persistence.QueueKey, level int16, after persistence.TaskKey, limit int) ([]persistence.BacklogTask, error) {
	if level != levelDefault {
		return nil, nil
	}
	from := 0
	if after.ID > s.rows[0].Key.ID {
		from = int(after.ID - s.rows[0].Key.ID)
	}
	if after.ID >= s.rows[0].Key.ID {
		from++
	}
	from = min(from, len(s.rows))
	return s.rows[from:min(from+limit, len(s.rows))], nil
}

// TestWritesDoNotStarveTheRest keeps the writer of a limited queue busy with new tasks: others are dispatched all the while, and their rows
// deleted.
func TestWritesDoNotStarveTheRest(t *testing.T) {
	inHosts(t, 1, Config{}, func(t *testing.T, h *hosts) {
		const limit, lasts, step = 10, 15 * time.Second, 500 * time.Millisecond
		h.limit(limit)
		h.store.setFault(func(operation string) (bool, error) {
			if operation == "write" {
				time.Sleep(step)
			}
			return true, nil
		})
		var adders sync.WaitGroup
		order, stop := h.goWork(4, 1, 0)
		deleted := false
		for begun, n := time.Now(), 0; time.Since(begun) < lasts; time.Sleep(step) {
			for range writeBatchMax + 50 {
				n++
				task := newTask(fmt.Sprint(n), 0)
				adders.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					require.NoError(t, h.add(ctx, 0, task))
				})
			}
			deleted = deleted || h.store.count("update") > 2
		}
		require.GreaterOrEqual(t, float64(len(order())), 0.97*limit*(lasts-2*time.Second).Seconds(), "while tasks were being stored")
		require.True(t, deleted, "rows are deleted while others are stored")
		stop()
		adders.Wait()
	})
}
