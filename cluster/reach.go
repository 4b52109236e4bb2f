package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/perdure/perdure/persistence"
)

// Reached is whether this process can call a member.
type Reached struct {
	Member persistence.Member
	Took   time.Duration
	Err    error // nil: it answered
}

// Reach calls every other live member that listens, for an operator who wants to know. It changes nobody's judgement.
func (m *Membership) Reach(ctx context.Context) []Reached {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	var (
		mu    sync.Mutex
		found []Reached
		all   sync.WaitGroup
	)
	for _, other := range m.View().Members {
		if other.ID == m.self.ID || other.Address == "" {
			continue
		}
		all.Go(func() {
			begun := time.Now()
			_, err := m.ping(ctx, other, news{})
			mu.Lock()
			defer mu.Unlock()
			found = append(found, Reached{Member: other, Took: time.Since(begun), Err: err})
		})
	}
	all.Wait()
	return found
}

// LeaseLeft is how long this member's lease lasts if it is not renewed; negative: it has ended. Of LeaseTTL it says how old the last
// renewal is.
func (m *Membership) LeaseLeft() time.Duration { return time.Duration(m.leaseUntil.Load()) - m.since() }

// LeaseTTL is how long a lease lasts from its renewal on.
func (m *Membership) LeaseTTL() time.Duration { return m.params.LeaseTTL }

// ShardsExpected is how many shards are to be this member's, as the view has it.
func (m *Membership) ShardsExpected() (n int) {
	view := m.View()
	for shard := range persistence.ShardID(persistence.ShardCount) {
		if owner, ok := view.ShardOwner(shard); ok && owner.ID == m.self.ID {
			n++
		}
	}
	return n
}
