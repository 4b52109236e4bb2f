package matching

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// tenantTask is one of a fairness key, by which its id begins.
func tenantTask(key string, n int, weight float32) *statepb.Task {
	return &statepb.Task{
		WorkflowId: fmt.Sprintf("%s-%d", key, n), RunId: "run", ScheduledEventId: 2, Attempt: 1, CreateTime: timestamppb.Now(),
		Priority: &commonpb.Priority{FairnessKey: key, FairnessWeight: weight},
	}
}

func tenantOf(id string) string {
	tenant, _, _ := strings.Cut(id, "-")
	return tenant
}

func TestWeightOf(t *testing.T) {
	overrides := map[string]float32{"a": 5, "huge": 1e9}
	for _, c := range []struct {
		key    string
		ofTask float32
		want   float64
	}{
		{"a", 2, 5}, {"b", 2, 2}, {"b", 0, 1}, {"b", -3, 1}, {"", 0, 1}, {"b", 1e-9, weightMin}, {"huge", 1, weightMax},
		{"b", float32(math.NaN()), 1},
	} {
		require.InDelta(t, c.want, weightOf(overrides, c.key, c.ofTask), 1e-9, "key %q, weight %v", c.key, c.ofTask)
	}
}

// TestFairnessSharesByWeight checks that keys with a backlog are served in proportion to their weights, that a key keeps its order,
// and that a new key has its turn at once.
func TestFairnessSharesByWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.SampledFrom([]float64{0.5, 1, 2, 5}), 2, 5).Draw(t, "weights")
		var m matcher
		add := func(key string, n int, weight float64) {
			pass := m.lane(3).fair.pass(key, weight)
			m.add(&task{source: sourceFresh, level: 3, key: persistence.TaskKey{Level: 3, Pass: pass}, data: tenantTask(key, n, 0)})
		}
		total := 0.0
		for i, weight := range weights {
			total += weight
			for n := range 150 {
				add(fmt.Sprint(i), n, weight)
			}
		}
		got, last := map[string]int{}, map[string]int{}
		const rounds = 100
		for range rounds {
			m.addPoll(newPoll("", "", ""))
			id := m.match(epochStart).pairs[0].task.data.GetWorkflowId()
			var n int
			_, err := fmt.Sscanf(id[strings.IndexByte(id, '-')+1:], "%d", &n)
			require.NoError(t, err)
			require.Equal(t, last[tenantOf(id)], n, "the order of a key's tasks")
			last[tenantOf(id)]++
			got[tenantOf(id)]++
		}
		for i, weight := range weights {
			require.InDelta(t, rounds*weight/total, got[fmt.Sprint(i)], float64(len(weights)), "key %d of weights %v", i, weights)
		}
		add("new", 0, 1)
		for range len(weights) + 1 {
			m.addPoll(newPoll("", "", ""))
			if id := m.match(epochStart).pairs[0].task.data.GetWorkflowId(); tenantOf(id) == "new" {
				return
			}
		}
		require.Fail(t, "the new key waited for more than one task of each other key")
	})
}

func TestTheNumberOfFairnessKeysIsBounded(t *testing.T) {
	var f fairness
	for i := range 3 * fairKeysMax {
		f.pass(fmt.Sprint(i), 1)
	}
	require.LessOrEqual(t, len(f.next), fairKeysMax)
	require.Len(t, f.ahead(passesKeptMax), 0, "nobody is more than a task ahead")
	for range 10 {
		f.pass("far", 1)
	}
	require.Equal(t, map[string]int64{"far": 10 * strideUnit}, f.ahead(1))
}

// goWork polls with workers until the bubble's test ends, and tells the order of the tasks.
func (h *hosts) goWork(workers int, partitions int32, each time.Duration) (order func() []string, stop func()) {
	return h.goWorkAt(workers, each, func(worker int) int32 { return int32(worker) % partitions })
}

// goWorkAt is goWork with polls of each worker at one partition.
func (h *hosts) goWorkAt(workers int, each time.Duration, at func(worker int) int32) (order func() []string, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var got []string
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() {
			for ctx.Err() == nil {
				poll, end := context.WithTimeout(ctx, time.Minute)
				id, err := h.poll(poll, at(i), -1)
				end()
				if err == nil && id != "" {
					mu.Lock()
					got = append(got, id)
					mu.Unlock()
				}
				pause(ctx, each)
			}
		})
	}
	return func() []string {
			mu.Lock()
			defer mu.Unlock()
			return append([]string(nil), got...)
		}, func() {
			cancel()
			running.Wait()
		}
}

// fillTenant stores a tenant's backlog as an earlier owner would have.
func (h *hosts) fillTenant(number int32, tenant string, tasks int) {
	key := persistence.QueueKey{NamespaceID: "ns", TaskQueue: "q", Type: int16(activityQueue.Type), Partition: number}
	q := newFakeQueue()
	q.epoch = 1
	bytes, err := proto.Marshal(tenantTask(tenant, 0, 0))
	require.NoError(h.t, err)
	for i := range tasks {
		q.put(persistence.TaskKey{Level: levelDefault, Pass: int64(i) * strideUnit, ID: int64(i + 1)}, bytes)
	}
	metadata, err := proto.Marshal(&statepb.TaskQueue{
		NextPasses: map[int32]*statepb.FairnessPasses{levelDefault: {Next: map[string]int64{tenant: int64(tasks) * strideUnit}}},
	})
	require.NoError(h.t, err)
	q.metadata = metadata
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	h.store.queues[key] = q
}

// TestATenantWithAMillionTasksDelaysNobody checks the promise of fairness against a backlog in the database, with old tasks in it, on
// one partition and on four, and that memory stays bounded.
func TestATenantWithAMillionTasksDelaysNobody(t *testing.T) {
	const million, workers = 1_000_000, 8
	for _, partitions := range []int32{1, 4} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			inHosts(t, 1, Config{Partitions: partitions}, func(t *testing.T, h *hosts) {
				h.history.forget, h.history.startAll = true, true
				for number := range partitions {
					h.fillTenant(number, "big", million/int(partitions))
				}
				time.Sleep(time.Minute) // the backlog is old
				order, stop := h.goWork(workers, partitions, 100*time.Millisecond)
				for number := range partitions {
					time.Sleep(2 * time.Second)
					before := len(order())
					require.NoError(t, h.add(t.Context(), number, tenantTask("small", 0, 0)))
					time.Sleep(time.Second)
					big := 0
					after := order()[before:]
					for len(after) > big && tenantOf(after[big]) == "big" {
						big++
					}
					require.Less(t, big, len(after), "the small tenant's task was started")
					require.LessOrEqual(t, big, workers)
				}
				s := h.services[0]
				rows, loaded := int64(0), 0
				for _, p := range s.partitions {
					p.mu.Lock()
					rows += p.totalSize()
					loaded += len(p.backlog.levels[levelDefault-1].acks.rows)
					p.mu.Unlock()
				}
				require.EqualValues(t, million+int(partitions)-len(order()), rows, "the count is exact")
				require.LessOrEqual(t, loaded, int(partitions)*(loadedTasksMax+readPage+ackFlushTasks))
				stop()
			})
		})
	}
}

// TestManyNewTenantsDoNotFillTheMemory has more tasks go ahead of a long backlog than fit into memory.
func TestManyNewTenantsDoNotFillTheMemory(t *testing.T) {
	inHosts(t, 1, Config{}, func(t *testing.T, h *hosts) {
		h.history.startAll = true
		h.fillTenant(0, "big", 10*loadedTasksMax)
		_, err := h.poll(t.Context(), 0, -1)
		require.NoError(t, err)
		var adders sync.WaitGroup
		const tenants = 3 * loadedTasksMax
		for i := range tenants {
			adders.Go(func() { require.NoError(t, h.add(t.Context(), 0, tenantTask(fmt.Sprintf("t%d", i), 0, 0))) })
		}
		adders.Wait()
		p := h.services[0].partitions[keyOfTest(activityQueue)]
		p.mu.Lock()
		level := p.backlog.levels[levelDefault-1]
		require.LessOrEqual(t, level.waiting, loadedTasksMax+readPage)
		require.LessOrEqual(t, len(level.acks.rows), loadedTasksMax+readPage+ackFlushTasks)
		p.mu.Unlock()
		order, stop := h.goWork(4, 1, time.Millisecond)
		time.Sleep(time.Minute)
		stop()
		got := map[string]int{}
		for i, id := range order() {
			got[tenantOf(id)]++
			if i == tenants+50 {
				require.Len(t, got, tenants+1, "everybody had a turn before the big tenant had many")
			}
		}
		require.Len(t, order(), tenants+10*loadedTasksMax-1)
		require.Zero(t, h.storedTasks())
	})
}

func keyOfTest(p *matchingpb.Partition) queueKey {
	key, err := keyOf(p)
	if err != nil {
		panic(err)
	}
	return key
}

// TestKeyLimit checks that each key has its rate, weighted, over all partitions, and that one that waits for its limit does not hold
// up others.
func TestKeyLimit(t *testing.T) {
	for _, partitions := range []int32{1, 4} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			inHosts(t, 2, Config{Partitions: partitions}, func(t *testing.T, h *hosts) {
				const rate, seconds = 2.0, 60
				_, err := h.client().UpdateTaskQueueConfig(t.Context(), &matchingpb.UpdateTaskQueueConfigRequest{
					Partition: activityQueue,
					Request: &workflowservice.UpdateTaskQueueConfigRequest{
						UpdateFairnessKeyRateLimitDefault: &workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate{
							RateLimit: &taskqueuepb.RateLimit{RequestsPerSecond: rate},
						},
						SetFairnessWeightOverrides: map[string]float32{"heavy": 3},
					},
				})
				require.NoError(t, err)
				var adders sync.WaitGroup
				for i := range 600 {
					for _, key := range []string{"a", "heavy"} {
						adders.Go(func() {
							require.NoError(t, h.add(t.Context(), int32(i)%partitions, tenantTask(key, i, 0)))
						})
					}
					adders.Go(func() {
						require.NoError(t, h.add(t.Context(), int32(i)%partitions, tenantTask("tasks", i, 0.5)))
					})
				}
				adders.Wait()
				order, stop := h.goWork(16, partitions, time.Millisecond)
				time.Sleep(seconds * time.Second)
				got := map[string]float64{}
				for _, id := range order() {
					got[tenantOf(id)]++
				}
				for key, weight := range map[string]float64{"a": 1, "heavy": 3, "tasks": 0.5} {
					require.LessOrEqual(t, got[key], overMax*rate*weight*seconds+1, key)
					require.GreaterOrEqual(t, got[key], underMax*rate*weight*seconds-2, key)
				}
				h.service0().requireQuick(t, func() error { return h.add(t.Context(), 0, tenantTask("new", 0, 0)) }, order)
				stop()
			})
		})
	}
}

// service0 is the first host's.
func (h *hosts) service0() *Service { return h.services[0] }

// requireQuick checks that what is added is started within a second.
func (s *Service) requireQuick(t *testing.T, add func() error, order func() []string) {
	require.NoError(t, add())
	time.Sleep(time.Second)
	for _, id := range order() {
		if tenantOf(id) == "new" {
			return
		}
	}
	require.Fail(t, "a key within its limit waits")
}

// TestDrainOfADeepBacklog checks that the cost of a task does not grow with the depth: the reads and deletions of a long backlog.
func TestDrainOfADeepBacklog(t *testing.T) {
	perTask := func(tasks int) float64 {
		var calls int
		synctest.Test(t, func(t *testing.T) {
			h := newHosts(t, 1, Config{DispatchRateMax: 1e9})
			h.history.forget, h.history.startAll = true, true
			h.fillTenant(0, "big", tasks)
			order, stop := h.goWork(50, 1, time.Millisecond)
			for len(order()) < tasks {
				time.Sleep(time.Second)
			}
			stop()
			time.Sleep(10 * time.Second)
			require.Zero(t, h.storedTasks())
			calls = h.store.count("read") + h.store.count("update") + h.store.count("count")
			h.stop()
		})
		return float64(calls) / float64(tasks)
	}
	shallow, deep := perTask(10_000), perTask(100_000)
	require.Less(t, deep, 1.2*shallow, "store calls per task")
	require.Less(t, deep, 0.01)
	runtime.GC()
}
