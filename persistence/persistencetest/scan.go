package persistencetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var scanTests = []namedTest{
	{"wake-ups before a time", testWakeups},
	{"wake-ups in pages", testWakeupPages},
	{"a changed wake-up", testWakeupChanged},
	{"runs with effects", testEffects},
	{"runs with effects in pages", testEffectPages},
	{"no shards", testScanNoShards},
}

// scan collects all pages, and checks that none is larger than asked for.
func scan(e *env, limit int, page func(persistence.ScanCursor) ([]persistence.RunRef, persistence.ScanCursor, error)) []persistence.RunRef {
	e.Helper()
	var (
		all    []persistence.RunRef
		cursor persistence.ScanCursor
	)
	for !cursor.Done {
		refs, next, err := page(cursor)
		require.NoError(e, err)
		require.LessOrEqual(e, len(refs), limit)
		require.True(e, next.Done || len(refs) > 0, "a scan must go on")
		all, cursor = append(all, refs...), next
	}
	return all
}

func (e *env) wakeups(shards []persistence.ShardID, before time.Time, limit int) []persistence.RunRef {
	e.Helper()
	return scan(e, limit, func(after persistence.ScanCursor) ([]persistence.RunRef, persistence.ScanCursor, error) {
		return e.store.ScanWakeups(e.ctx, shards, before, after, limit)
	})
}

func (e *env) effects(shards []persistence.ShardID, limit int) []persistence.RunRef {
	e.Helper()
	return scan(e, limit, func(after persistence.ScanCursor) ([]persistence.RunRef, persistence.ScanCursor, error) {
		return e.store.ScanEffects(e.ctx, shards, after, limit)
	})
}

// many starts runs, each in a shard of its own, with a wake-up each, a second apart and some at the same time, and effects for every other one.
func (e *env) many(n int) (runs []*execution, shards []persistence.ShardID) {
	for candidate := 0; len(runs) < n; candidate++ {
		id := fmt.Sprint("many-", candidate)
		if slices.Contains(shards, e.key(id).Shard()) {
			continue
		}
		i, x := len(runs), e.start(id)
		x.must(persistence.RunWrite{RunID: x.run, SetWakeAt: true, WakeAt: wakeOf(i), SetHasEffects: true, HasEffects: i%2 == 0})
		runs, shards = append(runs, x), append(shards, x.key.Shard())
	}
	return runs, shards
}

func wakeOf(i int) time.Time { return wake.Add(time.Duration(i/3) * time.Second) }

func runIDs(refs []persistence.RunRef) []string {
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.RunID
	}
	slices.Sort(ids)
	return ids
}

func idsOf(runs ...*execution) []string {
	ids := make([]string, len(runs))
	for i, x := range runs {
		ids[i] = x.run
	}
	slices.Sort(ids)
	return ids
}

func testWakeups(e *env) {
	runs, shards := e.many(6)
	found := e.wakeups(shards, wake.Add(time.Second), 100)
	require.Equal(e, idsOf(runs[:3]...), runIDs(found), "before, not at")
	for _, ref := range found {
		require.WithinDuration(e, wake, ref.WakeAt, 0)
		require.Equal(e, e.namespace, ref.Key.NamespaceID)
		run, err := e.store.LoadRun(e.ctx, ref.Key, ref.RunID)
		require.NoError(e, err, "a reference is enough to load the run")
		require.True(e, run.Open)
	}
	require.Empty(e, e.wakeups(shards, wake, 100))
	require.Equal(e, idsOf(runs...), runIDs(e.wakeups(shards, wake.Add(time.Hour), 100)))
	require.Equal(e, idsOf(runs[0]), runIDs(e.wakeups(shards[:1], wake.Add(time.Hour), 100)), "of one shard")
}

func testWakeupPages(e *env) {
	runs, shards := e.many(10)
	for _, limit := range []int{1, 2, 3, 5, 10} {
		require.Equal(e, idsOf(runs...), runIDs(e.wakeups(shards, wake.Add(time.Hour), limit)), "pages of %d", limit)
	}
}

func testWakeupChanged(e *env) {
	runs, shards := e.many(2)
	runs[0].must(persistence.RunWrite{RunID: runs[0].run, SetWakeAt: true})
	require.Equal(e, idsOf(runs[1]), runIDs(e.wakeups(shards, wake.Add(time.Hour), 100)))
	runs[1].must(persistence.RunWrite{RunID: runs[1].run, SetWakeAt: true, WakeAt: wake.Add(2 * time.Hour)})
	require.Empty(e, e.wakeups(shards, wake.Add(time.Hour), 100))
	runs[1].must(persistence.RunWrite{RunID: runs[1].run, SetWakeAt: true, WakeAt: wake.Add(-time.Hour)})
	require.Equal(e, idsOf(runs[1]), runIDs(e.wakeups(shards, wake, 100)))
}

func testEffects(e *env) {
	runs, shards := e.many(4)
	require.Equal(e, idsOf(runs[0], runs[2]), runIDs(e.effects(shards, 100)))
	runs[0].must(persistence.RunWrite{RunID: runs[0].run, SetHasEffects: true})
	runs[1].must(persistence.RunWrite{RunID: runs[1].run, SetHasEffects: true, HasEffects: true, SetStatus: true, Status: 2})
	require.Equal(e, idsOf(runs[1], runs[2]), runIDs(e.effects(shards, 100)), "closed runs too")
	require.Equal(e, idsOf(runs[2]), runIDs(e.effects(shards[2:3], 100)))
}

func testEffectPages(e *env) {
	runs, shards := e.many(12)
	var want []*execution
	for i, x := range runs {
		if i%2 == 0 {
			want = append(want, x)
		}
	}
	for _, limit := range []int{1, 2, 5, 6} {
		require.Equal(e, idsOf(want...), runIDs(e.effects(shards, limit)), "pages of %d", limit)
	}
}

func testScanNoShards(e *env) {
	e.many(2)
	require.Empty(e, e.wakeups(nil, wake.Add(time.Hour), 10))
	require.Empty(e, e.effects(nil, 10))
}

var deleteTests = []namedTest{
	{"nothing is left", testDelete},
	{"other runs stay", testDeleteOnlyOne},
	{"fenced", testDeleteFenced},
}

func testDelete(e *env) {
	x := e.start("a")
	x.logOf(0, 1, 0)
	x.must(persistence.RunWrite{RunID: x.run, SetWakeAt: true, WakeAt: wake, SetHasEffects: true, HasEffects: true,
		Visibility: visibilityRow(x.key, x.run), Snapshot: &persistence.Snapshot{Seq: 2, Parts: []byte("two")}})
	require.NoError(e, e.store.DeleteRun(e.ctx, x.key, x.epoch, 0, x.run))
	_, err := e.store.LoadRun(e.ctx, x.key, x.run)
	require.ErrorIs(e, err, persistence.ErrNotFound)
	require.Empty(e, x.rows())
	shards := []persistence.ShardID{x.key.Shard()}
	require.Empty(e, e.wakeups(shards, wake.Add(time.Hour), 10))
	require.Empty(e, e.effects(shards, 10))
	count, _, err := e.store.CountVisibility(e.ctx, e.namespace, nil, nil)
	require.NoError(e, err)
	require.Zero(e, count)
	again := &execution{e: e, store: e.store, key: x.key, epoch: x.epoch, run: newRunID()}
	again.must(again.first())
}

func testDeleteOnlyOne(e *env) {
	x := e.start("a")
	x.must(persistence.RunWrite{RunID: x.run, SetStatus: true, Status: 2})
	second := &execution{e: e, store: e.store, key: x.key, epoch: x.epoch, run: newRunID()}
	w := second.first()
	w.Visibility = visibilityRow(x.key, second.run)
	second.must(w)
	require.NoError(e, e.store.DeleteRun(e.ctx, x.key, x.epoch, 0, x.run))
	require.True(e, second.load().Open)
	require.Equal(e, []int64{1}, second.seqs())
	count, _, err := e.store.CountVisibility(e.ctx, e.namespace, nil, nil)
	require.NoError(e, err)
	require.EqualValues(e, 1, count)
}

func testDeleteFenced(e *env) {
	x := e.start("a")
	require.ErrorIs(e, e.store.DeleteRun(e.ctx, x.key, x.epoch+1, 0, x.run), persistence.ErrFenced)
	require.Equal(e, []int64{1}, x.seqs())
}
