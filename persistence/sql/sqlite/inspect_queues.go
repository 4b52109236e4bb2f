package sqlite

import (
	"context"

	"github.com/perdure/perdure/persistence"
)

const inspectQueuesText = `SELECT q.namespace_id, q.task_queue, q.type, q.partition, q.owner, q.key, q.epoch,
	(SELECT COUNT(*) FROM tasks t WHERE t.namespace_id = q.namespace_id AND t.task_queue = q.task_queue AND t.type = q.type AND t.partition = q.partition)
	FROM task_queues q ORDER BY q.namespace_id, q.task_queue, q.type, q.partition`

// InspectQueues implements [persistence.Inspector].
func (s *Store) InspectQueues(ctx context.Context, visit func(*persistence.StoredQueue) error) error {
	return s.inspect(ctx, "inspect task queues", func(ctx context.Context, c *conn) error {
		return c.rows(ctx, inspectQueuesText, nil, func(scan func(...any) error) (bool, error) {
			q := &persistence.StoredQueue{}
			if err := scan(&q.Key.NamespaceID, &q.Key.TaskQueue, &q.Key.Type, &q.Key.Partition, &q.Owner, &q.OwnerKey, &q.Epoch, &q.Tasks); err != nil {
				return false, err
			}
			return true, visit(q)
		})
	})
}
