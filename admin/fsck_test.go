package admin

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// A database that a killed server has left behind is healthy; whatever is damaged in it is found and named.
func TestFsck(t *testing.T) {
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			x := f.make(t)
			x.server.AwaitReady(x.addr)
			stop := x.watch(t)
			x.populate(t)
			stop()
			t.Run("healthy", func(t *testing.T) { testHealthy(t, x.copy(t)) })
			t.Run("show", func(t *testing.T) { testShow(t, x.copy(t)) })
			t.Run("owners", func(t *testing.T) { testOwners(t, x.copy(t)) })
			for _, d := range damages {
				t.Run(d.name, func(t *testing.T) { d.test(t, x.copy(t)) })
			}
		})
	}
}

// watch checks the database again and again beside its server, until it is told to stop: what happens meanwhile must not look like
// damage.
func (f *fixture) watch(t *testing.T) (stop func()) {
	if f.live == nil {
		return func() {}
	}
	store := f.live(t)
	ctx, cancel := context.WithCancel(t.Context())
	checks := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil {
			_, err := Fsck(ctx, store, Options{PageSize: 2, Violation: func(v Violation) { t.Errorf("beside the server: %s", v) }})
			if err == nil {
				n++
			} else if ctx.Err() == nil {
				t.Errorf("beside the server: %v", err)
			}
		}
		checks <- n
	}()
	return func() {
		cancel()
		require.Positive(t, <-checks, "nothing was checked")
		require.NoError(t, store.Close())
	}
}

func violations(t *testing.T, c *copied, pageSize int) (found []Violation, counts Counts) {
	t.Helper()
	pages := 0
	c.use(t, func(store Store) {
		var err error
		counts, err = Fsck(t.Context(), store, Options{
			PageSize:  pageSize,
			Violation: func(v Violation) { found = append(found, v) },
			Progress:  func(Counts) { pages++ },
		})
		require.NoError(t, err)
	})
	require.EqualValues(t, len(found), counts.Violations)
	require.GreaterOrEqual(t, pages, int(counts.Runs)/max(pageSize, 1))
	return found, counts
}

func testHealthy(t *testing.T, c *copied) {
	all := runs(t, c)
	for _, id := range []string{"order", "order-slow", "busy", "chain", "family", "child-done", "child-stays", "listed", "failing", "waiting",
		"canceled", "terminated", "unpolled", "delayed"} {
		require.NotEmpty(t, all[id], id)
	}
	require.Len(t, all["chain"], 4)
	require.Len(t, all["order"], 2, "the run and its reset")
	require.NotNil(t, all["busy"][0].Snapshot)
	for _, pageSize := range []int{3, 1000} {
		found, counts := violations(t, c, pageSize)
		require.Empty(t, found)
		require.Greater(t, counts.Runs, int64(len(all)))
		require.Greater(t, counts.Events, counts.Transitions)
		require.Zero(t, counts.Leftovers)
		require.Zero(t, counts.Unknown)
	}
}

// runs reads all runs by workflow id, in order of their run ids.
func runs(t *testing.T, c *copied) map[string][]*persistence.StoredRun {
	t.Helper()
	all := map[string][]*persistence.StoredRun{}
	c.use(t, func(store Store) {
		next, err := store.InspectRuns(t.Context(), nil, 10_000, func(r *persistence.StoredRun) error {
			all[r.Key.BusinessID] = append(all[r.Key.BusinessID], r)
			return nil
		})
		require.NoError(t, err)
		require.Nil(t, next)
	})
	return all
}

func show(t *testing.T, c *copied, key persistence.ExecutionKey, runID string) (shown *Stored, err error) {
	t.Helper()
	c.use(t, func(store Store) { shown, err = Show(t.Context(), store, key, runID) })
	return shown, err
}

func testShow(t *testing.T, c *copied) {
	key := runs(t, c)["waiting"][0].Key
	s, err := show(t, c, key, "")
	require.NoError(t, err)
	require.Empty(t, s.Violations)
	require.Equal(t, "Running", s.Execution.Status)
	require.NotNil(t, s.NextDeadline)
	require.Equal(t, "1 WorkflowExecutionStarted", s.Transitions[0].Events[0])
	require.Contains(t, s.Transitions[0].Parts, "start")
	var start struct{ WorkflowID string }
	require.NoError(t, json.Unmarshal(s.Parts["start"], &start))
	require.Equal(t, "waiting", start.WorkflowID)
	_, err = json.Marshal(s)
	require.NoError(t, err)

	key.BusinessID = "no such workflow"
	_, err = show(t, c, key, "")
	require.ErrorIs(t, err, persistence.ErrNotFound)

	// A run without acknowledgement owes its first task to somebody.
	key.BusinessID = "unpolled"
	damaged := editCore(func(core *statepb.Core) { core.EffectLowWater, core.EffectsAcknowledged = 0, nil })
	unpolled := runs(t, c)["unpolled"][0]
	damaged(t, c, unpolled)
	s, err = show(t, c, key, unpolled.RunID)
	require.NoError(t, err)
	require.Len(t, s.PendingEffects, 1)
	require.Contains(t, s.PendingEffects[0], `dispatch workflow task 2 (attempt 1) to "nobody"`)
}

func testOwners(t *testing.T, c *copied) {
	var owners []OwnerCount
	c.use(t, func(store Store) {
		var err error
		owners, err = Owners(t.Context(), store)
		require.NoError(t, err)
	})
	require.Len(t, owners, 1)
	require.Equal(t, persistence.ShardCount, owners[0].Shards)
	require.NotEmpty(t, owners[0].Owner)
}

// An order of a log whose first row is another run's comes of a reset that was interrupted.
func TestLeftoverOfReset(t *testing.T) {
	parts := func(runID string) []byte {
		start, err := proto.Marshal(&statepb.Start{RunId: runID, WorkflowId: "w", NamespaceId: "n"})
		require.NoError(t, err)
		encoded, err := proto.Marshal(&statepb.Parts{Parts: []*statepb.Part{{Key: "core"}, {Key: "start", Value: start}}})
		require.NoError(t, err)
		return encoded
	}
	var found []Violation
	f := &fsck{options: Options{Violation: func(v Violation) { found = append(found, v) }}}
	require.NoError(t, f.orphan(&persistence.Orphan{RunID: "new", First: persistence.Transition{Parts: parts("base")}}))
	require.Equal(t, Counts{Leftovers: 1}, f.counts)
	require.NoError(t, f.orphan(&persistence.Orphan{RunID: "new", Bucket: 3, First: persistence.Transition{Parts: parts("new")}}))
	require.NoError(t, f.orphan(&persistence.Orphan{RunID: "x", First: persistence.Transition{Parts: []byte("garbage")}}))
	require.EqualValues(t, 2, f.counts.Violations)
	require.Equal(t, Violation{Check: OrphanTransitions, NamespaceID: "n", WorkflowID: "w", RunID: "new", Detail: "there is a log in bucket 3, but no run there"}, found[0])
	require.Equal(t, OrphanTransitions, found[1].Check)
}
