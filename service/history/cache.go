package history

import (
	"container/list"
	"sync"
	"time"
)

// cache keeps account of the runs in memory. A run with the effects flag is active: it must stay until it has come to rest and
// the flag has been cleared (quiet.go). Others that nobody waits for are idle, and the longest idle ones are forgotten when
// memory is short.
type cache struct {
	mu       sync.Mutex
	bytesMax int64
	bytes    int64
	runs     int
	idle     list.List // most recently used first
	active   list.List // longest at rest first
	// wake tells the loop of quiet.go that there is an active run, or that memory is short.
	wake chan struct{}
}

func newCache(bytesMax int64) *cache {
	return &cache{bytesMax: bytesMax, wake: make(chan struct{}, 1)}
}

// settle puts a run where it belongs after it was used, under its chain's lock.
func (c *cache) settle(r *run, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.detach(r)
	bytes := r.bytes()
	if r.counted == 0 {
		c.runs++
	}
	c.bytes += bytes - r.counted
	r.counted, r.touched = bytes, now
	switch {
	case r.flagged:
		r.list, r.element = &c.active, c.active.PushBack(r)
		if c.active.Len() == 1 || c.short() && c.idle.Len() == 0 {
			c.wakeUp()
		}
	case !r.pinned():
		r.list, r.element = &c.idle, c.idle.PushFront(r)
	}
}

// remove takes a run out of the account: it has been dropped.
func (c *cache) remove(r *run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.detach(r)
	if r.counted > 0 {
		c.runs--
		c.bytes -= r.counted
		r.counted = 0
	}
}

func (c *cache) detach(r *run) {
	if r.element != nil {
		r.list.Remove(r.element)
		r.list, r.element = nil, nil
	}
}

func (c *cache) short() bool { return c.bytes > c.bytesMax }

func (c *cache) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// victim takes the longest idle run off its list if memory is short; nil: nothing to forget. Settle puts it back.
func (c *cache) victim() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.idle.Back()
	if !c.short() || e == nil {
		return nil
	}
	r := e.Value.(*run)
	c.detach(r)
	return r
}

// requeue puts a victim that is in use back among the idle runs, as the most recently used.
func (c *cache) requeue(r *run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.element == nil && r.counted > 0 {
		r.list, r.element = &c.idle, c.idle.PushFront(r)
	}
}

// rested takes up to limit active runs off their list that have been at rest for some time, or for any time if memory is
// short. Next is when there will be more; zero: not before another run becomes active.
func (c *cache) rested(now time.Time, atRest time.Duration, limit int) (runs []*run, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.short() {
		atRest = 0
	}
	for e := c.active.Front(); e != nil; e = c.active.Front() {
		r := e.Value.(*run)
		if len(runs) == limit {
			return runs, now
		}
		if due := r.touched.Add(atRest); due.After(now) {
			return runs, due
		}
		c.detach(r)
		runs = append(runs, r)
	}
	return runs, time.Time{}
}

// activeRuns lists the active runs that match. Only their keys may be looked at without their chains' locks.
func (c *cache) activeRuns(match func(*run) bool) (runs []*run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.active.Front(); e != nil; e = e.Next() {
		if r := e.Value.(*run); match(r) {
			runs = append(runs, r)
		}
	}
	return runs
}

// size is the number of cached runs and their approximate bytes.
func (c *cache) size() (runs int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs, c.bytes
}
