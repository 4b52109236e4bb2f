package history

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the pauses between tries: doubled each time from retryMin to retryMax, jittered by half so that what failed
// together does not come back together.
type backoff struct {
	tries int
	max   time.Duration // 0: retryMax
}

func (b *backoff) next() time.Duration {
	d := b.max
	if d == 0 {
		d = retryMax
	}
	if b.tries < 16 {
		d = min(retryMin<<b.tries, d)
	}
	b.tries++
	return d/2 + rand.N(d/2)
}

// sleep waits; false: the context ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// waitTime is how long a call may wait for something, at most, so that its answer still reaches a caller with a deadline.
func waitTime(ctx context.Context, most time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return most
	}
	left := max(time.Until(deadline), 0)
	return min(most, left-min(deadlineMargin, left/deadlineParts))
}
