package matching

import (
	"context"
	"time"

	"go.temporal.io/api/serviceerror"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
)

// Results of AddTask, as the metric names them.
const (
	addMatched    = "matched"
	addStored     = "stored"
	addStickyGone = "sticky_gone"
	addFailed     = "failed"
)

// AddTask offers a task; see the service's definition for what the answer means.
func (s *Service) AddTask(ctx context.Context, req *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
	result, err := s.addTask(ctx, req)
	s.metrics.added.WithLabelValues(result).Inc()
	if err != nil {
		return nil, err
	}
	return &matchingpb.AddTaskResponse{
		Matched:                 result == addMatched,
		StickyWorkerUnavailable: result == addStickyGone,
	}, nil
}

func (s *Service) addTask(ctx context.Context, req *matchingpb.AddTaskRequest) (string, error) {
	if req.GetTask() == nil {
		return addFailed, serviceerror.NewInvalidArgument("the task must be set")
	}
	key, err := keyOf(req.GetPartition())
	if err != nil {
		return addFailed, err
	}
	// A sticky queue that this host does not know has no poller here.
	p, err := s.enter(ctx, req.GetPartition(), !key.sticky)
	if err != nil {
		return addFailed, err
	}
	if p == nil {
		return addStickyGone, nil
	}
	defer p.leave()
	return p.add(ctx, req.GetTask())
}

// add offers a task on this partition.
func (p *partition) add(ctx context.Context, data *statepb.Task) (string, error) {
	level := levelOf(data.GetPriority().GetPriorityKey())
	t, result, err := p.offer(level, data)
	if err != nil || result != "" {
		return result, err
	}
	if t == nil {
		return p.spool(ctx, level, data)
	}
	timer := time.NewTimer(syncMatchWait)
	defer timer.Stop()
	for {
		select {
		case o := <-t.outcome:
			return o.added()
		case <-timer.C:
			if p.key.sticky {
				continue // it waits for its worker only
			}
			if p.withdrawUntried(t) {
				return p.spool(ctx, level, data)
			}
			timer.Reset(syncMatchWait) // a poll has it; it may yet come back untried
		case <-ctx.Done():
			if p.withdraw(t) {
				return addFailed, contextError(ctx)
			}
			select {
			case o := <-t.outcome: // it was decided just now
				return o.added()
			default:
				return addFailed, contextError(ctx)
			}
		}
	}
}

func (o outcome) added() (string, error) {
	switch o {
	case outcomeDone:
		return addMatched, nil
	case outcomeStickyGone:
		return addStickyGone, nil
	default:
		return addFailed, errMoved()
	}
}

// offer lets the task wait in memory and matches it if a poll waits. Without a task and result, it is to be stored at once.
func (p *partition) offer(level int16, data *statepb.Task) (*task, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, addFailed, errMoved()
	}
	now := p.service.now()
	crowded := p.matcher.fresh >= p.service.config.WaitingTasksMax
	switch {
	case p.key.sticky && !p.workerAlive(now):
		return nil, addStickyGone, nil
	case p.key.sticky && crowded:
		return nil, addFailed, errTooMany("tasks", p.service.config.WaitingTasksMax)
	}
	p.matcher.lane(level).added.count(now)
	if !p.key.sticky && (crowded || p.matcher.behind(now)) {
		return nil, "", nil
	}
	t := &task{source: sourceFresh, level: level, data: data, outcome: make(chan outcome, 1)}
	p.matcher.add(t)
	p.dispatch()
	return t, "", nil
}

// withdrawUntried takes back a task that no poll has tried to start, so that it can be stored. One that was tried must keep its
// request id, which a row does not have.
func (p *partition) withdrawUntried(t *task) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return t.startID == "" && p.matcher.remove(t)
}

func (p *partition) spool(ctx context.Context, level int16, data *statepb.Task) (string, error) {
	if err := p.store(ctx, level, data); err != nil {
		return addFailed, err
	}
	return addStored, nil
}
