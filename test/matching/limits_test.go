package matching

import (
	"fmt"
	"math"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func doubleValue(v float64) *wrapperspb.DoubleValue { return wrapperspb.Double(v) }

// limit sets the queue's rate; below zero: unsets it.
func (e *env) limit(rate float32, reason string) *taskqueuepb.TaskQueueConfig {
	e.Helper()
	update := &workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate{Reason: reason}
	if rate >= 0 {
		update.RateLimit = &taskqueuepb.RateLimit{RequestsPerSecond: rate}
	}
	return do(e, e.api.UpdateTaskQueueConfig, &workflowservice.UpdateTaskQueueConfigRequest{
		Namespace: namespace, TaskQueue: e.queue, TaskQueueType: enumspb.TASK_QUEUE_TYPE_ACTIVITY, Identity: "operator",
		UpdateQueueRateLimit: update,
	}).Config
}

// stampedLate is by how much later than dispatched an activity may be stamped as started when the machine is busy with other things. A
// limit that is broken, because two owners give out its tokens or a new one starts with full buckets, is so by more.
const stampedLate = 500 * time.Millisecond

// most is the largest number of starts in any window, over what a limit allows for one: 102 % of it plus one task, and what was
// dispatched before the window and stamped in it. At most 1: the limit held.
func most(got []dispatch, limit float64) (share float64, where string) {
	window := time.Duration(math.Max(10, 100/limit) * float64(time.Second))
	allowed := 1.02*limit*window.Seconds() + 1 + limit*stampedLate.Seconds()
	for from := range got {
		to := sort.Search(len(got), func(i int) bool { return got[i].at.Sub(got[from].at) >= window })
		if s := float64(to-from) / allowed; s > share {
			share, where = s, fmt.Sprintf("%d starts in %v from %v", to-from, window, got[from].at.Sub(got[0].at))
		}
	}
	return share, where
}

// killsAt is when a process that owns limited queues is killed, in a run of killsRun.
var killsAt = []time.Duration{4 * time.Second, 14 * time.Second}

const killsRun = 25 * time.Second

// TestTheLimitSurvivesKills counts the starts of activities while the owners of limited queues are killed: never too many.
func TestTheLimitSurvivesKills(t *testing.T) {
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			p := f.start(t, 4)
			var runs []*limitRun
			for _, r := range []limitRun{{limit: 0.5, tasks: 40}, {limit: 50, tasks: 2500}, {limit: 1000, tasks: 20_000}} {
				r.env = newEnv(t, p)
				r.env.limit(float32(r.limit), "the test's")
				r.env.add(job{name: "work", n: r.tasks, spread: true})
				runs = append(runs, &r)
			}
			began := time.Now()
			for _, r := range runs {
				r.crew = r.env.work(40, -1, 0)
			}
			for i, at := range killsAt {
				<-time.After(at - time.Since(began)) // what happens in time is the subject
				p.matching[i%len(p.matching)].crash()
			}
			<-time.After(killsRun - time.Since(began))
			for _, r := range runs {
				r.crew.stop()
				r.check()
			}
		})
	}
}

// limitRun is a limited queue that has more to do than it may.
type limitRun struct {
	limit float64
	tasks int
	env   *env
	crew  *crew
}

func (r *limitRun) check() {
	r.crew.requireOnce()
	got := r.crew.taken()
	share, where := most(got, r.limit)
	r.env.Logf("limit %v: %d starts, at most %.3f of what is allowed: %s", r.limit, len(got), share, where)
	require.LessOrEqual(r.env, share, 1.0, "limit %v: %s", r.limit, where)
	if r.limit < 10 {
		// The windows of slow limits are too long for a test: it is by spacing that they hold.
		for i := 1; i < len(got); i++ {
			require.Greater(r.env, got[i].at.Sub(got[i-1].at).Seconds(), 0.48/r.limit, "two starts, %d and %d", i-1, i)
		}
	}
	// The ten seconds after each kill do not count. What a slow machine reaches says nothing about the limiter, but it must go on.
	counts := killsRun.Seconds() - 10*float64(len(killsAt))
	require.GreaterOrEqual(r.env, float64(len(got)), math.Min(r.limit, 50)*counts*0.5-1, "limit %v", r.limit)
}
