package persistencetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var taskQueueTests = []namedTest{
	{"a queue that does not exist", testNoQueue},
	{"take, update and take again", testTakeQueue},
	{"fencing", testQueueFencing},
	{"tasks come in order", testTaskOrder},
	{"tasks in pages", testTaskPages},
	{"tasks are counted", testCountTasks},
	{"tasks are written all or none", testTasksAtomic},
	{"ranges are deleted", testDeleteTasks},
	{"a deleted queue", testDeleteQueue},
	{"queues are apart", testQueuesApart},
	{"the family of a queue", testListQueues},
	{"queue data", testQueueData},
}

func (e *env) queue(partition int32) persistence.QueueKey {
	return persistence.QueueKey{NamespaceID: e.namespace, TaskQueue: "queue/ä'", Type: 1, Partition: partition}
}

// backlog takes a queue and writes tasks.
func (e *env) backlog(key persistence.QueueKey, keys ...persistence.TaskKey) persistence.Epoch {
	e.Helper()
	queue, err := e.store.TakeQueue(e.ctx, "owner", key)
	require.NoError(e, err)
	if len(keys) > 0 {
		require.NoError(e, e.store.WriteTasks(e.ctx, key, queue.Epoch, tasksOf(keys...)))
	}
	return queue.Epoch
}

func tasksOf(keys ...persistence.TaskKey) []persistence.BacklogTask {
	tasks := make([]persistence.BacklogTask, len(keys))
	for i, key := range keys {
		tasks[i] = persistence.BacklogTask{Key: key, Task: content("task", key.ID)}
	}
	return tasks
}

func (e *env) tasks(key persistence.QueueKey, level int16, after persistence.TaskKey, limit int) []persistence.TaskKey {
	e.Helper()
	tasks, err := e.store.ReadTasks(e.ctx, key, level, after, limit)
	require.NoError(e, err)
	keys := make([]persistence.TaskKey, len(tasks))
	for i, task := range tasks {
		require.Equal(e, content("task", task.Key.ID), task.Task)
		keys[i] = task.Key
	}
	return keys
}

var beforeAll = persistence.TaskKey{Pass: -1}

func testNoQueue(e *env) {
	_, err := e.store.GetQueue(e.ctx, e.queue(0))
	require.ErrorIs(e, err, persistence.ErrNotFound)
	require.Empty(e, e.tasks(e.queue(0), 1, beforeAll, 10))
	require.ErrorIs(e, e.store.WriteTasks(e.ctx, e.queue(0), 0, tasksOf(persistence.TaskKey{ID: 1})), persistence.ErrFenced)
	require.ErrorIs(e, e.store.UpdateQueue(e.ctx, e.queue(0), 1, nil, nil), persistence.ErrFenced)
	require.ErrorIs(e, e.store.DeleteQueue(e.ctx, e.queue(0), 1), persistence.ErrFenced)
}

func testTakeQueue(e *env) {
	key := e.queue(3)
	first, err := e.store.TakeQueue(e.ctx, "a", key)
	require.NoError(e, err)
	require.Equal(e, key, first.Key)
	require.Empty(e, first.Metadata)
	require.NoError(e, e.store.UpdateQueue(e.ctx, key, first.Epoch, []byte("metadata\x00"), nil))
	stored, err := e.store.GetQueue(e.ctx, key)
	require.NoError(e, err)
	require.Equal(e, &persistence.Queue{Key: key, Epoch: first.Epoch, Metadata: []byte("metadata\x00")}, stored)
	second, err := e.open().TakeQueue(e.ctx, "b", key)
	require.NoError(e, err)
	require.Greater(e, second.Epoch, first.Epoch)
	require.Equal(e, []byte("metadata\x00"), second.Metadata)
}

func testQueueFencing(e *env) {
	key := e.queue(0)
	first := e.backlog(key, persistence.TaskKey{Level: 1, ID: 1})
	other := e.open()
	taken, err := other.TakeQueue(e.ctx, "other", key)
	require.NoError(e, err)
	all := persistence.TaskRange{Level: 1, To: persistence.TaskKey{ID: 100}}
	for name, call := range map[string]func(persistence.Store, persistence.Epoch) error{
		"write": func(s persistence.Store, epoch persistence.Epoch) error {
			return s.WriteTasks(e.ctx, key, epoch, tasksOf(persistence.TaskKey{Level: 1, ID: 2}))
		},
		"update": func(s persistence.Store, epoch persistence.Epoch) error {
			return s.UpdateQueue(e.ctx, key, epoch, []byte("x"), []persistence.TaskRange{all})
		},
		"delete": func(s persistence.Store, epoch persistence.Epoch) error { return s.DeleteQueue(e.ctx, key, epoch) },
	} {
		require.ErrorIs(e, call(e.store, first), persistence.ErrFenced, name)
		require.ErrorIs(e, call(e.store, taken.Epoch), persistence.ErrFenced, "%s with another's epoch", name)
		require.ErrorIs(e, call(other, first), persistence.ErrFenced, "%s with an old epoch", name)
	}
	require.Len(e, e.tasks(key, 1, beforeAll, 10), 1)
	require.NoError(e, other.WriteTasks(e.ctx, key, taken.Epoch, tasksOf(persistence.TaskKey{Level: 1, ID: 2})))
	require.Len(e, e.tasks(key, 1, beforeAll, 10), 2)
}

func testTaskOrder(e *env) {
	key := e.queue(0)
	want := []persistence.TaskKey{{Level: 3, Pass: 0, ID: 9}, {Level: 3, Pass: 1, ID: 2}, {Level: 3, Pass: 1, ID: 10}, {Level: 3, Pass: 1, ID: 1 << 60}, {Level: 3, Pass: 20, ID: 1}}
	mixed := slices.Clone(want)
	slices.Reverse(mixed)
	e.backlog(key, append(mixed, persistence.TaskKey{Level: 2, ID: 5}, persistence.TaskKey{Level: 4, ID: 5})...)
	require.Equal(e, want, e.tasks(key, 3, beforeAll, 10))
	require.Equal(e, want[2:], e.tasks(key, 3, want[1], 10), "after a key, exclusive")
	require.Equal(e, []persistence.TaskKey{{Level: 2, ID: 5}}, e.tasks(key, 2, beforeAll, 10))
}

func testTaskPages(e *env) {
	key := e.queue(0)
	var all []persistence.TaskKey
	for i := range int64(50) {
		all = append(all, persistence.TaskKey{Level: 1, Pass: i / 7, ID: i})
	}
	e.backlog(key, all...)
	var got []persistence.TaskKey
	after := beforeAll
	for {
		page := e.tasks(key, 1, after, 8)
		if len(page) == 0 {
			break
		}
		got, after = append(got, page...), page[len(page)-1]
	}
	require.Equal(e, all, got)
}

func testCountTasks(e *env) {
	key := e.queue(0)
	other := e.queue(1)
	count := func(belowID int64) map[int16]int64 {
		counts, err := e.store.CountTasks(e.ctx, key, belowID)
		require.NoError(e, err)
		return counts
	}
	require.Empty(e, count(100), "of a queue that does not exist")
	e.backlog(key, persistence.TaskKey{Level: 1, Pass: 9, ID: 1}, persistence.TaskKey{Level: 3, ID: 2}, persistence.TaskKey{Level: 3, Pass: 5, ID: 3}, persistence.TaskKey{Level: 3, ID: 4})
	e.backlog(other, persistence.TaskKey{Level: 3, ID: 1})
	require.Equal(e, map[int16]int64{1: 1, 3: 3}, count(5))
	require.Equal(e, map[int16]int64{1: 1, 3: 2}, count(4), "the id is exclusive")
	require.Empty(e, count(1))
}

func testTasksAtomic(e *env) {
	key := e.queue(0)
	epoch := e.backlog(key, persistence.TaskKey{Level: 1, ID: 5})
	err := e.store.WriteTasks(e.ctx, key, epoch, tasksOf(persistence.TaskKey{Level: 1, ID: 4}, persistence.TaskKey{Level: 1, ID: 5}))
	require.ErrorIs(e, err, persistence.ErrConflict)
	require.Equal(e, []persistence.TaskKey{{Level: 1, ID: 5}}, e.tasks(key, 1, beforeAll, 10))
}

func testDeleteTasks(e *env) {
	key := e.queue(0)
	at := func(level int16, pass, id int64) persistence.TaskKey {
		return persistence.TaskKey{Level: level, Pass: pass, ID: id}
	}
	epoch := e.backlog(key, at(1, 0, 1), at(1, 0, 2), at(1, 1, 1), at(1, 1, 2), at(1, 2, 1), at(2, 0, 1), at(2, 0, 2))
	err := e.store.UpdateQueue(e.ctx, key, epoch, []byte("m"), []persistence.TaskRange{
		{Level: 1, From: at(1, 0, 2), To: at(1, 1, 1)}, {Level: 2, From: at(2, 0, 2), To: at(2, 9, 9)}})
	require.NoError(e, err)
	require.Equal(e, []persistence.TaskKey{at(1, 0, 1), at(1, 1, 2), at(1, 2, 1)}, e.tasks(key, 1, beforeAll, 10), "both ends are deleted")
	require.Equal(e, []persistence.TaskKey{at(2, 0, 1)}, e.tasks(key, 2, beforeAll, 10))
	queue, err := e.store.GetQueue(e.ctx, key)
	require.NoError(e, err)
	require.Equal(e, []byte("m"), queue.Metadata)
}

func testDeleteQueue(e *env) {
	key := e.queue(0)
	epoch := e.backlog(key, persistence.TaskKey{Level: 1, ID: 5})
	require.NoError(e, e.store.DeleteQueue(e.ctx, key, epoch))
	_, err := e.store.GetQueue(e.ctx, key)
	require.ErrorIs(e, err, persistence.ErrNotFound)
	require.Empty(e, e.tasks(key, 1, beforeAll, 10))
	require.ErrorIs(e, e.store.WriteTasks(e.ctx, key, epoch, tasksOf(persistence.TaskKey{ID: 1})), persistence.ErrFenced)
}

func testQueuesApart(e *env) {
	key := e.queue(0)
	others := []persistence.QueueKey{key, key, key, key}
	others[0].Partition = 1
	others[1].Type = 2
	others[2].TaskQueue = "other"
	others[3].NamespaceID = newRunID()
	e.backlog(key, persistence.TaskKey{Level: 1, ID: 1})
	for i, other := range others {
		require.Empty(e, e.tasks(other, 1, beforeAll, 10), fmt.Sprint(i))
		epoch := e.backlog(other, persistence.TaskKey{Level: 1, ID: 1})
		require.NoError(e, e.store.DeleteQueue(e.ctx, other, epoch))
		require.Len(e, e.tasks(key, 1, beforeAll, 10), 1)
	}
}

func testListQueues(e *env) {
	keys := []persistence.QueueKey{e.queue(0), e.queue(1), e.queue(0)}
	keys[2].Type = 2
	other := e.queue(0)
	other.TaskQueue = "other"
	e.backlog(other)
	for _, key := range keys {
		epoch := e.backlog(key)
		require.NoError(e, e.store.UpdateQueue(e.ctx, key, epoch, content("metadata", int64(key.Partition)), nil))
	}
	queues, err := e.store.ListQueues(e.ctx, e.namespace, keys[0].TaskQueue)
	require.NoError(e, err)
	slices.SortFunc(queues, func(a, b *persistence.Queue) int { return strings.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key)) })
	require.Len(e, queues, 3)
	for i, queue := range queues {
		require.Equal(e, keys[i], queue.Key)
		require.Equal(e, content("metadata", int64(keys[i].Partition)), queue.Metadata)
		require.EqualValues(e, 1, queue.Epoch)
	}
}

func testQueueData(e *env) {
	get := func() (string, int64) {
		data, version, err := e.store.GetQueueData(e.ctx, e.namespace, "q", 1)
		require.NoError(e, err)
		return string(data), version
	}
	set := func(data string, version int64) error {
		return e.store.SetQueueData(e.ctx, e.namespace, "q", 1, []byte(data), version)
	}
	_, _, err := e.store.GetQueueData(e.ctx, e.namespace, "q", 1)
	require.ErrorIs(e, err, persistence.ErrNotFound)
	require.ErrorIs(e, set("x", 1), persistence.ErrConflict, "there is nothing to replace")
	require.NoError(e, set("one", 0))
	data, version := get()
	require.Equal(e, "one", data)
	require.EqualValues(e, 1, version)
	require.ErrorIs(e, set("x", 0), persistence.ErrConflict, "it exists")
	require.ErrorIs(e, set("x", 2), persistence.ErrConflict)
	require.NoError(e, set("two", 1))
	data, version = get()
	require.Equal(e, "two", data)
	require.EqualValues(e, 2, version)
	_, _, err = e.store.GetQueueData(e.ctx, e.namespace, "q", 2)
	require.ErrorIs(e, err, persistence.ErrNotFound, "of another type")
}
