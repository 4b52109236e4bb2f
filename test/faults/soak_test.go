package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// soakDefault is how long the soak injects faults unless $PERDURE_SOAK says otherwise: enough for each kind of fault about once.
const soakDefault = 45 * time.Second

// fault is something that happens to a fleet. inject returns when it is over, and the fleet whole again.
type fault struct {
	name   string
	weight int
	inject func(s *soak)
}

// soak is a run of random faults.
type soak struct {
	*fleet
	server *pgtest.Server
	random *rand.Rand
	load   *load
	counts map[string]int
}

func (s *soak) any() *node { return s.nodes()[s.random.IntN(len(s.nodes()))] }

// owner is any history or matching node.
func (s *soak) owner() *node { return pick(slices.Concat(s.history, s.matching), s.random.IntN(4)) }

// pause lets the load go on for a while, or not, under a fault.
func (s *soak) pause(most time.Duration) {
	timer := time.NewTimer(time.Duration(s.random.Int64N(int64(most))))
	defer timer.Stop()
	<-timer.C
}

var soakFaults = []fault{
	{"kill -9 of a process", 6, func(s *soak) {
		n := s.any()
		n.kill()
		s.pause(3 * time.Second)
		n.start()
	}},
	{"kill -9 of two processes", 2, func(s *soak) {
		a, b := s.any(), s.any()
		a.kill()
		if a != b {
			b.kill()
		}
		s.pause(time.Second)
		a.start()
		if a != b {
			b.start()
		}
	}},
	{"graceful stop", 3, func(s *soak) {
		n := s.any()
		n.stop()
		s.pause(2 * time.Second)
		n.start()
	}},
	{"SIGSTOP, briefly", 3, func(s *soak) {
		n := s.any()
		n.freeze()
		s.pause(3 * time.Second)
		n.thaw()
	}},
	{"SIGSTOP beyond the lease", 1, func(s *soak) {
		n := s.owner()
		n.freeze()
		s.pause(2 * time.Second)
		awaitLease(s.t)
		n.thaw()
	}},
	{"PostgreSQL: immediate shutdown and restart", 2, func(s *soak) {
		s.server.Stop(s.t, true)
		s.pause(2 * time.Second)
		s.server.Start(s.t)
	}},
	{"PostgreSQL: fast shutdown and restart", 1, func(s *soak) {
		s.server.Stop(s.t, false)
		s.server.Start(s.t)
	}},
	{"database connections of a process cut", 6, func(s *soak) { s.any().database.cut() }},
	{"a process cut off from the database, in silence", 2, func(s *soak) {
		n := s.any()
		n.database.set(silent)
		s.pause(4 * time.Second)
		n.database.set(open)
	}},
	{"the database stalls for a process", 2, func(s *soak) {
		n := s.any()
		n.database.set(stalled)
		s.pause(4 * time.Second)
		n.database.set(open)
	}},
	{"connections to a process cut", 6, func(s *soak) { s.owner().internal.cut() }},
	{"a process unreachable, in silence", 2, func(s *soak) {
		n := s.owner()
		n.internal.set(silent)
		s.pause(4 * time.Second)
		n.internal.set(open)
	}},
	{"a process that refuses connections", 2, func(s *soak) {
		n := s.owner()
		n.internal.set(refusing)
		s.pause(3 * time.Second)
		n.internal.set(open)
	}},
}

// draw chooses a fault by weight. Every fault comes once before any comes again.
func (s *soak) draw() fault {
	var candidates []fault
	for _, f := range soakFaults {
		if s.counts[f.name] == 0 {
			return f
		}
		for range f.weight {
			candidates = append(candidates, f)
		}
	}
	return candidates[s.random.IntN(len(candidates))]
}

// TestSoak injects one random fault after the other, as long as $PERDURE_SOAK (a duration) says, and then counts. $PERDURE_SOAK_SEED
// draws the same faults again.
func TestSoak(t *testing.T) {
	length := soakDefault
	if value := os.Getenv("PERDURE_SOAK"); value != "" {
		var err error
		length, err = time.ParseDuration(value)
		require.NoError(t, err, "PERDURE_SOAK")
	}
	seed := uint64(time.Now().UnixNano())
	if value := os.Getenv("PERDURE_SOAK_SEED"); value != "" {
		_, err := fmt.Sscan(value, &seed)
		require.NoError(t, err, "PERDURE_SOAK_SEED")
	}
	t.Logf("seed %d, %v", seed, length)
	server := pgtest.NewServer(t)
	f := newFleetOn(t, databaseOf(t, server))
	s := &soak{fleet: f, server: server, random: rand.New(rand.NewPCG(seed, 0)), counts: map[string]int{}}
	s.load = f.startLoad(parallelJourneys)
	s.load.await(parallelJourneys)
	for begun := time.Now(); time.Since(begun) < length; {
		fault := s.draw()
		fault.inject(s)
		s.counts[fault.name]++
		f.awaitReady()
		f.requireAlive()
		s.load.await(int64(s.random.IntN(parallelJourneys)))
	}
	s.load.finish(f)
	f.requireBoundedPools()
	t.Log(s.summary())
}

// summary is how often each fault was injected.
func (s *soak) summary() string {
	var lines []string
	for _, f := range soakFaults {
		lines = append(lines, fmt.Sprintf("%4d × %s", s.counts[f.name], f.name))
	}
	return "injected:\n" + strings.Join(lines, "\n")
}
