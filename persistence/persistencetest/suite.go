// Package persistencetest is the contract of a store as tests: what the comments of package persistence promise, for every
// implementation. A store's tests call [Run].
//
// The suite uses UUIDs for namespaces and runs and bucket 0 only, as callers do.
package persistencetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

// Opener opens one more incarnation of a host, with a key of its own, on the same database. The suite closes what it opens.
type Opener func(t *testing.T) persistence.Store

// timeout bounds every test of the suite; none needs a tenth of it.
const timeout = 2 * time.Minute

// Run runs the suite. open makes a new, empty database for each test.
func Run(t *testing.T, open func(t *testing.T) Opener) {
	for _, area := range []struct {
		name  string
		tests []namedTest
	}{
		{"Store", storeTests},
		{"Fencing", fencingTests},
		{"Commit", commitTests},
		{"Snapshot", snapshotTests},
		{"Load", loadTests},
		{"History", historyTests},
		{"Scan", scanTests},
		{"Delete", deleteTests},
		{"Visibility", visibilityTests},
		{"Filter", filterTests},
		{"TaskQueues", taskQueueTests},
		{"Namespaces", namespaceTests},
		{"Members", memberTests},
		{"Inspect", inspectTests},
		{"Limits", limitTests},
		{"Concurrency", concurrencyTests},
	} {
		t.Run(area.name, func(t *testing.T) {
			for _, test := range area.tests {
				t.Run(test.name, func(t *testing.T) { test.run(newEnv(t, open(t))) })
			}
		})
	}
}

type namedTest struct {
	name string
	run  func(*env)
}

// env is what a test works with: a database, one incarnation of a host on it, and a namespace.
type env struct {
	*testing.T
	ctx       context.Context
	opener    Opener
	store     persistence.Store
	namespace string
	// owners is who took which shard last. Tests use it only from their own goroutine.
	owners map[persistence.ShardID]ownership
}

type ownership struct {
	store persistence.Store
	epoch persistence.Epoch
}

func newEnv(t *testing.T, opener Opener) *env {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	e := &env{T: t, ctx: ctx, opener: opener, namespace: uuid.NewString(), owners: map[persistence.ShardID]ownership{}}
	e.store = e.open()
	return e
}

// open opens another incarnation.
func (e *env) open() persistence.Store {
	e.Helper()
	store := e.opener(e.T)
	e.Cleanup(func() { require.NoError(e, store.Close()) })
	return store
}

// newRunID is later than every one before.
func newRunID() string { return uuid.Must(uuid.NewV7()).String() }

func (e *env) key(businessID string) persistence.ExecutionKey {
	return persistence.ExecutionKey{NamespaceID: e.namespace, Kind: persistence.KindWorkflow, BusinessID: businessID}
}

// take makes a store the owner of a key's shard.
func (e *env) take(store persistence.Store, key persistence.ExecutionKey) persistence.Epoch {
	e.Helper()
	shard := key.Shard()
	epochs, err := store.TakeShards(e.ctx, "owner", []persistence.ShardID{shard})
	require.NoError(e, err)
	require.Contains(e, epochs, shard)
	e.owners[shard] = ownership{store, epochs[shard]}
	return epochs[shard]
}

// own is take, unless the store has the shard already: two keys of a test may share a shard, and a second take would fence the first.
func (e *env) own(store persistence.Store, key persistence.ExecutionKey) persistence.Epoch {
	e.Helper()
	if o, ok := e.owners[key.Shard()]; ok && o.store == store {
		return o.epoch
	}
	return e.take(store, key)
}

// execution is a key of an owned shard, with a run that a test writes to.
type execution struct {
	e      *env
	store  persistence.Store
	key    persistence.ExecutionKey
	epoch  persistence.Epoch
	run    string
	seq    int64
	events int64
}

// start takes the shard and commits the first transition of an open run, with two events.
func (e *env) start(businessID string) *execution {
	e.Helper()
	x := &execution{e: e, store: e.store, key: e.key(businessID), run: newRunID()}
	x.epoch = e.own(e.store, x.key)
	require.NoError(e, x.commit(x.first()))
	return x
}

// first is the write that creates the run.
func (x *execution) first() persistence.RunWrite {
	x.seq, x.events = 1, 2
	return persistence.RunWrite{RunID: x.run, Insert: true, Open: true, Status: 1, StartRequestID: "request",
		Transition: &persistence.Transition{Seq: 1, FirstEventID: 1, Events: content("events", 1), Parts: content("parts", 1)}}
}

// next is a write of the next transition with some events, perhaps none.
func (x *execution) next(events int64) persistence.RunWrite {
	x.seq++
	t := &persistence.Transition{Seq: x.seq, FirstEventID: x.events + 1, Parts: content("parts", x.seq)}
	if events > 0 {
		t.Events = content("events", x.seq)
	}
	x.events += events
	return persistence.RunWrite{RunID: x.run, Transition: t}
}

func (x *execution) commit(runs ...persistence.RunWrite) error {
	return x.store.Commit(x.e.ctx, &persistence.Mutation{Key: x.key, Epoch: x.epoch, Runs: runs})
}

func (x *execution) must(runs ...persistence.RunWrite) {
	x.e.Helper()
	require.NoError(x.e, x.commit(runs...))
}

func (x *execution) load() *persistence.Run {
	x.e.Helper()
	run, err := x.store.LoadRun(x.e.ctx, x.key, x.run)
	require.NoError(x.e, err)
	return run
}

// rows reads the whole log of the run.
func (x *execution) rows() []persistence.Transition {
	x.e.Helper()
	rows, err := x.store.ReadTransitions(x.e.ctx, 0, x.run, 0, 10_000)
	require.NoError(x.e, err)
	return rows
}

func (x *execution) seqs() []int64 { return seqsOf(x.rows()) }

func seqsOf(rows []persistence.Transition) []int64 {
	seqs := make([]int64, len(rows))
	for i, row := range rows {
		seqs[i] = row.Seq
	}
	return seqs
}

// content is recognizable and has bytes of all kinds.
func content(what string, n int64) []byte { return fmt.Appendf(nil, "\x00%s %d\xff", what, n) }

var storeTests = []namedTest{
	{"name and clock", testClock},
	{"ping", testPing},
	{"calls after close", testClosed},
	{"close twice", func(e *env) {
		store := e.opener(e.T)
		require.NoError(e, store.Close())
		require.NoError(e, store.Close())
	}},
	{"cancelled contexts", testCancelled},
}

func testClock(e *env) {
	require.Contains(e, []string{"postgres", "sqlite"}, e.store.Name())
	first, err := e.store.Now(e.ctx)
	require.NoError(e, err)
	second, err := e.store.Now(e.ctx)
	require.NoError(e, err)
	require.False(e, second.Before(first))
	require.WithinDuration(e, time.Now(), first, time.Minute)
}

func testPing(e *env) {
	require.NoError(e, e.store.Ping(e.ctx, false))
	require.NoError(e, e.store.Ping(e.ctx, true))
}

func testClosed(e *env) {
	store := e.opener(e.T)
	require.NoError(e, store.Close())
	for name, call := range calls(e, store) {
		require.ErrorIs(e, call(e.ctx), persistence.ErrClosed, name)
	}
}

func testCancelled(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	for name, call := range calls(e, e.store) {
		require.Error(e, call(ctx), name)
	}
	require.NoError(e, e.store.Ping(e.ctx, true), "the store must not suffer")
	_, err := e.store.LoadRun(e.ctx, e.key("a"), "")
	require.ErrorIs(e, err, persistence.ErrNotFound, "nothing may have been written")
}

// calls are one of each kind.
func calls(e *env, store persistence.Store) map[string]func(context.Context) error {
	key := e.key("a")
	queue := persistence.QueueKey{NamespaceID: e.namespace, TaskQueue: "q", Type: 1}
	return map[string]func(context.Context) error{
		"Ping":     func(ctx context.Context) error { return store.Ping(ctx, true) },
		"Commit":   func(ctx context.Context) error { return store.Commit(ctx, &persistence.Mutation{Key: key, Epoch: 1}) },
		"LoadRun":  func(ctx context.Context) error { _, err := store.LoadRun(ctx, key, ""); return err },
		"ListRuns": func(ctx context.Context) error { _, err := store.ListRuns(ctx, key, 1); return err },
		"TakeShards": func(ctx context.Context) error {
			_, err := store.TakeShards(ctx, "me", []persistence.ShardID{1})
			return err
		},
		"RetakeShards": func(ctx context.Context) error {
			_, err := store.RetakeShards(ctx, "me", []persistence.ShardID{1})
			return err
		},
		"ReadHistory": func(ctx context.Context) error {
			_, err := store.ReadHistory(ctx, persistence.HistoryRange{RunID: newRunID(), From: 1, To: 2, RowsMax: 1, BytesMax: 1})
			return err
		},
		"ListVisibility": func(ctx context.Context) error {
			_, err := store.ListVisibility(ctx, e.namespace, nil, nil, 1)
			return err
		},
		"CountVisibility": func(ctx context.Context) error {
			_, _, err := store.CountVisibility(ctx, e.namespace, nil, nil)
			return err
		},
		"WriteTasks": func(ctx context.Context) error {
			return store.WriteTasks(ctx, queue, 1, []persistence.BacklogTask{{Task: []byte("t")}})
		},
		"TakeQueue":    func(ctx context.Context) error { _, err := store.TakeQueue(ctx, "me", queue); return err },
		"GetQueue":     func(ctx context.Context) error { _, err := store.GetQueue(ctx, queue); return err },
		"GetNamespace": func(ctx context.Context) error { _, err := store.GetNamespace(ctx, "", "n"); return err },
		"RenewMember": func(ctx context.Context) error {
			_, _, err := store.RenewMember(ctx, persistence.Member{ID: "m"}, time.Second)
			return err
		},
	}
}
