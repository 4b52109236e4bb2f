package persistence

import "context"

// QueueKey names a partition of a task queue.
type QueueKey struct {
	NamespaceID string
	TaskQueue   string
	Type        int16 // the API's task queue type
	Partition   int32
}

// TaskKey orders the tasks of a partition: priority level first, then pass (fairness; 0 while there is none), then id.
type TaskKey struct {
	Level int16
	Pass  int64
	ID    int64
}

// BacklogTask is a stored task.
type BacklogTask struct {
	Key  TaskKey
	Task []byte
}

// Queue is a stored partition.
type Queue struct {
	Key      QueueKey
	Epoch    Epoch
	Metadata []byte // matching's own: ack levels and such
}

// TaskRange is the tasks of one level from From (inclusive) to To (inclusive) in the order of (Pass, ID).
type TaskRange struct {
	Level    int16
	From, To TaskKey
}

// TaskQueues is the backlog of matching. A partition has a row only once it had something to store.
type TaskQueues interface {
	// GetQueue returns a partition without taking it, or ErrNotFound.
	GetQueue(ctx context.Context, key QueueKey) (*Queue, error)
	// TakeQueue makes this process the owner of a partition, creating its row if there is none, and raises its epoch. It fences
	// like TakeShards.
	TakeQueue(ctx context.Context, owner string, key QueueKey) (*Queue, error)
	// WriteTasks stores tasks, all or none, fenced by the epoch; it takes part in group commit. Errors as of Commit.
	WriteTasks(ctx context.Context, key QueueKey, epoch Epoch, tasks []BacklogTask) error
	// ReadTasks returns tasks of one level after a key (exclusive) in order.
	ReadTasks(ctx context.Context, key QueueKey, level int16, after TaskKey, limit int) ([]BacklogTask, error)
	// CountTasks returns the numbers of tasks by level whose id is below one; levels without any are missing. It reads no task.
	CountTasks(ctx context.Context, key QueueKey, belowID int64) (map[int16]int64, error)
	// UpdateQueue replaces the metadata and deletes ranges of tasks, fenced by the epoch.
	UpdateQueue(ctx context.Context, key QueueKey, epoch Epoch, metadata []byte, delete []TaskRange) error
	// DeleteQueue removes a partition with all of its tasks, fenced by the epoch.
	DeleteQueue(ctx context.Context, key QueueKey, epoch Epoch) error
	// ListQueues returns the stored partitions of a task queue family, of every type.
	ListQueues(ctx context.Context, namespaceID, taskQueue string) ([]*Queue, error)

	// GetQueueData and SetQueueData keep what belongs to a whole queue (configuration). The version counts from 1; 0 creates.
	// Get answers ErrNotFound if there is nothing; Set answers ErrConflict unless version is the stored one, and raises it by one.
	GetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16) (data []byte, version int64, err error)
	SetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16, data []byte, version int64) error
}
