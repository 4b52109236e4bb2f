package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

// rowBytes is what a row costs besides its large fields, about.
const rowBytes = 200

// Commit implements [persistence.Executions].
func (s *Store) Commit(ctx context.Context, m *persistence.Mutation) error {
	shard := m.Key.Shard()
	err := s.write(ctx, mutationSize(m), func(ctx context.Context, tx *txn) error {
		if err := tx.checkShard(ctx, shard, owner{s.key, m.Epoch}); err != nil {
			return err
		}
		if m.First {
			if err := tx.checkFirst(ctx, shard, &m.Key); err != nil {
				return err
			}
		}
		for i := range m.Runs {
			if err := s.writeRun(ctx, tx, shard, &m.Key, &m.Runs[i]); err != nil {
				return fmt.Errorf("run %s: %w", m.Runs[i].RunID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit to %s: %w", m.Key.BusinessID, err)
	}
	return nil
}

func mutationSize(m *persistence.Mutation) int {
	size := 0
	for i := range m.Runs {
		r := &m.Runs[i]
		size += rowBytes
		if r.Transition != nil {
			size += rowBytes + len(r.Transition.Events) + len(r.Transition.Parts)
		}
		if r.Snapshot != nil {
			size += len(r.Snapshot.Parts)
		}
		if r.Visibility != nil {
			size += rowBytes + len(r.Visibility.SearchAttributes) + len(r.Visibility.Memo)
		}
	}
	return size
}

func (s *Store) writeRun(ctx context.Context, tx *txn, shard persistence.ShardID, key *persistence.ExecutionKey, r *persistence.RunWrite) error {
	if r.Insert {
		if err := tx.insertRun(ctx, shard, key, r); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
	} else {
		if err := tx.updateRun(ctx, shard, key, r); err != nil {
			return fmt.Errorf("update: %w", err)
		}
	}
	if t := r.Transition; t != nil {
		err := tx.exec(ctx, `INSERT INTO transitions (bucket, run_id, seq, first_event_id, events, parts) VALUES (?, ?, ?, ?, ?, ?)`,
			r.Bucket, r.RunID, t.Seq, t.FirstEventID, blob(t.Events), blob(t.Parts))
		if err != nil {
			return fmt.Errorf("append transition %d: %w", t.Seq, err)
		}
	}
	if r.Visibility != nil {
		if err := s.writeVisibility(ctx, tx, r.Visibility); err != nil {
			return fmt.Errorf("write visibility: %w", err)
		}
	}
	return nil
}

func (tx *txn) insertRun(ctx context.Context, shard persistence.ShardID, key *persistence.ExecutionKey, r *persistence.RunWrite) error {
	var seq, parts any
	if r.Snapshot != nil {
		seq, parts = r.Snapshot.Seq, blob(r.Snapshot.Parts)
	}
	return tx.exec(ctx, `INSERT INTO executions (shard_id, namespace_id, kind, business_id, run_id, status, open, bucket, start_request_id,
		wake_at, has_effects, snapshot_seq, snapshot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		shard, key.NamespaceID, key.Kind, key.BusinessID, r.RunID, r.Status, r.Open, r.Bucket, r.StartRequestID,
		timeArg(r.WakeAt), r.HasEffects, seq, parts)
}

// checkFirst answers ErrExists if the key has a run.
func (tx *txn) checkFirst(ctx context.Context, shard persistence.ShardID, key *persistence.ExecutionKey) error {
	var one int
	err := tx.conn.row(ctx, `SELECT 1 FROM executions WHERE `+keyCondition+` LIMIT 1`,
		[]any{shard, key.NamespaceID, key.Kind, key.BusinessID}, &one)
	if errors.Is(err, persistence.ErrNotFound) {
		return nil
	}
	if err == nil {
		return persistence.ErrExists
	}
	return err
}

// updateRun writes the columns that change, and none if none does: then only the primary key of transitions is touched.
func (tx *txn) updateRun(ctx context.Context, shard persistence.ShardID, key *persistence.ExecutionKey, r *persistence.RunWrite) error {
	var (
		columns []string
		args    []any
	)
	set := func(column string, value any) {
		columns = append(columns, column+" = ?")
		args = append(args, value)
	}
	if r.SetStatus {
		set("status", r.Status)
		set("open", r.Open)
	}
	if r.SetWakeAt {
		set("wake_at", timeArg(r.WakeAt))
	}
	if r.SetHasEffects {
		set("has_effects", r.HasEffects)
	}
	where := []any{shard, key.NamespaceID, key.Kind, key.BusinessID, r.RunID}
	if r.Snapshot != nil {
		if !r.Snapshot.Dense {
			if err := tx.trim(ctx, r, where); err != nil {
				return err
			}
		}
		set("snapshot_seq", r.Snapshot.Seq)
		set("snapshot", blob(r.Snapshot.Parts))
	}
	if len(columns) == 0 {
		return nil
	}
	return tx.execOne(ctx, "UPDATE executions SET "+strings.Join(columns, ", ")+" WHERE "+runCondition, append(args, where...)...)
}

const (
	keyCondition = "shard_id = ? AND namespace_id = ? AND kind = ? AND business_id = ?"
	runCondition = keyCondition + " AND run_id = ?"
)

// trim deletes the rows without events that a new snapshot makes superfluous. Those before the snapshot that it replaces are gone
// already, so a long history is not walked for each snapshot.
func (tx *txn) trim(ctx context.Context, r *persistence.RunWrite, run []any) error {
	err := tx.exec(ctx, `DELETE FROM transitions WHERE bucket = ? AND run_id = ? AND seq < ? AND events IS NULL
		AND seq >= COALESCE((SELECT snapshot_seq FROM executions WHERE `+runCondition+`), 0)`,
		append([]any{r.Bucket, r.RunID, r.Snapshot.Seq}, run...)...)
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	return nil
}

// visibilityUpsert takes the columns in the order of writeVisibility.
const visibilityUpsert = `INSERT INTO visibility (namespace_id, run_id, workflow_id, workflow_type, task_queue, status,
	start_time, execution_time, close_time, history_length, history_size_bytes, state_transition_count,
	parent_workflow_id, parent_run_id, root_workflow_id, root_run_id, search_attributes, memo)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (namespace_id, run_id) DO UPDATE SET workflow_id = excluded.workflow_id, workflow_type = excluded.workflow_type,
	task_queue = excluded.task_queue, status = excluded.status, start_time = excluded.start_time,
	execution_time = excluded.execution_time, close_time = excluded.close_time, history_length = excluded.history_length,
	history_size_bytes = excluded.history_size_bytes, state_transition_count = excluded.state_transition_count,
	parent_workflow_id = excluded.parent_workflow_id, parent_run_id = excluded.parent_run_id,
	root_workflow_id = excluded.root_workflow_id, root_run_id = excluded.root_run_id,
	search_attributes = excluded.search_attributes, memo = excluded.memo`

func (s *Store) writeVisibility(ctx context.Context, tx *txn, v *persistence.VisibilityRow) error {
	return tx.exec(ctx, visibilityUpsert, v.NamespaceID, v.RunID, v.WorkflowID, v.WorkflowType, v.TaskQueue, v.Status,
		visibilitysql.Nanos(v.StartTime), visibilitysql.Nanos(v.ExecutionTime), timeArg(v.CloseTime),
		v.HistoryLength, v.HistorySizeBytes, v.StateTransitionCount,
		v.ParentWorkflowID, v.ParentRunID, v.RootWorkflowID, v.RootRunID, s.attributes(v), blob(v.Memo))
}

// attributes is the stored form of search attributes. What is not a JSON object could fail every later list, so the row does without;
// a transition never fails because of what it is listed under.
func (s *Store) attributes(v *persistence.VisibilityRow) any {
	if len(v.SearchAttributes) == 0 {
		return nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(v.SearchAttributes, &object); err != nil || object == nil {
		s.db.logger.Warn("search attributes are not a JSON object; the run is listed without them",
			zap.String("namespace_id", v.NamespaceID), zap.String("run_id", v.RunID), zap.Error(err))
		return nil
	}
	return string(v.SearchAttributes)
}

// DeleteRun implements [persistence.Executions]. Deleting what is not there is no error.
func (s *Store) DeleteRun(ctx context.Context, key persistence.ExecutionKey, epoch persistence.Epoch, bucket int32, runID string) error {
	shard := key.Shard()
	err := s.write(ctx, rowBytes, func(ctx context.Context, tx *txn) error {
		if err := tx.checkShard(ctx, shard, owner{s.key, epoch}); err != nil {
			return err
		}
		return errors.Join(
			tx.exec(ctx, "DELETE FROM executions WHERE "+runCondition, shard, key.NamespaceID, key.Kind, key.BusinessID, runID),
			tx.exec(ctx, `DELETE FROM transitions WHERE bucket = ? AND run_id = ?`, bucket, runID),
			tx.exec(ctx, `DELETE FROM visibility WHERE namespace_id = ? AND run_id = ?`, key.NamespaceID, runID))
	})
	if err != nil {
		return fmt.Errorf("delete run %s: %w", runID, err)
	}
	return nil
}

// blob is NULL for no bytes, so that "without events" is one thing.
func blob(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// timeArg is NULL for no time.
func timeArg(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return visibilitysql.Nanos(t)
}

// timeValue is the inverse of timeArg.
func timeValue(nanos *int64) time.Time {
	if nanos == nil {
		return time.Time{}
	}
	return visibilitysql.Time(*nanos)
}
