package persistencetest

import (
	"errors"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var fencingTests = []namedTest{
	{"a shard that nobody took", testShardNotTaken},
	{"an old epoch of one's own", testOldEpoch},
	{"a taken shard's former owner", testFormerOwner},
	{"another owner's epoch", testForeignEpoch},
	{"all shards at once", testTakeAllShards},
	{"shards that do not exist", testTakeImpossibleShards},
	{"one's own shards again", testRetakeOwn},
	{"a retake leaves another's shards alone", testRetakeForeign},
	{"retakes that race with a take", testRacingRetakes},
	{"a take cuts a stream of commits", testTakeDuringCommits},
	{"takes of two owners at the same time", testRacingTakes},
}

func testShardNotTaken(e *env) {
	x := &execution{e: e, store: e.store, key: e.key("a"), epoch: 1, run: newRunID()}
	require.ErrorIs(e, x.commit(x.first()), persistence.ErrFenced)
	_, err := e.store.LoadRun(e.ctx, x.key, x.run)
	require.ErrorIs(e, err, persistence.ErrNotFound)
}

func testOldEpoch(e *env) {
	x := e.start("a")
	newer := e.take(e.store, x.key)
	require.Greater(e, newer, x.epoch)
	require.ErrorIs(e, x.commit(x.next(1)), persistence.ErrFenced)
	x.epoch = newer
	x.seq = 1
	x.must(x.next(1))
	require.Equal(e, []int64{1, 2}, x.seqs())
}

func testFormerOwner(e *env) {
	x := e.start("a")
	other := e.open()
	epoch := e.take(other, x.key)
	require.Greater(e, epoch, x.epoch)
	require.ErrorIs(e, x.commit(x.next(1)), persistence.ErrFenced)
	require.ErrorIs(e, x.store.DeleteRun(e.ctx, x.key, x.epoch, 0, x.run), persistence.ErrFenced)
	require.Equal(e, []int64{1}, x.seqs())

	x.store, x.epoch, x.seq = other, epoch, 1
	x.must(x.next(1))
	require.Equal(e, []int64{1, 2}, x.seqs())

	x.store, x.epoch = e.store, e.take(e.store, x.key)
	x.must(x.next(1))
	require.Equal(e, []int64{1, 2, 3}, x.seqs(), "a shard may come back")
}

func testForeignEpoch(e *env) {
	x := e.start("a")
	x.store = e.open()
	require.ErrorIs(e, x.commit(x.next(1)), persistence.ErrFenced, "an epoch is worth nothing to those who did not take it")
}

func testTakeAllShards(e *env) {
	all := make([]persistence.ShardID, persistence.ShardCount)
	for i := range all {
		all[i] = persistence.ShardID(i)
	}
	first, err := e.store.TakeShards(e.ctx, "a", all)
	require.NoError(e, err)
	require.Len(e, first, len(all))
	second, err := e.open().TakeShards(e.ctx, "b", all)
	require.NoError(e, err)
	require.Len(e, second, len(all))
	for shard, epoch := range second {
		require.Greater(e, epoch, first[shard])
	}
}

func testTakeImpossibleShards(e *env) {
	taken, err := e.store.TakeShards(e.ctx, "a", []persistence.ShardID{-1, persistence.ShardCount, 7, 7})
	require.NoError(e, err)
	require.Len(e, taken, 1)
	require.Contains(e, taken, persistence.ShardID(7))
	none, err := e.store.TakeShards(e.ctx, "a", nil)
	require.NoError(e, err)
	require.Empty(e, none)
}

func testRetakeOwn(e *env) {
	x := e.start("a")
	taken, err := e.store.RetakeShards(e.ctx, "owner", []persistence.ShardID{x.key.Shard(), x.key.Shard()})
	require.NoError(e, err)
	require.Len(e, taken, 1)
	require.Greater(e, taken[x.key.Shard()], x.epoch)
	require.ErrorIs(e, x.commit(x.next(1)), persistence.ErrFenced)
	x.epoch, x.seq = taken[x.key.Shard()], 1
	x.must(x.next(1))
	require.Equal(e, []int64{1, 2}, x.seqs())
}

func testRetakeForeign(e *env) {
	mine, theirs, other := e.key("mine").Shard(), persistence.ShardID(0), e.open()
	for theirs == mine {
		theirs++
	}
	_, err := e.store.TakeShards(e.ctx, "owner", []persistence.ShardID{mine, theirs})
	require.NoError(e, err)
	lost, err := other.TakeShards(e.ctx, "owner", []persistence.ShardID{theirs}) // a name alone is no title
	require.NoError(e, err)
	nobodys := max(mine, theirs) + 1
	kept, err := e.store.RetakeShards(e.ctx, "owner", []persistence.ShardID{mine, theirs, nobodys, -1, persistence.ShardCount})
	require.NoError(e, err)
	require.Len(e, kept, 1)
	require.Contains(e, kept, mine)
	owners, err := e.store.ShardOwners(e.ctx)
	require.NoError(e, err)
	require.Len(e, owners, 2, "a shard that nobody had is not a shard to have again")
	again, err := other.RetakeShards(e.ctx, "owner", []persistence.ShardID{mine, theirs})
	require.NoError(e, err)
	require.Equal(e, map[persistence.ShardID]persistence.Epoch{theirs: lost[theirs] + 1}, again, "its owner noticed nothing")
	none, err := e.store.RetakeShards(e.ctx, "owner", nil)
	require.NoError(e, err)
	require.Empty(e, none)
}

// testRacingRetakes: whatever the order, the taker owns the shards in the end, and the former owner nothing.
func testRacingRetakes(e *env) {
	heir := e.open()
	shards := []persistence.ShardID{1, 2, 3, 4}
	for range 10 {
		_, err := e.store.TakeShards(e.ctx, "owner", shards)
		require.NoError(e, err)
		var (
			group    sync.WaitGroup
			takeErr  error
			retakes  [3]map[persistence.ShardID]persistence.Epoch
			failures [3]error
			heirs    map[persistence.ShardID]persistence.Epoch
		)
		for i := range retakes {
			group.Go(func() { retakes[i], failures[i] = e.store.RetakeShards(e.ctx, "owner", shards) })
		}
		group.Go(func() {
			for takeErr == nil && len(heirs) < len(shards) { // what moved between its look and its lock it does not get
				heirs, takeErr = heir.TakeShards(e.ctx, "heir", shards)
			}
		})
		group.Wait()
		require.NoError(e, takeErr)
		for i, taken := range retakes {
			require.NoError(e, failures[i])
			for shard, epoch := range taken {
				require.Less(e, epoch, heirs[shard])
			}
		}
		after, err := e.store.RetakeShards(e.ctx, "owner", shards)
		require.NoError(e, err)
		require.Empty(e, after)
	}
}

// testTakeDuringCommits: what the former owner was told is there when the take returns, and nothing comes after it.
func testTakeDuringCommits(e *env) {
	x := e.start("a")
	x.store = e.open()
	x.epoch = e.take(x.store, x.key)
	acknowledged := make(chan int64, 1)
	enough := make(chan struct{})
	go func() {
		defer close(acknowledged)
		for {
			seq := x.seq
			if err := x.commit(x.next(1)); err != nil {
				if !errors.Is(err, persistence.ErrFenced) {
					e.Errorf("commit: %v", err)
				}
				acknowledged <- seq
				return
			}
			if seq == 20 {
				close(enough)
			}
		}
	}()
	<-enough
	e.take(e.store, x.key)
	taken, err := e.store.ReadTransitions(e.ctx, 0, x.run, 0, 10_000_000)
	require.NoError(e, err)
	last := <-acknowledged
	require.EqualValues(e, len(taken), last, "acknowledged and visible after the take")
	later, err := e.store.ReadTransitions(e.ctx, 0, x.run, last+1, 10)
	require.NoError(e, err)
	require.Empty(e, later)
}

// testRacingTakes: whoever takes a shard last owns it, and no epoch is given twice.
func testRacingTakes(e *env) {
	key := e.key("a")
	stores := []persistence.Store{e.store, e.open(), e.open()}
	type taken struct {
		store persistence.Store
		epoch persistence.Epoch
	}
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		epochs = map[persistence.Epoch]taken{}
		last   persistence.Epoch
	)
	const rounds = 10
	for _, store := range stores {
		group.Go(func() {
			for range rounds {
				result, err := store.TakeShards(e.ctx, "owner", []persistence.ShardID{key.Shard()})
				if err != nil {
					e.Errorf("take: %v", err)
					return
				}
				epoch, ok := result[key.Shard()]
				if !ok {
					continue // somebody else was faster
				}
				mu.Lock()
				if _, twice := epochs[epoch]; twice {
					e.Errorf("epoch %d was given twice", epoch)
				}
				epochs[epoch] = taken{store, epoch}
				last = max(last, epoch)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	require.NotEmpty(e, epochs)
	for epoch, owner := range epochs {
		x := &execution{e: e, store: owner.store, key: key, epoch: owner.epoch, run: newRunID()}
		if err := x.commit(x.first()); epoch == last {
			require.NoError(e, err)
		} else {
			require.ErrorIs(e, err, persistence.ErrFenced)
		}
	}
}
