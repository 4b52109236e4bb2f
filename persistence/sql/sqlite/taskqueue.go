package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/persistence"
)

const queueCondition = "namespace_id = ? AND task_queue = ? AND type = ? AND partition = ?"

func queueArgs(k persistence.QueueKey, more ...any) []any {
	return append([]any{k.NamespaceID, k.TaskQueue, k.Type, k.Partition}, more...)
}

// GetQueue implements [persistence.TaskQueues].
func (s *Store) GetQueue(ctx context.Context, key persistence.QueueKey) (*persistence.Queue, error) {
	queue := &persistence.Queue{Key: key}
	err := s.read(ctx, "get queue", func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT epoch, metadata FROM task_queues WHERE "+queueCondition, queueArgs(key), &queue.Epoch, &queue.Metadata)
	})
	if err != nil {
		return nil, err
	}
	return queue, nil
}

// TakeQueue implements [persistence.TaskQueues].
func (s *Store) TakeQueue(ctx context.Context, ownerName string, key persistence.QueueKey) (*persistence.Queue, error) {
	const take = `INSERT INTO task_queues (namespace_id, task_queue, type, partition, owner, key, epoch) VALUES (?, ?, ?, ?, ?, ?, 1)
		ON CONFLICT (namespace_id, task_queue, type, partition) DO UPDATE SET owner = excluded.owner, key = excluded.key, epoch = epoch + 1
		RETURNING epoch, metadata`
	var queue *persistence.Queue
	err := s.write(ctx, rowBytes, func(ctx context.Context, tx *txn) error {
		queue = &persistence.Queue{Key: key}
		return tx.conn.row(ctx, take, queueArgs(key, ownerName, s.key), &queue.Epoch, &queue.Metadata)
	})
	if err != nil {
		return nil, fmt.Errorf("take queue %s: %w", key.TaskQueue, err)
	}
	return queue, nil
}

// WriteTasks implements [persistence.TaskQueues].
func (s *Store) WriteTasks(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, tasks []persistence.BacklogTask) error {
	size := 0
	for i := range tasks {
		size += rowBytes + len(tasks[i].Task)
	}
	return s.writeQueue(ctx, "write tasks", key, epoch, size, func(ctx context.Context, tx *txn) error {
		for _, t := range tasks {
			err := tx.exec(ctx, `INSERT INTO tasks (namespace_id, task_queue, type, partition, level, pass, task_id, task) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
				queueArgs(key, t.Key.Level, t.Key.Pass, t.Key.ID, present(t.Task))...)
			if err != nil {
				return fmt.Errorf("task %d: %w", t.Key.ID, err)
			}
		}
		return nil
	})
}

// ReadTasks implements [persistence.TaskQueues].
func (s *Store) ReadTasks(ctx context.Context, key persistence.QueueKey, level int16, after persistence.TaskKey, limit int) ([]persistence.BacklogTask, error) {
	const text = "SELECT pass, task_id, task FROM tasks WHERE " + queueCondition + " AND level = ? AND (pass, task_id) > (?, ?) ORDER BY pass, task_id LIMIT ?"
	var tasks []persistence.BacklogTask
	err := s.read(ctx, "read tasks", func(ctx context.Context, c *conn) error {
		return c.rows(ctx, text, queueArgs(key, level, after.Pass, after.ID, max(limit, 0)), func(scan func(...any) error) (bool, error) {
			t := persistence.BacklogTask{Key: persistence.TaskKey{Level: level}}
			err := scan(&t.Key.Pass, &t.Key.ID, &t.Task)
			tasks = append(tasks, t)
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return tasks, nil
}

// CountTasks implements [persistence.TaskQueues].
func (s *Store) CountTasks(ctx context.Context, key persistence.QueueKey, belowID int64) (map[int16]int64, error) {
	const text = "SELECT level, count(*) FROM tasks WHERE " + queueCondition + " AND task_id < ? GROUP BY level"
	counts := make(map[int16]int64)
	err := s.read(ctx, "count tasks", func(ctx context.Context, c *conn) error {
		return c.rows(ctx, text, queueArgs(key, belowID), func(scan func(...any) error) (bool, error) {
			var level int16
			var count int64
			err := scan(&level, &count)
			counts[level] = count
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// UpdateQueue implements [persistence.TaskQueues].
func (s *Store) UpdateQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, metadata []byte, ranges []persistence.TaskRange) error {
	const deleteRange = "DELETE FROM tasks WHERE " + queueCondition + " AND level = ? AND (pass, task_id) >= (?, ?) AND (pass, task_id) <= (?, ?)"
	size := rowBytes*(1+len(ranges)) + len(metadata)
	return s.writeQueue(ctx, "update queue", key, epoch, size, func(ctx context.Context, tx *txn) error {
		if err := tx.exec(ctx, "UPDATE task_queues SET metadata = ? WHERE "+queueCondition, append([]any{blob(metadata)}, queueArgs(key)...)...); err != nil {
			return err
		}
		for _, r := range ranges {
			if err := tx.exec(ctx, deleteRange, queueArgs(key, r.Level, r.From.Pass, r.From.ID, r.To.Pass, r.To.ID)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteQueue implements [persistence.TaskQueues].
func (s *Store) DeleteQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch) error {
	return s.writeQueue(ctx, "delete queue", key, epoch, rowBytes, func(ctx context.Context, tx *txn) error {
		return errors.Join(
			tx.exec(ctx, "DELETE FROM tasks WHERE "+queueCondition, queueArgs(key)...),
			tx.exec(ctx, "DELETE FROM task_queues WHERE "+queueCondition, queueArgs(key)...))
	})
}

// writeQueue writes on behalf of a queue's owner.
func (s *Store) writeQueue(ctx context.Context, operation string, key persistence.QueueKey, epoch persistence.Epoch, size int, apply func(context.Context, *txn) error) error {
	err := s.write(ctx, size, func(ctx context.Context, tx *txn) error {
		if err := tx.checkQueue(ctx, key, owner{s.key, epoch}); err != nil {
			return err
		}
		return apply(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", operation, key.TaskQueue, err)
	}
	return nil
}

// checkQueue fails with ErrFenced unless this owner has the queue.
func (tx *txn) checkQueue(ctx context.Context, key persistence.QueueKey, claimed owner) error {
	var stored owner
	err := tx.conn.row(ctx, "SELECT key, epoch FROM task_queues WHERE "+queueCondition, queueArgs(key), &stored.key, &stored.epoch)
	if errors.Is(err, persistence.ErrNotFound) {
		return fmt.Errorf("%w: nobody has taken the queue", persistence.ErrFenced)
	}
	if err != nil {
		return err
	}
	if stored != claimed {
		return fmt.Errorf("%w (queue epoch %d, this is %d)", persistence.ErrFenced, stored.epoch, claimed.epoch)
	}
	return nil
}

// ListQueues implements [persistence.TaskQueues].
func (s *Store) ListQueues(ctx context.Context, namespaceID, taskQueue string) ([]*persistence.Queue, error) {
	const text = `SELECT type, partition, epoch, metadata FROM task_queues WHERE namespace_id = ? AND task_queue = ? ORDER BY type, partition`
	var queues []*persistence.Queue
	err := s.read(ctx, "list queues", func(ctx context.Context, c *conn) error {
		return c.rows(ctx, text, []any{namespaceID, taskQueue}, func(scan func(...any) error) (bool, error) {
			q := &persistence.Queue{Key: persistence.QueueKey{NamespaceID: namespaceID, TaskQueue: taskQueue}}
			err := scan(&q.Key.Type, &q.Key.Partition, &q.Epoch, &q.Metadata)
			queues = append(queues, q)
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return queues, nil
}

// GetQueueData implements [persistence.TaskQueues].
func (s *Store) GetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16) (data []byte, version int64, err error) {
	err = s.read(ctx, "get queue data", func(ctx context.Context, c *conn) error {
		return c.row(ctx, `SELECT data, version FROM task_queue_data WHERE namespace_id = ? AND task_queue = ? AND type = ?`,
			[]any{namespaceID, taskQueue, typ}, &data, &version)
	})
	return data, version, err
}

// SetQueueData implements [persistence.TaskQueues].
func (s *Store) SetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16, data []byte, version int64) error {
	err := s.write(ctx, rowBytes+len(data), func(ctx context.Context, tx *txn) error {
		if version == 0 {
			return tx.exec(ctx, `INSERT INTO task_queue_data (namespace_id, task_queue, type, data, version) VALUES (?, ?, ?, ?, 1)`,
				namespaceID, taskQueue, typ, present(data))
		}
		return tx.execOne(ctx, `UPDATE task_queue_data SET data = ?, version = version + 1 WHERE namespace_id = ? AND task_queue = ? AND type = ? AND version = ?`,
			present(data), namespaceID, taskQueue, typ, version)
	})
	if err != nil {
		return fmt.Errorf("set data of queue %s: %w", taskQueue, err)
	}
	return nil
}

// present is for columns that are never NULL.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
