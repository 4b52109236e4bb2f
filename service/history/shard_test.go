package history

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

// What was given away, or lost, while its doubt was being resolved does not come back with the answer.
func TestSettlingLeavesAloneWhatIsNoLongerInDoubt(t *testing.T) {
	var o ownership
	const kept, lost, released, retaken = persistence.ShardID(1), persistence.ShardID(2), persistence.ShardID(3), persistence.ShardID(4)
	doubtful := []persistence.ShardID{kept, lost, released, retaken}
	for _, shard := range doubtful {
		o.set(shard, 7)
	}
	held, first := o.holdAll()
	require.True(t, first)
	require.Equal(t, doubtful, held)
	require.Equal(t, doubtful, o.nextHeld())
	o.set(released, 0)
	o.set(retaken, 9)
	keeps, losses := o.settle(doubtful, map[persistence.ShardID]persistence.Epoch{kept: 8, released: 8, retaken: 8})
	require.Equal(t, []persistence.ShardID{kept}, keeps)
	require.Equal(t, []persistence.ShardID{lost}, losses)
	require.Equal(t, []persistence.ShardID{kept, retaken}, o.list())
	require.Equal(t, 2, o.count())
	require.Equal(t, shardState{epoch: 8}, o.get(kept))
	require.Equal(t, shardState{epoch: 9}, o.get(retaken))
	require.Zero(t, o.get(released))
}
