package contract

import (
	"fmt"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
)

// Events that arrive while a workflow task runs.
var buffering = []point{
	{"2.3 the order around a task's end", bufferedOrder},
	{"2.3 a close that waits with its start comes last", closingEventsLast},
	{"2.3 a failed task lets them in as well", bufferedAtFailure},
	{"2.3 a close waits for what came before it", bufferedAtClose},
	{"2.3 too many events fail the task", tooManyBuffered},
	{"2.3 too large events fail the task", tooLargeBuffered},
	{"2.3 waiting requests are shown as buffered", bufferedRequests},
	{"2.3 a paused run gets no task for them", bufferedWhilePaused},
}

func bufferedOrder(e *env) {
	run, a := e.runningActivity()
	e.signal("wake")
	got := e.poll()
	e.signal("first")
	e.completeActivity(a, "done")
	e.cancel()
	e.wantHistory(run, firstTask, "ActivityScheduled Signaled TaskScheduled TaskStarted")
	e.complete(got, marker("m"), startTimer("t", 60))
	e.wantHistory(run, firstTask, "ActivityScheduled Signaled TaskScheduled TaskStarted TaskCompleted MarkerRecorded TimerStarted",
		"Signaled ActivityStarted CancelRequested ActivityCompleted TaskScheduled")
	started, closed := e.event(run, "ActivityStarted"), e.event(run, "ActivityCompleted").GetActivityTaskCompletedEventAttributes()
	require.Equal(e, started.EventId, closed.StartedEventId)
}

func closingEventsLast(e *env) {
	run := e.start()
	e.complete(e.poll(), e.activity("a"), e.activity("b"))
	a, b := e.pollActivity(), e.pollActivity()
	e.signal("wake")
	got := e.poll()
	e.completeActivity(a, "a")
	e.completeActivity(b, "b")
	e.signal("after")
	e.complete(got)
	e.wantHistory(run, firstTask, "ActivityScheduled ActivityScheduled Signaled TaskScheduled TaskStarted TaskCompleted",
		"ActivityStarted ActivityStarted Signaled ActivityCompleted ActivityCompleted TaskScheduled")
}

func bufferedAtFailure(e *env) {
	run := e.start()
	got := e.poll()
	e.signal("s")
	e.failTask(got)
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Signaled TaskScheduled")
}

func bufferedAtClose(e *env) {
	run, a := e.runningActivity()
	e.signal("wake")
	got := e.poll()
	e.completeActivity(a, "done")
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil, completeWorkflow("too early")))
	e.complete(e.poll(), completeWorkflow("done"))
	e.wantStatus(run, completed)
	require.Equal(e, 1, e.count(run, "ActivityCompleted"))
	refused[*serviceerror.NotFound](e, e.api.SignalWorkflowExecution, e.newSignal("late"))
}

func tooManyBuffered(e *env) {
	run := e.start()
	got := e.poll()
	for i := range 101 {
		e.signal(fmt.Sprint(i))
	}
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND, e.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause)
	require.Equal(e, 101, e.count(run, "Signaled"))
	refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil))
	e.complete(e.poll(), completeWorkflow("done"))
	e.wantStatus(run, completed)
}

func tooLargeBuffered(e *env) {
	run := e.start()
	e.poll()
	for range 2 {
		e.signal("large", func(r *signalRequest) { r.Input = blobs(3 << 19) })
	}
	require.Equal(e, 1, e.count(run, "TaskFailed"))
	require.Equal(e, 2, e.count(run, "Signaled"))
}

func bufferedRequests(e *env) {
	run := e.start()
	got := e.poll()
	attached := do(e, e.api.StartWorkflowExecution, e.newStart(func(r *startRequest) {
		r.RequestId, r.WorkflowIdConflictPolicy, r.OnConflictOptions = "waiting", enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING, attachRequest
	}))
	require.Equal(e, run, attached.RunId)
	info := e.describe(run).GetWorkflowExtendedInfo().GetRequestIdInfos()["waiting"]
	require.True(e, info.GetBuffered())
	require.Zero(e, info.GetEventId())
	e.complete(got)
	info = e.describe(run).GetWorkflowExtendedInfo().GetRequestIdInfos()["waiting"]
	require.False(e, info.GetBuffered())
	require.EqualValues(e, 5, info.GetEventId())
	require.Equal(e, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED, info.GetEventType())
}

func bufferedWhilePaused(e *env) {
	run := e.start()
	got := e.poll()
	do(e, e.api.PauseWorkflowExecution, newPause(e, run))
	e.signal("s")
	e.complete(got)
	e.pollNothing()
	require.Equal(e, 1, e.count(run, "Signaled"))
	do(e, e.api.UnpauseWorkflowExecution, newUnpause(e, run))
	e.complete(e.poll(), completeWorkflow("done"))
	e.wantStatus(run, completed)
}
