package persistencetest

import (
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var inspectTests = []namedTest{
	{"every run once, in pages", testInspectPages},
	{"all of a run", testInspectRun},
	{"a log in part", testInspectLogInPart},
	{"errors of a visit", testInspectVisitError},
	{"nothing is orphaned", testInspectNoOrphans},
	{"orphans", testInspectOrphans},
	{"owners of shards", testShardOwners},
	{"members", testListMembers},
	{"task queues", testInspectQueues},
}

func (e *env) inspector() persistence.Inspector {
	e.Helper()
	i, ok := e.store.(persistence.Inspector)
	require.True(e, ok, "the store is no persistence.Inspector")
	return i
}

// inspect collects the positions of all runs, page by page.
func (e *env) inspect(limit int) (all []persistence.RunPosition) {
	e.Helper()
	var after *persistence.RunPosition
	for {
		var page []persistence.RunPosition
		next, err := e.inspector().InspectRuns(e.ctx, after, limit, func(r *persistence.StoredRun) error {
			page = append(page, r.Position())
			return nil
		})
		require.NoError(e, err)
		require.LessOrEqual(e, len(page), limit)
		all = append(all, page...)
		if next == nil {
			return all
		}
		require.Equal(e, page[len(page)-1], *next)
		after = next
	}
}

func testInspectPages(e *env) {
	runs, _ := e.many(7)
	again := runs[3]
	again.must(persistence.RunWrite{RunID: again.run, SetStatus: true, Status: 2})
	second := &execution{e: e, store: e.store, key: again.key, epoch: again.epoch, run: newRunID()}
	second.must(second.first())

	var want []persistence.RunPosition
	for _, x := range append(runs, second) {
		want = append(want, persistence.RunPosition{Shard: x.key.Shard(), Key: x.key, RunID: x.run})
	}
	for _, limit := range []int{1, 2, 3, 8, 100} {
		got := e.inspect(limit)
		require.ElementsMatch(e, want, got, "pages of %d", limit)
		require.True(e, slices.IsSortedFunc(got, func(a, b persistence.RunPosition) int { return int(a.Shard - b.Shard) }))
	}
}

func testInspectRun(e *env) {
	x := e.start("a")
	x.logOf(0, 2)
	w := x.next(1)
	w.Snapshot = &persistence.Snapshot{Seq: w.Transition.Seq, Parts: []byte("all")}
	w.Visibility = visibilityRow(x.key, x.run)
	w.SetWakeAt, w.WakeAt, w.SetHasEffects, w.HasEffects = true, wake, true, true
	x.must(w)
	x.must(x.next(0))

	visits := 0
	loaded, log := x.load(), x.rows() // before: a visit must not call the store
	loaded.Transitions = nil
	visit := func(r *persistence.StoredRun) error {
		visits++
		require.Equal(e, *loaded, r.Run)
		require.Equal(e, x.key.Shard(), r.Shard)
		require.NotNil(e, r.Visibility)
		require.Equal(e, x.key.BusinessID, r.Visibility.WorkflowID)
		var rows []persistence.Transition
		for row, err := range r.Log {
			require.NoError(e, err)
			rows = append(rows, row)
		}
		require.Equal(e, log, rows)
		require.Equal(e, []int64{1, 3, 4, 5}, seqsOf(rows), "the snapshot has trimmed row 2")
		return nil
	}
	require.NoError(e, e.inspector().InspectRun(e.ctx, x.key, x.run, visit))
	require.ErrorIs(e, e.inspector().InspectRun(e.ctx, x.key, newRunID(), visit), persistence.ErrNotFound)
	require.Equal(e, 1, visits)

	bare := e.start("b")
	require.NoError(e, e.inspector().InspectRun(e.ctx, bare.key, bare.run, func(r *persistence.StoredRun) error {
		require.Nil(e, r.Visibility)
		require.Nil(e, r.Snapshot)
		return nil
	}))
}

// testInspectLogInPart leaves logs unread, or reads a part of them: the next run must not suffer.
func testInspectLogInPart(e *env) {
	for _, id := range []string{"a", "b", "c"} {
		e.start(id).logOf(1, 1, 1)
	}
	read := 0
	next, err := e.inspector().InspectRuns(e.ctx, nil, 10, func(r *persistence.StoredRun) error {
		for row, err := range r.Log {
			require.NoError(e, err)
			if read++; row.Seq == 2 {
				break
			}
		}
		return nil
	})
	require.NoError(e, err)
	require.Nil(e, next)
	require.Equal(e, 6, read)
}

func testInspectVisitError(e *env) {
	e.start("a")
	mine := errors.New("enough")
	_, err := e.inspector().InspectRuns(e.ctx, nil, 10, func(*persistence.StoredRun) error { return mine })
	require.ErrorIs(e, err, mine)
	require.Len(e, e.inspect(10), 1, "the store goes on")
}

func testInspectNoOrphans(e *env) {
	x := e.start("a")
	w := x.next(1)
	w.Visibility = visibilityRow(x.key, x.run)
	x.must(w)
	require.NoError(e, e.inspector().InspectOrphans(e.ctx, func(o *persistence.Orphan) error {
		require.Fail(e, "an orphan", "%+v", o)
		return nil
	}))
}

func testInspectOrphans(e *env) {
	x := e.start("a")
	// Rows ahead of the run's own, as a reset copies them.
	log := &execution{e: e, store: e.store, key: x.key, epoch: x.epoch, run: newRunID()}
	first := log.first()
	log.must(persistence.RunWrite{RunID: log.run, Transition: first.Transition})
	log.must(log.next(1))
	listed := newRunID()
	x.must(persistence.RunWrite{RunID: listed, Visibility: visibilityRow(x.key, listed)})

	var logs, rows []persistence.Orphan
	require.NoError(e, e.inspector().InspectOrphans(e.ctx, func(o *persistence.Orphan) error {
		if o.Visibility {
			rows = append(rows, *o)
		} else {
			logs = append(logs, *o)
		}
		return nil
	}))
	require.Equal(e, []persistence.Orphan{{RunID: log.run, First: *first.Transition}}, logs)
	require.Equal(e, []persistence.Orphan{{RunID: listed, Visibility: true, NamespaceID: x.key.NamespaceID, BusinessID: "a"}}, rows)

	mine := errors.New("enough")
	require.ErrorIs(e, e.inspector().InspectOrphans(e.ctx, func(*persistence.Orphan) error { return mine }), mine)
}

func testShardOwners(e *env) {
	x := e.start("a")
	other := e.open()
	epoch := e.take(other, x.key)
	owners, err := e.inspector().ShardOwners(e.ctx)
	require.NoError(e, err)
	require.Len(e, owners, 1)
	require.Equal(e, persistence.ShardOwner{Shard: x.key.Shard(), Owner: "owner", Key: owners[0].Key, Epoch: epoch}, owners[0])
}

func testInspectQueues(e *env) {
	a := persistence.QueueKey{NamespaceID: uuid.NewString(), TaskQueue: "a", Type: 1, Partition: 1}
	b := a
	b.Type, b.Partition = 2, 0
	for _, key := range []persistence.QueueKey{b, a} {
		q, err := e.store.TakeQueue(e.ctx, "owner", key)
		require.NoError(e, err)
		for id := range int64(key.Partition) * 3 {
			task := persistence.BacklogTask{Key: persistence.TaskKey{Level: 1, ID: id + 1}, Task: []byte("t")}
			require.NoError(e, e.store.WriteTasks(e.ctx, key, q.Epoch, []persistence.BacklogTask{task}))
		}
	}
	var found []persistence.StoredQueue
	require.NoError(e, e.inspector().InspectQueues(e.ctx, func(q *persistence.StoredQueue) error {
		found = append(found, *q)
		return nil
	}))
	require.Len(e, found, 2)
	key := found[0].OwnerKey
	require.NotZero(e, key)
	require.Equal(e, []persistence.StoredQueue{
		{Key: a, Owner: "owner", OwnerKey: key, Epoch: 1, Tasks: 3}, {Key: b, Owner: "owner", OwnerKey: key, Epoch: 1},
	}, found)
	mine := errors.New("enough")
	require.ErrorIs(e, e.inspector().InspectQueues(e.ctx, func(*persistence.StoredQueue) error { return mine }), mine)
}

func testListMembers(e *env) {
	members, _, err := e.inspector().ListMembers(e.ctx)
	require.NoError(e, err)
	require.Empty(e, members)
	renewed, _, err := e.store.RenewMember(e.ctx, persistence.Member{ID: "m1", Service: "history", Address: "h:1"}, time.Minute)
	require.NoError(e, err)
	members, now, err := e.inspector().ListMembers(e.ctx)
	require.NoError(e, err)
	require.Equal(e, renewed, members)
	require.WithinDuration(e, time.Now(), now, time.Minute)
}
