package history

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"google.golang.org/grpc/codes"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/persistence"
)

// placement sends everybody to one address.
type placement struct{ checks chan struct{} }

func (p placement) OwnerAddress(persistence.ShardID) string { return "elsewhere:1" }

func (p placement) Check() {
	select {
	case p.checks <- struct{}{}:
	default:
	}
}

// startPlaced starts a host that owns nothing.
func (w *world) startPlaced(owner string) *host {
	s := New(Params{Store: w.stored, Matching: w.queues.Client(), Namespaces: w.registry, Owner: owner})
	s.history = historypb.LocalHistoryServiceClient{Server: s}
	s.PlacedBy(placement{make(chan struct{}, 1)})
	ctx, cancel := context.WithTimeout(w.t.Context(), testTimeout)
	require.NoError(w.t, s.Start(ctx))
	require.Empty(w.t, s.Owned())
	h := &host{Service: s, world: w, ctx: ctx}
	w.t.Cleanup(func() {
		cancel()
		h.stop()
	})
	return h
}

func requireMoved(t *testing.T, err error) {
	t.Helper()
	require.Equal(t, codes.Unavailable, code(err))
	details := serviceerror.ToStatus(err).Details()
	require.Len(t, details, 1)
	require.Equal(t, "elsewhere:1", details[0].(*historypb.ShardMoved).GetOwnerAddress())
}

// What a worker has in its hands survives a hand-over; who waits is sent to the new owner.
func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.startPlaced("a"), w.startPlaced("b")
		_, err := a.startWith(startRequest("w"))
		requireMoved(t, err)
		require.NoError(t, a.Take(t.Context(), allShards()))
		a.run("w")
		task := a.task()
		a.Release(t.Context(), allShards())
		require.Empty(t, a.Owned())
		require.NoError(t, b.Take(t.Context(), allShards()))
		b.complete(task)

		answer := b.update("u", stageCompleted)
		task = b.task()
		b.Release(t.Context(), allShards())
		requireMoved(t, (<-answer).err)
		require.NoError(t, a.Take(t.Context(), allShards()))
		a.respondTo(task, "u",
			&updatepb.Acceptance{AcceptedRequest: updateRequest("u", stageCompleted).Request},
			&updatepb.Response{Meta: &updatepb.Meta{UpdateId: "u"}, Outcome: &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: payload("done")}}})
		out, err := a.pollUpdate("u", stageCompleted)
		require.NoError(t, err)
		require.NotNil(t, out.GetOutcome().GetSuccess())
		requireDense(t, a.events("w", ""))
	})
}

// A host whose shards were taken without its knowledge finds out, although it has nothing to write.
func TestVerifyFindsWhatWasTaken(t *testing.T) {
	w := newWorld(t)
	a, b := w.startPlaced("a"), w.startPlaced("b")
	require.NoError(t, a.Take(t.Context(), allShards()))
	a.run("w")
	require.NoError(t, a.Verify(t.Context()))
	require.Len(t, a.Owned(), persistence.ShardCount)
	require.NoError(t, b.Take(t.Context(), allShards()))
	require.NoError(t, a.Verify(t.Context()))
	require.Empty(t, a.Owned())
	<-a.placement.(placement).checks
	require.NoError(t, b.Verify(t.Context()))
	require.Len(t, b.Owned(), persistence.ShardCount)
}
