package matching

import (
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
// exceptions above it. Rows are read without gaps, so between two neighbours that it tracks there is no other row.
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
}

// track adds a row that has been read. Its key is above all others.
func (a *ackTracker) track(key persistence.TaskKey) {
	a.rows = append(a.rows, trackedRow{key: key})
}

// ack marks a row as done. A key that is not tracked (any more) is ignored.
func (a *ackTracker) ack(key persistence.TaskKey) {
	i := sort.Search(len(a.rows), func(i int) bool { return !before(a.rows[i].key, key) })
	if i < len(a.rows) && a.rows[i].key == key && !a.rows[i].done {
		a.rows[i].done = true
		a.done++
	}
}

// unacked is the number of rows that are not done.
func (a *ackTracker) unacked() int { return len(a.rows) - a.done }

// flush returns at most limit ranges of rows that are done, and the ack level that holds once they are deleted.
func (a *ackTracker) flush(limit int) (ranges []persistence.TaskRange, level persistence.TaskKey) {
	level = a.level
	prefix := true
	for i := 0; i < len(a.rows) && len(ranges) < limit; i++ {
		if !a.rows[i].done {
			prefix = false
			continue
		}
		from := i
		for i+1 < len(a.rows) && a.rows[i+1].done {
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
