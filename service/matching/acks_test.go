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
				tracker.track(rowKey(last), &task{})
				stored[last] = false
			},
			"track between": func(t *rapid.T) {
				id := rapid.Int64Range(tracker.level.ID+1, max(last, tracker.level.ID+1)).Draw(t, "id")
				if _, tracked := stored[id]; !tracked && id <= last {
					tracker.track(rowKey(id), &task{})
					stored[id] = false
				}
			},
			"ack": func(t *rapid.T) {
				id := rapid.Int64Range(0, last+1).Draw(t, "id")
				tracker.ack(rowKey(id))
				if _, tracked := stored[id]; tracked {
					stored[id] = true
				}
			},
			"flush": func(t *rapid.T) {
				ranges, level := tracker.flush(rowKey(last), rapid.IntRange(1, 4).Draw(t, "limit"))
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

// newBacklog is one whose row has just been taken.
func freshTask() *task { return &task{level: 3, data: &statepb.Task{}} }

func newBacklog(t *testing.T, epoch persistence.Epoch) *backlog {
	b := &backlog{}
	_, err := b.take(&persistence.Queue{Epoch: epoch})
	require.NoError(t, err)
	return b
}

func TestRowsGoToMemoryOnce(t *testing.T) {
	type step func(b *backlog, l *backlogLevel, key persistence.TaskKey) (loaded int)
	row := func(key persistence.TaskKey) []persistence.BacklogTask {
		return []persistence.BacklogTask{backlogRow(t, key, "w")}
	}
	written := func(b *backlog, _ *backlogLevel, key persistence.TaskKey) int {
		if b.written(key, freshTask(), true) {
			return 1
		}
		return 0
	}
	begin := func(_ *backlog, l *backlogLevel, _ persistence.TaskKey) int {
		l.reading = true
		return 0
	}
	page := func(with, complete bool) step {
		return func(_ *backlog, l *backlogLevel, key persistence.TaskKey) int {
			rows := row(persistence.TaskKey{Level: 3, Pass: 100})
			if with {
				rows = append(row(key), rows...)
			}
			return len(l.loaded(rows, complete, l.generation)) - 1
		}
	}
	for name, steps := range map[string][]step{
		"written while a page is read that has it":                  {begin, written, page(true, false)},
		"written while a page is read that does not have it":        {begin, written, page(false, false)},
		"written while the last page is read that does not have it": {begin, written, page(false, true)},
		"the reader is faster than the writer":                      {begin, page(true, true), written},
		"committed while a page is read, noted after it was loaded": {begin, page(false, false), written},
		"committed while the last page is read, noted after that":   {begin, page(false, true), written},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBacklog(t, 1)
			l := b.levels[2]
			loaded := 0
			for _, step := range steps {
				loaded += step(b, l, persistence.TaskKey{Level: 3, Pass: 50, ID: 7})
			}
			require.Equal(t, 1, loaded)
			require.Equal(t, 2, l.waiting)
			require.Len(t, l.acks.rows, 2)
			require.EqualValues(t, 1, l.size(), "the other row is an earlier owner's and yet to be counted")
		})
	}
}

func TestAPageFromBeforeAGoBackIsWorthless(t *testing.T) {
	b := newBacklog(t, 1)
	l := b.levels[2]
	generation := l.generation
	l.reading = true
	l.goBack(l.read)
	require.Empty(t, l.loaded([]persistence.BacklogTask{backlogRow(t, rowKey(1), "w")}, true, generation))
	require.False(t, l.caughtUp)
	require.True(t, l.wantsRead())
}

func TestTooManyMissedRowsAreReadAgain(t *testing.T) {
	b := newBacklog(t, 1)
	l := b.levels[2]
	generation := l.generation
	l.reading = true
	for range missedRowsMax + 1 {
		require.False(t, b.written(b.nextKey(3, 0), freshTask(), true))
	}
	require.Empty(t, l.loaded(nil, true, generation))
	require.False(t, l.caughtUp)
	require.EqualValues(t, missedRowsMax+1, l.size())
}

func TestTrimKeepsTheFirstRows(t *testing.T) {
	b := newBacklog(t, 1)
	l := b.levels[2]
	l.caughtUp = true
	out := map[*task]bool{}
	var all []*task
	for i := range loadedTasksMax + readPage + 2 {
		l.caughtUp = true
		if key := rowKey(int64(i + 1)); l.hasRoom(1) {
			t := freshTask()
			b.written(key, t, true)
			all = append(all, t)
		} else {
			all = append(all, l.load(key, &statepb.Task{}))
		}
	}
	stuck := all[len(all)-5] // a poll has it
	l.waiting--
	l.trim(func(task *task) bool {
		if task == stuck {
			return false
		}
		out[task] = true
		return true
	})
	require.Equal(t, loadedTasksMax, l.waiting)
	require.False(t, l.caughtUp)
	require.Equal(t, all[loadedTasksMax-1].key, l.read)
	require.Len(t, l.acks.rows, loadedTasksMax+1)
	require.Same(t, stuck, l.acks.rows[loadedTasksMax].task)
	require.False(t, out[all[0]])
	// What is done beyond the key to which rows are known is not deleted: rows may lie in between.
	for _, task := range all[:3] {
		l.acks.ack(task.key)
	}
	l.acks.ack(stuck.key)
	ranges, level := l.acks.flush(l.read, 10)
	require.Equal(t, []persistence.TaskRange{{Level: 3, From: all[0].key, To: all[2].key}}, ranges)
	require.Equal(t, all[2].key, level)
}

func TestIDsGrowWithTheEpoch(t *testing.T) {
	b := newBacklog(t, 1)
	last := b.nextKey(3, 0)
	for range 100 {
		next := b.nextKey(3, 0)
		require.True(t, before(last, next))
		last = next
	}
	_, err := b.take(&persistence.Queue{Epoch: 2})
	require.NoError(t, err)
	require.True(t, before(last, b.nextKey(3, 0)))
}

func TestANewLeaseReadsAgain(t *testing.T) {
	b := newBacklog(t, 1)
	b.counted = true
	l := b.levels[2]
	l.caughtUp = true
	first := b.nextKey(3, 0)
	require.True(t, b.written(first, freshTask(), true))
	require.True(t, l.acks.ack(first))
	l.stored--
	second := b.nextKey(3, 0)
	require.True(t, b.written(second, freshTask(), true))

	_, err := b.take(&persistence.Queue{Epoch: 2})
	require.NoError(t, err)
	require.False(t, b.counted)
	require.Empty(t, b.flush(&statepb.TaskQueue{}).all(), "nothing is deleted before the rows are counted")
	lost := persistence.TaskKey{Level: 3, ID: first.ID + 1<<20} // its outcome was unknown
	tasks := l.loaded([]persistence.BacklogTask{backlogRow(t, first, "w"), backlogRow(t, second, "w"), backlogRow(t, lost, "w")}, true, l.generation)
	require.Len(t, tasks, 1, "what is in memory stays there")
	require.Equal(t, lost, tasks[0].key)
	l.stored += 3 // as counted
	require.EqualValues(t, 2, l.size(), "a row that is done does not count")
}

func TestCorruptMetadataIsAnError(t *testing.T) {
	_, err := (&backlog{}).take(&persistence.Queue{Epoch: 1, Metadata: []byte{0xff}})
	require.Error(t, err)
}
