package cluster

import (
	"context"
	"errors"
	"maps"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	clusterpb "github.com/perdure/perdure/api/cluster/v1"
	"github.com/perdure/perdure/persistence"
)

const (
	// An answer takes at most pingTimeout; a member that is busy with much else has time enough.
	pingEvery   = time.Second
	pingTimeout = 800 * time.Millisecond
	// refusedPings in a row, pingAgain apart, prove that nobody listens at an address: twice, because a process that restarts
	// may be about to.
	refusedPings = 2
	pingAgain    = 100 * time.Millisecond
	// silentPings in a row without an answer make a member unreachable, if it has also missed a renewal. They take longer than
	// frozenAfter: a member that was only frozen finds that out itself before it answers anything. At worst, others take over 4 s
	// after the last sign of life.
	silentPings = 3
	// renewalSlack is how late a renewal may be before it counts as missed.
	renewalSlack = 500 * time.Millisecond
	// unansweredPings in a row tell this member that a peer does not reach it. A member that was only frozen or starved answers again
	// before.
	unansweredPings = 3
	// isolatedPeersMin is the least number of peers that must be silent, or find this member so, before it doubts itself.
	isolatedPeersMin = 2
)

// errNobody says that the member is not at its address: the connection was refused, or another incarnation answered.
var errNobody = errors.New("cluster: nobody of this name listens at the member's address")

// peer is another member as this process sees it.
type peer struct {
	row     persistence.Member
	changed time.Duration // when its renewal was last seen to change
	dead    bool          // its lease ran out
	// superseded: a later process has its address.
	superseded bool

	pinging     bool
	pingAt      time.Duration
	refused     int // pings in a row that were refused
	silent      int // pings in a row without an answer
	unreachable bool
	unanswered  int // pings in a row to which it answered that it does not reach this member
	// passedOver: it has been unreachable, and has not yet heard of it. Until then it takes for its own what it owned before.
	passedOver bool
	// told: it has heard that this member has joined or changed.
	told bool
}

func (p *peer) field() zap.Field {
	return zap.Dict("member", zap.String("id", p.row.ID), zap.String("service", p.row.Service), zap.String("address", p.row.Address))
}

// pingable members are those that may have to be called.
func (p *peer) pingable() bool { return p.row.Address != "" && !p.dead && !p.superseded }

// suspect has a member pinged now, unless its last ping failed already: then the next one has its time.
func (l *loop) suspect(id string) {
	if p := l.peers[id]; p != nil && p.refused+p.silent == 0 && !p.pinging {
		p.pingAt = min(p.pingAt, l.m.since())
	}
}

// news is what a ping tells the member that it goes to.
type news struct {
	refresh    bool // something has changed in the table
	passedOver bool // it was unreachable, and others may own what it owned
}

func (l *loop) startPing(p *peer) {
	p.pinging, p.pingAt = true, l.m.since()+pingEvery
	to, m := p.row, l.m
	n := news{refresh: !p.told, passedOver: p.passedOver}
	p.told = true
	l.spawn(func() func(*loop) {
		ctx, cancel := context.WithTimeout(m.ctx, pingTimeout)
		defer cancel()
		unanswered, err := m.ping(ctx, to, n)
		return func(l *loop) { l.pinged(to.ID, n, unanswered, err) }
	})
}

// pinged notes the outcome of a ping.
func (l *loop) pinged(id string, n news, unanswered bool, err error) {
	p := l.peers[id]
	if p == nil {
		return
	}
	p.pinging = false
	if p.unanswered++; err != nil || !unanswered {
		p.unanswered = 0
	}
	defer l.noteMute()
	if err == nil {
		p.refused, p.silent = 0, 0
		if p.passedOver && !n.passedOver {
			p.pingAt = l.m.since() // it must hear of that before it counts as reachable
			return
		}
		p.passedOver = false
		if p.unreachable {
			p.unreachable = false
			l.m.logger.Info("a member can be reached again", p.field())
			l.judge()
		}
		l.judgeSelf()
		return
	}
	p.told = false
	if errors.Is(err, errNobody) {
		p.refused++
		p.silent = 0
		l.refresh(nil) // it may have left, and another be there
		if p.refused < refusedPings {
			p.pingAt = l.m.since() + pingAgain
		}
	} else {
		p.silent++
		p.refused = 0
	}
	switch {
	case l.judgeReach(p):
		l.judge()
	case p.silent >= silentPings && !p.unreachable:
		l.refresh(nil) // has it renewed meanwhile?
	}
	l.judgeSelf()
}

// judgeReach decides whether a member that cannot be reached is passed over from now on.
func (l *loop) judgeReach(p *peer) bool {
	if p.unreachable || p.refused < refusedPings && p.silent < silentPings {
		return false
	}
	missed := p.row.Draining || l.databaseNow.Sub(p.row.Renewed) > l.m.params.RenewEvery+renewalSlack
	if p.refused < refusedPings && !missed {
		return false // it may be fine, and only the way to it be broken
	}
	p.unreachable = true
	p.passedOver = l.mayOwnWorkOf(p.row)
	l.m.metrics.unreachable.Inc()
	l.m.logger.Warn("a member cannot be reached: its work is taken over", p.field(), zap.Bool("refused", p.refused >= refusedPings))
	if p.refused < refusedPings {
		l.m.links.cut(func(id string) bool { return id == p.row.ID }) // calls that wait there fail now
	} else {
		l.m.links.retire(func(id string) bool { return id == p.row.ID }) // those of a dead process have failed
	}
	return true
}

// mayOwnWorkOf tells whether this member takes over what another one owns when it cannot reach it.
func (l *loop) mayOwnWorkOf(other persistence.Member) bool {
	for _, service := range []string{History, Matching} {
		if runs(l.m.self, service) && runs(other, service) {
			return true
		}
	}
	return false
}

// judgeSelf makes this member drain while it reaches nobody, or most of those whom it reaches do not reach it: it may be the one that
// is cut off, but not from the database. Draining tells the others that they may pass it over. If it is all that is left, draining
// changes nothing. A refused ping shows that the network works. Who hears that others do not reach it gives up what it owns, too: they
// may have passed it over already.
func (l *loop) judgeSelf() {
	silent, unanswered, others := 0, 0, 0
	for _, p := range l.peers {
		if !p.pingable() || p.unreachable {
			continue
		}
		others++
		if p.silent >= silentPings {
			silent++
		}
		if p.unanswered >= unansweredPings {
			unanswered++
		}
	}
	unheard := unanswered >= isolatedPeersMin && 2*unanswered > others
	isolated := others >= isolatedPeersMin && silent == others || unheard
	if isolated == l.isolated {
		return
	}
	l.isolated = isolated
	l.m.logger.Warn("whether this member can reach the others has changed", zap.Bool("isolated", isolated))
	l.refresh(nil)
	if unheard {
		l.giveUp()
	}
}

// noteMute makes it known which members leave pings unanswered, or refuse them.
func (l *loop) noteMute() {
	mute := map[string]bool{}
	for id, p := range l.peers {
		if p.silent >= silentPings || p.refused >= refusedPings {
			mute[id] = true
		}
	}
	if before := l.m.mute.Load(); before == nil || !maps.Equal(*before, mute) {
		l.m.mute.Store(&mute)
	}
}

// isMute tells whether a member has left pings of this one unanswered.
func (m *Membership) isMute(id string) bool {
	mute := m.mute.Load()
	return mute != nil && (*mute)[id]
}

// pingMember is a ping over the member's connection.
func (m *Membership) pingMember(ctx context.Context, to persistence.Member, n news) (unanswered bool, err error) {
	link, err := m.links.get(to)
	if err != nil {
		return false, err
	}
	answer, err := clusterpb.NewClusterServiceClient(link.conn).Ping(ctx, &clusterpb.PingRequest{
		MemberId: to.ID, Refresh: n.refresh, PassedOver: n.passedOver, FromId: m.self.ID,
	})
	if err == nil {
		return answer.GetUnanswered(), nil
	}
	switch code := serviceerror.ToStatus(err).Code(); {
	case code == codes.NotFound, code == codes.Unavailable && link.refused.Load():
		return false, errNobody
	case code == codes.Unavailable, code == codes.DeadlineExceeded, code == codes.Canceled:
		return false, err
	}
	return false, nil // whatever it says, it is there
}
