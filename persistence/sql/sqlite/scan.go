package sqlite

import (
	"context"
	"math"
	"time"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

const (
	scanColumns     = `SELECT shard_id, namespace_id, kind, business_id, run_id, wake_at FROM executions `
	scanWakeupsText = scanColumns + `WHERE wake_at IS NOT NULL AND wake_at < ? AND wake_at >= ? AND (wake_at, shard_id, run_id) > (?, ?, ?)
		ORDER BY wake_at, shard_id, run_id`
	scanEffectsText = scanColumns + `WHERE has_effects = 1 AND (shard_id, run_id) > (?, ?) ORDER BY shard_id, run_id`
)

// ScanWakeups implements [persistence.Executions], in the order of time.
func (s *Store) ScanWakeups(ctx context.Context, shards []persistence.ShardID, before time.Time, after persistence.ScanCursor, limit int) ([]persistence.RunRef, persistence.ScanCursor, error) {
	from := int64(math.MinInt64)
	if after.RunID != "" {
		from = visibilitysql.Nanos(after.Time)
	}
	args := []any{visibilitysql.Nanos(before), from, from, after.Shard, after.RunID}
	return s.scan(ctx, "scan wake-ups", scanWakeupsText, args, shards, after, limit)
}

// ScanEffects implements [persistence.Executions], in the order of shards.
func (s *Store) ScanEffects(ctx context.Context, shards []persistence.ShardID, after persistence.ScanCursor, limit int) ([]persistence.RunRef, persistence.ScanCursor, error) {
	return s.scan(ctx, "scan effects", scanEffectsText, []any{after.Shard, after.RunID}, shards, after, limit)
}

// scan reads a page of what an index holds. One process owns all shards of a file, so those that are not asked for are few, and a range
// of the index is cheaper than a search for each shard.
func (s *Store) scan(ctx context.Context, operation, text string, args []any, shards []persistence.ShardID, after persistence.ScanCursor, limit int) ([]persistence.RunRef, persistence.ScanCursor, error) {
	if after.Done || limit <= 0 {
		return nil, after, nil
	}
	wanted := make(map[persistence.ShardID]bool, len(shards))
	for _, shard := range shards {
		wanted[shard] = true
	}
	var found []persistence.RunRef
	next := persistence.ScanCursor{Done: true}
	err := s.read(ctx, operation, func(ctx context.Context, c *conn) error {
		return c.rows(ctx, text, args, func(scan func(...any) error) (bool, error) {
			var (
				ref    persistence.RunRef
				shard  persistence.ShardID
				wakeAt *int64
			)
			if err := scan(&shard, &ref.Key.NamespaceID, &ref.Key.Kind, &ref.Key.BusinessID, &ref.RunID, &wakeAt); err != nil {
				return false, err
			}
			if !wanted[shard] {
				return true, nil
			}
			if len(found) == limit { // there is more
				last := found[limit-1]
				next = persistence.ScanCursor{Shard: last.Key.Shard(), Time: last.WakeAt, RunID: last.RunID}
				return false, nil
			}
			ref.WakeAt = timeValue(wakeAt)
			found = append(found, ref)
			return true, nil
		})
	})
	if err != nil {
		return nil, after, err
	}
	return found, next, nil
}
