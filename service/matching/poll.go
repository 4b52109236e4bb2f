package matching

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// Results of polls, as the metric names them.
const (
	pollTask   = "task"
	pollQuery  = "query"
	pollEmpty  = "empty"
	pollFailed = "failed"
)

// PollWorkflowTaskQueue waits for a workflow task or a query. The response is empty when none comes in time.
func (s *Service) PollWorkflowTaskQueue(
	ctx context.Context, req *matchingpb.PollWorkflowTaskQueueRequest,
) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	request := req.GetRequest()
	got, err := s.poll(ctx, pollCall{
		partition: req.GetPartition(),
		poll:      newPoll(req.GetPollId(), request.GetIdentity(), request.GetWorkerInstanceKey()),
		seen: pollerSeen{
			identity:     request.GetIdentity(),
			deployment:   request.GetDeploymentOptions(),
			capabilities: request.GetWorkerVersionCapabilities(),
		},
		start: func(ctx context.Context, t *task) (proto.Message, error) {
			if t.source == sourceQuery {
				return s.startQuery(ctx, t, req.GetPartition())
			}
			return s.startWorkflowTask(ctx, t, req)
		},
	})
	if err != nil {
		return nil, err
	}
	response, ok := got.response.(*workflowservice.PollWorkflowTaskQueueResponse)
	if !ok {
		return &workflowservice.PollWorkflowTaskQueueResponse{}, nil
	}
	if got.backlog > 0 || got.scaling != nil {
		response = shallowCopy(response)
		response.BacklogCountHint = got.backlog
		response.PollerScalingDecision = got.scaling
	}
	return response, nil
}

// PollActivityTaskQueue waits for an activity task. The response is empty when none comes in time.
func (s *Service) PollActivityTaskQueue(
	ctx context.Context, req *matchingpb.PollActivityTaskQueueRequest,
) (*workflowservice.PollActivityTaskQueueResponse, error) {
	request := req.GetRequest()
	got, err := s.poll(ctx, pollCall{
		partition: req.GetPartition(),
		poll:      newPoll(req.GetPollId(), request.GetIdentity(), request.GetWorkerInstanceKey()),
		seen: pollerSeen{
			identity:     request.GetIdentity(),
			deployment:   request.GetDeploymentOptions(),
			capabilities: request.GetWorkerVersionCapabilities(),
			limits:       true,
			limit:        request.GetTaskQueueMetadata().GetMaxTasksPerSecond(),
		},
		start: func(ctx context.Context, t *task) (proto.Message, error) {
			return s.startActivityTask(ctx, t, req)
		},
	})
	if err != nil {
		return nil, err
	}
	response, ok := got.response.(*workflowservice.PollActivityTaskQueueResponse)
	if !ok {
		return &workflowservice.PollActivityTaskQueueResponse{}, nil
	}
	if got.scaling != nil {
		response = shallowCopy(response)
		response.PollerScalingDecision = got.scaling
	}
	return response, nil
}

// shallowCopy copies a message but not what it refers to. Responses of an in-process history are shared: it may answer a
// repeated start with the same one.
func shallowCopy[M proto.Message](m M) M {
	source := m.ProtoReflect()
	dest := source.New()
	source.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		dest.Set(field, v)
		return true
	})
	return dest.Interface().(M)
}

func newPoll(id, identity, instanceKey string) *poll {
	return &poll{id: id, identity: identity, instanceKey: instanceKey, given: make(chan *task, 1)}
}

// pollCall is one call, of either kind.
type pollCall struct {
	partition *matchingpb.Partition
	poll      *poll
	seen      pollerSeen
	// start asks history to start the task for this poll, and returns the poll's response.
	start func(ctx context.Context, t *task) (proto.Message, error)
}

// pollResult is what a poll got; nothing if response is nil.
type pollResult struct {
	response proto.Message
	backlog  int64
	scaling  *taskqueuepb.PollerScalingDecision
}

func (s *Service) poll(ctx context.Context, call pollCall) (pollResult, error) {
	p, err := s.enter(ctx, call.partition, true)
	if err != nil {
		s.metrics.polls.WithLabelValues(pollFailed).Inc()
		return pollResult{}, err
	}
	defer p.leave()
	wait, cancel := context.WithDeadline(ctx, waitDeadline(ctx, s.now()))
	defer cancel()
	for {
		t, err := p.wait(wait, call)
		if t == nil {
			result := pollEmpty
			if err != nil {
				result = pollFailed
			}
			s.metrics.polls.WithLabelValues(result).Inc()
			return pollResult{}, err
		}
		if response := p.start(ctx, t, call.start); response != nil {
			return p.pollDone(t, call.poll, response), nil
		}
		if wait.Err() != nil {
			s.metrics.polls.WithLabelValues(pollEmpty).Inc()
			return pollResult{}, nil
		}
	}
}

// waitDeadline is when a long poll ends: early enough for an empty response to arrive.
func waitDeadline(ctx context.Context, now time.Time) time.Time {
	end := now.Add(pollWaitMax)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-deadlineMargin).Before(end) {
		end = deadline.Add(-deadlineMargin)
	}
	return end
}

// wait joins the line of polls until there is a task. No task: the time is over, or the poll was canceled.
func (p *partition) wait(ctx context.Context, call pollCall) (*task, error) {
	if err := p.join(call); err != nil {
		return nil, err
	}
	select {
	case t := <-call.poll.given:
		return t, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.polled(p.service.now())
	removed := p.matcher.removePoll(call.poll)
	p.mu.Unlock()
	if removed {
		return nil, nil
	}
	// It was given something at the last moment. If the client is still there, it gets it.
	return <-call.poll.given, nil
}

func (p *partition) join(call pollCall) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errMoved()
	}
	if limit := p.service.config.WaitingPollsMax; p.matcher.polls.Len() >= limit {
		return errTooMany("polls", limit)
	}
	now := p.service.now()
	if call.poll.since.IsZero() {
		call.poll.since = now
		p.pollers.see(call.seen, now)
		p.applyWorkerLimit(call.seen, now)
	}
	p.lastPoll = now
	p.matcher.addPoll(call.poll)
	p.dispatch()
	return nil
}

// applyWorkerLimit lets the last poll decide how fast the queue dispatches, below the system's cap.
func (p *partition) applyWorkerLimit(seen pollerSeen, now time.Time) {
	if !seen.limits || p.matcher.limit == nil {
		return
	}
	rate := p.service.config.DispatchRateMax
	if seen.limit != nil && seen.limit.GetValue() < rate {
		rate = max(seen.limit.GetValue(), 0)
	}
	p.matcher.limit.setRate(rate, now)
}

// A poll's response may advise the worker to poll more or less.
const (
	// scaleDownWait is how long a poll waited in vain before its worker has one poller too many.
	scaleDownWait = time.Second
	// scaleUpAge is the age of a waiting task from which a worker should have one more poller.
	scaleUpAge = 200 * time.Millisecond
	// scaleUpRatio is how much faster tasks come in than go out when pollers are missing.
	scaleUpRatio = 1.2
	// scaleAdviceRate is how many such pieces of advice a partition gives per second.
	scaleAdviceRate = 10
)

// backlogHint is what a worker is told of the tasks that wait. Of a sticky queue it is told nothing: SDKs turn all their polls to
// a sticky queue that has a backlog, and the answers of several polls arrive in any order, so a number that is out of date by
// then would leave the normal queue without a poll until all of them have ended.
func (p *partition) backlogHint() int64 {
	if p.key.sticky {
		return 0
	}
	return p.totalSize()
}

// pollDone completes a response with what matching knows.
func (p *partition) pollDone(t *task, by *poll, response proto.Message) pollResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.service.now()
	p.polled(now)
	result := pollTask
	if t.source == sourceQuery {
		result = pollQuery
	}
	p.service.metrics.polls.WithLabelValues(result).Inc()
	return pollResult{response: response, backlog: p.backlogHint(), scaling: p.advise(t, by, now)}
}

// advise is the scaling advice of a response. Locked by the caller.
func (p *partition) advise(t *task, by *poll, now time.Time) *taskqueuepb.PollerScalingDecision {
	var delta int32
	switch {
	case t.source != sourceBacklog && by.waited >= scaleDownWait:
		delta = -1
	case p.oldestAge(now) > scaleUpAge || p.fallsBehind(now):
		delta = 1
	default:
		return nil
	}
	if p.scaling == nil {
		p.scaling = newBucket(scaleAdviceRate, now)
		p.scaling.tokens = scaleAdviceRate
	}
	if !p.scaling.take(now) {
		return nil
	}
	return &taskqueuepb.PollerScalingDecision{PollRequestDeltaSuggestion: delta}
}

// oldestAge is the age of the oldest waiting task. Locked by the caller.
func (p *partition) oldestAge(now time.Time) time.Duration {
	var age time.Duration
	for _, l := range p.matcher.lanes {
		if l == nil {
			continue
		}
		if oldest := l.oldest(); !oldest.IsZero() {
			age = max(age, now.Sub(oldest))
		}
	}
	return age
}

// fallsBehind compares how fast tasks come and go. Locked by the caller.
func (p *partition) fallsBehind(now time.Time) bool {
	var added, given float64
	for _, l := range p.matcher.lanes {
		if l != nil {
			added += l.added.perSecond(now)
			given += l.given.perSecond(now)
		}
	}
	return p.totalSize() > 0 && added > scaleUpRatio*given
}

// CancelPolls ends polls with an empty response: those of the partition, and for a sticky partition also those of its
// normal queue, that have the poll id or belong to the worker. A worker is known by its instance key, or else its identity.
func (s *Service) CancelPolls(_ context.Context, req *matchingpb.CancelPollsRequest) (*matchingpb.CancelPollsResponse, error) {
	address := req.GetPartition()
	if _, err := keyOf(address); err != nil {
		return nil, err
	}
	for _, p := range s.pollsOf(address) {
		p.cancelPolls(func(poll *poll) bool { return belongs(poll, req) })
		if req.GetUnloadSticky() && p.key.sticky {
			p.unloadSticky()
		}
	}
	return &matchingpb.CancelPollsResponse{}, nil
}

func belongs(poll *poll, req *matchingpb.CancelPollsRequest) bool {
	switch {
	case req.GetPollId() != "":
		return poll.id == req.GetPollId()
	case req.GetWorkerInstanceKey() != "":
		return poll.instanceKey == req.GetWorkerInstanceKey()
	default:
		return req.GetIdentity() != "" && poll.identity == req.GetIdentity()
	}
}

// pollsOf finds the loaded partitions in which polls of the address may wait.
func (s *Service) pollsOf(address *matchingpb.Partition) []*partition {
	key, _ := keyOf(address)
	keys := []queueKey{key}
	if key.sticky && address.GetNormalName() != "" {
		normal := key
		normal.sticky = false
		normal.TaskQueue = address.GetNormalName()
		for _, typ := range []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY} {
			normal.Type = int16(typ)
			keys = append(keys, normal)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*partition
	for _, key := range keys {
		if p := s.partitions[key]; p != nil {
			found = append(found, p)
		}
	}
	return found
}
