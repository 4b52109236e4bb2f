package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
)

// takeAttempts is how often a lock may time out before the caller has to try again: once before and once after the sessions of a dead
// owner have been ended, and once more for the owner that came in between.
const takeAttempts = 3

const (
	// In the order of the array, which is the order of the keys, so that two takers cannot wait for each other.
	sqlLockKeys = `SELECT pg_advisory_xact_lock(k) FROM unnest($1::int8[]) AS k`

	sqlShardKeys = `SELECT DISTINCT key FROM shards WHERE shard_id = ANY($1) ORDER BY key`
	// The rows are new, or still belong to one of the owners whose keys are locked. Any other row has just been taken by somebody else.
	sqlMoveShards = `UPDATE shards SET owner = $2, key = $3, epoch = epoch + 1 WHERE shard_id = ANY($1) AND key = ANY($4) RETURNING shard_id, epoch`
	sqlNewShards  = `INSERT INTO shards (shard_id, owner, key, epoch)
SELECT u.shard_id, $2, $3, 1 FROM unnest($1::int4[]) AS u(shard_id) ORDER BY u.shard_id ON CONFLICT (shard_id) DO NOTHING RETURNING shard_id, epoch`

	sqlQueueKey  = `SELECT key FROM task_queues WHERE namespace_id = $1 AND task_queue = $2 AND type = $3 AND partition = $4`
	sqlMoveQueue = `UPDATE task_queues SET owner = $5, key = $6, epoch = epoch + 1
WHERE namespace_id = $1 AND task_queue = $2 AND type = $3 AND partition = $4 AND key = ANY($7) RETURNING epoch, metadata`
	sqlNewQueue = `INSERT INTO task_queues (namespace_id, task_queue, type, partition, owner, key, epoch)
VALUES ($1, $2, $3, $4, $5, $6, 1) ON CONFLICT (namespace_id, task_queue, type, partition) DO NOTHING RETURNING epoch, metadata`

	// The sessions that hold an owner's lock, if nobody vouches for the owner: a live lease would. A 64-bit advisory lock is shown as two
	// halves, with objsubid 1. The process's own key is never spared: it asks because one of its commits has no outcome.
	sqlTerminate = `SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::int8 << 32) | l.objid::int8) = ANY($1)
  AND (((l.classid::int8 << 32) | l.objid::int8) = $2 OR NOT EXISTS (SELECT FROM cluster_members m
    WHERE m.key = ((l.classid::int8 << 32) | l.objid::int8) AND m.expires > clock_timestamp()))`
)

// TakeShards implements persistence.Shards. If a previous owner's lock is not free within the lock timeout and its lease has ended (or
// the owner is this process), the sessions that hold the lock are terminated: a frozen process may have sent half of a commit, and no
// timeout of the server ends a session that waits for the rest.
func (s *Store) TakeShards(ctx context.Context, owner string, shards []persistence.ShardID) (map[persistence.ShardID]persistence.Epoch, error) {
	return s.takeShards(ctx, owner, shards, false)
}

// RetakeShards implements persistence.Shards: it is TakeShards for rows that carry a key of this process.
func (s *Store) RetakeShards(ctx context.Context, owner string, shards []persistence.ShardID) (map[persistence.ShardID]persistence.Epoch, error) {
	return s.takeShards(ctx, owner, shards, true)
}

func (s *Store) takeShards(ctx context.Context, owner string, shards []persistence.ShardID, ownOnly bool) (
	map[persistence.ShardID]persistence.Epoch, error,
) {
	ids := make([]int32, 0, len(shards))
	for _, id := range shards {
		if id >= 0 && id < persistence.ShardCount {
			ids = append(ids, int32(id))
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	taken := make(map[persistence.ShardID]persistence.Epoch, len(ids))
	collect := func(rows pgx.Rows) error {
		var shard int32
		var epoch int64
		if err := rows.Scan(&shard, &epoch); err != nil {
			return err
		}
		taken[persistence.ShardID(shard)] = persistence.Epoch(epoch)
		return nil
	}
	err := s.take(ctx, "take shards", func(ctx context.Context, tx pgx.Tx) ([]int64, error) {
		rows, err := tx.Query(ctx, sqlShardKeys, ids)
		if err != nil {
			return nil, err
		}
		keys, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if ownOnly {
			keys = slices.DeleteFunc(keys, func(key int64) bool { return !s.identity.hasHad(key) })
		}
		return keys, err
	}, func(ctx context.Context, tx pgx.Tx, key int64, locked []int64) error {
		clear(taken)
		rows, err := tx.Query(ctx, sqlMoveShards, ids, owner, key, locked)
		if err != nil {
			return err
		}
		if err := eachRow(rows, collect); err != nil {
			return err
		}
		if len(taken) == len(ids) || ownOnly {
			return nil
		}
		rows, err = tx.Query(ctx, sqlNewShards, ids, owner, key)
		if err != nil {
			return err
		}
		return eachRow(rows, collect)
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// TakeQueue implements persistence.TaskQueues.
func (s *Store) TakeQueue(ctx context.Context, owner string, key persistence.QueueKey) (*persistence.Queue, error) {
	id, err := newQueueID(key)
	if err != nil {
		return nil, outward(err)
	}
	queue := &persistence.Queue{Key: key}
	args := []any{id.namespace.String(), id.name, id.typ, id.partition}
	err = s.take(ctx, "take a queue", func(ctx context.Context, tx pgx.Tx) ([]int64, error) {
		rows, err := tx.Query(ctx, sqlQueueKey, args...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[int64])
	}, func(ctx context.Context, tx pgx.Tx, key int64, locked []int64) error {
		sql, more := sqlMoveQueue, []any{owner, key, locked}
		if len(locked) == 0 {
			sql, more = sqlNewQueue, []any{owner, key}
		}
		err := tx.QueryRow(ctx, sql, append(slices.Clone(args), more...)...).Scan(&queue.Epoch, &queue.Metadata)
		if errors.Is(err, pgx.ErrNoRows) {
			return errLostRace
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return queue, nil
}

// errLostRace says that somebody else took the row between the look and the lock.
var errLostRace = fmt.Errorf("%w: another process is taking it", persistence.ErrConflict)

// take moves ownership: it reads the keys of the previous owners, locks them, and then moves the rows that still belong to them.
func (s *Store) take(ctx context.Context, op string, keys func(context.Context, pgx.Tx) ([]int64, error),
	move func(ctx context.Context, tx pgx.Tx, key int64, locked []int64) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	var err error
	for range takeAttempts {
		var blocking []int64
		err = s.takeOnce(ctx, keys, move, &blocking)
		switch {
		case errors.Is(err, errLostRace):
			continue
		case !hasState(err, stateLockNotAvailable):
			return writeError(op, err)
		}
		if terminateErr := s.terminate(ctx, blocking); terminateErr != nil {
			return terminateErr
		}
	}
	return writeError(op, err)
}

// takeOnce is one transaction. blocking gets the keys before they are locked.
func (s *Store) takeOnce(ctx context.Context, keys func(context.Context, pgx.Tx) ([]int64, error),
	move func(ctx context.Context, tx pgx.Tx, key int64, locked []int64) error, blocking *[]int64) error {
	key := s.identity.currentKey()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, settingsGeneric+", set_config('lock_timeout', $1, true)", milliseconds(s.opts.LockTimeout)); err != nil {
			return err
		}
		locked, err := keys(ctx, tx)
		if err != nil {
			return err
		}
		*blocking = locked
		if _, err := tx.Exec(ctx, sqlLockKeys, locked); err != nil {
			return err
		}
		return move(ctx, tx, key, locked)
	})
	if err == nil && key != s.identity.currentKey() {
		// The transaction went to another database than the commits will, or moved rows to a key that is no longer used.
		return errLostRace
	}
	return err
}

func (s *Store) terminate(ctx context.Context, keys []int64) error {
	var count int64
	err := s.readRow(ctx, "end the sessions of a dead owner", settingsGeneric, func(row pgx.Row) error { return row.Scan(&count) },
		sqlTerminate, keys, s.identity.currentKey())
	if err != nil {
		return err
	}
	if count > 0 {
		s.logger.Warn("Ended database sessions that held the lock of an owner without a lease.", zap.Int64("sessions", count))
	}
	return nil
}
