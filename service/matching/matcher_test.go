package matching

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

var epochStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func waiting(source source, level int16, id int64) *task {
	t := &task{
		source: source, level: level,
		data: &statepb.Task{ScheduledEventId: id, CreateTime: timestamppb.New(epochStart)},
	}
	if source == sourceBacklog {
		t.key = persistence.TaskKey{Level: level, ID: id}
	}
	return t
}

func TestMatchOrder(t *testing.T) {
	cases := map[string]struct {
		tasks []*task
		want  []int64
	}{
		"fresh tasks by arrival": {
			[]*task{waiting(sourceFresh, 3, 2), waiting(sourceFresh, 3, 1)}, []int64{2, 1},
		},
		"backlog by key": {
			[]*task{waiting(sourceBacklog, 3, 2), waiting(sourceBacklog, 3, 3), waiting(sourceBacklog, 3, 1)}, []int64{1, 2, 3},
		},
		"levels first": {
			[]*task{waiting(sourceFresh, 5, 1), waiting(sourceBacklog, 3, 2), waiting(sourceFresh, 1, 3)}, []int64{3, 2, 1},
		},
		"within a level queries, then the backlog, then fresh tasks": {
			[]*task{waiting(sourceFresh, 3, 1), waiting(sourceBacklog, 3, 2), waiting(sourceQuery, 3, 3)}, []int64{3, 2, 1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var m matcher
			for _, task := range c.tasks {
				m.add(task)
			}
			for range c.tasks {
				m.addPoll(newPoll("", "", ""))
			}
			var got []int64
			for _, pair := range m.match(epochStart).pairs {
				got = append(got, pair.task.data.GetScheduledEventId())
			}
			require.Equal(t, c.want, got)
			require.Zero(t, m.fresh)
			require.Zero(t, m.queries)
			require.Zero(t, m.polls.Len())
		})
	}
}

func TestATaskThatComesBackKeepsItsPlace(t *testing.T) {
	var m matcher
	first, second := waiting(sourceFresh, 3, 1), waiting(sourceFresh, 3, 2)
	m.add(first)
	m.add(second)
	require.True(t, m.remove(first))
	require.False(t, m.remove(first), "it is out already")
	first.startID = "open"
	m.add(first)
	m.addPoll(newPoll("", "", ""))
	require.Same(t, first, m.match(epochStart).pairs[0].task)
}

func TestPollsAreServedByArrival(t *testing.T) {
	var m matcher
	first, second, third := newPoll("1", "", ""), newPoll("2", "", ""), newPoll("3", "", "")
	m.addPoll(first)
	m.addPoll(second)
	m.addPoll(third)
	require.True(t, m.removePoll(first))
	require.False(t, m.removePoll(first))
	m.add(waiting(sourceFresh, 3, 1))
	pairs := m.match(epochStart).pairs
	require.Len(t, pairs, 1)
	require.Same(t, second, pairs[0].poll)
	require.Equal(t, 1, m.polls.Len())
}

func TestExpiredTasksAreSkipped(t *testing.T) {
	var m matcher
	expired, live := waiting(sourceFresh, 1, 1), waiting(sourceFresh, 3, 2)
	expired.data.Expiry = timestamppb.New(epochStart)
	live.data.Expiry = timestamppb.New(epochStart.Add(1))
	m.add(expired)
	m.add(live)
	m.addPoll(newPoll("", "", ""))
	result := m.match(epochStart)
	require.Equal(t, []*task{expired}, result.expired)
	require.Same(t, live, result.pairs[0].task)
}

func TestRateLimitHoldsTasksButNotQueries(t *testing.T) {
	m := matcher{cap: newBucket(2, time.Second, epochStart)}
	m.add(waiting(sourceFresh, 1, 1))
	m.add(waiting(sourceQuery, 5, 2))
	m.addPoll(newPoll("", "", ""))
	m.addPoll(newPoll("", "", ""))
	result := m.match(epochStart)
	require.Len(t, result.pairs, 1)
	require.Equal(t, sourceQuery, result.pairs[0].task.source)
	require.Equal(t, 500*time.Millisecond, result.wait)
	require.Len(t, m.match(epochStart.Add(result.wait)).pairs, 1)
}

func TestBehind(t *testing.T) {
	var m matcher
	m.add(waiting(sourceFresh, 1, 1))
	require.False(t, m.behind(5, epochStart.Add(time.Hour)), "only the backlog counts")
	m.add(waiting(sourceBacklog, 5, 2))
	require.False(t, m.behind(5, epochStart.Add(backlogNegligible)))
	require.True(t, m.behind(5, epochStart.Add(backlogNegligible+1)))
	require.False(t, m.behind(4, epochStart.Add(backlogNegligible+1)), "of a level that goes later")
}

func TestLevelOf(t *testing.T) {
	for key, level := range map[int32]int16{0: 3, 1: 1, 3: 3, 5: 5, 6: 5, 1000: 5} {
		require.Equal(t, level, levelOf(key), "key %d", key)
	}
}

func TestBucket(t *testing.T) {
	steps := func(rate float64) (*bucket, func(after time.Duration) bool) {
		b := newBucket(rate, time.Second, epochStart)
		return b, func(after time.Duration) bool { return b.take(epochStart.Add(after)) }
	}
	t.Run("starts empty and saves one second", func(t *testing.T) {
		_, take := steps(2)
		require.False(t, take(0))
		require.True(t, take(time.Minute))
		require.True(t, take(time.Minute))
		require.False(t, take(time.Minute))
	})
	t.Run("below one per second", func(t *testing.T) {
		b, take := steps(0.1)
		require.False(t, take(9*time.Second))
		require.Equal(t, time.Second, b.until(1, epochStart.Add(9*time.Second)))
		require.True(t, take(10*time.Second))
		require.False(t, take(19*time.Second))
	})
	t.Run("zero pauses", func(t *testing.T) {
		b, take := steps(0)
		require.False(t, take(time.Hour))
		require.Zero(t, b.until(1, epochStart))
		b.setRate(1, epochStart.Add(time.Hour))
		require.True(t, take(time.Hour+time.Second))
	})
	t.Run("a lower rate cuts what was saved", func(t *testing.T) {
		b, take := steps(100)
		b.fill(epochStart.Add(time.Second))
		b.setRate(1, epochStart.Add(time.Second))
		require.True(t, take(time.Second))
		require.False(t, take(time.Second))
		b.giveBack(1)
		b.giveBack(1)
		require.True(t, take(time.Second))
		require.False(t, take(time.Second), "not more than the burst comes back")
	})
	t.Run("tiny rates do not overflow", func(t *testing.T) {
		b, _ := steps(1e-300)
		require.Equal(t, time.Hour, b.until(1, epochStart))
	})
	t.Run("nil does not limit", func(t *testing.T) {
		var b *bucket
		require.True(t, b.take(epochStart))
		require.False(t, b.empty(epochStart))
		b.giveBack(1)
	})
}

func TestRateForgets(t *testing.T) {
	var r rate
	for range 60 {
		r.count(epochStart)
	}
	require.InDelta(t, 2, r.perSecond(epochStart), 0.001)
	require.InDelta(t, 2, r.perSecond(epochStart.Add(29*time.Second)), 0.001)
	require.Zero(t, r.perSecond(epochStart.Add(30*time.Second)))
	r.count(epochStart.Add(32 * time.Second))
	require.InDelta(t, 1.0/30, r.perSecond(epochStart.Add(40*time.Second)), 0.001)
}
