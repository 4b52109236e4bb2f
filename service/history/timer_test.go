package history

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/service/history/historytest"
)

// sleeping starts a workflow that waits for a timer.
func (h *host) sleeping(id string, d time.Duration) string {
	run := h.run(id)
	h.complete(h.task(), startTimer("t", d))
	return run
}

func TestTimerFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.sleeping("w", 3*time.Second)
		begun := time.Now()
		task := h.task()
		require.Equal(t, 3*time.Second, time.Since(begun))
		require.Equal(t, enumspb.EVENT_TYPE_TIMER_FIRED, task.History.Events[5].EventType)
	})
}

// A run at rest loses its effects flag and has its exact wake-up stored; the next host does not load it before that.
func TestSleepingRunsAreNotLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.start(Config{})
		h.ctx = t.Context()
		begun := time.Now()
		run := h.sleeping("w", time.Hour)
		row := w.db.Row(run)
		require.True(t, row.HasEffects)
		require.True(t, row.WakeAt.IsZero())
		time.Sleep(2 * quietAfter)
		row = w.db.Row(run)
		require.False(t, row.HasEffects)
		require.Equal(t, begun.Add(time.Hour).UnixMicro(), row.WakeAt.UnixMicro())
		h.crash()

		h = w.start(Config{})
		h.ctx = t.Context()
		synctest.Wait()
		runs, _ := h.cache.size()
		require.Zero(t, runs)
		task := h.task()
		require.Equal(t, time.Hour, time.Since(begun).Round(time.Second))
		require.Len(t, task.History.Events, 8)
	})
}

// A transition without effects on a run without the flag keeps the stored wake-up early enough.
func TestWakeUpMovesForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.start(Config{})
		h.ctx = t.Context()
		run := h.run("w")
		h.complete(h.task(), startTimer("late", 2*time.Hour), scheduleActivity("a", func(a *commandpb.ScheduleActivityTaskCommandAttributes) {
			a.StartToCloseTimeout = durationpb.New(10 * time.Minute)
			a.RetryPolicy = noRetry()
		}))
		time.Sleep(2 * quietAfter) // the dispatch is acknowledged: it is in the backlog
		require.False(t, w.db.Row(run).HasEffects)
		h.activity()
		row := w.db.Row(run)
		require.False(t, row.HasEffects)
		require.WithinDuration(t, time.Now().Add(10*time.Minute), row.WakeAt, time.Millisecond)
		h.crash()

		h = w.start(Config{})
		h.ctx = t.Context()
		task := h.task() // the activity has timed out
		require.Equal(t, enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT, task.History.Events[len(task.History.Events)-3].EventType)
	})
}

// A workflow task that waits in the backlog needs nobody's attention; its start is then durable at once.
func TestTaskInTheBacklogIsAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.start(Config{})
		h.ctx = t.Context()
		run := h.run("w")
		time.Sleep(2 * quietAfter)
		require.False(t, w.db.Row(run).HasEffects)
		commits := w.db.Commits()
		h.task()
		require.Equal(t, 1, w.db.Commits()-commits)
		h.crash()

		h = w.start(Config{}) // nobody dispatches it again: the timeout of the lost worker does
		h.ctx = t.Context()
		require.EqualValues(t, 2, h.task().Attempt)
	})
}

// A wake-up whose commit fails comes again.
func TestFailedWakeUpComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.sleeping("w", 3*time.Second)
		failures := 0
		h.db.SetFault(func(m *persistence.Mutation) (f historytest.Fault) {
			if failures++; failures <= 3 {
				f.Err = persistence.ErrUnavailable
			}
			return f
		})
		begun := time.Now()
		h.task()
		require.GreaterOrEqual(t, time.Since(begun), 3*time.Second+3*timerRetry)
		require.Less(t, failures, 10)
	})
}

// A stored wake-up that is too early is set right when it comes.
func TestEarlyWakeUpIsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.start(Config{})
		h.ctx = t.Context()
		run := h.sleeping("w", time.Hour)
		time.Sleep(2 * quietAfter)
		h.stop()
		row := w.db.Row(run)
		early := time.Now().Add(time.Minute)
		require.NoError(t, w.db.Commit(t.Context(), &persistence.Mutation{Key: row.Key, Epoch: 1, Runs: []persistence.RunWrite{
			{RunID: run, SetWakeAt: true, WakeAt: early},
		}}))
		w.start(Config{})
		time.Sleep(2 * time.Minute)
		require.Equal(t, row.WakeAt.UnixMicro(), w.db.Row(run).WakeAt.UnixMicro())
	})
}

func TestRunTimeoutOfASleepingRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		r := startRequest("w")
		r.WorkflowRunTimeout = durationpb.New(2 * time.Second)
		_, err := h.startWith(r)
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT, h.describe("w", "").WorkflowExecutionInfo.Status)
	})
}

func TestCronContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.ctx = t.Context()
		r := startRequest("w")
		r.CronSchedule = "* * * * *"
		first, err := h.startWith(r)
		require.NoError(t, err)
		commits := h.db.Commits()
		h.complete(h.task(), completeWorkflow())
		require.LessOrEqual(t, h.db.Commits()-commits, 3) // at rest, the first task's due time, and both runs at once
		next := h.describe("w", "").WorkflowExecutionInfo.Execution.RunId
		require.Greater(t, next, first.RunId)
		require.Equal(t, next, h.task().WorkflowExecution.RunId)
	})
}

func TestManyTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.ctx = t.Context()
		const n = 300
		for i := range n {
			h.run(fmt.Sprint("w", i))
		}
		for i := range n {
			h.complete(h.task(), startTimer("t", time.Duration(i%7+1)*time.Minute))
		}
		fired := map[string]bool{}
		for range n {
			task := h.task()
			h.complete(task, completeWorkflow())
			fired[task.WorkflowExecution.WorkflowId] = true
		}
		require.Len(t, fired, n)
	})
}

// A wake-up from a time when the shard was last owned does not hide an earlier one that is read from the store.
func TestFoundWakeupComesEarlier(t *testing.T) {
	timers, now := newTimers(), time.Now()
	key := workflowKey("ns", "w")
	timers.set(key, "run", now.Add(time.Hour))
	timers.found(key, "run", now.Add(time.Minute))
	timers.found(key, "run", now.Add(2*time.Minute))
	due, _ := timers.due(now.Add(time.Minute), 1)
	require.Len(t, due, 1)
	require.Zero(t, timers.count())
}
