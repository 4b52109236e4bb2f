package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

func TestLifeOfARun(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{URL: database(t)})
	key, run := keyOf("a"), newRun()
	epoch := takeAll(t, s, key)[key.Shard()]
	require.NoError(t, commit(s, key, epoch, startWrite(key, run)))
	require.NoError(t, commit(s, key, epoch, nextWrite(run, 2)))
	got, err := s.LoadRun(ctx, key, "")
	require.NoError(t, err)
	require.Equal(t, run, got.RunID)
	require.Len(t, got.Transitions, 2)

	last := nextWrite(run, 3)
	last.SetStatus, last.Status, last.SetWakeAt, last.SetHasEffects = true, 2, true, true
	last.Snapshot = &persistence.Snapshot{Seq: 3, Parts: []byte("all")}
	visible := *startWrite(key, run).Visibility
	visible.Status, visible.CloseTime = 2, time.Now()
	last.Visibility = &visible
	require.NoError(t, commit(s, key, epoch, last))
	got, err = s.LoadRun(ctx, key, run)
	require.NoError(t, err)
	require.False(t, got.Open)
	require.Zero(t, got.WakeAt)
	require.Empty(t, got.Transitions)
	require.EqualValues(t, 3, got.Snapshot.Seq)

	rows, err := s.ListVisibility(ctx, testNamespace, nil, nil, 10)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.EqualValues(t, 2, rows[0].Status)
	history, err := s.ReadHistory(ctx, persistence.HistoryRange{RunID: run, From: 1, To: 100, RowsMax: 10, BytesMax: 1 << 20})
	require.NoError(t, err)
	require.Len(t, history, 3)

	require.ErrorIs(t, commit(s, key, epoch+1, nextWrite(run, 4)), persistence.ErrFenced)
	require.ErrorIs(t, commit(s, key, epoch, nextWrite(run, 3)), persistence.ErrConflict)
	require.NoError(t, s.DeleteRun(ctx, key, epoch, 0, run))
	_, err = s.LoadRun(ctx, key, "")
	require.ErrorIs(t, err, persistence.ErrNotFound)
}

func TestQueueLife(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{URL: database(t)})
	key := persistence.QueueKey{NamespaceID: testNamespace, TaskQueue: "q", Type: 1}
	q, err := s.TakeQueue(ctx, "me", key)
	require.NoError(t, err)
	require.EqualValues(t, 1, q.Epoch)
	tasks := []persistence.BacklogTask{{Key: persistence.TaskKey{Level: 3, ID: 1}, Task: []byte("1")}, {Key: persistence.TaskKey{Level: 3, ID: 2}, Task: []byte("2")}}
	require.NoError(t, s.WriteTasks(ctx, key, q.Epoch, tasks))
	got, err := s.ReadTasks(ctx, key, 3, persistence.TaskKey{}, 10)
	require.NoError(t, err)
	require.Equal(t, tasks, got)
	require.NoError(t, s.UpdateQueue(ctx, key, q.Epoch, []byte("meta"), []persistence.TaskRange{{Level: 3, To: persistence.TaskKey{Level: 3, ID: 1}}}))
	got, err = s.ReadTasks(ctx, key, 3, persistence.TaskKey{}, 10)
	require.NoError(t, err)
	require.Equal(t, tasks[1:], got)
	other, err := s.TakeQueue(ctx, "me", key)
	require.NoError(t, err)
	require.EqualValues(t, 2, other.Epoch)
	require.Equal(t, []byte("meta"), other.Metadata)
	require.ErrorIs(t, s.WriteTasks(ctx, key, q.Epoch, nil), persistence.ErrFenced)
	require.NoError(t, s.DeleteQueue(ctx, key, 2))
	_, err = s.GetQueue(ctx, key)
	require.ErrorIs(t, err, persistence.ErrNotFound)
}
