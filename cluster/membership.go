package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/cluster/certs"
	"github.com/perdure/perdure/persistence"
)

// Times of membership unless Params say otherwise.
const (
	DefaultLeaseTTL   = 10 * time.Second
	DefaultRenewEvery = 3 * time.Second
)

// Params is what a membership is made of.
type Params struct {
	Store persistence.Members
	// Self is this process: Service, and Address unless it is only a frontend. Service may name several services, separated by
	// commas. ID names this incarnation; without one it gets a new one.
	Self persistence.Member
	// LeaseTTL is how long this member may own anything after a renewal, RenewEvery how often it renews. 0: the defaults.
	LeaseTTL   time.Duration
	RenewEvery time.Duration
	// Certs are for the connections between members; nil: no TLS. Then ServerName is the name in every member's certificate;
	// empty: the host of its address.
	Certs      *certs.Certificates
	ServerName string
	// DialOptions are added to those of the connections to other members.
	DialOptions []grpc.DialOption
	Logger      *zap.Logger           // nil: none
	Metrics     prometheus.Registerer // nil: metrics are not exported
	Now         func() time.Time      // nil: time.Now. Its times should carry a monotonic clock.
	// OnClock, if set, is told at each renewal that the database's clock showed one time when Now showed the other. It must
	// return at once.
	OnClock func(database, local time.Time)
}

// Membership is one process's part in the cluster. It is safe for concurrent use.
type Membership struct {
	params  Params
	self    persistence.Member // as it began
	logger  *zap.Logger
	metrics *metrics
	links   links
	// ping asks a member whether it is there. It reports a refused connection or another incarnation as errNobody. unanswered: the
	// member is there, but gets no answer to its own pings of this one.
	ping func(ctx context.Context, to persistence.Member, n news) (unanswered bool, err error)
	// mute are the ids of the members that have left pings unanswered. Its values do not change.
	mute atomic.Pointer[map[string]bool]

	started time.Time
	view    atomic.Pointer[View]
	// leaseUntil and awakeUntil are when the lease ends, and when the process has been frozen unless its loop says otherwise;
	// nanoseconds after started.
	leaseUntil atomic.Int64
	awakeUntil atomic.Int64
	// clockOffset is how far the database's clock is ahead of this process's, in nanoseconds.
	clockOffset atomic.Int64
	// yielding: the lease had run out, and what this member owned is being given up.
	yielding atomic.Bool

	shards atomic.Pointer[Shards]

	mu       sync.Mutex
	joined   bool
	watchers map[chan struct{}]bool
	yields   []func(context.Context)

	// requests are run by the loop, which alone changes the state behind the view.
	requests chan func(*loop)
	ctx      context.Context // ends with the membership
	cancel   context.CancelFunc
	done     chan struct{} // closed when the loop has ended
	work     sync.WaitGroup
}

// New makes a membership that has not joined: nobody knows of it, its view is empty and it is not Valid.
func New(p Params) (*Membership, error) {
	if err := p.complete(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Membership{
		params:   p,
		self:     p.Self,
		logger:   p.Logger,
		metrics:  newMetrics(p.Metrics),
		links:    links{creds: clientCredentials(p), options: p.DialOptions},
		started:  p.Now(),
		watchers: map[chan struct{}]bool{},
		requests: make(chan func(*loop)),
		ctx:      ctx,
		cancel:   cancel,
		done:     make(chan struct{}),
	}
	m.ping = m.pingMember
	m.view.Store(newView(0, nil))
	return m, nil
}

func clientCredentials(p Params) credentials.TransportCredentials {
	if p.Certs == nil {
		return nil
	}
	return p.Certs.Client(p.ServerName)
}

// complete checks the parameters and fills in what they leave open.
func (p *Params) complete() error {
	if p.LeaseTTL == 0 {
		p.LeaseTTL = DefaultLeaseTTL
	}
	if p.RenewEvery == 0 {
		p.RenewEvery = DefaultRenewEvery
	}
	if p.RenewEvery < 0 || p.LeaseTTL < 2*p.RenewEvery {
		return fmt.Errorf("cluster: a lease of %v cannot be kept by renewing it every %v; it must be at least twice as long", p.LeaseTTL, p.RenewEvery)
	}
	if p.Self.ID == "" {
		p.Self.ID = uuid.NewString()
	}
	if p.Logger == nil {
		p.Logger = zap.NewNop()
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	for service := range strings.SplitSeq(p.Self.Service, ",") {
		if service != Frontend && service != History && service != Matching {
			return fmt.Errorf("cluster: there is no service %q", service)
		}
	}
	if p.Self.Service == Frontend && p.Self.Address == "" {
		return nil
	}
	return checkAddress(p.Self.Address)
}

// checkAddress refuses what other hosts cannot dial.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("cluster: the address of this member: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || port == "" || port == "0" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("cluster: %q cannot be the address of this member: the others need a host and a port that they can dial", address)
	}
	return nil
}

// Join makes this process a member: from now on it renews its lease and keeps a view of the others, who may call it at once.
func (m *Membership) Join(ctx context.Context) error {
	sent := m.since()
	members, now, err := m.params.Store.RenewMember(ctx, m.self, m.params.LeaseTTL)
	if err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	m.mu.Lock()
	refused := m.joined || m.ctx.Err() != nil
	m.joined = true
	m.mu.Unlock()
	if refused {
		return errors.New("cluster: a membership can be joined only once")
	}
	l := newLoop(m)
	l.renewed(renewal{sent: sent, members: members, databaseNow: now})
	go l.run()
	return nil
}

// Self is this process as it joined. ID is the name under which it owns shards and queues.
func (m *Membership) Self() persistence.Member { return m.self }

// View is the present view.
func (m *Membership) View() *View { return m.view.Load() }

// Valid tells whether this member may answer from what it knows: its lease has not run out by its own clock, it has not just been
// frozen, and it has given up what it owned before such a thing. It must be asked before an answer, not once.
func (m *Membership) Valid() bool {
	now := int64(m.since())
	return now < m.leaseUntil.Load() && now < m.awakeUntil.Load() && !m.yielding.Load() && m.ctx.Err() == nil
}

// since is the time after the membership was made, by the process's own clock.
func (m *Membership) since() time.Duration { return m.params.Now().Sub(m.started) }

// ClockOffset is how far the database's clock was ahead of this process's at the last renewal (behind: negative), within the time
// that the renewal took. A process that is far off should not call itself ready: its deadlines fire at the wrong time.
func (m *Membership) ClockOffset() time.Duration { return time.Duration(m.clockOffset.Load()) }

// PartitionAddress is where a task queue partition is served; "" if no matching service is known.
func (m *Membership) PartitionAddress(p *matchingpb.Partition) string {
	owner, _ := m.View().PartitionOwner(p)
	return owner.Address
}

// Watch returns a channel that gets a value after the view has changed (one value for several changes), and what ends that.
func (m *Membership) Watch() (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	m.watchers[c] = true
	m.mu.Unlock()
	return c, func() {
		m.mu.Lock()
		delete(m.watchers, c)
		m.mu.Unlock()
	}
}

// publish makes a view the present one. The loop calls it.
func (m *Membership) publish(v *View) {
	m.view.Store(v)
	m.metrics.show(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.watchers {
		notify(c)
	}
}

// notify leaves a value in a channel of size one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// OnYield registers what gives up everything that this member owns. It is called, on a goroutine of its own, when the lease had
// run out, or the process had been frozen or unreachable: others may have taken over. Until all such functions have returned the member is not
// Valid.
func (m *Membership) OnYield(yield func(context.Context)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.yields = append(m.yields, yield)
}

// yield runs the registered functions.
func (m *Membership) yield() {
	m.mu.Lock()
	yields := m.yields
	m.mu.Unlock()
	for _, f := range yields {
		f(m.ctx)
	}
}

// Drain tells the others to take over what this member owns. It goes on serving that until it is asked for it.
func (m *Membership) Drain(ctx context.Context) error {
	if !m.request(func(l *loop) { l.draining = true }) {
		return errLeft
	}
	if err := m.Refresh(ctx); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

// Refresh renews the lease and reads the table again, and returns when the view says what the table said after the call. Calls
// share their renewals, which are at least refreshMin apart.
func (m *Membership) Refresh(ctx context.Context) error {
	done := make(chan error, 1)
	if !m.request(func(l *loop) { l.refresh(done) }) {
		return errLeft
	}
	select {
	case err := <-done:
		return err
	case <-m.done:
		return errLeft
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refreshSoon is Refresh for those who do not wait for it.
func (m *Membership) refreshSoon() {
	m.request(func(l *loop) { l.refresh(nil) })
}

// ReportUnreachable has a member pinged at once: a call to it failed because of its connection. If it is gone the view will
// soon say so.
func (m *Membership) ReportUnreachable(id string) {
	m.request(func(l *loop) { l.suspect(id) })
}

// passedOver notes that another member could not reach this one, and may have taken over what it owned. When it returns, this one is
// not Valid until it has given that up.
func (m *Membership) passedOver() {
	noted := make(chan struct{})
	if m.request(func(l *loop) {
		m.logger.Warn("another member could not reach this one: giving up what it owned")
		l.giveUp()
		close(noted)
	}) {
		<-noted
	}
}

// request runs something on the loop; false if there is none.
func (m *Membership) request(f func(*loop)) bool {
	m.mu.Lock()
	joined := m.joined
	m.mu.Unlock()
	if !joined {
		return false
	}
	select {
	case m.requests <- f:
		return true
	case <-m.done:
		return false
	}
}

// Leave ends the membership: the lease is given back and the others are told. Later calls fail. What this member owns should
// have been given away before, or it is unowned until the others notice.
func (m *Membership) Leave(ctx context.Context) error {
	m.mu.Lock()
	joined := m.joined
	m.mu.Unlock()
	m.cancel()
	defer m.links.close()
	if !joined {
		return nil
	}
	<-m.done
	m.work.Wait()
	if err := m.params.Store.RemoveMember(ctx, m.self.ID); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	m.tellAll(ctx)
	return nil
}

// tellAll has the others read the table now. Who does not hear it reads it at its next renewal.
func (m *Membership) tellAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	var told sync.WaitGroup
	for _, other := range m.View().Members {
		if other.ID != m.self.ID && other.Address != "" {
			told.Go(func() { _, _ = m.ping(ctx, other, news{refresh: true}) })
		}
	}
	told.Wait()
}
