package matching

import (
	"context"
	"sort"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// unversioned is how the public API names the absence of a worker version.
const unversioned = "__unversioned__"

// pollerRateDefault is what a poller without a limit of its own is listed with.
const pollerRateDefault = 100_000

// pollerSeen is what a poll tells of its worker.
type pollerSeen struct {
	identity     string
	deployment   *deploymentpb.WorkerDeploymentOptions
	capabilities *commonpb.WorkerVersionCapabilities
	// limits says that the poll decides on the queue's rate: limit, or none if it is nil.
	limits bool
	limit  *wrapperspb.DoubleValue
}

// pollerLog is who polled lately. Most queues have a handful of pollers, so it is a slice.
type pollerLog struct{ entries []pollerEntry }

type pollerEntry struct {
	pollerSeen
	last time.Time
}

// see notes a poll. When the log is full, the pollers that are gone make room, then the longest silent one.
func (l *pollerLog) see(seen pollerSeen, now time.Time) {
	for i := range l.entries {
		if l.entries[i].identity == seen.identity {
			l.entries[i] = pollerEntry{seen, now}
			return
		}
	}
	if len(l.entries) >= pollersKeptMax {
		l.expire(now)
	}
	if len(l.entries) >= pollersKeptMax {
		sort.Slice(l.entries, func(i, j int) bool { return l.entries[i].last.After(l.entries[j].last) })
		l.entries = l.entries[:pollersKeptMax-1]
	}
	l.entries = append(l.entries, pollerEntry{seen, now})
}

func (l *pollerLog) expire(now time.Time) {
	kept := l.entries[:0]
	for _, e := range l.entries {
		if now.Sub(e.last) < pollerKept {
			kept = append(kept, e)
		}
	}
	clear(l.entries[len(kept):])
	l.entries = kept
}

// list is the pollers, the latest first.
func (l *pollerLog) list(now time.Time) []*taskqueuepb.PollerInfo {
	l.expire(now)
	infos := make([]*taskqueuepb.PollerInfo, 0, len(l.entries))
	for _, e := range l.entries {
		rate := float64(pollerRateDefault)
		if e.limit != nil {
			rate = e.limit.GetValue()
		}
		infos = append(infos, &taskqueuepb.PollerInfo{
			LastAccessTime:            timestamppb.New(e.last),
			Identity:                  e.identity,
			RatePerSecond:             rate,
			WorkerVersionCapabilities: e.capabilities,
			DeploymentOptions:         e.deployment,
		})
	}
	sort.SliceStable(infos, func(i, j int) bool {
		return infos[i].LastAccessTime.AsTime().After(infos[j].LastAccessTime.AsTime())
	})
	return infos
}

// DescribeTaskQueue describes one partition: its pollers, its effective rate limit and, if asked for, stats and status. In
// enhanced mode versions_info has this partition's type only; who asks for several types asks once for each.
func (s *Service) DescribeTaskQueue(
	ctx context.Context, req *matchingpb.DescribeTaskQueueRequest,
) (*workflowservice.DescribeTaskQueueResponse, error) {
	request := req.GetRequest()
	key, err := keyOf(req.GetPartition())
	if err != nil {
		return nil, err
	}
	enhanced := request.GetApiMode() == enumspb.DESCRIBE_TASK_QUEUE_MODE_ENHANCED
	switch {
	case enhanced && key.sticky:
		return nil, serviceerror.NewInvalidArgument("the enhanced mode of DescribeTaskQueue does not describe sticky queues; leave api_mode unset")
	case request.GetReportStats() && key.Partition != 0:
		return nil, serviceerror.NewInvalidArgument("DescribeTaskQueue reports stats only for the root partition")
	}
	// A sticky queue that nobody polls need not be made for this.
	p, err := s.enter(ctx, req.GetPartition(), !key.sticky)
	if err != nil {
		return nil, err
	}
	if p == nil {
		p = newPartition(s, key, s.now())
	} else {
		defer p.leave()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if enhanced {
		return p.describeVersions(request), nil
	}
	return p.describe(request), nil
}

// describe is the default mode. Locked by the caller.
func (p *partition) describe(request *workflowservice.DescribeTaskQueueRequest) *workflowservice.DescribeTaskQueueResponse {
	now := p.service.now()
	response := &workflowservice.DescribeTaskQueueResponse{
		Pollers:            p.pollers.list(now),
		EffectiveRateLimit: p.effectiveRateLimit(),
	}
	if !p.key.sticky {
		response.VersioningInfo = &taskqueuepb.TaskQueueVersioningInfo{
			CurrentVersion: unversioned,
			UpdateTime:     timestamppb.New(time.Time{}),
		}
	}
	if request.GetReportStats() {
		response.Stats, response.StatsByPriorityKey = p.stats(now)
	}
	if request.GetIncludeTaskQueueStatus() {
		response.TaskQueueStatus = p.status()
	}
	return response
}

// describeVersions is the enhanced mode. All pollers and tasks belong to the one version "": unversioned. Locked by the caller.
func (p *partition) describeVersions(request *workflowservice.DescribeTaskQueueRequest) *workflowservice.DescribeTaskQueueResponse {
	now := p.service.now()
	info := &taskqueuepb.TaskQueueTypeInfo{}
	if request.GetReportPollers() {
		info.Pollers = p.pollers.list(now)
	}
	if request.GetReportStats() {
		info.Stats, _ = p.stats(now)
	}
	return &workflowservice.DescribeTaskQueueResponse{
		VersionsInfo: map[string]*taskqueuepb.TaskQueueVersionInfo{
			"": {TypesInfo: map[int32]*taskqueuepb.TaskQueueTypeInfo{int32(p.key.Type): info}},
		},
	}
}

func (p *partition) effectiveRateLimit() *workflowservice.DescribeTaskQueueResponse_EffectiveRateLimit {
	limit := &workflowservice.DescribeTaskQueueResponse_EffectiveRateLimit{
		RequestsPerSecond: float32(p.service.config.DispatchRateMax),
		RateLimitSource:   enumspb.RATE_LIMIT_SOURCE_SYSTEM,
	}
	if b := p.matcher.limit; b != nil && b.rate < p.service.config.DispatchRateMax {
		limit.RequestsPerSecond = float32(b.rate)
		limit.RateLimitSource = enumspb.RATE_LIMIT_SOURCE_WORKER
	}
	return limit
}

// stats are exact, but for what is still being counted after a restart. Locked by the caller.
func (p *partition) stats(now time.Time) (*taskqueuepb.TaskQueueStats, map[int32]*taskqueuepb.TaskQueueStats) {
	total := &taskqueuepb.TaskQueueStats{ApproximateBacklogAge: durationpb.New(p.oldestAge(now))}
	limited := p.matcher.limit.empty(now)
	byLevel := make(map[int32]*taskqueuepb.TaskQueueStats)
	for level := int16(1); level <= levelMax; level++ {
		size, lane := p.size(level), p.matcher.lanes[level-1]
		if lane == nil && size == 0 && level != levelDefault {
			continue
		}
		stats := &taskqueuepb.TaskQueueStats{
			ApproximateBacklogCount: size,
			ApproximateBacklogAge:   durationpb.New(0),
			RateLimitingActive:      limited && size > 0,
		}
		if lane != nil {
			if oldest := lane.oldest(); !oldest.IsZero() {
				stats.ApproximateBacklogAge = durationpb.New(max(now.Sub(oldest), 0))
			}
			stats.TasksAddRate = float32(lane.added.perSecond(now))
			stats.TasksDispatchRate = float32(lane.given.perSecond(now))
		}
		byLevel[int32(level)] = stats
		total.ApproximateBacklogCount += size
		total.TasksAddRate += stats.TasksAddRate
		total.TasksDispatchRate += stats.TasksDispatchRate
		total.RateLimitingActive = total.RateLimitingActive || stats.RateLimitingActive
	}
	return total, byLevel
}

// status is what older clients ask for; its levels are those of the default priority. Locked by the caller.
func (p *partition) status() *taskqueuepb.TaskQueueStatus {
	status := &taskqueuepb.TaskQueueStatus{
		BacklogCountHint: p.totalSize(),
		RatePerSecond:    float64(p.effectiveRateLimit().GetRequestsPerSecond()),
	}
	if p.backlog != nil && p.backlog.epoch > 0 {
		l := p.backlog.levels[levelDefault-1]
		status.ReadLevel, status.AckLevel = l.read.ID, l.acks.level.ID
		start := int64(p.backlog.epoch) << idCounterBits
		status.TaskIdBlock = &taskqueuepb.TaskIdBlock{StartId: start + 1, EndId: start + 1<<idCounterBits - 1}
	}
	return status
}

// ListTaskQueuePartitions lists the partitions of a queue's workflow and activity tasks with their owners.
func (s *Service) ListTaskQueuePartitions(
	_ context.Context, req *matchingpb.ListTaskQueuePartitionsRequest,
) (*workflowservice.ListTaskQueuePartitionsResponse, error) {
	name := req.GetRequest().GetTaskQueue().GetName()
	list := func(typ enumspb.TaskQueueType) []*taskqueuepb.TaskQueuePartitionMetadata {
		owner := s.hostName
		if s.ownerHost != nil {
			owner = s.ownerHost(&matchingpb.Partition{
				NamespaceId: req.GetNamespaceId(), TaskQueue: name, Type: typ, Kind: enumspb.TASK_QUEUE_KIND_NORMAL,
			})
		}
		return []*taskqueuepb.TaskQueuePartitionMetadata{{Key: name, OwnerHostName: owner}}
	}
	return &workflowservice.ListTaskQueuePartitionsResponse{
		WorkflowTaskQueuePartitions: list(enumspb.TASK_QUEUE_TYPE_WORKFLOW),
		ActivityTaskQueuePartitions: list(enumspb.TASK_QUEUE_TYPE_ACTIVITY),
	}, nil
}

// UpdateTaskQueueConfig is not offered yet; workers' own limits apply.
func (s *Service) UpdateTaskQueueConfig(
	context.Context, *matchingpb.UpdateTaskQueueConfigRequest,
) (*workflowservice.UpdateTaskQueueConfigResponse, error) {
	return nil, serviceerror.NewUnimplemented("UpdateTaskQueueConfig is not supported by this server")
}
