package matching

import (
	"context"
	"math"
	"sync"
	"time"
)

// The rate of a queue, and of its fairness keys, holds for all partitions together: there is one bucket per limit, at the root, and
// whoever dispatches takes a token from it first. Tokens travel in small grants that expire soon.
//
// With bucketSaved and grantValid, over any window of 10 s a queue dispatches at most what its rate allows for the window, plus what
// the bucket saves, plus what is taken before the window and used in it: 10 + 5 + 5 % of one second's tokens, 2 % of the window.
// Below 10 per second windows are longer, so that these are tokens and not fractions.
const (
	// bucketSaved is how much time's tokens a bucket saves, at least one token.
	bucketSaved = 100 * time.Millisecond
	// grantValid is how long granted tokens may be used, at least grantValidTokens times the time that a token takes to come.
	grantValid       = 50 * time.Millisecond
	grantValidTokens = 0.5
	// grantMax bounds a grant to what comes in this time, at least one token. grantMin is the time whose tokens are collected
	// before they are given away, so that calls are worth it.
	grantMax = 20 * time.Millisecond
	grantMin = 4 * time.Millisecond
	// tokenWaitMax is how long a request for tokens waits.
	tokenWaitMax = 5 * time.Second
	// tokenLease is for how long after a fenced write of the root's row tokens may be given out. A successor that finds that its
	// predecessor did not say goodbye waits for as long after it took the row. Both measure with their own clocks.
	tokenLease = 4 * time.Second
	// keyBucketsMax bounds the fairness keys whose buckets are kept; full ones are forgotten first.
	keyBucketsMax = 20_000
)

// grant is tokens of one limit.
type grant struct {
	n     int
	valid time.Duration
	// unlimited: there is no such limit.
	unlimited bool
}

// tokenRequest is one asker that waits.
type tokenRequest struct {
	wanted  map[string]int
	granted map[string]grant
	// ready is closed when something is granted. The request does not wait any more then.
	ready chan struct{}
}

// limiter gives out the tokens of a queue's limits. It is the root's, safe for concurrent use, and asks nobody: what it may do is
// told to it with allow, setRates and stop.
type limiter struct {
	now   func() time.Time
	renew func() // asks for a longer lease; must not block

	mu sync.Mutex
	// queue is the queue's rate; infinite: there is none. key is that of a fairness key of weight 1.
	queue, key float64
	weight     func(fairnessKey string) float64
	buckets    map[string]*bucket
	// since is when this limiter took over: what a bucket may have saved comes from later.
	since time.Time
	// from and until are when tokens may be given out.
	from, until time.Time
	waiters     []*tokenRequest
	timer       *time.Timer
	stopped     bool
}

func newLimiter(now func() time.Time, renew func()) *limiter {
	return &limiter{
		now: now, renew: renew, since: now(), queue: math.Inf(1), key: math.Inf(1),
		weight: func(string) float64 { return 1 }, buckets: make(map[string]*bucket),
	}
}

// setRates changes the rates at once.
func (l *limiter) setRates(queue, key float64, weight func(string) float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.queue, l.key, l.weight = queue, key, weight
	for name, b := range l.buckets {
		if rate := l.rate(name); math.IsInf(rate, 1) {
			delete(l.buckets, name)
		} else {
			b.setRate(rate, now)
		}
	}
	l.distribute(now)
}

// allow says when tokens may be given out; until never goes back.
func (l *limiter) allow(from, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from.After(l.from) {
		l.from = from
	}
	if until.After(l.until) {
		l.until = until
	}
	l.distribute(l.now())
}

// restore sets what a predecessor had left when it stopped.
func (l *limiter) restore(tokens map[string]float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, n := range tokens {
		if b := l.bucket(name); b != nil {
			b.tokens = math.Min(n, b.burst())
		}
	}
}

// stop ends the gifts for good and returns what is left.
func (l *limiter) stop() map[string]float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
	for _, w := range l.waiters {
		close(w.ready)
	}
	l.waiters = nil
	left := make(map[string]float64)
	now := l.now()
	for name, b := range l.buckets {
		if len(left) < passesKeptMax || name == queueLimit {
			b.fill(now)
			left[name] = b.tokens
		}
	}
	return left
}

func (l *limiter) rate(name string) float64 {
	if name == queueLimit {
		return l.queue
	}
	return l.key * l.weight(name[len(keyLimit):])
}

// bucket is that of a limit; nil: there is no such limit.
func (l *limiter) bucket(name string) *bucket {
	if b := l.buckets[name]; b != nil {
		return b
	}
	rate := l.rate(name)
	if math.IsInf(rate, 1) {
		return nil
	}
	if len(l.buckets) >= keyBucketsMax {
		l.forget(l.now())
	}
	// As if it had been there from the beginning, unused: whoever used it since would have made it.
	since := l.since
	if l.from.After(since) {
		since = l.from
	}
	b := newBucket(rate, bucketSaved, since)
	l.buckets[name] = b
	return b
}

// forget drops buckets that are full: they come back full.
func (l *limiter) forget(now time.Time) {
	for name, b := range l.buckets {
		if b.fill(now); b.tokens >= b.burst() && name != queueLimit {
			delete(l.buckets, name)
		}
	}
}

// take waits for tokens, at most tokenWaitMax. Nothing: there were none in time.
func (l *limiter) take(ctx context.Context, wanted, returned map[string]int) (map[string]grant, error) {
	r := &tokenRequest{wanted: wanted, granted: make(map[string]grant), ready: make(chan struct{})}
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return nil, errMoved()
	}
	now := l.now()
	for name, n := range returned {
		if b := l.buckets[name]; b != nil {
			b.fill(now)
			b.giveBack(max(n, 0))
		}
	}
	if len(wanted) == 0 {
		l.distribute(now) // what came back may be what others wait for
		l.mu.Unlock()
		return nil, nil
	}
	l.waiters = append(l.waiters, r)
	l.distribute(now)
	l.mu.Unlock()
	timer := time.NewTimer(tokenWaitMax)
	defer timer.Stop()
	select {
	case <-r.ready:
		return r.granted, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.waiters {
		if w == r {
			l.waiters = append(l.waiters[:i:i], l.waiters[i+1:]...)
		}
	}
	if ctx.Err() != nil { // the answer will not arrive
		for name, g := range r.granted {
			l.buckets[name].giveBack(g.n)
		}
		return nil, contextError(ctx)
	}
	return r.granted, nil
}

// distribute gives out what there is to those that wait, in proportion to what they want, and looks again when there is more.
func (l *limiter) distribute(now time.Time) {
	if len(l.waiters) == 0 || l.stopped {
		return
	}
	if l.until.Sub(now) < tokenLease/2 {
		l.renew()
	}
	switch {
	case !now.Before(l.until):
		return // the renewal calls again
	case now.Before(l.from):
		l.lookAfter(l.from.Sub(now))
		return
	}
	total := make(map[string]int)
	for _, w := range l.waiters {
		for name, n := range w.wanted {
			total[name] += max(n, 1)
		}
	}
	wait := time.Duration(0)
	for name, wanted := range total {
		if w := l.share(name, wanted, now); w > 0 && (wait == 0 || w < wait) {
			wait = w
		}
	}
	kept := l.waiters[:0]
	for _, w := range l.waiters {
		if len(w.granted) > 0 {
			close(w.ready)
		} else {
			kept = append(kept, w)
		}
	}
	clear(l.waiters[len(kept):])
	l.waiters = kept
	if wait > 0 && len(kept) > 0 {
		l.lookAfter(wait)
	}
}

// share gives out the tokens of one limit. It returns the time until it is worth another look; 0: nobody waits, or for ever.
func (l *limiter) share(name string, wanted int, now time.Time) time.Duration {
	b := l.bucket(name)
	if b == nil {
		for _, w := range l.waiters {
			if w.wanted[name] > 0 {
				w.granted[name] = grant{unlimited: true}
			}
		}
		return 0
	}
	there := b.whole(now)
	if enough := min(wanted, max(1, int(b.rate*grantMin.Seconds()))); there < enough {
		return b.until(enough, now)
	}
	most := max(1, int(b.rate*grantMax.Seconds()))
	valid := max(grantValid, time.Duration(grantValidTokens/b.rate*float64(time.Second)))
	left, without := there, false
	for i := range l.waiters {
		w := l.waiters[i]
		n := max(w.wanted[name], 0)
		if n == 0 {
			continue
		}
		if left == 0 {
			without = true
			continue
		}
		share := min(n, most, left)
		if there < wanted {
			share = min(share, max(1, there*n/wanted))
		}
		w.granted[name] = grant{n: share, valid: valid}
		left -= share
	}
	b.tokens -= float64(there - left)
	if without {
		return b.until(1, now)
	}
	return 0
}

// lookAfter distributes again after a time.
func (l *limiter) lookAfter(d time.Duration) {
	if l.timer != nil {
		l.timer.Reset(d)
		return
	}
	l.timer = time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.distribute(l.now())
	})
}

// active is true if it has, or may have, given out tokens.
func (l *limiter) active() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.until.IsZero()
}

// scarce is true if a task would have to wait for the queue's limit.
func (l *limiter) scarce() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[queueLimit]
	return b != nil && b.empty(l.now())
}
