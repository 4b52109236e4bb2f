package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

// executionArgs are the parameters of a key, if it can be stored at all; else nothing is stored under it.
func executionArgs(key persistence.ExecutionKey) ([]any, error) {
	namespace, ok := parseUUID(key.NamespaceID)
	if !ok || !validText(key.BusinessID) {
		return nil, persistence.ErrNotFound
	}
	return []any{int32(key.Shard()), [16]byte(namespace), int16(key.Kind), key.BusinessID}, nil
}

// LoadRun implements persistence.Executions.
func (s *Store) LoadRun(ctx context.Context, key persistence.ExecutionKey, runID string) (*persistence.Run, error) {
	args, err := executionArgs(key)
	if err != nil {
		return nil, err
	}
	sql := sqlLoadCurrentRun
	if runID != "" {
		run, ok := parseUUID(runID)
		if !ok {
			return nil, persistence.ErrNotFound
		}
		sql = sqlLoadRun
		args = append(args, [16]byte(run))
	}
	run, err := s.load(ctx, sql, args)
	if err != nil {
		return nil, readError("load a run", err)
	}
	if !isDense(run) {
		return nil, fmt.Errorf("%w: load run %s: transitions are missing in the database", persistence.ErrUnavailable, run.RunID)
	}
	return run, nil
}

// load reads the row and then its transitions, in two round trips, since the second statement must know the bucket. One snapshot serves
// both: a commit in between could delete rows that its own snapshot covers.
func (s *Store) load(ctx context.Context, sql string, args []any) (run *persistence.Run, err error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release() // which closes the connection if it is still in the transaction
	batch := &pgx.Batch{}
	batch.Queue(beginLoad)
	batch.Queue(settingsGeneric)
	batch.Queue(sql, args...).QueryRow(func(row pgx.Row) error {
		var seq *int64
		var parts []byte
		if run, err = scanRun(row, &seq, &parts); err == nil && seq != nil {
			run.Snapshot = &persistence.Snapshot{Seq: *seq, Parts: parts}
		}
		return err
	})
	if err := conn.SendBatch(ctx, batch).Close(); errors.Is(err, pgx.ErrNoRows) {
		_, err = conn.Exec(ctx, "ROLLBACK")
		return nil, cmp.Or(err, persistence.ErrNotFound)
	} else if err != nil {
		return nil, err
	}
	batch = &pgx.Batch{}
	batch.Queue(settingsCustom)
	batch.Queue(sqlLoadTransitions, run.Bucket, run.RunID, snapshotSeq(run)).Query(func(rows pgx.Rows) error {
		return eachRow(rows, func(rows pgx.Rows) error {
			var t persistence.Transition
			err := rows.Scan(&t.Seq, &t.FirstEventID, &t.Parts)
			run.Transitions = append(run.Transitions, t)
			return err
		})
	})
	batch.Queue("COMMIT")
	return run, conn.SendBatch(ctx, batch).Close()
}

func snapshotSeq(run *persistence.Run) int64 {
	if run.Snapshot == nil {
		return 0
	}
	return run.Snapshot.Seq
}

// isDense tells whether the transitions follow the snapshot without a gap.
func isDense(run *persistence.Run) bool {
	seq := snapshotSeq(run)
	for i := range run.Transitions {
		if seq++; run.Transitions[i].Seq != seq {
			return false
		}
	}
	return true
}

// scanRun reads executionColumns, and more columns into more.
func scanRun(row pgx.Row, more ...any) (*persistence.Run, error) {
	var (
		r              persistence.Run
		shard          int32
		kind           int16
		namespace, run [16]byte
		wakeAt         *int64
	)
	err := row.Scan(append([]any{&shard, &namespace, &kind, &r.Key.BusinessID, &run, &r.Bucket, &r.Open, &r.Status, &r.StartRequestID, &wakeAt,
		&r.HasEffects}, more...)...)
	if err != nil {
		return nil, err
	}
	r.Key.NamespaceID, r.Key.Kind, r.RunID = uuidBytes(namespace).String(), persistence.Kind(kind), uuidBytes(run).String()
	r.WakeAt = timeOrZero(wakeAt)
	return &r, nil
}

func timeOrZero(nanos *int64) time.Time {
	if nanos == nil {
		return time.Time{}
	}
	return visibilitysql.Time(*nanos)
}

// ListRuns implements persistence.Executions.
func (s *Store) ListRuns(ctx context.Context, key persistence.ExecutionKey, limit int) ([]*persistence.Run, error) {
	args, err := executionArgs(key)
	if err != nil {
		return nil, nil // under such a key there is nothing
	}
	var runs []*persistence.Run
	err = s.readRows(ctx, "list runs", settingsGeneric, func(rows pgx.Rows) error {
		run, err := scanRun(rows)
		runs = append(runs, run)
		return err
	}, sqlListRuns, append(args, limit)...)
	if err != nil {
		return nil, err
	}
	return runs, nil
}

// ReadHistory implements persistence.Executions.
func (s *Store) ReadHistory(ctx context.Context, r persistence.HistoryRange) ([]persistence.Transition, error) {
	run, ok := parseUUID(r.RunID)
	if !ok || r.From > r.To {
		return nil, nil
	}
	sql := sqlReadHistory
	if r.Reverse {
		sql = sqlReadHistoryReverse
	}
	var out []persistence.Transition
	err := s.readRows(ctx, "read history", settingsCustom, func(rows pgx.Rows) error {
		var t persistence.Transition
		if err := rows.Scan(&t.Seq, &t.FirstEventID, &t.Events); err != nil {
			return err
		}
		out = append(out, t)
		return nil
	}, sql, r.Bucket, [16]byte(run), r.From, r.To, max(1, r.RowsMax), int64(max(1, r.BytesMax)))
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ReadTransitions implements persistence.Executions.
func (s *Store) ReadTransitions(ctx context.Context, bucket int32, runID string, fromSeq int64, limit int) ([]persistence.Transition, error) {
	run, ok := parseUUID(runID)
	if !ok {
		return nil, nil
	}
	var out []persistence.Transition
	err := s.readRows(ctx, "read transitions", settingsCustom, func(rows pgx.Rows) error {
		var t persistence.Transition
		if err := rows.Scan(&t.Seq, &t.FirstEventID, &t.Events, &t.Parts); err != nil {
			return err
		}
		out = append(out, t)
		return nil
	}, sqlReadTransitions, bucket, [16]byte(run), fromSeq, limit)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ScanWakeups implements persistence.Executions.
func (s *Store) ScanWakeups(ctx context.Context, shards []persistence.ShardID, before time.Time, after persistence.ScanCursor, limit int) (
	[]persistence.RunRef, persistence.ScanCursor, error) {
	afterTime, afterRun := int64(-1<<63), uuidBytes{}
	if after.RunID != "" {
		afterTime = visibilitysql.Nanos(after.Time)
		afterRun, _ = parseUUID(after.RunID)
	}
	return s.scan(ctx, "scan wake-ups", after, limit, sqlScanWakeups, shardsFrom(shards, after), visibilitysql.Nanos(before),
		int32(after.Shard), afterTime, [16]byte(afterRun), limit)
}

// ScanEffects implements persistence.Executions.
func (s *Store) ScanEffects(ctx context.Context, shards []persistence.ShardID, after persistence.ScanCursor, limit int) (
	[]persistence.RunRef, persistence.ScanCursor, error) {
	afterRun, _ := parseUUID(after.RunID)
	return s.scan(ctx, "scan effects", after, limit, sqlScanEffects, shardsFrom(shards, after), int32(after.Shard), [16]byte(afterRun), limit)
}

// shardsFrom leaves out the shards that a scan has behind it.
func shardsFrom(shards []persistence.ShardID, after persistence.ScanCursor) []int32 {
	ids := make([]int32, 0, len(shards))
	for _, shard := range shards {
		if shard >= after.Shard {
			ids = append(ids, int32(shard))
		}
	}
	return ids
}

func (s *Store) scan(ctx context.Context, op string, cursor persistence.ScanCursor, limit int, sql string, args ...any) (
	[]persistence.RunRef, persistence.ScanCursor, error) {
	if cursor.Done {
		return nil, cursor, nil
	}
	var refs []persistence.RunRef
	err := s.readRows(ctx, op, settingsCustom, func(rows pgx.Rows) error {
		var (
			ref            persistence.RunRef
			shard          int32
			kind           int16
			namespace, run [16]byte
			wakeAt         *int64
		)
		if err := rows.Scan(&shard, &namespace, &kind, &ref.Key.BusinessID, &run, &wakeAt); err != nil {
			return err
		}
		ref.Key.NamespaceID, ref.Key.Kind, ref.RunID = uuidBytes(namespace).String(), persistence.Kind(kind), uuidBytes(run).String()
		ref.WakeAt = timeOrZero(wakeAt)
		refs = append(refs, ref)
		cursor = persistence.ScanCursor{Shard: persistence.ShardID(shard), Time: ref.WakeAt, RunID: ref.RunID}
		return nil
	}, sql, args...)
	if err != nil {
		return nil, persistence.ScanCursor{}, err
	}
	cursor.Done = len(refs) < limit
	return refs, cursor, nil
}
