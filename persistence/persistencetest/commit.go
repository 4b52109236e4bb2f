package persistencetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var commitTests = []namedTest{
	{"insert stores everything", testInsert},
	{"update changes only what is set", testUpdate},
	{"one open run per key", testOneOpenRun},
	{"keys do not share runs", testKeysAreApart},
	{"a first run of a key is the first", testFirst},
	{"close and open in one mutation", testCloseAndOpen},
	{"a mutation is applied whole or not at all", testAtomic},
	{"a run id is inserted once", testRunInsertedTwice},
	{"a transition is appended once", testTransitionAppendedTwice},
	{"an update needs the run", testUpdateOfNothing},
	{"bytes are kept as they are", testBytes},
	{"an empty mutation still checks the owner", testEmptyMutation},
}

var wake = time.Date(2030, 1, 2, 3, 4, 5, 6_000_000, time.UTC)

func testInsert(e *env) {
	x := &execution{e: e, store: e.store, key: e.key("a/ä\n'"), run: newRunID()}
	x.epoch = e.take(e.store, x.key)
	w := x.first()
	w.SetWakeAt, w.WakeAt, w.SetHasEffects, w.HasEffects = true, wake, true, true
	w.Snapshot = &persistence.Snapshot{Seq: 1, Parts: []byte("snapshot")}
	x.must(w)
	run := x.load()
	require.WithinDuration(e, wake, run.WakeAt, 0)
	run.WakeAt = wake
	require.Equal(e, &persistence.Run{Key: x.key, RunID: x.run, Open: true, Status: 1, StartRequestID: "request", WakeAt: wake,
		HasEffects: true, Snapshot: w.Snapshot}, run)
	require.Equal(e, []persistence.Transition{*w.Transition}, x.rows())
}

func testUpdate(e *env) {
	x := e.start("a")
	want := *x.load()
	want.Transitions = nil
	steps := []struct {
		name   string
		write  persistence.RunWrite
		change func(*persistence.Run)
	}{
		{"nothing", persistence.RunWrite{Open: false, Status: 9, WakeAt: wake, HasEffects: true, StartRequestID: "other"}, func(*persistence.Run) {}},
		{"wake-up", persistence.RunWrite{SetWakeAt: true, WakeAt: wake}, func(r *persistence.Run) { r.WakeAt = wake }},
		{"effects", persistence.RunWrite{SetHasEffects: true, HasEffects: true}, func(r *persistence.Run) { r.HasEffects = true }},
		{"status", persistence.RunWrite{SetStatus: true, Status: 2}, func(r *persistence.Run) { r.Status, r.Open = 2, false }},
		{"no wake-up", persistence.RunWrite{SetWakeAt: true}, func(r *persistence.Run) { r.WakeAt = time.Time{} }},
		{"no effects", persistence.RunWrite{SetHasEffects: true}, func(r *persistence.Run) { r.HasEffects = false }},
		{"all", persistence.RunWrite{SetHasEffects: true, HasEffects: true, SetStatus: true, Status: 3, Open: true, SetWakeAt: true, WakeAt: wake},
			func(r *persistence.Run) { r.HasEffects, r.Status, r.Open, r.WakeAt = true, 3, true, wake }},
	}
	for _, step := range steps {
		step.write.RunID = x.run
		x.must(step.write)
		step.change(&want)
		got := x.load()
		got.Transitions = nil
		require.True(e, want.WakeAt.Equal(got.WakeAt), "%s: %s", step.name, got.WakeAt)
		got.WakeAt = want.WakeAt
		require.Equal(e, &want, got, step.name)
	}
}

func testFirst(e *env) {
	x := e.start("a")
	x.must(persistence.RunWrite{RunID: x.run, SetStatus: true, Status: 2})
	first := func(businessID string) func() error {
		n := &execution{e: e, store: e.store, key: e.key(businessID), run: newRunID()}
		n.epoch = e.own(e.store, n.key)
		m := &persistence.Mutation{Key: n.key, Epoch: n.epoch, Runs: []persistence.RunWrite{n.first()}, First: true}
		return func() error { return n.store.Commit(e.ctx, m) }
	}
	require.NoError(e, first("b")())
	require.ErrorIs(e, first("a")(), persistence.ErrExists, "a closed run")
	require.ErrorIs(e, first("b")(), persistence.ErrExists, "an open run")
	require.Equal(e, x.run, x.load().RunID)
	runs, err := e.store.ListRuns(e.ctx, x.key, 10)
	require.NoError(e, err)
	require.Len(e, runs, 1, "nothing is written")

	// In one group, it is the only one that fails.
	var wait sync.WaitGroup
	for i := range 64 {
		if i%8 == 0 {
			again := first("b")
			wait.Go(func() { assert.ErrorIs(e, again(), persistence.ErrExists) })
			continue
		}
		commit := first(fmt.Sprintf("c%d", i))
		wait.Go(func() { assert.NoError(e, commit()) })
	}
	wait.Wait()

	x = e.start("d")
	err = x.store.Commit(e.ctx, &persistence.Mutation{Key: x.key, Epoch: x.epoch - 1, Runs: []persistence.RunWrite{x.first()}, First: true})
	require.ErrorIs(e, err, persistence.ErrFenced, "who does not own the shard learns nothing of it")
}

func testOneOpenRun(e *env) {
	x := e.start("a")
	second := &execution{e: e, store: e.store, key: x.key, epoch: x.epoch, run: newRunID()}
	require.ErrorIs(e, second.commit(second.first()), persistence.ErrConflict)
	x.must(persistence.RunWrite{RunID: x.run, SetStatus: true, Status: 2})
	second.must(second.first())
	require.ErrorIs(e, x.commit(persistence.RunWrite{RunID: x.run, SetStatus: true, Open: true, Status: 1}), persistence.ErrConflict, "reopening")
	third := &execution{e: e, store: e.store, key: x.key, epoch: x.epoch, run: newRunID()}
	closed := third.first()
	closed.Open, closed.Status = false, 2
	third.must(closed)
}

func testKeysAreApart(e *env) {
	x := e.start("a")
	for _, key := range []persistence.ExecutionKey{
		{NamespaceID: x.key.NamespaceID, Kind: x.key.Kind + 1, BusinessID: "a"},
		{NamespaceID: newRunID(), Kind: x.key.Kind, BusinessID: "a"},
		{NamespaceID: x.key.NamespaceID, Kind: x.key.Kind, BusinessID: "A"},
	} {
		other := &execution{e: e, store: e.store, key: key, run: newRunID()}
		other.epoch = e.own(e.store, key)
		other.must(other.first())
		_, err := e.store.LoadRun(e.ctx, key, x.run)
		require.ErrorIs(e, err, persistence.ErrNotFound)
	}
}

func testCloseAndOpen(e *env) {
	x := e.start("a")
	closing := x.next(1)
	closing.SetStatus, closing.Status = true, 6
	second := &execution{e: e, store: e.store, key: x.key, epoch: x.epoch, run: newRunID()}
	x.must(closing, second.first())
	require.False(e, x.load().Open)
	require.True(e, second.load().Open)
	current, err := e.store.LoadRun(e.ctx, x.key, "")
	require.NoError(e, err)
	require.Equal(e, second.run, current.RunID)
}

func testAtomic(e *env) {
	x := e.start("a")
	closing := x.next(1)
	closing.SetStatus, closing.Status = true, 6
	closing.Visibility = visibilityRow(x.key, x.run)
	duplicate := persistence.RunWrite{RunID: x.run, Insert: true, Open: true, Status: 1}
	require.ErrorIs(e, x.commit(closing, duplicate), persistence.ErrConflict)
	require.True(e, x.load().Open)
	require.Equal(e, []int64{1}, x.seqs())
	count, _, err := e.store.CountVisibility(e.ctx, e.namespace, nil, nil)
	require.NoError(e, err)
	require.Zero(e, count)
}

func testRunInsertedTwice(e *env) {
	x := e.start("a")
	again := x.first()
	again.Open, again.Status = false, 2
	require.ErrorIs(e, x.commit(again), persistence.ErrConflict)
	require.True(e, x.load().Open)
}

func testTransitionAppendedTwice(e *env) {
	x := e.start("a")
	x.must(x.next(1))
	x.seq--
	again := x.next(1)
	again.Transition.Parts = []byte("other")
	again.SetWakeAt, again.WakeAt = true, wake
	require.ErrorIs(e, x.commit(again), persistence.ErrConflict)
	require.Equal(e, content("parts", 2), x.rows()[1].Parts)
	require.Zero(e, x.load().WakeAt)
}

func testUpdateOfNothing(e *env) {
	x := e.start("a")
	require.ErrorIs(e, x.commit(persistence.RunWrite{RunID: newRunID(), SetStatus: true, Status: 2}), persistence.ErrConflict)
}

func testBytes(e *env) {
	x := e.start("a")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	w := x.next(1)
	w.Transition.Events, w.Transition.Parts = all, all
	x.must(w)
	w = x.next(0)
	w.Transition.Parts = nil
	x.must(w)
	rows := x.rows()
	require.Equal(e, all, rows[1].Events)
	require.Equal(e, all, rows[1].Parts)
	require.Empty(e, rows[2].Events)
	require.Empty(e, rows[2].Parts)
}

func testEmptyMutation(e *env) {
	x := e.start("a")
	require.NoError(e, x.commit())
	x.epoch++
	require.ErrorIs(e, x.commit(), persistence.ErrFenced)
}
