package matching

import (
	"context"
	"errors"
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

// load reads the partition's row. Only if there is one, and so perhaps tasks, the lease is taken.
func (p *partition) load() {
	ctx, cancel := p.service.storeContext()
	defer cancel()
	_, err := p.service.store.GetQueue(ctx, p.key.QueueKey)
	exists := err == nil
	var taken *persistence.Queue
	if exists {
		taken, err = p.service.store.TakeQueue(ctx, p.service.owner, p.key.QueueKey)
	} else if errors.Is(err, persistence.ErrNotFound) {
		err = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && exists {
		p.backlog = &backlog{}
		if err = p.backlog.take(taken); err != nil {
			p.backlog = nil
		}
	}
	if err != nil {
		p.service.storeFailed("load", p, err)
		p.loadErr = serviceerror.NewUnavailable("the task queue could not be loaded from the database, please retry")
	} else {
		p.loaded = true
	}
	close(p.loading)
	p.loading = nil
	p.wantRead()
}

// store puts a task into the backlog and waits until it is committed.
func (p *partition) store(ctx context.Context, level int16, data *statepb.Task) error {
	bytes, err := proto.Marshal(data)
	if err != nil {
		return serviceerror.NewInternalf("encode a task: %v", err)
	}
	w := &pendingWrite{level: level, data: data, bytes: bytes, done: make(chan error, 1)}
	if err := p.queueWrite(w); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return contextError(ctx) // it may be stored all the same; then it is there twice, which is harmless
	}
}

func (p *partition) queueWrite(w *pendingWrite) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errMoved()
	}
	if p.backlog == nil {
		p.backlog = &backlog{}
	}
	if len(p.backlog.pending) >= pendingWritesMax {
		return errTooMany("tasks to be stored", pendingWritesMax)
	}
	p.backlog.pending = append(p.backlog.pending, w)
	p.wantWrite()
	return nil
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
	if p.closed && !b.leased {
		return false
	}
	return len(b.pending) > 0 || p.flushDue && b.doneRows() > 0
}

// wantFlush has finished rows deleted soon. Locked by the caller.
func (p *partition) wantFlush() {
	done := p.backlog.doneRows()
	if done == 0 {
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
		p.flushDue = true
		p.wantWrite()
	})
}

// writeLoop is the partition's only writer. It takes the lease when it has to, stores what is pending, deletes what is done,
// and ends when there is nothing left.
func (p *partition) writeLoop() {
	for p.writeStep() {
	}
}

// writeStep does one write. It is false when the writer ends.
func (p *partition) writeStep() bool {
	p.mu.Lock()
	b := p.backlog
	if !p.writeNeeded() {
		p.writing, p.flushDue = false, false
		p.mu.Unlock()
		return false
	}
	leased := b.leased
	var batch []*pendingWrite
	if leased {
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		err = p.backlog.take(q)
	}
	if err == nil {
		p.wantRead()
		return true
	}
	p.service.storeFailed("take", p, err)
	for _, w := range p.backlog.pending {
		w.done <- serviceerror.NewUnavailable("the task queue's database does not answer, please retry")
	}
	p.backlog.pending = nil
	p.writing, p.flushDue = false, false
	if !p.closed && p.backlog.doneRows() > 0 {
		p.flushAfter(storeRetryDelay)
	}
	return false
}

func (p *partition) writeBatch(batch []*pendingWrite) {
	p.mu.Lock()
	epoch := p.backlog.epoch
	rows := make([]persistence.BacklogTask, len(batch))
	for i, w := range batch {
		rows[i] = persistence.BacklogTask{Key: p.backlog.nextKey(w.level), Task: w.bytes}
	}
	p.mu.Unlock()
	ctx, cancel := p.service.storeContext()
	defer cancel()
	err := p.service.store.WriteTasks(ctx, p.key.QueueKey, epoch, rows)
	switch {
	case err == nil:
		p.batchWritten(batch, rows)
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
		if t := p.backlog.written(rows[i].Key, w.data); t != nil && !p.closed {
			p.matcher.add(t)
		}
	}
	if !p.closed {
		p.dispatch()
	}
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
			w.done <- serviceerror.NewUnavailable("it is not known whether the task was stored, please retry")
		}
	}
	p.backlog.pending = append(again, p.backlog.pending...)
}

func (p *partition) failBatch(batch []*pendingWrite, err error) {
	for _, w := range batch {
		w.done <- err
	}
}

// deleteDone deletes finished rows.
func (p *partition) deleteDone() {
	p.mu.Lock()
	p.flushDue = false
	epoch := p.backlog.epoch
	f, err := p.backlog.flush()
	p.mu.Unlock()
	if err == nil {
		ctx, cancel := p.service.storeContext()
		defer cancel()
		err = p.service.store.UpdateQueue(ctx, p.key.QueueKey, epoch, f.metadata, f.all())
	}
	if errors.Is(err, persistence.ErrFenced) {
		p.abandon()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.backlog.flushed(f)
		p.wantFlush()
		p.wantRead()
		return
	}
	p.service.storeFailed("delete", p, err)
	if outcomeUnknown(err) {
		p.backlog.leased = false
	}
	if !p.closed {
		p.flushAfter(storeRetryDelay)
	}
}

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
