package persistence

import (
	"context"
	"time"
)

// Member is a process of the cluster with a lease.
type Member struct {
	ID      string // of this incarnation
	Service string // "history", "matching", "frontend"; several are separated by commas
	Address string // host:port of its internal gRPC; a process that only calls has none
	// Key is the store's key of the member's process.
	Key     int64
	Started time.Time
	Renewed time.Time
	Expires time.Time
	// Draining members are alive but own nothing new.
	Draining bool
}

// Members is the table of the processes of a cluster. Times are the database's.
type Members interface {
	// RenewMember registers or renews a member for a time to live, and returns all members, those whose lease ended a while ago
	// included, with the database's time. Key and the times of m are the store's to fill in; Started is kept from the first call.
	RenewMember(ctx context.Context, m Member, ttl time.Duration) (members []Member, now time.Time, err error)
	// RemoveMember ends a lease.
	RemoveMember(ctx context.Context, id string) error
}
