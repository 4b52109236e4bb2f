package history

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
)

// Idle runs are forgotten when memory is short, and come back from the store; runs with effects stay.
func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.start(Config{CacheBytes: 64 << 10})
		h.ctx = t.Context()
		const n = 100
		for i := range n {
			h.sleeping(fmt.Sprint("w", i), time.Hour)
		}
		time.Sleep(2 * quietAfter)
		h.describe("w0", "")
		for i := range n { // each call forgets a few
			h.describe(fmt.Sprint("w", i), "")
		}
		runs, bytes := h.cache.size()
		require.Less(t, runs, n/2)
		require.LessOrEqual(t, bytes, h.config.CacheBytes)
		h.chains.mu.Lock()
		require.Len(t, h.chains.byKey, runs)
		h.chains.mu.Unlock()
		require.NoError(t, h.signal("w0", "s"))
		require.Len(t, h.events("w0", ""), 7)
		woken := map[string]bool{}
		for range n + 1 {
			task := h.task()
			h.complete(task, completeWorkflow())
			woken[task.WorkflowExecution.WorkflowId] = true
			if len(woken) == n {
				break
			}
		}
		require.Len(t, woken, n)
	})
}

// A run that somebody waits on stays.
func TestWaitersPinARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.start(Config{CacheBytes: 1})
		run := h.run("w")
		h.complete(h.task())
		done := h.readAsync(&workflowservice.GetWorkflowExecutionHistoryRequest{
			Execution: execution("w", ""), WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
		})
		time.Sleep(2 * quietAfter)
		h.run("other")
		require.NotNil(t, h.cached("w", run))
		require.NoError(t, h.terminateRun("w", ""))
		require.Len(t, (<-done).GetHistory().GetEvents(), 1)
	})
}

func (h *host) cached(id, runID string) (r *run) {
	require.NoError(h.t, h.with(h.ctx, workflowKey(h.id(), id), func(x *access) error {
		r = x.peek(runID)
		return nil
	}))
	return r
}

// Long logs are folded: a load reads a bounded number of rows.
func TestSnapshots(t *testing.T) {
	w := newWorld(t)
	h := w.start(Config{})
	run := h.run("w")
	h.complete(h.task())
	for range 3 * snapshotRows {
		require.NoError(t, h.signal("w", "s"))
	}
	row := w.db.Row(run)
	require.NotNil(t, row.Snapshot)
	log := w.db.Log(run)
	require.Less(t, log[len(log)-1].Seq-row.Snapshot.Seq, int64(snapshotRows))
	before := h.describe("w", "")
	h.stop()
	h = w.start(Config{})
	after := h.describe("w", "")
	require.Equal(t, before.WorkflowExecutionInfo.HistoryLength, after.WorkflowExecutionInfo.HistoryLength)
	require.Len(t, after.WorkflowExtendedInfo.RequestIdInfos, len(before.WorkflowExtendedInfo.RequestIdInfos))
}

// Everything at once, on few keys: no event is lost or doubled.
func TestConcurrency(t *testing.T) {
	h := startHost(t)
	const keys, signals = 4, 25
	for i := range keys {
		h.run(fmt.Sprint("w", i))
	}
	var wait sync.WaitGroup
	for i := range keys {
		id := fmt.Sprint("w", i)
		for j := range signals {
			wait.Go(func() {
				if err := h.signal(id, fmt.Sprint("s", j)); err != nil {
					t.Error(err)
				}
			})
			wait.Go(func() {
				if _, err := h.DescribeWorkflowExecution(h.ctx, &historypb.DescribeWorkflowExecutionRequest{
					NamespaceId: h.id(), Request: &workflowservice.DescribeWorkflowExecutionRequest{Execution: execution(id, "")},
				}); err != nil {
					t.Error(err)
				}
			})
			wait.Go(func() {
				if _, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution(id, "")}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wait.Wait()
	for i := range keys {
		events := h.events(fmt.Sprint("w", i), "")
		requireDense(t, events)
		names := map[string]bool{}
		for _, e := range events {
			if a := e.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
				names[a.SignalName] = true
			}
		}
		require.Len(t, names, signals)
	}
}
