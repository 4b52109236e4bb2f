package matching

import (
	"context"
	"math"
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
	"github.com/perdure/perdure/taskqueue"
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
	sortPollers(infos)
	return infos
}

func sortPollers(infos []*taskqueuepb.PollerInfo) {
	sort.SliceStable(infos, func(i, j int) bool {
		return infos[i].LastAccessTime.AsTime().After(infos[j].LastAccessTime.AsTime())
	})
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
	others := p.askOthers(ctx, request)
	p.mu.Lock()
	defer p.mu.Unlock()
	if enhanced {
		return p.describeVersions(request, others), nil
	}
	return p.describe(request, others), nil
}

// askOthers asks a queue's other partitions what they have; a partition that does not answer in time is left out.
func (p *partition) askOthers(ctx context.Context, request *workflowservice.DescribeTaskQueueRequest) []*matchingpb.SyncPartitionResponse {
	if !p.isRoot() {
		return nil
	}
	p.mu.Lock()
	read, _ := p.settings.counts(p.service.config.Partitions)
	read = max(read, p.extra)
	p.mu.Unlock()
	var others []*matchingpb.SyncPartitionResponse
	for _, answer := range p.syncWith(ctx, read, true) {
		if answer != nil {
			others = append(others, answer)
		}
	}
	return others
}

// allPollers is the pollers of this partition and others. Locked by the caller.
func (p *partition) allPollers(others []*matchingpb.SyncPartitionResponse, now time.Time) []*taskqueuepb.PollerInfo {
	lists := [][]*taskqueuepb.PollerInfo{p.pollers.list(now)}
	for _, other := range others {
		lists = append(lists, other.GetPollers())
	}
	if len(lists) == 1 {
		return lists[0]
	}
	return mergePollers(lists...)
}

// describe is the default mode. Locked by the caller.
func (p *partition) describe(
	request *workflowservice.DescribeTaskQueueRequest, others []*matchingpb.SyncPartitionResponse,
) *workflowservice.DescribeTaskQueueResponse {
	now := p.service.now()
	response := &workflowservice.DescribeTaskQueueResponse{
		Pollers:            p.allPollers(others, now),
		EffectiveRateLimit: p.effectiveRateLimit(),
	}
	if !p.key.sticky {
		response.VersioningInfo = &taskqueuepb.TaskQueueVersioningInfo{
			CurrentVersion: unversioned,
			UpdateTime:     timestamppb.New(time.Time{}),
		}
	}
	if request.GetReportConfig() && !p.key.sticky {
		response.Config = p.settings.data.GetConfig()
	}
	if request.GetReportStats() {
		response.Stats, response.StatsByPriorityKey = p.stats(others, now)
	}
	if request.GetIncludeTaskQueueStatus() {
		response.TaskQueueStatus = p.status()
	}
	return response
}

// describeVersions is the enhanced mode. All pollers and tasks belong to the one version "": unversioned. Locked by the caller.
func (p *partition) describeVersions(
	request *workflowservice.DescribeTaskQueueRequest, others []*matchingpb.SyncPartitionResponse,
) *workflowservice.DescribeTaskQueueResponse {
	now := p.service.now()
	info := &taskqueuepb.TaskQueueTypeInfo{}
	if request.GetReportPollers() {
		info.Pollers = p.allPollers(others, now)
	}
	if request.GetReportStats() {
		info.Stats, _ = p.stats(others, now)
	}
	return &workflowservice.DescribeTaskQueueResponse{
		VersionsInfo: map[string]*taskqueuepb.TaskQueueVersionInfo{
			"": {TypesInfo: map[int32]*taskqueuepb.TaskQueueTypeInfo{int32(p.key.Type): info}},
		},
	}
}

// effectiveRateLimit is that of the whole queue. Without anybody's limit it is the system's cap on each partition, all together.
func (p *partition) effectiveRateLimit() *workflowservice.DescribeTaskQueueResponse_EffectiveRateLimit {
	rate, source := p.settings.queueRate(p.worker)
	if math.IsInf(rate, 1) {
		read, _ := p.settings.counts(p.service.config.Partitions)
		rate, source = p.service.config.DispatchRateMax*float64(read), enumspb.RATE_LIMIT_SOURCE_SYSTEM
	}
	return &workflowservice.DescribeTaskQueueResponse_EffectiveRateLimit{
		RequestsPerSecond: float32(rate), RateLimitSource: source,
	}
}

// stats are exact, but for what is still being counted after a restart. Locked by the caller.
func (p *partition) stats(
	others []*matchingpb.SyncPartitionResponse, now time.Time,
) (*taskqueuepb.TaskQueueStats, map[int32]*taskqueuepb.TaskQueueStats) {
	total := &taskqueuepb.TaskQueueStats{}
	byLevel := make(map[int32]*taskqueuepb.TaskQueueStats)
	for level := int16(1); level <= levelMax; level++ {
		parts := []*matchingpb.PartitionStats{p.levelStats(level, now)}
		for _, other := range others {
			parts = append(parts, other.GetStats()[int32(level)])
		}
		if stats := sumStats(parts, now); stats != nil || level == levelDefault {
			if stats == nil {
				stats = &taskqueuepb.TaskQueueStats{}
			}
			byLevel[int32(level)] = stats
			addStats(total, stats)
		}
	}
	for _, stats := range byLevel {
		if stats.ApproximateBacklogAge == nil {
			stats.ApproximateBacklogAge = durationpb.New(0)
		}
	}
	if total.ApproximateBacklogAge == nil {
		total.ApproximateBacklogAge = durationpb.New(0)
	}
	return total, byLevel
}

// sumStats sums one level over partitions; nil: none has anything to tell.
func sumStats(parts []*matchingpb.PartitionStats, now time.Time) *taskqueuepb.TaskQueueStats {
	var sum *taskqueuepb.TaskQueueStats
	for _, part := range parts {
		if part == nil {
			continue
		}
		if sum == nil {
			sum = &taskqueuepb.TaskQueueStats{}
		}
		one := &taskqueuepb.TaskQueueStats{
			ApproximateBacklogCount: part.GetBacklog(),
			TasksAddRate:            float32(part.GetAddedPerSecond()),
			TasksDispatchRate:       float32(part.GetDispatchedPerSecond()),
			RateLimitingActive:      part.GetLimited(),
		}
		if part.GetOldest() != nil {
			one.ApproximateBacklogAge = durationpb.New(max(now.Sub(part.GetOldest().AsTime()), 0))
		}
		addStats(sum, one)
	}
	return sum
}

// addStats adds one to a sum: of ages the larger, of conditions whether any holds.
func addStats(sum, one *taskqueuepb.TaskQueueStats) {
	sum.ApproximateBacklogCount += one.GetApproximateBacklogCount()
	sum.TasksAddRate += one.GetTasksAddRate()
	sum.TasksDispatchRate += one.GetTasksDispatchRate()
	sum.RateLimitingActive = sum.GetRateLimitingActive() || one.GetRateLimitingActive()
	if sum.GetApproximateBacklogAge().AsDuration() <= one.GetApproximateBacklogAge().AsDuration() && one.ApproximateBacklogAge != nil {
		sum.ApproximateBacklogAge = one.ApproximateBacklogAge
	}
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
	ctx context.Context, req *matchingpb.ListTaskQueuePartitionsRequest,
) (*workflowservice.ListTaskQueuePartitionsResponse, error) {
	workflows, err := s.listPartitions(ctx, req, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return nil, err
	}
	activities, err := s.listPartitions(ctx, req, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
	if err != nil {
		return nil, err
	}
	return &workflowservice.ListTaskQueuePartitionsResponse{
		WorkflowTaskQueuePartitions: workflows, ActivityTaskQueuePartitions: activities,
	}, nil
}

func (s *Service) listPartitions(
	ctx context.Context, req *matchingpb.ListTaskQueuePartitionsRequest, typ enumspb.TaskQueueType,
) ([]*taskqueuepb.TaskQueuePartitionMetadata, error) {
	address := &matchingpb.Partition{
		NamespaceId: req.GetNamespaceId(), TaskQueue: req.GetRequest().GetTaskQueue().GetName(),
		Type: typ, Kind: enumspb.TASK_QUEUE_KIND_NORMAL,
	}
	key, err := keyOf(address)
	if err != nil {
		return nil, err
	}
	p := newPartition(s, key, s.now()) // only to read what is stored
	stored, err := p.readSettings(ctx)
	if err != nil {
		return nil, p.settingsFailed("read", err)
	}
	read, _ := stored.counts(s.config.Partitions)
	list := make([]*taskqueuepb.TaskQueuePartitionMetadata, read)
	for number := range read {
		owner := s.hostName
		if s.ownerHost != nil {
			address.Number = number
			owner = s.ownerHost(address)
		}
		list[number] = &taskqueuepb.TaskQueuePartitionMetadata{Key: taskqueue.Name(address.TaskQueue, number), OwnerHostName: owner}
	}
	return list, nil
}
