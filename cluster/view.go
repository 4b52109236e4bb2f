package cluster

import (
	"slices"
	"strings"
	"sync"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
)

// Services that members run. Member.Service names those of a process, separated by commas.
const (
	Frontend = "frontend"
	History  = "history"
	Matching = "matching"
)

// View is whom one member holds to be alive at one moment. It does not change.
type View struct {
	// Generation counts the views of this process. It says nothing to other processes.
	Generation int64
	// Members are the live ones, those that drain included, in the order of their ids.
	Members []persistence.Member

	byService map[string]*candidates
	// shards is the owner of each shard as an index of the history candidates; made when first asked for.
	shards func() []int
}

// candidates are the members among which the keys of a service are shared out.
type candidates struct {
	nodes   []node
	members []persistence.Member
}

func newView(generation int64, members []persistence.Member) *View {
	v := &View{Generation: generation, Members: members, byService: map[string]*candidates{}}
	slices.SortFunc(v.Members, func(a, b persistence.Member) int { return strings.Compare(a.ID, b.ID) })
	for _, service := range []string{History, Matching} {
		v.byService[service] = newCandidates(v.Live(service))
	}
	v.shards = sync.OnceValue(func() []int {
		owners := make([]int, persistence.ShardCount)
		for i := range owners {
			owners[i] = pick(v.byService[History].nodes, shardKey(persistence.ShardID(i)))
		}
		return owners
	})
	return v
}

// newCandidates leaves out who drains, unless everybody does: then it is better that they go on.
func newCandidates(live []persistence.Member) *candidates {
	staying := slices.DeleteFunc(slices.Clone(live), func(m persistence.Member) bool { return m.Draining })
	if len(staying) == 0 {
		staying = live
	}
	c := &candidates{members: staying}
	for _, m := range staying {
		c.nodes = append(c.nodes, newNode(m.Address))
	}
	return c
}

// runs tells whether a member runs a service.
func runs(m persistence.Member, service string) bool {
	return slices.Contains(strings.Split(m.Service, ","), service)
}

// Live lists the live members that run a service, those that drain included.
func (v *View) Live(service string) []persistence.Member {
	var live []persistence.Member
	for _, m := range v.Members {
		if runs(m, service) {
			live = append(live, m)
		}
	}
	return live
}

// Member returns a live member by its id.
func (v *View) Member(id string) (persistence.Member, bool) {
	return v.find(func(m persistence.Member) bool { return m.ID == id })
}

func (v *View) at(address string) (persistence.Member, bool) {
	return v.find(func(m persistence.Member) bool { return m.Address == address })
}

func (v *View) find(match func(persistence.Member) bool) (persistence.Member, bool) {
	i := slices.IndexFunc(v.Members, match)
	if i < 0 {
		return persistence.Member{}, false
	}
	return v.Members[i], true
}

// ShardOwner is the member that a shard is to belong to; false if no history member is alive.
func (v *View) ShardOwner(shard persistence.ShardID) (persistence.Member, bool) {
	return v.byService[History].get(v.shards()[shard])
}

// PartitionOwner is the member that a partition is to live on; false if no matching member is alive.
func (v *View) PartitionOwner(p *matchingpb.Partition) (persistence.Member, bool) {
	c := v.byService[Matching]
	return c.get(pick(c.nodes, partitionKey(p)))
}

func (c *candidates) get(i int) (persistence.Member, bool) {
	if i < 0 {
		return persistence.Member{}, false
	}
	return c.members[i], true
}

// sameMembers tells whether two lists, both in the order of ids, say the same of who owns what and where.
func sameMembers(a, b []persistence.Member) bool {
	return slices.EqualFunc(a, b, func(a, b persistence.Member) bool {
		return a.ID == b.ID && a.Address == b.Address && a.Service == b.Service && a.Draining == b.Draining
	})
}
