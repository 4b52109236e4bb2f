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
	// pending are the tasks that wait for a write, in order.
	pending []*pendingWrite
}

// pendingWrite is a task to store, with the caller that waits for it.
type pendingWrite struct {
	level int16
	data  *statepb.Task
	bytes []byte
	tries int
	// done gets one value. Its buffer is 1: the sender never waits.
	done chan error
}

// backlogLevel is one priority level of the stored tasks.
type backlogLevel struct {
	level int16
	acks  ackTracker
	// read is the key up to which rows have been read into memory.
	read persistence.TaskKey
	// caughtUp: there is no row above read. Then new rows are kept in memory when they are written and never read.
	caughtUp bool
	// version counts the commits; a read that began before one does not prove caughtUp.
	version int
	// waiting is the number of rows that wait in the matcher, or rest after a failed start.
	waiting int
	// unread is the number of rows above read, as far as they have been counted: rows written since the lease was taken, and
	// those of earlier owners up to counted. The count goes on in the background until countTo.
	unread  int64
	counted persistence.TaskKey
	countTo persistence.TaskKey
	// lastWritten is the last key that this process has written.
	lastWritten persistence.TaskKey
}

// take starts a term as the owner of the row.
func (b *backlog) take(q *persistence.Queue) error {
	var metadata statepb.TaskQueue
	if err := proto.Unmarshal(q.Metadata, &metadata); err != nil {
		return fmt.Errorf("decode the metadata of task queue %q: %w", q.Key.TaskQueue, err)
	}
	first := b.epoch == 0
	b.leased, b.epoch, b.counter = true, q.Epoch, 0
	for i := range b.levels {
		l := b.levels[i]
		if l == nil {
			l = &backlogLevel{level: int16(i + 1)}
			b.levels[i] = l
		}
		if first {
			l.read = persistence.TaskKey{Level: l.level, ID: metadata.AckLevels[int32(l.level)]}
			l.acks.level = l.read
		}
		// What an unknown outcome left behind is found by reading on, and counted anew.
		l.caughtUp = false
		l.version++
		l.unread = 0
		l.counted = l.read
		l.countTo = persistence.TaskKey{Level: l.level, ID: int64(b.epoch) << idCounterBits}
	}
	return nil
}

// nextKey gives the next task its key. Ids are given in the order of commits: there is one writer.
func (b *backlog) nextKey(level int16) persistence.TaskKey {
	b.counter++
	return persistence.TaskKey{Level: level, ID: int64(b.epoch)<<idCounterBits | b.counter}
}

// nextBatch takes the next tasks to write off the line.
func (b *backlog) nextBatch() []*pendingWrite {
	n := min(len(b.pending), writeBatchMax)
	batch := b.pending[:n:n]
	b.pending = b.pending[n:]
	if len(b.pending) == 0 {
		b.pending = nil
	}
	return batch
}

// written notes a committed task. It returns a task for the matcher if the task belongs in memory now, nil if it will be, or
// has been, read.
func (b *backlog) written(key persistence.TaskKey, data *statepb.Task) *task {
	l := b.levels[key.Level-1]
	l.version++
	l.lastWritten = key
	if !before(l.read, key) {
		return nil // the reader was faster
	}
	if !l.caughtUp || !l.hasRoom(1) {
		l.caughtUp = false
		l.unread++
		return nil
	}
	return l.load(key, data)
}

func (l *backlogLevel) load(key persistence.TaskKey, data *statepb.Task) *task {
	l.read = key
	l.acks.track(key)
	l.waiting++
	return &task{source: sourceBacklog, level: l.level, key: key, data: data}
}

func (l *backlogLevel) hasRoom(rows int) bool {
	return l.waiting+rows <= loadedTasksMax && len(l.acks.rows)+rows <= trackedTasksMax
}

// loaded notes a page of rows. complete says that the page was short and version that of the time when the read began.
func (l *backlogLevel) loaded(rows []persistence.BacklogTask, complete bool, version int) []*task {
	tasks := make([]*task, 0, len(rows))
	for _, row := range rows {
		if l.isCounted(row.Key) {
			l.unread--
		}
		data := &statepb.Task{}
		if err := proto.Unmarshal(row.Task, data); err != nil {
			data = nil
		}
		tasks = append(tasks, l.load(row.Key, data))
	}
	if complete && version == l.version {
		l.caughtUp = true
		l.unread = 0
		l.counted = l.countTo
	}
	return tasks
}

// isCounted is true if an unread row is part of unread.
func (l *backlogLevel) isCounted(key persistence.TaskKey) bool {
	if before(l.countTo, key) {
		return !before(l.lastWritten, key)
	}
	return !before(l.counted, key)
}

// count notes a page of rows after a key that only needed to be counted. If the count has begun anew since the page was
// asked for, the page is beyond a gap and says nothing.
func (l *backlogLevel) count(after persistence.TaskKey, rows []persistence.BacklogTask, complete bool) {
	if before(l.countedTo(), after) {
		return
	}
	for _, row := range rows {
		if before(l.countTo, row.Key) {
			complete = true
			break
		}
		if before(l.counted, row.Key) && before(l.read, row.Key) {
			l.unread++
		}
		l.counted = row.Key
	}
	if complete {
		l.counted = l.countTo
	}
}

// countedTo is the key up to which rows are in memory or have been counted.
func (l *backlogLevel) countedTo() persistence.TaskKey {
	if before(l.counted, l.read) {
		return l.read
	}
	return l.counted
}

// size is the number of stored tasks of the level that are not done, as far as they have been counted.
func (l *backlogLevel) size() int64 { return l.unread + int64(l.acks.unacked()) }

// wantsRead is true if rows should be read into memory: below half of the room, so that pages are worth it.
func (l *backlogLevel) wantsRead() bool {
	return !l.caughtUp && l.waiting <= loadedTasksMax-readPage && l.hasRoom(readPage)
}

// wantsCount is true while rows of earlier owners have not been counted.
func (l *backlogLevel) wantsCount() bool { return !l.caughtUp && before(l.counted, l.countTo) }

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
	ranges   [levelMax][]persistence.TaskRange
	levels   [levelMax]persistence.TaskKey
	metadata []byte
}

func (f *flush) all() []persistence.TaskRange {
	var all []persistence.TaskRange
	for _, ranges := range f.ranges {
		all = append(all, ranges...)
	}
	return all
}

// flush collects what can be deleted.
func (b *backlog) flush() (*flush, error) {
	f := &flush{}
	metadata := &statepb.TaskQueue{AckLevels: make(map[int32]int64)}
	for i, l := range b.levels {
		f.ranges[i], f.levels[i] = l.acks.flush(ackRangesMax)
		metadata.AckLevels[int32(l.level)] = f.levels[i].ID
	}
	var err error
	if f.metadata, err = proto.Marshal(metadata); err != nil {
		return nil, fmt.Errorf("encode the metadata of a task queue: %w", err)
	}
	return f, nil
}

// flushed notes that the deletion has been committed.
func (b *backlog) flushed(f *flush) {
	for i, l := range b.levels {
		l.acks.flushed(f.ranges[i], f.levels[i])
	}
}
