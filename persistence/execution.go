package persistence

import (
	"context"
	"hash/fnv"
	"time"
)

// ShardCount is the number of shards. It is a constant of the stored layout, not a setting: an idle shard costs nothing and a
// busy one has no limit of its own.
const ShardCount = 4096

// ShardID is 0 … ShardCount-1.
type ShardID int32

// Kind tells state machines apart: it is part of an execution's key.
type Kind int16

// KindWorkflow is the workflow execution.
const KindWorkflow Kind = 1

// Epoch counts the owners that a shard or queue has had.
type Epoch int64

// Shards is the ownership of shards.
type Shards interface {
	// TakeShards makes this process the owner of the shards and returns their new epochs. It waits for the commits of the
	// previous owners that are under way; from its return on they can commit nothing more to these shards. A shard that is missing
	// in the result could not be taken.
	TakeShards(ctx context.Context, owner string, shards []ShardID) (map[ShardID]Epoch, error)
	// RetakeShards is TakeShards of those shards that this process still owns: it resolves a commit with unknown outcome, and takes
	// nothing from anybody else. A shard that is missing in the result has another owner by now, or never had one.
	RetakeShards(ctx context.Context, owner string, shards []ShardID) (map[ShardID]Epoch, error)
	// ShardOwners lists the shards that have ever had an owner.
	ShardOwners(ctx context.Context) ([]ShardOwner, error)
}

// ExecutionKey names everything that has ever run under one business id. For workflows that is the workflow id.
type ExecutionKey struct {
	NamespaceID string
	Kind        Kind
	BusinessID  string
}

// Shard is where the execution lives.
func (k ExecutionKey) Shard() ShardID {
	h := fnv.New64a()
	h.Write([]byte(k.NamespaceID))
	h.Write([]byte{0, byte(k.Kind)})
	h.Write([]byte(k.BusinessID))
	sum := h.Sum64()
	return ShardID((sum ^ sum>>32) % ShardCount)
}

// Mutation is what one transition writes: the rows of one run, or of a few runs of the same key (terminate and start,
// continue-as-new, retry, cron, reset), committed together.
type Mutation struct {
	Key   ExecutionKey
	Epoch Epoch
	Runs  []RunWrite
	// First says that the key is expected to have no run yet; if it has one, nothing is written and the answer is ErrExists. A start
	// with a new id, which most are, so needs no look at the database before its commit.
	First bool
}

// RunWrite is what a mutation writes for one run. Within a mutation, a run that closes must come before the run that opens.
type RunWrite struct {
	RunID  string
	Bucket int32

	// Insert creates the executions row; then Status, StartRequestID, WakeAt and HasEffects are all stored as given.
	Insert         bool
	StartRequestID string

	// Open tells whether the run is open after this write; it guards "one open run per key". Status is the API's number.
	// Both are stored when Insert or SetStatus is set.
	SetStatus bool
	Open      bool
	Status    int32

	// WakeAt, if SetWakeAt, replaces the stored wake-up (zero: none). It is a lower bound of when something is due.
	SetWakeAt bool
	WakeAt    time.Time

	// HasEffects, if SetHasEffects, replaces the stored flag.
	SetHasEffects bool
	HasEffects    bool

	// Transition is the row to append; nil: none.
	Transition *Transition
	// Snapshot replaces the stored snapshot; nil: keep. The same commit deletes the run's earlier transition rows that hold
	// no events.
	Snapshot *Snapshot
	// Visibility replaces the run's visibility row; nil: keep.
	Visibility *VisibilityRow
}

// Transition is one row of a run's log. Seq counts from 1 without gaps; FirstEventID is the id of its first event, or of the
// next event if it has none.
type Transition struct {
	Seq          int64
	FirstEventID int64
	Events       []byte
	Parts        []byte
}

// Snapshot is all parts of a run, folded up to and including row Seq.
type Snapshot struct {
	Seq   int64
	Parts []byte
	// Dense says that every earlier row since the last snapshot holds events: there is nothing to delete.
	Dense bool
}

// Run is a stored run: the executions row, and from Load also the transitions after its snapshot.
type Run struct {
	Key            ExecutionKey
	RunID          string
	Bucket         int32
	Open           bool
	Status         int32
	StartRequestID string
	WakeAt         time.Time
	HasEffects     bool
	Snapshot       *Snapshot
	// Transitions after the snapshot in order of Seq, without Events.
	Transitions []Transition
}

// RunRef is what a scan finds: enough to load the run.
type RunRef struct {
	Key    ExecutionKey
	RunID  string
	WakeAt time.Time
}

// ScanCursor continues a scan after a row; its zero value starts one.
type ScanCursor struct {
	Shard ShardID
	Time  time.Time
	RunID string
	Done  bool
}

// HistoryRange asks for the rows of a run that hold the events From … To (both inclusive).
type HistoryRange struct {
	Bucket   int32
	RunID    string
	From, To int64
	// Reverse returns the rows from the newest to the oldest.
	Reverse bool
	// Limits of one answer; at least one row is returned if there is one.
	RowsMax  int
	BytesMax int
}

// Executions is the state of executions and their histories.
type Executions interface {
	// Commit applies a mutation. See the package comment for its errors: nil, ErrFenced, ErrConflict, ErrExists, ErrTooLarge,
	// ErrOutcomeUnknown, ErrUnavailable, ErrClosed.
	Commit(ctx context.Context, m *Mutation) error

	// LoadRun returns a run, or with an empty run id the current one: the run of the key with the highest run id.
	LoadRun(ctx context.Context, key ExecutionKey, runID string) (*Run, error)
	// ListRuns returns the executions rows of a key, newest first, without snapshots and transitions.
	ListRuns(ctx context.Context, key ExecutionKey, limit int) ([]*Run, error)
	// ReadHistory returns rows of a run with their events but without parts. The first row may begin before From.
	ReadHistory(ctx context.Context, r HistoryRange) ([]Transition, error)
	// ReadTransitions returns rows with parts and events by Seq, for reset and for inspection.
	ReadTransitions(ctx context.Context, bucket int32, runID string, fromSeq int64, limit int) ([]Transition, error)

	// ScanWakeups lists runs of the shards whose wake-up is before a time, in any order, in pages.
	ScanWakeups(ctx context.Context, shards []ShardID, before time.Time, after ScanCursor, limit int) ([]RunRef, ScanCursor, error)
	// ScanEffects lists runs of the shards that carry the effects flag, in any order, in pages.
	ScanEffects(ctx context.Context, shards []ShardID, after ScanCursor, limit int) ([]RunRef, ScanCursor, error)

	// DeleteRun removes everything of a run, its visibility row included, fenced like a commit.
	DeleteRun(ctx context.Context, key ExecutionKey, epoch Epoch, bucket int32, runID string) error
}
