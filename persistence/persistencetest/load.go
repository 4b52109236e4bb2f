package persistencetest

import (
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var snapshotTests = []namedTest{
	{"a snapshot is loaded with what follows it", testSnapshotAndRest},
	{"a snapshot trims rows without events", testTrim},
	{"snapshots follow each other", testSnapshots},
	{"a snapshot at the insert", testSnapshotAtInsert},
	{"a snapshot without a transition", testSnapshotAlone},
}

func testSnapshotAndRest(e *env) {
	x := e.start("a")
	x.must(x.next(1))
	w := x.next(1)
	w.Snapshot = &persistence.Snapshot{Seq: 3, Parts: []byte("three")}
	x.must(w)
	x.must(x.next(0))
	x.must(x.next(2))
	run := x.load()
	require.Equal(e, w.Snapshot, run.Snapshot)
	require.Equal(e, []persistence.Transition{
		{Seq: 4, FirstEventID: 5, Parts: content("parts", 4)}, {Seq: 5, FirstEventID: 5, Parts: content("parts", 5)},
	}, run.Transitions)
}

// logOf commits transitions with numbers of events after the first, which has two.
func (x *execution) logOf(events ...int64) {
	for _, n := range events {
		x.must(x.next(n))
	}
}

func testTrim(e *env) {
	x, other := e.start("a"), e.start("b")
	x.logOf(0, 1, 0, 0)
	other.logOf(0, 1)
	w := x.next(1)
	w.Snapshot = &persistence.Snapshot{Seq: 6, Parts: []byte("six")}
	x.must(w)
	require.Equal(e, []int64{1, 3, 6}, x.seqs(), "rows with events stay")
	require.Equal(e, content("parts", 3), x.rows()[1].Parts, "with their parts")
	require.Equal(e, []int64{1, 2, 3}, other.seqs(), "other runs are not touched")
	require.Empty(e, x.load().Transitions)
}

func testSnapshots(e *env) {
	x := e.start("a")
	for range 3 {
		x.logOf(0, 1, 0)
		w := x.next(1)
		w.Snapshot = &persistence.Snapshot{Seq: x.seq, Parts: content("snapshot", x.seq)}
		x.must(w)
	}
	x.logOf(0, 0)
	require.Equal(e, []int64{1, 3, 5, 7, 9, 11, 13, 14, 15}, x.seqs())
	run := x.load()
	require.Equal(e, content("snapshot", 13), run.Snapshot.Parts)
	require.Equal(e, []int64{14, 15}, seqsOf(run.Transitions))
}

func testSnapshotAtInsert(e *env) {
	x := &execution{e: e, store: e.store, key: e.key("a"), run: newRunID()}
	x.epoch = e.take(e.store, x.key)
	w := x.first()
	w.Snapshot = &persistence.Snapshot{Seq: 1, Parts: []byte("one")}
	x.must(w)
	x.must(x.next(0))
	run := x.load()
	require.Equal(e, w.Snapshot, run.Snapshot)
	require.Equal(e, []int64{2}, seqsOf(run.Transitions))
}

func testSnapshotAlone(e *env) {
	x := e.start("a")
	x.logOf(0, 0, 1)
	x.must(persistence.RunWrite{RunID: x.run, Snapshot: &persistence.Snapshot{Seq: 4, Parts: []byte("four")}})
	require.Equal(e, []int64{1, 4}, x.seqs())
	require.Equal(e, []byte("four"), x.load().Snapshot.Parts)
}

var loadTests = []namedTest{
	{"after many transitions", testLoadMany},
	{"the current run is the last one", testCurrentRun},
	{"what does not exist", testLoadNothing},
	{"list runs", testListRuns},
	{"read transitions", testReadTransitions},
}

func testLoadMany(e *env) {
	x := e.start("a")
	for i := range int64(100) {
		x.must(x.next(i % 3))
	}
	run := x.load()
	require.Nil(e, run.Snapshot)
	require.Len(e, run.Transitions, 101)
	for i, t := range run.Transitions {
		require.EqualValues(e, i+1, t.Seq)
		require.Equal(e, content("parts", t.Seq), t.Parts)
		require.Empty(e, t.Events, "events are not loaded")
	}
}

func testCurrentRun(e *env) {
	x := e.start("a")
	ids := []string{newRunID(), newRunID(), newRunID()}
	for _, i := range []int{1, 2, 0} { // not in their order
		x.must(persistence.RunWrite{RunID: ids[i], Insert: true, Status: 2, Transition: &persistence.Transition{Seq: 1, FirstEventID: 1}})
	}
	run, err := e.store.LoadRun(e.ctx, x.key, "")
	require.NoError(e, err)
	require.Equal(e, ids[2], run.RunID, "open or not")
}

func testLoadNothing(e *env) {
	x := e.start("a")
	for _, runID := range []string{newRunID(), "", "not a run id", "'; --", "\x00"} {
		key := x.key
		if runID == "" {
			key.BusinessID = "b"
		}
		_, err := e.store.LoadRun(e.ctx, key, runID)
		require.ErrorIs(e, err, persistence.ErrNotFound, "%q", runID)
	}
	_, err := e.store.LoadRun(e.ctx, persistence.ExecutionKey{NamespaceID: "not a namespace", Kind: 1, BusinessID: "a"}, "")
	require.ErrorIs(e, err, persistence.ErrNotFound)
}

func testListRuns(e *env) {
	x := e.start("a")
	x.must(persistence.RunWrite{RunID: x.run, SetStatus: true, Status: 2, Snapshot: &persistence.Snapshot{Seq: 1, Parts: []byte("one")}})
	second := &execution{e: e, store: e.store, key: x.key, epoch: x.epoch, run: newRunID()}
	w := second.first()
	w.StartRequestID, w.WakeAt, w.HasEffects = "second", wake, true
	second.must(w)
	e.start("b")
	runs, err := e.store.ListRuns(e.ctx, x.key, 10)
	require.NoError(e, err)
	require.Len(e, runs, 2)
	require.WithinDuration(e, wake, runs[0].WakeAt, 0)
	runs[0].WakeAt = wake
	require.Equal(e, []*persistence.Run{
		{Key: x.key, RunID: second.run, Open: true, Status: 1, StartRequestID: "second", WakeAt: wake, HasEffects: true},
		{Key: x.key, RunID: x.run, Status: 2, StartRequestID: "request"},
	}, runs)
	runs, err = e.store.ListRuns(e.ctx, x.key, 1)
	require.NoError(e, err)
	require.Len(e, runs, 1)
	require.Equal(e, second.run, runs[0].RunID)
	runs, err = e.store.ListRuns(e.ctx, e.key("nobody"), 1)
	require.NoError(e, err)
	require.Empty(e, runs)
}

func testReadTransitions(e *env) {
	x := e.start("a")
	x.logOf(1, 0, 1)
	rows, err := e.store.ReadTransitions(e.ctx, 0, x.run, 2, 2)
	require.NoError(e, err)
	require.Equal(e, []persistence.Transition{
		{Seq: 2, FirstEventID: 3, Events: content("events", 2), Parts: content("parts", 2)},
		{Seq: 3, FirstEventID: 4, Parts: content("parts", 3)},
	}, normal(rows))
	rows, err = e.store.ReadTransitions(e.ctx, 0, newRunID(), 0, 10)
	require.NoError(e, err)
	require.Empty(e, rows)
}

// normal makes no difference between no bytes and none.
func normal(rows []persistence.Transition) []persistence.Transition {
	for i := range rows {
		if len(rows[i].Events) == 0 {
			rows[i].Events = nil
		}
		if len(rows[i].Parts) == 0 {
			rows[i].Parts = nil
		}
	}
	return rows
}
