package contract

import (
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// Remarks on the reference that the recorded scenarios do not touch.
var recorded = []point{
	{"9.03 a quick continue-as-new waits for the rest of the second", quickContinueAsNew},
	{"9.14 the made-up events of a history name nobody", provisionalIdentity},
	{"9.15 a speculative task that times out is stored", speculativeTimeoutStored},
	{"9.04 an update of a failed task comes again", updateAfterFailedTask},
	{"9.07 the close event of an open run, without waiting", closeEventOfOpenRun},
	{"9.10 timers of no time", timersOfNoTime},
	{"9.16 a sticky queue that nobody polled", unknownStickyQueue},
	{"9.20 completion by id of an unstarted activity", completeUnstartedByID},
	{"9.21 a reset of a running second attempt", resetRunningAttempt},
	{"10 identities", identities},
	{"10 a sticky queue for a start", stickyQueueForStart},
	{"10 cancel of a closed run by another first run", cancelClosedByOtherFirst},
	{"10 filters of wrong types are refused", mistypedFilters},
	{"10 partition names", partitionNames},
	{"10 a reserved queue is not polled", reservedQueue},
	{"10 signal with start may terminate", signalWithStartTerminates},
	{"10 heartbeats after terminate", heartbeatAfterTerminate},
	{"10 a namespace by name and id at once", namespaceTwice},
	{"2.4 what a worker reports is kept", workerReportsKept},
	{"5.3 a sticky worker that has been gone for long is not waited for", goneStickyWorker},
	{"5.3 an empty poll comes a second before the caller's deadline", emptyPollInTime},
	{"10 failing and completing a task after terminate", taskAfterTerminate},
}

func quickContinueAsNew(e *env) {
	first := e.start()
	e.complete(e.poll(), continueAsNew())
	took := e.event(first, "ContinuedAsNew").EventTime.AsTime().Sub(e.stored(first)[0].EventTime.AsTime())
	require.InDelta(e, max(time.Second-took, 0).Seconds(), e.started("").FirstWorkflowTaskBackoff.AsDuration().Seconds(), 0.05)
}

func updateAfterFailedTask(e *env) {
	e.idle()
	update := e.update("u")
	e.failTask(e.poll())
	got := e.poll()
	require.Len(e, got.Messages, 1)
	require.True(e, update.waiting())
	e.reply(got, new(reply).accept(got.Messages[0]).finish("u", "yes"))
	require.Equal(e, "yes", text(update.result().GetOutcome().GetSuccess()))
}

func closeEventOfOpenRun(e *env) {
	run := e.idle()
	page := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, run), HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT})
	require.Empty(e, page.History.GetEvents())
	require.Empty(e, page.NextPageToken)
}

func timersOfNoTime(e *env) {
	run := e.start()
	e.complete(e.poll(), startTimer("t", 0))
	e.complete(e.poll())
	require.Equal(e, 1, e.count(run, "TimerFired"))
}

func unknownStickyQueue(e *env) {
	run := e.start()
	e.completeWith(e.poll(), e.stick)
	e.signal("s")
	got := e.poll()
	require.EqualValues(e, 1, got.History.Events[0].EventId, "the whole history")
	require.Equal(e, e.sticky().Name, e.event(run, "TaskScheduled").GetWorkflowTaskScheduledEventAttributes().TaskQueue.Name)
}

func completeUnstartedByID(e *env) {
	run := e.start()
	e.complete(e.poll(), e.activity("a"))
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskFailedById, &workflowservice.RespondActivityTaskFailedByIdRequest{WorkflowId: e.id, ActivityId: "a", Failure: failure("Bad")})
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskCanceledById, &workflowservice.RespondActivityTaskCanceledByIdRequest{WorkflowId: e.id, ActivityId: "a"})
	refused[*serviceerror.NotFound](e, e.api.RecordActivityTaskHeartbeatById, &workflowservice.RecordActivityTaskHeartbeatByIdRequest{WorkflowId: e.id, ActivityId: "a"})
	do(e, e.api.RespondActivityTaskCompletedById, &workflowservice.RespondActivityTaskCompletedByIdRequest{WorkflowId: e.id, ActivityId: "a", Result: payloads("from outside")})
	require.Equal(e, "from outside", text(e.event(run, "ActivityCompleted").GetActivityTaskCompletedEventAttributes().Result))
	e.pollNoActivity()
}

func resetRunningAttempt(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 0)))
	e.failActivity(a, failure("Bad"))
	again := e.pollActivity()
	do(e, e.api.ResetActivity, &workflowservice.ResetActivityRequest{Execution: execution(e.id, ""), Activity: &workflowservice.ResetActivityRequest_Id{Id: "a"}})
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskCompleted, &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: again.TaskToken})
	require.Len(e, e.describe(run).PendingActivities, 1)
}

func identities(e *env) {
	tooLong := long(1001)
	e.idle(func(r *startRequest) { r.Identity = tooLong })
	e.signal("s")
	got := e.poll()
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, func(r *completeRequest) { r.Identity = tooLong }))
	e.terminate(func(r *terminateRequest) { r.Identity = tooLong })
}

func stickyQueueForStart(e *env) {
	run := e.start(func(r *startRequest) {
		r.TaskQueue = &taskqueuepb.TaskQueue{Name: e.queue, Kind: enumspb.TASK_QUEUE_KIND_STICKY}
	})
	e.complete(e.poll(), completeWorkflow("done"))
	e.wantStatus(run, completed)
}

func cancelClosedByOtherFirst(e *env) {
	e.start()
	e.complete(e.poll(), completeWorkflow("done"))
	e.cancel(func(r *cancelRequest) { r.FirstExecutionRunId = uuid.NewString() })
}

func mistypedFilters(e *env) {
	e.start(func(r *startRequest) {
		r.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"Size": payload(2)}}
	})
	// The reference finds nothing instead of saying so; docs/differences.allow.
	refused[*serviceerror.InvalidArgument](e, e.api.ListWorkflowExecutions, &workflowservice.ListWorkflowExecutionsRequest{Query: "Size = 'two'"})
	require.Len(e, e.list("Size = 2 AND WorkflowId = '"+e.id+"'"), 1)
	require.Len(e, e.list("ExecutionStatus = 'Running' AND WorkflowId = '"+e.id+"'"), 1)
	require.Len(e, e.list("ExecutionStatus = 1 AND WorkflowId = '"+e.id+"'"), 1)
	require.Len(e, e.list("ExecutionStatus = 'WORKFLOW_EXECUTION_STATUS_RUNNING' AND WorkflowId = '"+e.id+"'"), 1)
}

func partitionNames(e *env) {
	describe := func(name string) *workflowservice.DescribeTaskQueueRequest {
		return &workflowservice.DescribeTaskQueueRequest{TaskQueue: normal(name), TaskQueueType: enumspb.TASK_QUEUE_TYPE_WORKFLOW}
	}
	do(e, e.api.DescribeTaskQueue, describe("/_sys/"+e.queue+"/99"))
	for _, n := range []string{"0", "-1", "x"} {
		refused[*serviceerror.InvalidArgument](e, e.api.DescribeTaskQueue, describe("/_sys/"+e.queue+"/"+n))
	}
	refused[*serviceerror.InvalidArgument](e, e.api.PollWorkflowTaskQueue, e.newPoll(normal("/_sys/"+e.queue+"/1")))
	e.refusedStarts(func(r *startRequest) { r.TaskQueue = normal("/_sys/" + e.queue + "/1") })
}

func reservedQueue(e *env) {
	refused[*serviceerror.InvalidArgument](e, e.api.PollWorkflowTaskQueue, e.newPoll(normal("temporal-sys-per-ns-tq")))
}

func taskAfterTerminate(e *env) {
	e.start()
	got := e.poll()
	e.terminate()
	refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil))
	refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskFailed, e.newFailTask(got))
}

func provisionalIdentity(e *env) {
	run := e.start()
	e.failTask(e.poll())
	seen := e.events(run)
	require.Equal(e, "Started TaskScheduled TaskStarted TaskFailed TaskScheduled", shorts(seen), "the next attempt is shown as scheduled")
	got := e.poll()
	last := got.History.Events[len(got.History.Events)-1]
	require.Equal(e, "worker", last.GetWorkflowTaskStartedEventAttributes().Identity)
	seen = e.events(run)
	require.Empty(e, seen[len(seen)-1].GetWorkflowTaskStartedEventAttributes().Identity)
}

func speculativeTimeoutStored(e *env) {
	run := e.idle(func(r *startRequest) { r.WorkflowTaskTimeout = seconds(5) })
	update := e.update("u")
	e.poll()
	e.eventually("the task has timed out", func() bool { return e.count(run, "TaskTimedOut") > 0 })
	require.Equal(e, firstTask+" TaskScheduled TaskStarted TaskTimedOut", shorts(e.stored(run)[:7]))
	e.terminate()
	asError[*serviceerror.NotFound](e, update.failure())
}

func signalWithStartTerminates(e *env) {
	old := e.idle()
	e.pass(1100 * time.Millisecond) // the id may have a minimal interval
	again := do(e, e.api.SignalWithStartWorkflowExecution, e.newSignalWithStart("s", func(r *signalWithStartRequest) {
		r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	}))
	require.True(e, again.Started)
	e.wantStatus(old, terminated)
	require.Equal(e, 1, e.count(again.RunId, "Signaled"))
	require.Zero(e, e.count(old, "Signaled"))
}

func heartbeatAfterTerminate(e *env) {
	_, a := e.runningActivity()
	e.terminate()
	refused[*serviceerror.NotFound](e, e.api.RecordActivityTaskHeartbeat, newHeartbeat(a, 1))
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskFailed, &workflowservice.RespondActivityTaskFailedRequest{TaskToken: a.TaskToken, Failure: failure("Bad")})
}

func namespaceTwice(e *env) {
	id := do(e, e.api.DescribeNamespace, &workflowservice.DescribeNamespaceRequest{Namespace: namespace}).GetNamespaceInfo().GetId()
	refused[*serviceerror.InvalidArgument](e, e.api.DescribeNamespace, &workflowservice.DescribeNamespaceRequest{Namespace: namespace, Id: id})
}

func workerReportsKept(e *env) {
	run := e.start()
	e.failTask(e.poll())
	reported := e.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes()
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR, reported.Cause)
	require.Equal(e, "Broken happened", reported.Failure.GetMessage())
	metadata := &sdkpb.WorkflowTaskCompletedMetadata{CoreUsedFlags: []uint32{1, 7}, LangUsedFlags: []uint32{3}, SdkName: "test", SdkVersion: "1.2.3"}
	metering := &commonpb.MeteringMetadata{NonfirstLocalActivityExecutionAttempts: 5}
	e.completeWith(e.poll(), func(r *completeRequest) { r.SdkMetadata, r.MeteringMetadata = metadata, metering })
	kept := e.event(run, "TaskCompleted").GetWorkflowTaskCompletedEventAttributes()
	require.Equal(e, metadata.String(), kept.SdkMetadata.String())
	require.Equal(e, metering.String(), kept.MeteringMetadata.String())
	e.signal("s", func(r *signalRequest) {
		r.Header = &commonpb.Header{Fields: map[string]*commonpb.Payload{"trace": payload("t")}}
	})
	signaled := e.event(run, "Signaled").GetWorkflowExecutionSignaledEventAttributes()
	require.Equal(e, "s", signaled.SignalName)
	require.Equal(e, "s", text(signaled.Input))
	require.Equal(e, "client", signaled.Identity)
	require.Contains(e, signaled.Header.GetFields(), "trace")
}

func goneStickyWorker(e *env) {
	e.start()
	e.completeWith(e.poll(), e.stick)
	e.gonePoller()
	e.pass(12 * time.Second)
	begun := time.Now()
	e.signal("s")
	got := e.poll()
	require.EqualValues(e, 1, got.History.Events[0].EventId)
	require.Less(e, time.Since(begun), 30*time.Second, "not the minute that the worker asked for")
}

func emptyPollInTime(e *env) {
	e.eventually("an empty poll is answered", func() bool { // on a busy machine a second may not be enough
		begun := time.Now()
		got, err := try(e, 4*time.Second, e.api.PollWorkflowTaskQueue, e.newPoll(normal(e.queue)))
		require.Empty(e, got.GetTaskToken())
		require.GreaterOrEqual(e, time.Since(begun), 2*time.Second)
		return err == nil
	})
}
