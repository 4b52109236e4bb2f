// Package persistence is the contract between the services and a database. It knows keys and bytes, not workflows.
//
// There are two implementations, sql/postgres and sql/sqlite, and one suite that both must pass: persistencetest.
//
// What a store promises:
//
//   - A mutation is applied whole or not at all, and only while the caller owns its shard: the epoch is checked inside the
//     transaction that commits, after the transaction has got hold of the owner's key. Owners are fenced by the database, never
//     by timing.
//   - Commit returns nil only when the mutation is durable. [ErrOutcomeUnknown] means that it may or may not be: the caller
//     must retake the shard before it reads or writes there. Every other error means that nothing was written.
//   - Mutations of one shard are applied in the order in which Commit was called. Mutations of any shards may share a
//     transaction (group commit); a fault of one of them reaches only that one.
//   - Contexts bound the wait of a caller, never a commit that is under way.
package persistence

import (
	"context"
	"errors"
	"time"
)

// Store is a database as one process sees it. One process is one incarnation of a host: it has a key of its own, under which
// it owns shards and queues.
type Store interface {
	Shards
	Executions
	Visibility
	TaskQueues
	Namespaces
	Members

	// Name is "postgres" or "sqlite": what GetClusterInfo reports.
	Name() string
	// Now is the database's clock.
	Now(ctx context.Context) (time.Time, error)
	// Ping checks that the database answers and, if write is set, that it accepts a write.
	Ping(ctx context.Context, write bool) error
	// Close waits for commits that are under way and frees the database. Later calls fail with ErrClosed.
	Close() error
}

var (
	// ErrFenced says that another owner has taken the shard or queue: drop what you know of it.
	ErrFenced = errors.New("persistence: fenced: the shard or queue has another owner")
	// ErrConflict says that the row to insert exists (a run id, or a second open run of the same business id) or that the
	// version to replace is not the stored one. Reload.
	ErrConflict = errors.New("persistence: conflict with the stored state")
	// ErrExists says that the key of a Mutation with First has a run.
	ErrExists = errors.New("persistence: the key has a run already")
	// ErrOutcomeUnknown says that the connection was lost in a commit. Retake the shard before anything else.
	ErrOutcomeUnknown = errors.New("persistence: outcome of the commit unknown")
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("persistence: not found")
	// ErrTooLarge says that a mutation is larger than the database takes.
	ErrTooLarge = errors.New("persistence: mutation too large")
	// ErrUnavailable says that the database does not answer, or not in time; nothing was written.
	ErrUnavailable = errors.New("persistence: database unavailable")
	// ErrClosed says that the store has been closed.
	ErrClosed = errors.New("persistence: store closed")
)
