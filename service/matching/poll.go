package matching

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// Results of polls, as the metric names them.
const (
	pollTask   = "task"
	pollQuery  = "query"
	pollEmpty  = "empty"
	pollFailed = "failed"
	// pollForwarded: the parent partition had it, and counts it too.
	pollForwarded = "forwarded"
)

// PollWorkflowTaskQueue waits for a workflow task or a query. The response is empty when none comes in time.
func (s *Service) PollWorkflowTaskQueue(
	ctx context.Context, req *matchingpb.PollWorkflowTaskQueueRequest,
) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	request := req.GetRequest()
	got, err := s.poll(ctx, pollCall{
		partition: req.GetPartition(),
		forwarded: req.GetForwardedFrom() != nil,
		poll:      newPoll(req.GetPollId(), request.GetIdentity(), request.GetWorkerInstanceKey()),
		before:    turnFrom(req.GetBefore()),
		wait:      req.GetWait(),
		seen: pollerSeen{
			identity:     request.GetIdentity(),
			deployment:   request.GetDeploymentOptions(),
			capabilities: request.GetWorkerVersionCapabilities(),
		},
		forward: func(ctx context.Context, f forwardedPoll) (proto.Message, error) {
			return s.peers.PollWorkflowTaskQueue(ctx, &matchingpb.PollWorkflowTaskQueueRequest{
				Partition: f.to, Request: request, PollId: req.GetPollId(), ForwardedFrom: f.from,
				Before: f.before.proto(), Wait: durationpb.New(f.wait),
			})
		},
		start: func(ctx context.Context, t *task) (proto.Message, error) {
			if t.query != nil {
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
		forwarded: req.GetForwardedFrom() != nil,
		poll:      newPoll(req.GetPollId(), request.GetIdentity(), request.GetWorkerInstanceKey()),
		before:    turnFrom(req.GetBefore()),
		wait:      req.GetWait(),
		seen: pollerSeen{
			identity:     request.GetIdentity(),
			deployment:   request.GetDeploymentOptions(),
			capabilities: request.GetWorkerVersionCapabilities(),
			limits:       true,
			limit:        request.GetTaskQueueMetadata().GetMaxTasksPerSecond(),
		},
		forward: func(ctx context.Context, f forwardedPoll) (proto.Message, error) {
			return s.peers.PollActivityTaskQueue(ctx, &matchingpb.PollActivityTaskQueueRequest{
				Partition: f.to, Request: request, PollId: req.GetPollId(), ForwardedFrom: f.from,
				Before: f.before.proto(), Wait: durationpb.New(f.wait),
			})
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
	// forwarded: another partition has the poll's call.
	forwarded bool
	poll      *poll
	// before, if set, is what the poll's task must go before.
	before *turn
	// wait is how long it may wait; nil: until shortly before its deadline.
	wait *durationpb.Duration
	seen pollerSeen
	// start asks history to start the task for this poll, and returns the poll's response.
	start func(ctx context.Context, t *task) (proto.Message, error)
	// forward makes the same poll at another partition.
	forward func(context.Context, forwardedPoll) (proto.Message, error)
}

// forwardedPoll is a poll's way to another partition.
type forwardedPoll struct {
	to, from *matchingpb.Partition
	// before, if set, is what its task must go before.
	before *turn
	wait   time.Duration
}

// pollResult is what a poll got; nothing if response is nil.
type pollResult struct {
	response proto.Message
	backlog  int64
	scaling  *taskqueuepb.PollerScalingDecision
}

func (s *Service) poll(ctx context.Context, call pollCall) (pollResult, error) {
	begun := s.now()
	got, result, err := s.pollOnce(ctx, call)
	s.metrics.polls.WithLabelValues(result).Inc()
	s.metrics.pollWaits.WithLabelValues(result).Observe(s.now().Sub(begun).Seconds())
	return got, err
}

func (s *Service) pollOnce(ctx context.Context, call pollCall) (pollResult, string, error) {
	p, err := s.enter(ctx, call.partition, true)
	if err != nil {
		return pollResult{}, pollFailed, err
	}
	defer p.leave()
	if s.departed.has(call.poll.instanceKey, s.now()) {
		return pollResult{}, pollEmpty, nil
	}
	// No context is made of it: a poll that waits costs as little as it can.
	end := waitDeadline(ctx, s.now(), call)
	over := func() bool { return ctx.Err() != nil || !s.now().Before(end) }
	call.poll.before = call.before
	if call.before != nil && !p.hasBefore(*call.before) {
		return p.pollFurther(ctx, call, end)
	}
	for {
		if before := p.question(); before != nil {
			if response := p.askParent(ctx, call, before); response != nil {
				return pollResult{response: response}, pollForwarded, nil
			}
		}
		t, ended, err := p.waitHere(ctx, call, end)
		switch {
		case err != nil:
			return pollResult{}, pollFailed, err
		case t != nil:
			if response := p.start(ctx, t, call.start); response != nil {
				got, result := p.pollDone(t, call.poll, response)
				return got, result, nil
			}
		case ended || call.before != nil:
			return pollResult{}, pollEmpty, nil
		case !over(): // it has not found anything here
			response, err := p.forwardPoll(ctx, call, end, nil)
			if err == nil {
				return pollResult{response: response}, pollForwarded, nil
			}
			pause(ctx, forwardRetryDelay)
		}
		if over() {
			return pollResult{}, pollEmpty, nil
		}
	}
}

// pollFurther is what becomes of a poll that wants what goes before something and finds nothing like that here.
func (p *partition) pollFurther(ctx context.Context, call pollCall, end time.Time) (pollResult, string, error) {
	if !p.forwards() {
		return pollResult{}, pollEmpty, nil
	}
	response, err := p.forwardPoll(ctx, call, end, call.before)
	if err != nil {
		return pollResult{}, pollFailed, err
	}
	return pollResult{response: response}, pollForwarded, nil
}

// waitDeadline is when a long poll ends: early enough for an empty response to arrive.
func waitDeadline(ctx context.Context, now time.Time, call pollCall) time.Time {
	margin, end := deadlineMargin, now.Add(pollWaitMax)
	if call.forwarded {
		margin = forwardMargin
	}
	if call.wait != nil {
		end = now.Add(min(call.wait.AsDuration(), pollWaitMax))
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-margin).Before(end) {
		end = deadline.Add(-margin)
	}
	return end
}

// waitHere joins the line of polls until there is a task. Ended: the poll was canceled. Neither: the time is over, which on a
// partition with a parent may be at once.
func (p *partition) waitHere(ctx context.Context, call pollCall, end time.Time) (t *task, ended bool, err error) {
	if err := p.join(call); err != nil {
		return nil, false, err
	}
	hold := end.Sub(p.service.now())
	var released <-chan struct{}
	if p.forwards() {
		var here time.Duration
		here, released = p.pollHold(false)
		hold = min(hold, here)
	}
	timer := time.NewTimer(hold)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case t := <-call.poll.given:
			return t, t == nil, nil
		case <-timer.C:
			waiting = p.holdOn(timer, end, &released)
		case <-released:
			waiting = p.holdOn(timer, end, &released)
		case <-ctx.Done():
			waiting = false
		}
	}
	p.mu.Lock()
	p.seenPoll(p.service.now())
	removed := p.matcher.removePoll(call.poll)
	if removed {
		p.wantForward()
		if p.matcher.polls.Len() == 0 && p.matcher.purse.holdsKeys(p.service.now()) {
			p.fetchTokens() // they are given back
		}
	}
	p.mu.Unlock()
	if removed {
		return nil, false, nil
	}
	// It was given something at the last moment. If the client is still there, it gets it.
	t = <-call.poll.given
	return t, t == nil, nil
}

// pollHold is how long a poll waits here before it is forwarded, or again: for as long as tasks wait here that may go when the
// queue's limit allows, which ends early when released is closed, and at first, on a busy partition, for a moment.
func (p *partition) pollHold(again bool) (hold time.Duration, released <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.service.now()
	if p.wanted[queueLimit] > 0 {
		if p.held == nil {
			p.held = make(chan struct{})
		}
		return tokenWaitMax, p.held
	}
	if again || p.empties() || len(p.wanted) == 0 && p.addedPerSecond(now) < holdRate {
		return 0, nil
	}
	return forwardHold, nil // a task may come, or the token of a key
}

// holdOn is false when a poll is not to wait here any longer.
func (p *partition) holdOn(timer *time.Timer, end time.Time, released *<-chan struct{}) bool {
	if !p.forwards() {
		return false
	}
	hold, next := p.pollHold(true)
	hold = min(hold, end.Sub(p.service.now()))
	timer.Reset(hold)
	*released = next
	return hold > 0
}

// addedPerSecond is the rate at which tasks come. Locked by the caller.
func (p *partition) addedPerSecond(now time.Time) float64 {
	added := 0.0
	for _, l := range p.matcher.lanes {
		if l != nil {
			added += l.added.perSecond(now)
		}
	}
	return added
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
		if !call.forwarded {
			p.pollers.see(call.seen, now)
		}
		if p.polled != nil {
			p.polled.count(now)
		}
		if call.seen.limits && !p.key.sticky && p.noteWorkerLimit(newWorkerLimit(call.seen.limit, now)) && p.forwards() {
			p.reportDue = true
			p.fetchTokens()
		}
		if p.isRoot() && p.monitoring {
			p.wantMonitor()
		}
	}
	p.lastPoll = now
	p.matcher.addPoll(call.poll)
	p.dispatch()
	return nil
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
func (p *partition) pollDone(t *task, by *poll, response proto.Message) (got pollResult, result string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.service.now()
	p.seenPoll(now)
	result = pollTask
	if t.source == sourceQuery {
		result = pollQuery
	}
	return pollResult{response: response, backlog: p.backlogHint(), scaling: p.advise(t, by, now)}, result
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
		p.scaling = newBucket(scaleAdviceRate, time.Second, now)
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
		if oldest := l.oldest(now); !oldest.IsZero() {
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
	if key := req.GetWorkerInstanceKey(); key != "" && req.GetUnloadSticky() {
		s.departed.note(key, s.now()) // what it has under way ends when it arrives
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
		for number := key.Partition; number == 0 || !key.sticky && number < s.numberMax; number++ {
			key.Partition = number
			if p := s.partitions[key]; p != nil {
				found = append(found, p)
			}
		}
	}
	return found
}
