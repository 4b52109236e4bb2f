package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/persistence"
)

const (
	sqlInsertNamespace    = `INSERT INTO namespaces (id, name, data, version) VALUES ($1, $2, $3, 1)`
	sqlGetNamespace       = `SELECT id, name, data, version FROM namespaces WHERE id = $1`
	sqlGetNamespaceByName = `SELECT id, name, data, version FROM namespaces WHERE name = $1`
	sqlUpdateNamespace    = `UPDATE namespaces SET name = $2, data = $3, version = version + 1 WHERE id = $1 AND version = $4`
	sqlListNamespaces     = `SELECT id, name, data, version FROM namespaces WHERE id > $1 ORDER BY id LIMIT $2`
	sqlFirstNamespaces    = `SELECT id, name, data, version FROM namespaces ORDER BY id LIMIT $1`
	sqlDeleteNamespace    = `DELETE FROM namespaces WHERE id = $1`
)

// CreateNamespace implements persistence.Namespaces.
func (s *Store) CreateNamespace(ctx context.Context, r *persistence.NamespaceRecord) error {
	id, ok := parseUUID(r.ID)
	if !ok {
		return outward(refused("the namespace id " + quote(r.ID)))
	}
	if !validText(r.Name) {
		return outward(refused("the namespace name " + quote(r.Name)))
	}
	return s.exec(ctx, "create a namespace", sqlInsertNamespace, [16]byte(id), r.Name, notNil(r.Data))
}

// GetNamespace implements persistence.Namespaces.
func (s *Store) GetNamespace(ctx context.Context, id, name string) (*persistence.NamespaceRecord, error) {
	sql, arg := sqlGetNamespaceByName, any(name)
	if id != "" {
		parsed, ok := parseUUID(id)
		if !ok {
			return nil, persistence.ErrNotFound
		}
		sql, arg = sqlGetNamespace, [16]byte(parsed)
	} else if !validText(name) {
		return nil, persistence.ErrNotFound
	}
	var record *persistence.NamespaceRecord
	err := s.readRow(ctx, "get a namespace", settingsGeneric, func(row pgx.Row) (err error) {
		record, err = scanNamespace(row)
		return err
	}, sql, arg)
	if err != nil {
		return nil, err
	}
	return record, nil
}

func scanNamespace(row pgx.Row) (*persistence.NamespaceRecord, error) {
	var r persistence.NamespaceRecord
	var id [16]byte
	err := row.Scan(&id, &r.Name, &r.Data, &r.Version)
	r.ID = uuidBytes(id).String()
	return &r, err
}

// UpdateNamespace implements persistence.Namespaces.
func (s *Store) UpdateNamespace(ctx context.Context, r *persistence.NamespaceRecord) error {
	id, ok := parseUUID(r.ID)
	if !ok {
		return persistence.ErrConflict
	}
	if !validText(r.Name) {
		return outward(refused("the namespace name " + quote(r.Name)))
	}
	count, err := s.execCount(ctx, "update a namespace", sqlUpdateNamespace, [16]byte(id), r.Name, notNil(r.Data), r.Version)
	if err == nil && count == 0 {
		return persistence.ErrConflict
	}
	return err
}

// ListNamespaces implements persistence.Namespaces.
func (s *Store) ListNamespaces(ctx context.Context, afterID string, limit int) ([]*persistence.NamespaceRecord, error) {
	sql, args := sqlFirstNamespaces, []any{limit}
	if afterID != "" {
		after, ok := parseUUID(afterID)
		if !ok {
			return nil, persistence.ErrNotFound
		}
		sql, args = sqlListNamespaces, []any{[16]byte(after), limit}
	}
	var records []*persistence.NamespaceRecord
	err := s.readRows(ctx, "list namespaces", settingsGeneric, func(rows pgx.Rows) error {
		r, err := scanNamespace(rows)
		records = append(records, r)
		return err
	}, sql, args...)
	if err != nil {
		return nil, err
	}
	return records, nil
}

// DeleteNamespace implements persistence.Namespaces.
func (s *Store) DeleteNamespace(ctx context.Context, id string) error {
	parsed, ok := parseUUID(id)
	if !ok {
		return persistence.ErrNotFound
	}
	count, err := s.execCount(ctx, "delete a namespace", sqlDeleteNamespace, [16]byte(parsed))
	if err == nil && count == 0 {
		return persistence.ErrNotFound
	}
	return err
}
