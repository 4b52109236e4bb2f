package matching

import (
	"context"
	"math"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/timestamppb"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
)

const (
	// partitionNumberMax bounds the numbers of partitions that are accepted in addresses.
	partitionNumberMax = 10_000
	// partitionsMax bounds the partitions that a queue grows to by itself.
	partitionsMax = 16
	// partitionLoad is the load, tasks added plus tasks dispatched per second, that one partition should have at most.
	partitionLoad = 2000
	// shrinkAfter is how long a queue must have been quiet enough for half of its partitions before it gets these.
	shrinkAfter = 30 * time.Second
	// syncInterval is how often the root of a busy queue talks to the other partitions; of a quiet one it does so less and less,
	// down to syncIntervalMax. syncTimeout bounds one call.
	syncInterval    = 500 * time.Millisecond
	syncIntervalMax = 30 * time.Second
	syncTimeout     = 2 * time.Second
)

// meter measures events per second over the last full second.
type meter struct {
	second  int64
	current uint32
	last    uint32
}

func (m *meter) advance(now time.Time) {
	switch second := now.Unix(); {
	case second == m.second+1:
		m.second, m.last, m.current = second, m.current, 0
	case second != m.second:
		m.second, m.last, m.current = second, 0, 0
	}
}

// count notes an event and returns true for the first in a second.
func (m *meter) count(now time.Time) bool {
	m.advance(now)
	m.current++
	return m.current == 1
}

// perSecond is the larger of the last second's rate and what the current second has had already.
func (m *meter) perSecond(now time.Time) float64 {
	m.advance(now)
	return float64(max(m.last, m.current))
}

// sizing decides how many partitions a queue has. It is pure: time goes in, numbers come out.
type sizing struct {
	quietSince time.Time
}

// next is the numbers of partitions that should follow. drained says that the partitions from write on hold no tasks and take none.
func (s *sizing) next(read, write int32, load float64, drained bool, now time.Time) (int32, int32) {
	want := int32(1)
	for float64(want)*partitionLoad < load && want < partitionsMax {
		want *= 2
	}
	switch {
	case want > write:
		s.quietSince = time.Time{}
		return max(read, want), want
	case write > 1 && load < float64(write/2)*partitionLoad/2:
		if s.quietSince.IsZero() {
			s.quietSince = now
		}
		if now.Sub(s.quietSince) >= shrinkAfter {
			s.quietSince = time.Time{}
			write = max(write/2, 1)
			return read, write
		}
	default:
		s.quietSince = time.Time{}
	}
	if read > write && drained {
		read = write
	}
	return read, write
}

// noteLoad counts a task that was added or dispatched, and has the root look whether one partition is still enough. Locked by the
// caller.
func (p *partition) noteLoad(now time.Time) {
	if p.key.sticky {
		return
	}
	if p.traffic.count(now) && p.isRoot() && float64(p.traffic.last) > partitionLoad {
		p.wantMonitor()
	}
}

// wantMonitor starts the root's conversation with the other partitions if there are any, or should be. Locked by the caller.
func (p *partition) wantMonitor() {
	if !p.isRoot() || p.closed || !p.loaded {
		return
	}
	if p.monitoring {
		select {
		case p.kick <- struct{}{}:
		default:
		}
		return
	}
	read, _ := p.settings.counts(p.service.config.Partitions)
	if read <= 1 && p.extra <= 1 && p.traffic.perSecond(p.service.now()) <= partitionLoad {
		return
	}
	p.monitoring = true
	p.kick = make(chan struct{}, 1)
	ctx := p.life()
	p.service.spawn(func() { p.monitorLoop(ctx) })
}

// tellPartitions has the other partitions told of a change at once.
func (p *partition) tellPartitions() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wantMonitor()
}

// monitorLoop ends when there are no other partitions, or the root is given up.
func (p *partition) monitorLoop(ctx context.Context) {
	p.mu.Lock()
	extra := p.extra
	p.mu.Unlock()
	interval := syncInterval
	var sizing sizing
	for {
		round := p.syncAll(ctx, &extra)
		more := p.resize(ctx, &sizing, round, extra)
		p.mu.Lock()
		if p.closed || !more {
			p.monitoring = false
			p.mu.Unlock()
			return
		}
		kick := p.kick
		p.mu.Unlock()
		if round.busy {
			interval = syncInterval
		} else {
			interval = min(2*interval, syncIntervalMax)
		}
		timer := time.NewTimer(interval)
		select {
		case <-kick:
			interval = syncInterval
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// syncRound is what the root learned from all partitions.
type syncRound struct {
	load    float64
	busy    bool
	drained bool
}

// syncAll talks to every other partition once. extra shrinks to what still has tasks.
func (p *partition) syncAll(ctx context.Context, extra *int32) syncRound {
	p.mu.Lock()
	now := p.service.now()
	read, write := p.settings.counts(p.service.config.Partitions)
	round := syncRound{load: p.traffic.perSecond(now), drained: true}
	round.busy = p.busy > 0 || round.load > 0
	p.mu.Unlock()
	answers := p.syncWith(ctx, max(read, *extra), false)
	p.mu.Lock()
	defer p.mu.Unlock()
	last := read
	for i, a := range answers {
		number := int32(i) + 1
		if a == nil {
			round.drained = round.drained && number < write
			last = max(last, number+1)
			continue
		}
		round.load += a.GetLoad()
		round.busy = round.busy || a.GetBusy()
		if number >= write && (!a.GetDrained() || a.GetDataVersion() < p.settings.version) {
			round.drained = false
			last = max(last, number+1)
		}
		p.noteTold(a.GetWorkerLimit(), p.service.now())
	}
	*extra, p.extra = last, last
	return round
}

// syncWith calls the partitions 1 … n-1 at the same time. An answer is nil if there was none.
func (p *partition) syncWith(ctx context.Context, n int32, listPollers bool) []*matchingpb.SyncPartitionResponse {
	if n <= 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	p.mu.Lock()
	settings, worker := p.settings, p.worker.proto(p.service.now())
	p.mu.Unlock()
	answers := make([]*matchingpb.SyncPartitionResponse, n-1)
	var calls sync.WaitGroup
	for i := range answers {
		calls.Go(func() {
			key := p.key
			key.Partition = int32(i) + 1
			answer, err := p.service.peers.SyncPartition(ctx, &matchingpb.SyncPartitionRequest{
				Partition: key.proto(), Data: settings.data, DataVersion: settings.version, WorkerLimit: worker, ListPollers: listPollers,
			})
			if err == nil {
				answers[i] = answer
			}
		})
	}
	calls.Wait()
	return answers
}

// resize changes the number of partitions if it should. More: there are others than the root.
func (p *partition) resize(ctx context.Context, s *sizing, round syncRound, extra int32) (more bool) {
	fixed := p.service.config.Partitions
	p.mu.Lock()
	read, write := p.settings.counts(fixed)
	p.mu.Unlock()
	if fixed > 0 || ctx.Err() != nil {
		return read > 1 || extra > 1
	}
	nextRead, nextWrite := s.next(read, write, round.load, round.drained, p.service.now())
	if nextRead == read && nextWrite == write {
		return read > 1 || extra > 1
	}
	_, err := p.changeSettings(ctx, func(data *statepb.TaskQueueData) error {
		data.ReadPartitions, data.WritePartitions = nextRead, nextWrite
		return nil
	})
	if err != nil {
		return true // another round finds out
	}
	direction := "up"
	if nextWrite < write || nextRead < read {
		direction = "down"
	}
	p.service.metrics.resized.WithLabelValues(direction).Inc()
	p.service.logger.Info("task queue resized",
		zap.String("namespace_id", p.key.NamespaceID), zap.String("task_queue", p.key.TaskQueue), zap.Int16("type", p.key.Type),
		zap.Int32("read_partitions", nextRead), zap.Int32("write_partitions", nextWrite), zap.Float64("load", round.load))
	return nextRead > 1 || extra > 1
}

// GetPartitionCounts says how many partitions a queue has.
func (s *Service) GetPartitionCounts(ctx context.Context, req *matchingpb.GetPartitionCountsRequest) (*matchingpb.PartitionCounts, error) {
	p, err := s.enter(ctx, req.GetPartition(), true)
	if err != nil {
		return nil, err
	}
	defer p.leaveQuietly()
	p.mu.Lock()
	defer p.mu.Unlock()
	read, write := int32(1), int32(1)
	if !p.key.sticky {
		read, write = p.settings.counts(s.config.Partitions)
	}
	return &matchingpb.PartitionCounts{Read: read, Write: write}, nil
}

// SyncPartition takes over what the queue's root says and tells what goes on here.
func (s *Service) SyncPartition(ctx context.Context, req *matchingpb.SyncPartitionRequest) (*matchingpb.SyncPartitionResponse, error) {
	key, err := keyOf(req.GetPartition())
	if err != nil {
		return nil, err
	}
	if key.sticky || key.Partition == 0 {
		return nil, serviceerror.NewInvalidArgument("a root, or a sticky queue, has no root to be told anything by")
	}
	p, err := s.enter(ctx, req.GetPartition(), true)
	if err != nil {
		return nil, err
	}
	defer p.leaveQuietly()
	p.adopt(settings{data: req.GetData(), version: req.GetDataVersion()})
	p.mu.Lock()
	defer p.mu.Unlock()
	now := s.now()
	p.told = true
	p.noteTold(req.GetWorkerLimit(), now)
	p.applyLimits()
	if !p.closed {
		p.dispatch()
	}
	return p.report(req.GetListPollers(), now), nil
}

// report is what the root is told. Locked by the caller.
func (p *partition) report(listPollers bool, now time.Time) *matchingpb.SyncPartitionResponse {
	r := &matchingpb.SyncPartitionResponse{
		Stats:       make(map[int32]*matchingpb.PartitionStats),
		WorkerLimit: p.worker.proto(now),
		DataVersion: p.settings.version,
		Load:        p.traffic.perSecond(now),
		Busy:        p.busy > 1, // this call is one
		Drained:     p.empties() && p.holdsNothing(),
	}
	if listPollers {
		r.Pollers = p.pollers.list(now)
	}
	for level := int16(1); level <= levelMax; level++ {
		if stats := p.levelStats(level, now); stats != nil {
			r.Stats[int32(level)] = stats
		}
	}
	return r
}

// holdsNothing is true if no task is here, or may come without being asked for. Locked by the caller.
func (p *partition) holdsNothing() bool {
	if p.matcher.fresh > 0 || p.forwarding > 0 {
		return false
	}
	b := p.backlog
	return b == nil || b.epoch == 0 || b.leased && b.counted && len(b.pending) == 0 && !p.writing && p.totalSize() == 0
}

// levelStats are those of this partition; nil: there is nothing to tell. Locked by the caller.
func (p *partition) levelStats(level int16, now time.Time) *matchingpb.PartitionStats {
	size, lane := p.size(level), p.matcher.lanes[level-1]
	if lane == nil && size == 0 {
		return nil
	}
	stats := &matchingpb.PartitionStats{Backlog: size, Limited: size > 0 && p.limited(now)}
	if lane != nil {
		if oldest := lane.oldestNow(now); !oldest.IsZero() {
			stats.Oldest = timestamppb.New(oldest)
		}
		stats.AddedPerSecond, stats.DispatchedPerSecond = lane.added.perSecond(now), lane.given.perSecond(now)
	}
	return stats
}

// limited is true if tasks wait for a limit. Locked by the caller.
func (p *partition) limited(now time.Time) bool {
	if len(p.wanted) > 0 {
		return true
	}
	if p.matcher.purse.queue {
		rate, _ := p.settings.queueRate(p.worker)
		return rate == 0 || p.limiter != nil && p.limiter.scarce()
	}
	return math.IsInf(p.settings.keyRate(), 1) && p.matcher.cap.empty(now)
}

// mergePollers unites the pollers of partitions: a worker that polls several is listed once, with its latest poll.
func mergePollers(lists ...[]*taskqueuepb.PollerInfo) []*taskqueuepb.PollerInfo {
	latest := make(map[string]*taskqueuepb.PollerInfo)
	for _, list := range lists {
		for _, info := range list {
			if known := latest[info.GetIdentity()]; known == nil || known.GetLastAccessTime().AsTime().Before(info.GetLastAccessTime().AsTime()) {
				latest[info.GetIdentity()] = info
			}
		}
	}
	merged := make([]*taskqueuepb.PollerInfo, 0, len(latest))
	for _, info := range latest {
		merged = append(merged, info)
	}
	sortPollers(merged)
	return merged
}
