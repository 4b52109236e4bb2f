package matching

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// weightOverridesMax bounds the fairness weights that a queue keeps.
const weightOverridesMax = 1000

// settingsTriesMax is how often an update of a queue's data is tried against others.
const settingsTriesMax = 5

// settings is what is stored for a whole queue. It is never changed, only replaced. The zero value is that of a queue for which
// nothing is stored.
type settings struct {
	data    *statepb.TaskQueueData
	version int64
}

// workerLimit is what the latest poll that had a say set as the queue's rate.
type workerLimit struct {
	rate float64 // infinite: none
	at   time.Time
}

// workerRateUnset is the least rate of a worker that means none: SDKs send it when their user has set nothing.
const workerRateUnset = 100_000

func newWorkerLimit(limit *wrapperspb.DoubleValue, at time.Time) workerLimit {
	w := workerLimit{rate: math.Inf(1), at: at}
	if limit != nil && limit.GetValue() < workerRateUnset {
		w.rate = max(limit.GetValue(), 0)
	}
	return w
}

// proto is the limit as other partitions are told it; nil: no poll had a say.
func (w workerLimit) proto(now time.Time) *matchingpb.WorkerLimit {
	if w.at.IsZero() {
		return nil
	}
	limit := &matchingpb.WorkerLimit{Age: durationpb.New(max(now.Sub(w.at), 0))}
	if !math.IsInf(w.rate, 1) {
		limit.Rate = wrapperspb.Double(w.rate)
	}
	return limit
}

// configuredRate is a rate of the queue's configuration; infinite: none.
func configuredRate(c *taskqueuepb.RateLimitConfig) float64 {
	if c.GetRateLimit() == nil {
		return math.Inf(1)
	}
	return float64(c.GetRateLimit().GetRequestsPerSecond())
}

// queueRate is the rate of the queue as a whole and who set it; infinite: nobody.
func (s settings) queueRate(worker workerLimit) (float64, enumspb.RateLimitSource) {
	if rate := s.data.GetConfig().GetQueueRateLimit(); rate.GetRateLimit() != nil {
		return configuredRate(rate), enumspb.RATE_LIMIT_SOURCE_API
	}
	if worker.at.IsZero() || math.IsInf(worker.rate, 1) {
		return math.Inf(1), enumspb.RATE_LIMIT_SOURCE_SYSTEM
	}
	return worker.rate, enumspb.RATE_LIMIT_SOURCE_WORKER
}

// keyRate is the rate of a fairness key of weight 1; infinite: there is none.
func (s settings) keyRate() float64 {
	return configuredRate(s.data.GetConfig().GetFairnessKeysRateLimitDefault())
}

func (s settings) weights() map[string]float32 {
	return s.data.GetConfig().GetFairnessWeightOverrides()
}

// counts are the queue's numbers of partitions: those of the host's configuration, or those that are stored.
func (s settings) counts(fixed int32) (read, write int32) {
	if fixed > 0 {
		return fixed, fixed
	}
	write = max(s.data.GetWritePartitions(), 1)
	return max(s.data.GetReadPartitions(), write), write
}

// readSettings reads what is stored for the partition's queue.
func (p *partition) readSettings(ctx context.Context) (settings, error) {
	bytes, version, err := p.service.store.GetQueueData(ctx, p.key.NamespaceID, p.key.TaskQueue, p.key.Type)
	if errors.Is(err, persistence.ErrNotFound) {
		return settings{}, nil
	}
	if err != nil {
		return settings{}, err
	}
	data := &statepb.TaskQueueData{}
	if err := proto.Unmarshal(bytes, data); err != nil {
		return settings{}, fmt.Errorf("decode the data of task queue %q: %w", p.key.TaskQueue, err)
	}
	return settings{data: data, version: version}, nil
}

// changeSettings changes what is stored for the queue. change may be called several times, on a copy each time.
func (p *partition) changeSettings(ctx context.Context, change func(*statepb.TaskQueueData) error) (settings, error) {
	for range settingsTriesMax {
		current, err := p.readSettings(ctx)
		if err != nil {
			return settings{}, p.settingsFailed("read", err)
		}
		next := settings{data: &statepb.TaskQueueData{}, version: current.version + 1}
		if current.data != nil {
			next.data = proto.Clone(current.data).(*statepb.TaskQueueData)
		}
		if err := change(next.data); err != nil {
			return settings{}, err
		}
		bytes, err := proto.Marshal(next.data)
		if err != nil {
			return settings{}, fmt.Errorf("encode the data of a task queue: %w", err)
		}
		err = p.service.store.SetQueueData(ctx, p.key.NamespaceID, p.key.TaskQueue, p.key.Type, bytes, current.version)
		if err == nil {
			p.adopt(next)
			return next, nil
		}
		if !errors.Is(err, persistence.ErrConflict) {
			return settings{}, p.settingsFailed("write", err)
		}
	}
	return settings{}, serviceerror.NewUnavailable("the task queue's configuration is being changed by others, please retry")
}

func (p *partition) settingsFailed(operation string, err error) error {
	p.service.storeFailed(operation+" data", p, err)
	return serviceerror.NewUnavailable("the task queue's database does not answer, please retry")
}

// adopt makes newer settings hold.
func (p *partition) adopt(next settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if next.version <= p.settings.version {
		return
	}
	p.settings = next
	p.applyLimits()
	if !p.closed {
		p.dispatch()
	}
}

// noteWorkerLimit lets the latest poll decide how fast the queue dispatches, below what the API says. Locked by the caller.
func (p *partition) noteWorkerLimit(limit workerLimit) (changed bool) {
	if !limit.at.After(p.worker.at) {
		return false
	}
	changed = p.worker.at.IsZero() && !math.IsInf(limit.rate, 1) || !p.worker.at.IsZero() && limit.rate != p.worker.rate
	p.worker = limit
	if !changed {
		return false
	}
	p.applyLimits()
	if p.isRoot() {
		p.wantMonitor()
	}
	return true
}

// noteTold is noteWorkerLimit for what another partition knows.
func (p *partition) noteTold(limit *matchingpb.WorkerLimit, now time.Time) {
	if limit != nil {
		p.noteWorkerLimit(newWorkerLimit(limit.GetRate(), now.Add(-limit.GetAge().AsDuration())))
	}
}

// applyLimits derives what follows from the settings and the workers' limit. Locked by the caller.
func (p *partition) applyLimits() {
	if p.key.sticky {
		return
	}
	queue, _ := p.settings.queueRate(p.worker)
	key := p.settings.keyRate()
	queueLimited, keysLimited := !math.IsInf(queue, 1), !math.IsInf(key, 1)
	p.matcher.purse.setLimits(queueLimited || p.forwards() && !p.told, keysLimited)
	if !p.isRoot() {
		return
	}
	limited := queueLimited || keysLimited
	fresh := p.limiter == nil && limited && !p.closed
	if fresh {
		p.limiter = newLimiter(p.service.now, p.renewTokens)
	}
	if p.limiter != nil {
		weights := p.settings.weights()
		named := p.keyWeights
		p.limiter.setRates(queue, key, func(fairnessKey string) float64 {
			return weightOf(weights, fairnessKey, named.get(fairnessKey))
		})
	}
	if fresh {
		p.admitTokens()
	}
}

// UpdateTaskQueueConfig changes a queue's limits and weights. They hold everywhere within a second.
func (s *Service) UpdateTaskQueueConfig(
	ctx context.Context, req *matchingpb.UpdateTaskQueueConfigRequest,
) (*workflowservice.UpdateTaskQueueConfigResponse, error) {
	key, err := keyOf(req.GetPartition())
	if err != nil {
		return nil, err
	}
	if key.sticky || key.Partition != 0 {
		return nil, serviceerror.NewInvalidArgument("the configuration is that of a whole task queue: name a normal queue, not a partition or a sticky queue")
	}
	p, err := s.enter(ctx, req.GetPartition(), true)
	if err != nil {
		return nil, err
	}
	defer p.leave()
	next, err := p.changeSettings(ctx, func(data *statepb.TaskQueueData) error {
		if data.Config == nil {
			data.Config = &taskqueuepb.TaskQueueConfig{}
		}
		return updateConfig(data.Config, req.GetRequest(), s.now())
	})
	if err != nil {
		return nil, err
	}
	p.tellPartitions()
	return &workflowservice.UpdateTaskQueueConfigResponse{Config: next.data.GetConfig()}, nil
}

// updateConfig applies a request. A rate that is named but absent is unset, one that is not named stays.
func updateConfig(c *taskqueuepb.TaskQueueConfig, r *workflowservice.UpdateTaskQueueConfigRequest, now time.Time) error {
	metadata := func(reason string) *taskqueuepb.ConfigMetadata {
		return &taskqueuepb.ConfigMetadata{Reason: reason, UpdateIdentity: r.GetIdentity(), UpdateTime: timestamppb.New(now)}
	}
	if u := r.GetUpdateQueueRateLimit(); u != nil {
		c.QueueRateLimit = &taskqueuepb.RateLimitConfig{RateLimit: u.GetRateLimit(), Metadata: metadata(u.GetReason())}
	}
	if u := r.GetUpdateFairnessKeyRateLimitDefault(); u != nil {
		c.FairnessKeysRateLimitDefault = &taskqueuepb.RateLimitConfig{RateLimit: u.GetRateLimit(), Metadata: metadata(u.GetReason())}
	}
	if u := r.GetUpdateQueueConcurrencyLimit(); u != nil {
		c.QueueConcurrencyLimit = &taskqueuepb.ConcurrencyLimitConfig{ConcurrencyLimit: u.GetConcurrencyLimit(), Metadata: metadata(u.GetReason())}
	}
	for _, rate := range []*taskqueuepb.RateLimitConfig{c.GetQueueRateLimit(), c.GetFairnessKeysRateLimitDefault()} {
		if !(rate.GetRateLimit().GetRequestsPerSecond() >= 0) { // not "negative": what is not a number must not pass
			return serviceerror.NewInvalidArgument("a task queue's rate limit must not be negative")
		}
	}
	for _, key := range r.GetUnsetFairnessWeightOverrides() {
		delete(c.FairnessWeightOverrides, key)
	}
	for key, weight := range r.GetSetFairnessWeightOverrides() {
		if !(weight > 0) {
			return serviceerror.NewInvalidArgumentf("the fairness weight of key %q must be greater than zero", key)
		}
		if c.FairnessWeightOverrides == nil {
			c.FairnessWeightOverrides = make(map[string]float32)
		}
		c.FairnessWeightOverrides[key] = weight
	}
	if n := len(c.FairnessWeightOverrides); n > weightOverridesMax {
		return serviceerror.NewInvalidArgumentf("the task queue would have %d fairness weight overrides; the limit is %d", n, weightOverridesMax)
	}
	return nil
}
