package matching

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
)

func rateUpdate(rate float32, reason string) *workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate {
	return &workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate{
		RateLimit: &taskqueuepb.RateLimit{RequestsPerSecond: rate}, Reason: reason,
	}
}

func (h *hosts) configure(request *workflowservice.UpdateTaskQueueConfigRequest) (*taskqueuepb.TaskQueueConfig, error) {
	got, err := h.client().UpdateTaskQueueConfig(context.Background(), &matchingpb.UpdateTaskQueueConfigRequest{
		Partition: activityQueue, Request: request,
	})
	return got.GetConfig(), err
}

func (h *hosts) describe(request *workflowservice.DescribeTaskQueueRequest) *workflowservice.DescribeTaskQueueResponse {
	got, err := h.client().DescribeTaskQueue(context.Background(), &matchingpb.DescribeTaskQueueRequest{Partition: activityQueue, Request: request})
	require.NoError(h.t, err)
	return got
}

func TestUpdateTaskQueueConfig(t *testing.T) {
	inHosts(t, 2, Config{}, func(t *testing.T, h *hosts) {
		describe := func() *workflowservice.DescribeTaskQueueResponse {
			return h.describe(&workflowservice.DescribeTaskQueueRequest{ReportConfig: true})
		}
		require.Nil(t, describe().GetConfig())
		got, err := h.configure(&workflowservice.UpdateTaskQueueConfigRequest{
			Identity: "me", UpdateQueueRateLimit: rateUpdate(10, "too fast"), SetFairnessWeightOverrides: map[string]float32{"a": 2, "b": 3},
		})
		require.NoError(t, err)
		require.EqualValues(t, 10, got.GetQueueRateLimit().GetRateLimit().GetRequestsPerSecond())
		require.Equal(t, "too fast", got.GetQueueRateLimit().GetMetadata().GetReason())
		require.Equal(t, "me", got.GetQueueRateLimit().GetMetadata().GetUpdateIdentity())
		require.Equal(t, time.Now().UTC(), got.GetQueueRateLimit().GetMetadata().GetUpdateTime().AsTime())
		require.Nil(t, got.GetFairnessKeysRateLimitDefault())

		got, err = h.configure(&workflowservice.UpdateTaskQueueConfigRequest{
			UpdateFairnessKeyRateLimitDefault: rateUpdate(1, ""), UnsetFairnessWeightOverrides: []string{"a", "unknown"},
		})
		require.NoError(t, err)
		require.EqualValues(t, 10, got.GetQueueRateLimit().GetRateLimit().GetRequestsPerSecond(), "what is not named stays")
		require.EqualValues(t, 1, got.GetFairnessKeysRateLimitDefault().GetRateLimit().GetRequestsPerSecond())
		require.Equal(t, map[string]float32{"b": 3}, got.GetFairnessWeightOverrides())

		for range h.services { // limits survive restarts and moves
			h.move()
			require.EqualValues(t, 10, describe().GetConfig().GetQueueRateLimit().GetRateLimit().GetRequestsPerSecond())
			require.EqualValues(t, 10, describe().GetEffectiveRateLimit().GetRequestsPerSecond())
			require.Equal(t, enumspb.RATE_LIMIT_SOURCE_API, describe().GetEffectiveRateLimit().GetRateLimitSource())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err = h.poll(ctx, 0, 5)
		require.NoError(t, err)
		require.EqualValues(t, 10, describe().GetEffectiveRateLimit().GetRequestsPerSecond(), "the API wins")
		got, err = h.configure(&workflowservice.UpdateTaskQueueConfigRequest{
			UpdateQueueRateLimit: &workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate{Reason: "never mind"},
		})
		require.NoError(t, err)
		require.Nil(t, got.GetQueueRateLimit().GetRateLimit())
		require.Equal(t, "never mind", got.GetQueueRateLimit().GetMetadata().GetReason())
		require.EqualValues(t, 5, describe().GetEffectiveRateLimit().GetRequestsPerSecond(), "the workers' limit is back")
		require.Equal(t, enumspb.RATE_LIMIT_SOURCE_WORKER, describe().GetEffectiveRateLimit().GetRateLimitSource())
		got, err = h.configure(&workflowservice.UpdateTaskQueueConfigRequest{UpdateQueueRateLimit: rateUpdate(float32(math.Inf(1)), "")})
		require.NoError(t, err)
		require.True(t, math.IsInf(float64(got.GetQueueRateLimit().GetRateLimit().GetRequestsPerSecond()), 1))
	})
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	inHosts(t, 1, Config{}, func(t *testing.T, h *hosts) {
		many := map[string]float32{}
		for i := range weightOverridesMax {
			many[fmt.Sprint(i)] = 1
		}
		_, err := h.configure(&workflowservice.UpdateTaskQueueConfigRequest{SetFairnessWeightOverrides: many})
		require.NoError(t, err)
		var invalid *serviceerror.InvalidArgument
		for name, request := range map[string]*workflowservice.UpdateTaskQueueConfigRequest{
			"negative":     {UpdateQueueRateLimit: rateUpdate(-1, "")},
			"not a number": {UpdateFairnessKeyRateLimitDefault: rateUpdate(float32(math.NaN()), "")},
			"weight zero":  {SetFairnessWeightOverrides: map[string]float32{"a": 0}},
			"one too many": {SetFairnessWeightOverrides: map[string]float32{"one": 1}},
		} {
			_, err := h.configure(request)
			require.ErrorAs(t, err, &invalid, name)
		}
		_, err = h.configure(&workflowservice.UpdateTaskQueueConfigRequest{
			SetFairnessWeightOverrides: map[string]float32{"one": 1}, UnsetFairnessWeightOverrides: []string{"0"},
		})
		require.NoError(t, err, "one for one")
		for _, address := range []*matchingpb.Partition{stickyQueue, {NamespaceId: "ns", TaskQueue: "q", Number: 1}} {
			_, err := h.services[0].UpdateTaskQueueConfig(t.Context(), &matchingpb.UpdateTaskQueueConfigRequest{Partition: address})
			require.ErrorAs(t, err, &invalid)
		}
	})
}

// TestConcurrentConfigurations checks that of updates at the same time none is lost.
func TestConcurrentConfigurations(t *testing.T) {
	inHosts(t, 1, Config{}, func(t *testing.T, h *hosts) {
		key := persistence.QueueKey{NamespaceID: "ns", TaskQueue: "q", Type: int16(activityQueue.GetType())}
		once := false
		h.store.setFault(func(op string) (bool, error) {
			if op == "set data" && !once { // another host is faster
				once = true
				h.store.mu.Lock()
				h.store.data[key] = &fakeData{version: 7}
				h.store.mu.Unlock()
			}
			return false, nil
		})
		_, err := h.configure(&workflowservice.UpdateTaskQueueConfigRequest{UpdateQueueRateLimit: rateUpdate(3, "")})
		require.NoError(t, err)
		require.EqualValues(t, 8, h.store.data[key].version)
		h.store.setFault(func(op string) (bool, error) {
			if op == "set data" {
				return false, persistence.ErrConflict
			}
			return false, nil
		})
		_, err = h.configure(&workflowservice.UpdateTaskQueueConfigRequest{UpdateQueueRateLimit: rateUpdate(4, "")})
		var unavailable *serviceerror.Unavailable
		require.ErrorAs(t, err, &unavailable)
		h.store.failNext("get data", false, persistence.ErrUnavailable)
		_, err = h.configure(&workflowservice.UpdateTaskQueueConfigRequest{UpdateQueueRateLimit: rateUpdate(4, "")})
		require.ErrorAs(t, err, &unavailable)
	})
}

// TestALimitTakesEffectWithinASecond changes the rate of a busy queue with partitions.
func TestALimitTakesEffectWithinASecond(t *testing.T) {
	inHosts(t, 2, Config{Partitions: 4}, func(t *testing.T, h *hosts) {
		h.history.startAll = true
		for number := range int32(4) {
			h.fill(number, 40_000)
		}
		order, stop := h.goWork(16, 4, 5*time.Millisecond)
		count := func(d time.Duration) int {
			before := len(order())
			time.Sleep(d)
			return len(order()) - before
		}
		require.Greater(t, count(2*time.Second), 1000, "unlimited")
		h.limit(20)
		time.Sleep(time.Second)
		require.InDelta(t, 200, count(10*time.Second), 4)
		h.limit(100)
		time.Sleep(time.Second)
		require.InDelta(t, 1000, count(10*time.Second), 20)
		h.limit(0)
		time.Sleep(time.Second)
		require.LessOrEqual(t, count(10*time.Second), 1, "zero pauses")
		_, err := h.configure(&workflowservice.UpdateTaskQueueConfigRequest{
			UpdateQueueRateLimit: &workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate{},
		})
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Greater(t, count(2*time.Second), 1000, "unlimited again")
		stop()
	})
}

func TestDescribeSumsOverPartitions(t *testing.T) {
	inHosts(t, 2, Config{Partitions: 4}, func(t *testing.T, h *hosts) {
		for number := range int32(4) {
			for i := range int(number) + 1 {
				require.NoError(t, h.add(t.Context(), number, newTask(fmt.Sprintf("%d/%d", number, i), number+1)))
			}
		}
		time.Sleep(7 * time.Second)
		got := h.describe(&workflowservice.DescribeTaskQueueRequest{ReportStats: true})
		require.EqualValues(t, 10, got.GetStats().GetApproximateBacklogCount())
		require.InDelta(t, 10.0/30, got.GetStats().GetTasksAddRate(), 0.001)
		require.GreaterOrEqual(t, got.GetStats().GetApproximateBacklogAge().AsDuration(), 7*time.Second)
		for level := int32(1); level <= 4; level++ {
			require.EqualValues(t, level, got.GetStatsByPriorityKey()[level].GetApproximateBacklogCount(), "level %d", level)
			require.GreaterOrEqual(t, got.GetStatsByPriorityKey()[level].GetApproximateBacklogAge().AsDuration(), 7*time.Second)
		}
		require.EqualValues(t, 4*defaultDispatchRateMax, got.GetEffectiveRateLimit().GetRequestsPerSecond())

		id, err := h.poll(t.Context(), 3, -1)
		require.NoError(t, err)
		require.Equal(t, "0/0", id, "the first of the whole queue by priority: the others wait at the root")
		got = h.describe(&workflowservice.DescribeTaskQueueRequest{ReportStats: true})
		require.EqualValues(t, 9, got.GetStats().GetApproximateBacklogCount())
		require.Len(t, got.GetPollers(), 1, "pollers of all partitions")
		require.InDelta(t, 1.0/30, got.GetStats().GetTasksDispatchRate(), 0.001)

		list, err := h.services[0].ListTaskQueuePartitions(t.Context(), &matchingpb.ListTaskQueuePartitionsRequest{
			NamespaceId: "ns", Request: &workflowservice.ListTaskQueuePartitionsRequest{TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}},
		})
		require.NoError(t, err)
		var names []string
		for _, p := range list.GetActivityTaskQueuePartitions() {
			names = append(names, p.GetKey())
		}
		require.Equal(t, []string{"q", "/_sys/q/1", "/_sys/q/2", "/_sys/q/3"}, names)
	})
}

func TestSizing(t *testing.T) {
	var s sizing
	now := epochStart
	step := func(read, write int32, load float64, drained bool, after time.Duration) [2]int32 {
		now = now.Add(after)
		r, w := s.next(read, write, load, drained, now)
		return [2]int32{r, w}
	}
	require.Equal(t, [2]int32{1, 1}, step(1, 1, partitionLoad, true, 0))
	require.Equal(t, [2]int32{2, 2}, step(1, 1, partitionLoad+1, true, 0))
	require.Equal(t, [2]int32{8, 8}, step(2, 2, 7*partitionLoad, true, 0))
	require.Equal(t, [2]int32{16, 16}, step(8, 8, 1e9, true, 0), "not more than the most")
	require.Equal(t, [2]int32{16, 16}, step(16, 16, 5*partitionLoad, true, time.Hour), "a bit less is no reason to shrink")
	require.Equal(t, [2]int32{16, 16}, step(16, 16, partitionLoad, true, 0))
	require.Equal(t, [2]int32{16, 16}, step(16, 16, partitionLoad, true, shrinkAfter-1))
	require.Equal(t, [2]int32{16, 8}, step(16, 16, partitionLoad, true, 1), "first they take no more tasks")
	require.Equal(t, [2]int32{16, 8}, step(16, 8, partitionLoad, false, 1), "not before they are empty")
	require.Equal(t, [2]int32{8, 8}, step(16, 8, partitionLoad, true, 1))
	require.Equal(t, [2]int32{16, 16}, step(16, 8, 9*partitionLoad, true, 1), "back up before they are gone")
	require.Equal(t, [2]int32{1, 1}, step(2, 1, 0, true, 1))
}

// TestAnIdleQueueWithPartitionsRests checks that nothing is left of a queue that was busy once.
func TestAnIdleQueueWithPartitionsRests(t *testing.T) {
	inHosts(t, 2, Config{Partitions: 4}, func(t *testing.T, h *hosts) {
		for number := range int32(4) {
			require.NoError(t, h.add(t.Context(), number, newTask(fmt.Sprint(number), 0)))
			_, err := h.poll(t.Context(), (number+1)%4, -1)
			require.NoError(t, err)
		}
		time.Sleep(3 * idleUnload)
		synctest.Wait()
		for _, s := range h.services {
			require.Empty(t, s.partitions)
		}
		h.store.mu.Lock()
		defer h.store.mu.Unlock()
		require.Empty(t, h.store.queues, "empty rows are dropped")
	})
}
