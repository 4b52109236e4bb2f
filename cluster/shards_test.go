package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	clusterpb "github.com/perdure/perdure/api/cluster/v1"
	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/persistence"
)

// load is callers that check what they are told.
type load struct {
	stop    chan struct{}
	callers sync.WaitGroup
	done    atomic.Int64
	// told is how many signals of each workflow have been acknowledged.
	told [4]atomic.Int64
}

// run starts callers. Calls that cannot be repeated are made only if none can be lost.
func (s *site) run(client historypb.HistoryServiceClient, graceful bool) *load {
	l := &load{stop: make(chan struct{})}
	for caller := range 4 {
		workflow := fmt.Sprint("workflow-", caller)
		l.callers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				default:
				}
				s.callOnce(client, graceful, workflow, n, &l.told[caller])
				l.done.Add(1)
			}
		})
	}
	return l
}

func (s *site) callOnce(client historypb.HistoryServiceClient, graceful bool, workflow string, n int, told *atomic.Int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	began := time.Now()
	_, err := client.SignalWorkflowExecution(ctx, signal(workflow, fmt.Sprint("signal-", n)))
	if !assert.NoError(s.t, err, "a signal failed") {
		return
	}
	told.Add(1)
	if graceful {
		if _, err := client.TerminateWorkflowExecution(ctx, terminate(workflow, fmt.Sprint("terminate-", n))); assert.NoError(s.t, err) {
			told.Add(1)
		}
	}
	got, err := client.DescribeWorkflowExecution(ctx, describe(workflow))
	if assert.NoError(s.t, err, "a read failed") {
		assert.GreaterOrEqual(s.t, got.GetWorkflowExecutionInfo().GetHistoryLength(), told.Load(), "a read is older than what was told")
	}
	assert.Less(s.t, time.Since(began), 5*time.Second)
}

// more waits until the callers have made some more calls.
func (l *load) more(t *testing.T) {
	t.Helper()
	from := l.done.Load()
	require.Eventually(t, func() bool { return l.done.Load() > from+40 }, 10*time.Second, time.Millisecond)
}

func (l *load) end(s *site) {
	s.t.Helper()
	close(l.stop)
	l.callers.Wait()
	for caller := range l.told {
		workflow := fmt.Sprint("workflow-", caller)
		require.EqualValues(s.t, l.told[caller].Load(), s.store.count(workflow), "every signal was applied once")
	}
}

func TestShardsMoveWithoutAFailedCall(t *testing.T) {
	s := newSite(t)
	a := s.machine("a")
	s.owns(a, all)
	require.Eventually(t, a.shards.Ready, 5*time.Second, time.Millisecond)
	f := s.frontend()
	l := s.run(NewHistoryClient(f.Membership, nil), true)
	l.more(t)
	b := s.machine("b")
	s.owns(b, some)
	l.more(t)
	c := s.machine("c")
	s.owns(c, some)
	require.Eventually(t, func() bool {
		return len(a.history.Owned())+len(b.history.Owned())+len(c.history.Owned()) == persistence.ShardCount
	}, 5*time.Second, time.Millisecond)
	l.more(t)
	require.NoError(t, a.stop(t.Context()))
	require.Empty(t, a.history.Owned())
	l.more(t)
	require.NoError(t, b.stop(t.Context()))
	s.owns(c, all)
	l.more(t)
	l.end(s)
}

func TestAKilledOwnersShardsAreServedElsewhere(t *testing.T) {
	s := newSite(t)
	a, b := s.machine("a"), s.machine("b")
	s.owns(a, some)
	s.owns(b, some)
	f := s.frontend()
	l := s.run(NewHistoryClient(f.Membership, nil), false)
	l.more(t)
	began := time.Now()
	b.kill(s)
	s.owns(a, all)
	require.Less(t, time.Since(began), 4*time.Second)
	l.more(t)
	// A new incarnation takes its share back.
	c := s.machine("c")
	s.owns(c, some)
	l.more(t)
	l.end(s)
}

func TestTheLastMemberDrainsAtOnce(t *testing.T) {
	s := newSite(t)
	a := s.machine("a")
	s.owns(a, all)
	require.NoError(t, a.stop(t.Context()))
}

func TestDrainEndsWithItsContext(t *testing.T) {
	s := newSite(t)
	a, b := s.machine("a"), s.machine("b")
	s.owns(a, some)
	s.owns(b, some)
	b.shards.Stop() // it will not take over
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, a.shards.Drain(ctx), context.DeadlineExceeded)
	s.owns(a, some)
}

func TestShardsOfALiveMemberAreNotTakenAgainstItsView(t *testing.T) {
	s := newSite(t)
	a := s.machine("a")
	s.owns(a, all)
	asked := []persistence.ShardID{1, 2, 3}
	kept, err := a.shards.give(t.Context(), "stranger", "10.0.0.1:1", asked)
	require.NoError(t, err)
	require.Equal(t, asked, kept)
	s.owns(a, all)
	_, err = (&service{m: a.Membership}).ReleaseShards(t.Context(), &clusterpb.ReleaseShardsRequest{MemberId: "a", ShardIds: []int32{4096}})
	require.Error(t, err)
	_, err = (&service{m: a.Membership}).ReleaseShards(t.Context(), &clusterpb.ReleaseShardsRequest{MemberId: "former"})
	require.Error(t, err)
}

func TestTakingIsTriedUntilTheDatabaseAnswers(t *testing.T) {
	s := newSite(t)
	s.store.refuseAll = true
	a := s.machine("a")
	require.Never(t, a.shards.Ready, 200*time.Millisecond, 10*time.Millisecond)
	s.store.mu.Lock()
	s.store.refuseAll = false
	s.store.mu.Unlock()
	s.owns(a, all)
}

func TestALostShardIsTakenAgain(t *testing.T) {
	s := newSite(t)
	a := s.machine("a")
	s.owns(a, all)
	_, err := s.store.take([]persistence.ShardID{shardOfWorkflow("w")}) // by somebody who ought not to
	require.NoError(t, err)
	client := NewHistoryClient(a.Membership, historypb.LocalHistoryServiceClient{Server: a.history})
	_, err = client.SignalWorkflowExecution(t.Context(), signal("w", "r"))
	require.NoError(t, err)
	require.Equal(t, 1, s.store.count("w"))
}

func TestAfterAGapEverythingIsTakenAgain(t *testing.T) {
	s := newSite(t)
	var jump atomic.Int64
	s.params = func(p *Params) { p.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) } }
	a := s.machine("a")
	s.owns(a, all)
	require.Eventually(t, a.shards.Ready, 5*time.Second, time.Millisecond)
	s.store.mu.Lock()
	before := s.store.taken
	s.store.mu.Unlock()
	client := NewHistoryClient(a.Membership, historypb.LocalHistoryServiceClient{Server: a.history})
	jump.Add(int64(time.Minute))
	require.False(t, a.Valid())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := client.DescribeWorkflowExecution(ctx, describe("w"))
	require.NoError(t, err)
	s.owns(a, all)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	require.GreaterOrEqual(t, s.store.taken-before, persistence.ShardCount)
}

func TestWhatNobodyAsksForIsGivenUpInTheEnd(t *testing.T) {
	s := newSite(t)
	a, b := s.machine("a"), s.machine("b")
	s.owns(a, some)
	s.owns(b, some)
	require.Eventually(t, func() bool { return a.shards.Ready() && b.shards.Ready() }, 5*time.Second, time.Millisecond)
	a.shards.Stop()
	b.shards.Stop()
	owned := func() int { return len(a.history.Owned()) }
	before := owned()
	require.NoError(t, a.history.Take(t.Context(), b.history.Owned()[:1])) // b does not know that it has lost it
	a.shards.surplus = nil
	for range 2 {
		require.Equal(t, before+1, owned(), "it may be asked for it")
		a.shards.surplusAt = time.Time{}
		a.shards.dropSurplus(t.Context())
	}
	require.Equal(t, before, owned())
}
