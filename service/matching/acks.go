package matching

import (
	"slices"
	"sort"

	"github.com/perdure/perdure/persistence"
)

// before is the order of the tasks of one level.
func before(a, b persistence.TaskKey) bool {
	if a.Pass != b.Pass {
		return a.Pass < b.Pass
	}
	return a.ID < b.ID
}

// ackTracker knows which rows of a level have been read and which of these are done: a level up to which everything is, and
// exceptions above it. Up to the key to which its owner has read, there is no other row between two neighbours that it tracks.
type ackTracker struct {
	// level is the last key of the rows that are done and, as of the last flush, deleted.
	level persistence.TaskKey
	// rows are those above level that are not deleted, in order.
	rows []trackedRow
	// done is the number of rows that are done and not yet deleted.
	done int
}

type trackedRow struct {
	key  persistence.TaskKey
	done bool
	// task is that of a row that is not done.
	task *task
}

// find returns the place of a key, and whether it is tracked.
func (a *ackTracker) find(key persistence.TaskKey) (int, bool) {
	i := sort.Search(len(a.rows), func(i int) bool { return !before(a.rows[i].key, key) })
	return i, i < len(a.rows) && a.rows[i].key == key
}

// track adds a row. Most come in order; a task of a fairness key that has been quiet goes ahead of others.
func (a *ackTracker) track(key persistence.TaskKey, t *task) {
	row := trackedRow{key: key, task: t}
	if n := len(a.rows); n == 0 || before(a.rows[n-1].key, key) {
		a.rows = append(a.rows, row)
		return
	}
	i, _ := a.find(key)
	a.rows = slices.Insert(a.rows, i, row)
}

// ack marks a row as done. It is false for a key that is not tracked (any more) or done already.
func (a *ackTracker) ack(key persistence.TaskKey) bool {
	i, tracked := a.find(key)
	if !tracked || a.rows[i].done {
		return false
	}
	a.rows[i].done, a.rows[i].task = true, nil
	a.done++
	return true
}

// unacked is the number of rows that are not done.
func (a *ackTracker) unacked() int { return len(a.rows) - a.done }

// flush returns at most limit ranges of rows that are done and not after the key to which rows have been read, and the ack level
// that holds once they are deleted.
func (a *ackTracker) flush(read persistence.TaskKey, limit int) (ranges []persistence.TaskRange, level persistence.TaskKey) {
	level = a.level
	prefix := true
	deletable := func(i int) bool { return a.rows[i].done && !before(read, a.rows[i].key) }
	for i := 0; i < len(a.rows) && len(ranges) < limit; i++ {
		if !deletable(i) {
			prefix = false
			continue
		}
		from := i
		for i+1 < len(a.rows) && deletable(i+1) {
			i++
		}
		if prefix {
			level = a.rows[i].key
		}
		first := a.rows[from].key
		ranges = append(ranges, persistence.TaskRange{Level: first.Level, From: first, To: a.rows[i].key})
	}
	return ranges, level
}

// flushed says that these ranges have been deleted. Rows that were acked since then stay.
func (a *ackTracker) flushed(ranges []persistence.TaskRange, level persistence.TaskKey) {
	a.level = level
	kept := a.rows[:0:0]
	for _, row := range a.rows {
		for len(ranges) > 0 && before(ranges[0].To, row.key) {
			ranges = ranges[1:]
		}
		if len(ranges) > 0 && !before(row.key, ranges[0].From) {
			a.done--
			continue
		}
		kept = append(kept, row)
	}
	a.rows = kept
}
