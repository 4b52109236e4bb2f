package matching

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"

	statepb "github.com/perdure/perdure/api/state/v1"
)

func TestTurns(t *testing.T) {
	for _, c := range []struct {
		a, b  turn
		beats bool
	}{
		{turn{1, false}, turn{2, true}, true},
		{turn{2, true}, turn{1, false}, false},
		{turn{3, true}, turn{3, false}, true},
		{turn{3, false}, turn{3, true}, false},
		{turn{3, true}, turn{3, true}, false},
		{turn{3, false}, turn{3, false}, false},
	} {
		require.Equal(t, c.beats, c.a.beats(c.b), "%v %v", c.a, c.b)
	}
}

// fillTasks adds tasks to a partition that nobody polls yet, until they are stored.
func (h *hosts) fillTasks(number int32, name string, priority *commonpb.Priority, n int) {
	var adding sync.WaitGroup
	for i := range n {
		adding.Go(func() {
			task := newTask(fmt.Sprint(name, "-", i), 0)
			task.Priority = priority
			require.NoError(h.t, h.add(context.Background(), number, task))
		})
		if i%50 == 49 {
			adding.Wait()
		}
	}
	adding.Wait()
}

// TestLateTasksGoFirstWhereverTheyAre checks strict priority and fairness over partitions: each worker gets at most one more task of a
// backlog that is everywhere, or elsewhere, once a task is there that goes before it.
func TestLateTasksGoFirstWhereverTheyAre(t *testing.T) {
	const workers = 4
	giant := &commonpb.Priority{PriorityKey: 3, FairnessKey: "giant"}
	for name, late := range map[string]*commonpb.Priority{
		"a higher priority": {PriorityKey: 1, FairnessKey: "giant"},
		"another tenant":    {PriorityKey: 3, FairnessKey: "small"},
	} {
		for _, partitions := range []int32{1, 4, 16} {
			for _, limit := range []float64{0, 20} {
				inHostsRun(t, fmt.Sprintf("%s, %d partitions, limit %v", name, partitions, limit), partitions, func(t *testing.T, h *hosts) {
					if limit > 0 {
						h.limit(limit)
					}
					for number := range min(partitions, 3) {
						h.fillTasks(number, fmt.Sprint("giant", number), giant, 200)
					}
					// Nobody polls the root, where most things meet.
					order, stop := h.goWorkAt(workers, 100*time.Millisecond, func(worker int) int32 { return min(1+int32(worker)%2, partitions-1) })
					time.Sleep(2 * time.Second)
					for at := range partitions {
						id := fmt.Sprint("late-", at)
						task := &statepb.Task{WorkflowId: id, RunId: "run", ScheduledEventId: 2, Attempt: 1, Priority: late}
						before := len(order())
						require.NoError(t, h.add(t.Context(), at, task))
						for !slices.Contains(order(), id) {
							time.Sleep(10 * time.Millisecond)
						}
						overtook := slices.Index(order(), id) - before
						// One task per worker; a partition that had just been told that there is nothing else gives one more.
						require.LessOrEqual(t, overtook, 2*workers, "at %d", at)
					}
					stop()
				})
			}
		}
	}
}

// TestNoPartitionStarvesWhileOthersAreDue gives the root a crowd of tenants and another partition one: that gets something, too.
func TestNoPartitionStarvesWhileOthersAreDue(t *testing.T) {
	inHosts(t, 2, Config{Partitions: 2}, func(t *testing.T, h *hosts) {
		for tenant := range 50 {
			h.fillTasks(0, fmt.Sprint("t", tenant), &commonpb.Priority{FairnessKey: fmt.Sprint("t", tenant)}, 20)
		}
		h.fillTasks(1, "lone", &commonpb.Priority{FairnessKey: "lone"}, 200)
		order, stop := h.goWork(4, 2, 10*time.Millisecond)
		time.Sleep(2 * time.Second)
		stop()
		got := 0
		for _, id := range order() {
			if strings.HasPrefix(id, "lone-") {
				got++
			}
		}
		require.Greater(t, got, len(order())/100, "of %d", len(order()))
		require.Less(t, got, len(order()), "of %d", len(order()))
	})
}

// TestATaskCanBeMatchedWhileItIsStored checks that a task never hides between the wait in memory and the backlog.
func TestATaskCanBeMatchedWhileItIsStored(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		proceed := make(chan struct{})
		f.store.setFault(func(operation string) (bool, error) {
			if operation == "write" {
				<-proceed
			}
			return true, nil
		})
		add := f.goAdd(workflowQueue, "w")
		time.Sleep(2 * syncMatchWait)
		synctest.Wait()
		require.Equal(t, "w", f.mustPoll(5*time.Second))
		require.True(t, (<-add).response.GetMatched())
		close(proceed)
		require.Equal(t, "", f.mustPoll(5*time.Second), "it is not dispatched twice")
		time.Sleep(2 * ackFlushDelay)
		require.Zero(t, f.store.rows(workflowKey), "its row is deleted")
		require.Zero(t, f.describe().GetStats().GetApproximateBacklogCount())
	})
}

// TestATaskWhoseRowFailsWhileAPollHasIt checks the same when the write fails.
func TestATaskWhoseRowFailsWhileAPollHasIt(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		proceed := make(chan struct{})
		f.store.setFault(func(operation string) (bool, error) {
			if operation == "write" {
				<-proceed
				return false, fmt.Errorf("disk full")
			}
			return true, nil
		})
		add := f.goAdd(workflowQueue, "lost")
		time.Sleep(2 * syncMatchWait)
		f.history.entered, f.history.proceed = make(chan string), make(chan struct{})
		poll := f.goPoll(context.Background(), workflowQueue)
		require.NotEmpty(t, <-f.history.entered)
		close(proceed)
		require.Error(t, (<-add).err, "the caller is told that it may not be stored")
		close(f.history.proceed)
		require.Equal(t, "lost", (<-poll).id())
		require.Zero(t, f.describe().GetStats().GetApproximateBacklogCount())
	})
}
