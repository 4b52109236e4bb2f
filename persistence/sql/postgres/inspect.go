package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

var _ persistence.Inspector = (*Store)(nil)

const (
	sqlInspectPositions = `SELECT shard_id, namespace_id, kind, business_id, run_id FROM executions
WHERE (shard_id, namespace_id, kind, business_id, run_id) > ($1, $2, $3, $4, $5)
ORDER BY shard_id, namespace_id, kind, business_id, run_id LIMIT $6`

	sqlInspectLog = `SELECT seq, first_event_id, events, parts FROM transitions WHERE bucket = $1 AND run_id = $2 ORDER BY seq`

	// No index leads from a run id alone to its row: the planner joins the whole tables, and spills to disk what is too large.
	sqlOrphanLogs = `SELECT f.bucket, f.run_id, f.seq, f.first_event_id, f.events, f.parts
FROM (SELECT bucket, run_id, min(seq) AS seq FROM transitions GROUP BY bucket, run_id) AS l
JOIN transitions f ON f.bucket = l.bucket AND f.run_id = l.run_id AND f.seq = l.seq
WHERE NOT EXISTS (SELECT FROM executions e WHERE e.run_id = l.run_id AND e.bucket = l.bucket)`

	sqlOrphanVisibility = `SELECT v.namespace_id, v.run_id, v.workflow_id FROM visibility v
WHERE NOT EXISTS (SELECT FROM executions e WHERE e.run_id = v.run_id AND e.namespace_id = v.namespace_id)`

	sqlShardOwners = `SELECT shard_id, owner, key, epoch FROM shards ORDER BY shard_id`
	sqlListMembers = `SELECT id, service, address, key, started, renewed, expires, draining FROM cluster_members ORDER BY started, id`
)

// InspectRuns implements persistence.Inspector.
func (s *Store) InspectRuns(ctx context.Context, after *persistence.RunPosition, limit int, visit func(*persistence.StoredRun) error) (
	*persistence.RunPosition, error) {
	var last *persistence.RunPosition
	err := s.inspect(ctx, "inspect runs", settingsCustom, func(tx pgx.Tx) error {
		positions, err := readPositions(ctx, tx, after, limit)
		if err != nil {
			return err
		}
		for i := range positions {
			if err := s.visitRun(ctx, tx, positions[i], visit); err != nil {
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

// InspectRun implements persistence.Inspector.
func (s *Store) InspectRun(ctx context.Context, key persistence.ExecutionKey, runID string, visit func(*persistence.StoredRun) error) error {
	return s.inspect(ctx, "inspect a run", settingsCustom, func(tx pgx.Tx) error {
		return s.visitRun(ctx, tx, persistence.RunPosition{Shard: key.Shard(), Key: key, RunID: runID}, visit)
	})
}

// inspect runs f in a transaction that sees one state of the database. The error of a visit is passed on as it is.
func (s *Store) inspect(ctx context.Context, op, settings string, f func(pgx.Tx) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	var visited *visitError
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if settings != "" {
			if _, err := tx.Exec(ctx, settings); err != nil {
				return err
			}
		}
		return f(tx)
	})
	if errors.As(err, &visited) {
		return visited.err
	}
	return readError(op, err)
}

// visitError is what a visit returned: not this package's to translate.
type visitError struct{ err error }

func (e *visitError) Error() string { return e.err.Error() }

func visited(err error) error {
	if err == nil {
		return nil
	}
	return &visitError{err}
}

func readPositions(ctx context.Context, tx pgx.Tx, after *persistence.RunPosition, limit int) ([]persistence.RunPosition, error) {
	args := []any{int32(-1), [16]byte{}, int16(0), "", [16]byte{}, limit}
	if after != nil {
		namespace, ok := parseUUID(after.Key.NamespaceID)
		run, okRun := parseUUID(after.RunID)
		if !ok || !okRun {
			return nil, fmt.Errorf("%w: no run can be at the position %v", persistence.ErrNotFound, *after)
		}
		args = []any{int32(after.Shard), [16]byte(namespace), int16(after.Key.Kind), after.Key.BusinessID, [16]byte(run), limit}
	}
	rows, err := tx.Query(ctx, sqlInspectPositions, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p persistence.RunPosition, err error) {
		var (
			shard          int32
			kind           int16
			namespace, run [16]byte
		)
		err = row.Scan(&shard, &namespace, &kind, &p.Key.BusinessID, &run)
		p.Shard, p.RunID = persistence.ShardID(shard), uuidBytes(run).String()
		p.Key.NamespaceID, p.Key.Kind = uuidBytes(namespace).String(), persistence.Kind(kind)
		return p, err
	})
}

// visitRun reads the run's own rows and shows them; the log is read when the visitor asks for it.
func (s *Store) visitRun(ctx context.Context, tx pgx.Tx, p persistence.RunPosition, visit func(*persistence.StoredRun) error) error {
	namespace, ok := parseUUID(p.Key.NamespaceID)
	run, okRun := parseUUID(p.RunID)
	if !ok || !okRun || !validText(p.Key.BusinessID) {
		return persistence.ErrNotFound
	}
	stored := &persistence.StoredRun{Shard: p.Shard}
	var seq *int64
	var parts []byte
	row, err := scanRun(tx.QueryRow(ctx, sqlLoadRun, int32(p.Shard), [16]byte(namespace), int16(p.Key.Kind), p.Key.BusinessID, [16]byte(run)), &seq, &parts)
	if err != nil {
		return err
	}
	stored.Run = *row
	if seq != nil {
		stored.Snapshot = &persistence.Snapshot{Seq: *seq, Parts: parts}
	}
	query := visibilitysql.Get(visibilitysql.Postgres, namespace.String(), p.RunID)
	stored.Visibility, err = visibilitysql.ScanRow(tx.QueryRow(ctx, query.SQL, query.Args...))
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	stored.Log = readLog(ctx, tx, stored.Bucket, run)
	return visited(visit(stored))
}

// readLog reads a log row by row, as they come over the connection.
func readLog(ctx context.Context, tx pgx.Tx, bucket int32, run uuidBytes) iter.Seq2[persistence.Transition, error] {
	return func(yield func(persistence.Transition, error) bool) {
		rows, err := tx.Query(ctx, sqlInspectLog, bucket, [16]byte(run))
		if err != nil {
			yield(persistence.Transition{}, readError("read a log", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var t persistence.Transition
			err := rows.Scan(&t.Seq, &t.FirstEventID, &t.Events, &t.Parts)
			if !yield(t, readError("read a log", err)) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(persistence.Transition{}, readError("read a log", err))
		}
	}
}

// InspectOrphans implements persistence.Inspector. The planner is free: these statements read whole tables.
func (s *Store) InspectOrphans(ctx context.Context, visit func(*persistence.Orphan) error) error {
	return s.inspect(ctx, "inspect orphans", "", func(tx pgx.Tx) error {
		each := func(sql string, scan func(pgx.Rows) (*persistence.Orphan, error)) error {
			rows, err := tx.Query(ctx, sql)
			if err != nil {
				return err
			}
			defer rows.Close()
			return eachRow(rows, func(rows pgx.Rows) error {
				o, err := scan(rows)
				if err != nil {
					return err
				}
				return visited(visit(o))
			})
		}
		if err := each(sqlOrphanLogs, scanOrphanLog); err != nil {
			return err
		}
		return each(sqlOrphanVisibility, scanOrphanVisibility)
	})
}

func scanOrphanLog(rows pgx.Rows) (*persistence.Orphan, error) {
	o := &persistence.Orphan{}
	var run [16]byte
	err := rows.Scan(&o.Bucket, &run, &o.First.Seq, &o.First.FirstEventID, &o.First.Events, &o.First.Parts)
	o.RunID = uuidBytes(run).String()
	return o, err
}

func scanOrphanVisibility(rows pgx.Rows) (*persistence.Orphan, error) {
	o := &persistence.Orphan{Visibility: true}
	var namespace, run [16]byte
	err := rows.Scan(&namespace, &run, &o.BusinessID)
	o.NamespaceID, o.RunID = uuidBytes(namespace).String(), uuidBytes(run).String()
	return o, err
}

// ShardOwners implements persistence.Inspector.
func (s *Store) ShardOwners(ctx context.Context) ([]persistence.ShardOwner, error) {
	var owners []persistence.ShardOwner
	err := s.readRows(ctx, "list shard owners", settingsGeneric, func(rows pgx.Rows) error {
		var o persistence.ShardOwner
		var shard int32
		err := rows.Scan(&shard, &o.Owner, &o.Key, &o.Epoch)
		o.Shard = persistence.ShardID(shard)
		owners = append(owners, o)
		return err
	}, sqlShardOwners)
	if err != nil {
		return nil, err
	}
	return owners, nil
}

// ListMembers implements persistence.Inspector.
func (s *Store) ListMembers(ctx context.Context) ([]persistence.Member, time.Time, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	var members []persistence.Member
	err = s.readRows(ctx, "list members", settingsGeneric, func(rows pgx.Rows) error {
		var m persistence.Member
		err := rows.Scan(&m.ID, &m.Service, &m.Address, &m.Key, &m.Started, &m.Renewed, &m.Expires, &m.Draining)
		members = append(members, m)
		return err
	}, sqlListMembers)
	if err != nil {
		return nil, time.Time{}, err
	}
	return members, now, nil
}
