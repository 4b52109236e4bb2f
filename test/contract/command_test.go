package contract

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What workers command.
var commands = []point{
	{"2.1 commands write events that name their task", commandEvents},
	{"2.1 closing commands", closingCommands},
	{"2.1 continue as new inherits what is not given", continueAsNewDefaults},
	{"2.1 nothing may follow a closing command", commandAfterClose},
	{"2.1 unknown commands", unknownCommand},
	{"2.1 a bad command on a later attempt writes nothing", badOnLaterAttempt},
	{"2.1 a bad command drops what came before it", badDropsAll},
	{"2.1 cancel of an activity that has just finished", cancelFinishedActivity},
	{"2.1 cancel of a timer that has just fired", cancelFiredTimer},
	{"2.1 cancel of an unstarted activity in the task that schedules it", scheduleAndCancelActivity},
	{"2.1 external signals", signalExternalOutcomes},
	{"2.1 external cancels", cancelExternalOutcomes},
	{"2.1 external requests to runs that are closed, or others than were meant", externalToOthers},
	{"2.1 a child whose id is taken", childIDTaken},
	{"2.1 a child whose id was used", childIDUsed},
	{"2.1 a child's end in each way", childEnds},
}

// taskCompletedOf is the id of the WORKFLOW_TASK_COMPLETED that an event names.
func taskCompletedOf(e *historypb.HistoryEvent) int64 {
	m := e.ProtoReflect()
	set := m.WhichOneof(m.Descriptor().Oneofs().ByName("attributes"))
	a := m.Get(set).Message()
	f := a.Descriptor().Fields().ByName("workflow_task_completed_event_id")
	if f == nil || f.Kind() != protoreflect.Int64Kind {
		return 0
	}
	return a.Get(f).Int()
}

func commandEvents(e *env) {
	run := e.start()
	given := []*command{
		e.activity("a"), startTimer("t", 60), startTimer("t2", 60), cancelTimer("t2"), marker("m"), e.startChild(), signalExternal("nobody"), cancelExternal("nobody"),
		upsertAttributes(map[string]*commonpb.Payload{"Color": payload("red")}), upsertMemo(map[string]*commonpb.Payload{"k": payload("v")}),
	}
	for _, c := range given {
		c.UserMetadata = &sdkpb.UserMetadata{Summary: payload(c.CommandType.String())}
	}
	e.complete(e.poll(), given...)
	events := e.stored(run)[4:]
	require.Equal(e, "ActivityScheduled TimerStarted TimerStarted TimerCanceled MarkerRecorded StartChildInitiated SignalExternalInitiated "+
		"RequestCancelExternalInitiated UpsertWorkflowSearchAttributes WorkflowPropertiesModified", shorts(events[:len(given)]))
	for i, c := range given {
		require.EqualValues(e, 4, taskCompletedOf(events[i]), c.CommandType.String())
		require.Equal(e, string(c.UserMetadata.Summary.Data), string(events[i].UserMetadata.GetSummary().GetData()))
	}
	child := events[5].GetStartChildWorkflowExecutionInitiatedEventAttributes()
	require.Equal(e, enumspb.PARENT_CLOSE_POLICY_TERMINATE, child.ParentClosePolicy)
	require.Nil(e, child.RetryPolicy)
	require.NotNil(e, events[0].GetActivityTaskScheduledEventAttributes().RetryPolicy, "activities are retried unless told otherwise")
}

func closingCommands(e *env) {
	for i, c := range []struct {
		command *command
		event   string
		status  enumspb.WorkflowExecutionStatus
	}{
		{completeWorkflow("done"), "Completed", completed},
		{failWorkflow(failure("Bad")), "Failed", failed},
		{cancelWorkflow(), "Canceled", canceled},
		{continueAsNew(), "ContinuedAsNew", continuedAsNew},
	} {
		w := e.sub(fmt.Sprint(i))
		run := w.start()
		w.complete(w.poll(), c.command)
		w.wantHistory(run, firstTask, c.event)
		require.EqualValues(e, 4, taskCompletedOf(w.event(run, c.event)))
		w.wantStatus(run, c.status)
	}
}

func continueAsNewDefaults(e *env) {
	first := e.start(func(r *startRequest) {
		r.WorkflowRunTimeout, r.WorkflowTaskTimeout, r.Memo = seconds(300), seconds(7), &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": payload("kept")}}
		r.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"Color": payload("red")}}
	})
	e.complete(e.poll(), continueAsNew())
	second := e.info("").Execution.RunId
	a, b := e.started(first), e.started(second)
	require.Equal(e, a.WorkflowType.Name, b.WorkflowType.Name)
	require.Equal(e, a.TaskQueue.Name, b.TaskQueue.Name)
	require.Equal(e, a.WorkflowRunTimeout.AsDuration(), b.WorkflowRunTimeout.AsDuration())
	require.Equal(e, a.WorkflowTaskTimeout.AsDuration(), b.WorkflowTaskTimeout.AsDuration())
}

func commandAfterClose(e *env) {
	run := e.start()
	got := e.poll()
	for _, after := range []*command{marker("m"), completeWorkflow("again")} {
		refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil, completeWorkflow("done"), after))
	}
	e.wantHistory(run, "Started TaskScheduled TaskStarted")
	e.complete(got, completeWorkflow("done"))
	e.wantStatus(run, completed)
}

func unknownCommand(e *env) {
	run := e.start()
	got := e.poll()
	for _, typ := range []enumspb.CommandType{enumspb.COMMAND_TYPE_UNSPECIFIED, 15, 999} {
		refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil, &command{CommandType: typ}))
	}
	e.complete(got)
	e.wantHistory(run, firstTask)
}

func badOnLaterAttempt(e *env) {
	run := e.start()
	e.failTask(e.poll())
	got := e.poll()
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil, marker("m"), startTimer("", 1)))
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed")
	e.complete(got, completeWorkflow("better"))
	e.wantStatus(run, completed)
}

func badDropsAll(e *env) {
	run := e.start()
	got := e.poll()
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted,
		completion(got, nil, e.activity("a"), startTimer("t", 60), upsertMemo(map[string]*commonpb.Payload{"k": payload("v")}), cancelTimer("unknown")))
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed")
	d := e.describe(run)
	require.Empty(e, d.PendingActivities)
	require.Empty(e, d.WorkflowExecutionInfo.Memo.GetFields())
	e.complete(e.poll(), e.activity("a"), startTimer("t", 60))
	require.Equal(e, "a", e.pollActivity().ActivityId)
	e.pollNoActivity()
}

func cancelFinishedActivity(e *env) {
	run, a := e.runningActivity()
	e.signal("s")
	got := e.poll()
	e.completeActivity(a, "done")
	e.complete(got, cancelActivity(5))
	e.wantHistory(run, firstTask, "ActivityScheduled Signaled TaskScheduled TaskStarted TaskCompleted ActivityCancelRequested ActivityStarted ActivityCompleted TaskScheduled")
}

func cancelFiredTimer(e *env) {
	run := e.start()
	e.complete(e.poll(), startTimer("t", 8))
	e.signal("s")
	got := e.poll()
	// The fired timer waits in the buffer, where no client sees it.
	e.pass(time.Until(e.event(run, "TimerStarted").EventTime.AsTime().Add(9 * time.Second)))
	e.complete(got, cancelTimer("t"))
	e.wantHistory(run, firstTask, "TimerStarted Signaled TaskScheduled TaskStarted TaskCompleted TimerCanceled")
	e.pollNothing()
}

func scheduleAndCancelActivity(e *env) {
	run := e.start()
	e.complete(e.poll(), e.activity("a"), cancelActivity(5), marker("m"))
	e.wantHistory(run, firstTask, "ActivityScheduled ActivityCancelRequested MarkerRecorded ActivityCanceled TaskScheduled")
}

func signalExternalOutcomes(e *env) {
	target := e.sub("target")
	run := target.idle()
	parent := e.start()
	e.complete(e.poll(), signalExternal(target.id), signalExternal(e.id+"-nobody"), signalExternal(e.id))
	e.eventually("all are answered", func() bool {
		return e.count(parent, "ExternalSignaled") == 1 && e.count(parent, "SignalExternalFailed") == 2
	})
	a := target.event(run, "Signaled").GetWorkflowExecutionSignaledEventAttributes()
	require.Equal(e, "from-outside", a.SignalName)
	require.Equal(e, "hello", text(a.Input))
	require.Equal(e, parent, a.ExternalWorkflowExecution.GetRunId())
	require.Equal(e, enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND,
		e.event(parent, "SignalExternalFailed").GetSignalExternalWorkflowExecutionFailedEventAttributes().Cause)
}

func cancelExternalOutcomes(e *env) {
	target := e.sub("target")
	run := target.idle()
	parent := e.start()
	e.complete(e.poll(), cancelExternal(target.id), cancelExternal(e.id+"-nobody"), cancelExternal(e.id))
	e.eventually("all are answered", func() bool {
		return e.count(parent, "ExternalCancelRequested") == 1 && e.count(parent, "RequestCancelExternalFailed") == 2
	})
	require.Equal(e, parent, target.event(run, "CancelRequested").GetWorkflowExecutionCancelRequestedEventAttributes().ExternalWorkflowExecution.GetRunId())
}

func childIDTaken(e *env) {
	e.child().start()
	parent := e.start()
	e.complete(e.poll(), e.startChild())
	e.eventually("the start fails", func() bool { return e.count(parent, "StartChildFailed") == 1 })
	require.Equal(e, enumspb.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS,
		e.event(parent, "StartChildFailed").GetStartChildWorkflowExecutionFailedEventAttributes().Cause)
}

func childEnds(e *env) {
	for i, end := range []struct {
		event string
		close func(child *env, t *task)
	}{
		{"ChildCompleted", func(child *env, t *task) { child.complete(t, completeWorkflow("done")) }},
		{"ChildFailed", func(child *env, t *task) { child.complete(t, failWorkflow(failure("Bad"))) }},
		{"ChildCanceled", func(child *env, t *task) { child.complete(t, cancelWorkflow()) }},
		{"ChildTerminated", func(child *env, _ *task) { child.terminate() }},
		{"ChildTimedOut", func(*env, *task) {}},
	} {
		w := e.sub(fmt.Sprint(i))
		child, first := w.startedChild(func(a *childAttributes) {
			if end.event == "ChildTimedOut" {
				a.WorkflowRunTimeout = seconds(6)
			}
		})
		end.close(child, first)
		w.eventually(end.event, func() bool { return w.count("", end.event) == 1 })
	}
}

// bad is commands of which the last cannot be carried out.
type bad struct {
	name     string
	cause    enumspb.WorkflowTaskFailedCause
	commands func(*env) []*command
}

// one makes a single command.
func one(make func(*env) *command) func(*env) []*command {
	return func(e *env) []*command { return []*command{make(e)} }
}

// fixed are commands that name nothing of the test.
func fixed(commands ...*command) func(*env) []*command {
	return func(*env) []*command { return commands }
}

func badActivity(name string, mod func(*activityAttributes)) bad {
	return bad{"activity " + name, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES, one(func(e *env) *command { return e.activity("a", mod) })}
}

func badChild(name string, mod func(*childAttributes)) bad {
	return bad{"child " + name, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_CHILD_EXECUTION_ATTRIBUTES, one(func(e *env) *command { return e.startChild(mod) })}
}

func badNewRun(name string, mod func(*newRunAttributes)) bad {
	return bad{"continue as new " + name, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_CONTINUE_AS_NEW_ATTRIBUTES, fixed(continueAsNew(mod))}
}

func badSignal(name string, id string, mods ...func(*signalAttributes)) bad {
	return bad{"signal " + name, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES, fixed(signalExternal(id, mods...))}
}

func badCancel(name string, id string, mods ...func(*cancelAttributes)) bad {
	return bad{"cancel " + name, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_ATTRIBUTES, fixed(cancelExternal(id, mods...))}
}

func withoutAttributes(typ enumspb.CommandType, cause enumspb.WorkflowTaskFailedCause) bad {
	return bad{typ.String() + " without attributes", cause, fixed(&command{CommandType: typ})}
}

const (
	badTimer       = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_TIMER_ATTRIBUTES
	badCancelTimer = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_CANCEL_TIMER_ATTRIBUTES
	badCancelAct   = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES
	badMarker      = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_RECORD_MARKER_ATTRIBUTES
	badAttributes  = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES
	badProperties  = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES
	badMessage     = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE
)

var badOnes = []bad{
	badActivity("without timeouts", func(a *activityAttributes) { a.StartToCloseTimeout = nil }),
	badActivity("with a negative timeout", func(a *activityAttributes) { a.HeartbeatTimeout = seconds(-1) }),
	badActivity("without id", func(a *activityAttributes) { a.ActivityId = "" }),
	badActivity("with a long id", func(a *activityAttributes) { a.ActivityId = long(1001) }),
	badActivity("without type", func(a *activityAttributes) { a.ActivityType = nil }),
	badActivity("with a long type", func(a *activityAttributes) { a.ActivityType.Name = long(1001) }),
	badActivity("without queue", func(a *activityAttributes) { a.TaskQueue = nil }),
	badActivity("on a reserved queue", func(a *activityAttributes) { a.TaskQueue = normal("/_sys/x/1") }),
	badActivity("with a coefficient below 1", func(a *activityAttributes) { a.RetryPolicy = &commonpb.RetryPolicy{BackoffCoefficient: 0.5} }),
	badActivity("with negative attempts", func(a *activityAttributes) { a.RetryPolicy = &commonpb.RetryPolicy{MaximumAttempts: -1} }),
	badActivity("with a short maximum interval", func(a *activityAttributes) {
		a.RetryPolicy = &commonpb.RetryPolicy{InitialInterval: seconds(10), MaximumInterval: seconds(1)}
	}),
	badActivity("with an unknown timeout type", func(a *activityAttributes) {
		a.RetryPolicy = &commonpb.RetryPolicy{NonRetryableErrorTypes: []string{"TemporalTimeout:Never"}}
	}),
	badActivity("with a negative priority", func(a *activityAttributes) { a.Priority = &commonpb.Priority{PriorityKey: -1} }),
	{"activity with a used id", enumspb.WORKFLOW_TASK_FAILED_CAUSE_SCHEDULE_ACTIVITY_DUPLICATE_ID, func(e *env) []*command { return []*command{e.activity("a"), e.activity("a")} }},

	{"timer without id", badTimer, fixed(startTimer("", 1))},
	{"timer with a long id", badTimer, fixed(startTimer(long(1001), 1))},
	{"timer with a negative duration", badTimer, fixed(startTimer("t", -1))},
	{"timer with a used id", enumspb.WORKFLOW_TASK_FAILED_CAUSE_START_TIMER_DUPLICATE_ID, fixed(startTimer("t", 60), startTimer("t", 60))},
	{"cancel of an unknown timer", badCancelTimer, fixed(cancelTimer("t"))},
	{"cancel of a timer without id", badCancelTimer, fixed(cancelTimer(""))},

	{"cancel of an unknown activity", badCancelAct, fixed(cancelActivity(77))},
	{"cancel of no activity", badCancelAct, fixed(cancelActivity(0))},
	{"two cancels of an activity", badCancelAct, func(e *env) []*command { return []*command{e.activity("a"), cancelActivity(5), cancelActivity(5)} }},

	{"marker without name", badMarker, fixed(marker(""))},
	{"marker with a long name", badMarker, fixed(marker(long(1001)))},

	badChild("without id", func(a *childAttributes) { a.WorkflowId = "" }),
	badChild("with a long id", func(a *childAttributes) { a.WorkflowId = long(1001) }),
	badChild("without type", func(a *childAttributes) { a.WorkflowType = nil }),
	badChild("with a negative timeout", func(a *childAttributes) { a.WorkflowRunTimeout = seconds(-1) }),
	badChild("with a bad cron schedule", func(a *childAttributes) { a.CronSchedule = "often" }),
	badChild("with a bad retry policy", func(a *childAttributes) { a.RetryPolicy = &commonpb.RetryPolicy{BackoffCoefficient: 0.5} }),
	badChild("on a reserved queue", func(a *childAttributes) { a.TaskQueue = normal("/_sys/x/1") }),
	badChild("in another namespace", func(a *childAttributes) { a.Namespace = "temporal-system" }),

	badSignal("without name", "w", func(a *signalAttributes) { a.SignalName = "" }),
	badSignal("with a long name", "w", func(a *signalAttributes) { a.SignalName = long(1001) }),
	badSignal("without id", ""),
	badSignal("without execution", "", func(a *signalAttributes) { a.Execution = nil }),
	badSignal("with a run id that is none", "w", func(a *signalAttributes) { a.Execution.RunId = "not-a-uuid" }),
	badSignal("to another namespace", "w", func(a *signalAttributes) { a.Namespace = "temporal-system" }),

	badCancel("without id", ""),
	badCancel("with a run id that is none", "w", func(a *cancelAttributes) { a.RunId = "not-a-uuid" }),
	badCancel("in another namespace", "w", func(a *cancelAttributes) { a.Namespace = "temporal-system" }),

	badNewRun("with a negative timeout", func(a *newRunAttributes) { a.WorkflowRunTimeout = seconds(-1) }),
	badNewRun("with a long type", func(a *newRunAttributes) { a.WorkflowType = typeNamed(long(1001)) }),
	badNewRun("on a reserved queue", func(a *newRunAttributes) { a.TaskQueue = normal("/_sys/x/1") }),
	badNewRun("with a bad retry policy", func(a *newRunAttributes) { a.RetryPolicy = &commonpb.RetryPolicy{BackoffCoefficient: 0.5} }),
	badNewRun("with a bad cron schedule", func(a *newRunAttributes) { a.CronSchedule = "often" }),

	{"an unknown search attribute", badAttributes, fixed(upsertAttributes(map[string]*commonpb.Payload{"NoSuchAttribute": payload(1)}))},
	{"a search attribute of another type", badAttributes, fixed(upsertAttributes(map[string]*commonpb.Payload{"Size": payload("large")}))},
	{"a system attribute", badAttributes, fixed(upsertAttributes(map[string]*commonpb.Payload{"WorkflowType": payload("other")}))},
	{"no search attributes", badAttributes, fixed(upsertAttributes(nil))},
	{"no memo", badProperties, fixed(upsertMemo(nil))},
	{"a message that is not there", badMessage, fixed(messageCommand("nobody/accept"))},
	{"a message without id", badMessage, fixed(messageCommand(""))},
	{"a failure without failure", enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES, fixed(failWorkflow((*failurepb.Failure)(nil)))},

	withoutAttributes(enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES),
	withoutAttributes(enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK, badCancelAct),
	withoutAttributes(enumspb.COMMAND_TYPE_START_TIMER, badTimer),
	withoutAttributes(enumspb.COMMAND_TYPE_CANCEL_TIMER, badCancelTimer),
	withoutAttributes(enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_COMPLETE_WORKFLOW_EXECUTION_ATTRIBUTES),
	withoutAttributes(enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES),
	withoutAttributes(enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_CANCEL_WORKFLOW_EXECUTION_ATTRIBUTES),
	withoutAttributes(enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_CONTINUE_AS_NEW_ATTRIBUTES),
	withoutAttributes(enumspb.COMMAND_TYPE_RECORD_MARKER, badMarker),
	withoutAttributes(enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_CHILD_EXECUTION_ATTRIBUTES),
	withoutAttributes(enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES),
	withoutAttributes(enumspb.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_ATTRIBUTES),
	withoutAttributes(enumspb.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, badAttributes),
	withoutAttributes(enumspb.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES, badProperties),
	withoutAttributes(enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE, badMessage),
}

// badCommands has a point for each bad command: the call is refused, the task fails with the cause, and nothing else happens.
func badCommands() (points []point) {
	for _, b := range badOnes {
		points = append(points, point{"2.1 bad: " + b.name, func(e *env) {
			run := e.start()
			err := refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(e.poll(), nil, b.commands(e)...))
			require.Contains(e, err.Error(), b.cause.String())
			e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed")
			require.Equal(e, b.cause, e.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause)
			again := e.poll()
			require.EqualValues(e, 2, again.Attempt)
			e.complete(again, completeWorkflow("better"))
			e.wantStatus(run, completed)
		}})
	}
	return points
}

func externalToOthers(e *env) {
	closed, child := e.sub("closed"), e.sub("no-child")
	closed.start()
	closed.complete(closed.poll(), completeWorkflow("done"))
	other := child.start()
	parent := e.start()
	e.complete(e.poll(), signalExternal(closed.id), cancelExternal(closed.id),
		signalExternal(child.id, func(a *signalAttributes) { a.ChildWorkflowOnly = true }),
		signalExternal(child.id, func(a *signalAttributes) { a.Execution.RunId = parent }),
		signalExternal(child.id, func(a *signalAttributes) { a.Execution.RunId = other }))
	e.eventually("all are answered", func() bool {
		return e.count(parent, "SignalExternalFailed")+e.count(parent, "ExternalSignaled") == 4
	})
	require.Equal(e, 1, e.count(parent, "ExternalSignaled"))
	require.Equal(e, 1, child.count(other, "Signaled"))
	e.eventually("the cancel of a closed run is answered", func() bool {
		return e.count(parent, "RequestCancelExternalFailed")+e.count(parent, "ExternalCancelRequested") == 1
	})
}

func childIDUsed(e *env) {
	e.child().start()
	e.child().terminate()
	parent := e.start()
	e.complete(e.poll(), e.startChild(func(a *childAttributes) { a.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE }))
	e.eventually("the start fails", func() bool { return e.count(parent, "StartChildFailed") == 1 })
	e.complete(e.poll(), e.startChild())
	e.eventually("the start succeeds", func() bool { return e.count(parent, "ChildStarted") == 1 })
}
