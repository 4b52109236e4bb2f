package history

import (
	"context"
	"sync"

	"github.com/perdure/perdure/persistence"
)

// chain is all runs of one key: the unit of locking. It exists while somebody uses it or a run of it is cached.
type chain struct {
	key persistence.ExecutionKey
	// sem is the lock: full while it is held.
	sem chan struct{}
	// refs counts the users of the pointer; guarded by chains.mu.
	refs int

	// The rest is guarded by the lock.

	// epoch is that of the shard under which the runs were loaded.
	epoch persistence.Epoch
	// current is the id of the newest run; "" until it is known.
	current string
	runs    map[string]*run
}

func (c *chain) lock(ctx context.Context) error {
	if c.tryLock() {
		return nil
	}
	select {
	case c.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *chain) tryLock() bool {
	select {
	case c.sem <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *chain) unlock() { <-c.sem }

// chains is every chain in memory, by key.
type chains struct {
	mu    sync.Mutex
	byKey map[persistence.ExecutionKey]*chain
}

// get returns a key's chain and counts its user; waiting is how many others use it. Put follows.
func (cs *chains) get(key persistence.ExecutionKey) (c *chain, waiting int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c = cs.byKey[key]
	if c == nil {
		c = &chain{key: key, sem: make(chan struct{}, 1)}
		cs.byKey[key] = c
	}
	c.refs++
	return c, c.refs - 1
}

// keep counts one more user of a chain that is in use.
func (cs *chains) keep(c *chain) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.refs++
}

// put gives a chain back. A chain that nobody uses is only looked at by its cached runs, and goes away with the last of them.
func (cs *chains) put(c *chain) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.refs--
	if c.refs == 0 && len(c.runs) == 0 && cs.byKey[c.key] == c {
		delete(cs.byKey, c.key)
	}
}

// all returns the chains of the keys that match, each counted as used.
func (cs *chains) all(match func(persistence.ExecutionKey) bool) []*chain {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var found []*chain
	for key, c := range cs.byKey {
		if match(key) {
			c.refs++
			found = append(found, c)
		}
	}
	return found
}
