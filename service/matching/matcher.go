package matching

import (
	"container/list"
	"time"
)

// matcher decides who gets what: polls in the order of their arrival, tasks by level, within a level queries first (somebody
// waits for the answer), then by pass, at one pass the backlog by id before fresh tasks by arrival. It is not safe for concurrent
// use; its partition guards it.
type matcher struct {
	polls list.List // of *poll
	// choosy is the number of polls that want only what goes before something.
	choosy int
	lanes  [levelMax]*lane
	// cap is the system's: nil where dispatch is not limited, on sticky queues. It does not count where the queue has a limit.
	cap   *bucket
	purse purse
	// fresh and queries are the numbers of tasks that wait, but for fresh ones that are being stored; arrivals numbers the fresh ones.
	fresh    int
	queries  int
	arrivals int64
}

// lane is one priority level.
type lane struct {
	queries list.List // of *task
	backlog taskHeap
	fresh   taskHeap
	// parked are tasks, by fairness key, that wait for a token of their key.
	parked map[string]*taskHeap
	fair   fairness
	added  rate
	given  rate
	// oldestTime is the result of oldest at oldestAt.
	oldestTime time.Time
	oldestAt   time.Time
}

// oldestKept is for how long the age of the oldest task is remembered: to find it takes a look at all that are in memory.
const oldestKept = 100 * time.Millisecond

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
	// wait is the time until the system's cap lets the next task pass; 0: no task waits for it.
	wait time.Duration
	// wanted are the tokens, by limit, for want of which tasks wait although there is a poll.
	wanted map[string]int
}

func (m *matches) want(name string, n int) {
	if m.wanted == nil {
		m.wanted = make(map[string]int)
	}
	m.wanted[name] = n
}

func (m *matcher) lane(level int16) *lane {
	l := m.lanes[level-1]
	if l == nil {
		l = &lane{}
		m.lanes[level-1] = l
	}
	return l
}

func (m *matcher) addPoll(p *poll) {
	p.element = m.polls.PushBack(p)
	if p.before != nil {
		m.choosy++
	}
}

// removePoll ends the wait of a poll. It is false if the poll does not wait any more: it has been given something.
func (m *matcher) removePoll(p *poll) bool {
	if p.element == nil {
		return false
	}
	m.polls.Remove(p.element)
	p.element = nil
	if p.before != nil {
		m.choosy--
	}
	return true
}

// add lets a task wait. One that comes back finds its place: it keeps its pass and number.
func (m *matcher) add(t *task) {
	l := m.lane(t.level)
	switch t.source {
	case sourceQuery:
		m.queries++
		t.element = l.queries.PushBack(t)
		return
	case sourceFresh:
		if !t.storing {
			m.fresh++
		}
		if t.key.ID == 0 {
			m.arrivals++
			t.key.ID = m.arrivals
		}
	}
	if parked := l.parked[t.fairnessKey()]; parked != nil {
		parked.add(t)
		return
	}
	l.heapOf(t).add(t)
}

func (l *lane) heapOf(t *task) *taskHeap {
	if t.source == sourceFresh {
		return &l.fresh
	}
	return &l.backlog
}

// remove ends the wait of a task. It is false if the task does not wait: a poll has it, or it rests.
func (m *matcher) remove(t *task) bool {
	l := m.lane(t.level)
	if t.source == sourceQuery {
		if t.element == nil {
			return false
		}
		m.queries--
		l.queries.Remove(t.element)
		t.element = nil
		return true
	}
	if !t.remove() {
		return false
	}
	if t.source == sourceFresh && !t.storing {
		m.fresh--
	}
	if len(l.parked) > 0 {
		if key := t.fairnessKey(); l.parked[key] != nil && len(*l.parked[key]) == 0 {
			delete(l.parked, key)
		}
	}
	return true
}

// match pairs off polls and tasks until one side, or the limits, are exhausted.
func (m *matcher) match(now time.Time) matches {
	var result matches
	if m.polls.Len() == 0 {
		return result
	}
	m.unpark(now)
	for m.polls.Len() > 0 {
		t := m.next(now, false, &result)
		if t == nil {
			break
		}
		if t.source != sourceQuery && !m.mayDispatch(now, &result) {
			if t = m.next(now, true, &result); t == nil {
				break
			}
		}
		m.remove(t)
		m.charge(t, now)
		p := m.polls.Front().Value.(*poll)
		m.removePoll(p)
		result.pairs = append(result.pairs, pair{p, t})
	}
	m.wantKeys(&result)
	return result
}

// mayDispatch asks the limits of the whole queue.
func (m *matcher) mayDispatch(now time.Time, result *matches) bool {
	if m.purse.queue {
		if m.purse.has(queueLimit, now) {
			return true
		}
		result.want(queueLimit, m.purse.wanted(queueLimit, min(m.polls.Len(), m.ready())))
		return false
	}
	if m.cap.empty(now) {
		result.wait = m.cap.until(1, now)
		return false
	}
	return true
}

// charge takes the tokens for a task that is dispatched, and moves its level's virtual time on.
func (m *matcher) charge(t *task, now time.Time) {
	if t.source == sourceQuery {
		return
	}
	t.charged = now
	if m.purse.queue {
		m.purse.take(queueLimit)
	} else {
		m.cap.take(now)
	}
	if m.purse.keys {
		m.purse.take(keyLimit + t.fairnessKey())
	}
	m.lane(t.level).fair.dispatched(t.key.Pass)
}

// giveBack returns the tokens of a task that was not dispatched after all.
func (m *matcher) giveBack(t *task, now time.Time) {
	if t.charged.IsZero() {
		return
	}
	if m.purse.queue {
		m.purse.giveBack(queueLimit, t.charged, now)
	} else {
		m.cap.giveBack(1)
	}
	if m.purse.keys {
		m.purse.giveBack(keyLimit+t.fairnessKey(), t.charged, now)
	}
	t.charged = time.Time{}
}

// next finds the first task that is not worthless and whose key is within its limit, or with onlyQueries the first query.
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
		for t := l.first(); t != nil; t = l.first() {
			switch {
			case t.expired(now):
				m.remove(t)
				l.fair.dispatched(t.key.Pass)
				result.expired = append(result.expired, t)
			case m.purse.keys && !m.purse.has(keyLimit+t.fairnessKey(), now):
				l.park(t)
			default:
				return t
			}
		}
	}
	return nil
}

// first is the next task that is not parked.
func (l *lane) first() *task {
	stored, fresh := l.backlog.first(), l.fresh.first()
	if stored == nil || fresh != nil && fresh.key.Pass < stored.key.Pass {
		return fresh
	}
	return stored
}

// park lets a task wait for a token of its key, out of the way of others.
func (l *lane) park(t *task) {
	key := t.fairnessKey()
	parked := l.parked[key]
	if parked == nil {
		parked = &taskHeap{}
		if l.parked == nil {
			l.parked = make(map[string]*taskHeap)
		}
		l.parked[key] = parked
	}
	t.remove()
	parked.add(t)
}

// unpark brings back the tasks for which there are tokens again, or all if keys are not limited any more.
func (m *matcher) unpark(now time.Time) {
	for _, l := range m.lanes {
		if l == nil {
			continue
		}
		for key, parked := range l.parked {
			n := len(*parked)
			if m.purse.keys {
				if !m.purse.has(keyLimit+key, now) {
					continue
				}
				n = min(n, m.purse.held[keyLimit+key].n)
			}
			for range n {
				t := parked.first()
				t.remove()
				l.heapOf(t).add(t)
			}
			if len(*parked) == 0 {
				delete(l.parked, key)
			}
		}
	}
}

// wantKeys asks for tokens of the keys whose tasks are parked while polls wait.
func (m *matcher) wantKeys(result *matches) {
	polls := m.polls.Len()
	if polls == 0 || !m.purse.keys {
		return
	}
	for _, l := range m.lanes {
		if l == nil {
			continue
		}
		for key, parked := range l.parked {
			if len(result.wanted) >= wantedKeysMax {
				return
			}
			name := keyLimit + key
			result.want(name, m.purse.wanted(name, min(polls, len(*parked)+result.wanted[name])))
		}
	}
}

// ready is the number of tasks that wait for nothing but a poll and the queue's limit.
func (m *matcher) ready() int {
	n := 0
	for _, l := range m.lanes {
		if l != nil {
			n += len(l.backlog) + len(l.fresh)
		}
	}
	return n
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
		for e := l.queries.Front(); e != nil; e = l.queries.Front() {
			tasks = append(tasks, e.Value.(*task))
			m.remove(e.Value.(*task))
		}
		for _, t := range l.waiting() {
			m.remove(t)
			tasks = append(tasks, t)
		}
	}
	return polls, tasks
}

// waiting is the tasks that wait, queries excepted, in no order.
func (l *lane) waiting() []*task {
	all := make([]*task, 0, len(l.backlog)+len(l.fresh))
	all = append(append(all, l.backlog...), l.fresh...)
	for _, parked := range l.parked {
		all = append(all, *parked...)
	}
	return all
}

// freshWaiting is the number of tasks that wait in memory only. Those of other partitions are counted there.
func (l *lane) freshWaiting() int {
	n := 0
	for _, t := range l.fresh {
		if !t.forwarded {
			n++
		}
	}
	for _, parked := range l.parked {
		for _, t := range *parked {
			if t.source == sourceFresh && !t.forwarded {
				n++
			}
		}
	}
	return n
}

// oldest is the create time of the oldest task that waits at the level; zero: none waits. It may be oldestKept old.
func (l *lane) oldest(now time.Time) time.Time {
	if since := now.Sub(l.oldestAt); since >= 0 && since < oldestKept && l.backlog.first() != nil {
		return l.oldestTime
	}
	return l.oldestNow(now)
}

// oldestNow is oldest, exactly.
func (l *lane) oldestNow(now time.Time) time.Time {
	l.oldestTime, l.oldestAt = time.Time{}, now
	for _, t := range l.waiting() {
		created := t.created()
		if l.oldestTime.IsZero() || created.Before(l.oldestTime) {
			l.oldestTime = created
		}
	}
	return l.oldestTime
}

// behind is true if the backlog at this level or one that goes first is too old for new tasks to be matched beside it.
func (m *matcher) behind(level int16, now time.Time) bool {
	for _, l := range m.lanes[:level] {
		if l == nil || l.backlog.first() == nil {
			continue
		}
		if now.Sub(l.oldest(now)) > backlogNegligible {
			return true
		}
	}
	return false
}
