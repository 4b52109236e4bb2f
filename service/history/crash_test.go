package history

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/service/history/historytest"
)

// failOnce lets the next commit end badly.
func (w *world) failOnce(err error, applied bool) {
	var once sync.Once
	w.db.SetFault(func(*persistence.Mutation) (f historytest.Fault) {
		once.Do(func() { f = historytest.Fault{Err: err, Applied: applied} })
		return f
	})
}

// eventually repeats a call that may be answered UNAVAILABLE.
func (h *host) eventually(call func() error) {
	h.t.Helper()
	for {
		err := call()
		if code(err) == codes.Unavailable && h.ctx.Err() == nil {
			require.True(h.t, sleep(h.ctx, time.Millisecond))
			continue
		}
		require.NoError(h.t, err)
		return
	}
}

// A start whose commit was lost on the way, either way, is answered UNAVAILABLE; the retry finds or makes one run.
func TestUnknownOutcomeOfAStart(t *testing.T) {
	for name, applied := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t)
			h.failOnce(persistence.ErrOutcomeUnknown, applied)
			r := startRequest("w")
			_, err := h.startWith(r)
			require.Equal(t, codes.Unavailable, code(err))
			h.eventually(func() error {
				out, err := h.startWith(r)
				if err == nil {
					require.True(t, out.Started)
				}
				return err
			})
			require.Len(t, h.events("w", ""), 2)
			h.complete(h.task(), completeWorkflow()) // it has been dispatched, whoever resumed it
		})
	}
}

func TestUnknownOutcomeOfACompletion(t *testing.T) {
	for name, applied := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t)
			h.run("w")
			task := h.task()
			h.failOnce(persistence.ErrOutcomeUnknown, applied)
			_, err := h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken})
			require.Equal(t, codes.Unavailable, code(err))
			h.eventually(func() error { return h.signal("w", "s") })
			again := h.task() // either the lost task once more, or the next one
			if applied {
				require.EqualValues(t, 7, again.StartedEventId)
			} else {
				require.EqualValues(t, 4, again.StartedEventId)
				_, err = h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken})
				require.EqualError(t, err, "Workflow task not found.") // its start was in memory only
			}
			h.complete(again, completeWorkflow())
			requireDense(t, h.events("w", ""))
		})
	}
}

// A host that was frozen in a commit, and learns nothing of its outcome, finds that its shards have another owner: they stay with it.
func TestUnknownOutcomeAfterAnotherHasTakenOver(t *testing.T) {
	w := newWorld(t)
	old := w.startPlaced("old")
	require.NoError(t, old.Take(old.ctx, allShards()))
	old.run("w")
	var heir map[persistence.ShardID]persistence.Epoch
	var once sync.Once
	w.db.SetFault(func(*persistence.Mutation) (f historytest.Fault) {
		once.Do(func() { // the heir takes over while the commit is on its way
			var err error
			heir, err = w.db.TakeShards(context.Background(), "heir", allShards())
			require.NoError(t, err)
			f = historytest.Fault{Err: persistence.ErrOutcomeUnknown}
		})
		return f
	})
	require.Equal(t, codes.Unavailable, code(old.signal("w", "s")))
	shard := workflowKey(old.id(), "w").Shard()
	<-old.placement.(placement).checks // the cluster looks whether anybody keeps them
	require.NotContains(t, old.Owned(), shard)
	requireMoved(t, old.signal("w", "s"))
	owners, err := w.db.ShardOwners(old.ctx)
	require.NoError(t, err)
	for _, o := range owners {
		require.Equal(t, "heir", o.Owner)
		require.Equal(t, heir[o.Shard], o.Epoch)
	}
}

// Whoever waits on a run whose state is in doubt does not wait for nothing.
func TestUnknownOutcomeReachesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		query, poll := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := h.query("w")
			query <- err
		}()
		go func() {
			_, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{
				Execution: execution("w", ""), WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
			})
			poll <- err
		}()
		synctest.Wait()
		h.failOnce(persistence.ErrOutcomeUnknown, false)
		require.Equal(t, codes.Unavailable, code(h.signal("w", "s")))
		require.Equal(t, codes.Unavailable, code(<-query))
		synctest.Wait()
		h.eventually(func() error { return h.terminateRun("w", "") })
		if err := <-poll; err != nil { // it looked again too early
			require.Equal(t, codes.Unavailable, code(err))
		}
	})
}

// Nothing was written: the next try works on the state as it was.
func TestUnavailableDatabase(t *testing.T) {
	h := startHost(t)
	h.run("w")
	h.failOnce(persistence.ErrUnavailable, false)
	require.Equal(t, codes.Unavailable, code(h.signal("w", "s")))
	reads := h.db.Reads()
	require.NoError(t, h.signal("w", "s"))
	require.Equal(t, reads, h.db.Reads())
	require.Len(t, h.events("w", ""), 3)
}

// A conflict means that the cache is wrong: the call works on what is stored.
func TestConflictReloads(t *testing.T) {
	h := startHost(t)
	h.run("w")
	h.failOnce(persistence.ErrConflict, false)
	require.NoError(t, h.signal("w", "s"))
	require.Len(t, h.events("w", ""), 3)
	h.db.SetFault(func(*persistence.Mutation) historytest.Fault { return historytest.Fault{Err: persistence.ErrConflict} })
	require.Equal(t, codes.Unavailable, code(h.signal("w", "s")))
}

func TestTooLargeCompletionEndsTheRun(t *testing.T) {
	h := startHost(t)
	h.run("w")
	task := h.task()
	h.failOnce(persistence.ErrTooLarge, false)
	_, err := h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken})
	require.Equal(t, codes.InvalidArgument, code(err))
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, h.describe("w", "").WorkflowExecutionInfo.Status)
}

// A host that has lost its shards answers nothing from its cache.
func TestFenced(t *testing.T) {
	w := newWorld(t)
	old := w.start(Config{})
	old.run("w")
	successor := w.start(Config{})
	err := old.signal("w", "s")
	require.Equal(t, codes.Unavailable, code(err))
	details := status.Convert(err).Details()
	require.Len(t, details, 1)
	require.Equal(t, int32(workflowKey(w.space.ID(), "w").Shard()), details[0].(*historypb.ShardMoved).ShardId)
	_, err = old.DescribeWorkflowExecution(old.ctx, &historypb.DescribeWorkflowExecutionRequest{
		NamespaceId: old.id(), Request: &workflowservice.DescribeWorkflowExecutionRequest{Execution: execution("w", "")},
	})
	require.Equal(t, codes.Unavailable, code(err))
	require.NoError(t, successor.signal("w", "s"))
}

// A host dies after the commit of a start and before its task is dispatched: the next one does it.
func TestNextHostResumesEffects(t *testing.T) {
	w := newWorld(t)
	blocked := make(chan struct{})
	w.queues.OnAdd(func(ctx context.Context, _ *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
		<-blocked
		return nil, serviceerror.NewUnavailable("too late")
	})
	h := w.start(Config{})
	h.run("w")
	close(blocked)
	h.crash()

	w.queues.OnAdd(nil)
	h = w.start(Config{})
	h.complete(h.task(), scheduleActivity("a"))
	h.completeActivity(h.activity())
	h.complete(h.task(), completeWorkflow())
}

// What is acknowledged when a host stops in order is not done again by the next one.
func TestAcknowledgementsSurviveAStop(t *testing.T) {
	w := newWorld(t)
	h := w.start(Config{})
	run := h.run("w")
	h.acknowledged("w", run)
	h.stop()
	require.Equal(t, 1, w.queues.Waiting())

	h = w.start(Config{})
	require.NoError(t, h.signal("w", "s"))
	h.stop()
	require.Equal(t, 1, w.queues.Waiting())
}

// acknowledged waits until nothing of a run is under way.
func (h *host) acknowledged(id, runID string) {
	for quiet := false; !quiet; {
		require.NoError(h.t, h.with(h.ctx, workflowKey(h.id(), id), func(x *access) error {
			r := x.peek(runID)
			quiet = r != nil && len(r.state.PendingEffects()) == 0
			return nil
		}))
		if !quiet {
			require.True(h.t, sleep(h.ctx, time.Millisecond))
		}
	}
}

// A dispatch that fails is tried again; one that comes twice is harmless.
func TestDispatchIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		tries := 0
		h.queues.OnAdd(func(_ context.Context, in *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
			h.queues.Put(in) // it arrives all the same
			if tries++; tries < 4 {
				return nil, serviceerror.NewUnavailable("the answer was lost")
			}
			return historytest.Stored()
		})
		h.run("w")
		time.Sleep(5 * time.Second)
		require.GreaterOrEqual(t, h.queues.Waiting(), 4)
		first, err := h.queues.Take(h.ctx, testQueue)
		require.NoError(t, err)
		task, err := h.startTaskOf(first, uuid.NewString())
		require.NoError(t, err)
		second, err := h.queues.Take(h.ctx, testQueue)
		require.NoError(t, err)
		_, err = h.startTaskOf(second, uuid.NewString())
		require.Equal(t, codes.NotFound, code(err))
		h.complete(task, completeWorkflow())
	})
}

// With no room for more effects those that do not fit wait in the state, and come when there is room.
func TestEffectsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gate := make(chan struct{})
		w.queues.OnAdd(func(context.Context, *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
			<-gate
			return historytest.Stored()
		})
		h := w.start(Config{EffectsMax: 2})
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			h.run(id)
		}
		synctest.Wait()
		require.Equal(t, 2, h.effects.count())
		close(gate)
		synctest.Wait()
		require.Equal(t, 5, h.queues.Waiting())
		require.Zero(t, h.effects.count())
	})
}
