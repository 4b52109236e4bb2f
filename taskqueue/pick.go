package taskqueue

import matchingpb "github.com/perdure/perdure/api/matching/v1"

// Counts are a queue's numbers of partitions: tasks go to those below Write, polls to those below Read. The zero value is one of
// each: the root.
type Counts struct{ Read, Write int32 }

func countsOf(c *matchingpb.PartitionCounts) Counts { return Counts{c.GetRead(), c.GetWrite()} }

// ForTask is the partition for a task; random(n) is below n.
func (c Counts) ForTask(random func(n int) int) int32 {
	if c.Write <= 1 {
		return 0
	}
	return int32(random(int(c.Write)))
}

// ForPoll is the partition for a poll: one of those where the fewest polls of this process wait, so that few polls reach many
// partitions. outstanding is by partition; those that are missing have none.
func (c Counts) ForPoll(outstanding []int32, random func(n int) int) int32 {
	if c.Read <= 1 {
		return 0
	}
	at := func(number int32) int32 {
		if int(number) < len(outstanding) {
			return outstanding[number]
		}
		return 0
	}
	first := int32(random(int(c.Read)))
	best := first
	for i := int32(1); i < c.Read; i++ {
		if number := (first + i) % c.Read; at(number) < at(best) {
			best = number
		}
	}
	return best
}
