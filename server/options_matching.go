package server

import (
	"fmt"

	"github.com/spf13/pflag"
)

// taskQueuePartitionsMax bounds --task-queue-partitions: a poll or task that finds nothing goes up a tree of that many.
const taskQueuePartitionsMax = 1000

// AddMatchingFlags registers what a process has that runs the matching service.
func (o *Options) AddMatchingFlags(f *pflag.FlagSet) {
	f.Int32Var(&o.TaskQueuePartitions, "task-queue-partitions", 0,
		"fixed `number` of partitions of every task queue, the same in all matching processes; 0: each queue has as many as its load needs")
}

func (o *Options) validateMatching() error {
	if n := o.TaskQueuePartitions; n < 0 || n > taskQueuePartitionsMax {
		return fmt.Errorf("--task-queue-partitions is %d; it must be from 0 to %d", n, taskQueuePartitionsMax)
	}
	return nil
}
