package sqlite

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

var _ persistence.Inspector = (*Store)(nil)

const (
	inspectPositionsText = `SELECT shard_id, namespace_id, kind, business_id, run_id FROM executions
		WHERE (shard_id, namespace_id, kind, business_id, run_id) > (?, ?, ?, ?, ?)
		ORDER BY shard_id, namespace_id, kind, business_id, run_id LIMIT ?`
	// The shard is that of the row, which may not be that of the key.
	inspectRunText = `SELECT ` + runColumns + `, snapshot_seq, snapshot FROM executions WHERE ` + runCondition
	inspectLogText = `SELECT seq, first_event_id, events, parts FROM transitions WHERE bucket = ? AND run_id = ? ORDER BY seq`

	// No index leads from a run id alone to its row: SQLite makes one for the statement.
	orphanLogsText = `SELECT f.bucket, f.run_id, f.seq, f.first_event_id, f.events, f.parts
		FROM (SELECT bucket, run_id, MIN(seq) AS seq FROM transitions GROUP BY bucket, run_id) AS l
		JOIN transitions f ON f.bucket = l.bucket AND f.run_id = l.run_id AND f.seq = l.seq
		WHERE (l.run_id, l.bucket) NOT IN (SELECT run_id, bucket FROM executions)`
	orphanVisibilityText = `SELECT namespace_id, run_id, workflow_id FROM visibility
		WHERE (run_id, namespace_id) NOT IN (SELECT run_id, namespace_id FROM executions)`
)

// InspectRuns implements [persistence.Inspector].
func (s *Store) InspectRuns(ctx context.Context, after *persistence.RunPosition, limit int, visit func(*persistence.StoredRun) error) (*persistence.RunPosition, error) {
	var last *persistence.RunPosition
	err := s.inspect(ctx, "inspect runs", func(ctx context.Context, c *conn) error {
		positions, err := c.positions(ctx, after, limit)
		if err != nil {
			return err
		}
		for i := range positions {
			if err := c.visitRun(ctx, positions[i], visit); err != nil {
				return err
			}
			last = &positions[i]
		}
		if len(positions) < limit {
			last = nil
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return last, nil
}

// InspectRun implements [persistence.Inspector].
func (s *Store) InspectRun(ctx context.Context, key persistence.ExecutionKey, runID string, visit func(*persistence.StoredRun) error) error {
	return s.inspect(ctx, "inspect run", func(ctx context.Context, c *conn) error {
		return c.visitRun(ctx, persistence.RunPosition{Shard: key.Shard(), Key: key, RunID: runID}, visit)
	})
}

// inspect runs f in a read transaction.
func (s *Store) inspect(ctx context.Context, operation string, f func(context.Context, *conn) error) error {
	return s.read(ctx, operation, func(ctx context.Context, c *conn) error {
		return c.snapshot(ctx, func() error { return f(ctx, c) })
	})
}

func (c *conn) positions(ctx context.Context, after *persistence.RunPosition, limit int) ([]persistence.RunPosition, error) {
	if after == nil {
		after = &persistence.RunPosition{Shard: -1}
	}
	var found []persistence.RunPosition
	args := []any{after.Shard, after.Key.NamespaceID, after.Key.Kind, after.Key.BusinessID, after.RunID, limit}
	err := c.rows(ctx, inspectPositionsText, args, func(scan func(...any) error) (bool, error) {
		var p persistence.RunPosition
		err := scan(&p.Shard, &p.Key.NamespaceID, &p.Key.Kind, &p.Key.BusinessID, &p.RunID)
		found = append(found, p)
		return true, err
	})
	return found, err
}

// visitRun reads the run's own rows and shows them; the log is read when the visitor asks for it.
func (c *conn) visitRun(ctx context.Context, p persistence.RunPosition, visit func(*persistence.StoredRun) error) error {
	run := &persistence.StoredRun{Run: persistence.Run{Key: p.Key}, Shard: p.Shard}
	var (
		wakeAt, seq *int64
		parts       []byte
	)
	args := []any{p.Shard, p.Key.NamespaceID, p.Key.Kind, p.Key.BusinessID, p.RunID}
	err := c.row(ctx, inspectRunText, args, &run.RunID, &run.Bucket, &run.Open, &run.Status, &run.StartRequestID, &wakeAt, &run.HasEffects, &seq, &parts)
	if err != nil {
		return err
	}
	run.WakeAt = timeValue(wakeAt)
	if seq != nil {
		run.Snapshot = &persistence.Snapshot{Seq: *seq, Parts: parts}
	}
	query := visibilitysql.Get(visibilitysql.SQLite, p.Key.NamespaceID, p.RunID)
	err = c.rows(ctx, query.SQL, query.Args, func(scan func(...any) error) (_ bool, err error) {
		run.Visibility, err = visibilitysql.ScanRow(scanner(scan))
		return false, err
	})
	if err != nil {
		return err
	}
	run.Log = c.log(ctx, run.Bucket, p.RunID)
	return visit(run)
}

func (c *conn) log(ctx context.Context, bucket int32, runID string) iter.Seq2[persistence.Transition, error] {
	return func(yield func(persistence.Transition, error) bool) {
		stopped := false
		err := c.rows(ctx, inspectLogText, []any{bucket, runID}, func(scan func(...any) error) (bool, error) {
			var t persistence.Transition
			if err := scan(&t.Seq, &t.FirstEventID, &t.Events, &t.Parts); err != nil {
				return false, err
			}
			stopped = !yield(t, nil)
			return !stopped, nil
		})
		if err != nil && !stopped {
			yield(persistence.Transition{}, fmt.Errorf("read the log of run %s: %w", runID, err))
		}
	}
}

// InspectOrphans implements [persistence.Inspector].
func (s *Store) InspectOrphans(ctx context.Context, visit func(*persistence.Orphan) error) error {
	return s.inspect(ctx, "inspect orphans", func(ctx context.Context, c *conn) error {
		err := c.rows(ctx, orphanLogsText, nil, func(scan func(...any) error) (bool, error) {
			o := &persistence.Orphan{}
			if err := scan(&o.Bucket, &o.RunID, &o.First.Seq, &o.First.FirstEventID, &o.First.Events, &o.First.Parts); err != nil {
				return false, err
			}
			return true, visit(o)
		})
		if err != nil {
			return err
		}
		return c.rows(ctx, orphanVisibilityText, nil, func(scan func(...any) error) (bool, error) {
			o := &persistence.Orphan{Visibility: true}
			if err := scan(&o.NamespaceID, &o.RunID, &o.BusinessID); err != nil {
				return false, err
			}
			return true, visit(o)
		})
	})
}

// ShardOwners implements [persistence.Inspector].
func (s *Store) ShardOwners(ctx context.Context) ([]persistence.ShardOwner, error) {
	var owners []persistence.ShardOwner
	const text = `SELECT shard_id, owner, key, epoch FROM shards ORDER BY shard_id`
	err := s.read(ctx, "list shard owners", func(ctx context.Context, c *conn) error {
		return c.rows(ctx, text, nil, func(scan func(...any) error) (bool, error) {
			var o persistence.ShardOwner
			err := scan(&o.Shard, &o.Owner, &o.Key, &o.Epoch)
			owners = append(owners, o)
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return owners, nil
}

// ListMembers implements [persistence.Inspector].
func (s *Store) ListMembers(ctx context.Context) ([]persistence.Member, time.Time, error) {
	var members []persistence.Member
	err := s.read(ctx, "list members", func(ctx context.Context, c *conn) (err error) {
		members, err = c.members(ctx)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return members, time.Now().UTC(), nil
}
