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
	c.mu.Lock()
	defer c.mu.Unlock()
	took := time.Since(before)
	c.at, c.on = at.Round(0).UTC(), before.Add(took/2)
	return nil
}
