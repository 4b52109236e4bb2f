package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	clusterpb "github.com/perdure/perdure/api/cluster/v1"
	"github.com/perdure/perdure/persistence"
)

// town is a cluster whose network is a map.
type town struct {
	t        *testing.T
	database *database

	mu      sync.Mutex
	members map[string]*resident // by address
	all     []*resident
	cut     map[[2]string]bool // no way from one address to the other
}

// resident is a process.
type resident struct {
	*Membership
	address string
	dead    bool         // nobody listens
	silent  bool         // nobody answers
	jump    atomic.Int64 // of its clock
}

func newTown(t *testing.T) *town {
	return &town{t: t, database: newDatabase(), members: map[string]*resident{}, cut: map[[2]string]bool{}}
}

func (w *town) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// start makes a process that has not joined.
func (w *town) start(id, service, address string) *resident {
	r := &resident{address: address}
	m, err := New(Params{
		Store: w.database, Self: persistence.Member{ID: id, Service: service, Address: address},
		Logger: zaptest.NewLogger(w.t), Now: func() time.Time { return time.Now().Add(time.Duration(r.jump.Load())) },
	})
	require.NoError(w.t, err)
	r.Membership = m
	m.ping = func(ctx context.Context, to persistence.Member, n news) (bool, error) { return w.ping(ctx, r, to, n) }
	w.set(func() { w.members[address] = r; w.all = append(w.all, r) })
	return r
}

func (w *town) join(id, service, address string) *resident {
	r := w.start(id, service, address)
	require.NoError(w.t, r.Join(w.t.Context()))
	return r
}

// leave ends what is left of the town.
func (w *town) leave() {
	w.database.set(func(d *database) { clear(d.down); clear(d.hung) })
	for _, r := range w.all {
		require.NoError(w.t, r.Leave(context.Background()))
	}
}

func (w *town) ping(ctx context.Context, from *resident, to persistence.Member, n news) (unanswered bool, err error) {
	w.mu.Lock()
	r := w.members[to.Address]
	gone := r == nil || r.dead || r.self.ID != to.ID
	silent := w.cut[[2]string{from.address, to.Address}] || r != nil && r.silent
	w.mu.Unlock()
	switch {
	case silent:
		<-ctx.Done()
		return false, ctx.Err()
	case gone:
		return false, errNobody
	}
	answer, err := (&service{m: r.Membership}).Ping(ctx, &clusterpb.PingRequest{
		MemberId: to.ID, Refresh: n.refresh, PassedOver: n.passedOver, FromId: from.self.ID,
	})
	return answer.GetUnanswered(), err
}

func (w *town) kill(r *resident) {
	w.set(func() { r.dead = true })
	w.stop(r)
}

// stop ends a process's work without a word.
func (w *town) stop(r *resident) {
	w.database.set(func(d *database) { d.down[r.self.ID] = true })
	r.cancel()
}

func ids(v *View) (list []string) {
	for _, m := range v.Members {
		list = append(list, m.ID)
	}
	return list
}

func (w *town) sees(r *resident, want ...string) {
	w.t.Helper()
	synctest.Wait()
	require.Equal(w.t, want, ids(r.View()))
}

func TestMembersSeeWhoJoinsAndLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a := w.join("a", "history", "a:1")
		w.sees(a, "a")
		require.True(t, a.Valid())
		changed, stop := a.Watch()
		defer stop()
		b := w.join("b", "history,matching", "b:1")
		time.Sleep(refreshMin)
		w.sees(a, "a", "b")
		w.sees(b, "a", "b")
		<-changed
		require.Len(t, a.View().Live(Matching), 1)
		generation := a.View().Generation
		time.Sleep(time.Minute)
		require.Equal(t, generation, a.View().Generation, "nothing has changed")
		require.NoError(t, b.Leave(t.Context()))
		require.False(t, b.Valid())
		time.Sleep(refreshMin)
		w.sees(a, "a")
		<-changed
		require.Error(t, b.Refresh(t.Context()))
		w.leave()
	})
}

func TestAnIdleMemberRenewsOnlyWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.join("a", "history", "a:1")
		time.Sleep(5 * time.Minute)
		require.InDelta(t, 101, w.database.count(), 1)
		w.leave()
	})
}

func TestRefreshesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a := w.join("a", "history", "a:1")
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { require.NoError(t, a.Refresh(t.Context())) })
		}
		all.Wait()
		require.LessOrEqual(t, w.database.count(), 3)
		w.leave()
	})
}

func TestACrashIsNoticedWhenConnectionsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.join("a", "history", "a:1"), w.join("b", "history", "b:1")
		time.Sleep(time.Minute)
		w.sees(a, "a", "b")
		w.kill(b)
		a.ReportUnreachable("b")
		time.Sleep(pingAgain)
		w.sees(a, "a")
		w.leave()
	})
}

func TestAHostThatIsGoneWithoutAWordIsNoticedInTime(t *testing.T) {
	for _, phase := range []time.Duration{0, 500, 1000, 1500, 2000, 2500, 2999} {
		synctest.Test(t, func(t *testing.T) {
			w := newTown(t)
			a, b := w.join("a", "history", "a:1"), w.join("b", "history", "b:1")
			time.Sleep(time.Minute + phase*time.Millisecond)
			w.set(func() { b.silent = true })
			w.stop(b)
			time.Sleep(frozenAfter)
			w.sees(a, "a", "b")
			time.Sleep(4500*time.Millisecond - frozenAfter)
			w.sees(a, "a")
			w.leave()
		})
	}
}

func TestAMemberThatRenewsIsNotPassedOverForABrokenWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.join("a", "history", "a:1"), w.join("b", "history", "b:1")
		w.set(func() { w.cut[[2]string{"a:1", "b:1"}] = true })
		time.Sleep(time.Minute)
		w.sees(a, "a", "b")
		w.sees(b, "a", "b")
		w.leave()
	})
}

// Others may own what a member owned that they could not reach, and it does not know: it hears of that before anybody calls it again.
func TestAMemberThatWasPassedOverGivesUpBeforeItIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b, f := w.join("a", "history", "a:1"), w.join("b", "history", "b:1"), w.join("f", "frontend", "")
		yielding, release := make(chan struct{}, 2), make(chan struct{})
		b.OnYield(func(context.Context) { yielding <- struct{}{}; <-release })
		time.Sleep(time.Minute)
		w.set(func() { b.dead = true }) // its address refuses connections, but it is well
		time.Sleep(5 * time.Second)
		w.sees(a, "a", "f")
		w.sees(b, "a", "b", "f")
		require.True(t, b.Valid())
		w.set(func() { b.dead = false })
		<-yielding
		require.False(t, b.Valid())
		synctest.Wait()
		w.sees(a, "a", "b", "f")
		close(release)
		time.Sleep(5 * time.Second)
		require.True(t, b.Valid())
		require.Empty(t, yielding, "once is enough")
		w.sees(f, "a", "b", "f")
		w.leave()
	})
}

func TestALeaseThatRunsOutIsJudgedByTheObserversClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.join("a", "history", "a:1"), w.join("b", "history", "b:1")
		time.Sleep(time.Minute)
		// It answers, but does not renew: its way to the database is broken.
		w.database.set(func(d *database) { d.down["b"] = true })
		time.Sleep(DefaultLeaseTTL - DefaultRenewEvery)
		w.sees(a, "a", "b")
		time.Sleep(2 * DefaultRenewEvery)
		w.sees(a, "a")
		require.False(t, b.Valid(), "its lease has run out before others judged it")
		w.leave()
	})
}

func TestTheDatabasesClockMayJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.join("a", "history", "a:1"), w.join("b", "history", "b:1")
		time.Sleep(time.Minute)
		for _, jump := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour} {
			generation := a.View().Generation
			w.database.set(func(d *database) { d.offset += jump })
			for range 30 {
				time.Sleep(time.Second)
				w.sees(a, "a", "b")
				w.sees(b, "a", "b")
				require.True(t, a.Valid())
			}
			require.Equal(t, generation, a.View().Generation)
			require.Equal(t, w.database.offset, a.ClockOffset())
		}
		w.leave()
	})
}

func TestAfterAGapNobodyIsJudgedForOneLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.join("a", "history", "a:1"), w.join("b", "history", "b:1")
		var yielded atomic.Int32
		a.OnYield(func(context.Context) { yielded.Add(1) })
		time.Sleep(time.Minute)
		w.database.set(func(d *database) { d.down[""] = true })
		time.Sleep(DefaultLeaseTTL)
		require.False(t, a.Valid())
		require.False(t, b.Valid())
		time.Sleep(time.Minute)
		w.sees(a, "a", "b")
		// Only a finds the database again.
		w.database.set(func(d *database) { d.down[""] = false; d.down["b"] = true })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.True(t, a.Valid())
		require.EqualValues(t, 1, yielded.Load(), "others might have taken over what it owned")
		time.Sleep(DefaultLeaseTTL - 3*time.Second)
		w.sees(a, "a", "b")
		time.Sleep(5 * time.Second)
		w.sees(a, "a")
		w.leave()
	})
}

func TestAFrozenProcessAnswersNothingUntilItHasYielded(t *testing.T) {
	for _, frozen := range []time.Duration{frozenAfter + time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := newTown(t)
			a := w.join("a", "history", "a:1")
			yielding, release := make(chan struct{}, 2), make(chan struct{})
			a.OnYield(func(context.Context) { yielding <- struct{}{}; <-release })
			time.Sleep(time.Minute)
			a.jump.Add(int64(frozen))
			require.False(t, a.Valid(), "before anything has run")
			<-yielding
			time.Sleep(time.Minute)
			require.False(t, a.Valid(), "it has not yet given up what it owned")
			close(release)
			synctest.Wait()
			require.True(t, a.Valid())
			w.leave()
		})
	}
}

func TestAFreezeWithinAYieldIsYieldedToAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a := w.join("a", "history", "a:1")
		yielding, release := make(chan struct{}, 2), make(chan struct{})
		a.OnYield(func(context.Context) { yielding <- struct{}{}; <-release })
		a.jump.Add(int64(time.Minute))
		<-yielding
		a.jump.Add(int64(time.Minute))
		time.Sleep(10 * time.Second)
		release <- struct{}{}
		<-yielding
		require.False(t, a.Valid())
		release <- struct{}{}
		synctest.Wait()
		require.True(t, a.Valid())
		w.leave()
	})
}

func TestAHangingDatabaseEndsTheLeaseInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a := w.join("a", "history", "a:1")
		time.Sleep(time.Minute)
		w.database.set(func(d *database) { d.hung["a"] = true })
		time.Sleep(DefaultLeaseTTL - DefaultRenewEvery - time.Millisecond)
		require.True(t, a.Valid())
		time.Sleep(DefaultRenewEvery + time.Millisecond)
		require.False(t, a.Valid())
		w.leave()
	})
}

func TestANewIncarnationTakesItsAddressOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.join("a", "history", "a:1"), w.join("b1", "history", "b:1")
		time.Sleep(time.Minute)
		before, _ := a.View().ShardOwner(5)
		w.kill(b)
		w.join("b2", "history", "b:1")
		time.Sleep(refreshMin)
		w.sees(a, "a", "b2")
		after, _ := a.View().ShardOwner(5)
		require.Equal(t, before.Address, after.Address, "a restart moves nothing")
		// Another address is another member.
		w.join("b3", "history", "b:2")
		time.Sleep(refreshMin)
		w.sees(a, "a", "b2", "b3")
		w.leave()
	})
}

func TestAJoinerFindsTheRowsOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		b := w.join("b", "history", "b:1")
		w.kill(b)
		time.Sleep(10 * time.Minute)
		a := w.join("a", "history", "a:1")
		w.sees(a, "a", "b")
		time.Sleep(2 * pingAgain)
		w.sees(a, "a")
		w.leave()
	})
}

func TestWhoDrainsOwnsNothingUnlessAllDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.join("a", "history", "a:1"), w.join("b", "history", "b:1")
		time.Sleep(refreshMin)
		require.NoError(t, a.Drain(t.Context()))
		time.Sleep(refreshMin)
		for _, r := range []*resident{a, b} {
			w.sees(r, "a", "b")
			owner, _ := r.View().ShardOwner(1)
			require.Equal(t, "b", owner.ID)
		}
		require.NoError(t, b.Drain(t.Context()))
		owners := map[string]bool{}
		for shard := range persistence.ShardID(100) {
			owner, _ := b.View().ShardOwner(shard)
			owners[owner.ID] = true
		}
		require.Len(t, owners, 2)
		w.leave()
	})
}

func TestJoinFailsWithTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.database.set(func(d *database) { d.down["a"] = true })
		a := w.start("a", "history", "a:1")
		err := a.Join(t.Context())
		require.True(t, errors.Is(err, errDatabaseDown), err)
		require.False(t, a.Valid())
		require.Empty(t, a.View().Members)
		w.database.set(func(d *database) { d.down["a"] = false })
		require.NoError(t, a.Join(t.Context()), "it may be tried again")
		require.Error(t, a.Join(t.Context()))
		w.leave()
	})
}

func TestParamsThatCannotWorkAreRefused(t *testing.T) {
	for _, p := range []Params{
		{Self: persistence.Member{Service: "histroy", Address: "a:1"}},
		{Self: persistence.Member{Service: "history"}},
		{Self: persistence.Member{Service: "history", Address: "a"}},
		{Self: persistence.Member{Service: "history", Address: ":7234"}},
		{Self: persistence.Member{Service: "history", Address: "0.0.0.0:7234"}},
		{Self: persistence.Member{Service: "history", Address: "[::]:7234"}},
		{Self: persistence.Member{Service: "history", Address: "a:0"}},
		{Self: persistence.Member{Service: "history", Address: "a:1"}, LeaseTTL: time.Second, RenewEvery: time.Second},
	} {
		_, err := New(p)
		require.Error(t, err, "%+v", p.Self)
	}
	m, err := New(Params{Self: persistence.Member{Service: "frontend"}})
	require.NoError(t, err)
	require.NotEmpty(t, m.Self().ID)
	require.NoError(t, m.Leave(t.Context()), "without having joined")
}
