package matching

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"sort"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
)

// rateRun is a queue with a backlog and hungry workers under a limit.
type rateRun struct {
	partitions int32
	limit      float64
	// work and polls are the partitions with tasks and with polls; nil: all.
	work, polls []int32
	// byWorkers: the limit is that of the workers, else the API's.
	byWorkers bool
	pollers   int
	length    time.Duration
	// disturb happens each second.
	disturb func(h *hosts, second int)
}

func (r rateRun) all(some []int32) []int32 {
	if some != nil {
		return some
	}
	var all []int32
	for i := range r.partitions {
		all = append(all, i)
	}
	return all
}

// window is the time over which the limit holds.
func window(limit float64) time.Duration {
	return time.Duration(max(10, 100/limit) * float64(time.Second))
}

// fill stores tasks as an earlier owner would have.
func (h *hosts) fill(number int32, tasks int) {
	key := persistence.QueueKey{NamespaceID: "ns", TaskQueue: "q", Type: int16(activityQueue.Type), Partition: number}
	q := newFakeQueue()
	q.epoch = 1
	for i := range tasks {
		task := newTask(fmt.Sprintf("%d/%d", number, i), 0)
		task.CreateTime = nil // unknown: never old
		bytes, err := proto.Marshal(task)
		require.NoError(h.t, err)
		q.put(persistence.TaskKey{Level: levelDefault, Pass: int64(i), ID: int64(i + 1)}, bytes)
	}
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	h.store.queues[key] = q
}

// dispatches runs it in a bubble and returns when polls got tasks, by the time since the beginning.
func (r rateRun) dispatches(t *testing.T) []time.Duration {
	var times []time.Duration
	synctest.Test(t, func(t *testing.T) {
		h := newHosts(t, 4, Config{Partitions: r.partitions})
		h.latency = 500 * time.Microsecond
		h.history.forget = true
		work, polls := r.all(r.work), r.all(r.polls)
		tasks := int(r.limit*r.length.Seconds()*1.3)/len(work) + 10
		for _, number := range work {
			h.fill(number, tasks)
		}
		if !r.byWorkers {
			h.limit(r.limit)
		}
		begin := time.Now()
		ctx, cancel := context.WithCancel(context.Background())
		var workers sync.WaitGroup
		var mu sync.Mutex
		rate := -1.0
		if r.byWorkers {
			rate = r.limit
		}
		for i := range r.pollers {
			workers.Go(func() {
				for ctx.Err() == nil {
					poll, stop := context.WithTimeout(ctx, time.Minute)
					id, err := h.poll(poll, polls[i%len(polls)], rate)
					stop()
					switch {
					case err != nil:
						pause(ctx, 50*time.Millisecond)
					case id != "":
						mu.Lock()
						times = append(times, time.Since(begin))
						mu.Unlock()
						pause(ctx, time.Millisecond) // the work
					}
				}
			})
		}
		for second := 0; time.Since(begin) < r.length; second++ {
			time.Sleep(time.Second)
			if r.disturb != nil {
				r.disturb(h, second)
			}
		}
		cancel()
		workers.Wait()
		h.stop()
	})
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	return times
}

// limit sets the queue's rate.
func (h *hosts) limit(rate float64) {
	_, err := h.client().UpdateTaskQueueConfig(context.Background(), &matchingpb.UpdateTaskQueueConfigRequest{
		Partition: activityQueue,
		Request: &workflowservice.UpdateTaskQueueConfigRequest{
			UpdateQueueRateLimit: &workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate{
				RateLimit: &taskqueuepb.RateLimit{RequestsPerSecond: float32(rate)}, Reason: "test",
			},
		},
	})
	require.NoError(h.t, err)
}

// extremes are the smallest and largest number of dispatches in any window, relative to what the limit allows.
func extremes(times []time.Duration, limit float64, from, to time.Duration) (least, most float64) {
	w := window(limit)
	allowed := limit * w.Seconds()
	least, most = math.Inf(1), 0
	end := 0
	for i, begin := range times {
		for end < len(times) && times[end] < begin+w {
			end++
		}
		most = max(most, (float64(end-i)-1)/allowed) // less the one task
		if begin >= from && begin+w <= to {
			least = min(least, float64(end-i-1+1)/allowed) // from just after this one, plus the one task
		}
	}
	return least, most
}

const (
	overMax  = 1.02
	underMax = 0.97
)

// check requires what the limit promises. crashes are the times of crashes: the lower bound does not hold in windows that touch
// the ten seconds after one.
func (r rateRun) check(t *testing.T, times []time.Duration, crashes ...time.Duration) {
	require.NotEmpty(t, times)
	from := times[0]
	for _, crash := range crashes {
		from = max(from, crash+10*time.Second)
	}
	least, most := extremes(times, r.limit, from, r.length)
	require.LessOrEqual(t, most, overMax)
	require.GreaterOrEqual(t, least, underMax)
	require.False(t, math.IsInf(least, 1), "the run is too short to tell")
}

func (r rateRun) name() string {
	describe := func(some []int32) string {
		if some == nil {
			return "everywhere"
		}
		return fmt.Sprintf("on %v", some)
	}
	return fmt.Sprintf("%v per second, %d partitions, work %s, polls %s", r.limit, r.partitions, describe(r.work), describe(r.polls))
}

// lengthFor is long enough for several windows, or at high rates for some.
func lengthFor(limit float64) time.Duration {
	return window(limit)*3/2 + time.Second
}

func grid(limits []float64, partitions []int32) []rateRun {
	var runs []rateRun
	for _, n := range partitions {
		places := [][2][]int32{{nil, nil}}
		if n > 1 {
			last := n - 1
			places = append(places, [2][]int32{{last}, nil}, [2][]int32{nil, {last}}, [2][]int32{{1}, {last}}, [2][]int32{{0}, {last}})
		}
		for _, limit := range limits {
			for _, place := range places {
				runs = append(runs, rateRun{
					partitions: n, limit: limit, work: place[0], polls: place[1], pollers: 64, length: lengthFor(limit),
				})
			}
		}
	}
	return runs
}

func TestTheLimitHoldsForTheQueue(t *testing.T) {
	for _, r := range grid([]float64{0.1, 3, 200}, []int32{1, 4, 16}) {
		t.Run(r.name(), func(t *testing.T) { r.check(t, r.dispatches(t)) })
	}
	for _, r := range grid([]float64{1000}, []int32{4}) {
		t.Run(r.name(), func(t *testing.T) { r.check(t, r.dispatches(t)) })
	}
	for _, r := range grid([]float64{0.5, 50}, []int32{4}) {
		r.byWorkers = true
		t.Run("set by workers, "+r.name(), func(t *testing.T) { r.check(t, r.dispatches(t)) })
	}
	r := rateRun{partitions: 4, limit: 10_000, pollers: 200, length: 11500 * time.Millisecond}
	if testing.Short() {
		return
	}
	t.Run(r.name(), func(t *testing.T) { r.check(t, r.dispatches(t)) })
}

func TestTheLimitHoldsWhileOwnersMove(t *testing.T) {
	for _, limit := range []float64{0.2, 20, 500} {
		r := rateRun{partitions: 4, limit: limit, pollers: 32, length: lengthFor(limit)}
		r.disturb = func(h *hosts, second int) {
			if second%7 == 3 {
				h.move()
			}
		}
		t.Run(r.name(), func(t *testing.T) { r.check(t, r.dispatches(t)) })
	}
}

func TestTheLimitHoldsWhenTheRootCrashes(t *testing.T) {
	for _, limit := range []float64{0.5, 20, 500} {
		r := rateRun{partitions: 4, limit: limit, pollers: 32, length: 2*lengthFor(limit) + 25*time.Second}
		at := int(window(limit).Seconds() / 2)
		r.disturb = func(h *hosts, second int) {
			if second == at {
				h.crash(0)
			}
		}
		t.Run(r.name(), func(t *testing.T) {
			r.check(t, r.dispatches(t), time.Duration(at+1)*time.Second)
		})
	}
}

// BenchmarkRateGrid prints what a limit achieves, beside what the same limit split equally over the partitions would: there a
// partition without work leaves its share unused.
func BenchmarkRateGrid(b *testing.B) {
	if os.Getenv("PERDURE_RATE_GRID") == "" {
		b.Skip("set PERDURE_RATE_GRID=1: the whole grid takes minutes")
	}
	for range b.N {
		fmt.Printf("%-70s %12s %12s %8s %8s\n", "", "achieved/s", "equal split", "least", "most")
		for _, r := range grid([]float64{0.1, 1, 10, 100, 1000, 10_000}, []int32{1, 4, 16}) {
			var times []time.Duration
			ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
				Name: r.name(), F: func(t *testing.T) { times = r.dispatches(t) },
			}})
			if !ok || len(times) == 0 {
				b.Fatal(r.name())
			}
			least, most := extremes(times, r.limit, times[0], r.length)
			achieved := float64(len(times)) / (r.length - times[0]).Seconds()
			split := r.limit * float64(len(r.all(r.work))) / float64(r.partitions)
			fmt.Printf("%-70s %12.2f %12.2f %8.3f %8.3f\n", r.name(), achieved, split, least, most)
			runtime.GC()
		}
	}
}
