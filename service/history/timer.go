package history

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
)

// timers is when something is due: of every cached run, and of all others within the horizon, up to which the stored wake-ups
// have been read. One goroutine waits for the earliest.
type timers struct {
	mu      sync.Mutex
	heap    wakeHeap
	byRun   map[string]*wakeup
	horizon time.Time
	// changed tells the loop that the earliest wake-up is another one.
	changed chan struct{}
	// firing bounds the wake-ups that are being carried out.
	firing chan struct{}
}

type wakeup struct {
	key   persistence.ExecutionKey
	runID string
	at    time.Time
	index int
}

func newTimers() *timers {
	return &timers{byRun: map[string]*wakeup{}, changed: make(chan struct{}, 1), firing: make(chan struct{}, timersFiringMax)}
}

// set replaces a run's wake-up; zero: none.
func (t *timers) set(key persistence.ExecutionKey, runID string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.byRun[runID]
	switch {
	case w == nil && at.IsZero():
		return
	case at.IsZero():
		t.remove(w)
		return
	case w == nil:
		t.add(&wakeup{key: key, runID: runID, at: at})
	case !w.at.Equal(at):
		w.at = at
		heap.Fix(&t.heap, w.index)
	default:
		return
	}
	t.tellIfFirst(runID)
}

// found adds a wake-up that was read from the store. It is a lower bound: one that is too early finds nothing due and is set
// right, but none may be too late, whatever is known of the run.
func (t *timers) found(key persistence.ExecutionKey, runID string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch w := t.byRun[runID]; {
	case w == nil:
		t.add(&wakeup{key: key, runID: runID, at: at})
	case at.Before(w.at):
		w.at = at
		heap.Fix(&t.heap, w.index)
	default:
		return
	}
	t.tellIfFirst(runID)
}

// forget drops the wake-up of a run that leaves the cache, if the stored one will be read in time.
func (t *timers) forget(runID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.byRun[runID]; w != nil && w.at.After(t.horizon) {
		t.remove(w)
	}
}

func (t *timers) add(w *wakeup) {
	t.byRun[w.runID] = w
	heap.Push(&t.heap, w)
}

func (t *timers) remove(w *wakeup) {
	heap.Remove(&t.heap, w.index)
	delete(t.byRun, w.runID)
}

func (t *timers) tellIfFirst(runID string) {
	if t.heap[0].runID == runID {
		t.review()
	}
}

// review has the loop look at the earliest wake-up again: the clock has been set.
func (t *timers) review() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// due takes the wake-ups whose time has come, at most limit, and returns when the next one comes; zero: none.
func (t *timers) due(now time.Time, limit int) (list []*wakeup, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.heap) > 0 {
		w := t.heap[0]
		if w.at.After(now) || len(list) == limit {
			return list, w.at
		}
		t.remove(w)
		list = append(list, w)
	}
	return list, time.Time{}
}

// raise moves the horizon. It is raised before the read that fills it, so that nothing falls between.
func (t *timers) raise(to time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.horizon = to
}

func (t *timers) current() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.horizon
}

func (t *timers) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.heap)
}

// timerLoop carries out wake-ups as they come due, and reads the next ones as time goes on.
func (s *Service) timerLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var refresh time.Time // when the horizon must be raised
	for {
		select {
		case <-timer.C:
		case <-s.timers.changed:
		case <-s.ctx.Done():
			return
		}
		now := s.now()
		if !now.Before(refresh) {
			refresh = s.raiseHorizon(now)
		}
		due, next := s.timers.due(now, timersFiringMax)
		for _, w := range due {
			select {
			case s.timers.firing <- struct{}{}:
			case <-s.ctx.Done():
				return
			}
			s.background(func() {
				defer func() { <-s.timers.firing }()
				s.fire(w)
			})
		}
		if next.IsZero() || refresh.Before(next) {
			next = refresh
		}
		timer.Reset(max(next.Sub(s.now()), 0))
	}
}

// raiseHorizon reads the wake-ups of the next minutes and returns when to do so again.
func (s *Service) raiseHorizon(now time.Time) time.Time {
	horizon := now.Add(timerHorizon)
	s.timers.raise(horizon)
	if err := s.readWakeups(s.ctx, s.ownership.list(), horizon); err != nil {
		if s.ctx.Err() == nil {
			s.logger.Warn("could not read the next wake-ups; trying again", zap.Error(err))
		}
		return now.Add(timerRetry)
	}
	return horizon.Add(-timerRefresh)
}

func (s *Service) readWakeups(ctx context.Context, shards []persistence.ShardID, before time.Time) error {
	if len(shards) == 0 {
		return nil
	}
	for cursor := (persistence.ScanCursor{}); !cursor.Done; {
		var refs []persistence.RunRef
		var err error
		if refs, cursor, err = s.store.ScanWakeups(ctx, shards, before, cursor, scanPage); err != nil {
			return err
		}
		for _, ref := range refs {
			s.timers.found(ref.Key, ref.RunID, ref.WakeAt)
		}
	}
	return nil
}

// fire applies whatever is due of a run. A wake-up that fails comes again.
func (s *Service) fire(w *wakeup) {
	err := s.with(s.ctx, w.key, func(x *access) error {
		r, err := x.load(w.runID)
		if err != nil || r == nil {
			return err
		}
		return x.fire(r)
	})
	if err == nil || s.ctx.Err() != nil {
		return
	}
	if s.notOurs(w.key) {
		return // its new owner reads the wake-up from the store
	}
	s.logger.Warn("wake-up failed; trying again", zap.String("namespace_id", w.key.NamespaceID),
		zap.String("workflow_id", w.key.BusinessID), zap.String("run_id", w.runID), zap.Error(err))
	s.timers.found(w.key, w.runID, s.now().Add(timerRetry))
}

// fire applies what is due. If nothing is, the stored wake-up was too early: it is set right, or it would come back with
// every read of the horizon.
func (x *access) fire(r *run) error {
	next := r.state.NextDeadline()
	if next.IsZero() || next.After(x.now) {
		return x.correctWake(r, storedTime(next))
	}
	r.notBefore = x.now.Add(timerRetry) // should this fail, or change nothing, the deadline stays in the past
	c, err := x.begin(r, r.state.MayContinue())
	if err != nil {
		return err
	}
	if !c.tx.EnforceLimits() {
		if err := c.tx.Fire(); err != nil {
			return err
		}
	}
	if err := x.commit(c); err != nil {
		return err
	}
	if next = r.state.NextDeadline(); next.IsZero() || next.After(x.now) {
		r.notBefore = time.Time{}
	}
	return nil
}

func (x *access) correctWake(r *run, wake time.Time) error {
	if r.flagged || r.wakeAt.IsZero() || r.wakeAt.Equal(wake) || r.wakeAt.After(x.now.Add(timerHorizon)) {
		return nil
	}
	w := persistence.RunWrite{RunID: r.id, Bucket: r.bucket, SetWakeAt: true, WakeAt: wake}
	if err := x.write(&persistence.Mutation{Key: x.chain.key, Epoch: x.chain.epoch, Runs: []persistence.RunWrite{w}}); err != nil {
		return err
	}
	r.stored(&w)
	x.touch(r)
	return nil
}

// wakeHeap orders wake-ups by time.
type wakeHeap []*wakeup

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *wakeHeap) Push(x any) {
	w := x.(*wakeup)
	w.index = len(*h)
	*h = append(*h, w)
}
func (h *wakeHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return w
}
