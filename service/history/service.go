package history

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/visibility"
)

// Store is what the history service needs of the database.
type Store interface {
	persistence.Shards
	persistence.Executions
	// Now is the database's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Namespaces finds namespaces; *namespace.Registry does.
type Namespaces interface {
	ByID(ctx context.Context, id string) (*namespace.Namespace, error)
	ByName(ctx context.Context, name string) (*namespace.Namespace, error)
	WithAttributes(ctx context.Context, n *namespace.Namespace, f func(*visibility.Attributes) error) error
}

// Params is what a service is made of.
type Params struct {
	Store    Store
	Matching matchingpb.MatchingServiceClient
	// History reaches the owners of other executions; it may lead back to this very service.
	History    historypb.HistoryServiceClient
	Namespaces Namespaces
	// Owner names this incarnation of the host in the shards that it takes.
	Owner   string
	Logger  *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: metrics are not exported
	// Now is the time; nil: this host's monotonic clock, set by the database's when the service starts.
	Now    func() time.Time
	Config Config
}

// Placement is what decides which shards this host is to own: it calls Take and Release.
type Placement interface {
	// OwnerAddress is where a shard is served that this host does not own; "" if that is not known.
	OwnerAddress(shard persistence.ShardID) string
	// Check has what is owned compared with what is to be owned: a shard was lost.
	Check()
}

// Service is the history service of one host. It is safe for concurrent use.
type Service struct {
	historypb.UnimplementedHistoryServiceServer

	store      Store
	matching   matchingpb.MatchingServiceClient
	history    historypb.HistoryServiceClient
	namespaces Namespaces
	owner      string
	logger     *zap.Logger
	metrics    *metrics
	clock      *clock
	config     Config

	placement Placement // nil: this host is to own everything
	ownership ownership
	// recovering counts the shards that recover is busy with.
	recovering atomic.Int64
	chains     chains
	cache      *cache
	timers     *timers
	effects    *effects
	optimism   optimism

	// ctx is that of background work and of waiting calls; it ends with the service.
	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex
	stopped bool
	work    sync.WaitGroup
}

var _ historypb.HistoryServiceServer = (*Service)(nil)

// New makes a service. It owns nothing and answers UNAVAILABLE until it is started.
func New(p Params) *Service {
	if p.Logger == nil {
		p.Logger = zap.NewNop()
	}
	if p.Owner == "" {
		p.Owner = uuid.NewString()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		store:      p.Store,
		matching:   p.Matching,
		history:    p.History,
		namespaces: p.Namespaces,
		owner:      p.Owner,
		logger:     p.Logger,
		metrics:    newMetrics(),
		clock:      newClock(p.Now),
		config:     p.Config.withDefaults(),
		chains:     chains{byKey: map[persistence.ExecutionKey]*chain{}},
		ctx:        ctx,
		cancel:     cancel,
	}
	s.cache = newCache(s.config.CacheBytes)
	s.timers = newTimers()
	s.effects = newEffects(s.config.EffectsMax)
	if p.Metrics != nil {
		s.register(p.Metrics)
	}
	return s
}

// Start begins to serve. Without a placement the service takes every shard.
func (s *Service) Start(ctx context.Context) error {
	if err := s.clock.set(ctx, s.store.Now); err != nil {
		return err
	}
	if s.placement == nil {
		if err := s.Take(ctx, allShards()); err != nil {
			return err
		}
	}
	s.background(s.timerLoop)
	s.background(s.quietLoop)
	return nil
}

// PlacedBy makes the service own what a placement has it take, and not everything. It must be called before Start.
func (s *Service) PlacedBy(p Placement) { s.placement = p }

// Stop ends every waiting call with UNAVAILABLE, writes what only this host knows, gives up its shards and returns when no
// background work is left, or ctx ends. Later calls are answered UNAVAILABLE.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	flushing, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	s.Release(flushing, s.Owned())
	return ctx.Err()
}

// background runs something that Stop waits for; nothing once the service stops.
func (s *Service) background(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.work.Go(f)
	return true
}

func (s *Service) now() time.Time { return s.clock.now() }

// ownerOf is where a shard of another host is served; "" if it is not known.
func (s *Service) ownerOf(shard persistence.ShardID) string {
	if s.placement == nil {
		return ""
	}
	return s.placement.OwnerAddress(shard)
}
