package matching

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// inBubble runs a test with its own clock. The service is stopped at its end.
func inBubble(t *testing.T, test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer func() { f.stop() }()
		test(t, f)
	})
}

type polled struct {
	response *workflowservice.PollWorkflowTaskQueueResponse
	err      error
}

func (p polled) id() string { return p.response.GetWorkflowExecution().GetWorkflowId() }

// goPoll polls in the background.
func (f *fixture) goPoll(ctx context.Context, address *matchingpb.Partition) <-chan polled {
	done := make(chan polled, 1)
	go func() {
		response, err := f.poll(ctx, address)
		done <- polled{response, err}
	}()
	synctest.Wait()
	return done
}

type added struct {
	response *matchingpb.AddTaskResponse
	err      error
}

func (f *fixture) goAdd(address *matchingpb.Partition, id string) <-chan added {
	done := make(chan added, 1)
	go func() {
		response, err := f.add(address, newTask(id, 0))
		done <- added{response, err}
	}()
	synctest.Wait()
	return done
}

func TestSyncMatchPollFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		poll := f.goPoll(t.Context(), workflowQueue)
		response, err := f.add(workflowQueue, newTask("w", 0))
		require.NoError(t, err)
		require.True(t, response.GetMatched())
		require.Equal(t, "w", (<-poll).id())
		require.Zero(t, f.store.count("write"))
		require.Zero(t, f.store.count("take"), "nothing was stored: no lease")
		require.Equal(t, 1, f.store.count("get"))
	})
}

func TestSyncMatchTaskFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		add := f.goAdd(workflowQueue, "w")
		require.Equal(t, "w", f.mustPoll(time.Minute))
		require.True(t, (<-add).response.GetMatched())
		require.Zero(t, f.store.count("write"))
	})
}

func TestATaskIsStoredAfterTheWait(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		begin := time.Now()
		response, err := f.add(workflowQueue, newTask("w", 0))
		require.NoError(t, err)
		require.False(t, response.GetMatched())
		require.Equal(t, syncMatchWait, time.Since(begin))
		require.Equal(t, 1, f.store.rows(workflowKey))

		require.Equal(t, "w", f.mustPoll(time.Minute))
		require.Equal(t, "", f.mustPoll(5*time.Second), "it is not dispatched twice")
		require.Zero(t, f.store.rows(workflowKey), "the row has been deleted")
	})
}

func TestNewTasksQueueUpBehindAnOldBacklog(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "old")
		time.Sleep(backlogNegligible + time.Second)
		begin := time.Now()
		response, err := f.add(workflowQueue, newTask("new", 0))
		require.NoError(t, err)
		require.False(t, response.GetMatched())
		require.Zero(t, time.Since(begin), "it was stored at once")
		require.Equal(t, "old", f.mustPoll(time.Minute))
		require.Equal(t, "new", f.mustPoll(time.Minute))
	})
}

func TestPollsEndEmpty(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		for name, c := range map[string]struct{ timeout, want time.Duration }{
			"at 60 seconds":                       {70 * time.Second, pollWaitMax},
			"a second before an earlier deadline": {10 * time.Second, 9 * time.Second},
		} {
			begin := time.Now()
			require.Empty(t, f.mustPoll(c.timeout), name)
			require.Equal(t, c.want, time.Since(begin), name)
		}
	})
}

func TestBacklogSurvivesRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "a", "b", "c", "d")
		require.Equal(t, "a", f.mustPoll(time.Minute))
		require.Equal(t, "b", f.mustPoll(time.Minute))
		f.stop()
		require.Equal(t, 2, f.store.rows(workflowKey))
		f.boot()
		require.Equal(t, "c", f.mustPoll(time.Minute))
		f.spool(0, "e")
		require.Equal(t, "d", f.mustPoll(time.Minute))
		require.Equal(t, "e", f.mustPoll(time.Minute))
		require.Equal(t, 5, f.history.calls, "nothing was offered twice")
	})
}

func TestACrashBeforeTheAckOffersAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "a", "b")
		require.Equal(t, "a", f.mustPoll(time.Minute))
		f.crash()
		require.Equal(t, 2, f.store.rows(workflowKey), "the deletion was not written")
		f.boot()
		require.Equal(t, "b", f.mustPoll(time.Minute), "history calls the first obsolete; the poll goes on")
		require.Equal(t, []string{"a", "b"}, f.history.starts())
		time.Sleep(2 * ackFlushDelay)
		require.Zero(t, f.store.rows(workflowKey))
	})
}

func TestObsoleteTasksAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.history.obsolete["gone"] = true
		f.history.obsolete["fresh"] = true
		f.spool(0, "gone", "live")
		require.Equal(t, "live", f.mustPoll(time.Minute))
		poll := f.goPoll(t.Context(), workflowQueue)
		response, err := f.add(workflowQueue, newTask("fresh", 0))
		require.NoError(t, err)
		require.True(t, response.GetMatched())
		_, err = f.add(workflowQueue, newTask("next", 0))
		require.NoError(t, err)
		require.Equal(t, "next", (<-poll).id(), "the same poll continues")
	})
}

func TestExpiredBacklogTasksAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		task := newTask("expired", 0)
		task.Expiry = timestamppb.New(time.Now().Add(time.Second))
		_, err := f.add(workflowQueue, task)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, "", f.mustPoll(10*time.Second))
		require.Zero(t, f.history.calls)
		require.Zero(t, f.store.rows(workflowKey))
	})
}

func TestPriorityOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(5, "low-1", "low-2")
		f.spool(0, "normal")
		f.spool(1, "high")
		f.spool(9, "low-3")
		f.stop()
		f.boot() // as read back from the store
		poll := f.goPoll(t.Context(), workflowQueue)
		first := (<-poll).id()
		got := []string{first}
		for range 4 {
			got = append(got, f.mustPoll(time.Minute))
		}
		require.ElementsMatch(t, []string{"high", "normal", "low-1", "low-2", "low-3"}, got)
		require.Equal(t, []string{"high", "normal", "low-1", "low-2", "low-3"}, got)
	})
}

func TestWorkerRateLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ctx := context.Background()
		rate := 2.0
		pollOnce := func(rate *float64) time.Duration {
			begin := time.Now()
			id, err := f.pollActivity(ctx, rate)
			require.NoError(t, err)
			require.NotEmpty(t, id)
			return time.Since(begin)
		}
		for _, id := range []string{"1", "2", "3", "4", "5", "6"} {
			_, err := f.add(activityQueue, newTask(id, 0))
			require.NoError(t, err)
		}
		begin := time.Now()
		for range 5 {
			pollOnce(&rate)
		}
		require.InDelta(t, 2.5, time.Since(begin).Seconds(), 0.01, "half a second each")

		zero := 0.0
		paused, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		id, err := f.pollActivity(paused, &zero)
		require.NoError(t, err)
		require.Empty(t, id, "rate zero pauses")
		require.Less(t, pollOnce(nil), 10*time.Millisecond, "no value clears the limit")
	})
}

func TestAnObsoleteTaskGivesItsTokenBack(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		rate := 0.1
		f.history.obsolete["gone"] = true
		for _, id := range []string{"gone", "live"} {
			_, err := f.add(activityQueue, newTask(id, 0))
			require.NoError(t, err)
		}
		begin := time.Now()
		var id string
		for id == "" {
			var err error
			id, err = f.pollActivity(context.Background(), &rate)
			require.NoError(t, err)
		}
		require.Equal(t, "live", id)
		require.Less(t, time.Since(begin), 15*time.Second, "one token was enough")
	})
}

func TestCancelPolls(t *testing.T) {
	cases := map[string]*matchingpb.CancelPollsRequest{
		"by id":           {Partition: workflowQueue, PollId: "poll"},
		"by instance key": {Partition: workflowQueue, WorkerInstanceKey: "instance"},
		"by identity":     {Partition: workflowQueue, Identity: "worker"},
		"of the normal queue, by its sticky queue": {Partition: stickyQueue, WorkerInstanceKey: "instance"},
	}
	for name, req := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				begin := time.Now()
				poll := f.goPoll(t.Context(), workflowQueue)
				other := &matchingpb.CancelPollsRequest{Partition: workflowQueue, PollId: "another"}
				_, err := f.service.CancelPolls(t.Context(), other)
				require.NoError(t, err)
				synctest.Wait()
				require.Empty(t, poll)
				_, err = f.service.CancelPolls(t.Context(), req)
				require.NoError(t, err)
				got := <-poll
				require.NoError(t, got.err)
				require.Empty(t, got.response.GetTaskToken())
				require.Zero(t, time.Since(begin))
			})
		})
	}
}

func TestIdlePartitionsAreUnloaded(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "a")
		require.Equal(t, "", f.pollID(stickyQueue, 2*time.Second))
		require.Equal(t, "a", f.mustPoll(time.Minute))
		require.Len(t, f.service.partitions, 2)
		poll := f.goPoll(t.Context(), normalNamed("other"))
		time.Sleep(idleUnload + 2*sweepInterval)
		synctest.Wait()
		f.service.mu.Lock()
		require.Empty(t, f.service.partitions)
		f.service.mu.Unlock()
		<-poll
		f.spool(0, "b")
		require.Equal(t, "b", f.mustPoll(time.Minute))
	})
}

func (f *fixture) pollID(address *matchingpb.Partition, timeout time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	response, err := f.poll(ctx, address)
	require.NoError(f.t, err)
	return response.GetWorkflowExecution().GetWorkflowId()
}

func normalNamed(name string) *matchingpb.Partition {
	p := normal(workflowQueue.Type)
	p.TaskQueue = name
	return p
}

func TestReleaseSendsAwayWhatThisHostIsNotToKeep(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "a", "b")
		require.Equal(t, "a", f.mustPoll(time.Minute))
		leaving := f.goPoll(t.Context(), normalNamed("leaving"))
		f.service.Release(func(p *matchingpb.Partition) bool { return p.GetTaskQueue() == "q" })
		require.Empty(t, (<-leaving).response.GetTaskToken())
		require.Len(t, f.service.partitions, 1)
		f.service.Release(func(*matchingpb.Partition) bool { return false })
		synctest.Wait()
		require.Equal(t, 1, f.store.rows(workflowKey), "finished rows are deleted before the new owner reads them")
		require.Equal(t, "b", f.mustPoll(time.Minute))
	})
}

func TestBadAddressesAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		var invalid *serviceerror.InvalidArgument
		nameless := &matchingpb.Partition{NamespaceId: "ns"}
		_, err := f.add(nameless, newTask("w", 0))
		require.ErrorAs(t, err, &invalid)
		_, err = f.add(workflowQueue, nil)
		require.ErrorAs(t, err, &invalid)
		_, err = f.poll(t.Context(), nameless)
		require.ErrorAs(t, err, &invalid)
		_, err = f.service.CancelPolls(t.Context(), &matchingpb.CancelPollsRequest{Partition: nameless})
		require.ErrorAs(t, err, &invalid)
		_, err = f.service.Query(t.Context(), &matchingpb.QueryRequest{Partition: nameless})
		require.ErrorAs(t, err, &invalid)
	})
}

func TestAStoppedServiceAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		poll := f.goPoll(t.Context(), workflowQueue)
		add := f.goAdd(normalNamed("other"), "w")
		f.stop()
		got := <-poll
		require.NoError(t, got.err)
		require.Empty(t, got.response.GetTaskToken())
		var unavailable *serviceerror.Unavailable
		require.ErrorAs(t, (<-add).err, &unavailable)
		_, err := f.add(workflowQueue, newTask("late", 0))
		require.ErrorAs(t, err, &unavailable)
	})
}

func TestLimitsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{WaitingPollsMax: 1, WaitingTasksMax: 1, PartitionsMax: 2})
		defer f.stop()
		ctx, cancel := context.WithCancel(t.Context())
		poll := f.goPoll(ctx, workflowQueue)
		var exhausted *serviceerror.ResourceExhausted
		_, err := f.poll(ctx, workflowQueue)
		require.ErrorAs(t, err, &exhausted, "polls")
		cancel()
		<-poll

		first := f.goAdd(workflowQueue, "1")
		second, err := f.add(workflowQueue, newTask("2", 0))
		require.NoError(t, err)
		require.False(t, second.GetMatched(), "the queue is crowded: stored at once")
		<-first

		require.Equal(t, "", f.pollID(stickyQueue, 2*time.Second))
		sticky := f.goAdd(stickyQueue, "3")
		_, err = f.add(stickyQueue, newTask("4", 0))
		require.ErrorAs(t, err, &exhausted, "sticky tasks")
		require.Equal(t, "3", f.pollID(stickyQueue, time.Minute))
		<-sticky

		_, err = f.add(normalNamed("third"), newTask("5", 0))
		require.ErrorAs(t, err, &exhausted, "partitions")
	})
}
