package frontend

import "time"

// bucket is a token bucket that keeps a part of its burst for the more important calls. It has no lock and no goroutine.
//
// A call of priority p takes a token only if p times reserveShare of the burst stays behind. So calls of the lowest priority are refused
// first, and as long as the more important ones alone reach the rate, no other gets through. Below the rate the reserve
// is always there, and priorities change nothing.
type bucket struct {
	rate   float64 // tokens per second; 0: no limit
	burst  float64
	tokens float64
	at     time.Time // when tokens was right
}

// reserveShare is what part of a limit each step of priority leaves to those before it.
const reserveShare = 0.1

func newBucket(rate, burst float64, now time.Time) bucket {
	burst = max(1, burst) // else not even one call could pass
	return bucket{rate: rate, burst: burst, tokens: burst, at: now}
}

// allows tells whether a call of a priority may take a token now. Nothing is taken.
func (b *bucket) allows(p priority, now time.Time) bool {
	if b.rate == 0 {
		return true
	}
	b.fill(now)
	// The first token is anybody's, or a bucket of one token would serve only the highest priority.
	return b.tokens-1 >= (b.burst-1)*reserveShare*float64(p)
}

// take takes the token that allows has promised.
func (b *bucket) take() { b.tokens-- }

// full tells whether the bucket is as it was when it was made.
func (b *bucket) full(now time.Time) bool {
	b.fill(now)
	return b.rate == 0 || b.tokens == b.burst
}

func (b *bucket) fill(now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens, b.at = min(b.burst, b.tokens+passed.Seconds()*b.rate), now
	}
}
