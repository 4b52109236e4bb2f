package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/persistence"
)

const sqlInspectQueues = `SELECT q.namespace_id, q.task_queue, q.type, q.partition, q.owner, q.key, q.epoch,
(SELECT count(*) FROM tasks t WHERE t.namespace_id = q.namespace_id AND t.task_queue = q.task_queue AND t.type = q.type AND t.partition = q.partition)
FROM task_queues q ORDER BY q.namespace_id, q.task_queue, q.type, q.partition`

// InspectQueues implements persistence.Inspector. The planner is free: this reads the whole tables.
func (s *Store) InspectQueues(ctx context.Context, visit func(*persistence.StoredQueue) error) error {
	return s.inspect(ctx, "inspect task queues", "", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sqlInspectQueues)
		if err != nil {
			return err
		}
		defer rows.Close()
		return eachRow(rows, func(rows pgx.Rows) error {
			q := &persistence.StoredQueue{}
			var namespace [16]byte
			if err := rows.Scan(&namespace, &q.Key.TaskQueue, &q.Key.Type, &q.Key.Partition, &q.Owner, &q.OwnerKey, &q.Epoch, &q.Tasks); err != nil {
				return err
			}
			q.Key.NamespaceID = uuidBytes(namespace).String()
			return visited(visit(q))
		})
	})
}
