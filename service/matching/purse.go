package matching

import "time"

// Names of limits: the queue's, and keyLimit + a fairness key.
const (
	queueLimit = "q"
	keyLimit   = "k"
)

// purse holds the tokens that a partition may dispatch with. They come from the queue's root and expire soon, so that what all
// partitions hold together is a small part of a second's tokens. Not safe for concurrent use.
type purse struct {
	// queue and keys say which limits there are.
	queue, keys bool
	held        map[string]*heldTokens
}

type heldTokens struct {
	n     int
	until time.Time
	valid time.Duration
	// used counts the tokens taken since the last grant: a measure of how many are needed.
	used int
}

// setLimits says which limits there are. Tokens of others are forgotten.
func (p *purse) setLimits(queue, keys bool) {
	p.queue, p.keys = queue, keys
	for name := range p.held {
		if name == queueLimit && !queue || name != queueLimit && !keys {
			delete(p.held, name)
		}
	}
}

// has is true if a token can be taken.
func (p *purse) has(name string, now time.Time) bool {
	h := p.held[name]
	return h != nil && h.n > 0 && now.Before(h.until)
}

func (p *purse) take(name string) {
	h := p.held[name]
	h.n--
	h.used++
}

// put adds granted tokens. Older ones live on with them: they are few.
func (p *purse) put(name string, n int, valid time.Duration, now time.Time) {
	if p.held == nil {
		p.held = make(map[string]*heldTokens)
	}
	h := p.held[name]
	if h == nil {
		h = &heldTokens{}
		p.held[name] = h
	}
	if !now.Before(h.until) {
		h.n = 0
	}
	h.n += n
	h.used = 0
	h.valid = valid
	h.until = now.Add(valid)
}

// giveBack returns the token of a task that was not dispatched after all, unless it would have expired.
func (p *purse) giveBack(name string, taken, now time.Time) {
	h := p.held[name]
	if h == nil || now.Sub(taken) >= h.valid {
		return
	}
	if !now.Before(h.until) {
		h.n = 0
		h.until = now.Add(h.valid / 2)
	}
	h.n++
	h.used = max(h.used-1, 0)
}

// wanted is how many tokens to ask for when waiting ones cannot be dispatched for want of them: if the last grant has been used
// up, there will be more tasks than those that wait right now.
func (p *purse) wanted(name string, waiting int) int {
	if h := p.held[name]; h != nil {
		return max(waiting, 2*h.used)
	}
	return waiting
}

// holdsKeys is true if there are tokens of keys.
func (p *purse) holdsKeys(now time.Time) bool {
	for name := range p.held {
		if name != queueLimit && p.has(name, now) {
			return true
		}
	}
	return false
}

// giveUp takes out the tokens of keys, whose tasks may go elsewhere, or all.
func (p *purse) giveUp(all bool, now time.Time) map[string]int32 {
	var given map[string]int32
	for name, h := range p.held {
		if name == queueLimit && !all || !p.has(name, now) {
			continue
		}
		if given == nil {
			given = make(map[string]int32)
		}
		given[name] = int32(h.n)
		h.n = 0
	}
	return given
}

// expire forgets tokens that cannot be used any more, so that keys that are quiet take no memory.
func (p *purse) expire(now time.Time) {
	for name, h := range p.held {
		if !now.Before(h.until.Add(time.Second)) {
			delete(p.held, name)
		}
	}
}
