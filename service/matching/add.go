package matching

import (
	"context"
	"time"

	"go.temporal.io/api/serviceerror"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// Results of AddTask, as the metric names them.
const (
	addMatched    = "matched"
	addStored     = "stored"
	addStickyGone = "sticky_gone"
	addFailed     = "failed"
	// addUnmatched: another partition offered the task and keeps it.
	addUnmatched = "unmatched"
	// addRedirected: the partition empties and has passed the task on.
	addRedirected = "redirected"
)

// AddTask offers a task; see the service's definition for what the answer means. Of a task that another partition forwards it
// means only whether a poll got it: the task is never stored here.
func (s *Service) AddTask(ctx context.Context, req *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
	response, result, err := s.addTask(ctx, req)
	s.metrics.added.WithLabelValues(result).Inc()
	return response, err
}

func (s *Service) addTask(ctx context.Context, req *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, string, error) {
	if req.GetTask() == nil {
		return nil, addFailed, serviceerror.NewInvalidArgument("the task must be set")
	}
	key, err := keyOf(req.GetPartition())
	if err != nil {
		return nil, addFailed, err
	}
	// A sticky queue that this host does not know has no poller here.
	p, err := s.enter(ctx, req.GetPartition(), !key.sticky)
	if err != nil {
		return nil, addFailed, err
	}
	if p == nil {
		return &matchingpb.AddTaskResponse{StickyWorkerUnavailable: true}, addStickyGone, nil
	}
	if req.GetForwardedFrom() != nil {
		defer p.leaveQuietly()
	} else {
		defer p.leave()
	}
	counts, redirect := p.countsForAdd()
	if redirect {
		response, err := s.peers.AddTask(ctx, &matchingpb.AddTaskRequest{Partition: key.root().proto(), Task: req.GetTask()})
		if err != nil {
			return nil, addFailed, err
		}
		return response, addRedirected, nil
	}
	var result string
	if req.GetForwardedFrom() != nil {
		result, err = p.addForwarded(ctx, req.GetTask(), req.GetDue())
	} else {
		result, err = p.add(ctx, req.GetTask())
	}
	if err != nil {
		return nil, addFailed, err
	}
	return &matchingpb.AddTaskResponse{
		Matched: result == addMatched, StickyWorkerUnavailable: result == addStickyGone, Partitions: counts,
	}, result, nil
}

// countsForAdd is what who adds tasks is told of the queue's partitions; redirect: this one takes no more.
func (p *partition) countsForAdd() (counts *matchingpb.PartitionCounts, redirect bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	read, write := p.settings.counts(p.service.config.Partitions)
	if !p.key.sticky && (read > 1 || p.key.Partition > 0) {
		counts = &matchingpb.PartitionCounts{Read: read, Write: write}
	}
	return counts, p.empties()
}

// add offers a task on this partition.
func (p *partition) add(ctx context.Context, data *statepb.Task) (string, error) {
	t, result, err := p.offer(data, arrival{})
	if err != nil || result != "" {
		return result, err
	}
	if !t.offered {
		return p.spool(ctx, t)
	}
	wait := syncMatchWait
	if p.forwards() {
		wait = p.localWait(p.polled)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case o := <-t.outcome:
			return o.added()
		case <-timer.C:
			if p.key.sticky {
				continue // it waits for its worker only
			}
			if p.forwards() {
				if p.withdrawUntried(t) {
					return p.addElsewhere(ctx, t)
				}
			} else if w, err := p.storeWaiting(t); w != nil || err != nil {
				return p.awaitStored(ctx, t, w, err)
			}
			timer.Reset(syncMatchWait) // a poll has it; it may yet come back untried
		case <-ctx.Done():
			return p.addEnded(ctx, t)
		}
	}
}

// addElsewhere is what becomes of a task that no poll here wants: the parent may have one, else it is stored.
func (p *partition) addElsewhere(ctx context.Context, t *task) (string, error) {
	wait, cancel := context.WithTimeout(ctx, syncMatchWait)
	matched, _ := p.forwardTask(wait, t.data, p.isDue(t)) // after an error it is stored: started twice it is obsolete once
	cancel()
	if matched {
		return addMatched, nil
	}
	return p.spool(ctx, t)
}

// addEnded ends the wait of a caller whose context has ended.
func (p *partition) addEnded(ctx context.Context, t *task) (string, error) {
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

// addForwarded offers another partition's task here, and further up, until shortly before the caller's deadline.
func (p *partition) addForwarded(ctx context.Context, data *statepb.Task, due bool) (string, error) {
	t, result, err := p.offer(data, arrival{forwarded: true, due: due})
	if err != nil || result != "" {
		return result, err
	}
	if !t.offered {
		return addUnmatched, nil
	}
	wait := syncMatchWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = deadline.Sub(p.service.now()) - forwardMargin
	}
	if p.forwards() {
		wait = 0
	}
	timer := time.NewTimer(max(wait, 0))
	defer timer.Stop()
	for {
		select {
		case o := <-t.outcome:
			return o.added()
		case <-timer.C:
			if !p.withdrawUntried(t) {
				timer.Reset(forwardMargin / 2)
				continue
			}
			if p.forwards() {
				if matched, err := p.forwardTask(ctx, data, due); matched || err != nil {
					return addMatched, err
				}
			}
			return addUnmatched, nil
		case <-ctx.Done():
			return p.addEnded(ctx, t)
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

// arrival is how a task comes: from its adder, or forwarded, and then perhaps due there.
type arrival struct{ forwarded, due bool }

// offer lets the task wait in memory and matches it if a poll waits. A task that is not offered is to be stored at once.
func (p *partition) offer(data *statepb.Task, from arrival) (*task, string, error) {
	forwarded := from.forwarded
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
	level := levelOf(data.GetPriority().GetPriorityKey())
	if !forwarded {
		p.matcher.lane(level).added.count(now)
		p.noteLoad(now)
	}
	t := &task{source: sourceFresh, level: level, data: data, forwarded: forwarded, outcome: make(chan outcome, 1)}
	t.key = p.newKey(level, data)
	if fair := &p.matcher.lane(level).fair; from.due {
		t.key.Pass = fair.now // its key may be ahead here, for what it got from others
	}
	// A forwarded task has its turn among the tasks here, however old they are; one that goes before all of them is let in when there
	// are too many.
	switch {
	case p.key.sticky:
	case !forwarded && p.matcher.behind(level, now):
		t.ordered = true
		return t, "", nil
	case crowded && !(forwarded && p.matcher.goesFirst(t) && p.matcher.fresh < 2*p.service.config.WaitingTasksMax):
		return t, "", nil
	}
	t.offered = true
	p.matcher.add(t)
	p.dispatch()
	return t, "", nil
}

// newKey gives a task its turn among those of its level. Locked by the caller.
func (p *partition) newKey(level int16, data *statepb.Task) persistence.TaskKey {
	key := persistence.TaskKey{Level: level}
	if p.key.sticky {
		return key
	}
	fairnessKey, ofTask := data.GetPriority().GetFairnessKey(), data.GetPriority().GetFairnessWeight()
	if p.matcher.purse.keys {
		p.keyWeights.note(fairnessKey, ofTask)
	}
	key.Pass = p.matcher.lane(level).fair.pass(fairnessKey, weightOf(p.settings.weights(), fairnessKey, ofTask))
	return key
}

// withdrawUntried takes back a task that no poll has tried to start, so that it can be stored. One that was tried must keep its
// request id, which a row does not have.
func (p *partition) withdrawUntried(t *task) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return t.startID == "" && p.matcher.remove(t)
}

// spool stores a task that does not wait here.
func (p *partition) spool(ctx context.Context, t *task) (string, error) {
	w, err := p.storeTask(t)
	return p.awaitStored(ctx, t, w, err)
}

// awaitStored waits until a task is stored, or has met a poll before.
func (p *partition) awaitStored(ctx context.Context, t *task, w *pendingWrite, err error) (string, error) {
	if err != nil {
		return addFailed, err
	}
	select {
	case o := <-t.outcome:
		return o.added()
	case err := <-w.done:
		if err == nil {
			return addStored, nil
		}
		select {
		case o := <-t.outcome: // just in time
			return o.added()
		default:
			return addFailed, err
		}
	case <-ctx.Done():
		return addFailed, contextError(ctx) // it may be stored all the same; then it is there twice, which is harmless
	}
}
