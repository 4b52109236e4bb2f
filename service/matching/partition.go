package matching

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	statepb "github.com/perdure/perdure/api/state/v1"
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
	// loading is closed when the running attempt to find out whether there is a backlog ends.
	loading chan struct{}
	loadErr error
	backlog *backlog // nil: nothing is stored, as far as this process knows
	// flushTimer and wakeTimer are armed while rows wait for deletion, or a task for the rate limit.
	flushTimer *time.Timer
	wakeTimer  *time.Timer
	// renewing: the row is to be written to prove that it is still this process's. It has no lock.
	renewing atomic.Bool

	// settings and worker are what is known of the queue as a whole.
	settings settings
	worker   workerLimit
	// wanted are the tokens that tasks wait for.
	wanted map[string]int
	// held, if set, is closed when no task waits for the queue's limit any more: polls that wait for that may go to the parent.
	held chan struct{}
	// keyWeights is nil on a sticky queue.
	keyWeights *keyWeights
	// limiter gives out the queue's tokens: of a root, once the queue has a limit. earlier is what the row said of its earlier
	// owner when it was taken, at takenAt; tokensLeft what the limiter had left when it was stopped.
	limiter    *limiter
	earlier    *statepb.TaskQueue
	takenAt    time.Time
	tokensLeft map[string]float64
	// traffic is tasks added and dispatched, polled the polls that came lately, where it matters: at one with a parent.
	traffic meter
	polled  *rate
	// away are the polls that wait at the parent, forwarding the number of stored tasks that do.
	away       map[*poll]struct{}
	forwarding int
	// forwardedKeys and forwardedLevels are that number by fairness key and by level.
	forwardedKeys   map[string]int
	forwardedLevels [levelMax]uint8
	refusals        int8 // of stored tasks by the parent, in a row
	parentHungry    bool // the parent took the last one at once
	// parentFirst: the parent had a task that went before those here when it was last asked; else it is not asked again before askAfter.
	parentFirst bool
	askAfter    time.Time
	// kick has the root talk to the other partitions at once. extra is the number after the last partition that had a row when this root
	// was loaded.
	kick  chan struct{}
	extra int32
	// lifetime ends when the partition is given up; it is made when first needed.
	lifetime context.Context
	endLife  context.CancelFunc
	// busy is the number of calls that keep the partition loaded.
	busy       int32
	lastActive time.Time
	// lastPoll is when a poll last waited here; zero: never, or the sticky queue's worker said goodbye.
	lastPoll time.Time
	pollers  pollerLog
	scaling  *bucket

	// What holds, in one place: a partition at rest is to be small.

	// closed: the partition is no longer in the service's map; callers look it up again. loaded: it is known whether there is a backlog.
	closed, loaded bool
	// writing: the writer runs; reading: the reader. flushDue: finished rows are to be deleted.
	writing, reading, flushDue bool
	// passesDue: the metadata should say where fairness keys are. goodbyeDue: it should say that no more tokens are given out.
	passesDue, goodbyeDue bool
	// renewLater: the proof that the row is still this process's has failed and is tried again with the next deletion.
	renewLater bool
	// fetching: tokens are being asked for; reportDue: the root is to be told of the workers' limit.
	fetching, reportDue bool
	// told: the root has said what limits the queue has. Until then another partition asks for every token.
	told bool
	// monitoring: the root talks to the other partitions.
	monitoring bool
}

func newPartition(s *Service, key queueKey, now time.Time) *partition {
	p := &partition{service: s, key: key, lastActive: now}
	if key.sticky {
		p.loaded = true // it has no rows
	} else {
		p.keyWeights = &keyWeights{}
		if p.forwards() {
			p.polled = &rate{}
		}
	}
	return p
}

// isRoot is true for the partition that decides for its queue.
func (p *partition) isRoot() bool { return p.key.Partition == 0 && !p.key.sticky }

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

// leaveQuietly is leave for calls that come without any work or worker.
func (p *partition) leaveQuietly() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
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

// seenPoll notes the end of a poll. It does not bring back a sticky queue whose worker has said goodbye. Locked by the caller.
func (p *partition) seenPoll(now time.Time) {
	if !p.lastPoll.IsZero() {
		p.lastPoll = now
	}
}

// dispatch hands out what can be handed out. It is called after every change that may allow a match. Locked by the caller.
func (p *partition) dispatch() {
	now := p.service.now()
	if p.matcher.cap == nil && !p.key.sticky && p.matcher.ready() > 0 {
		p.matcher.cap = newBucket(p.service.config.DispatchRateMax, time.Second, p.lastActive)
	}
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
	p.matcher.endChoosy()
	if result.wait > 0 {
		p.wakeAfter(result.wait)
	}
	p.wanted = result.wanted
	if p.held != nil && p.wanted[queueLimit] == 0 {
		close(p.held)
		p.held = nil
	}
	if len(p.wanted) > 0 {
		p.fetchTokens()
	}
	p.wantForward()
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
	t.finished = true
	switch t.source {
	case sourceFresh:
		t.finish(outcomeDone)
	case sourceBacklog:
		if p.closed {
			return
		}
		l := p.level(t)
		if l.acks.ack(t.key) {
			l.stored--
		}
		p.wantFlush()
	}
}

// started notes that a poll got the task.
func (p *partition) started(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.source != sourceQuery {
		now := p.service.now()
		p.matcher.lane(t.level).given.count(now)
		p.noteLoad(now)
	}
	p.done(t)
	p.wantRead()
}

// obsolete drops a task that history does not know any more.
func (p *partition) obsolete(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.matcher.giveBack(t, p.service.now())
	p.done(t)
	if !p.closed {
		p.dispatch()
	}
}

// putBack lets a task wait for another poll, after rest.
func (p *partition) putBack(t *task, rest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.matcher.giveBack(t, p.service.now())
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
	if p.endLife != nil {
		p.endLife()
	}
	p.callBack()
	if p.limiter != nil {
		p.goodbyeDue = p.limiter.active()
		p.tokensLeft = p.limiter.stop()
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
		size += int64(lane.freshWaiting())
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
