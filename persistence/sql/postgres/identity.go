package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// identity notices that the database has become another one: a standby that was promoted may lack what was committed last, and a
// restored copy has forgotten. Then this process takes a new key. All that it owned under the old one is fenced, so it cannot write on
// top of a state that it only remembers; it has to take its shards again and to reload.
type identity struct {
	logger   *zap.Logger
	onChange func(reason string)
	// unsupported is set once a server has refused to answer.
	unsupported atomic.Bool

	mu  sync.Mutex
	key int64
	// former are the keys before, the latest last: rows that carry one belong to this process, too.
	former []int64
	seen   server
}

// formerKeysMax bounds the keys that a process remembers. Each is the end of a database, so there are few.
const formerKeysMax = 16

// server is what tells one database from another, and its past from its future.
type server struct {
	system   int64
	timeline string // the first digits of the name of the current WAL file
	position int64  // of the WAL, as far as it is durable
}

func newIdentity(logger *zap.Logger, onChange func(string)) *identity {
	return &identity{logger: logger, onChange: onChange, key: newKey()}
}

// newKey makes a positive random number. Among thousands of incarnations, two equal ones are one in 10^12; and then they would only
// wait for each other.
func newKey() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.BigEndian.Uint64(b[:])>>1) | 1
}

func (i *identity) currentKey() int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key
}

// hasHad tells whether a key is, or was, this process's.
func (i *identity) hasHad(key int64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return key == i.key || slices.Contains(i.former, key)
}

// A server in recovery has no current WAL file; nothing can be written there.
const sqlIdentity = `SELECT system_identifier, CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) END,
CASE WHEN pg_is_in_recovery() THEN 0 ELSE (pg_current_wal_flush_lsn() - '0/0')::int8 END FROM pg_control_system()`

// check asks a new connection's server who it is, compares it with the last one, and returns the key that commits on this connection
// must use.
func (i *identity) check(ctx context.Context, conn *pgx.Conn) (int64, error) {
	batch := &pgx.Batch{}
	observe := i.queue(batch)
	err := conn.SendBatch(ctx, batch).Close()
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && severity(pgErr) == severityError {
		i.unsupported.Store(true) // some services do not permit it
		return i.currentKey(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("identify the server: %w", err)
	}
	return observe(), nil
}

// sqlGuard fails on any server but the one that was seen last. Parameters: its system identifier, timeline and position.
const sqlGuard = `SELECT perdure_raise('` + stateOtherServer + `', '') FROM pg_control_system()
WHERE system_identifier <> $1::int8 OR left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) <> $2::text OR pg_current_wal_flush_lsn() - '0/0' < $3::int8`

// guard has a commit fail on another server than the one that was seen last. It is for connections through a pool, which lead to another
// server without being new: it would be noticed only when the lease is renewed.
func (i *identity) guard(batch *pgconn.Batch) {
	i.mu.Lock()
	seen := i.seen
	i.mu.Unlock()
	if seen.timeline != "" && !i.unsupported.Load() {
		batch.ExecParams(sqlGuard, [][]byte{int64Param(seen.system), []byte(seen.timeline), int64Param(seen.position)}, nil, binaryFormat, nil)
	}
}

// queue adds the question to a batch. The function that it returns compares the answer, once the batch has been read.
func (i *identity) queue(batch *pgx.Batch) (observe func() int64) {
	if i.unsupported.Load() {
		return i.currentKey
	}
	i.mu.Lock()
	before := i.seen.position // another connection may see a later position while this one waits for its answer
	i.mu.Unlock()
	var now server
	batch.Queue(sqlIdentity).QueryRow(func(row pgx.Row) error { return row.Scan(&now.system, &now.timeline, &now.position) })
	return func() int64 { return i.observe(before, now) }
}

func (i *identity) observe(before int64, now server) int64 {
	i.mu.Lock()
	reason := i.seen.changed(before, now)
	if now.timeline != "" {
		if reason == "" {
			now.position = max(now.position, i.seen.position)
		}
		i.seen = now
	}
	if reason != "" {
		i.former = append(i.former[max(0, len(i.former)-formerKeysMax+1):], i.key)
		i.key = newKey()
	}
	key := i.key
	i.mu.Unlock()
	if reason != "" {
		i.logger.Warn("The database is not the one it was. All shards and queues must be taken again.", zap.String("reason", reason))
		if i.onChange != nil {
			i.onChange(reason)
		}
	}
	return key
}

// changed says why a server is another one, or "".
func (s server) changed(before int64, now server) string {
	switch {
	case s.timeline == "" || now.timeline == "":
		return ""
	case s.system != now.system:
		return "another system identifier"
	case s.timeline != now.timeline:
		return fmt.Sprintf("timeline %s instead of %s", strings.TrimLeft(now.timeline, "0"), strings.TrimLeft(s.timeline, "0"))
	case now.position < before:
		return "the write-ahead log is shorter than it was"
	}
	return ""
}
