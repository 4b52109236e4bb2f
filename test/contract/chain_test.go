package contract

import (
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
)

const (
	completed      = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	canceled       = enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
	failed         = enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
	running        = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	terminated     = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	continuedAsNew = enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
)

// Requests that are sent again.
var dedup = []point{
	{"8.20 start, also after the close", sameStart},
	{"8.20 start, also where the policy refuses another", sameStartRejectDuplicate},
	{"8.20 start that attached to a run", sameAttachingStart},
	{"8.20 signal", sameSignal},
	{"8.20 signal with start", sameSignalWithStart},
	{"8.20 cancel", sameCancel},
	{"8.20 reset", sameReset},
	{"8.20 signal, over continue-as-new", sameSignalOverContinueAsNew},
	{"8.20 update", sameUpdate},
	{"8.20 pause", samePause},
	{"8.20 requests without an id are all new", noRequestID},
}

func sameStart(e *env) {
	req := e.newStart(func(r *startRequest) { r.RequestId = "once" })
	first := do(e, e.api.StartWorkflowExecution, req)
	again := do(e, e.api.StartWorkflowExecution, req)
	require.True(e, again.Started)
	require.Equal(e, first.RunId, again.RunId)
	e.complete(e.poll(), completeWorkflow("done"))
	again = do(e, e.api.StartWorkflowExecution, req)
	require.True(e, again.Started)
	require.Equal(e, first.RunId, again.RunId)
	require.Equal(e, completed, again.Status)
	require.Len(e, e.list("WorkflowId = '"+e.id+"'"), 1)
}

func sameAttachingStart(e *env) {
	run := e.idle()
	attach := e.newStart(func(r *startRequest) {
		r.RequestId, r.WorkflowIdConflictPolicy = "attach", enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
		r.OnConflictOptions = &workflowpb.OnConflictOptions{AttachRequestId: true}
	})
	first := do(e, e.api.StartWorkflowExecution, attach)
	require.False(e, first.Started)
	require.Equal(e, run, first.RunId)
	again := do(e, e.api.StartWorkflowExecution, attach)
	require.Equal(e, run, again.RunId)
	require.Equal(e, 1, e.count(run, "OptionsUpdated"))
	infos := e.describe(run).GetWorkflowExtendedInfo().GetRequestIdInfos()
	require.Contains(e, infos, "attach")
	e.terminate()
	later := do(e, e.api.StartWorkflowExecution, attach)
	require.Equal(e, run, later.RunId, "the run has taken this request")
}

func sameSignal(e *env) {
	run := e.idle()
	for range 3 {
		e.signal("s", func(r *signalRequest) { r.RequestId = "once" })
	}
	require.Equal(e, 1, e.count(run, "Signaled"))
}

func sameSignalWithStart(e *env) {
	req := e.newSignalWithStart("s", func(r *signalWithStartRequest) { r.RequestId = "once" })
	first := do(e, e.api.SignalWithStartWorkflowExecution, req)
	require.True(e, first.Started)
	again := do(e, e.api.SignalWithStartWorkflowExecution, req)
	require.Equal(e, first.RunId, again.RunId)
	require.Equal(e, 1, e.count(first.RunId, "Signaled"))
	other := e.newSignalWithStart("s", func(r *signalWithStartRequest) { r.RequestId = "other" })
	for range 2 {
		require.False(e, do(e, e.api.SignalWithStartWorkflowExecution, other).Started)
	}
	require.Equal(e, 2, e.count(first.RunId, "Signaled"))
}

func sameCancel(e *env) {
	run := e.idle()
	for range 2 {
		e.cancel(func(r *cancelRequest) { r.RequestId = "once" })
	}
	require.Equal(e, 1, e.count(run, "CancelRequested"))
}

func sameReset(e *env) {
	base := e.idle()
	req := e.newReset(4, func(r *resetRequest) { r.WorkflowExecution = execution(e.id, base) })
	first := do(e, e.api.ResetWorkflowExecution, req)
	require.Equal(e, first.RunId, do(e, e.api.ResetWorkflowExecution, req).RunId)
	require.Len(e, e.list("WorkflowId = '"+e.id+"'"), 2)
}

func sameUpdate(e *env) {
	run := e.idle()
	first, second := e.update("u"), e.update("u")
	got := e.poll()
	require.Len(e, got.Messages, 1)
	e.reply(got, new(reply).accept(got.Messages[0]).finish("u", "yes"))
	for _, p := range []*pending[*updateResponse]{first, second, e.update("u")} {
		require.Equal(e, "yes", text(p.result().GetOutcome().GetSuccess()))
	}
	require.Equal(e, 1, e.count(run, "UpdateAccepted"))
}

func samePause(e *env) {
	run := e.idle()
	req := &workflowservice.PauseWorkflowExecutionRequest{WorkflowId: e.id, RunId: run, RequestId: "once", Identity: "client", Reason: "wait"}
	do(e, e.api.PauseWorkflowExecution, req)
	do(e, e.api.PauseWorkflowExecution, req)
	require.Equal(e, 1, e.count(run, "Paused"))
	e.wantStatus(run, enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED)
}

func noRequestID(e *env) {
	run := e.idle()
	e.signal("s")
	e.signal("s")
	require.Equal(e, 2, e.count(run, "Signaled"))
	refused[*serviceerror.WorkflowExecutionAlreadyStarted](e, e.api.StartWorkflowExecution, e.newStart())
}

// Chains of runs.
var chains = []point{
	{"8.21 the first run's id over continue-as-new", firstRunOverContinueAsNew},
	{"8.21 the first run's id over retry", firstRunOverRetry},
	{"8.21 the first and the original run's id over reset", firstRunOverReset},
	{"8.22 every end that has a successor names it", successorNamed},
	{"8.23 what a retry carries on", retryCarries},
	{"8.23 what a cron run carries on", cronCarries},
	{"8.24 the execution timeout ends retries", executionTimeoutEndsRetries},
	{"8.24 the run timeout counts from the first task", runTimeoutAfterDelay},
	{"8.24 the execution timeout is one deadline for the chain", executionTimeoutOverChain},
	{"8.24 the execution timeout ends a later run", executionTimeoutEndsLaterRun},
	{"8.24 the run timeout starts over with each run", runTimeoutStartsOver},
	{"8.21 the first run's id decides, not the run's", firstRunDecides},
	{"8.25 before the first task is due", firstTaskBackoff},
	{"8.25 a cancel request starts the first task", cancelStartsFirstTask},
}

func startedOf(e *historypb.HistoryEvent) *historypb.WorkflowExecutionStartedEventAttributes {
	return e.GetWorkflowExecutionStartedEventAttributes()
}

func (e *env) started(run string) *historypb.WorkflowExecutionStartedEventAttributes {
	e.Helper()
	return startedOf(e.stored(run)[0])
}

func firstRunOverContinueAsNew(e *env) {
	first := e.start()
	e.complete(e.poll(), continueAsNew())
	got := e.poll()
	second := got.WorkflowExecution.RunId
	require.NotEqual(e, first, second)
	a := startedOf(got.History.Events[0])
	require.Equal(e, first, a.FirstExecutionRunId)
	require.Equal(e, first, a.ContinuedExecutionRunId)
	require.Equal(e, second, a.OriginalExecutionRunId)
	require.Equal(e, enumspb.CONTINUE_AS_NEW_INITIATOR_WORKFLOW, a.Initiator)
	require.Equal(e, "next", text(a.Input))
	e.cancel(func(r *cancelRequest) { r.FirstExecutionRunId = first })
	e.complete(got)
	require.Equal(e, 1, e.count(second, "CancelRequested"))
	refused[*serviceerror.NotFound](e, e.api.TerminateWorkflowExecution, e.newTerminate(func(r *terminateRequest) { r.FirstExecutionRunId = second }))
	e.terminate(func(r *terminateRequest) { r.FirstExecutionRunId = first })
	e.wantStatus(second, terminated)
}

func firstRunOverRetry(e *env) {
	first := e.start(func(r *startRequest) { r.RetryPolicy = retry(1, 2) })
	e.complete(e.poll(), failWorkflow(failure("Bad")))
	got := e.poll()
	a := startedOf(got.History.Events[0])
	require.Equal(e, first, a.FirstExecutionRunId)
	require.Equal(e, got.WorkflowExecution.RunId, a.OriginalExecutionRunId)
	update := e.update("u", func(r *updateRequest) { r.FirstExecutionRunId = first })
	e.complete(got)
	withUpdate := e.poll()
	e.reply(withUpdate, new(reply).accept(withUpdate.Messages[0]).finish("u", "yes"))
	require.Equal(e, got.WorkflowExecution.RunId, update.result().GetUpdateRef().GetWorkflowExecution().GetRunId())
}

func firstRunOverReset(e *env) {
	base := e.idle()
	second := e.reset(4)
	a := e.started(second)
	require.Equal(e, base, a.FirstExecutionRunId)
	require.Equal(e, base, a.OriginalExecutionRunId, "generated ids must be the same again")
	third := e.reset(4, func(r *resetRequest) { r.RequestId = "another" })
	require.Equal(e, base, e.started(third).OriginalExecutionRunId)
	e.cancel(func(r *cancelRequest) { r.FirstExecutionRunId = base })
	require.Equal(e, 1, e.count(third, "CancelRequested"))
}

func successorNamed(e *env) {
	cron, retried, late := e.sub("cron"), e.sub("retry"), e.sub("late")

	run := cron.start(func(r *startRequest) { r.CronSchedule = "@every 1s" })
	cron.complete(cron.poll(), completeWorkflow("done"))
	next := cron.event(run, "Completed").GetWorkflowExecutionCompletedEventAttributes().NewExecutionRunId
	require.Equal(e, next, cron.info("").Execution.RunId)

	run = retried.start(func(r *startRequest) { r.RetryPolicy = retry(1, 2) })
	retried.complete(retried.poll(), failWorkflow(failure("Bad")))
	a := retried.event(run, "Failed").GetWorkflowExecutionFailedEventAttributes()
	require.Equal(e, enumspb.RETRY_STATE_IN_PROGRESS, a.RetryState)
	require.Equal(e, a.NewExecutionRunId, retried.info("").Execution.RunId)

	run = late.start(func(r *startRequest) { r.RetryPolicy, r.WorkflowRunTimeout = retry(1, 2), seconds(1) })
	closed := late.awaitClosed(run).GetWorkflowExecutionTimedOutEventAttributes()
	require.NotNil(e, closed)
	require.NotEmpty(e, closed.NewExecutionRunId)
	require.Equal(e, run, late.started(closed.NewExecutionRunId).ContinuedExecutionRunId)

	run = e.start()
	e.complete(e.poll(), continueAsNew())
	require.Equal(e, e.info("").Execution.RunId, e.event(run, "ContinuedAsNew").GetWorkflowExecutionContinuedAsNewEventAttributes().NewExecutionRunId)
	cron.terminate()
}

func retryCarries(e *env) {
	e.start(func(r *startRequest) { r.Input, r.RetryPolicy = payloads("input"), retry(1, 3) })
	e.complete(e.poll(), failWorkflow(failure("Bad")))
	got := e.poll()
	a := startedOf(got.History.Events[0])
	require.EqualValues(e, 2, a.Attempt)
	require.Equal(e, "input", text(a.Input))
	require.Equal(e, time.Second, a.FirstWorkflowTaskBackoff.AsDuration())
	require.Equal(e, "Bad happened", a.ContinuedFailure.GetMessage())
	require.Equal(e, enumspb.CONTINUE_AS_NEW_INITIATOR_RETRY, a.Initiator)
	e.complete(got, failWorkflow(failure("Bad")))
	got = e.poll()
	e.complete(got, failWorkflow(failure("Bad")))
	closed := e.event(got.WorkflowExecution.RunId, "Failed").GetWorkflowExecutionFailedEventAttributes()
	require.Equal(e, enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED, closed.RetryState)
	require.Empty(e, closed.NewExecutionRunId)
}

func cronCarries(e *env) {
	e.start(func(r *startRequest) { r.CronSchedule = "@every 1s" })
	e.complete(e.poll(), completeWorkflow("first"))
	got := e.poll()
	a := startedOf(got.History.Events[0])
	require.Equal(e, enumspb.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE, a.Initiator)
	require.EqualValues(e, 1, a.Attempt)
	require.Equal(e, "first", text(a.LastCompletionResult))
	require.Nil(e, a.ContinuedFailure)
	e.complete(got, failWorkflow(failure("Bad")))
	got = e.poll()
	a = startedOf(got.History.Events[0])
	require.Equal(e, "first", text(a.LastCompletionResult), "the latest success")
	require.Equal(e, "Bad happened", a.ContinuedFailure.GetMessage())
	require.Equal(e, enumspb.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE, a.Initiator)
	e.complete(got, completeWorkflow("third"))
	got = e.poll()
	require.Nil(e, startedOf(got.History.Events[0]).ContinuedFailure)
	e.complete(got, cancelWorkflow())
	e.wantStatus(got.WorkflowExecution.RunId, canceled)
	require.Equal(e, got.WorkflowExecution.RunId, e.info("").Execution.RunId, "a canceled cron workflow ends")
}

func executionTimeoutEndsRetries(e *env) {
	run := e.start(func(r *startRequest) { r.WorkflowExecutionTimeout, r.RetryPolicy = seconds(100), retry(3600, 0) })
	e.complete(e.poll(), failWorkflow(failure("Bad")))
	a := e.event(run, "Failed").GetWorkflowExecutionFailedEventAttributes()
	require.Equal(e, enumspb.RETRY_STATE_TIMEOUT, a.RetryState)
	require.Empty(e, a.NewExecutionRunId)
	e.wantStatus("", failed)
}

func runTimeoutAfterDelay(e *env) {
	run := e.start(func(r *startRequest) { r.WorkflowStartDelay, r.WorkflowRunTimeout = seconds(2), seconds(1) })
	closed := e.awaitClosed(run)
	require.NotNil(e, closed.GetWorkflowExecutionTimedOutEventAttributes())
	after := closed.EventTime.AsTime().Sub(e.stored(run)[0].EventTime.AsTime())
	require.GreaterOrEqual(e, after, 3*time.Second)
	require.Less(e, after, 20*time.Second)
}

func executionTimeoutOverChain(e *env) {
	first := e.start(func(r *startRequest) { r.WorkflowExecutionTimeout = seconds(60) })
	e.complete(e.poll(), continueAsNew())
	second := e.info("").Execution.RunId
	a, b := e.started(first), e.started(second)
	require.NotNil(e, a.WorkflowExecutionExpirationTime)
	require.Equal(e, a.WorkflowExecutionExpirationTime.AsTime(), b.WorkflowExecutionExpirationTime.AsTime())
	require.Equal(e, time.Minute, b.WorkflowExecutionTimeout.AsDuration())
}

func firstTaskBackoff(e *env) {
	run := e.start(func(r *startRequest) { r.WorkflowStartDelay = seconds(10) })
	info := e.info(run)
	require.Equal(e, running, info.Status)
	require.Equal(e, 10*time.Second, info.ExecutionTime.AsTime().Sub(info.StartTime.AsTime()).Round(time.Millisecond))
	listed := e.list("WorkflowId = '" + e.id + "'")
	require.Len(e, listed, 1)
	require.True(e, listed[0].ExecutionTime.AsTime().After(listed[0].StartTime.AsTime()))
	e.signal("early")
	e.wantHistory(run, "Started Signaled")
	got := e.poll()
	require.Equal(e, "Started Signaled TaskScheduled TaskStarted", shorts(got.History.Events))
	scheduled := got.History.Events[2].EventTime.AsTime()
	require.GreaterOrEqual(e, scheduled.Sub(got.History.Events[0].EventTime.AsTime()), 10*time.Second)
}

func cancelStartsFirstTask(e *env) {
	run := e.start(func(r *startRequest) { r.WorkflowStartDelay = seconds(3600) })
	e.cancel()
	got := e.poll()
	require.Equal(e, "Started CancelRequested TaskScheduled TaskStarted", shorts(got.History.Events))
	e.complete(got, cancelWorkflow())
	e.wantStatus(run, canceled)
}

func sameStartRejectDuplicate(e *env) {
	req := e.newStart(func(r *startRequest) {
		r.RequestId, r.WorkflowIdReusePolicy = "once", enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	})
	first := do(e, e.api.StartWorkflowExecution, req)
	e.terminate()
	again := do(e, e.api.StartWorkflowExecution, req)
	require.True(e, again.Started)
	require.Equal(e, first.RunId, again.RunId)
	require.Equal(e, terminated, again.Status)
}

func sameSignalOverContinueAsNew(e *env) {
	e.idle()
	signal := func(r *signalRequest) { r.RequestId = "once" }
	e.signal("s", signal)
	e.complete(e.poll(), continueAsNew())
	e.signal("s", signal) // its answer was lost, and meanwhile another run has begun
	require.NotContains(e, shorts(e.stored("")), "Signaled")
}

func executionTimeoutEndsLaterRun(e *env) {
	first := e.start(func(r *startRequest) { r.WorkflowExecutionTimeout = seconds(10) })
	begun := e.stored(first)[0].EventTime.AsTime()
	e.complete(e.poll(), continueAsNew())
	second := e.info("").Execution.RunId
	closed := e.awaitClosed(second)
	require.Equal(e, enumspb.RETRY_STATE_TIMEOUT, closed.GetWorkflowExecutionTimedOutEventAttributes().GetRetryState())
	after := closed.EventTime.AsTime().Sub(begun)
	require.GreaterOrEqual(e, after, 10*time.Second)
	require.Less(e, after, 20*time.Second)
}

func runTimeoutStartsOver(e *env) {
	e.start(func(r *startRequest) { r.WorkflowRunTimeout = seconds(12) })
	got := e.poll()
	e.pass(4 * time.Second)
	e.complete(got, continueAsNew())
	second := e.info("").Execution.RunId
	closed := e.awaitClosed(second)
	require.NotNil(e, closed.GetWorkflowExecutionTimedOutEventAttributes())
	require.GreaterOrEqual(e, closed.EventTime.AsTime().Sub(e.stored(second)[0].EventTime.AsTime()), 12*time.Second)
}

func firstRunDecides(e *env) {
	first := e.start()
	e.complete(e.poll(), continueAsNew())
	second := e.info("").Execution.RunId
	refused[*serviceerror.NotFound](e, e.api.TerminateWorkflowExecution, e.newTerminate(func(r *terminateRequest) { r.WorkflowExecution.RunId = first }))
	e.terminate(func(r *terminateRequest) { r.WorkflowExecution.RunId, r.FirstExecutionRunId = first, first })
	e.wantStatus(second, terminated)
}
