package matching

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/persistence"
)

// simulation runs adders and workers against a service whose store and history fail at random, whose polls are hung up at
// random and which, with takeovers, loses its partitions and is restarted. A seed repeats the run's decisions.
type simulation struct {
	*fixture
	takeovers bool

	mu        sync.Mutex
	random    *rand.Rand
	calm      bool // no more faults
	delivered map[string]int
}

const (
	simulatedTasks   = 60
	simulatedWorkers = 4
	simulatedLength  = 10 * time.Minute
)

func TestSimulation(t *testing.T) {
	for seed := range uint64(40) {
		takeovers := seed%2 == 1
		t.Run(fmt.Sprintf("seed=%d,takeovers=%v", seed, takeovers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed, takeovers) })
		})
	}
}

func simulate(t *testing.T, seed uint64, takeovers bool) {
	s := &simulation{
		fixture:   newFixture(t),
		takeovers: takeovers,
		random:    rand.New(rand.NewPCG(seed, 1)),
		delivered: make(map[string]int),
	}
	s.store.setFault(s.storeFault)
	s.history.setFault(s.historyFault)
	s.history.latency = func() time.Duration { return s.delay(100 * time.Millisecond) }
	ctx, cancel := context.WithCancel(context.Background())
	var workers, adders sync.WaitGroup
	for range simulatedWorkers {
		workers.Go(func() { s.work(ctx) })
	}
	for i := range simulatedTasks {
		adders.Go(func() { s.keepAdding(fmt.Sprint(i)) })
	}
	if takeovers {
		workers.Go(func() { s.takeOver(ctx) })
	}
	adders.Wait()
	s.calmDown()
	time.Sleep(simulatedLength)
	cancel()
	workers.Wait()
	s.check()
	s.current().Stop(context.Background()) //nolint:errcheck // the run is over
}

// check: every acknowledged task was started, each once; nothing is left behind; and while the partition never moved, each start
// reached a worker.
func (s *simulation) check() {
	require.Len(s.t, s.history.starts(), simulatedTasks)
	require.Zero(s.t, s.store.rows(workflowKey), "finished rows are deleted")
	for task, times := range s.delivered {
		require.Equal(s.t, 1, times, "task %s", task)
	}
	if s.takeovers {
		return
	}
	require.Len(s.t, s.delivered, simulatedTasks)
	p := s.service.partitions[queueKey{QueueKey: workflowKey}]
	for _, level := range p.backlog.levels {
		require.Zero(s.t, level.waiting)
		require.Zero(s.t, level.size())
		require.True(s.t, level.caughtUp)
	}
}

func (s *simulation) chance(percent int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.calm && s.random.IntN(100) < percent
}

func (s *simulation) delay(most time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.random.Int64N(int64(most)))
}

func (s *simulation) calmDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calm = true
}

func (s *simulation) current() *Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.service
}

func (s *simulation) storeFault(string) (bool, error) {
	time.Sleep(s.delay(20 * time.Millisecond))
	switch {
	case s.chance(5):
		return false, persistence.ErrUnavailable
	case s.chance(5):
		return false, persistence.ErrOutcomeUnknown
	case s.chance(5):
		return true, persistence.ErrOutcomeUnknown
	default:
		return false, nil
	}
}

func (s *simulation) historyFault(string) (bool, error) {
	switch {
	case s.chance(10):
		return false, serviceerror.NewUnavailable("not committed")
	case s.chance(10):
		return true, serviceerror.NewUnavailable("committed")
	default:
		return false, nil
	}
}

// keepAdding does what history does: it offers the task until that is acknowledged.
func (s *simulation) keepAdding(id string) {
	time.Sleep(s.delay(10 * time.Second))
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		_, err := s.current().AddTask(ctx, addRequest(workflowQueue, id))
		cancel()
		if err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// work polls, now and then with a client that hangs up.
func (s *simulation) work(ctx context.Context) {
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, time.Minute)
		if s.chance(50) {
			time.AfterFunc(s.delay(2*time.Second), cancel)
		}
		f := &fixture{t: s.t, service: s.current()}
		response, err := f.poll(poll, workflowQueue)
		if id := response.GetWorkflowExecution().GetWorkflowId(); err == nil && id != "" {
			s.mu.Lock()
			s.delivered[id]++
			s.mu.Unlock()
		}
		cancel()
		time.Sleep(s.delay(time.Second))
	}
}

// takeOver fences the partition or replaces the process, again and again.
func (s *simulation) takeOver(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(s.delay(5*time.Second) + time.Millisecond)
		switch {
		case s.chance(30):
			s.store.mu.Lock()
			if q := s.store.queues[workflowKey]; q != nil {
				q.epoch++
			}
			s.store.mu.Unlock()
		case s.chance(30):
			old := s.current()
			s.mu.Lock()
			s.boot()
			s.mu.Unlock()
			old.Stop(context.Background()) //nolint:errcheck // it may fail to say goodbye
		}
	}
}
