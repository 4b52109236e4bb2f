package sqlite

import (
	"context"
	"fmt"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

// ListVisibility implements [persistence.Visibility].
func (s *Store) ListVisibility(ctx context.Context, namespaceID string, filter persistence.Filter, after *persistence.VisibilityCursor, limit int) ([]*persistence.VisibilityRow, error) {
	query, err := visibilitysql.List(visibilitysql.SQLite, namespaceID, filter, after, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("list visibility: %w", err)
	}
	var found []*persistence.VisibilityRow
	err = s.read(ctx, "list visibility", func(ctx context.Context, c *conn) error {
		return c.query(ctx, query, func(scan func(...any) error) (bool, error) {
			row, err := visibilitysql.ScanRow(scanner(scan))
			found = append(found, row)
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// CountVisibility implements [persistence.Visibility].
func (s *Store) CountVisibility(ctx context.Context, namespaceID string, filter persistence.Filter, groupBy *persistence.Field) (int64, []persistence.GroupCount, error) {
	query, err := visibilitysql.Count(visibilitysql.SQLite, namespaceID, filter, groupBy)
	if err != nil {
		return 0, nil, fmt.Errorf("count visibility: %w", err)
	}
	var (
		total  int64
		groups []persistence.GroupCount
	)
	err = s.read(ctx, "count visibility", func(ctx context.Context, c *conn) error {
		return c.query(ctx, query, func(scan func(...any) error) (bool, error) {
			if groupBy == nil {
				return false, scan(&total)
			}
			var group persistence.GroupCount
			if err := scan(&group.Value, &group.Count); err != nil {
				return false, err
			}
			group.Value = visibilitysql.GroupValue(group.Value)
			groups = append(groups, group)
			total += group.Count
			return true, nil
		})
	})
	if err != nil {
		return 0, nil, err
	}
	return total, groups, nil
}

// query runs a statement whose text depends on a user's filter: it is not kept prepared.
func (c *conn) query(ctx context.Context, q visibilitysql.Query, each func(scan func(...any) error) (bool, error)) error {
	rows, err := c.sql.QueryContext(ctx, q.SQL, q.Args...)
	if err != nil {
		return err
	}
	return drain(rows, each)
}

// scanner is a Scan method.
type scanner func(...any) error

// Scan reads a row.
func (s scanner) Scan(into ...any) error { return s(into...) }
