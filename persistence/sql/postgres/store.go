// Package postgres is the store for PostgreSQL 15 and later.
//
// It owns the connections, the statements and the group commit. Invariants:
//
//   - Each process has a key, a random number. Every commit holds the advisory lock of the key, shared, and only then reads the epochs
//     of the shards that it writes to. Whoever takes a shard holds the lock of the previous owner's key exclusively while it changes
//     the row. So a commit is either visible before the shard has moved, or it sees that it has moved and fails.
//   - A commit is one pipeline with one Sync in one implicit transaction. It is durable at ReadyForQuery and not before.
//   - No session state: settings, locks and timeouts are those of transactions. A pool in transaction mode may be in between.
//   - Every statement of a commit or a load goes through the primary key, or an index made for it, whatever the planner believes.
package postgres

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/group"
)

// Store is a database as one process sees it. It implements persistence.Store.
type Store struct {
	opts        Options
	logger      *zap.Logger
	lockTimeout string // of commits, in milliseconds
	pool        *pgxpool.Pool
	lists       *pgxpool.Pool
	identity    *identity
	isolated    isolatedSet
	committers  []*group.Committer[*member]
	conns       []*commitConn
	closed      atomic.Bool
	// visibilityCut counts rows that the database did not take whole.
	visibilityCut atomic.Int64
}

var _ persistence.Store = (*Store)(nil)

// Open connects to a database, checks or updates its schema and returns its store.
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts.setDefaults()
	config, err := pgxpool.ParseConfig(opts.URL)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	setUpConfig(config.ConnConfig)
	if err := adaptToPooler(ctx, config.ConnConfig); err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	s := &Store{opts: opts, logger: opts.Logger, identity: newIdentity(opts.Logger, opts.OnServerChange)}
	s.lockTimeout = milliseconds(opts.CommitTimeout / 2) // then the answer is definite
	if s.pool, err = s.newPool(ctx, config, opts.PoolSize); err != nil {
		return nil, err
	}
	if s.lists, err = s.newPool(ctx, config, opts.ListPoolSize); err != nil {
		s.pool.Close()
		return nil, err
	}
	if err := s.checkSchema(ctx); err != nil {
		s.pool.Close()
		s.lists.Close()
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	for range opts.Committers {
		c := &committer{store: s, conn: newCommitConn(s, config.ConnConfig), batch: newGroupBatch()}
		s.conns = append(s.conns, c.conn)
		s.committers = append(s.committers, group.New(c.commit, opts.Group))
	}
	return s, nil
}

func setUpConfig(config *pgx.ConnConfig) {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "perdure"
	}
}

func (s *Store) newPool(ctx context.Context, config *pgxpool.Config, size int) (*pgxpool.Pool, error) {
	config = config.Copy()
	config.MaxConns, config.MinConns = int32(size), 0
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > poolSuspect }
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := s.identity.check(ctx, conn)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	return pool, nil
}

// Name implements persistence.Store.
func (s *Store) Name() string { return "postgres" }

// Key is the key of this incarnation: what the rows of shards and members carry. It changes when the database becomes another one.
func (s *Store) Key() int64 { return s.identity.currentKey() }

// Now implements persistence.Store.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.readRow(ctx, "read the time", settingsGeneric, func(row pgx.Row) error { return row.Scan(&now) }, "SELECT clock_timestamp()")
	return now, err
}

// Ping implements persistence.Store.
func (s *Store) Ping(ctx context.Context, write bool) error {
	if !write {
		_, err := s.Now(ctx)
		return err
	}
	// It changes no row, but a server that is in recovery or read-only refuses it.
	return s.exec(ctx, "ping", "UPDATE shards SET epoch = epoch WHERE shard_id = -1")
}

// Close implements persistence.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	for i, c := range s.committers {
		c.Close()
		s.conns[i].close()
	}
	s.pool.Close()
	s.lists.Close()
	return nil
}

// Stats are numbers for metrics.
type Stats struct {
	Waiting       int   // members that wait for their group
	VisibilityCut int64 // visibility rows that were stored with system attributes only, since the store was opened
	PoolInUse     int
	PoolSize      int
	PoolWaits     int64 // reads that had to wait for a connection
	ListsInUse    int
}

// Stats returns the current numbers. Commits are counted by the Observe hook of Options.Group.
func (s *Store) Stats() Stats {
	pool, lists := s.pool.Stat(), s.lists.Stat()
	stats := Stats{VisibilityCut: s.visibilityCut.Load(), PoolInUse: int(pool.AcquiredConns()), PoolSize: int(pool.MaxConns()),
		PoolWaits: pool.EmptyAcquireCount(), ListsInUse: int(lists.AcquiredConns())}
	for _, c := range s.committers {
		stats.Waiting += c.Waiting()
	}
	return stats
}

// begin is what every call of the store does first.
func (s *Store) begin(ctx context.Context) error {
	if s.closed.Load() {
		return persistence.ErrClosed
	}
	return contextError(ctx)
}

// readRow runs a statement that returns one row, with the settings for its plan, in one round trip.
func (s *Store) readRow(ctx context.Context, op, settings string, scan func(pgx.Row) error, sql string, args ...any) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(settings)
	batch.Queue(sql, args...).QueryRow(scan)
	return readError(op, s.pool.SendBatch(ctx, batch).Close())
}

// readRows runs a statement that returns many rows.
func (s *Store) readRows(ctx context.Context, op, settings string, scan func(pgx.Rows) error, sql string, args ...any) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(settings)
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error { return eachRow(rows, scan) })
	return readError(op, s.pool.SendBatch(ctx, batch).Close())
}

func eachRow(rows pgx.Rows, scan func(pgx.Rows) error) error {
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// exec runs one statement that writes, outside of group commit.
func (s *Store) exec(ctx context.Context, op, sql string, args ...any) error {
	_, err := s.execCount(ctx, op, sql, args...)
	return err
}

// execCount is exec that returns the number of rows.
func (s *Store) execCount(ctx context.Context, op, sql string, args ...any) (int64, error) {
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	var count int64
	batch := &pgx.Batch{}
	batch.Queue(settingsGeneric)
	queued := batch.Queue(sql, args...)
	queued.Exec(func(tag pgconn.CommandTag) error {
		count = tag.RowsAffected()
		return nil
	})
	return count, writeError(op, s.pool.SendBatch(ctx, batch).Close())
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }
