package matching

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
)

// Store is what matching needs of the database. The methods are those of [persistence.TaskQueues].
type Store interface {
	GetQueue(ctx context.Context, key persistence.QueueKey) (*persistence.Queue, error)
	TakeQueue(ctx context.Context, owner string, key persistence.QueueKey) (*persistence.Queue, error)
	WriteTasks(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, tasks []persistence.BacklogTask) error
	ReadTasks(ctx context.Context, key persistence.QueueKey, level int16, after persistence.TaskKey, limit int) ([]persistence.BacklogTask, error)
	CountTasks(ctx context.Context, key persistence.QueueKey, belowID int64) (map[int16]int64, error)
	UpdateQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, metadata []byte, delete []persistence.TaskRange) error
	DeleteQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch) error
	ListQueues(ctx context.Context, namespaceID, taskQueue string) ([]*persistence.Queue, error)
	GetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16) (data []byte, version int64, err error)
	SetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16, data []byte, version int64) error
}

// Params is what a service is made of.
type Params struct {
	Store   Store
	History historypb.HistoryServiceClient
	// Peers calls the owner of a partition, which may be this service itself; nil: it always is.
	Peers matchingpb.MatchingServiceClient
	// Owner names this incarnation of the host: in leases, and in the tokens of queries.
	Owner string
	// HostName is what ListTaskQueuePartitions reports as the owner of every partition. OwnerHost, if set, knows better:
	// it is asked for each partition.
	HostName  string
	OwnerHost func(*matchingpb.Partition) string
	Logger    *zap.Logger           // nil: none
	Metrics   prometheus.Registerer // nil: metrics are not exported
	Now       func() time.Time      // nil: time.Now
	Config    Config
}

// Service is the matching service of one host: the partitions that it has been asked for. It is safe for concurrent use.
type Service struct {
	matchingpb.UnimplementedMatchingServiceServer

	store     Store
	history   historypb.HistoryServiceClient
	peers     matchingpb.MatchingServiceClient
	owner     string
	hostName  string
	ownerHost func(*matchingpb.Partition) string
	logger    *zap.Logger
	metrics   *metrics
	now       func() time.Time
	config    Config

	// ctx is that of background work; it ends with the service.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup

	mu         sync.Mutex
	stopped    bool
	partitions map[queueKey]*partition
	numberMax  int32       // above the numbers of all partitions that were ever loaded
	sweeper    *time.Timer // armed while there are partitions

	departed departed

	queriesMu sync.Mutex
	queries   map[string]*query // by id, while somebody waits for the answer
}

var _ matchingpb.MatchingServiceServer = (*Service)(nil)

// New makes a service. It takes calls at once; Start and Stop frame its life.
func New(p Params) *Service {
	if p.Logger == nil {
		p.Logger = zap.NewNop()
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Owner == "" {
		p.Owner = uuid.NewString()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		store:      p.Store,
		history:    p.History,
		peers:      p.Peers,
		owner:      p.Owner,
		hostName:   p.HostName,
		ownerHost:  p.OwnerHost,
		logger:     p.Logger,
		metrics:    newMetrics(p.Metrics),
		now:        p.Now,
		config:     p.Config.withDefaults(),
		ctx:        ctx,
		cancel:     cancel,
		partitions: make(map[queueKey]*partition),
		queries:    make(map[string]*query),
	}
	if s.peers == nil {
		s.peers = matchingpb.LocalMatchingServiceClient{Server: s}
	}
	s.exportBacklog(p.Metrics)
	return s
}

// Start has nothing to prepare: partitions are loaded when they are asked for.
func (s *Service) Start(context.Context) error { return nil }

// Stop ends every poll with an empty response, fails everything else that waits with UNAVAILABLE, deletes the rows that are
// done, and returns when no background work is left or ctx ends. Later calls fail with UNAVAILABLE.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	if s.sweeper != nil {
		s.sweeper.Stop()
	}
	s.mu.Unlock()
	s.Release(func(*matchingpb.Partition) bool { return false })
	finished := make(chan struct{})
	go func() {
		s.background.Wait()
		close(finished)
	}()
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var err error
	select {
	case <-finished:
	case <-ctx.Done():
		err = errors.New("matching: stopped before the backlog's last writes were done; finished tasks will be offered again")
	}
	s.cancel()
	<-finished
	return err
}

// Release gives up the partitions that this host is not to keep: others own them now. What waits there is sent away, the polls
// empty and the rest with UNAVAILABLE, to come back where the partition's new owner is.
func (s *Service) Release(keep func(*matchingpb.Partition) bool) {
	s.mu.Lock()
	var leaving []*partition
	for key, p := range s.partitions {
		if !keep(key.proto()) {
			leaving = append(leaving, p)
			delete(s.partitions, key)
		}
	}
	s.metrics.partitions.Set(float64(len(s.partitions)))
	s.mu.Unlock()
	for _, p := range leaving {
		p.mu.Lock()
		p.close()
		p.mu.Unlock()
	}
}

// spawn runs background work that Stop waits for.
func (s *Service) spawn(work func()) { s.background.Go(work) }

func (s *Service) storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, storeTimeout)
}

// proto is the partition's address.
func (k queueKey) proto() *matchingpb.Partition {
	kind := enumspb.TASK_QUEUE_KIND_NORMAL
	if k.sticky {
		kind = enumspb.TASK_QUEUE_KIND_STICKY
	}
	return &matchingpb.Partition{
		NamespaceId: k.NamespaceID,
		TaskQueue:   k.TaskQueue,
		Type:        enumspb.TaskQueueType(k.Type),
		Number:      k.Partition,
		Kind:        kind,
	}
}

// root is the key of the queue's root.
func (k queueKey) root() queueKey {
	k.Partition = 0
	return k
}

// keyOf checks an address. Without a type it is that of workflow tasks, as the public API has it.
func keyOf(p *matchingpb.Partition) (queueKey, error) {
	if p.GetNamespaceId() == "" || p.GetTaskQueue() == "" {
		return queueKey{}, serviceerror.NewInvalidArgument("the partition's namespace id and task queue must be set")
	}
	if p.GetNumber() < 0 || p.GetNumber() > partitionNumberMax {
		return queueKey{}, serviceerror.NewInvalidArgumentf("a partition's number is from 0 to %d, not %d", partitionNumberMax, p.GetNumber())
	}
	typ := p.GetType()
	if typ == enumspb.TASK_QUEUE_TYPE_UNSPECIFIED {
		typ = enumspb.TASK_QUEUE_TYPE_WORKFLOW
	}
	return queueKey{
		QueueKey: persistence.QueueKey{
			NamespaceID: p.GetNamespaceId(),
			TaskQueue:   p.GetTaskQueue(),
			Type:        int16(typ),
			Partition:   p.GetNumber(),
		},
		sticky: p.GetKind() == enumspb.TASK_QUEUE_KIND_STICKY,
	}, nil
}

// enter returns the loaded partition, which stays loaded until leave. Without create it returns nil for a partition that
// nobody has asked for yet.
func (s *Service) enter(ctx context.Context, address *matchingpb.Partition, create bool) (*partition, error) {
	key, err := keyOf(address)
	if err != nil {
		return nil, err
	}
	for {
		p, err := s.lookup(key, create)
		if p == nil || err != nil {
			return nil, err
		}
		p.mu.Lock()
		entered := p.enter()
		p.mu.Unlock()
		if !entered {
			continue // it was unloaded in between
		}
		if err := p.ensureLoaded(ctx); err != nil {
			p.leave()
			return nil, err
		}
		return p, nil
	}
}

func (s *Service) lookup(key queueKey, create bool) (*partition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, serviceerror.NewUnavailable("the matching service is shutting down, please retry")
	}
	p := s.partitions[key]
	if p != nil || !create {
		return p, nil
	}
	if len(s.partitions) >= s.config.PartitionsMax {
		return nil, &serviceerror.ResourceExhausted{
			Cause:   enumspb.RESOURCE_EXHAUSTED_CAUSE_SYSTEM_OVERLOADED,
			Scope:   enumspb.RESOURCE_EXHAUSTED_SCOPE_SYSTEM,
			Message: "too many task queues are in use on this host",
		}
	}
	p = newPartition(s, key, s.now())
	s.partitions[key] = p
	s.numberMax = max(s.numberMax, key.Partition+1)
	s.metrics.partitions.Set(float64(len(s.partitions)))
	if s.sweeper == nil {
		s.sweeper = time.AfterFunc(sweepInterval, s.sweep)
	}
	return p, nil
}

// dropRow removes the row of an idle partition that has nothing to keep there. Locked by the caller; the partition is closed.
func (p *partition) dropRow() {
	b := p.backlog
	if b == nil || !b.leased || !b.counted || p.limiter != nil || p.totalSize() > 0 || b.doneRows() > 0 {
		return
	}
	epoch := b.epoch
	p.service.spawn(func() {
		ctx, cancel := p.service.storeContext()
		defer cancel()
		err := p.service.store.DeleteQueue(ctx, p.key.QueueKey, epoch)
		if err != nil && !errors.Is(err, persistence.ErrFenced) {
			p.service.storeFailed("drop", p, err) // it stays, empty
		}
	})
}

// forget removes a partition from the map.
func (s *Service) forget(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partitions[p.key] == p {
		delete(s.partitions, p.key)
		s.metrics.partitions.Set(float64(len(s.partitions)))
	}
}

// sweep unloads idle partitions. It comes back as long as there are partitions.
func (s *Service) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for key, p := range s.partitions {
		p.mu.Lock()
		if p.idle(now) {
			p.close()
			p.dropRow()
			delete(s.partitions, key)
		}
		p.mu.Unlock()
	}
	s.metrics.partitions.Set(float64(len(s.partitions)))
	s.sweeper = nil
	if len(s.partitions) > 0 && !s.stopped {
		s.sweeper = time.AfterFunc(sweepInterval, s.sweep)
	}
}

// giveUp fails the caller that waits for a task or query, if there is one.
func (s *Service) giveUp(t *task) {
	switch t.source {
	case sourceFresh:
		t.finish(outcomeLost)
	case sourceQuery:
		s.answer(t.query, queryAnswer{err: errMoved()})
	}
}

// contextError is the error of a caller whose context has ended.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return serviceerror.NewCanceled("the caller has canceled the call")
	}
	return serviceerror.NewDeadlineExceeded("the call's deadline has passed")
}
