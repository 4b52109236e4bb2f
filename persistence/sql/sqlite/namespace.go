package sqlite

import (
	"context"
	"fmt"

	"github.com/perdure/perdure/persistence"
)

// CreateNamespace implements [persistence.Namespaces].
func (s *Store) CreateNamespace(ctx context.Context, r *persistence.NamespaceRecord) error {
	err := s.write(ctx, rowBytes+len(r.Data), func(ctx context.Context, tx *txn) error {
		return tx.exec(ctx, `INSERT INTO namespaces (id, name, data, version) VALUES (?, ?, ?, 1)`, r.ID, r.Name, present(r.Data))
	})
	if err != nil {
		return fmt.Errorf("create namespace %s: %w", r.Name, err)
	}
	return nil
}

// GetNamespace implements [persistence.Namespaces].
func (s *Store) GetNamespace(ctx context.Context, id, name string) (*persistence.NamespaceRecord, error) {
	text, arg := `SELECT id, name, data, version FROM namespaces WHERE id = ?`, id
	if id == "" {
		text, arg = `SELECT id, name, data, version FROM namespaces WHERE name = ?`, name
	}
	r := &persistence.NamespaceRecord{}
	err := s.read(ctx, "get namespace", func(ctx context.Context, c *conn) error {
		return c.row(ctx, text, []any{arg}, &r.ID, &r.Name, &r.Data, &r.Version)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// UpdateNamespace implements [persistence.Namespaces].
func (s *Store) UpdateNamespace(ctx context.Context, r *persistence.NamespaceRecord) error {
	err := s.write(ctx, rowBytes+len(r.Data), func(ctx context.Context, tx *txn) error {
		return tx.execOne(ctx, `UPDATE namespaces SET name = ?, data = ?, version = version + 1 WHERE id = ? AND version = ?`,
			r.Name, present(r.Data), r.ID, r.Version)
	})
	if err != nil {
		return fmt.Errorf("update namespace %s: %w", r.Name, err)
	}
	return nil
}

// ListNamespaces implements [persistence.Namespaces].
func (s *Store) ListNamespaces(ctx context.Context, afterID string, limit int) ([]*persistence.NamespaceRecord, error) {
	var records []*persistence.NamespaceRecord
	err := s.read(ctx, "list namespaces", func(ctx context.Context, c *conn) error {
		const text = `SELECT id, name, data, version FROM namespaces WHERE id > ? ORDER BY id LIMIT ?`
		return c.rows(ctx, text, []any{afterID, max(limit, 0)}, func(scan func(...any) error) (bool, error) {
			r := &persistence.NamespaceRecord{}
			err := scan(&r.ID, &r.Name, &r.Data, &r.Version)
			records = append(records, r)
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// DeleteNamespace implements [persistence.Namespaces]. Deleting what is not there is no error.
func (s *Store) DeleteNamespace(ctx context.Context, id string) error {
	err := s.write(ctx, rowBytes, func(ctx context.Context, tx *txn) error {
		return tx.exec(ctx, `DELETE FROM namespaces WHERE id = ?`, id)
	})
	if err != nil {
		return fmt.Errorf("delete namespace %s: %w", id, err)
	}
	return nil
}
