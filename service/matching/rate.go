package matching

import (
	"math"
	"time"
)

// bucket is a token bucket: it holds at most the tokens of one second, and at least one if the rate is not zero. Rate zero
// pauses. A nil bucket does not limit. Not safe for concurrent use.
type bucket struct {
	rate   float64
	tokens float64
	filled time.Time
	// lowered: the rate was lowered before.
	lowered bool
}

// newBucket starts empty: the previous owner of the queue may just have used up its tokens.
func newBucket(rate float64, now time.Time) *bucket {
	return &bucket{rate: rate, filled: now}
}

func burst(rate float64) float64 {
	if rate <= 0 {
		return 0
	}
	return math.Max(1, rate)
}

// setRate changes the rate at once: what has been saved up is cut to what one second of the new rate allows. The first rate
// below the initial one finds nothing saved up: the previous owner may have dispatched just now under the same limit. Later
// ones do, or workers that disagree would starve the queue.
func (b *bucket) setRate(rate float64, now time.Time) {
	if rate == b.rate {
		return
	}
	b.fill(now)
	lower := rate < b.rate
	b.rate = rate
	b.tokens = math.Min(b.tokens, burst(rate))
	if !b.lowered && lower {
		b.lowered, b.tokens = true, 0
	}
}

func (b *bucket) fill(now time.Time) {
	if elapsed := now.Sub(b.filled).Seconds(); elapsed > 0 {
		b.tokens = math.Min(burst(b.rate), b.tokens+elapsed*b.rate)
	}
	b.filled = now
}

// tokenSlack forgives rounding: a wait computed in nanoseconds must find its token.
const tokenSlack = 1e-6

// take takes a token if there is one.
func (b *bucket) take(now time.Time) bool {
	if b == nil {
		return true
	}
	b.fill(now)
	if b.tokens < 1-tokenSlack {
		return false
	}
	b.tokens--
	return true
}

// giveBack returns the token of a task that turned out to be obsolete.
func (b *bucket) giveBack() {
	if b != nil {
		b.tokens = math.Min(burst(b.rate), b.tokens+1)
	}
}

// empty is true if the next task would have to wait.
func (b *bucket) empty(now time.Time) bool {
	if b == nil {
		return false
	}
	b.fill(now)
	return b.tokens < 1-tokenSlack
}

// untilNext is the time until there is a token; 0 if the queue is paused.
func (b *bucket) untilNext(now time.Time) time.Duration {
	if b.rate <= 0 {
		return 0
	}
	b.fill(now)
	seconds := (1 - b.tokens) / b.rate
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
