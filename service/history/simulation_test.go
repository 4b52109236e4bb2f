package history

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"
	eventpb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/service/history/historytest"
)

var (
	simSeeds = flag.Int("sim.seeds", 20, "how many fault plans TestSimulation runs")
	simSeed  = flag.Uint64("sim.seed", 0, "the one fault plan to run; 0: seeds from 1 on")
)

// simulation is clients and workers that do their work while commits fail, in every way they can, and hosts crash.
type simulation struct {
	*world
	ctx  context.Context
	host atomic.Pointer[host]
	// lease is that of the present host; used by one goroutine at a time.
	lease *leased

	mu   sync.Mutex
	rand *rand.Rand
}

// leased is the database as one host sees it. A host that has been replaced takes nothing: membership forbids it.
type leased struct {
	store
	mu       sync.Mutex
	replaced bool
}

func (l *leased) TakeShards(ctx context.Context, owner string, shards []persistence.ShardID) (map[persistence.ShardID]persistence.Epoch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replaced {
		return nil, nil
	}
	return l.store.TakeShards(ctx, owner, shards)
}

// next starts a host that replaces the present one, and returns that. As membership has it, the lease of the old one is over
// before: it answers nothing any more, but what it has under way may still reach the database.
func (s *simulation) next() (old *host) {
	if s.lease != nil {
		s.lease.mu.Lock()
		s.lease.replaced = true
		for _, shard := range allShards() {
			s.host.Load().ownership.set(shard, 0)
		}
		s.lease.mu.Unlock()
	}
	s.lease = &leased{store: s.db}
	s.stored = s.lease
	h := s.start(Config{})
	h.ctx = s.ctx
	return s.host.Swap(h)
}

func (s *simulation) chance(percent int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.IntN(100) < percent
}

// fault decides the fate of a commit.
func (s *simulation) fault(*persistence.Mutation) historytest.Fault {
	switch {
	case s.chance(4):
		return historytest.Fault{Err: persistence.ErrOutcomeUnknown, Applied: true}
	case s.chance(4):
		return historytest.Fault{Err: persistence.ErrOutcomeUnknown}
	case s.chance(4):
		return historytest.Fault{Err: persistence.ErrUnavailable}
	case s.chance(2):
		return historytest.Fault{Err: persistence.ErrConflict}
	}
	return historytest.Fault{}
}

// insist repeats a call until it has an answer.
func (s *simulation) insist(call func(*host) error) error {
	for {
		err := call(s.host.Load())
		if code(err) != codes.Unavailable || !sleep(s.ctx, 100*time.Millisecond) {
			return err
		}
	}
}

const (
	simWorkflows = 12
	simSignals   = 5
	simWorkers   = 4
	simCrashes   = 3
)

func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, *simSeed)
		return
	}
	for seed := range uint64(*simSeeds) {
		t.Run(fmt.Sprint("seed=", seed+1), func(t *testing.T) { simulate(t, seed+1) })
	}
}

func simulate(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		s := &simulation{world: newWorld(t), ctx: ctx, rand: rand.New(rand.NewPCG(seed, seed))}
		s.next()
		s.db.SetFault(s.fault)

		var clients, rest sync.WaitGroup
		for i := range simWorkflows {
			clients.Go(func() { s.client(fmt.Sprint("w", i)) })
		}
		working, stop := context.WithCancel(ctx)
		for range simWorkers {
			rest.Go(func() { s.worker(working) })
		}
		rest.Go(func() { s.crashes(working) })
		clients.Wait()
		stop()
		rest.Wait()
		s.db.SetFault(nil)
		for i := range simWorkflows {
			s.check(fmt.Sprint("w", i))
		}
	})
}

// client starts a workflow, signals it, and waits for its end.
func (s *simulation) client(id string) {
	start := startRequest(id)
	if err := s.insist(func(h *host) error { return err2(h.startWith(start)) }); err != nil {
		s.t.Errorf("start %s: %v", id, err)
	}
	for i := range simSignals {
		r := &workflowservice.SignalWorkflowExecutionRequest{WorkflowExecution: execution(id, ""), SignalName: fmt.Sprint("s", i), RequestId: uuid.NewString()}
		if err := s.insist(func(h *host) error {
			return err2(h.SignalWorkflowExecution(s.ctx, &historypb.SignalWorkflowExecutionRequest{NamespaceId: h.id(), Request: r}))
		}); err != nil {
			s.t.Errorf("signal %s: %v", id, err)
		}
	}
	for ended := false; !ended && s.ctx.Err() == nil; {
		if err := s.insist(func(h *host) error {
			out, err := h.GetWorkflowExecutionHistory(s.ctx, &historypb.GetWorkflowExecutionHistoryRequest{NamespaceId: h.id(), Request: &workflowservice.GetWorkflowExecutionHistoryRequest{
				Execution: execution(id, ""), WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
			}})
			ended = len(out.GetHistory().GetEvents()) > 0
			return err
		}); err != nil {
			s.t.Errorf("wait for %s: %v", id, err)
			return
		}
	}
	if s.ctx.Err() != nil {
		s.t.Errorf("%s never ended", id)
	}
}

// worker carries out tasks, and sometimes vanishes with one.
func (s *simulation) worker(ctx context.Context) {
	for {
		in, err := s.queues.Take(ctx, testQueue)
		if err != nil {
			return
		}
		request := uuid.NewString()
		if in.GetPartition().GetType() == enumspb.TASK_QUEUE_TYPE_ACTIVITY {
			s.workOnActivity(in, request)
		} else {
			s.workOnTask(in, request)
		}
	}
}

func (s *simulation) workOnTask(in *matchingpb.AddTaskRequest, request string) {
	var task *workflowservice.PollWorkflowTaskQueueResponse
	if s.insist(func(h *host) (err error) {
		task, err = h.startTaskOf(in, request)
		return err
	}) != nil || s.chance(5) {
		return // obsolete, or the worker is gone: the task times out
	}
	_, _ = s.host.Load().respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken, Commands: decide(task.History.Events)}) // a refused or lost answer brings the task again
}

// decide is the workflow: one activity, and the end once that and all signals are there.
func decide(events []*eventpb.HistoryEvent) []*commandpb.Command {
	count := map[enumspb.EventType]int{}
	for _, e := range events {
		count[e.EventType]++
	}
	switch {
	case count[enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED] == 0:
		return []*commandpb.Command{scheduleActivity("a"), startTimer("t", time.Second)}
	case count[enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED] == 1 && count[enumspb.EVENT_TYPE_TIMER_FIRED] == 1 &&
		count[enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED] >= simSignals:
		return []*commandpb.Command{completeWorkflow()}
	}
	return nil
}

func (s *simulation) workOnActivity(in *matchingpb.AddTaskRequest, request string) {
	var task *workflowservice.PollActivityTaskQueueResponse
	if s.insist(func(h *host) (err error) {
		task, err = h.startActivityOf(in, request)
		return err
	}) != nil || s.chance(10) {
		return
	}
	_ = s.insist(func(h *host) error { // NOT_FOUND: an earlier try was stored
		return err2(h.RespondActivityTaskCompleted(s.ctx, &historypb.RespondActivityTaskCompletedRequest{
			NamespaceId: h.id(), Token: decodeToken(s.t, task.TaskToken), Request: &workflowservice.RespondActivityTaskCompletedRequest{Result: payload("result")},
		}))
	})
}

// crashes replaces the host a few times: the old one finds out when it next writes.
func (s *simulation) crashes(ctx context.Context) {
	for range simCrashes {
		if !sleep(ctx, 5*time.Second) {
			return
		}
		if old := s.next(); s.chance(50) {
			old.stop()
		}
	}
}

// check makes sure that nothing was lost and nothing happened twice.
func (s *simulation) check(id string) {
	h := s.host.Load()
	events := h.events(id, "")
	requireDense(s.t, events)
	names := map[string]int{}
	count := map[enumspb.EventType]int{}
	for _, e := range events {
		count[e.EventType]++
		if a := e.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
			names[a.SignalName]++
		}
	}
	require.Len(s.t, names, simSignals, id)
	require.Equal(s.t, simSignals, count[enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED], id)
	require.Equal(s.t, 1, count[enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED], id)
	require.Equal(s.t, 1, count[enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED], id)
	require.Equal(s.t, 1, count[enumspb.EVENT_TYPE_TIMER_FIRED], id)
	require.Equal(s.t, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, events[len(events)-1].EventType, "%s: %v", id, types(events))
	rows := s.db.Log(events[0].GetWorkflowExecutionStartedEventAttributes().OriginalExecutionRunId)
	for i := 1; i < len(rows); i++ {
		require.Greater(s.t, rows[i].Seq, rows[i-1].Seq)
	}
}
