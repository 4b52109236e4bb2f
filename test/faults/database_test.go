package faults

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// wellMax is how long the cluster may take to be well again after the database is: "seconds".
const wellMax = 15 * time.Second

// connectionsMax is what a process may hold: reads, lists and committers.
const connectionsMax = 8 + 2 + 2

// requireAlive checks that nobody would restart a process because its database is in trouble.
func (f *fleet) requireAlive() {
	f.t.Helper()
	for _, n := range f.nodes() {
		status, body, err := n.get("/healthz/live")
		require.NoError(f.t, err, n)
		require.Equal(f.t, 200, status, "%s: %s", n, body)
	}
}

// awaitNotReady waits until no process calls itself ready.
func (f *fleet) awaitNotReady() {
	f.t.Helper()
	for _, n := range f.nodes() {
		require.Eventually(f.t, func() bool { return !n.ready() }, recoverMax, 50*time.Millisecond, "%s calls itself ready", n)
	}
}

// awaitWell waits until all is as before, and checks how long that took.
func (f *fleet) awaitWell(l *load) {
	f.t.Helper()
	begun := time.Now()
	f.awaitReady()
	l.await(parallelJourneys)
	took := time.Since(begun)
	f.t.Logf("well again after %v", took)
	judge(f.t, took, wellMax)
	f.requireAlive()
}

// requireBoundedPools checks how many sessions the fleet has.
func (f *fleet) requireBoundedPools() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), recoverMax)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.database)
	require.NoError(f.t, err)
	defer conn.Close(ctx)
	var sessions int
	require.NoError(f.t, conn.QueryRow(ctx,
		"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'perdure'").Scan(&sessions))
	require.LessOrEqual(f.t, sessions, connectionsMax*len(f.nodes()))
}

// databaseOf makes a database on a server of its own.
func databaseOf(t *testing.T, server *pgtest.Server) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE DATABASE perdure")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	u, err := url.Parse(server.URL())
	require.NoError(t, err)
	u.Path = "/perdure"
	return u.String()
}

// PostgreSQL is stopped, politely and at once, and comes back: briefly, and for longer than every lease.
func TestPostgresRestarts(t *testing.T) {
	server := pgtest.NewServer(t)
	f := newFleetOn(t, databaseOf(t, server))
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	for _, immediate := range []bool{true, false} {
		server.Stop(t, immediate)
		server.Start(t)
		f.awaitWell(l)
	}
	server.Stop(t, true)
	f.awaitNotReady()
	awaitLease(t)
	f.requireAlive()
	server.Start(t)
	f.awaitWell(l)
	f.requireBoundedPools()
	l.finish(f)
}

// Connections are cut again and again, in the middle of commits and of everything else.
func TestConnectionsToTheDatabaseAreCut(t *testing.T) {
	f := newFleet(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	for range 20 {
		for _, n := range f.nodes() {
			n.database.cut()
		}
		l.await(2)
	}
	f.awaitWell(l)
	f.requireBoundedPools()
	l.finish(f)
}

// One process loses its way to the database, without being told, for longer than its lease. The others take over.
func TestHostIsCutOffFromTheDatabase(t *testing.T) {
	f := newFleet(t)
	ids := sleepers(t, f.dial(), 64)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	lost := f.history[0]
	lost.database.set(silent)
	took := signalAll(t, f.dial(), ids)
	t.Logf("the shards of a host without a database were served again after %v", took)
	l.await(parallelJourneys)
	require.False(t, lost.ready())
	lost.database.set(open)
	f.awaitWell(l)
	l.finish(f)
}

// A server that refuses writes, as a standby does, makes nobody ready; the cluster is well as soon as it takes them again.
func TestPostgresIsReadOnly(t *testing.T) {
	server := pgtest.NewServer(t)
	f := newFleetOn(t, databaseOf(t, server))
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	readOnly := func(on string) {
		conn, err := pgx.Connect(t.Context(), server.URL())
		require.NoError(t, err)
		defer conn.Close(t.Context())
		for _, sql := range []string{"ALTER SYSTEM SET default_transaction_read_only = " + on, "SELECT pg_reload_conf()"} {
			_, err = conn.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
	}
	readOnly("on")
	f.awaitNotReady()
	f.requireAlive()
	readOnly("off")
	f.awaitWell(l)
	l.finish(f)
}

// A server that has no connections left for a while is waited for.
func TestConnectionLimit(t *testing.T) {
	server := pgtest.NewServer(t)
	f := newFleetOn(t, databaseOf(t, server))
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	u, err := url.Parse(server.URL())
	require.NoError(t, err)
	var taken []*pgx.Conn
	takeAll := func() {
		for {
			conn, err := pgx.Connect(t.Context(), u.String())
			if err != nil {
				require.True(t, strings.Contains(err.Error(), "53300"), "%v", err)
				return
			}
			taken = append(taken, conn)
		}
	}
	// The processes take some of what is cut as soon as it is free, but they hold less each time.
	require.Eventually(t, func() bool {
		takeAll()
		ready := 0
		for _, n := range f.nodes() {
			if n.ready() {
				n.database.cut()
				ready++
			}
		}
		return ready == 0
	}, recoverMax, time.Millisecond)
	f.requireAlive()
	for _, conn := range taken {
		require.NoError(t, conn.Close(t.Context()))
	}
	f.awaitWell(l)
	l.finish(f)
}

// The database hangs and goes on as if nothing had happened: for a moment, and for longer than a commit may take and a lease lasts. What
// was sent meanwhile arrives late, and is fenced if somebody has given up on it.
func TestPostgresStalls(t *testing.T) {
	f := newFleet(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	stall := func(wait func()) {
		for _, n := range f.nodes() {
			n.database.set(stalled)
		}
		wait()
		for _, n := range f.nodes() {
			n.database.set(open)
		}
		f.awaitWell(l)
	}
	stall(f.awaitNotReady)
	stall(func() {
		f.awaitNotReady()
		awaitLease(t)
	})
	f.requireBoundedPools()
	l.finish(f)
}

// The database is slow, as with a bad disk: everything takes longer, and nothing fails.
func TestPostgresIsSlow(t *testing.T) {
	const by = 40 * time.Millisecond
	f := newFleet(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	for _, n := range f.nodes() {
		n.database.slow(by)
	}
	failed := l.failed.Load()
	l.await(3 * parallelJourneys)
	require.Equal(t, failed, l.failed.Load(), "failed calls: %v", l.sample())
	for _, n := range f.nodes() {
		require.True(t, n.ready(), n)
		n.database.slow(0)
	}
	l.finish(f)
}

// Somebody locks the tables, for a moment and for longer than a commit waits, where the server has timeouts of its own for statements.
func TestTablesAreLocked(t *testing.T) {
	server := pgtest.NewServer(t)
	database := databaseOf(t, server)
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "ALTER ROLE CURRENT_USER SET statement_timeout = '2s'")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = '2s'")
	require.NoError(t, err)
	f := newFleetOn(t, database)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	_, err = conn.Exec(t.Context(), "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
	require.NoError(t, err)
	lock := func(tables string, wait func()) {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "LOCK TABLE "+tables+" IN ACCESS EXCLUSIVE MODE")
		require.NoError(t, err)
		wait()
		require.NoError(t, tx.Rollback(t.Context()))
		f.awaitWell(l)
	}
	failures := func() { // until the server has cancelled some commits
		before := l.failed.Load()
		require.Eventually(t, func() bool { return l.failed.Load() > before }, recoverMax, 10*time.Millisecond)
	}
	lock("transitions", failures)
	lock("executions, visibility", failures)
	lock("shards, task_queues, tasks", failures)
	lock("cluster_members", func() {
		awaitLease(t)
		f.awaitNotReady()
	})
	f.requireBoundedPools()
	l.finish(f)
}

// With a PgBouncer in between, sessions change hands with every transaction. It has fewer of them than the processes have connections,
// and it dies, too.
func TestThroughAPooler(t *testing.T) {
	const sessions = 10
	direct := pgtest.URL(t)
	pooler := pgtest.NewPooler(t, direct, sessions)
	f := newFleetOn(t, pooler.URL(direct))
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	f.history[0].kill()
	l.await(parallelJourneys)
	f.history[0].start()
	f.matching[0].kill()
	l.await(parallelJourneys)
	f.matching[0].start()
	f.awaitReady() // a process that finds no database when it starts ends
	for range 2 {
		pooler.Restart(t)
		f.awaitWell(l)
	}
	l.finish(f)
}
