package matching

import (
	"sync"
	"time"
)

const (
	// departedKept is for how long a worker that has said goodbye is remembered: a poll of it that was under way then gets nothing any
	// more, since nobody would do it.
	departedKept = 10 * time.Second
	// departedMax bounds those that are remembered. With more, some are forgotten, and a task of theirs times out.
	departedMax = 10_000
)

// departed is the workers that are not to get anything any more, by instance key, which is never used again. Safe for concurrent use.
type departed struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (d *departed) note(instanceKey string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.at) >= departedMax {
		for old, at := range d.at {
			if now.Sub(at) >= departedKept {
				delete(d.at, old)
			}
		}
		for old := range d.at {
			if len(d.at) < departedMax {
				break
			}
			delete(d.at, old)
		}
	}
	if d.at == nil {
		d.at = make(map[string]time.Time)
	}
	d.at[instanceKey] = now
}

// has is true if a worker is one of them.
func (d *departed) has(instanceKey string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, known := d.at[instanceKey]
	if known && now.Sub(at) >= departedKept {
		delete(d.at, instanceKey)
		return false
	}
	return known
}
