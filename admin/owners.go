package admin

import (
	"cmp"
	"context"
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

func sortOwners(counts []OwnerCount) {
	slices.SortFunc(counts, func(a, b OwnerCount) int {
		return cmp.Or(cmp.Compare(b.Shards, a.Shards), cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Key, b.Key))
	})
}
