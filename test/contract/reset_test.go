package contract

import (
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
)

// Resets.
var resets = []point{
	{"8.38 what a reset run goes on with", resetRun},
	{"8.38 a started activity fails with the old run", resetFailsStarted},
	{"8.38 signals of later runs are applied again", resetOverContinueAsNew},
	{"8.38 what is excluded is not applied again", resetExcludes},
	{"8.38 a closed run is reset, and timers start over", resetClosed},
	{"9.02 a reset without a run is made again", resetWithoutRun},
	{"8.38 updates come back as admitted", resetUpdates},
	{"8.38 children stay with the new run", resetKeepsChildren},
	{"8.38 a point that is no task's end is refused", resetPoints},
}

func resetRun(e *env) {
	base := e.idle()
	e.signal("one")
	e.complete(e.poll(), marker("m"))
	e.signal("two")
	e.cancel()
	second := e.reset(8)
	require.Equal(e, terminated, e.info(base).Status)
	e.wantHistory(second, firstTask, "Signaled TaskScheduled TaskStarted TaskFailed Signaled CancelRequested TaskScheduled")
	a := e.event(second, "TaskFailed").GetWorkflowTaskFailedEventAttributes()
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW, a.Cause)
	require.Equal(e, base, a.BaseRunId)
	require.Equal(e, second, a.NewRunId)
	require.Equal(e, second, e.info("").Execution.RunId)
	require.Equal(e, second, e.describe(base).WorkflowExtendedInfo.GetResetRunId())
}

func resetFailsStarted(e *env) {
	base, a := e.runningActivity()
	e.signal("s")
	e.complete(e.poll())
	second := e.reset(8)
	refused[*serviceerror.NotFound](e, e.api.RecordActivityTaskHeartbeat, newHeartbeat(a, "of the old run"))
	again := e.pollActivity()
	require.Equal(e, second, again.WorkflowExecution.RunId)
	e.completeActivity(again, "for the new run")
	require.Zero(e, e.count(base, "ActivityCompleted"))
	e.complete(e.poll())
	require.Equal(e, "for the new run", text(e.event(second, "ActivityCompleted").GetActivityTaskCompletedEventAttributes().Result))
}

func resetOverContinueAsNew(e *env) {
	base := e.idle()
	e.signal("in the first run")
	e.complete(e.poll(), continueAsNew())
	got := e.poll()
	open := got.WorkflowExecution.RunId
	e.complete(got)
	e.signal("in the second run")
	third := e.reset(4, func(r *resetRequest) { r.WorkflowExecution.RunId = base })
	e.wantHistory(third, "Started TaskScheduled TaskStarted TaskFailed Signaled Signaled TaskScheduled")
	require.Equal(e, third, e.info("").Execution.RunId)
	require.Equal(e, terminated, e.info(open).Status, "the open run of the chain is ended")
}

func resetExcludes(e *env) {
	e.idle()
	e.signal("one")
	e.cancel()
	second := e.reset(4, func(r *resetRequest) {
		r.ResetReapplyExcludeTypes = []enumspb.ResetReapplyExcludeType{enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_CANCEL_REQUEST}
	})
	e.wantHistory(second, "Started TaskScheduled TaskStarted TaskFailed TaskScheduled")
}

func resetUpdates(e *env) {
	e.idle()
	update := e.update("u")
	got := e.poll()
	e.reply(got, new(reply).accept(got.Messages[0]).finish("u", "yes"))
	update.result()
	second := e.reset(4)
	e.wantHistory(second, "Started TaskScheduled TaskStarted TaskFailed UpdateAdmitted TaskScheduled")
	again := e.poll()
	require.Empty(e, again.Messages, "the worker reads the event")
	admitted := e.event(second, "UpdateAdmitted")
	e.reply(again, new(reply).accept(updateRequestMessage("u", admitted.EventId)).finish("u", "again"))
	require.EqualValues(e, admitted.EventId, e.event(second, "UpdateAccepted").GetWorkflowExecutionUpdateAcceptedEventAttributes().AcceptedRequestSequencingEventId)
	require.Equal(e, "again", text(e.update("u").result().GetOutcome().GetSuccess()))
}

func resetKeepsChildren(e *env) {
	child, first := e.startedChild()
	second := e.reset(e.event("", "TaskCompleted").EventId)
	child.complete(first, completeWorkflow("for the parent"))
	e.eventually("the new run hears of the child", func() bool { return e.count(second, "ChildCompleted") == 1 })
}

func resetPoints(e *env) {
	run := e.idle()
	for _, at := range []int64{-1, 0, 1, 2, 5, 100} {
		refused[*serviceerror.InvalidArgument](e, e.api.ResetWorkflowExecution, e.newReset(at))
	}
	e.wantStatus(run, running)
	e.wantHistory(run, firstTask)
}

func resetClosed(e *env) {
	base := e.start()
	e.complete(e.poll(), startTimer("t", 10))
	e.signal("s")
	e.complete(e.poll(), completeWorkflow("too early"))
	second := e.reset(8)
	require.Equal(e, completed, e.info(base).Status, "a closed run stays as it was")
	e.complete(e.poll())
	e.eventually("the timer fires in the new run", func() bool { return e.count(second, "TimerFired") == 1 })
}

func resetWithoutRun(e *env) {
	e.idle()
	first := e.reset(4)
	second := e.reset(4)
	require.NotEqual(e, first, second, "the second one resets the run of the first")
	require.Equal(e, first, e.event(second, "TaskFailed").GetWorkflowTaskFailedEventAttributes().BaseRunId)
}
