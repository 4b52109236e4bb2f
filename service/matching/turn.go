package matching

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// Priority and fairness hold for the queue as a whole. Each partition forwards what goes before the rest of its backlog to the parent, and
// a poll that would get a task of a partition's own asks the parent first whether it has one that goes before that. So few tasks and few
// polls meet at the root while there is much of the same to do everywhere, and all that matters does.

const (
	// askInterval is how long a partition takes a parent's no for an answer, askWait how long a poll waits there for the token of a task
	// that goes first.
	askInterval = 50 * time.Millisecond
	askWait     = time.Second
	// askStride is how much a key that waits while polls ask elsewhere is thought to have been passed over with each task that these get:
	// of so many parts of its stride. It bounds how long one partition may wait for others.
	askStride = strideUnit / 16
)

// turn says how soon a task is dispatched, as far as partitions can tell each other: what goes first has the lower level and, at the same
// level, is due, its fairness key having had less than its share.
type turn struct {
	level int16
	due   bool
}

// beats is true if the first goes before the second.
func (a turn) beats(b turn) bool {
	return a.level < b.level || a.level == b.level && a.due && !b.due
}

func (a *turn) proto() *matchingpb.Turn {
	if a == nil {
		return nil
	}
	return &matchingpb.Turn{Level: int32(a.level), Due: a.due}
}

func turnFrom(p *matchingpb.Turn) *turn {
	if p == nil {
		return nil
	}
	return &turn{level: int16(p.GetLevel()), due: p.GetDue()}
}

func (m *matcher) turnOf(t *task) turn {
	return turn{level: t.level, due: t.key.Pass <= m.lane(t.level).fair.now}
}

// front is the turn of the first task that waits for nothing but a poll and the queue's limit. It is false if there is none.
func (m *matcher) front() (turn, bool) {
	for i, l := range m.lanes {
		if l == nil {
			continue
		}
		if l.queries.Len() > 0 {
			return turn{level: int16(i + 1), due: true}, true
		}
		if t := l.first(); t != nil {
			return m.turnOf(t), true
		}
	}
	return turn{}, false
}

// goesFirst is true if a task goes before all that wait.
func (m *matcher) goesFirst(t *task) bool {
	front, any := m.front()
	return !any || m.turnOf(t).beats(front)
}

// endChoosy ends the polls for which there is nothing that they want (any more).
func (m *matcher) endChoosy() {
	if m.choosy == 0 {
		return
	}
	front, any := m.front()
	for e := m.polls.Front(); e != nil; {
		p := e.Value.(*poll)
		e = e.Next()
		if p.before != nil && !(any && front.beats(*p.before)) {
			m.removePoll(p)
			p.given <- nil
		}
	}
}

// hasBefore is true if a task waits here that goes before a turn.
func (p *partition) hasBefore(other turn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	front, any := p.matcher.front()
	return any && front.beats(other)
}

// isDue is true if the task's fairness key has had less than its share here.
func (p *partition) isDue(t *task) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.matcher.turnOf(t).due
}

// question is what a poll is to ask the parent before it takes a task here: for one that goes before this turn. Nil: it need not ask.
func (p *partition) question() *turn {
	if !p.forwards() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	front, any := p.matcher.front()
	if !any || !(turn{level: 1, due: true}).beats(front) {
		return nil
	}
	now := p.service.now()
	if !p.parentFirst && now.Before(p.askAfter) {
		return nil
	}
	p.askAfter = now.Add(askInterval)
	return &front
}

// askParent makes a poll at the parent that gets only what goes before a turn. Nil: there was nothing.
func (p *partition) askParent(ctx context.Context, call pollCall, before *turn) proto.Message {
	response, err := p.forwardPoll(ctx, call, p.service.now().Add(askWait), before)
	got := err == nil && !isEmpty(response)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parentFirst = got
	if !got {
		p.askAfter = p.service.now().Add(askInterval)
		return nil
	}
	if l := p.matcher.lane(before.level); l.first() != nil {
		l.fair.dispatched(min(l.fair.now+askStride, l.first().key.Pass))
	}
	return response
}

// isEmpty is true of a poll's response without a task.
func isEmpty(response proto.Message) bool {
	r, ok := response.(interface{ GetTaskToken() []byte })
	return !ok || len(r.GetTaskToken()) == 0
}
