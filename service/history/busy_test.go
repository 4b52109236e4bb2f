package history

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
)

// Too many callers of one workflow are refused at once, those that wait get their turn, and other workflows are not affected.
func TestBusyWorkflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		h.run("other")
		call := func(id string) error {
			return h.with(h.ctx, workflowKey(h.id(), id), func(*access) error { return nil })
		}
		synctest.Wait()
		held, err := h.lock(h.ctx, workflowKey(h.id(), "w"))
		require.NoError(t, err)
		var (
			waiting         sync.WaitGroup
			passed, refused atomic.Int64
		)
		for range 2 * lockWaitersMax {
			waiting.Go(func() {
				err := call("w")
				if err == nil {
					passed.Add(1)
					return
				}
				var busy *serviceerror.ResourceExhausted
				require.ErrorAs(t, err, &busy)
				require.Equal(t, enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, busy.Cause)
				refused.Add(1)
			})
		}
		synctest.Wait()
		require.Zero(t, passed.Load())
		// The service's own work on the workflow may be among those that wait or are refused.
		require.InDelta(t, lockWaitersMax, refused.Load(), 10)
		require.InDelta(t, float64(refused.Load()), counted(t, h.metrics.busy), 10)
		require.NoError(t, call("other"))
		held.unlock()
		h.chains.put(held)
		waiting.Wait()
		require.EqualValues(t, 2*lockWaitersMax, passed.Load()+refused.Load())
		require.NoError(t, call("w"))
	})
}

func TestCacheMetrics(t *testing.T) {
	w := newWorld(t)
	h := w.start(Config{})
	h.run("w")
	h.stop()
	h = w.start(Config{})
	for range 3 {
		h.events("w", "")
	}
	require.InDelta(t, 1, counted(t, h.metrics.cacheMisses), 0, "it is loaded once")
	require.Positive(t, counted(t, h.metrics.cacheHits))
}

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	require.NoError(t, c.Write(&m))
	return m.GetCounter().GetValue()
}
