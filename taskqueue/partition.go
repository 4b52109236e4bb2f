// Package taskqueue is what callers of matching know of a task queue's partitions: their names, their tree, and to which of them a
// task or a poll goes. It knows no service.
package taskqueue

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// Prefix begins the names of partitions other than the root, and no name of a queue.
	Prefix = "/_sys/"
	// degree is the number of children of a partition.
	degree = 20
)

// Name is the public name of a partition: that of the queue for the root, /_sys/<queue>/<number> for the others.
func Name(queue string, number int32) string {
	if number == 0 {
		return queue
	}
	return Prefix + queue + "/" + strconv.Itoa(int(number))
}

// Parse takes a partition's name apart.
func Parse(name string) (queue string, number int32, err error) {
	rest, isPartition := strings.CutPrefix(name, Prefix)
	if !isPartition {
		return name, 0, nil
	}
	slash := strings.LastIndexByte(rest, '/')
	if slash <= 0 {
		return "", 0, fmt.Errorf("invalid task queue partition name %q", name)
	}
	n, err := strconv.ParseInt(rest[slash+1:], 10, 32)
	if err != nil || n < 1 {
		return "", 0, fmt.Errorf("invalid task queue partition name %q", name)
	}
	return rest[:slash], int32(n), nil
}

// Parent is the number of the partition to which one forwards; the root's is itself.
func Parent(number int32) int32 {
	if number <= 0 {
		return 0
	}
	return (number - 1) / degree
}
