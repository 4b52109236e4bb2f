package history

import (
	"math/rand/v2"
	"time"
)

// backoff is the pauses between tries: doubled each time from retryMin to retryMax, jittered by half so that what failed
// together does not come back together.
type backoff struct{ tries int }

func (b *backoff) next() time.Duration {
	d := retryMax
	if b.tries < 16 {
		d = min(retryMin<<b.tries, retryMax)
	}
	b.tries++
	return d/2 + rand.N(d/2)
}
