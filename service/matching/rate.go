package matching

import (
	"math"
	"time"
)

// bucket is a token bucket: it holds at most the tokens of the time saved, and at least one if the rate is not zero. Rate zero
// pauses. A nil bucket does not limit. Not safe for concurrent use.
type bucket struct {
	rate   float64
	saved  time.Duration
	tokens float64
	filled time.Time
}

// newBucket starts empty: the previous owner of the queue may just have used up its tokens.
func newBucket(rate float64, saved time.Duration, now time.Time) *bucket {
	return &bucket{rate: rate, saved: saved, filled: now}
}

func (b *bucket) burst() float64 {
	if b.rate <= 0 {
		return 0
	}
	return math.Max(1, b.rate*b.saved.Seconds())
}

// setRate changes the rate at once: what has been saved up is cut to what the new rate allows.
func (b *bucket) setRate(rate float64, now time.Time) {
	if rate == b.rate {
		return
	}
	b.fill(now)
	b.rate = rate
	b.tokens = math.Min(b.tokens, b.burst())
}

func (b *bucket) fill(now time.Time) {
	if elapsed := now.Sub(b.filled).Seconds(); elapsed > 0 {
		b.tokens = math.Min(b.burst(), b.tokens+elapsed*b.rate)
		b.filled = now
	}
}

// tokenSlack forgives rounding: a wait computed in nanoseconds must find its token.
const tokenSlack = 1e-6

// whole is the number of tokens that can be taken.
func (b *bucket) whole(now time.Time) int {
	b.fill(now)
	return int(math.Floor(b.tokens + tokenSlack))
}

// take takes a token if there is one.
func (b *bucket) take(now time.Time) bool {
	if b == nil {
		return true
	}
	if b.whole(now) < 1 {
		return false
	}
	b.tokens--
	return true
}

// giveBack returns tokens that were not needed.
func (b *bucket) giveBack(n int) {
	if b != nil {
		b.tokens = math.Min(b.burst(), b.tokens+float64(n))
	}
}

// empty is true if the next task would have to wait.
func (b *bucket) empty(now time.Time) bool { return b != nil && b.whole(now) < 1 }

// until is the time until there are n tokens, or as many as there can be; 0 if the queue is paused.
func (b *bucket) until(n int, now time.Time) time.Duration {
	if b.rate <= 0 {
		return 0
	}
	b.fill(now)
	seconds := (math.Min(float64(n), b.burst()) - b.tokens) / b.rate
	if seconds > time.Hour.Seconds() {
		return time.Hour // it is looked at again then
	}
	return max(time.Duration(math.Ceil(seconds*float64(time.Second))), limitWakeMin)
}

// A rate is measured over rateWindow in steps of rateStep.
const (
	rateStep    = 5 * time.Second
	rateBuckets = 6
	rateWindow  = rateStep * rateBuckets
)

// rate counts what happened in the last rateWindow.
type rate struct {
	counts [rateBuckets]uint32
	step   int64
}

func (r *rate) advance(now time.Time) {
	step := now.UnixNano() / int64(rateStep)
	if step-r.step >= rateBuckets {
		r.counts = [rateBuckets]uint32{}
		r.step = step
	}
	for r.step < step {
		r.step++
		r.counts[r.step%rateBuckets] = 0
	}
}

func (r *rate) count(now time.Time) {
	r.advance(now)
	r.counts[r.step%rateBuckets]++
}

// perSecond is the average over the window.
func (r *rate) perSecond(now time.Time) float64 {
	r.advance(now)
	sum := 0.0
	for _, c := range r.counts {
		sum += float64(c)
	}
	return sum / rateWindow.Seconds()
}
