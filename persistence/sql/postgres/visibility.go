package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

// ListVisibility implements persistence.Visibility.
func (s *Store) ListVisibility(ctx context.Context, namespaceID string, filter persistence.Filter, after *persistence.VisibilityCursor,
	limit int) ([]*persistence.VisibilityRow, error) {
	namespace, ok := parseUUID(namespaceID)
	if !ok {
		return nil, nil
	}
	if after != nil {
		if _, ok := parseUUID(after.RunID); !ok {
			cursor := *after
			cursor.RunID = uuidBytes{}.String()
			after = &cursor
		}
	}
	query, err := visibilitysql.List(visibilitysql.Postgres, namespace.String(), filter, after, limit)
	if err != nil {
		return nil, err
	}
	var out []*persistence.VisibilityRow
	err = s.list(ctx, "list", query, func(rows pgx.Rows) error {
		row, err := visibilitysql.ScanRow(rows)
		out = append(out, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// CountVisibility implements persistence.Visibility.
func (s *Store) CountVisibility(ctx context.Context, namespaceID string, filter persistence.Filter, groupBy *persistence.Field) (
	int64, []persistence.GroupCount, error) {
	namespace, ok := parseUUID(namespaceID)
	if !ok {
		return 0, nil, nil
	}
	query, err := visibilitysql.Count(visibilitysql.Postgres, namespace.String(), filter, groupBy)
	if err != nil {
		return 0, nil, err
	}
	var total int64
	var groups []persistence.GroupCount
	err = s.list(ctx, "count", query, func(rows pgx.Rows) error {
		if groupBy == nil {
			return rows.Scan(&total)
		}
		var value any
		var g persistence.GroupCount
		if err := rows.Scan(&value, &g.Count); err != nil {
			return err
		}
		g.Value = visibilitysql.GroupValue(value)
		groups = append(groups, g)
		total += g.Count
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	return total, groups, nil
}

// list runs a statement on the pool of lists, with a timeout in the server: a connection that is given up there would go on working.
func (s *Store) list(ctx context.Context, op string, query visibilitysql.Query, scan func(pgx.Rows) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(settingsList, milliseconds(s.opts.ListTimeout))
	batch.Queue(query.SQL, query.Args...).Query(func(rows pgx.Rows) error { return eachRow(rows, scan) })
	err := s.lists.SendBatch(ctx, batch).Close()
	if hasState(err, stateQueryCanceled) {
		return readError(op, errors.Join(errListTimeout, err))
	}
	return readError(op, err)
}

var errListTimeout = errors.New("the filter reads too many rows to be answered in time; make it narrower")
