package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/persistence"
)

// memberKept is how long the row of a process that did not say goodbye stays.
const memberKept = time.Hour

const (
	// One statement: it renews, forgets the long dead, and returns the table. The part that reads sees the table as it was before, so the
	// renewed row comes from the part that wrote it. The clock is read once and is the same for all rows.
	sqlRenewMember = `WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now), renewed AS (
INSERT INTO cluster_members (id, service, address, key, started, renewed, expires, draining)
SELECT $1, $2, $3, $4, now, now, now + $5::int8 * interval '1 microsecond', $6 FROM clock
ON CONFLICT (id) DO UPDATE SET service = excluded.service, address = excluded.address, key = excluded.key, renewed = excluded.renewed,
  expires = excluded.expires, draining = excluded.draining RETURNING *),
forgotten AS (DELETE FROM cluster_members WHERE expires < clock_timestamp() - $7::int8 * interval '1 microsecond' AND id <> $1)
SELECT m.*, clock.now FROM clock, (SELECT * FROM renewed UNION ALL SELECT * FROM cluster_members
WHERE id <> $1 AND expires >= clock_timestamp() - $7::int8 * interval '1 microsecond') AS m ORDER BY m.id`

	sqlRemoveMember = `DELETE FROM cluster_members WHERE id = $1`
)

// RenewMember implements persistence.Members. It stores the store's own key, whatever m says, and looks at the identity of the server:
// behind a pool, connections may lead elsewhere without being new.
func (s *Store) RenewMember(ctx context.Context, m persistence.Member, ttl time.Duration) ([]persistence.Member, time.Time, error) {
	if err := s.begin(ctx); err != nil {
		return nil, time.Time{}, err
	}
	key := s.identity.currentKey()
	var members []persistence.Member
	var now time.Time
	batch := &pgx.Batch{}
	observe := s.identity.queue(batch)
	batch.Queue(sqlRenewMember, m.ID, m.Service, m.Address, key, ttl.Microseconds(), m.Draining, memberKept.Microseconds()).Query(
		func(rows pgx.Rows) error {
			return eachRow(rows, func(rows pgx.Rows) error {
				var m persistence.Member
				err := rows.Scan(&m.ID, &m.Service, &m.Address, &m.Key, &m.Started, &m.Renewed, &m.Expires, &m.Draining, &now)
				members = append(members, m)
				return err
			})
		})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, time.Time{}, readError("renew a member", err)
	}
	if observe() != key {
		return nil, time.Time{}, fmt.Errorf("%w: renew a member: the database has become another one", persistence.ErrUnavailable)
	}
	return members, now, nil
}

// RemoveMember implements persistence.Members.
func (s *Store) RemoveMember(ctx context.Context, id string) error {
	return s.exec(ctx, "remove a member", sqlRemoveMember, id)
}
