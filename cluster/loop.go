package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
)

const (
	// beatEvery is how often the loop shows that the process is awake, frozenAfter the silence after which it must have been
	// frozen. The others pass over a silent member no earlier (silentPings).
	beatEvery   = time.Second
	frozenAfter = 2500 * time.Millisecond
	// refreshMin is the least time between two renewals: many callers may ask for one.
	refreshMin = 200 * time.Millisecond
	// renewRetry is how long after a failed renewal the next is tried.
	renewRetry = time.Second
)

// loop is the state behind the view. Only its goroutine touches it, and it never waits for anything but its next event. Times are
// durations after the start, by the process's own clock.
type loop struct {
	m        *Membership
	peers    map[string]*peer // the other members of the table, dead ones included
	row      persistence.Member
	present  bool // row is set
	draining bool // this member wants to drain
	isolated bool // it cannot reach anybody
	// databaseNow is the database's time at the last renewal.
	databaseNow time.Time

	beatAt     time.Duration
	renewAt    time.Duration
	renewing   bool
	lastSent   time.Duration
	continuous time.Duration // since when the lease has had no gap
	failing    bool          // the last renewal failed
	yieldings  int           // how often everything had to be given up
	waiting    []chan error  // for the renewal that is under way
	next       []chan error  // for one that begins later
	wanted     bool          // one that begins later is wanted
}

// renewal is the outcome of one.
type renewal struct {
	sent        time.Duration
	members     []persistence.Member
	databaseNow time.Time
	err         error
}

func newLoop(m *Membership) *loop {
	now := m.since()
	l := &loop{m: m, peers: map[string]*peer{}, continuous: now, lastSent: now}
	l.beat(now)
	return l
}

func (l *loop) run() {
	defer close(l.m.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.m.ctx.Done():
			return
		case f := <-l.m.requests:
			f(l)
		case <-timer.C:
			l.tick()
		}
		timer.Reset(max(l.wake()-l.m.since(), 0))
	}
}

// wake is when the loop has something to do.
func (l *loop) wake() time.Duration {
	at := l.beatAt
	if !l.renewing {
		at = min(at, l.renewAt)
	}
	for _, p := range l.peers {
		if p.pingable() && !p.pinging {
			at = min(at, p.pingAt)
		}
	}
	return at
}

func (l *loop) tick() {
	now := l.m.since()
	if now >= l.beatAt {
		if int64(now) >= l.m.awakeUntil.Load() {
			l.m.logger.Warn("this process was frozen or starved: giving up what it owned", zap.Duration("silence", now-l.beatAt+beatEvery))
			l.gap(now)
		}
		l.beat(now)
	}
	if !l.renewing && now >= l.renewAt {
		l.renew(now)
	}
	for _, p := range l.peers {
		if p.pingable() && !p.pinging && now >= p.pingAt {
			l.startPing(p)
		}
	}
}

func (l *loop) beat(now time.Duration) {
	l.beatAt = now + beatEvery
	l.m.awakeUntil.Store(int64(now + frozenAfter))
}

// spawn runs what may take time beside the loop, and then something on it.
func (l *loop) spawn(work func() (then func(*loop))) {
	m := l.m
	m.work.Go(func() {
		select {
		case m.requests <- work():
		case <-m.done:
		}
	})
}

func (l *loop) renew(now time.Duration) {
	l.renewing, l.lastSent = true, now
	l.waiting, l.next, l.wanted = l.next, nil, false
	self, m := l.m.self, l.m
	self.Draining = l.draining || l.isolated
	l.spawn(func() func(*loop) {
		ctx, cancel := context.WithTimeout(m.ctx, m.params.RenewEvery)
		defer cancel()
		r := renewal{sent: now}
		r.members, r.databaseNow, r.err = m.params.Store.RenewMember(ctx, self, m.params.LeaseTTL)
		return func(l *loop) { l.renewed(r) }
	})
}

func (l *loop) renewed(r renewal) {
	l.renewing = false
	l.renewAt = r.sent + l.m.params.RenewEvery
	if r.err != nil {
		l.renewAt = l.m.since() + renewRetry
	}
	if l.wanted {
		l.renewAt = r.sent + refreshMin
	}
	l.noteOutcome(r.err)
	if r.err == nil {
		if until := l.m.leaseUntil.Load(); until > 0 && int64(r.sent) >= until {
			l.m.logger.Warn("the lease of this member had run out: giving up what it owned")
			l.gap(r.sent)
		}
		l.m.leaseUntil.Store(int64(r.sent + l.m.params.LeaseTTL))
		l.databaseNow = r.databaseNow
		// Half-way between question and answer the clocks are compared with the least error.
		asked := l.m.params.Now().Add(-(l.m.since() - r.sent) / 2)
		l.m.clockOffset.Store(int64(r.databaseNow.Sub(asked)))
		if l.m.params.OnClock != nil {
			l.m.params.OnClock(r.databaseNow, asked)
		}
		l.merge(r.members)
		for _, p := range l.peers {
			l.judgeReach(p)
		}
		l.judge()
	}
	for _, done := range l.waiting {
		done <- r.err
	}
	l.waiting = nil
}

// noteOutcome logs the first of several failures, and that they are over.
func (l *loop) noteOutcome(err error) {
	failed := err != nil
	if failed {
		l.m.metrics.renewFailures.Inc()
	}
	if failed != l.failing && !errors.Is(err, context.Canceled) {
		l.failing = failed
		if failed {
			l.m.logger.Error("cannot renew the lease of this member; it goes on trying", zap.Error(err))
		} else {
			l.m.logger.Info("the lease of this member is renewed again")
		}
	}
}

// refresh has the table read again, and answers done, unless it is nil, after a renewal that begins no earlier than now.
func (l *loop) refresh(done chan error) {
	l.wanted = true
	if done != nil {
		l.next = append(l.next, done)
	}
	if !l.renewing {
		l.renewAt = min(l.renewAt, l.lastSent+refreshMin)
	}
}

// gap begins anew after a time in which this member may have been judged dead, and could not judge others.
func (l *loop) gap(now time.Duration) {
	l.continuous = now
	l.m.metrics.gaps.Inc()
	l.giveUp()
}

// giveUp has everything given up that this member owns. It is not Valid until that is done.
func (l *loop) giveUp() {
	l.yieldings++
	if l.m.yielding.Swap(true) {
		return // it is done again when it ends
	}
	l.startYield()
}

func (l *loop) startYield() {
	count, m := l.yieldings, l.m
	l.spawn(func() func(*loop) {
		m.yield()
		return func(l *loop) {
			if count != l.yieldings {
				l.startYield()
				return
			}
			m.yielding.Store(false)
		}
	})
}

// announce has every other member told that this one's row has changed.
func (l *loop) announce() {
	for _, p := range l.peers {
		p.told, p.pingAt = false, l.m.since()
	}
}

// merge takes over a table.
func (l *loop) merge(members []persistence.Member) {
	now := l.m.since()
	listed := make(map[string]bool, len(members))
	before := l.row
	l.present = false
	for _, row := range members {
		if row.ID == l.m.self.ID {
			l.row, l.present = row, true
			continue
		}
		listed[row.ID] = true
		p := l.peers[row.ID]
		switch {
		case p == nil:
			p = &peer{changed: now, pingAt: now}
			l.peers[row.ID] = p
		case !row.Renewed.Equal(p.row.Renewed):
			p.changed, p.dead = now, false
		}
		p.row = row
	}
	for id := range l.peers {
		if !listed[id] {
			delete(l.peers, id)
		}
	}
	l.m.links.retire(func(id string) bool { return l.peers[id] == nil })
	if l.row.Draining != before.Draining {
		l.announce()
	}
}

// judge decides who is alive, and publishes a view if that has changed.
func (l *loop) judge() {
	now := l.m.since()
	observed := now-l.continuous >= l.m.params.LeaseTTL
	newest := l.newestByAddress()
	var live []persistence.Member
	if l.present && newest[listensAt(l.row)].ID == l.row.ID {
		live = append(live, l.row)
	}
	for id, p := range l.peers {
		if observed && !p.dead && now-p.changed > l.m.params.LeaseTTL {
			p.dead = true
			l.m.logger.Warn("the lease of a member has run out", p.field())
			l.m.links.cut(func(other string) bool { return other == id })
		}
		p.superseded = newest[listensAt(p.row)].ID != id
		if !p.dead && !p.superseded && !p.unreachable {
			live = append(live, p.row)
		}
	}
	before := l.m.View()
	view := newView(before.Generation+1, slices.Clip(live))
	if !sameMembers(before.Members, view.Members) {
		l.m.publish(view)
	}
}

// newestByAddress tells who listens at an address: a process that began later has taken it over from those before.
func (l *loop) newestByAddress() map[string]persistence.Member {
	newest := map[string]persistence.Member{}
	consider := func(m persistence.Member) {
		had, ok := newest[listensAt(m)]
		if !ok || m.Started.After(had.Started) || m.Started.Equal(had.Started) && m.ID > had.ID {
			newest[listensAt(m)] = m
		}
	}
	if l.present {
		consider(l.row)
	}
	for _, p := range l.peers {
		consider(p.row)
	}
	return newest
}

// listensAt is the member's address. Members without one have none that another could take over.
func listensAt(m persistence.Member) string {
	if m.Address == "" {
		return m.ID
	}
	return m.Address
}
