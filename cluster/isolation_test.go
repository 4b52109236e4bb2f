package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

func TestWhoReachesNobodyStepsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b, c := w.join("a", "history", "a:1"), w.join("b", "history", "b:1"), w.join("c", "history", "c:1")
		set := func(broken bool) {
			w.set(func() {
				for _, other := range []string{"a:1", "c:1"} {
					w.cut[[2]string{"b:1", other}], w.cut[[2]string{other, "b:1"}] = broken, broken
				}
			})
		}
		time.Sleep(time.Minute)
		set(true)
		time.Sleep(6 * time.Second)
		w.sees(a, "a", "c")
		w.sees(c, "a", "c")
		for shard := range persistence.ShardID(100) {
			owner, _ := b.View().ShardOwner(shard)
			require.NotEqual(t, "b", owner.ID, "b is to own nothing new")
		}
		set(false)
		time.Sleep(3 * time.Second)
		w.sees(a, "a", "b", "c")
		m, _ := a.View().Member("b")
		require.False(t, m.Draining)
		w.leave()
	})
}

// A member that nobody reaches, but that reaches everybody, database included, hears of that from those whom it pings.
func TestWhomMostCannotReachStepsBack(t *testing.T) {
	for name, cut := range map[string]func(b *resident, off bool){
		"silent":  func(b *resident, off bool) { b.silent = off },
		"refused": func(b *resident, off bool) { b.dead = off },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t)
				a, b, c := w.join("a", "history", "a:1"), w.join("b", "history", "b:1"), w.join("c", "matching", "c:1")
				f := w.join("f", "frontend", "")
				var yielded atomic.Int32
				b.OnYield(func(context.Context) { yielded.Add(1) })
				time.Sleep(time.Minute)
				w.set(func() { cut(b, true) })
				time.Sleep(8 * time.Second)
				for _, r := range []*resident{a, c, f} {
					w.sees(r, "a", "c", "f")
				}
				owner, _ := b.View().ShardOwner(1)
				require.Equal(t, "a", owner.ID, "it knows that it is passed over")
				require.EqualValues(t, 1, yielded.Load())
				require.True(t, b.Valid(), "it may still call others")
				time.Sleep(time.Minute)
				w.sees(a, "a", "c", "f")
				require.EqualValues(t, 1, yielded.Load())
				w.set(func() { cut(b, false) })
				time.Sleep(5 * time.Second)
				for _, r := range []*resident{a, b, c, f} {
					w.sees(r, "a", "b", "c", "f")
					m, _ := r.View().Member("b")
					require.False(t, m.Draining)
				}
				w.leave()
			})
		})
	}
}

// A member that was frozen for a moment is back before anything has moved.
func TestAShortFreezeIsNotIsolation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b, c := w.join("a", "history", "a:1"), w.join("b", "history", "b:1"), w.join("c", "history", "c:1")
		time.Sleep(time.Minute)
		generation := a.View().Generation
		for range 5 {
			w.set(func() { b.silent = true })
			time.Sleep(3 * time.Second) // it pings on as soon as it is thawed, before the others have pinged it
			w.set(func() { b.silent = false })
			time.Sleep(10 * time.Second)
		}
		w.sees(b, "a", "b", "c")
		w.sees(c, "a", "b", "c")
		require.Equal(t, generation, a.View().Generation)
		w.leave()
	})
}

// One of several that does not reach a member may have a broken way itself.
func TestWhomOneCannotReachStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.join("a", "history", "a:1"), w.join("b", "history", "b:1")
		w.join("c", "history", "c:1")
		time.Sleep(time.Minute)
		w.set(func() { w.cut[[2]string{"a:1", "b:1"}] = true })
		time.Sleep(time.Minute)
		for _, r := range []*resident{a, b} {
			w.sees(r, "a", "b", "c")
			m, _ := r.View().Member("b")
			require.False(t, m.Draining)
		}
		w.leave()
	})
}

func TestTheLastSurvivorDoesNotStepBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b, c := w.join("a", "history", "a:1"), w.join("b", "history", "b:1"), w.join("c", "history", "c:1")
		time.Sleep(time.Minute)
		w.set(func() { b.silent, c.silent = true, true })
		w.stop(b)
		w.stop(c)
		time.Sleep(6 * time.Second)
		w.sees(a, "a")
		owner, _ := a.View().ShardOwner(1)
		require.Equal(t, "a", owner.ID)
		require.False(t, owner.Draining)
		w.leave()
	})
}
