package matching

import (
	"fmt"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/persistence"
)

// queueKey names a loaded partition. A sticky queue has a key space of its own.
type queueKey struct {
	persistence.QueueKey
	sticky bool
}

// partition is one partition of a task queue: what waits on it, behind one lock. Its IO runs in goroutines that exist only
// while there is something to do: the loader, the writer, the reader.
type partition struct {
	service *Service
	key     queueKey

	mu      sync.Mutex
	matcher matcher
	// closed: the partition is no longer in the service's map; callers look it up again.
	closed bool
	// loaded: it is known whether there is a backlog. loading is closed when the running attempt to find out ends.
	loaded   bool
	loading  chan struct{}
	loadErr  error
	backlog  *backlog // nil: nothing is stored, as far as this process knows
	writing  bool     // the writer runs
	reading  bool     // the reader runs
	flushDue bool
	// flushTimer and wakeTimer are armed while rows wait for deletion, or a task for the rate limit.
	flushTimer *time.Timer
	wakeTimer  *time.Timer
	// busy is the number of calls that keep the partition loaded.
	busy       int
	lastActive time.Time
	// lastPoll is when a poll last waited here; zero: never, or the sticky queue's worker said goodbye.
	lastPoll time.Time
	pollers  pollerLog
	scaling  *bucket
}

func newPartition(s *Service, key queueKey, now time.Time) *partition {
	p := &partition{service: s, key: key, lastActive: now}
	if key.sticky {
		p.loaded = true // it has no rows
	} else {
		p.matcher.limit = newBucket(s.config.DispatchRateMax, now)
	}
	return p
}

// enter keeps the partition loaded until leave. It is false if the partition has been closed. Locked by the caller.
func (p *partition) enter() bool {
	if p.closed {
		return false
	}
	p.busy++
	return true
}

func (p *partition) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	p.lastActive = p.service.now()
}

// idle is true if nothing would be lost by unloading the partition. Locked by the caller.
func (p *partition) idle(now time.Time) bool {
	return p.busy == 0 && !p.writing && !p.reading && p.loading == nil &&
		(p.backlog == nil || p.backlog.doneRows() == 0) && now.Sub(p.lastActive) >= idleUnload
}

// workerAlive tells whether somebody polls a sticky queue. Locked by the caller.
func (p *partition) workerAlive(now time.Time) bool {
	return p.matcher.polls.Len() > 0 || !p.lastPoll.IsZero() && now.Sub(p.lastPoll) < stickyPollerGone
}

// polled notes the end of a poll. It does not bring back a sticky queue whose worker has said goodbye. Locked by the caller.
func (p *partition) polled(now time.Time) {
	if !p.lastPoll.IsZero() {
		p.lastPoll = now
	}
}

// dispatch hands out what can be handed out. It is called after every change that may allow a match. Locked by the caller.
func (p *partition) dispatch() {
	now := p.service.now()
	result := p.matcher.match(now)
	for _, m := range result.pairs {
		if m.task.source == sourceBacklog {
			p.level(m.task).waiting--
		}
		m.poll.waited = now.Sub(m.poll.since)
		m.poll.given <- m.task
	}
	for _, t := range result.expired {
		if t.source == sourceBacklog {
			p.level(t).waiting--
		}
		p.service.metrics.dropped.Inc()
		p.done(t)
	}
	if result.wait > 0 {
		p.wakeAfter(result.wait)
	}
	p.wantRead()
}

func (p *partition) level(t *task) *backlogLevel { return p.backlog.levels[t.level-1] }

// wakeAfter dispatches again when the rate limit allows. Locked by the caller.
func (p *partition) wakeAfter(d time.Duration) {
	if p.wakeTimer != nil {
		p.wakeTimer.Reset(d)
		return
	}
	p.wakeTimer = time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.closed {
			p.dispatch()
		}
	})
}

// done finishes a task for good: it was started, or is obsolete. Locked by the caller.
func (p *partition) done(t *task) {
	switch t.source {
	case sourceFresh:
		t.finish(outcomeDone)
	case sourceBacklog:
		if p.closed {
			return
		}
		p.level(t).acks.ack(t.key)
		p.wantFlush()
	}
}

// started notes that a poll got the task.
func (p *partition) started(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.source != sourceQuery {
		p.matcher.lane(t.level).given.count(p.service.now())
	}
	p.done(t)
	p.wantRead()
}

// obsolete drops a task that history does not know any more.
func (p *partition) obsolete(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.matcher.limit.giveBack()
	p.done(t)
	if !p.closed {
		p.dispatch()
	}
}

// putBack lets a task wait for another poll, after rest.
func (p *partition) putBack(t *task, rest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.source != sourceQuery {
		p.matcher.limit.giveBack()
	}
	switch {
	case p.closed:
		p.service.giveUp(t)
		return
	case t.abandoned:
		return
	}
	if t.source == sourceBacklog {
		p.level(t).waiting++
	}
	if rest == 0 {
		p.matcher.add(t)
		p.dispatch()
		return
	}
	time.AfterFunc(rest, func() { p.endRest(t) })
}

func (p *partition) endRest(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		p.service.giveUp(t)
	case !t.abandoned:
		p.matcher.add(t)
		p.dispatch()
	}
}

// withdraw ends the wait of a fresh task or query whose caller gives up. It is false if a poll has it, or it rests: then it is
// marked, so that it does not come back.
func (p *partition) withdraw(t *task) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.matcher.remove(t) {
		return true
	}
	t.abandoned = true
	return false
}

// close gives the partition up: polls end empty, waiting tasks and queries fail so that their callers look for the owner. Rows
// stay. Locked by the caller.
func (p *partition) close() {
	if p.closed {
		return
	}
	p.closed = true
	for _, timer := range []*time.Timer{p.flushTimer, p.wakeTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
	polls, tasks := p.matcher.drain()
	for _, poll := range polls {
		poll.given <- nil
	}
	for _, t := range tasks {
		p.service.giveUp(t)
	}
	if p.backlog != nil {
		for _, w := range p.backlog.pending {
			w.done <- errMoved()
		}
		p.backlog.pending = nil
		p.flushDue = p.backlog.doneRows() > 0
		p.wantWrite()
	}
}

// abandon closes the partition and forgets it: another owner has it.
func (p *partition) abandon() {
	p.service.forget(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backlog.leased = false
	p.close()
}

// unloadSticky is the goodbye of a sticky queue's worker: what waits goes to the normal queue at once.
func (p *partition) unloadSticky() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastPoll = time.Time{}
	polls, tasks := p.matcher.drain()
	for _, poll := range polls {
		poll.given <- nil
	}
	for _, t := range tasks {
		if t.source == sourceQuery {
			p.service.answer(t.query, queryAnswer{err: errStickyGone(p.key.TaskQueue)})
		} else {
			t.finish(outcomeStickyGone)
		}
	}
}

// cancelPolls ends the polls that match.
func (p *partition) cancelPolls(matches func(*poll) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.matcher.polls.Front(); e != nil; {
		poll := e.Value.(*poll)
		e = e.Next()
		if matches(poll) {
			p.matcher.removePoll(poll)
			poll.given <- nil
		}
	}
}

// size is the number of tasks of a level that wait, in the backlog or in memory. Locked by the caller.
func (p *partition) size(level int16) int64 {
	var size int64
	if lane := p.matcher.lanes[level-1]; lane != nil {
		size += int64(lane.fresh.Len())
	}
	if p.backlog != nil {
		if l := p.backlog.levels[level-1]; l != nil {
			size += l.size()
		}
	}
	return size
}

func (p *partition) totalSize() int64 {
	var total int64
	for level := int16(1); level <= levelMax; level++ {
		total += p.size(level)
	}
	return total
}

func errMoved() error {
	return serviceerror.NewUnavailable("the task queue partition is moving to another host, please retry")
}

func errTooMany(what string, limit int) error {
	return &serviceerror.ResourceExhausted{
		Cause:   enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT,
		Scope:   enumspb.RESOURCE_EXHAUSTED_SCOPE_NAMESPACE,
		Message: fmt.Sprintf("too many %s wait on this task queue; the limit is %d", what, limit),
	}
}
