package frontend

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/namespace"
)

// rateLimit is a limit of calls per second with the operators' part beside it.
type rateLimit struct {
	all, operators bucket
}

func newRateLimit(perSecond, burst float64, now time.Time) rateLimit {
	return rateLimit{all: newBucket(perSecond, burst, now), operators: newBucket(perSecond*operatorShare, burst*operatorShare, now)}
}

// find returns the bucket that a call may take a token from; nil: none.
func (r *rateLimit) find(p priority, operator bool, now time.Time) *bucket {
	switch {
	case r.all.allows(p, now):
		return &r.all
	case operator && r.operators.allows(priorityFirst, now):
		return &r.operators
	}
	return nil
}

func (r *rateLimit) full(now time.Time) bool { return r.all.full(now) && r.operators.full(now) }

// gate is the limits at work.
type gate struct {
	limits  LoadLimits
	refused *prometheus.CounterVec

	mu       sync.Mutex
	host     rateLimit
	changes  rateLimit // of namespaces
	inFlight int
	bytes    int64
	waiting  int
	// namespaces are those that are not idle, by id, or by name where a call brings no more.
	namespaces map[string]*namespaceLoad
	sweepAt    time.Time
}

// namespaceLoad is what a namespace uses.
type namespaceLoad struct {
	rates    [callKinds]rateLimit
	inFlight int
	waiting  int
}

func newGate(l LoadLimits, registerer prometheus.Registerer) (*gate, error) {
	if l.BurstRatio == 0 {
		l.BurstRatio = BurstRatioDefault
	}
	now := time.Now()
	g := &gate{
		limits:     l,
		host:       newRateLimit(l.RPS, l.RPS*l.BurstRatio, now),
		changes:    newRateLimit(l.NamespaceChangeRPS, l.NamespaceChangeRPS*l.BurstRatio, now),
		namespaces: map[string]*namespaceLoad{},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_frontend_refused_total",
			Help: "Calls refused with RESOURCE_EXHAUSTED before anything was done, by cause and scope (of the namespace or of the process).",
		}, []string{"cause", "scope"}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "perdure_frontend_" + name, Help: help}, func() float64 {
			g.mu.Lock()
			defer g.mu.Unlock()
			return value()
		})
	}
	for _, c := range []prometheus.Collector{
		g.refused,
		gauge("in_flight", "Calls that are being worked on, without those that wait for others.", func() float64 { return float64(g.inFlight) }),
		gauge("in_flight_bytes", "Bytes of all requests that are in memory.", func() float64 { return float64(g.bytes) }),
		gauge("active_namespaces", "Namespaces that have made calls in the last minutes.", func() float64 { return float64(len(g.namespaces)) }),
	} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func exhausted(cause enumspb.ResourceExhaustedCause, scope enumspb.ResourceExhaustedScope, format string, args ...any) error {
	return &serviceerror.ResourceExhausted{Cause: cause, Scope: scope, Message: fmt.Sprintf(format, args...) + " Please retry later."}
}

// count counts a refusal.
func (g *gate) count(err error) error {
	if e, ok := err.(*serviceerror.ResourceExhausted); ok {
		g.refused.WithLabelValues(e.Cause.String(), e.Scope.String()).Inc()
	}
	return err
}

// enter bounds what is in memory, whoever it is from: it comes before anything is looked up.
func (g *gate) enter(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	class, limited := classOf(info.FullMethod, request)
	if !limited {
		return next(ctx, request)
	}
	size, waits := g.size(request), isLongPoll(request)
	if err := g.begin(class.priority, size, waits); err != nil {
		return nil, g.count(err)
	}
	defer g.end(size, waits)
	return next(ctx, request)
}

// size is the request's memory, about.
func (g *gate) size(request any) int64 {
	if m, ok := request.(proto.Message); ok && g.limits.InFlightBytes > 0 {
		return int64(proto.Size(m))
	}
	return 0
}

// tap refuses a call before its request is read, when there is no room for any: what enter refuses is in memory already.
func (g *gate) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	class, limited := classOf(info.FullMethodName, nil)
	if !limited {
		return ctx, nil
	}
	g.mu.Lock()
	err := g.room(class.priority, 1, class.priority >= priorityPoll)
	g.mu.Unlock()
	if err != nil {
		return nil, serviceerror.ToStatus(g.count(err)).Err()
	}
	return ctx, nil
}

// room tells whether a call may come in; nil: it may.
func (g *gate) room(p priority, size int64, waits bool) error {
	const overloaded, system = enumspb.RESOURCE_EXHAUSTED_CAUSE_SYSTEM_OVERLOADED, enumspb.RESOURCE_EXHAUSTED_SCOPE_SYSTEM
	l := &g.limits
	share := 1 - reserveShare*float64(p)
	switch {
	case l.InFlightBytes > 0 && g.bytes > 0 && float64(g.bytes+size) > float64(l.InFlightBytes)*share:
		return exhausted(overloaded, system, "The server is overloaded: the requests that it works on are too large together.")
	case waits && l.Waiting > 0 && g.waiting >= l.Waiting:
		return exhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT, system,
			"The server has %d calls that wait for tasks, events or results, which is its limit.", g.waiting)
	case !waits && l.InFlight > 0 && g.inFlight >= max(1, int(float64(l.InFlight)*share)):
		return exhausted(overloaded, system, "The server is overloaded: it works on %d calls.", g.inFlight)
	}
	return nil
}

func (g *gate) begin(p priority, size int64, waits bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.room(p, size, waits); err != nil {
		return err
	}
	g.bytes += size
	if waits {
		g.waiting++
	} else {
		g.inFlight++
	}
	return nil
}

func (g *gate) end(size int64, waits bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bytes -= size
	if waits {
		g.waiting--
	} else {
		g.inFlight--
	}
}

// limit applies the rates, and what one namespace may have at a time. It comes when the namespace is known.
func (g *gate) limit(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	class, limited := classOf(info.FullMethod, request)
	if !limited {
		return next(ctx, request)
	}
	waits := isLongPoll(request)
	load, err := g.admit(namespaceLoadKey(ctx, class, request), class, waits, isOperator(ctx))
	if err != nil {
		return nil, g.count(err)
	}
	defer g.leave(load, waits)
	return next(ctx, request)
}

// namespaceLoadKey names the namespace that a call counts for; "": none.
func namespaceLoadKey(ctx context.Context, class callClass, request any) string {
	if n, ok := ctx.Value(namespaceKey{}).(*namespace.Namespace); ok {
		return n.ID()
	}
	if r, ok := request.(namespaced); ok && class.kind == kindNamespaceChange {
		return r.GetNamespace() // it may not exist yet; the limit of all changes bounds how many such names there are
	}
	return ""
}

func isOperator(ctx context.Context) bool { return header(ctx, headerCallerType) == callerOperator }

func (g *gate) admit(key string, class callClass, waits, operator bool) (*namespaceLoad, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.sweep(now)
	var buckets [3]*bucket // to take a token from, once all are known to have one
	if class.kind == kindNamespaceChange {
		if buckets[0] = g.changes.find(class.priority, operator, now); buckets[0] == nil {
			return nil, exhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, enumspb.RESOURCE_EXHAUSTED_SCOPE_SYSTEM,
				"The server takes at most %g changes of namespaces per second.", g.limits.NamespaceChangeRPS)
		}
	}
	var load *namespaceLoad
	if key != "" {
		load = g.load(key, now)
		var err error
		if buckets[1], err = g.allowed(load, class, waits, operator, now); err != nil {
			return nil, err
		}
	}
	if buckets[2] = g.host.find(class.priority, operator, now); buckets[2] == nil {
		return nil, exhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, enumspb.RESOURCE_EXHAUSTED_SCOPE_SYSTEM,
			"The server takes at most %g calls per second, and those of a lower priority only while there are fewer.", g.limits.RPS)
	}
	for _, b := range buckets {
		if b != nil {
			b.take()
		}
	}
	switch {
	case load == nil:
	case waits:
		load.waiting++
	default:
		load.inFlight++
	}
	return load, nil
}

// allowed returns the bucket of the namespace that the call takes a token from.
func (g *gate) allowed(load *namespaceLoad, class callClass, waits, operator bool, now time.Time) (*bucket, error) {
	const concurrent, scope = enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT, enumspb.RESOURCE_EXHAUSTED_SCOPE_NAMESPACE
	l := &g.limits
	inFlightMax := max(1, int(float64(l.InFlight)*namespaceInFlightShare))
	switch {
	case waits && l.NamespaceWaiting > 0 && load.waiting >= l.NamespaceWaiting:
		return nil, exhausted(concurrent, scope,
			"The namespace has %d calls that wait for tasks, events or results, which is its limit.", load.waiting)
	case !waits && l.InFlight > 0 && load.inFlight >= inFlightMax:
		return nil, exhausted(concurrent, scope, "The server works on %d calls of the namespace, which is its limit.", load.inFlight)
	}
	b := load.rates[class.kind].find(class.priority, operator, now)
	if b == nil {
		what := [callKinds]string{"calls", "lists and counts", "changes", "reads of worker deployments"}[class.kind]
		return nil, exhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, scope,
			"The namespace may make at most %g %s per second.", load.rates[class.kind].all.rate, what)
	}
	return b, nil
}

// load returns what a namespace uses.
func (g *gate) load(key string, now time.Time) *namespaceLoad {
	load := g.namespaces[key]
	if load == nil {
		l, of := &g.limits, func(perSecond float64) rateLimit { return newRateLimit(perSecond, perSecond*g.limits.BurstRatio, now) }
		change := l.NamespaceChangeRPS * namespaceChangeShare
		load = &namespaceLoad{rates: [callKinds]rateLimit{
			kindExecution:       of(l.NamespaceRPS),
			kindVisibility:      of(l.NamespaceVisibilityRPS),
			kindNamespaceChange: newRateLimit(change, change*namespaceChangeBurst, now),
			kindDeploymentRead:  of(l.NamespaceDeploymentReadRPS),
		}}
		g.namespaces[key] = load
	}
	return load
}

func (g *gate) leave(load *namespaceLoad, waits bool) {
	if load == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if waits {
		load.waiting--
	} else {
		load.inFlight--
	}
}

// sweep forgets namespaces that are as if they had never made a call.
func (g *gate) sweep(now time.Time) {
	if now.Before(g.sweepAt) {
		return
	}
	g.sweepAt = now.Add(loadSweepEvery)
	for key, load := range g.namespaces {
		if load.idle(now) {
			delete(g.namespaces, key)
		}
	}
}

func (n *namespaceLoad) idle(now time.Time) bool {
	if n.inFlight+n.waiting > 0 {
		return false
	}
	for i := range n.rates {
		if !n.rates[i].full(now) {
			return false
		}
	}
	return true
}
