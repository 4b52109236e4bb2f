package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/persistence"
)

func newQueueID(key persistence.QueueKey) (queueID, error) {
	namespace, ok := parseUUID(key.NamespaceID)
	if !ok {
		return queueID{}, refused("the namespace id " + quote(key.NamespaceID))
	}
	if !validText(key.TaskQueue) {
		return queueID{}, refused("the task queue " + quote(key.TaskQueue))
	}
	return queueID{namespace, key.TaskQueue, key.Type, key.Partition}, nil
}

// queueArgs are the parameters of reads of a queue. Under a key that cannot be stored there is nothing.
func queueArgs(key persistence.QueueKey) ([]any, error) {
	id, err := newQueueID(key)
	if err != nil {
		return nil, persistence.ErrNotFound
	}
	return []any{[16]byte(id.namespace), id.name, id.typ, id.partition}, nil
}

// GetQueue implements persistence.TaskQueues.
func (s *Store) GetQueue(ctx context.Context, key persistence.QueueKey) (*persistence.Queue, error) {
	args, err := queueArgs(key)
	if err != nil {
		return nil, err
	}
	var queue *persistence.Queue
	err = s.readRow(ctx, "get a queue", settingsGeneric, func(row pgx.Row) error {
		queue, err = scanQueue(row)
		return err
	}, sqlGetQueue, args...)
	if err != nil {
		return nil, err
	}
	return queue, nil
}

func scanQueue(row pgx.Row) (*persistence.Queue, error) {
	var q persistence.Queue
	var namespace [16]byte
	err := row.Scan(&namespace, &q.Key.TaskQueue, &q.Key.Type, &q.Key.Partition, &q.Epoch, &q.Metadata)
	q.Key.NamespaceID = uuidBytes(namespace).String()
	return &q, err
}

// ListQueues implements persistence.TaskQueues.
func (s *Store) ListQueues(ctx context.Context, namespaceID, taskQueue string) ([]*persistence.Queue, error) {
	id, err := newQueueID(persistence.QueueKey{NamespaceID: namespaceID, TaskQueue: taskQueue})
	if err != nil {
		return nil, nil // there is nothing under such a name
	}
	var queues []*persistence.Queue
	err = s.readRows(ctx, "list queues", settingsGeneric, func(rows pgx.Rows) error {
		q, err := scanQueue(rows)
		queues = append(queues, q)
		return err
	}, sqlListQueues, [16]byte(id.namespace), taskQueue)
	if err != nil {
		return nil, err
	}
	return queues, nil
}

// ReadTasks implements persistence.TaskQueues.
func (s *Store) ReadTasks(ctx context.Context, key persistence.QueueKey, level int16, after persistence.TaskKey, limit int) (
	[]persistence.BacklogTask, error) {
	args, err := queueArgs(key)
	if err != nil {
		return nil, nil // there is nothing under such a key
	}
	var tasks []persistence.BacklogTask
	err = s.readRows(ctx, "read tasks", settingsGeneric, func(rows pgx.Rows) error {
		var t persistence.BacklogTask
		err := rows.Scan(&t.Key.Level, &t.Key.Pass, &t.Key.ID, &t.Task)
		tasks = append(tasks, t)
		return err
	}, sqlReadTasks, append(args, level, after.Pass, after.ID, limit)...)
	if err != nil {
		return nil, err
	}
	return tasks, nil
}

// CountTasks implements persistence.TaskQueues.
func (s *Store) CountTasks(ctx context.Context, key persistence.QueueKey, belowID int64) (map[int16]int64, error) {
	counts := make(map[int16]int64)
	args, err := queueArgs(key)
	if err != nil {
		return counts, nil // there is nothing under such a key
	}
	err = s.readRows(ctx, "count tasks", settingsGeneric, func(rows pgx.Rows) error {
		var level int16
		var count int64
		err := rows.Scan(&level, &count)
		counts[level] = count
		return err
	}, sqlCountTasks, append(args, belowID)...)
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// WriteTasks implements persistence.TaskQueues.
func (s *Store) WriteTasks(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, tasks []persistence.BacklogTask) error {
	id, err := newQueueID(key)
	if err != nil {
		return outward(err)
	}
	size := rowOverhead
	for i := range tasks {
		size += rowOverhead + len(tasks[i].Task)
	}
	return s.submitQueue(ctx, &queueWrite{id: id, epoch: epoch, tasks: tasks}, size)
}

// UpdateQueue implements persistence.TaskQueues.
func (s *Store) UpdateQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, metadata []byte,
	ranges []persistence.TaskRange) error {
	id, err := newQueueID(key)
	if err != nil {
		return outward(err)
	}
	w := &queueWrite{id: id, epoch: epoch, setMetadata: true, metadata: metadata, ranges: ranges}
	return s.submitQueue(ctx, w, rowOverhead+len(metadata)+rowOverhead*len(ranges))
}

// DeleteQueue implements persistence.TaskQueues.
func (s *Store) DeleteQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch) error {
	id, err := newQueueID(key)
	if err != nil {
		return outward(err)
	}
	return s.submitQueue(ctx, &queueWrite{id: id, epoch: epoch, deleteQueue: true}, rowOverhead)
}

const (
	sqlGetQueueData    = `SELECT data, version FROM task_queue_data WHERE namespace_id = $1 AND task_queue = $2 AND type = $3`
	sqlInsertQueueData = `INSERT INTO task_queue_data (namespace_id, task_queue, type, data, version) VALUES ($1, $2, $3, $4, 1)`
	sqlUpdateQueueData = `UPDATE task_queue_data SET data = $4, version = version + 1
WHERE namespace_id = $1 AND task_queue = $2 AND type = $3 AND version = $5`
)

// GetQueueData implements persistence.TaskQueues.
func (s *Store) GetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16) (data []byte, version int64, err error) {
	id, err := newQueueID(persistence.QueueKey{NamespaceID: namespaceID, TaskQueue: taskQueue})
	if err != nil {
		return nil, 0, persistence.ErrNotFound
	}
	err = s.readRow(ctx, "get the data of a queue", settingsGeneric, func(row pgx.Row) error { return row.Scan(&data, &version) },
		sqlGetQueueData, [16]byte(id.namespace), taskQueue, typ)
	return data, version, err
}

// SetQueueData implements persistence.TaskQueues.
func (s *Store) SetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16, data []byte, version int64) error {
	id, err := newQueueID(persistence.QueueKey{NamespaceID: namespaceID, TaskQueue: taskQueue})
	if err != nil {
		return outward(err)
	}
	if version == 0 {
		return s.exec(ctx, "create the data of a queue", sqlInsertQueueData, [16]byte(id.namespace), taskQueue, typ, notNil(data))
	}
	count, err := s.execCount(ctx, "update the data of a queue", sqlUpdateQueueData, [16]byte(id.namespace), taskQueue, typ, notNil(data), version)
	if err == nil && count == 0 {
		return persistence.ErrConflict
	}
	return err
}

// notNil makes nil an empty value for columns that are never NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
