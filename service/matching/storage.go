package matching

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// ensureLoaded finds out whether the partition has a backlog: one read, shared by the callers that wait for it.
func (p *partition) ensureLoaded(ctx context.Context) error {
	p.mu.Lock()
	if p.loaded || p.closed {
		defer p.mu.Unlock()
		if !p.loaded {
			return errMoved()
		}
		return nil
	}
	if p.loading == nil {
		p.loading = make(chan struct{})
		p.service.spawn(p.load)
	}
	loading := p.loading
	p.mu.Unlock()
	select {
	case <-loading:
	case <-ctx.Done():
		return contextError(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loaded {
		return nil
	}
	return p.loadErr
}

// load reads what is stored for the queue and the partition's row. Only if there is a row, and so perhaps tasks, the lease is taken.
func (p *partition) load() {
	ctx, cancel := p.service.storeContext()
	defer cancel()
	stored, err := p.readSettings(ctx)
	var taken *persistence.Queue
	if err == nil {
		taken, err = p.takeExisting(ctx)
	}
	now := p.service.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && taken != nil {
		p.backlog = &backlog{}
		if err = p.taken(taken, now); err != nil {
			p.backlog = nil
		}
	}
	if err != nil {
		p.service.storeFailed("load", p, err)
		p.loadErr = serviceerror.NewUnavailable("the task queue could not be loaded from the database, please retry")
	} else {
		p.loaded = true
		if stored.version > p.settings.version {
			p.settings = stored
		}
		p.applyLimits()
	}
	close(p.loading)
	p.loading = nil
	p.wantRead()
	if p.loaded && !p.closed {
		p.wantMonitor()
	}
}

// takeExisting takes the partition's row if there is one. If its owner gives out tokens it is given a moment to say goodbye, which
// saves the wait of tokenLease when partitions move.
func (p *partition) takeExisting(ctx context.Context) (*persistence.Queue, error) {
	for tries := 0; ; tries++ {
		q, err := p.findRow(ctx)
		if q == nil || err != nil {
			return nil, err
		}
		var metadata statepb.TaskQueue
		if err := proto.Unmarshal(q.Metadata, &metadata); err != nil {
			return nil, fmt.Errorf("decode the metadata of task queue %q: %w", p.key.TaskQueue, err)
		}
		if !metadata.GetGivingTokens() || tries >= goodbyeTriesMax || !pause(ctx, goodbyeWait) {
			return p.service.store.TakeQueue(ctx, p.service.owner, p.key.QueueKey)
		}
	}
}

// findRow reads the partition's row; nil: there is none. A root reads those of the other partitions with it.
func (p *partition) findRow(ctx context.Context) (*persistence.Queue, error) {
	if !p.isRoot() {
		q, err := p.service.store.GetQueue(ctx, p.key.QueueKey)
		if errors.Is(err, persistence.ErrNotFound) {
			return nil, nil
		}
		return q, err
	}
	queues, err := p.service.store.ListQueues(ctx, p.key.NamespaceID, p.key.TaskQueue)
	if err != nil {
		return nil, err
	}
	var own *persistence.Queue
	for _, q := range queues {
		if q.Key.Type != p.key.Type {
			continue
		}
		if q.Key.Partition == 0 {
			own = q
		}
		p.extra = max(p.extra, q.Key.Partition+1)
	}
	return own, nil
}

// taken begins a term as the owner of the row. Locked by the caller.
func (p *partition) taken(q *persistence.Queue, now time.Time) error {
	again := p.backlog.epoch != 0 && q.Epoch == p.backlog.epoch+1 // there was no other owner in between
	metadata, err := p.backlog.take(q)
	if err != nil {
		return err
	}
	for level := int16(1); level <= levelMax; level++ {
		ack, next := metadata.GetAckPasses()[int32(level)], metadata.GetNextPasses()[int32(level)].GetNext()
		if ack != 0 || len(next) > 0 {
			p.matcher.lane(level).fair.restore(ack, next)
		}
	}
	if !again {
		p.earlier, p.takenAt = metadata, now
		p.admitTokens()
	}
	return nil
}

// storeWaiting has a task stored that waits and that no poll has tried to start; until it is stored it goes on waiting. Nil: a poll has
// it, or had, and it must keep its request id.
func (p *partition) storeWaiting(t *task) (*pendingWrite, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.startID != "" || !p.matcher.remove(t) {
		return nil, nil
	}
	return p.queueWrite(t)
}

// storeTask has a task stored that does not wait here.
func (p *partition) storeTask(t *task) (*pendingWrite, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queueWrite(t)
}

// queueWrite puts a task in the line of those to be stored. Unless it is to be dispatched in the backlog's order it may meet a poll in
// the meantime. Locked by the caller.
func (p *partition) queueWrite(t *task) (*pendingWrite, error) {
	bytes, err := proto.Marshal(t.data)
	if err != nil {
		return nil, serviceerror.NewInternalf("encode a task: %v", err)
	}
	if p.closed {
		return nil, errMoved()
	}
	if p.backlog == nil {
		p.backlog = &backlog{}
	}
	if len(p.backlog.pending) >= pendingWritesMax {
		return nil, errTooMany("tasks to be stored", pendingWritesMax)
	}
	w := &pendingWrite{task: t, bytes: bytes, done: make(chan error, 1)}
	p.backlog.pending = append(p.backlog.pending, w)
	p.wantWrite()
	t.storing = true
	if !t.ordered {
		p.matcher.add(t)
		p.dispatch()
	}
	return w, nil
}

// wantWrite starts the writer unless it runs. Locked by the caller.
func (p *partition) wantWrite() {
	if !p.writing && p.writeNeeded() {
		p.writing = true
		p.service.spawn(p.writeLoop)
	}
}

// writeNeeded is true if the writer has something to do. A partition that is being given up deletes what it still may. Locked
// by the caller.
func (p *partition) writeNeeded() bool {
	b := p.backlog
	if p.closed {
		return b.leased && (p.flushDue && b.doneRows() > 0 || p.goodbyeDue)
	}
	return len(b.pending) > 0 || p.deletionNeeded()
}

// deletionNeeded is true if finished rows are to be deleted, or the metadata is to be written. Locked by the caller.
func (p *partition) deletionNeeded() bool {
	b := p.backlog
	return p.renewing.Load() && !p.renewLater ||
		p.flushDue && (b.doneRows() > 0 && b.counted || p.passesDue || b.epoch != 0 && !b.leased)
}

// wantFlush has finished rows deleted soon. Locked by the caller.
func (p *partition) wantFlush() {
	done := p.backlog.doneRows()
	if done == 0 || !p.backlog.counted && !p.closed {
		return
	}
	if done >= ackFlushTasks || p.closed {
		p.flushDue = true
		p.wantWrite()
		return
	}
	p.flushAfter(ackFlushDelay)
}

// flushAfter arms the timer for a deletion unless it is armed. Locked by the caller.
func (p *partition) flushAfter(d time.Duration) {
	if p.flushTimer != nil {
		return
	}
	p.flushTimer = time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.flushTimer = nil
		p.flushDue, p.renewLater = true, false
		p.wantWrite()
	})
}

// writeLoop is the partition's only writer. It takes the lease when it has to, stores what is pending, deletes what is done,
// and ends when there is nothing left.
func (p *partition) writeLoop() {
	for deletes := false; p.writeStep(deletes); deletes = !deletes {
	}
}

// writeStep does one write: of tasks or, if it is the turn of deletions and one is due, that. Neither starves the other: rows that are not
// deleted keep others from being read, and tokens are given out only as long as the row is written. It is false when the writer ends.
func (p *partition) writeStep(deletes bool) bool {
	p.mu.Lock()
	b := p.backlog
	if !p.writeNeeded() {
		p.writing, p.flushDue = false, false
		p.mu.Unlock()
		return false
	}
	leased := b.leased
	var batch []*pendingWrite
	if leased && !(deletes && p.deletionNeeded()) {
		batch = b.nextBatch()
	}
	p.mu.Unlock()
	switch {
	case !leased:
		return p.takeLease()
	case len(batch) > 0:
		p.writeBatch(batch)
	default:
		p.deleteDone()
	}
	return true
}

// takeLease makes this process the owner of the partition's row. It is false when the writer has ended for now.
func (p *partition) takeLease() bool {
	ctx, cancel := p.service.storeContext()
	defer cancel()
	q, err := p.service.store.TakeQueue(ctx, p.service.owner, p.key.QueueKey)
	now := p.service.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		err = p.taken(q, now)
	}
	if err == nil {
		p.wantRead()
		return true
	}
	p.service.storeFailed("take", p, err)
	for _, w := range p.backlog.pending {
		p.notStored(w, serviceerror.NewUnavailable("the task queue's database does not answer, please retry"))
	}
	p.backlog.pending = nil
	p.writing, p.flushDue = false, false
	if !p.closed && (p.backlog.epoch != 0 || p.renewing.Load()) {
		p.flushAfter(storeRetryDelay) // there may be rows that are not known here
	}
	return false
}

func (p *partition) writeBatch(batch []*pendingWrite) {
	p.mu.Lock()
	epoch := p.backlog.epoch
	rows := make([]persistence.BacklogTask, len(batch))
	for i, w := range batch {
		// Never behind the virtual time: what is before that may be deleted as done.
		pass := max(w.task.key.Pass, p.matcher.lane(w.task.level).fair.now)
		rows[i] = persistence.BacklogTask{Key: p.backlog.nextKey(w.task.level, pass), Task: w.bytes}
	}
	tokens := p.givesTokens()
	p.mu.Unlock()
	ctx, cancel := p.service.storeContext()
	defer cancel()
	begun := p.service.now()
	err := p.service.store.WriteTasks(ctx, p.key.QueueKey, epoch, rows)
	switch {
	case err == nil:
		p.batchWritten(batch, rows)
		if tokens {
			p.mu.Lock()
			p.tokensProven(begun)
			p.mu.Unlock()
		}
	case outcomeUnknown(err):
		p.batchUnknown(batch, err)
	case errors.Is(err, persistence.ErrFenced):
		p.failBatch(batch, errMoved())
		p.abandon()
	default:
		p.service.storeFailed("write", p, err)
		p.failBatch(batch, serviceerror.NewUnavailable("the task could not be stored, please retry"))
	}
}

func (p *partition) batchWritten(batch []*pendingWrite, rows []persistence.BacklogTask) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range batch {
		w.done <- nil
		if !p.closed {
			p.stored(w.task, rows[i].Key)
		}
		if level := p.backlog.levels[w.task.level-1]; level.size() > passesWorthRows {
			p.passesDue = true
		}
	}
	for _, level := range p.backlog.levels {
		level.trim(p.matcher.remove)
	}
	if p.passesDue && !p.closed {
		p.flushAfter(ackFlushDelay)
	}
	if !p.closed {
		p.dispatch()
	}
}

// stored makes a fresh task one of the backlog, whatever has become of it since it was to be stored. Locked by the caller.
func (p *partition) stored(t *task, key persistence.TaskKey) {
	waits := p.matcher.remove(t) || t.ordered
	kept := p.backlog.written(key, t, waits)
	switch {
	case !kept:
		t.abandoned = true // the row is read as another task
	case t.finished:
		p.done(t)
	case waits:
		p.matcher.add(t)
	}
}

// notStored lets go of a task whose caller is told so. Locked by the caller.
func (p *partition) notStored(w *pendingWrite, err error) {
	if !p.matcher.remove(w.task) {
		w.task.abandoned = true
	}
	w.done <- err
}

// batchUnknown writes the tasks again under a new lease, which decides what became of the first write. Tasks that were written
// twice are harmless: the second start is obsolete.
func (p *partition) batchUnknown(batch []*pendingWrite, err error) {
	p.service.storeFailed("write", p, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backlog.leased = false
	var again []*pendingWrite
	for _, w := range batch {
		w.tries++
		if w.tries < writeTriesMax && !p.closed {
			again = append(again, w)
		} else {
			p.notStored(w, serviceerror.NewUnavailable("it is not known whether the task was stored, please retry"))
		}
	}
	p.backlog.pending = append(again, p.backlog.pending...)
	if len(p.backlog.pending) == 0 && !p.closed {
		p.flushAfter(storeRetryDelay) // a row that is stored all the same is to be found
	}
}

func (p *partition) failBatch(batch []*pendingWrite, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range batch {
		p.notStored(w, err)
	}
}

// deleteDone deletes finished rows and writes the metadata.
func (p *partition) deleteDone() {
	p.mu.Lock()
	p.flushDue, p.passesDue, p.goodbyeDue = false, false, false
	epoch := p.backlog.epoch
	metadata := p.metadata()
	f := p.backlog.flush(metadata)
	p.mu.Unlock()
	begun := p.service.now()
	bytes, err := proto.Marshal(metadata)
	if err == nil {
		ctx, cancel := p.service.storeContext()
		defer cancel()
		err = p.service.store.UpdateQueue(ctx, p.key.QueueKey, epoch, bytes, f.all())
	}
	if errors.Is(err, persistence.ErrFenced) {
		p.abandon()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.backlog.flushed(f)
		if metadata.GivingTokens {
			p.tokensProven(begun)
		}
		switch {
		case len(f.all()) > 0:
			p.wantFlush()
		case p.backlog.doneRows() > 0 && !p.closed:
			p.flushAfter(ackFlushDelay) // what is done is yet to be read past, or counted
		}
		p.wantRead()
		return
	}
	p.service.storeFailed("delete", p, err)
	p.renewLater = true
	if outcomeUnknown(err) {
		p.backlog.leased = false
	}
	if !p.closed {
		p.flushAfter(storeRetryDelay)
	}
}

// metadata is what the row says of the partition. Locked by the caller.
func (p *partition) metadata() *statepb.TaskQueue {
	m := &statepb.TaskQueue{GivingTokens: p.limiter != nil && !p.closed, TokensLeft: p.tokensLeft}
	for i, lane := range p.matcher.lanes {
		if lane == nil {
			continue
		}
		if next := lane.fair.ahead(passesKeptMax); len(next) > 0 {
			if m.NextPasses == nil {
				m.NextPasses = make(map[int32]*statepb.FairnessPasses)
			}
			m.NextPasses[int32(i+1)] = &statepb.FairnessPasses{Next: next}
		}
	}
	return m
}

// givesTokens is true if the row says that this process gives out tokens. Locked by the caller.
func (p *partition) givesTokens() bool { return p.limiter != nil && !p.closed && p.limiter.active() }

// outcomeUnknown is true if the write may have been committed. A context that ended says as little.
func outcomeUnknown(err error) bool {
	return errors.Is(err, persistence.ErrOutcomeUnknown) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func (s *Service) storeFailed(operation string, p *partition, err error) {
	s.metrics.storeErrors.WithLabelValues(operation).Inc()
	s.logger.Warn("task queue storage failed",
		zap.String("operation", operation),
		zap.String("namespace_id", p.key.NamespaceID),
		zap.String("task_queue", p.key.TaskQueue),
		zap.Int16("type", p.key.Type),
		zap.Int32("partition", p.key.Partition),
		zap.Error(err))
}
