package matching

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/taskqueue"
)

// What finds no match on a partition goes to its parent: a poll waits there, and so does a task, but the task's row or caller
// stays where it is. So on a quiet queue everything meets at the root, and on a busy one nearly everything meets where it came.

const (
	// forwardHold is how long a poll or task of a busy partition waits for its counterpart before it is forwarded. On a partition
	// that is not busy, as told by holdRate, it does not.
	forwardHold = 10 * time.Millisecond
	holdRate    = 100 // per second
	// forwardTasksMax is how many stored tasks of a partition wait at its parent at a time while nobody polls here; while somebody
	// does (within forwardPolled) it is one, which tells the parent of the backlog, unless polls take them there at once.
	forwardTasksMax = 16
	forwardPolled   = time.Second
	// Where fairness keys are limited there are more of them, forwardKeysMax, at most forwardKeyMax of one key, and they come back
	// after forwardKeysWait: those of a key beyond its limit are not to keep those of others from the parent.
	forwardKeysMax  = 64
	forwardKeyMax   = 2
	forwardKeysWait = 2 * time.Second
	// forwardWait is how long a stored task waits at the parent. forwardMargin is how long before its end the parent answers.
	forwardWait   = 30 * time.Second
	forwardMargin = 50 * time.Millisecond
	// forwardGrace is how much longer than a forwarded poll its call may take.
	forwardGrace = 1500 * time.Millisecond
	// forwardRetryDelay is the pause after an attempt that failed or was refused.
	forwardRetryDelay = 100 * time.Millisecond
	// refusalsMax is how often that pause doubles while the parent refuses stored tasks: too many wait there.
	refusalsMax = 4
)

// forwards is true if the partition has a parent.
func (p *partition) forwards() bool { return p.key.Partition > 0 && !p.key.sticky }

// parent is the address of the parent.
func (p *partition) parent() *matchingpb.Partition {
	key := p.key
	key.Partition = taskqueue.Parent(key.Partition)
	return key.proto()
}

// empties is true if the partition takes no more tasks: what is added goes to the root. Locked by the caller.
func (p *partition) empties() bool {
	_, write := p.settings.counts(p.service.config.Partitions)
	return p.forwards() && p.key.Partition >= write
}

// localWait is how long something waits here before it is forwarded, by the rate at which its counterparts come.
func (p *partition) localWait(counterparts *rate) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.empties() || counterparts.perSecond(p.service.now()) < holdRate {
		return 0
	}
	return forwardHold
}

// forwardTask offers a task at the parent until the context's deadline. An error leaves open whether a poll got it.
func (p *partition) forwardTask(ctx context.Context, data *statepb.Task, due bool) (matched bool, err error) {
	p.service.metrics.forwarded.WithLabelValues("task").Inc()
	response, err := p.service.peers.AddTask(ctx, &matchingpb.AddTaskRequest{
		Partition: p.parent(), Task: data, ForwardedFrom: p.key.proto(), Due: due,
	})
	return response.GetMatched(), err
}

// forwardPoll waits at the parent until end. The response is that of a task which has been started for the poll, or empty. A poll that
// ends early ends everywhere. before, if set, is what the task must go before. The call itself may take longer, by forwardGrace: a task
// that the poll gets at the last moment is still to be started, and an answer that finds nobody is a task lost.
func (p *partition) forwardPoll(ctx context.Context, call pollCall, end time.Time, before *turn) (proto.Message, error) {
	ctx, cancel := context.WithDeadline(ctx, end.Add(forwardGrace))
	defer cancel()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errMoved()
	}
	if p.away == nil {
		p.away = make(map[*poll]struct{})
	}
	p.away[call.poll] = struct{}{}
	p.mu.Unlock()
	p.service.metrics.forwarded.WithLabelValues("poll").Inc()
	response, err := call.forward(ctx, forwardedPoll{to: p.parent(), from: p.key.proto(), before: before, wait: end.Sub(p.service.now())})
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.away, call.poll)
	if len(p.away) == 0 {
		p.away = nil
	}
	p.seenPoll(p.service.now())
	return response, err
}

// callBack ends the polls that wait at the parent: this partition is being given up. Their calls end with what the parent says, so
// that nothing that was started for them is lost. Locked by the caller.
func (p *partition) callBack() {
	for away := range p.away {
		if away.id == "" {
			continue
		}
		p.service.spawn(func() {
			ctx, cancel := context.WithTimeout(p.service.ctx, stopTimeout)
			defer cancel()
			// If it fails the poll ends with its time.
			_, _ = p.service.peers.CancelPolls(ctx, &matchingpb.CancelPollsRequest{Partition: p.parent(), PollId: away.id})
		})
	}
}

// wantForward has stored tasks wait at the parent while no poll waits here. Locked by the caller.
func (p *partition) wantForward() {
	if !p.forwards() || p.closed {
		return
	}
	for p.matcher.polls.Len() == 0 {
		t := p.firstStored()
		if t == nil || p.forwarding >= p.forwardsMax() && !p.goesAhead(t) {
			return
		}
		due := p.matcher.turnOf(t).due
		p.takeOut(t)
		ctx := p.life()
		wait := forwardWait
		if p.matcher.purse.keys {
			wait = forwardKeysWait
		}
		p.service.spawn(func() { p.forwardStored(ctx, t, due, wait) })
	}
}

func (p *partition) forwardsMax() int {
	if p.matcher.purse.keys {
		return forwardKeysMax
	}
	if p.parentHungry {
		return forwardTasksMax
	}
	if p.refusals > 0 || !p.lastPoll.IsZero() && p.service.now().Sub(p.lastPoll) < forwardPolled {
		return 1
	}
	return forwardTasksMax
}

// goesAhead is true if a task goes before all that wait at the parent already. Locked by the caller.
func (p *partition) goesAhead(t *task) bool {
	if p.forwarding >= forwardKeysMax {
		return false
	}
	for _, n := range p.forwardedLevels[:t.level-1] {
		if n > 0 {
			return false
		}
	}
	return p.forwardedLevels[t.level-1] == 0 || p.matcher.turnOf(t).due && p.forwardedKeys[t.fairnessKey()] == 0
}

// firstStored is the first stored task that may be forwarded; nil: there is none. Where keys are limited, only some tasks of a key wait
// at the parent at a time: they may wait for long, and others are not to wait behind them. Locked by the caller.
func (p *partition) firstStored() *task {
	for _, l := range p.matcher.lanes {
		if l == nil {
			continue
		}
		for t := l.backlog.first(); t != nil; t = l.backlog.first() {
			if p.matcher.purse.keys && p.forwardedKeys[t.fairnessKey()] >= forwardKeyMax {
				l.park(t)
				continue
			}
			return t
		}
		for key, parked := range l.parked {
			if t := parked.first(); t.source == sourceBacklog && p.forwardedKeys[key] < forwardKeyMax {
				return t
			}
		}
	}
	return nil
}

// takeOut takes a stored task out of the line to forward it. Locked by the caller.
func (p *partition) takeOut(t *task) {
	p.matcher.remove(t)
	p.level(t).waiting--
	if p.forwardedKeys == nil {
		p.forwardedKeys = make(map[string]int)
	}
	p.forwarding++
	p.forwardedLevels[t.level-1]++
	p.forwardedKeys[t.fairnessKey()]++
}

// forwardStored offers a stored task at the parent. If no poll gets it there, it is back in the line.
func (p *partition) forwardStored(ctx context.Context, t *task, due bool, longest time.Duration) {
	begun := p.service.now()
	wait, cancel := context.WithTimeout(ctx, longest)
	matched := false
	if t.data != nil { // else it cannot be sent; a poll here finds out
		matched, _ = p.forwardTask(wait, t.data, due)
	}
	cancel()
	hungry := matched && p.service.now().Sub(begun) < 2*forwardHold
	refused := !matched && p.service.now().Sub(begun) < longest/2
	p.mu.Lock()
	p.parentHungry = hungry
	if !refused {
		p.refusals = 0
	}
	delay := forwardRetryDelay << p.refusals
	if refused {
		p.refusals = min(p.refusals+1, refusalsMax)
	}
	p.mu.Unlock()
	if refused {
		pause(ctx, delay)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forwarding--
	p.forwardedLevels[t.level-1]--
	if p.forwardedKeys[t.fairnessKey()]--; p.forwardedKeys[t.fairnessKey()] == 0 {
		delete(p.forwardedKeys, t.fairnessKey())
	}
	switch {
	case p.closed:
	case matched:
		p.done(t)
		p.matcher.lane(t.level).fair.dispatched(t.key.Pass)
		p.wantRead()
		p.wantForward()
	default:
		p.level(t).waiting++
		p.matcher.add(t)
		p.dispatch()
	}
}

// life is a context that ends when the partition is given up. Locked by the caller.
func (p *partition) life() context.Context {
	if p.lifetime == nil {
		p.lifetime, p.endLife = context.WithCancel(p.service.ctx)
	}
	return p.lifetime
}
