package matching

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// idCounterBits is the part of a task id that counts within an epoch. The epoch above it makes a new owner's ids larger than
// every id before.
const idCounterBits = 40

// backlog is what a partition knows of its rows. It is not safe for concurrent use; its partition guards it.
type backlog struct {
	// leased is true while this process believes that it owns the partition's row under epoch. It is unset after an unknown
	// outcome, which is resolved by taking the lease again.
	leased  bool
	epoch   persistence.Epoch
	counter int64
	levels  [levelMax]*backlogLevel
	// counted: the rows of earlier epochs are part of the levels' counts. Until then nothing is deleted, so that the count is
	// exact whenever it is made.
	counted bool
	// pending are the tasks that wait for a write, in order.
	pending []*pendingWrite
}

// pendingWrite is a task to store, with the caller that waits for it.
type pendingWrite struct {
	task  *task
	bytes []byte
	tries int
	// done gets one value. Its buffer is 1: the sender never waits.
	done chan error
}

// backlogLevel is one priority level of the stored tasks.
type backlogLevel struct {
	level int16
	acks  ackTracker
	// read is the key up to which rows have been read: those at or below it are tracked, or deleted.
	read persistence.TaskKey
	// caughtUp: there is no row above read. Then new rows are kept in memory when they are written and never read.
	caughtUp bool
	// generation counts the times that read went back; a page that was asked for before one is worthless.
	generation int
	// reading: a page is being read. missed are the rows that were committed meanwhile and may not be part of it.
	reading bool
	missed  []missedRow
	// waiting is the number of rows that wait in the matcher, or rest after a failed start.
	waiting int
	// stored is the number of rows that are not done.
	stored int64
}

type missedRow struct {
	key  persistence.TaskKey
	data *statepb.Task
}

// take starts a term as the owner of the row.
func (b *backlog) take(q *persistence.Queue) (*statepb.TaskQueue, error) {
	var metadata statepb.TaskQueue
	if err := proto.Unmarshal(q.Metadata, &metadata); err != nil {
		return nil, fmt.Errorf("decode the metadata of task queue %q: %w", q.Key.TaskQueue, err)
	}
	first := b.epoch == 0
	b.leased, b.epoch, b.counter, b.counted = true, q.Epoch, 0, false
	for i := range b.levels {
		l := b.levels[i]
		if l == nil {
			l = &backlogLevel{level: int16(i + 1)}
			b.levels[i] = l
		}
		if first {
			n := int32(l.level)
			l.acks.level = persistence.TaskKey{Level: l.level, Pass: metadata.AckPasses[n], ID: metadata.AckLevels[n]}
		}
		// What an unknown outcome left behind may be anywhere above the ack level: it is found by reading again.
		l.goBack(l.acks.level)
		l.stored = -int64(l.acks.done)
	}
	return &metadata, nil
}

// goBack makes a key the one up to which rows have been read.
func (l *backlogLevel) goBack(to persistence.TaskKey) {
	l.read, l.caughtUp = to, false
	l.generation++
	l.missed = nil
}

// firstID is the lowest id of the epoch.
func (b *backlog) firstID() int64 { return int64(b.epoch) << idCounterBits }

// nextKey gives the next task its key. Ids are given in the order of commits: there is one writer.
func (b *backlog) nextKey(level int16, pass int64) persistence.TaskKey {
	b.counter++
	return persistence.TaskKey{Level: level, Pass: pass, ID: b.firstID() | b.counter}
}

// nextBatch takes the next tasks to write off the line, but for those that have met a poll in the meantime.
func (b *backlog) nextBatch() []*pendingWrite {
	var batch []*pendingWrite
	for len(b.pending) > 0 && len(batch) < writeBatchMax {
		if w := b.pending[0]; !w.task.finished {
			batch = append(batch, w)
		}
		b.pending = b.pending[1:]
	}
	if len(b.pending) == 0 {
		b.pending = nil
	}
	return batch
}

// written notes the committed row of a task; waits: no poll has the task, nor has one had it. It is true if the task is the row's from
// now on, and false if the row will be, or has been, read as another.
func (b *backlog) written(key persistence.TaskKey, t *task, waits bool) bool {
	l := b.levels[key.Level-1]
	l.stored++
	_, tracked := l.acks.find(key)
	switch {
	case tracked:
		return false // the reader was faster
	case !before(l.read, key), l.caughtUp && l.hasRoom(1):
		l.advance(key)
	case (!waits || t.startID != "") && len(l.acks.rows) < trackedTasksMax:
		// A poll has it: the reader will find that the row is known.
	case l.reading && len(l.missed) < missedRowsMax:
		l.missed = append(l.missed, missedRow{key, t.data})
		return false
	case l.reading:
		l.goBack(l.read)
		return false
	default:
		l.caughtUp = false
		return false
	}
	l.own(key, t, waits)
	return true
}

// own makes a task that of a row.
func (l *backlogLevel) own(key persistence.TaskKey, t *task, waits bool) {
	t.source, t.key = sourceBacklog, key
	l.acks.track(key, t)
	if waits {
		l.waiting++
	}
}

func (l *backlogLevel) advance(to persistence.TaskKey) {
	if before(l.read, to) {
		l.read = to
	}
}

func (l *backlogLevel) load(key persistence.TaskKey, data *statepb.Task) *task {
	l.advance(key)
	t := &task{level: l.level, data: data}
	l.own(key, t, true)
	return t
}

func (l *backlogLevel) hasRoom(rows int) bool {
	return l.waiting+rows <= loadedTasksMax && len(l.acks.rows)+rows <= trackedTasksMax
}

// loaded notes a page of rows that was asked for in a generation. complete says that there was none after it.
func (l *backlogLevel) loaded(rows []persistence.BacklogTask, complete bool, generation int) []*task {
	l.reading = false
	missed := l.missed
	l.missed = nil
	if generation != l.generation {
		return nil
	}
	tasks := make([]*task, 0, len(rows))
	for _, row := range rows {
		if _, tracked := l.acks.find(row.Key); tracked {
			l.read = row.Key
			continue
		}
		data := &statepb.Task{}
		if err := proto.Unmarshal(row.Task, data); err != nil {
			data = nil
		}
		tasks = append(tasks, l.load(row.Key, data))
	}
	l.caughtUp = complete
	for _, m := range missed {
		if _, tracked := l.acks.find(m.key); !tracked && (complete || !before(l.read, m.key)) {
			tasks = append(tasks, l.load(m.key, m.data))
		}
	}
	if n := len(l.acks.rows); complete && n > 0 {
		l.advance(l.acks.rows[n-1].key)
	}
	return tasks
}

// trim lets go of the last waiting rows when too many wait: rows that go ahead of others are always loaded. remove takes a task
// out of the matcher; one that does not wait there stays.
func (l *backlogLevel) trim(remove func(*task) bool) {
	if l.waiting <= loadedTasksMax+readPage {
		return
	}
	i := len(l.acks.rows)
	kept := len(l.acks.rows)
	for ; i > 0 && l.waiting > loadedTasksMax; i-- {
		row := &l.acks.rows[i-1]
		if row.task != nil && remove(row.task) {
			l.waiting--
			continue
		}
		kept--
		l.acks.rows[kept] = *row
	}
	rest := append([]trackedRow(nil), l.acks.rows[kept:]...)
	clear(l.acks.rows[i:])
	l.acks.rows = append(l.acks.rows[:i], rest...)
	to := l.acks.level
	if i > 0 {
		to = l.acks.rows[i-1].key
	}
	l.goBack(to)
}

// size is the number of stored tasks of the level that are not done.
func (l *backlogLevel) size() int64 { return max(l.stored, 0) }

// wantsRead is true if rows should be read into memory: below half of the room, so that pages are worth it.
func (l *backlogLevel) wantsRead() bool {
	return !l.caughtUp && !l.reading && l.hasRoom(readPage)
}

// doneRows is the number of rows that wait for their deletion.
func (b *backlog) doneRows() int {
	sum := 0
	for _, l := range b.levels {
		if l != nil {
			sum += l.acks.done
		}
	}
	return sum
}

// flush is a deletion of finished rows.
type flush struct {
	ranges [levelMax][]persistence.TaskRange
	levels [levelMax]persistence.TaskKey
}

func (f *flush) all() []persistence.TaskRange {
	var all []persistence.TaskRange
	for _, ranges := range f.ranges {
		all = append(all, ranges...)
	}
	return all
}

// flush collects what can be deleted and writes down in the metadata how far that goes.
func (b *backlog) flush(metadata *statepb.TaskQueue) *flush {
	f := &flush{}
	metadata.AckLevels, metadata.AckPasses = make(map[int32]int64), make(map[int32]int64)
	for i, l := range b.levels {
		f.levels[i] = l.acks.level
		if b.counted {
			f.ranges[i], f.levels[i] = l.acks.flush(l.read, ackRangesMax)
		}
		metadata.AckLevels[int32(l.level)] = f.levels[i].ID
		if pass := f.levels[i].Pass; pass != 0 {
			metadata.AckPasses[int32(l.level)] = pass
		}
	}
	return f
}

// flushed notes that the deletion has been committed.
func (b *backlog) flushed(f *flush) {
	for i, l := range b.levels {
		l.acks.flushed(f.ranges[i], f.levels[i])
	}
}
