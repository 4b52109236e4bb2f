package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// soakDefault is how long the soak injects faults unless $PERDURE_SOAK says otherwise: enough for each kind of fault about once.
const soakDefault = 45 * time.Second

// soakSessions are those of the pool in a soak: fewer than the connections of all processes, but more than those of one, which may hold all
// of its own when it is frozen.
const soakSessions = 20

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
	pooler *pgtest.Pooler // nil: the processes are connected to the server itself
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
	{"the pool before PostgreSQL killed and restarted, if there is one", 1, func(s *soak) {
		if s.pooler != nil {
			s.pooler.Restart(s.t)
		}
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
	{"a process unreachable until its work is done elsewhere", 1, func(s *soak) {
		n := s.owner()
		n.internal.set(silent)
		s.pause(2 * time.Second)
		awaitLease(s.t)
		n.internal.set(open)
	}},
	{"the database is slow for a process", 2, func(s *soak) {
		n := s.any()
		n.database.slow(50 * time.Millisecond)
		s.pause(3 * time.Second)
		n.database.slow(0)
	}},
	{"a table locked by somebody", 2, func(s *soak) {
		tables := []string{"transitions", "executions", "visibility", "shards", "task_queues", "tasks", "cluster_members", "namespaces"}
		unlock := s.lock(tables[s.random.IntN(len(tables))])
		s.pause(4 * time.Second)
		unlock()
	}},
	{"a process that refuses connections", 2, func(s *soak) {
		n := s.owner()
		n.internal.set(refusing)
		s.pause(3 * time.Second)
		n.internal.set(open)
	}},
}

// lock locks a table against everybody, until unlock.
func (s *soak) lock(table string) (unlock func()) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.database)
	require.NoError(s.t, err)
	tx, err := conn.Begin(ctx)
	require.NoError(s.t, err)
	_, err = tx.Exec(ctx, "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
	require.NoError(s.t, err)
	return func() {
		require.NoError(s.t, tx.Rollback(ctx))
		require.NoError(s.t, conn.Close(ctx))
	}
}

// draw chooses a fault by weight. Every fault comes once before any comes again.
func (s *soak) draw() fault {
	var fresh, weighted []fault
	for _, f := range soakFaults {
		if s.counts[f.name] == 0 {
			fresh = append(fresh, f)
		}
		for range f.weight {
			weighted = append(weighted, f)
		}
	}
	if len(fresh) > 0 {
		return fresh[s.random.IntN(len(fresh))]
	}
	return weighted[s.random.IntN(len(weighted))]
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
	server := pgtest.NewServer(t)
	s := &soak{server: server, random: rand.New(rand.NewPCG(seed, 0)), counts: map[string]int{}}
	database := databaseOf(t, server)
	if s.random.IntN(2) == 0 {
		s.pooler = pgtest.NewPooler(t, database, soakSessions)
		database = s.pooler.URL(database)
	}
	t.Logf("seed %d, %v, pool: %v", seed, length, s.pooler != nil)
	f := newFleetOn(t, database)
	s.fleet = f
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
