package cluster

import (
	enumspb "go.temporal.io/api/enums/v1"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
)

// Rendezvous hashing: every member weighs every key, the heaviest owns it. A member that comes or goes moves only its own share.

// node is a member as the hashing sees it.
type node struct {
	// name is the member's address, not its id: a process that comes back at its address gets its keys back.
	name string
	hash uint64
}

func newNode(name string) node { return node{name: name, hash: mix(hashStrings(name))} }

// pick returns the index of the key's owner; -1 without nodes. It does not depend on the order of the nodes.
func pick(nodes []node, key uint64) int {
	best, most := -1, uint64(0)
	for i, n := range nodes {
		weight := mix(key ^ n.hash)
		if best < 0 || weight > most || weight == most && n.name < nodes[best].name {
			best, most = i, weight
		}
	}
	return best
}

func shardKey(shard persistence.ShardID) uint64 { return mix(uint64(shard) + 1) }

// partitionKey leaves the kind out, so that a sticky queue is found by its name alone, and keeps all that belongs to a sticky
// queue in one place.
func partitionKey(p *matchingpb.Partition) uint64 {
	key := hashStrings(p.GetNamespaceId(), p.GetTaskQueue())
	if p.GetKind() == enumspb.TASK_QUEUE_KIND_STICKY {
		return mix(key)
	}
	typ := p.GetType()
	if typ == enumspb.TASK_QUEUE_TYPE_UNSPECIFIED {
		typ = enumspb.TASK_QUEUE_TYPE_WORKFLOW
	}
	salt := uint64(typ-enumspb.TASK_QUEUE_TYPE_WORKFLOW)<<32 | uint64(uint32(p.GetNumber()))
	if salt == 0 {
		return mix(key)
	}
	return mix(key ^ mix(salt))
}

// hashStrings is FNV-1a over the strings with a zero byte after each.
func hashStrings(list ...string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, s := range list {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
		h *= prime
	}
	return h
}

// mix is the finalizer of SplitMix64: it spreads every bit of x over the whole result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
