package matching

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

func rowKey(id int64) persistence.TaskKey { return persistence.TaskKey{Level: 3, ID: id} }

// TestAckTracker checks against a plain model that flushes delete exactly what is done, and that the level never passes a row
// that is not.
func TestAckTracker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tracker ackTracker
		stored := map[int64]bool{} // id: done
		var last int64
		t.Repeat(map[string]func(*rapid.T){
			"track": func(t *rapid.T) {
				last += rapid.Int64Range(1, 3).Draw(t, "gap")
				tracker.track(rowKey(last))
				stored[last] = false
			},
			"ack": func(t *rapid.T) {
				id := rapid.Int64Range(0, last+1).Draw(t, "id")
				tracker.ack(rowKey(id))
				if _, tracked := stored[id]; tracked {
					stored[id] = true
				}
			},
			"flush": func(t *rapid.T) {
				ranges, level := tracker.flush(rapid.IntRange(1, 4).Draw(t, "limit"))
				for id, done := range stored {
					for _, r := range ranges {
						if r.From.ID <= id && id <= r.To.ID {
							require.True(t, done, "row %d is deleted", id)
							delete(stored, id)
						}
					}
				}
				if rapid.Bool().Draw(t, "committed") {
					tracker.flushed(ranges, level)
				} else { // the rows are gone, nobody knows: they are deleted again
					for _, r := range ranges {
						for id := r.From.ID; id <= r.To.ID; id++ {
							if _, tracked := rowIndex(&tracker, id); tracked {
								stored[id] = true
							}
						}
					}
				}
			},
			"": func(t *rapid.T) {
				unacked := 0
				for id, done := range stored {
					if !done {
						unacked++
						require.Greater(t, id, tracker.level.ID)
					}
				}
				require.Equal(t, unacked, tracker.unacked())
				require.Len(t, tracker.rows, len(stored))
			},
		})
	})
}

func rowIndex(tracker *ackTracker, id int64) (int, bool) {
	for i, row := range tracker.rows {
		if row.key.ID == id {
			return i, true
		}
	}
	return 0, false
}

func backlogRow(t *testing.T, key persistence.TaskKey, id string) persistence.BacklogTask {
	bytes, err := proto.Marshal(newTask(id, 0))
	require.NoError(t, err)
	return persistence.BacklogTask{Key: key, Task: bytes}
}

func TestBacklogCountsWhileItReads(t *testing.T) {
	b := &backlog{}
	require.NoError(t, b.take(&persistence.Queue{Epoch: 7}))
	l := b.levels[2]
	old := func(id int64) persistence.BacklogTask { return backlogRow(t, rowKey(6<<idCounterBits|id), "w") }

	version := l.version
	require.Len(t, l.loaded([]persistence.BacklogTask{old(1), old(2)}, false, version), 2)
	require.EqualValues(t, 2, l.size())
	start := persistence.TaskKey{Level: 3}
	l.count(start, []persistence.BacklogTask{old(1), old(2), old(3), old(4)}, false)
	require.EqualValues(t, 4, l.size(), "what is in memory is not counted twice")

	key := b.nextKey(3)
	require.Nil(t, b.written(key, &statepb.Task{}), "there are unread rows before it")
	require.EqualValues(t, 5, l.size())

	l.loaded([]persistence.BacklogTask{old(3), old(4), old(5)}, false, l.version)
	require.EqualValues(t, 6, l.size(), "the reader was ahead of the count")
	l.count(rowKey(6<<idCounterBits|9), []persistence.BacklogTask{old(10)}, false)
	require.EqualValues(t, 6, l.size(), "a page beyond a gap is from before the count began anew")
	l.count(rowKey(6<<idCounterBits|4), []persistence.BacklogTask{old(5), backlogRow(t, key, "w")}, true)
	require.EqualValues(t, 6, l.size())
	require.False(t, l.wantsCount())

	version = l.version
	l.loaded([]persistence.BacklogTask{backlogRow(t, key, "w")}, true, version)
	require.True(t, l.caughtUp)
	require.EqualValues(t, 6, l.size())
	require.NotNil(t, b.written(b.nextKey(3), &statepb.Task{}), "it goes straight to memory")
	require.EqualValues(t, 7, l.size())
}

func TestAReadThatBeganBeforeACommitProvesNothing(t *testing.T) {
	b := &backlog{}
	require.NoError(t, b.take(&persistence.Queue{Epoch: 1}))
	l := b.levels[2]
	version := l.version
	key := b.nextKey(3)
	require.Nil(t, b.written(key, &statepb.Task{}))
	l.loaded(nil, true, version)
	require.False(t, l.caughtUp, "the row was committed after the read began")
	require.True(t, l.wantsRead())
	require.Len(t, l.loaded([]persistence.BacklogTask{backlogRow(t, key, "w")}, true, l.version), 1)
	require.True(t, l.caughtUp)
}

func TestTheReaderMayBeFasterThanTheWriter(t *testing.T) {
	b := &backlog{}
	require.NoError(t, b.take(&persistence.Queue{Epoch: 1}))
	l := b.levels[2]
	key := b.nextKey(3)
	require.Len(t, l.loaded([]persistence.BacklogTask{backlogRow(t, key, "w")}, true, l.version), 1)
	require.Nil(t, b.written(key, &statepb.Task{}), "it is in memory already")
	require.EqualValues(t, 1, l.size())
}

func TestIDsGrowWithTheEpoch(t *testing.T) {
	b := &backlog{}
	require.NoError(t, b.take(&persistence.Queue{Epoch: 1}))
	last := b.nextKey(3)
	for range 100 {
		next := b.nextKey(3)
		require.True(t, before(last, next))
		last = next
	}
	require.NoError(t, b.take(&persistence.Queue{Epoch: 2}))
	require.True(t, before(last, b.nextKey(3)))
}

func TestANewLeaseCountsAnew(t *testing.T) {
	b := &backlog{}
	require.NoError(t, b.take(&persistence.Queue{Epoch: 1}))
	l := b.levels[2]
	first, second := b.nextKey(3), b.nextKey(3)
	require.Len(t, l.loaded([]persistence.BacklogTask{backlogRow(t, first, "w")}, true, l.version), 1)
	l.caughtUp = false // as when memory is full
	require.Nil(t, b.written(second, &statepb.Task{}))
	require.EqualValues(t, 2, l.size())

	require.NoError(t, b.take(&persistence.Queue{Epoch: 2}))
	require.Equal(t, first, l.read, "what is in memory stays there")
	require.EqualValues(t, 1, l.size())
	require.True(t, l.wantsCount())
	l.count(l.countedTo(), []persistence.BacklogTask{backlogRow(t, second, "w")}, true)
	require.EqualValues(t, 2, l.size())

	require.NoError(t, b.take(&persistence.Queue{Epoch: 3}))
	l.count(l.countedTo(), []persistence.BacklogTask{backlogRow(t, second, "w")}, true)
	require.EqualValues(t, 2, l.size(), "from what is in memory on, not from where the last count ended")
	l.loaded([]persistence.BacklogTask{backlogRow(t, second, "w")}, true, l.version)
	require.EqualValues(t, 2, l.size())
}

func TestCorruptMetadataIsAnError(t *testing.T) {
	require.Error(t, (&backlog{}).take(&persistence.Queue{Epoch: 1, Metadata: []byte{0xff}}))
}
