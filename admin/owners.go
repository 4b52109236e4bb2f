package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/perdure/perdure/persistence"
)

// OwnerCount is how many shards an owner has.
type OwnerCount struct {
	Owner string
	// Key is that of the owner's process.
	Key    int64
	Shards int
	// Member is the member with that key; nil: none is registered.
	Member *persistence.Member
}

// Owners counts the shards by the process that owns them. The rest of the persistence.ShardCount has never had an owner.
func Owners(ctx context.Context, store persistence.Inspector) ([]OwnerCount, error) {
	rows, err := store.ShardOwners(ctx)
	if err != nil {
		return nil, err
	}
	members, _, err := store.ListMembers(ctx)
	if err != nil {
		return nil, err
	}
	var counts []OwnerCount
	index := map[int64]int{}
	for _, row := range rows {
		i, ok := index[row.Key]
		if !ok {
			i = len(counts)
			index[row.Key] = i
			counts = append(counts, OwnerCount{Owner: row.Owner, Key: row.Key})
		}
		counts[i].Shards++
	}
	for i := range counts {
		for m := range members {
			if members[m].Key == counts[i].Key {
				counts[i].Member = &members[m]
			}
		}
	}
	sortOwners(counts)
	return counts, nil
}

// Partition is a stored partition of a task queue.
type Partition struct {
	persistence.StoredQueue
	// Namespace is the name of its namespace, or the id if there is none of that id.
	Namespace string
	// Member is the member with the owner's key; nil: none is registered.
	Member *persistence.Member
}

// QueueStore is what Partitions reads.
type QueueStore interface {
	persistence.Inspector
	// GetNamespace finds a namespace by its id.
	GetNamespace(ctx context.Context, id, name string) (*persistence.NamespaceRecord, error)
}

// Partitions lists the partitions that have ever had something to store. What has only ever been in memory has no row.
func Partitions(ctx context.Context, store QueueStore, visit func(*Partition) error) error {
	members, _, err := store.ListMembers(ctx)
	if err != nil {
		return err
	}
	names := map[string]string{}
	var found []*Partition // the visit must not call the store; a partition is some hundred bytes
	err = store.InspectQueues(ctx, func(q *persistence.StoredQueue) error {
		p := &Partition{StoredQueue: *q, Namespace: q.Key.NamespaceID}
		if i := slices.IndexFunc(members, func(m persistence.Member) bool { return m.Key == q.OwnerKey }); i >= 0 {
			p.Member = &members[i]
		}
		names[p.Namespace] = p.Namespace
		found = append(found, p)
		return nil
	})
	if err != nil {
		return err
	}
	for id := range names {
		record, err := store.GetNamespace(ctx, id, "")
		switch {
		case err == nil:
			names[id] = record.Name
		case !errors.Is(err, persistence.ErrNotFound):
			return err
		}
	}
	for _, p := range found {
		p.Namespace = names[p.Namespace]
		if err := visit(p); err != nil {
			return err
		}
	}
	return nil
}

func sortOwners(counts []OwnerCount) {
	slices.SortFunc(counts, func(a, b OwnerCount) int {
		return cmp.Or(cmp.Compare(b.Shards, a.Shards), cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Key, b.Key))
	})
}
