package persistence

import (
	"context"
	"iter"
	"time"
)

// Inspector reads a database from outside, for tools: it owns nothing, writes nothing, and may run beside a server. Memory is
// bounded by one row, whatever the size of the database. A visit must not call the store.
type Inspector interface {
	// InspectRuns visits up to limit runs after a position (nil: from the first on), in the order of shard, namespace, kind,
	// business id and run id. All that one call shows is as of one moment. It returns the position of the last run, or nil if
	// there are no more.
	InspectRuns(ctx context.Context, after *RunPosition, limit int, visit func(*StoredRun) error) (*RunPosition, error)
	// InspectRun visits one run, or answers ErrNotFound.
	InspectRun(ctx context.Context, key ExecutionKey, runID string, visit func(*StoredRun) error) error
	// InspectOrphans visits what belongs to no run: logs and visibility rows without an executions row. It reads the whole
	// database in two statements.
	InspectOrphans(ctx context.Context, visit func(*Orphan) error) error

	// InspectQueues visits the stored partitions of all task queues, in the order of namespace, queue, type and number. It counts their
	// tasks and so reads an index of them all.
	InspectQueues(ctx context.Context, visit func(*StoredQueue) error) error

	// ShardOwners lists the shards that have ever had an owner.
	ShardOwners(ctx context.Context) ([]ShardOwner, error)
	// ListMembers returns the members, those whose lease ended a while ago included, and the database's time. Unlike
	// RenewMember it registers nobody.
	ListMembers(ctx context.Context) (members []Member, now time.Time, err error)
}

// RunPosition is where a run stands among all runs of a database.
type RunPosition struct {
	Shard ShardID
	Key   ExecutionKey
	RunID string
}

// StoredRun is all that a database holds of a run.
type StoredRun struct {
	// Run is the executions row with its snapshot, without transitions.
	Run
	// Shard is where the row is stored; it should be that of the key.
	Shard ShardID
	// Visibility is the run's visibility row; nil: it has none.
	Visibility *VisibilityRow
	// Log reads the run's transitions in order of Seq, with events and parts. It can be used during the visit only, and after
	// an error it ends.
	Log iter.Seq2[Transition, error]
}

// Position is where the run stands.
func (r *StoredRun) Position() RunPosition {
	return RunPosition{Shard: r.Shard, Key: r.Key, RunID: r.RunID}
}

// Orphan is what is left of a run that has no executions row: either a log or a visibility row.
type Orphan struct {
	RunID string
	// Visibility tells a visibility row, of which NamespaceID and BusinessID are known too.
	Visibility  bool
	NamespaceID string
	BusinessID  string
	// Bucket and First, the first row, are those of a log.
	Bucket int32
	First  Transition
}

// StoredQueue is what a database holds of a partition of a task queue.
type StoredQueue struct {
	Key   QueueKey
	Owner string
	// OwnerKey is that of the owner's process, as in Member.
	OwnerKey int64
	Epoch    Epoch
	// Tasks is the number of stored tasks. Some may be done already: rows are deleted in ranges.
	Tasks int64
}

// ShardOwner is a row of the table of shards.
type ShardOwner struct {
	Shard ShardID
	Owner string
	// Key is that of the owner's process, as in Member.
	Key   int64
	Epoch Epoch
}
