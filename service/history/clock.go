package history

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// clock is the host's time: its monotonic clock, set by the database's, so that hosts agree and a step of the wall clock moves
// nothing.
type clock struct {
	fixed func() time.Time // replaces all of it

	mu sync.RWMutex
	at time.Time // the database's time …
	on time.Time // … when this host's clock (with its monotonic reading) showed this
}

func newClock(fixed func() time.Time) *clock {
	now := time.Now()
	return &clock{fixed: fixed, at: now.Round(0), on: now}
}

func (c *clock) now() time.Time {
	if c.fixed != nil {
		return c.fixed()
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.at.Add(time.Since(c.on))
}

// set measures the database's clock; the answer is taken to be from the middle of the call.
func (c *clock) set(ctx context.Context, read func(context.Context) (time.Time, error)) error {
	if c.fixed != nil {
		return nil
	}
	before := time.Now()
	at, err := read(ctx)
	if err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	c.correct(at, before.Add(time.Since(before)/2))
	return nil
}

// correct sets the clock to a time of the database's that was measured when this host's clock showed on, and returns by how much
// that moves it. What is within the error of a measurement moves nothing.
func (c *clock) correct(at, on time.Time) (by time.Duration) {
	if c.fixed != nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	by = at.Sub(c.at.Add(on.Sub(c.on)))
	if by.Abs() < clockTolerance {
		return 0
	}
	c.at, c.on = at.Round(0).UTC(), on
	return by
}

// SetClock tells the service that the database's clock showed one time when this host's (with its monotonic reading) showed the
// other. Membership measures it at each renewal: a host that was suspended finds its time again.
func (s *Service) SetClock(database, local time.Time) {
	if s.clock.correct(database, local) != 0 {
		s.timers.review()
	}
}
