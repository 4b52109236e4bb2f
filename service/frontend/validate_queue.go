package frontend

import (
	"strconv"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// checkTaskQueue checks the queue that a user names for work to be done on: the plain name of a normal queue.
func checkTaskQueue(q *taskqueuepb.TaskQueue) error {
	if q == nil {
		return errQueueNotSet()
	}
	return checkQueueName(q.GetName())
}

func errQueueNotSet() error { return serviceerror.NewInvalidArgument("taskQueue is not set") }

func checkQueueNameLength(name string) error {
	if name == "" {
		return serviceerror.NewInvalidArgument("missing task queue name")
	}
	return checkNameLength("taskQueue", name, idLengthMax)
}

func checkQueueName(name string) error {
	if err := checkQueueNameLength(name); err != nil {
		return err
	}
	if strings.HasPrefix(name, partitionPrefix) {
		return serviceerror.NewInvalidArgumentf("task queue name cannot start with reserved prefix %s", partitionPrefix)
	}
	if strings.HasPrefix(name, namespaceInternalPrefix) {
		return serviceerror.NewInvalidArgumentf("cannot use internal per-namespace task queue:%s", name)
	}
	return nil
}

// normalQueue returns the queue as a normal one: whatever kind a start names, its tasks go to the normal queue.
func normalQueue(q *taskqueuepb.TaskQueue) *taskqueuepb.TaskQueue {
	if q.GetKind() == enumspb.TASK_QUEUE_KIND_NORMAL && q.GetNormalName() == "" {
		return q
	}
	return &taskqueuepb.TaskQueue{Name: q.GetName(), Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
}

// polledPartition checks the queue of a poll and returns the partition to ask: the root, from where matching forwards.
func polledPartition(namespaceID string, q *taskqueuepb.TaskQueue, queueType enumspb.TaskQueueType) (*matchingpb.Partition, error) {
	if err := checkTaskQueue(q); err != nil {
		return nil, err
	}
	p := &matchingpb.Partition{NamespaceId: namespaceID, TaskQueue: q.GetName(), Type: queueType}
	if err := setKind(p, q); err != nil {
		return nil, err
	}
	return p, nil
}

// setKind sets the kind of a partition. An unknown kind is that of a newer client; it is served as a normal queue.
func setKind(p *matchingpb.Partition, q *taskqueuepb.TaskQueue) error {
	if q.GetKind() != enumspb.TASK_QUEUE_KIND_STICKY {
		if q.GetNormalName() != "" {
			return serviceerror.NewInvalidArgumentf(
				"only sticky queues can have normal name. tq: %s, normal name: %s", q.GetName(), q.GetNormalName())
		}
		p.Kind = enumspb.TASK_QUEUE_KIND_NORMAL
		return nil
	}
	p.Kind = enumspb.TASK_QUEUE_KIND_STICKY
	p.NormalName = q.GetNormalName()
	if p.NormalName == "" {
		return nil
	}
	return checkQueueName(p.NormalName)
}

// describedPartition resolves the queue of a describe call, which may name a partition: /_sys/<name>/<n>, n ≥ 1.
func describedPartition(namespaceID string, q *taskqueuepb.TaskQueue, queueType enumspb.TaskQueueType) (*matchingpb.Partition, error) {
	if q == nil {
		return nil, errQueueNotSet()
	}
	if err := checkQueueNameLength(q.GetName()); err != nil {
		return nil, err
	}
	if queueType == enumspb.TASK_QUEUE_TYPE_UNSPECIFIED {
		queueType = enumspb.TASK_QUEUE_TYPE_WORKFLOW
	}
	name, number, err := parsePartition(q.GetName())
	if err != nil {
		return nil, err
	}
	p := &matchingpb.Partition{NamespaceId: namespaceID, TaskQueue: name, Type: queueType, Number: number}
	if err := setKind(p, q); err != nil {
		return nil, err
	}
	return p, nil
}

func parsePartition(name string) (queue string, number int32, err error) {
	rest, isPartition := strings.CutPrefix(name, partitionPrefix)
	if !isPartition {
		return name, 0, nil
	}
	invalid := serviceerror.NewInvalidArgumentf("invalid task queue partition name %s", name)
	slash := strings.LastIndexByte(rest, '/')
	if slash <= 0 {
		return "", 0, invalid
	}
	n, parseErr := strconv.ParseInt(rest[slash+1:], 10, 32)
	if parseErr != nil || n < 1 {
		return "", 0, invalid
	}
	return rest[:slash], int32(n), nil
}
