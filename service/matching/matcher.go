package matching

import (
	"container/list"
	"time"
)

// matcher decides who gets what: polls in the order of their arrival, tasks by level and within a level queries (somebody
// waits for the answer), then the backlog by key, then fresh tasks by arrival. It is not safe for concurrent use; its partition
// guards it.
type matcher struct {
	polls list.List // of *poll
	lanes [levelMax]*lane
	// limit is nil where dispatch is not limited: on sticky queues.
	limit *bucket
	// fresh and queries are the numbers of tasks that wait.
	fresh   int
	queries int
}

// lane is one priority level.
type lane struct {
	queries list.List // of *task, as the others
	backlog list.List
	fresh   list.List
	added   rate
	given   rate
}

// pair is a match.
type pair struct {
	poll *poll
	task *task
}

// matches is the result of a round of matching.
type matches struct {
	pairs []pair
	// expired tasks have left their lane and are to be finished as obsolete.
	expired []*task
	// wait is the time until the rate limit lets the next task pass; 0: no task waits for it (or the queue is paused).
	wait time.Duration
}

func (m *matcher) lane(level int16) *lane {
	l := m.lanes[level-1]
	if l == nil {
		l = &lane{}
		m.lanes[level-1] = l
	}
	return l
}

func (m *matcher) addPoll(p *poll) { p.element = m.polls.PushBack(p) }

// removePoll ends the wait of a poll. It is false if the poll does not wait any more: it has been given something.
func (m *matcher) removePoll(p *poll) bool {
	if p.element == nil {
		return false
	}
	m.polls.Remove(p.element)
	p.element = nil
	return true
}

// add lets a task wait. A task that comes back goes ahead of those that came after it.
func (m *matcher) add(t *task) {
	l := m.lane(t.level)
	switch t.source {
	case sourceQuery:
		m.queries++
		t.element = l.queries.PushBack(t)
	case sourceFresh:
		m.fresh++
		if t.startID != "" {
			t.element = l.fresh.PushFront(t)
		} else {
			t.element = l.fresh.PushBack(t)
		}
	case sourceBacklog:
		t.element = insertByKey(&l.backlog, t)
	}
}

// insertByKey keeps the backlog in the order of its keys. Rows are read in that order, so a new one goes to the end; one that
// comes back has been taken from the front, so it is looked for from there.
func insertByKey(backlog *list.List, t *task) *list.Element {
	last := backlog.Back()
	if last == nil || before(last.Value.(*task).key, t.key) {
		return backlog.PushBack(t)
	}
	e := backlog.Front()
	for before(e.Value.(*task).key, t.key) {
		e = e.Next()
	}
	return backlog.InsertBefore(t, e)
}

// remove ends the wait of a task. It is false if the task does not wait: a poll has it, or it rests.
func (m *matcher) remove(t *task) bool {
	if t.element == nil {
		return false
	}
	l := m.lane(t.level)
	switch t.source {
	case sourceQuery:
		m.queries--
		l.queries.Remove(t.element)
	case sourceFresh:
		m.fresh--
		l.fresh.Remove(t.element)
	case sourceBacklog:
		l.backlog.Remove(t.element)
	}
	t.element = nil
	return true
}

// match pairs off polls and tasks until one side, or the rate limit, is exhausted.
func (m *matcher) match(now time.Time) matches {
	var result matches
	for m.polls.Len() > 0 {
		t := m.next(now, false, &result)
		if t == nil {
			break
		}
		if t.source != sourceQuery && !m.limit.take(now) {
			result.wait = m.limit.untilNext(now)
			if t = m.next(now, true, &result); t == nil {
				break
			}
		}
		m.remove(t)
		p := m.polls.Front().Value.(*poll)
		m.removePoll(p)
		result.pairs = append(result.pairs, pair{p, t})
	}
	return result
}

// next finds the first task that is not worthless, or with onlyQueries the first query.
func (m *matcher) next(now time.Time, onlyQueries bool, result *matches) *task {
	for _, l := range m.lanes {
		if l == nil {
			continue
		}
		if front := l.queries.Front(); front != nil {
			return front.Value.(*task)
		}
		if onlyQueries {
			continue
		}
		for _, waiting := range []*list.List{&l.backlog, &l.fresh} {
			for front := waiting.Front(); front != nil; front = waiting.Front() {
				t := front.Value.(*task)
				if !t.expired(now) {
					return t
				}
				m.remove(t)
				result.expired = append(result.expired, t)
			}
		}
	}
	return nil
}

// drain takes out everything that waits.
func (m *matcher) drain() (polls []*poll, tasks []*task) {
	for e := m.polls.Front(); e != nil; e = m.polls.Front() {
		p := e.Value.(*poll)
		m.removePoll(p)
		polls = append(polls, p)
	}
	for _, l := range m.lanes {
		if l == nil {
			continue
		}
		for _, waiting := range []*list.List{&l.queries, &l.backlog, &l.fresh} {
			for e := waiting.Front(); e != nil; e = waiting.Front() {
				t := e.Value.(*task)
				m.remove(t)
				tasks = append(tasks, t)
			}
		}
	}
	return polls, tasks
}

// oldest is the create time of the oldest task that waits at the level; zero: none waits. Tasks wait roughly in the order
// of their creation, so only the first of each list is looked at.
func (l *lane) oldest() time.Time {
	var oldest time.Time
	for _, waiting := range []*list.List{&l.backlog, &l.fresh} {
		if front := waiting.Front(); front != nil {
			created := front.Value.(*task).created()
			if oldest.IsZero() || created.Before(oldest) {
				oldest = created
			}
		}
	}
	return oldest
}

// behind is true if the oldest backlog task is too old for new tasks to be matched ahead of it.
func (m *matcher) behind(now time.Time) bool {
	for _, l := range m.lanes {
		if l == nil || l.backlog.Len() == 0 {
			continue
		}
		created := l.backlog.Front().Value.(*task).created()
		if now.Sub(created) > backlogNegligible {
			return true
		}
	}
	return false
}
