package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/perdure/perdure/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	waitMax  = 10 * time.Second
	waitTick = time.Millisecond
)

type member struct {
	id    int
	size  int
	alone bool
}

func (m member) Size() int   { return m.size }
func (m member) Alone() bool { return m.alone }

// gate is a commit function that records the groups and lets a test hold a commit back.
type gate struct {
	mu      sync.Mutex
	groups  [][]int
	entered chan struct{}
	release chan struct{}
	fail    func(members []member) error
}

func newGate() *gate {
	return &gate{entered: make(chan struct{}, 10000), release: make(chan struct{})}
}

func (g *gate) commit(_ context.Context, members []member) error {
	ids := make([]int, len(members))
	for i, m := range members {
		ids[i] = m.id
	}
	g.mu.Lock()
	g.groups = append(g.groups, ids)
	g.mu.Unlock()
	g.entered <- struct{}{}
	<-g.release
	if g.fail != nil {
		return g.fail(members)
	}
	return nil
}

// queueUp submits members in order behind a first one (id 0) whose commit is held, and returns where their results come.
func queueUp(t *testing.T, c *Committer[member], g *gate, members []member) []chan error {
	t.Helper()
	results := make([]chan error, 0, len(members)+1)
	submit := func(m member) {
		ch := make(chan error, 1)
		results = append(results, ch)
		go func() { ch <- c.Submit(context.Background(), m) }()
	}
	submit(member{id: 0, size: 1})
	<-g.entered
	for i, m := range members {
		submit(m)
		require.Eventually(t, func() bool { return c.Waiting() == i+1 }, waitMax, waitTick)
	}
	return results
}

func TestCollectsWhileACommitIsUnderWay(t *testing.T) {
	g := newGate()
	c := New(g.commit, Options{MembersMax: 3})
	results := queueUp(t, c, g, []member{{id: 1, size: 1}, {id: 2, size: 1}, {id: 3, size: 1}, {id: 4, size: 1}})
	close(g.release)
	for _, r := range results {
		require.NoError(t, <-r)
	}
	require.Equal(t, [][]int{{0}, {1, 2, 3}, {4}}, g.groups)
	c.Close()
}

func TestLargeAndLonelyMembersGoAlone(t *testing.T) {
	g := newGate()
	c := New(g.commit, Options{BytesMax: 10})
	results := queueUp(t, c, g, []member{{id: 1, size: 4}, {id: 2, size: 6}, {id: 3, size: 1}, {id: 4, size: 99}, {id: 5, size: 1},
		{id: 6, size: 1, alone: true}, {id: 7, size: 1}, {id: 8, size: 1}})
	close(g.release)
	for _, r := range results {
		require.NoError(t, <-r)
	}
	require.Equal(t, [][]int{{0}, {1, 2}, {3}, {4}, {5}, {6}, {7, 8}}, g.groups)
	c.Close()
}

func TestFaultReachesOnlyItsOwner(t *testing.T) {
	for _, bad := range [][]int{{1}, {5}, {8}, {2, 3}, {1, 4, 8}, {1, 2, 3, 4, 5, 6, 7, 8}} {
		t.Run(fmt.Sprint(bad), func(t *testing.T) {
			var written []int
			isBad := map[int]bool{}
			for _, id := range bad {
				isBad[id] = true
			}
			g := newGate()
			g.fail = func(members []member) error {
				for _, m := range members {
					if isBad[m.id] {
						return persistence.ErrConflict
					}
				}
				for _, m := range members {
					written = append(written, m.id)
				}
				return nil
			}
			c := New(g.commit, Options{})
			var members []member
			for i := 1; i <= 8; i++ {
				members = append(members, member{id: i, size: 1})
			}
			results := queueUp(t, c, g, members)
			close(g.release)
			want := []int{}
			for id, r := range results {
				if isBad[id] {
					require.ErrorIs(t, <-r, persistence.ErrConflict)
					continue
				}
				require.NoError(t, <-r)
				want = append(want, id)
			}
			c.Close()
			require.Equal(t, want, written, "in order, each once")
		})
	}
}

func TestBlameSavesTheSearch(t *testing.T) {
	g := newGate()
	g.fail = func(members []member) error {
		blame := &BlameError{Members: map[int]error{}}
		for i, m := range members {
			if m.id%2 == 1 {
				blame.Members[i] = persistence.ErrFenced
			}
		}
		if len(blame.Members) == 0 {
			return nil
		}
		return fmt.Errorf("commit: %w", blame)
	}
	c := New(g.commit, Options{})
	results := queueUp(t, c, g, []member{{id: 1, size: 1}, {id: 2, size: 1}, {id: 3, size: 1}, {id: 4, size: 1}})
	close(g.release)
	for id, r := range results {
		if id%2 == 1 {
			require.ErrorIs(t, <-r, persistence.ErrFenced)
		} else {
			require.NoError(t, <-r)
		}
	}
	require.Equal(t, [][]int{{0}, {1, 2, 3, 4}, {2, 4}}, g.groups)
	c.Close()
}

func TestBlameOfNobodyEnds(t *testing.T) {
	c := New(func(context.Context, []member) error {
		return &BlameError{Members: map[int]error{7: persistence.ErrFenced}}
	}, Options{})
	require.Error(t, c.Submit(context.Background(), member{}))
	c.Close()
}

func TestUnknownAndUnavailableAreNotTriedAgain(t *testing.T) {
	for _, fault := range []error{persistence.ErrOutcomeUnknown, persistence.ErrUnavailable} {
		g := newGate()
		g.fail = func(members []member) error {
			if members[0].id == 1 {
				return fmt.Errorf("commit: %w", fault)
			}
			return nil
		}
		c := New(g.commit, Options{MembersMax: 2})
		results := queueUp(t, c, g, []member{{id: 1, size: 1}, {id: 2, size: 1}, {id: 3, size: 1}})
		close(g.release)
		require.NoError(t, <-results[0])
		require.ErrorIs(t, <-results[1], fault)
		require.ErrorIs(t, <-results[2], fault)
		require.NoError(t, <-results[3])
		require.Equal(t, [][]int{{0}, {1, 2}, {3}}, g.groups)
		c.Close()
	}
}

func TestFullQueueAnswersAtOnce(t *testing.T) {
	g := newGate()
	c := New(g.commit, Options{QueueMembersMax: 2, QueueBytesMax: 100})
	results := queueUp(t, c, g, []member{{id: 1, size: 90}})
	require.ErrorIs(t, c.Submit(context.Background(), member{id: 2, size: 11}), persistence.ErrUnavailable)
	ch := make(chan error, 1)
	go func() { ch <- c.Submit(context.Background(), member{id: 3, size: 10}) }()
	require.Eventually(t, func() bool { return c.Waiting() == 2 }, waitMax, waitTick)
	require.ErrorIs(t, c.Submit(context.Background(), member{id: 4, size: 0}), persistence.ErrUnavailable)
	close(g.release)
	for _, r := range append(results, ch) {
		require.NoError(t, <-r)
	}
	c.Close()
}

func TestContextBoundsTheWaitOnly(t *testing.T) {
	g := newGate()
	c := New(g.commit, Options{})
	first, second := make(chan error, 1), make(chan error, 1)
	ctx1, cancel1 := context.WithCancel(context.Background())
	ctx2, cancel2 := context.WithCancel(context.Background())
	go func() { first <- c.Submit(ctx1, member{id: 1, size: 5}) }()
	<-g.entered
	go func() { second <- c.Submit(ctx2, member{id: 2, size: 5}) }()
	require.Eventually(t, func() bool { return c.Waiting() == 1 }, waitMax, waitTick)

	cancel2()
	err := <-second
	require.ErrorIs(t, err, persistence.ErrUnavailable, "it was only in the queue")
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, c.Waiting())
	cancel1()
	err = <-first
	require.ErrorIs(t, err, persistence.ErrOutcomeUnknown, "it is being committed")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, c.Submit(ctx1, member{id: 3}), persistence.ErrUnavailable)

	close(g.release)
	c.Close()
	require.Equal(t, [][]int{{1}}, g.groups)
}

func TestCloseCommitsWhatWasAccepted(t *testing.T) {
	g := newGate()
	c := New(g.commit, Options{})
	results := queueUp(t, c, g, []member{{id: 1, size: 1}, {id: 2, size: 1}})
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	require.Eventually(t, func() bool {
		return errors.Is(c.Submit(cancelled(), member{}), persistence.ErrUnavailable) && isClosed(c)
	}, waitMax, waitTick)
	require.ErrorIs(t, c.Submit(context.Background(), member{}), persistence.ErrClosed)
	select {
	case <-closed:
		t.Fatal("closed although a commit is under way")
	default:
	}
	close(g.release)
	for _, r := range results {
		require.NoError(t, <-r)
	}
	<-closed
}

func TestCloseDoesNotWaitForADeadDatabase(t *testing.T) {
	g := newGate()
	g.fail = func([]member) error { return persistence.ErrUnavailable }
	c := New(g.commit, Options{MembersMax: 1})
	results := queueUp(t, c, g, []member{{id: 1, size: 1}, {id: 2, size: 1}})
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	require.Eventually(t, func() bool { return isClosed(c) }, waitMax, waitTick)
	close(g.release)
	require.ErrorIs(t, <-results[0], persistence.ErrUnavailable)
	require.ErrorIs(t, <-results[1], persistence.ErrClosed)
	require.ErrorIs(t, <-results[2], persistence.ErrClosed)
	<-closed
	require.Equal(t, [][]int{{0}}, g.groups)
}

func TestManyCallers(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]int{}
	members, groups := 0, 0
	c := New(func(_ context.Context, ms []member) error {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range ms {
			if m.id%97 == 0 {
				return persistence.ErrConflict
			}
		}
		for _, m := range ms {
			seen[m.id]++
		}
		return nil
	}, Options{Observe: func(o Observation) { members += o.Members; groups++ }})
	var wg sync.WaitGroup
	for caller := range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 100 {
				id := caller*100 + i + 1
				err := c.Submit(context.Background(), member{id: id, size: 10})
				if (err != nil) != (id%97 == 0) {
					t.Errorf("member %d: %v", id, err)
				}
			}
		}()
	}
	wg.Wait()
	c.Close()
	require.Len(t, seen, 5000-5000/97)
	for id, n := range seen {
		require.Equal(t, 1, n, "member %d", id)
	}
	require.GreaterOrEqual(t, members, 5000)
	require.Positive(t, groups)
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func isClosed(c *Committer[member]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// A busy committer waits for company, however fast its database is; it never waits once the next group is full, and a lone caller
// never waits at all.
func TestPace(t *testing.T) {
	const pace = 5 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Duration
		var sizes []int
		first := time.Now()
		c := New(func(_ context.Context, members []member) error {
			begun, sizes = append(begun, time.Since(first)), append(sizes, len(members))
			time.Sleep(time.Millisecond)
			return nil
		}, Options{Pace: pace, MembersMax: 8})
		var wait sync.WaitGroup
		submit := func(n int) {
			for range n {
				wait.Go(func() { assert.NoError(t, c.Submit(t.Context(), member{size: 1})) })
				synctest.Wait() // one after the other: the first goes alone, the rest of them together
			}
		}
		submit(1 + paceMembers) // a group of one, and one of four at 1 ms
		time.Sleep(3 * time.Millisecond)
		submit(2) // wait until 6 ms
		wait.Wait()
		require.Equal(t, []int{1, paceMembers, 2}, sizes)
		require.Equal(t, []time.Duration{0, time.Millisecond, time.Millisecond + pace}, begun)

		for range 3 { // two are no crowd
			submit(1)
			wait.Wait()
		}
		require.Equal(t, begun[len(begun)-2]+time.Millisecond, begun[len(begun)-1])

		begun, sizes = nil, nil
		submit(1 + paceMembers + 8) // the eight fill a group before its time
		wait.Wait()
		require.Equal(t, []int{1, 8, paceMembers}, sizes)
		require.Equal(t, begun[1]+time.Millisecond+(pace-time.Millisecond), begun[2])
		c.Close()
	})
}

func TestCloseDoesNotWaitForThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(func(context.Context, []member) error { time.Sleep(time.Millisecond); return nil }, Options{Pace: time.Hour})
		var wait sync.WaitGroup
		for range 2 * paceMembers {
			wait.Go(func() { assert.NoError(t, c.Submit(t.Context(), member{size: 1})) })
		}
		wait.Wait()
		begun := time.Now()
		wait.Go(func() { assert.NoError(t, c.Submit(t.Context(), member{size: 1})) })
		synctest.Wait()
		c.Close()
		wait.Wait()
		require.Less(t, time.Since(begun), time.Minute)
	})
}
