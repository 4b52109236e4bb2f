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

// TestHostsSimulation runs a queue with partitions on several hosts whose store and history fail at random, which are killed, and
// among which partitions move. Every acknowledged task is started once, and nothing is left.
func TestHostsSimulation(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulateHosts(t, seed) })
		})
	}
}

// hostsSimulation is one run.
type hostsSimulation struct {
	*hosts
	partitions int32

	randomMu  sync.Mutex
	random    *rand.Rand
	calm      bool
	delivered map[string]int
}

func simulateHosts(t *testing.T, seed uint64) {
	config := Config{Partitions: []int32{1, 4, 16, 25}[seed%4]}
	s := &hostsSimulation{
		hosts: newHosts(t, 3, config), partitions: config.Partitions,
		random: rand.New(rand.NewPCG(seed, 2)), delivered: make(map[string]int),
	}
	s.latency = time.Millisecond
	if seed%2 == 1 {
		s.limit(20) // tokens are in the way
	}
	s.store.setFault(s.storeFault)
	s.history.setFault(s.historyFault)
	ctx, cancel := context.WithCancel(context.Background())
	var workers, adders sync.WaitGroup
	const tasks = 120
	for range 6 {
		workers.Go(func() { s.work(ctx) })
	}
	for i := range tasks {
		adders.Go(func() { s.keepAdding(fmt.Sprint(i)) })
	}
	workers.Go(func() { s.disturb(ctx) })
	adders.Wait()
	s.randomMu.Lock()
	s.calm = true
	s.randomMu.Unlock()
	time.Sleep(10 * time.Minute)
	require.Len(t, s.history.starts(), tasks)
	require.Zero(t, s.storedTasks(), "finished rows are deleted")
	cancel()
	workers.Wait()
	for id, n := range s.delivered {
		require.Equal(t, 1, n, "task %s", id)
	}
	s.stop()
}

func (s *hostsSimulation) chance(percent int) bool {
	s.randomMu.Lock()
	defer s.randomMu.Unlock()
	return !s.calm && s.random.IntN(100) < percent
}

func (s *hostsSimulation) number(n int) int {
	s.randomMu.Lock()
	defer s.randomMu.Unlock()
	return s.random.IntN(n)
}

func (s *hostsSimulation) storeFault(string) (bool, error) {
	switch {
	case s.chance(4):
		return false, persistence.ErrUnavailable
	case s.chance(4):
		return false, persistence.ErrOutcomeUnknown
	case s.chance(4):
		return true, persistence.ErrOutcomeUnknown
	default:
		return false, nil
	}
}

func (s *hostsSimulation) historyFault(string) (bool, error) {
	switch {
	case s.chance(8):
		return false, serviceerror.NewUnavailable("not committed")
	case s.chance(8):
		return true, serviceerror.NewUnavailable("committed")
	default:
		return false, nil
	}
}

func (s *hostsSimulation) keepAdding(id string) {
	time.Sleep(time.Duration(s.number(30_000)) * time.Millisecond)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		task := tenantTask(id, 0, 0)
		task.WorkflowId = id
		task.Priority.FairnessKey = fmt.Sprint(s.number(3))
		task.Priority.PriorityKey = int32(s.number(6))
		err := s.add(ctx, int32(s.number(int(s.partitions))), task)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func (s *hostsSimulation) work(ctx context.Context) {
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, time.Minute)
		if s.chance(30) {
			time.AfterFunc(time.Duration(s.number(2000))*time.Millisecond, cancel)
		}
		id, err := s.poll(poll, int32(s.number(int(s.partitions))), -1)
		cancel()
		if err == nil && id != "" {
			s.randomMu.Lock()
			s.delivered[id]++
			s.randomMu.Unlock()
		}
		pause(ctx, time.Duration(1+s.number(500))*time.Millisecond)
	}
}

func (s *hostsSimulation) disturb(ctx context.Context) {
	for pause(ctx, time.Duration(1+s.number(5000))*time.Millisecond) {
		switch {
		case s.chance(30):
			s.move()
		case s.chance(30):
			s.crash(s.number(len(s.services)))
		}
	}
}
