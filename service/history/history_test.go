package history

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	eventpb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"

	historypb "github.com/perdure/perdure/api/history/v1"
)

// readAll pages through a run's history.
func (h *host) readAll(size int32) (events []*eventpb.HistoryEvent) {
	var token []byte
	for {
		out, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", ""), MaximumPageSize: size, NextPageToken: token})
		require.NoError(h.t, err)
		require.LessOrEqual(h.t, len(out.History.Events), int(size)+1) // the last page may end with a provisional event
		events = append(events, out.History.Events...)
		if token = out.NextPageToken; len(token) == 0 {
			return events
		}
		require.Len(h.t, out.History.Events, int(size))
	}
}

func TestHistoryPages(t *testing.T) {
	w := newWorld(t)
	h := w.start(Config{})
	h.run("w")
	h.complete(h.task(), scheduleActivity("a"))
	h.completeActivity(h.activity())
	h.complete(h.task(), scheduleActivity("b"))
	for _, cold := range []bool{false, true} {
		if cold { // nothing in memory: the pages come from the store
			h.stop()
			h = w.start(Config{})
		}
		want := h.events("w", "")
		require.Len(t, want, 11)
		for size := range int32(12) {
			got := h.readAll(size + 1)
			requireDense(t, got)
			require.Equal(t, types(want), types(got))
		}
		back, err := h.GetWorkflowExecutionHistoryReverse(h.ctx, &historypb.GetWorkflowExecutionHistoryReverseRequest{
			NamespaceId: h.id(), Request: &workflowservice.GetWorkflowExecutionHistoryReverseRequest{Execution: execution("w", ""), MaximumPageSize: 6},
		})
		require.NoError(t, err)
		require.EqualValues(t, 11, back.History.Events[0].EventId)
		require.EqualValues(t, 6, back.History.Events[5].EventId)
		back, err = h.GetWorkflowExecutionHistoryReverse(h.ctx, &historypb.GetWorkflowExecutionHistoryReverseRequest{
			NamespaceId: h.id(), Request: &workflowservice.GetWorkflowExecutionHistoryReverseRequest{Execution: execution("w", ""), NextPageToken: back.NextPageToken},
		})
		require.NoError(t, err)
		require.Len(t, back.History.Events, 5)
		require.Empty(t, back.NextPageToken)
	}
}

func TestHistoryTokens(t *testing.T) {
	h := startHost(t)
	h.run("w")
	other := h.run("other")
	for _, token := range []string{"{}", "garbage", "\x00"} {
		_, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", ""), NextPageToken: []byte(token)})
		require.EqualError(t, err, "Invalid NextPageToken.")
	}
	page, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", ""), MaximumPageSize: 1})
	require.NoError(t, err)
	_, err = h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("other", other), NextPageToken: page.NextPageToken})
	require.EqualError(t, err, "RunId in the request does not match the NextPageToken.")
	require.Equal(t, codes.InvalidArgument, code(err))
}

// The start of a task is not durable while the worker has the task: readers see it at the end. For one who follows the run it is
// made durable, so that his token can pass it.
func TestProvisionalEvents(t *testing.T) {
	h := startHost(t)
	h.run("w")
	task := h.task()
	require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowTaskScheduled", "WorkflowTaskStarted"}, types(h.events("w", "")))
	require.EqualValues(t, 3, h.describe("w", "").WorkflowExecutionInfo.HistoryLength)

	waiting, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", ""), WaitNewEvent: true})
	require.NoError(t, err)
	require.Len(t, waiting.History.Events, 3)
	h.complete(task)
	next, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", ""), WaitNewEvent: true, NextPageToken: waiting.NextPageToken})
	require.NoError(t, err)
	require.Equal(t, []string{"WorkflowTaskCompleted"}, types(next.History.Events))

	require.NoError(t, h.signal("w", "s"))
	_, err = h.RespondWorkflowTaskFailed(h.ctx, &historypb.RespondWorkflowTaskFailedRequest{
		NamespaceId: h.id(), Token: decodeToken(t, h.task().TaskToken), Request: &workflowservice.RespondWorkflowTaskFailedRequest{},
	})
	require.NoError(t, err)
	require.Len(t, h.events("w", ""), 9) // ends with the SCHEDULED of the next attempt
	hidden, err := h.GetWorkflowExecutionHistory(h.ctx, &historypb.GetWorkflowExecutionHistoryRequest{
		NamespaceId: h.id(), Request: &workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", "")}, HideProvisional: true,
	})
	require.NoError(t, err)
	require.Len(t, hidden.History.Events, 8)
}

func TestWaitForNewEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		h.complete(h.task())
		ask := &workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", ""), WaitNewEvent: true}
		page, err := h.readHistory(ask)
		require.NoError(t, err)
		require.Len(t, page.History.Events, 4)

		ask.NextPageToken = page.NextPageToken
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		h.ctx = ctx
		page, err = h.readHistory(ask)
		require.NoError(t, err)
		require.Empty(t, page.History.Events)
		require.Equal(t, longPollWait, time.Since(begun))

		ask.NextPageToken = page.NextPageToken
		done := h.readAsync(ask)
		require.NoError(t, h.signal("w", "s"))
		require.Equal(t, []string{"WorkflowExecutionSignaled", "WorkflowTaskScheduled"}, types((<-done).GetHistory().GetEvents()))
		require.Zero(t, h.waiters("w"))
	})
}

// Who follows a run sees the start of a workflow task at once, whether he waits already or comes later; who waits for the close
// only makes nobody write it.
func TestFollowersSeeTheStartOfATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.ctx = t.Context()
		h.run("w")
		closing := h.readAsync(&workflowservice.GetWorkflowExecutionHistoryRequest{
			Execution: execution("w", ""), WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
		})
		commits := h.db.Commits()
		task := h.task()
		require.Equal(t, commits, h.db.Commits())

		ask := &workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", ""), WaitNewEvent: true}
		page, err := h.readHistory(ask)
		require.NoError(t, err)
		require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowTaskScheduled", "WorkflowTaskStarted"}, types(page.History.Events))
		ask.NextPageToken = page.NextPageToken
		done := h.readAsync(ask)
		h.complete(task)
		require.Equal(t, []string{"WorkflowTaskCompleted"}, types((<-done).History.Events))

		require.NoError(t, h.signal("w", "s"))
		page, err = h.readHistory(ask)
		require.NoError(t, err)
		require.Equal(t, []string{"WorkflowTaskCompleted", "WorkflowExecutionSignaled", "WorkflowTaskScheduled"}, types(page.History.Events))
		ask.NextPageToken = page.NextPageToken
		done = h.readAsync(ask)
		task = h.task()
		require.Equal(t, []string{"WorkflowTaskStarted"}, types((<-done).History.Events))
		h.complete(task, completeWorkflow())
		require.Equal(t, []string{"WorkflowExecutionCompleted"}, types((<-closing).History.Events))
		require.Zero(t, h.waiters("w"))
	})
}

// readAsync begins to read, and returns when the read waits or is done; nil: it failed.
func (h *host) readAsync(ask *workflowservice.GetWorkflowExecutionHistoryRequest) <-chan *workflowservice.GetWorkflowExecutionHistoryResponse {
	done := make(chan *workflowservice.GetWorkflowExecutionHistoryResponse, 1)
	go func() {
		page, _ := h.readHistory(ask)
		done <- page
	}()
	synctest.Wait()
	return done
}

// waiters counts who waits on the current run.
func (h *host) waiters(id string) (n int) {
	require.NoError(h.t, h.with(h.ctx, workflowKey(h.id(), id), func(x *access) error {
		r, err := x.find("")
		if err == nil {
			n = r.waiters + len(r.queries) + len(r.updates)
		}
		return err
	}))
	return n
}

func TestWaitForTheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		run := h.run("w")
		ask := &workflowservice.GetWorkflowExecutionHistoryRequest{
			Execution: execution("w", ""), HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
		}
		page, err := h.readHistory(ask)
		require.NoError(t, err)
		require.Empty(t, page.History.Events)
		require.Empty(t, page.NextPageToken)

		ask.WaitNewEvent = true
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // less than a long poll
		h.ctx = ctx
		begun := time.Now()
		page, err = h.readHistory(ask)
		cancel()
		require.NoError(t, err)
		require.Empty(t, page.History.Events)
		require.NotEmpty(t, page.NextPageToken)
		require.Equal(t, 7*time.Second, time.Since(begun))

		h.ctx = t.Context()
		ask.NextPageToken = page.NextPageToken
		done := h.readAsync(ask)
		require.NoError(t, h.signal("w", "s")) // news, but not the close
		require.NoError(t, h.terminateRun("w", ""))
		h.run("w") // the token pins the run
		page = <-done
		require.Equal(t, []string{"WorkflowExecutionTerminated"}, types(page.History.Events))
		require.Empty(t, page.NextPageToken)
		require.Equal(t, run, h.describe("w", run).WorkflowExecutionInfo.Execution.RunId)
	})
}

func TestStopEndsLongPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		done := make(chan error)
		go func() {
			_, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{
				Execution: execution("w", ""), WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
			})
			done <- err
		}()
		synctest.Wait()
		h.stop()
		require.Equal(t, codes.Unavailable, code(<-done))
		require.Equal(t, codes.Unavailable, code(h.signal("w", "too late")))
	})
}
