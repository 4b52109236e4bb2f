// Package sqlite is the store of a development server: one SQLite file, or a private database in memory.
//
// It owns the file: one process at a time has it open, which a lock file beside it enforces.
//
// Invariants:
//
//   - There is one writer connection. Everything that is written goes through one group committer, so that writes are applied in the
//     order of their calls and a transaction is never refused with "database is locked".
//   - Whatever depends on the ownership of a shard or queue is checked inside the transaction that writes, against the stored epoch
//     and key.
//   - A commit is durable when it returns: the journal is a WAL with synchronous=FULL, and one sync pays for a whole group.
//   - Readers have connections of their own and see every commit that was acknowledged before they began. A database in memory has
//     only the one connection, which all take in turn.
package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
)

// Options configure a store.
type Options struct {
	// Path is the database file. Empty: in memory, private to this store, gone when it is closed.
	Path string
	// Existing says that the file must exist and have the schema of this program: it is neither made nor migrated.
	Existing bool
	// Logger may be nil.
	Logger *zap.Logger
}

// Store is a [persistence.Store] in SQLite. It is one incarnation: its key is made when it is opened.
type Store struct {
	db     *database
	key    int64
	closed atomic.Bool
	once   sync.Once
	err    error // of Close
}

var _ persistence.Store = (*Store)(nil)

// Open opens or creates a database and brings its schema up to date. Its errors name the file and what is wrong with it.
func Open(ctx context.Context, o Options) (*Store, error) {
	logger := o.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	db, err := openDatabase(ctx, o.Path, o.Existing, logger)
	if err != nil {
		return nil, err
	}
	return newStore(db), nil
}

func newStore(db *database) *Store { return &Store{db: db, key: newKey()} }

// incarnation returns another store on the same open database, with a key of its own: what another process would be.
func (s *Store) incarnation() *Store {
	s.db.users.Add(1)
	return newStore(s.db)
}

func newKey() int64 {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand does not fail on a working system
	}
	return int64(binary.LittleEndian.Uint64(b[:]))
}

// Name implements [persistence.Store].
func (s *Store) Name() string { return "sqlite" }

// Now implements [persistence.Store]. The database's clock is this machine's.
func (s *Store) Now(context.Context) (time.Time, error) {
	if s.closed.Load() {
		return time.Time{}, persistence.ErrClosed
	}
	return time.Now().UTC(), nil
}

// Ping implements [persistence.Store].
func (s *Store) Ping(ctx context.Context, write bool) error {
	if write {
		return s.write(ctx, 0, func(ctx context.Context, tx *txn) error {
			return tx.exec(ctx, `UPDATE schema_version SET version = version`)
		})
	}
	return s.read(ctx, "ping", func(ctx context.Context, c *conn) error {
		var one int
		return c.row(ctx, `SELECT 1`, nil, &one)
	})
}

// Close implements [persistence.Store].
func (s *Store) Close() error {
	s.once.Do(func() {
		s.closed.Store(true)
		if s.db.users.Add(-1) == 0 {
			s.err = s.db.close()
		}
	})
	return s.err
}

// write commits what apply writes, together with what others write at the same time. apply may run more than once, if the group
// that it was part of had to be taken apart; what it returns is this caller's error.
func (s *Store) write(ctx context.Context, size int, apply func(context.Context, *txn) error) error {
	if s.closed.Load() {
		return persistence.ErrClosed
	}
	if size > mutationBytesMax {
		return fmt.Errorf("%w: %d bytes, the maximum is %d", persistence.ErrTooLarge, size, mutationBytesMax)
	}
	return s.db.committer.Submit(ctx, &write{size: size, apply: apply})
}

// read runs f on a reader's connection.
func (s *Store) read(ctx context.Context, operation string, f func(context.Context, *conn) error) error {
	if s.closed.Load() {
		return persistence.ErrClosed
	}
	if err := s.db.read(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return nil
}
