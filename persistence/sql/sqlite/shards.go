package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/perdure/perdure/persistence"
)

// TakeShards implements [persistence.Shards]. It is in the queue of the one committer: the commits of the previous owner that were
// asked for before it are done, and later ones find the new epoch.
func (s *Store) TakeShards(ctx context.Context, ownerName string, shards []persistence.ShardID) (map[persistence.ShardID]persistence.Epoch, error) {
	const take = `INSERT INTO shards (shard_id, owner, key, epoch) SELECT DISTINCT value, ?1, ?2, 1 FROM json_each(?3) WHERE true
		ON CONFLICT (shard_id) DO UPDATE SET owner = excluded.owner, key = excluded.key, epoch = epoch + 1
		RETURNING shard_id, epoch`
	return s.takeShards(ctx, take, ownerName, shards)
}

// RetakeShards implements [persistence.Shards].
func (s *Store) RetakeShards(ctx context.Context, ownerName string, shards []persistence.ShardID) (map[persistence.ShardID]persistence.Epoch, error) {
	const retake = `UPDATE shards SET owner = ?1, epoch = epoch + 1 WHERE key = ?2 AND shard_id IN (SELECT value FROM json_each(?3))
		RETURNING shard_id, epoch`
	return s.takeShards(ctx, retake, ownerName, shards)
}

// takeShards runs a statement that makes this process the owner of shards and returns their epochs. Its parameters are the owner's name,
// the owner's key and the shards.
func (s *Store) takeShards(ctx context.Context, sql, ownerName string, shards []persistence.ShardID) (
	map[persistence.ShardID]persistence.Epoch, error,
) {
	valid := make([]persistence.ShardID, 0, len(shards))
	for _, shard := range shards {
		if shard >= 0 && shard < persistence.ShardCount {
			valid = append(valid, shard)
		}
	}
	list, err := json.Marshal(valid)
	if err != nil {
		return nil, fmt.Errorf("take shards: %w", err)
	}
	var taken map[persistence.ShardID]persistence.Epoch
	err = s.write(ctx, len(list), func(ctx context.Context, tx *txn) error {
		taken = make(map[persistence.ShardID]persistence.Epoch, len(valid))
		return tx.takeShards(ctx, sql, owner{key: s.key}, ownerName, string(list), taken)
	})
	if err != nil {
		return nil, fmt.Errorf("take shards: %w", err)
	}
	return taken, nil
}

func (tx *txn) takeShards(ctx context.Context, sql string, o owner, name, list string, taken map[persistence.ShardID]persistence.Epoch) error {
	return tx.conn.rows(ctx, sql, []any{name, o.key, list}, func(scan func(...any) error) (bool, error) {
		var shard persistence.ShardID
		if err := scan(&shard, &o.epoch); err != nil {
			return false, err
		}
		taken[shard] = o.epoch
		tx.shards[shard] = o
		return true, nil
	})
}

// checkShard fails with ErrFenced unless this owner has the shard.
func (tx *txn) checkShard(ctx context.Context, shard persistence.ShardID, claimed owner) error {
	stored, ok := tx.shards[shard]
	if !ok {
		err := tx.conn.row(ctx, `SELECT key, epoch FROM shards WHERE shard_id = ?`, []any{shard}, &stored.key, &stored.epoch)
		if errors.Is(err, persistence.ErrNotFound) {
			return fmt.Errorf("%w: nobody has taken shard %d", persistence.ErrFenced, shard)
		}
		if err != nil {
			return err
		}
		tx.shards[shard] = stored
	}
	if stored != claimed {
		return fmt.Errorf("%w (shard %d: epoch %d, this is %d)", persistence.ErrFenced, shard, stored.epoch, claimed.epoch)
	}
	return nil
}
