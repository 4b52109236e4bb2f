package matching

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
)

// failTimes makes the first calls of history fail. committed: the starts take effect all the same.
func failTimes(n int, committed bool, err error) func(string) (bool, error) {
	var mu sync.Mutex
	return func(string) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 {
			return false, nil
		}
		n--
		return committed, err
	}
}

func TestAStartWithUnknownOutcomeIsRepeated(t *testing.T) {
	for name, committed := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				f.history.setFault(failTimes(3, committed, serviceerror.NewUnavailable("lost")))
				f.spool(0, "w")
				require.Equal(t, "w", f.mustPoll(time.Minute), "with the same request id it gets the same answer")
				require.Equal(t, []string{"w"}, f.history.starts())
				require.Equal(t, 4, f.history.calls)
			})
		})
	}
}

func TestATaskThatCannotBeStartedDoesNotHoldUpOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.history.setFault(func(task string) (bool, error) {
			if task == "stuck" {
				return true, serviceerror.NewUnavailable("the shard is moving")
			}
			return true, nil
		})
		f.spool(0, "stuck", "other")
		begin := time.Now()
		require.Equal(t, "other", f.mustPoll(time.Minute))
		require.Less(t, time.Since(begin), 2*startRetryWindow)
		f.history.setFault(nil)
		require.Equal(t, "stuck", f.mustPoll(time.Minute), "its start was committed long ago; the request id is the same")
	})
}

func TestATaskThatHistoryRefusesIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.history.setFault(failTimes(3, false, serviceerror.NewInternal("broken")))
		add := f.goAdd(workflowQueue, "w")
		begin := time.Now()
		require.Equal(t, "w", f.mustPoll(time.Minute))
		require.InDelta(t, (7 * startRestMin).Seconds(), time.Since(begin).Seconds(), 0.01, "it rests 1, 2 and 4 seconds")
		require.True(t, (<-add).response.GetMatched())
	})
}

func TestAPollThatEndsDuringAStartDoesNotLoseTheTask(t *testing.T) {
	for name, store := range map[string]bool{"backlog": true, "fresh": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				f.history.entered = make(chan string)
				f.history.proceed = make(chan struct{})
				ctx, cancel := context.WithCancel(t.Context())
				first := f.goPoll(ctx, workflowQueue)
				var add <-chan added
				if store {
					f.spool(0, "w")
				} else {
					add = f.goAdd(workflowQueue, "w")
				}
				<-f.history.entered
				cancel()
				require.Empty(t, (<-first).response.GetTaskToken())

				second := f.goPoll(t.Context(), workflowQueue)
				<-f.history.entered
				close(f.history.proceed)
				require.Equal(t, "w", (<-second).id())
				if add != nil {
					require.True(t, (<-add).response.GetMatched())
				}
			})
		})
	}
}

// TestAStartForAClientThatIsGoneGoesToTheNextPoll: the start was committed, but its poll's client has hung up.
func TestAStartForAClientThatIsGoneGoesToTheNextPoll(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		f.history.setFault(func(string) (bool, error) { cancel(); return true, nil })
		first := f.goPoll(ctx, workflowQueue)
		add := f.goAdd(workflowQueue, "w")
		require.Empty(t, (<-first).response.GetTaskToken())
		time.Sleep(5 * syncMatchWait) // a row would not keep the request id: the task must not be stored now
		require.Equal(t, "w", f.mustPoll(time.Minute))
		require.True(t, (<-add).response.GetMatched())
		require.Equal(t, []string{"w"}, f.history.starts())
	})
}

func TestAnAddWhoseCallerIsGoneIsNotDispatched(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		poll := f.goPoll(t.Context(), stickyQueue)
		_, err := f.service.CancelPolls(t.Context(), cancelAll())
		require.NoError(t, err)
		<-poll
		time.Sleep(departedKept) // until then its polls are those of a worker that is gone
		require.Equal(t, "", f.pollID(stickyQueue, 2*time.Second))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = f.service.AddTask(ctx, addRequest(stickyQueue, "w"))
		var deadline *serviceerror.DeadlineExceeded
		require.ErrorAs(t, err, &deadline)
		require.Equal(t, "", f.pollID(stickyQueue, 2*time.Second))
		require.Zero(t, f.history.calls)
	})
}

// TestAnAddThatGivesUpDuringAStart: its caller offers the task again, so this offer must not come back.
func TestAnAddThatGivesUpDuringAStart(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.history.entered = make(chan string)
		f.history.proceed = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		poll := f.goPoll(ctx, workflowQueue)
		addCtx, giveUp := context.WithTimeout(t.Context(), time.Second)
		defer giveUp()
		ended := make(chan error, 1)
		go func() {
			_, err := f.service.AddTask(addCtx, addRequest(workflowQueue, "w"))
			ended <- err
		}()
		<-f.history.entered
		require.Error(t, <-ended)
		cancel()
		<-poll
		require.Equal(t, "", f.mustPoll(2*time.Second))
	})
}

// TestATaskThatComesBackUntriedIsStored: its poll was over before it could be started.
func TestATaskThatComesBackUntriedIsStored(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		add := f.goAdd(workflowQueue, "w")
		p := f.service.partitions[queueKey{QueueKey: workflowKey}]
		p.mu.Lock()
		task := p.matcher.next(time.Now(), false, &matches{})
		require.True(t, p.matcher.remove(task))
		p.mu.Unlock()
		time.Sleep(5 * syncMatchWait)
		p.putBack(task, 0)
		require.False(t, (<-add).response.GetMatched())
		require.Equal(t, 1, f.store.rows(workflowKey))
	})
}

// TestATaskGivenAtTheLastMomentIsNotLost: the poll's time is over just when it is given a task.
func TestATaskGivenAtTheLastMomentIsNotLost(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		for i := range 30 { // which of the two the poll sees first is random
			id := fmt.Sprint(i)
			f.spool(0, id)
			time.Sleep(time.Second)
			require.Equal(t, id, f.mustPoll(deadlineMargin))
		}
	})
}

func TestErrorClasses(t *testing.T) {
	cases := []struct {
		err                 error
		obsolete, retryable bool
	}{
		{serviceerror.NewNotFound(""), true, false},
		{serviceerror.NewAlreadyExists(""), true, false},
		{serviceerror.NewUnavailable(""), false, true},
		{&serviceerror.ResourceExhausted{}, false, true},
		{context.DeadlineExceeded, false, true},
		{errors.New("anything"), false, true},
		{serviceerror.NewInternal(""), false, false},
		{serviceerror.NewInvalidArgument(""), false, false},
	}
	for _, c := range cases {
		require.Equal(t, c.obsolete, isObsolete(c.err), "%T", c.err)
		require.Equal(t, c.retryable, retryable(c.err), "%T", c.err)
	}
}

func TestAnUndecodableRowDoesNotBlockTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "bad", "good")
		f.stop()
		f.store.mu.Lock()
		for key := range f.store.queues[workflowKey].tasks {
			if key.ID&1 == 1 {
				f.store.queues[workflowKey].tasks[key] = []byte{0xff}
			}
		}
		f.store.mu.Unlock()
		f.boot()
		require.Equal(t, "good", f.mustPoll(time.Minute))
		synctest.Wait()
		require.Equal(t, 1, f.history.calls)
	})
}
