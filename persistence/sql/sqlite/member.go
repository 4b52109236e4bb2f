package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

// memberKept is how long a member stays listed after its lease ended, for those who want to know who it was.
const memberKept = time.Hour

// RenewMember implements [persistence.Members]. A member keeps the time of its first registration, and has this store's key.
func (s *Store) RenewMember(ctx context.Context, m persistence.Member, ttl time.Duration) ([]persistence.Member, time.Time, error) {
	var (
		members []persistence.Member
		now     time.Time
	)
	err := s.write(ctx, rowBytes, func(ctx context.Context, tx *txn) (err error) {
		now = time.Now().UTC()
		if err := s.renew(ctx, tx, &m, now, ttl); err != nil {
			return err
		}
		members, err = tx.conn.members(ctx)
		return err
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("renew member %s: %w", m.ID, err)
	}
	return members, now, nil
}

func (s *Store) renew(ctx context.Context, tx *txn, m *persistence.Member, now time.Time, ttl time.Duration) error {
	const upsert = `INSERT INTO cluster_members (id, service, address, key, started, renewed, expires, draining) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET service = excluded.service, address = excluded.address, key = excluded.key,
		renewed = excluded.renewed, expires = excluded.expires, draining = excluded.draining`
	at := visibilitysql.Nanos(now)
	if err := tx.exec(ctx, upsert, m.ID, m.Service, m.Address, s.key, at, at, visibilitysql.Nanos(now.Add(ttl)), m.Draining); err != nil {
		return err
	}
	return tx.exec(ctx, `DELETE FROM cluster_members WHERE expires < ?`, visibilitysql.Nanos(now.Add(-memberKept)))
}

func (c *conn) members(ctx context.Context) ([]persistence.Member, error) {
	var members []persistence.Member
	const text = `SELECT id, service, address, key, started, renewed, expires, draining FROM cluster_members ORDER BY id`
	err := c.rows(ctx, text, nil, func(scan func(...any) error) (bool, error) {
		var (
			m                         persistence.Member
			started, renewed, expires int64
		)
		err := scan(&m.ID, &m.Service, &m.Address, &m.Key, &started, &renewed, &expires, &m.Draining)
		m.Started, m.Renewed, m.Expires = visibilitysql.Time(started), visibilitysql.Time(renewed), visibilitysql.Time(expires)
		members = append(members, m)
		return true, err
	})
	return members, err
}

// RemoveMember implements [persistence.Members].
func (s *Store) RemoveMember(ctx context.Context, id string) error {
	err := s.write(ctx, rowBytes, func(ctx context.Context, tx *txn) error {
		return tx.exec(ctx, `DELETE FROM cluster_members WHERE id = ?`, id)
	})
	if err != nil {
		return fmt.Errorf("remove member %s: %w", id, err)
	}
	return nil
}
