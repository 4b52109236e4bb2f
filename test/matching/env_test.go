package matching

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/test/harness"
)

const (
	namespace = "default"
	// callMax bounds a call on a busy machine; calls that fail because a process is gone are repeated within it.
	callMax = time.Minute
	// activitiesMax is how many activities one workflow of a test schedules, in one completion of its task.
	activitiesMax = 500
	// pollMax is the deadline of a long poll.
	pollMax = 30 * time.Second

	activityType = enumspb.TASK_QUEUE_TYPE_ACTIVITY
)

// place is a server under test, and what a test may do to it.
type place struct {
	addr string
	// matching are the processes that own task queues.
	matching []*host
	// url is the database's; empty: it is a file.
	url string
	// file is the database's; empty: it is a PostgreSQL one.
	file string
}

// host is a process that runs the matching service, perhaps among others.
type host struct {
	process *harness.Process
	launch  func() *harness.Process
}

// crash is kill -9 and a new start.
func (h *host) crash() {
	h.process.Kill()
	h.process = h.launch()
}

// flavour is a way to run the product. Partitions 0: as many as a queue needs.
type flavour struct {
	name  string
	start func(t testing.TB, partitions int) *place
}

// cluster is the one of them that has several matching hosts.
const cluster = "cluster"

var flavours = []flavour{{"start-dev", startDev}, {"postgres", startOnPostgres}, {cluster, startCluster}}

func startDev(t testing.TB, _ int) *place {
	p := &place{addr: harness.FreeAddr(t), file: t.TempDir() + "/state.db"}
	_, port, _ := strings.Cut(p.addr, ":")
	p.serve(func() *harness.Process {
		process := harness.Start(t, nil, "perdure", "server", "start-dev", "--headless", "--port", port, "--db-filename", p.file)
		process.AwaitReady(p.addr)
		return process
	})
	return p
}

func startOnPostgres(t testing.TB, partitions int) *place {
	p := &place{addr: harness.FreeAddr(t), url: pgtest.URL(t)}
	p.serve(func() *harness.Process {
		process := harness.Start(t, []string{"PERDURE_POSTGRES=" + p.url}, "perdure", "server", "start", "--grpc-address", p.addr,
			"--http-address", "", "--namespace", namespace, "--task-queue-partitions", fmt.Sprint(partitions))
		process.AwaitReady(p.addr)
		return process
	})
	return p
}

// startCluster runs one process of each service, and a second one of matching.
func startCluster(t testing.TB, partitions int) *place {
	p := &place{addr: harness.FreeAddr(t), url: pgtest.URL(t)}
	env := []string{"PERDURE_POSTGRES=" + p.url, "PERDURE_HTTP_ADDRESS="}
	harness.Start(t, env, "history", "--grpc-address", harness.FreeAddr(t))
	for range 2 {
		addr := harness.FreeAddr(t)
		p.serve(func() *harness.Process {
			return harness.Start(t, env, "matching", "--grpc-address", addr, "--task-queue-partitions", fmt.Sprint(partitions))
		})
	}
	harness.Start(t, env, "frontend", "--grpc-address", p.addr, "--namespace", namespace).AwaitReady(p.addr)
	return p
}

func (p *place) serve(launch func() *harness.Process) {
	p.matching = append(p.matching, &host{launch(), launch})
}

// crash kills every matching process.
func (p *place) crash() {
	for _, h := range p.matching {
		h.process.Kill()
	}
	for _, h := range p.matching {
		h.process = h.launch()
	}
}

// env is one test: a queue of its own on a server.
type env struct {
	testing.TB
	*place
	api   workflowservice.WorkflowServiceClient
	queue string

	mu   sync.Mutex
	runs []*commonpb.WorkflowExecution
}

func newEnv(t testing.TB, p *place) *env {
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	e := &env{TB: t, place: p, api: workflowservice.NewWorkflowServiceClient(conn), queue: "queue-" + strings.ToLower(rand.Text())[:10]}
	do(e, e.api.DescribeTaskQueue, &workflowservice.DescribeTaskQueueRequest{Namespace: namespace, TaskQueue: e.taskQueue()})
	return e
}

// do makes a call, again and again if the server cannot be reached.
func do[Q, R any](e *env, call func(context.Context, Q, ...grpc.CallOption) (R, error), req Q) R {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callMax)
	defer cancel()
	for {
		out, err := call(ctx, req, grpc.WaitForReady(true))
		if err == nil {
			return out
		}
		switch code := status.Code(err); {
		case ctx.Err() == nil && (code == codes.Unavailable || code == codes.NotFound && strings.Contains(err.Error(), "amespace")):
			pause(ctx, 50*time.Millisecond)
		default:
			require.NoError(e, err)
		}
	}
}

// pause is for calls that are repeated.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (e *env) taskQueue() *taskqueuepb.TaskQueue { return &taskqueuepb.TaskQueue{Name: e.queue} }

// job is activities to schedule: all alike, and named name/0, name/1 …
type job struct {
	name     string
	n        int
	priority *commonpb.Priority
	// spread gives each workflow a fairness key of its own, so that those who work on the queue do not meet in one workflow: its
	// activities are started one after the other.
	spread bool
}

// add schedules activities on the test's queue. The workflows that do so have a queue of their own.
func (e *env) add(jobs ...job) {
	e.Helper()
	var running sync.WaitGroup
	lanes := make(chan struct{}, 16)
	for _, j := range jobs {
		for from := 0; from < j.n; from += activitiesMax {
			lanes <- struct{}{}
			running.Go(func() {
				defer func() { <-lanes }()
				e.schedule(j, from, min(from+activitiesMax, j.n))
			})
		}
	}
	running.Wait()
}

func (e *env) schedule(j job, from, to int) {
	id := fmt.Sprintf("%s-%s-%d", e.queue, j.name, from)
	own := &taskqueuepb.TaskQueue{Name: id}
	started := do(e, e.api.StartWorkflowExecution, &workflowservice.StartWorkflowExecutionRequest{
		Namespace: namespace, WorkflowId: id, WorkflowType: &commonpb.WorkflowType{Name: "job"}, TaskQueue: own, RequestId: id,
	})
	e.mu.Lock()
	e.runs = append(e.runs, &commonpb.WorkflowExecution{WorkflowId: id, RunId: started.RunId})
	e.mu.Unlock()
	priority := j.priority
	if j.spread {
		priority = &commonpb.Priority{FairnessKey: fmt.Sprint(from)}
	}
	var commands []*commandpb.Command
	for i := from; i < to; i++ {
		commands = append(commands, &commandpb.Command{
			CommandType: enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
			Attributes: &commandpb.Command_ScheduleActivityTaskCommandAttributes{
				ScheduleActivityTaskCommandAttributes: &commandpb.ScheduleActivityTaskCommandAttributes{
					ActivityId: fmt.Sprintf("%s/%d", j.name, i), ActivityType: &commonpb.ActivityType{Name: "work"}, TaskQueue: e.taskQueue(),
					StartToCloseTimeout: durationpb.New(24 * time.Hour), Priority: priority,
				},
			},
		})
	}
	task := do(e, e.api.PollWorkflowTaskQueue, &workflowservice.PollWorkflowTaskQueueRequest{
		Namespace: namespace, TaskQueue: own, Identity: "scheduler",
	})
	require.NotEmpty(e, task.TaskToken)
	do(e, e.api.RespondWorkflowTaskCompleted, &workflowservice.RespondWorkflowTaskCompletedRequest{
		Namespace: namespace, TaskToken: task.TaskToken, Identity: "scheduler", Commands: commands,
	})
}

// terminate ends all workflows whose activities are on the queue.
func (e *env) terminate() {
	e.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, run := range e.runs {
		do(e, e.api.TerminateWorkflowExecution, &workflowservice.TerminateWorkflowExecutionRequest{
			Namespace: namespace, WorkflowExecution: run,
		})
	}
	e.runs = nil
}

// dispatch is an activity task that a worker got.
type dispatch struct {
	id string
	// scheduled is when the attempt was scheduled, at when history started it.
	scheduled, at time.Time
}

// crew is workers that take activity tasks and never complete them.
type crew struct {
	e      *env
	cancel context.CancelFunc
	polls  sync.WaitGroup

	mu  sync.Mutex
	got []dispatch
}

// work starts pollers. rate is what they set as the queue's limit; below zero: none. Each takes a task, works for as long as given, and
// polls again.
func (e *env) work(pollers int, rate float64, each time.Duration) *crew {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crew{e: e, cancel: cancel}
	for range pollers {
		c.polls.Go(func() {
			for ctx.Err() == nil {
				c.poll(ctx, rate)
				if each > 0 {
					pause(ctx, each)
				}
			}
		})
	}
	e.Cleanup(c.stop)
	return c
}

func (c *crew) poll(ctx context.Context, rate float64) {
	call, cancel := context.WithTimeout(ctx, pollMax)
	defer cancel()
	got, err := c.e.api.PollActivityTaskQueue(call, c.e.pollRequest(rate))
	if err != nil {
		pause(ctx, 20*time.Millisecond)
		return
	}
	if len(got.TaskToken) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, dispatch{got.ActivityId, got.CurrentAttemptScheduledTime.AsTime(), got.StartedTime.AsTime()})
}

func (c *crew) stop() {
	c.cancel()
	c.polls.Wait()
}

// count is how many tasks have been taken.
func (c *crew) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

// taken lists the tasks in the order of their starts.
func (c *crew) taken() []dispatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := slices.Clone(c.got)
	slices.SortStableFunc(got, func(a, b dispatch) int { return a.at.Compare(b.at) })
	return got
}

// await waits until so many tasks have been taken.
func (c *crew) await(n int, within time.Duration) {
	c.e.Helper()
	require.Eventually(c.e, func() bool { return c.count() >= n }, within, 10*time.Millisecond, "the workers never got %d tasks", n)
}

// requireOnce checks that no task was taken twice.
func (c *crew) requireOnce() {
	c.e.Helper()
	seen := map[string]bool{}
	for _, d := range c.taken() {
		require.False(c.e, seen[d.id], "%s was dispatched twice", d.id)
		seen[d.id] = true
	}
}

func (e *env) pollRequest(rate float64) *workflowservice.PollActivityTaskQueueRequest {
	r := &workflowservice.PollActivityTaskQueueRequest{Namespace: namespace, TaskQueue: e.taskQueue(), Identity: "worker"}
	if rate >= 0 {
		r.TaskQueueMetadata = &taskqueuepb.TaskQueueMetadata{MaxTasksPerSecond: doubleValue(rate)}
	}
	return r
}

// describe is the queue's activities, with everything that can be asked for.
func (e *env) describe() *workflowservice.DescribeTaskQueueResponse {
	e.Helper()
	return do(e, e.api.DescribeTaskQueue, &workflowservice.DescribeTaskQueueRequest{
		Namespace: namespace, TaskQueue: e.taskQueue(), TaskQueueType: enumspb.TASK_QUEUE_TYPE_ACTIVITY, ReportStats: true, ReportConfig: true,
		IncludeTaskQueueStatus: true,
	})
}

// awaitBacklog waits until the queue has so many tasks.
func (e *env) awaitBacklog(n int64, within time.Duration) {
	e.Helper()
	require.Eventually(e, func() bool { return e.describe().GetStats().GetApproximateBacklogCount() == n }, within, 100*time.Millisecond,
		"the backlog is not %d", n)
}
