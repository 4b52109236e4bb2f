package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

func TestReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		defer w.leave()
		a, b := w.join("a", "history,matching", "a:1"), w.join("b", "history,matching", "b:1")
		w.join("f", Frontend, "") // nobody calls it
		require.NoError(t, a.Refresh(t.Context()))
		require.NoError(t, b.Refresh(t.Context()))
		w.sees(a, "a", "b", "f")
		w.sees(b, "a", "b", "f")
		found := a.Reach(t.Context())
		require.Len(t, found, 1)
		require.Equal(t, "b", found[0].Member.ID)
		require.NoError(t, found[0].Err)
		w.set(func() { b.silent = true })
		require.Error(t, a.Reach(t.Context())[0].Err)

		require.Equal(t, persistence.ShardCount, a.ShardsExpected()+b.ShardsExpected())
		require.Equal(t, DefaultLeaseTTL, a.LeaseTTL())
		left := a.LeaseLeft()
		require.True(t, left > 0 && left <= a.LeaseTTL(), left)
		w.database.set(func(d *database) { d.down["a"] = true })
		time.Sleep(DefaultLeaseTTL + time.Second)
		require.Negative(t, a.LeaseLeft())
		w.set(func() { b.silent = false })
	})
}
