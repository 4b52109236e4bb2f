package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/persistence"
)

const runColumns = "run_id, bucket, open, status, start_request_id, wake_at, has_effects"

// LoadRun implements [persistence.Executions].
func (s *Store) LoadRun(ctx context.Context, key persistence.ExecutionKey, runID string) (*persistence.Run, error) {
	var run *persistence.Run
	err := s.read(ctx, "load run", func(ctx context.Context, c *conn) error {
		// One transaction: a commit between the two reads could replace the snapshot and delete rows that follow the one read.
		return c.snapshot(ctx, func() (err error) {
			if run, err = c.run(ctx, key, runID); err != nil {
				return err
			}
			return c.transitions(ctx, run)
		})
	})
	if err != nil {
		return nil, err
	}
	return run, nil
}

// snapshot runs f in a read transaction.
func (c *conn) snapshot(ctx context.Context, f func() error) error {
	if _, err := c.exec(ctx, "BEGIN"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = c.exec(ctx, "COMMIT")
	}
	if err != nil {
		return errors.Join(err, rollback(ctx, c))
	}
	return nil
}

func (c *conn) run(ctx context.Context, key persistence.ExecutionKey, runID string) (*persistence.Run, error) {
	run := &persistence.Run{Key: key}
	var (
		wakeAt, seq *int64
		parts       []byte
	)
	text := "SELECT " + runColumns + ", snapshot_seq, snapshot FROM executions WHERE " + keyCondition
	args := keyArgs(key)
	if runID == "" {
		text += " ORDER BY run_id DESC LIMIT 1"
	} else {
		text += " AND run_id = ?"
		args = append(args, runID)
	}
	err := c.row(ctx, text, args, &run.RunID, &run.Bucket, &run.Open, &run.Status, &run.StartRequestID, &wakeAt, &run.HasEffects, &seq, &parts)
	if err != nil {
		return nil, err
	}
	run.WakeAt = timeValue(wakeAt)
	if seq != nil {
		run.Snapshot = &persistence.Snapshot{Seq: *seq, Parts: parts}
	}
	return run, nil
}

func keyArgs(key persistence.ExecutionKey) []any {
	return []any{key.Shard(), key.NamespaceID, key.Kind, key.BusinessID}
}

// transitions loads what follows the snapshot. A gap would mean that state is lost, so nothing is better than the rest.
func (c *conn) transitions(ctx context.Context, run *persistence.Run) error {
	var last int64
	if run.Snapshot != nil {
		last = run.Snapshot.Seq
	}
	const text = `SELECT seq, first_event_id, parts FROM transitions WHERE bucket = ? AND run_id = ? AND seq > ? ORDER BY seq`
	return c.rows(ctx, text, []any{run.Bucket, run.RunID, last}, func(scan func(...any) error) (bool, error) {
		var t persistence.Transition
		if err := scan(&t.Seq, &t.FirstEventID, &t.Parts); err != nil {
			return false, err
		}
		if t.Seq != last+1 {
			return false, fmt.Errorf("run %s is damaged: transition %d follows %d", run.RunID, t.Seq, last)
		}
		last = t.Seq
		run.Transitions = append(run.Transitions, t)
		return true, nil
	})
}

// ListRuns implements [persistence.Executions].
func (s *Store) ListRuns(ctx context.Context, key persistence.ExecutionKey, limit int) ([]*persistence.Run, error) {
	var runs []*persistence.Run
	const text = "SELECT " + runColumns + " FROM executions WHERE " + keyCondition + " ORDER BY run_id DESC LIMIT ?"
	err := s.read(ctx, "list runs", func(ctx context.Context, c *conn) error {
		return c.rows(ctx, text, append(keyArgs(key), max(limit, 0)), func(scan func(...any) error) (bool, error) {
			run := &persistence.Run{Key: key}
			var wakeAt *int64
			err := scan(&run.RunID, &run.Bucket, &run.Open, &run.Status, &run.StartRequestID, &wakeAt, &run.HasEffects)
			run.WakeAt = timeValue(wakeAt)
			runs = append(runs, run)
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return runs, nil
}
