package matching

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// workers of the order tests take one task after the other.
const workers = 4

// TestOrderOfAStoredBacklog checks that who comes late to a queue with a deep backlog, read back from the database by a new owner, does not
// wait for that: a tenant's first task, and one of a higher priority.
func TestOrderOfAStoredBacklog(t *testing.T) {
	t.Parallel()
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := f.start(t, 4)
			t.Run("fairness", func(t *testing.T) {
				checkOvertakes(newEnv(t, p), &commonpb.Priority{FairnessKey: "giant"}, &commonpb.Priority{FairnessKey: "small"})
			})
			t.Run("priority", func(t *testing.T) {
				checkOvertakes(newEnv(t, p), &commonpb.Priority{PriorityKey: 5}, &commonpb.Priority{PriorityKey: 1})
			})
		})
	}
}

func checkOvertakes(e *env, giant, small *commonpb.Priority) {
	e.add(job{name: "giant", n: 6000, priority: giant})
	e.awaitBacklog(6000, callMax)
	e.crash()
	c := e.work(workers, -1, 100*time.Millisecond)
	c.await(20, callMax)
	for round := range 5 {
		name := fmt.Sprint("small", round)
		before := c.count()
		e.add(job{name: name, n: 1, priority: small})
		require.Eventually(e, func() bool {
			return slices.ContainsFunc(c.taken(), func(d dispatch) bool { return strings.HasPrefix(d.id, name) })
		}, callMax, 10*time.Millisecond, "the late task is not dispatched")
		c.await(before+3*workers, callMax)
	}
	c.stop()
	// Between the moment at which a late task was there and its start, each worker may get one task, beside the one that it had. It takes a
	// moment from the first to the second if the machine is busy, hence the rest.
	for round := range 5 {
		taken := c.taken()
		at := slices.IndexFunc(taken, func(d dispatch) bool { return strings.HasPrefix(d.id, fmt.Sprint("small", round)) })
		overtook := 0
		for _, d := range taken[:at] {
			if d.at.After(taken[at].scheduled) {
				overtook++
			}
		}
		e.Logf("%d tasks of the backlog were started before the late task %d", overtook, round)
		require.LessOrEqual(e, overtook, 4*workers, "tasks of the backlog that were started before the late one")
	}
	e.terminate()
}

// meetMax is how long the only poll and the only task of a queue may take to meet.
const meetMax = 50 * time.Millisecond

// TestTheOnlyPollGetsTheOnlyTask measures how long they take, wherever they are. Single measurements say more of the machine than of the
// queue; half of them must be in time.
func TestTheOnlyPollGetsTheOnlyTask(t *testing.T) {
	for _, partitions := range []int{1, 4, 16} {
		t.Run(fmt.Sprint(partitions, " partitions"), func(t *testing.T) {
			e := newEnv(t, startCluster(t, partitions))
			e.requirePartitions(partitions)
			const rounds = 15
			var pollFirst, taskFirst []time.Duration
			c := e.work(1, -1, 0)
			for i := range rounds {
				e.add(job{name: fmt.Sprint("early", i), n: 1})
				c.await(i+1, callMax)
			}
			c.stop()
			for _, d := range c.taken() {
				pollFirst = append(pollFirst, d.at.Sub(d.scheduled))
			}
			for i := range rounds {
				e.add(job{name: fmt.Sprint("late", i), n: 1})
				if i%2 == 0 {
					e.awaitStored()
				}
				begun := time.Now()
				got := do(e, e.api.PollActivityTaskQueue, e.pollRequest(-1))
				require.NotEmpty(e, got.TaskToken)
				taskFirst = append(taskFirst, time.Since(begun))
			}
			requireMostIn(e, pollFirst, "the poll first")
			requireMostIn(e, taskFirst, "the task first")
		})
	}
}

// requirePartitions checks what is listed: so many for each type, and both hosts have some of many.
func (e *env) requirePartitions(n int) {
	e.Helper()
	list := do(e, e.api.ListTaskQueuePartitions, &workflowservice.ListTaskQueuePartitionsRequest{
		Namespace: namespace, TaskQueue: e.taskQueue(),
	})
	owners := map[string]bool{}
	for _, partitions := range [][]*taskqueuepb.TaskQueuePartitionMetadata{
		list.WorkflowTaskQueuePartitions, list.ActivityTaskQueuePartitions,
	} {
		require.Len(e, partitions, n)
		for number, p := range partitions {
			name := e.queue
			if number > 0 {
				name = fmt.Sprintf("/_sys/%s/%d", e.queue, number)
			}
			require.Equal(e, name, p.Key)
			require.NotEmpty(e, p.OwnerHostName)
			owners[p.OwnerHostName] = true
		}
	}
	if n >= 16 { // of so many each host has some, but for one chance in two thousand million
		require.Len(e, owners, 2)
	}
}

// awaitStored waits until the queue's only task is in its backlog.
func (e *env) awaitStored() {
	e.Helper()
	require.Eventually(e, func() bool {
		return do(e, e.api.DescribeTaskQueue, &workflowservice.DescribeTaskQueueRequest{
			Namespace: namespace, TaskQueue: e.taskQueue(), TaskQueueType: activityType, ReportStats: true,
		}).GetStats().GetApproximateBacklogAge().AsDuration() > 300*time.Millisecond
	}, callMax, 20*time.Millisecond)
}

func requireMostIn(e *env, took []time.Duration, what string) {
	e.Helper()
	slices.Sort(took)
	e.Logf("%s: median %v, longest %v", what, took[len(took)/2], took[len(took)-1])
	require.LessOrEqual(e, took[len(took)/2], meetMax, what)
}
