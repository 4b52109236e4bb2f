package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"pgregory.net/rapid"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
)

func nodes(n int) []node {
	var list []node
	for i := range n {
		list = append(list, newNode(fmt.Sprintf("10.0.%d.%d:7234", i/256, i%256)))
	}
	return list
}

func TestShardsAreSharedOutEvenly(t *testing.T) {
	for _, n := range []int{2, 3, 5, 10} {
		counts := make([]int, n)
		list := nodes(n)
		for shard := range persistence.ShardID(persistence.ShardCount) {
			counts[pick(list, shardKey(shard))]++
		}
		even := float64(persistence.ShardCount) / float64(n)
		for i, count := range counts {
			require.InDelta(t, even, count, 0.2*even, "member %d of %d", i, n)
		}
	}
}

func TestOnlyTheShareOfWhoGoesMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := nodes(rapid.IntRange(2, 12).Draw(t, "members"))
		gone := rapid.IntRange(0, len(list)-1).Draw(t, "gone")
		var rest []node
		for i, n := range list {
			if i != gone {
				rest = append(rest, n)
			}
		}
		rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		for range 200 {
			key := rapid.Uint64().Draw(t, "key")
			if before := pick(list, key); before != gone && rest[pick(rest, key)].name != list[before].name {
				t.Fatalf("key %d moved from %s to %s", key, list[before].name, rest[pick(rest, key)].name)
			}
		}
	})
}

func TestNobodyOwnsWithoutMembers(t *testing.T) {
	require.Equal(t, -1, pick(nil, 1))
	_, ok := newView(1, nil).ShardOwner(7)
	require.False(t, ok)
}

func TestPartitionsAreSharedOutEvenly(t *testing.T) {
	list := nodes(4)
	counts := make([]int, len(list))
	const queues = 2000
	for i := range queues {
		for _, typ := range []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY} {
			for number := range int32(2) {
				counts[pick(list, partitionKey(&matchingpb.Partition{
					NamespaceId: "n", TaskQueue: fmt.Sprint("queue-", i), Type: typ, Number: number,
				}))]++
			}
		}
	}
	for _, count := range counts {
		require.InDelta(t, queues, count, 0.1*queues)
	}
}

func TestPartitionKey(t *testing.T) {
	normal := &matchingpb.Partition{NamespaceId: "n", TaskQueue: "q", Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW}
	activity := &matchingpb.Partition{NamespaceId: "n", TaskQueue: "q", Type: enumspb.TASK_QUEUE_TYPE_ACTIVITY}
	second := &matchingpb.Partition{NamespaceId: "n", TaskQueue: "q", Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW, Number: 1}
	sticky := func(typ enumspb.TaskQueueType, number int32) uint64 {
		return partitionKey(&matchingpb.Partition{
			NamespaceId: "n", TaskQueue: "q", Type: typ, Number: number, Kind: enumspb.TASK_QUEUE_KIND_STICKY,
		})
	}
	require.NotEqual(t, partitionKey(normal), partitionKey(activity))
	require.NotEqual(t, partitionKey(normal), partitionKey(second))
	require.NotEqual(t, partitionKey(activity), partitionKey(second))
	require.Equal(t, partitionKey(normal), partitionKey(&matchingpb.Partition{NamespaceId: "n", TaskQueue: "q"}), "no type means workflow tasks")
	require.Equal(t, partitionKey(normal), sticky(enumspb.TASK_QUEUE_TYPE_WORKFLOW, 0), "a sticky queue is found by its name")
	require.Equal(t, sticky(enumspb.TASK_QUEUE_TYPE_WORKFLOW, 0), sticky(enumspb.TASK_QUEUE_TYPE_ACTIVITY, 3))
	require.NotEqual(t, hashStrings("a", "bc"), hashStrings("ab", "c"))
}
