package contract

import (
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Attempts of workflow tasks, and what a completion may ask for.
var attempts = []point{
	{"8.07 a failure on a sticky queue costs no attempt", stickyFailure},
	{"8.07 the fourth attempt gets more time", longerAttempts},
	{"8.08 events during a transient task wait, and the next task is normal", signalDuringTransient},
	{"8.08 events during a transient task that fails", signalDuringFailingTransient},
	{"8.09 the next task comes with the completion", returnedTask},
	{"8.09 no task comes with a failed completion", noReturnedTaskAfterFailure},
	{"8.10 a heartbeat makes a new task", heartbeatTask},
	{"8.10 an update that came with a heartbeat's task is not sent again", heartbeatKeepsUpdate},
	{"8.11 heartbeats keep a task alive beyond its timeout", heartbeatsBeyondTimeout},
	{"8.12 a run with waiting events does not close", unhandledCommand},
	{"8.12 no signal is lost in a race with the close", signalRacesClose},
	{"8.13 eager activities", eagerActivity},
	{"8.13 eager activities of another queue, and no more than a worker can take", eagerOtherQueue},
	{"8.14 eager start", eagerStart},
	{"8.14 no eager task with a start delay or cron", noEagerStart},
	{"8.14 an eager task that times out is dispatched", eagerStartTimesOut},
}

func stickyFailure(e *env) {
	run := e.start()
	e.completeWith(e.poll(), e.stick)
	awake := e.stickyWorker()
	e.signal("s")
	e.failTask(awake.result())
	again := e.poll()
	require.EqualValues(e, 1, again.Attempt)
	require.EqualValues(e, 1, again.History.Events[0].EventId, "stickiness is gone")
	e.failTask(again)
	require.EqualValues(e, 2, e.poll().Attempt)
	require.Equal(e, 2, e.count(run, "TaskFailed"))
}

func longerAttempts(e *env) {
	e.start(func(r *startRequest) { r.WorkflowTaskTimeout = nil })
	for attempt := int32(1); attempt <= 4; attempt++ {
		got := e.poll()
		require.Equal(e, attempt, got.Attempt)
		events := got.History.Events
		timeout := events[len(events)-2].GetWorkflowTaskScheduledEventAttributes().GetStartToCloseTimeout().AsDuration()
		if attempt < 4 {
			require.Equal(e, 10*time.Second, timeout)
		} else {
			require.Greater(e, timeout, 10*time.Second)
			require.Less(e, timeout, time.Minute)
		}
		if attempt < 4 {
			e.failTask(got)
		}
	}
}

func signalDuringTransient(e *env) {
	run := e.start()
	e.failTask(e.poll())
	transient := e.poll()
	e.signal("s")
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed")
	e.complete(transient)
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed TaskScheduled TaskStarted TaskCompleted Signaled TaskScheduled")
	require.EqualValues(e, 1, e.poll().Attempt)
}

func signalDuringFailingTransient(e *env) {
	run := e.start()
	e.failTask(e.poll())
	transient := e.poll()
	e.signal("s")
	e.failTask(transient)
	got := e.poll()
	require.EqualValues(e, 1, got.Attempt)
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Signaled TaskScheduled TaskStarted")
}

func returnedTask(e *env) {
	run := e.start()
	got := e.poll()
	require.Nil(e, e.completeWith(got, func(r *completeRequest) { r.ReturnNewWorkflowTask = true }).WorkflowTask, "nothing has happened")
	e.signal("one")
	got = e.poll()
	e.signal("two")
	next := e.completeWith(got, func(r *completeRequest) { e.stick(r); returnNew(r) }).WorkflowTask
	require.NotNil(e, next)
	require.Equal(e, "TaskCompleted Signaled TaskScheduled TaskStarted", shorts(next.History.Events), "the worker has the run in its cache")
	require.EqualValues(e, next.History.Events[3].EventId, next.StartedEventId)
	require.EqualValues(e, 7, next.PreviousStartedEventId)
	require.Equal(e, "worker", next.History.Events[3].GetWorkflowTaskStartedEventAttributes().Identity)
	e.pollNothing()
	e.complete(next, completeWorkflow("done"))
	e.wantStatus(run, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
}

func noReturnedTaskAfterFailure(e *env) {
	e.start()
	got := e.poll()
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, returnNew, startTimer("", 1)))
	require.EqualValues(e, 2, e.poll().Attempt, "the next attempt goes through the queue")
}

func heartbeatTask(e *env) {
	run := e.start()
	got := e.poll()
	first := e.describe(run).PendingWorkflowTask.OriginalScheduledTime
	heartbeat := func(r *completeRequest) { r.ForceCreateNewWorkflowTask, r.ReturnNewWorkflowTask = true, true }
	next := e.completeWith(got, heartbeat).WorkflowTask
	require.NotNil(e, next)
	require.EqualValues(e, 1, next.Attempt)
	described := e.describe(run).PendingWorkflowTask
	require.Equal(e, first.AsTime(), described.OriginalScheduledTime.AsTime())
	require.True(e, described.ScheduledTime.AsTime().After(first.AsTime()))
	next = e.completeWith(next, heartbeat, marker("progress")).WorkflowTask
	require.NotNil(e, next)
	require.True(e, e.describe(run).PendingWorkflowTask.OriginalScheduledTime.AsTime().After(first.AsTime()), "commands are progress")
	e.complete(next)
	e.wantHistory(run, firstTask, "TaskScheduled TaskStarted TaskCompleted MarkerRecorded TaskScheduled TaskStarted TaskCompleted")
}

func heartbeatsBeyondTimeout(e *env) {
	run := e.start(func(r *startRequest) { r.WorkflowTaskTimeout = seconds(10) })
	got := e.poll()
	require.Equal(e, 10*time.Second, e.event(run, "TaskScheduled").GetWorkflowTaskScheduledEventAttributes().StartToCloseTimeout.AsDuration(), "the worker reads it to know when to send one")
	for range 3 {
		e.pass(5 * time.Second)
		got = e.completeWith(got, func(r *completeRequest) { r.ForceCreateNewWorkflowTask, r.ReturnNewWorkflowTask = true, true }).WorkflowTask
		require.NotNil(e, got)
	}
	e.complete(got, completeWorkflow("done"))
	require.Zero(e, e.count(run, "TaskTimedOut"))
}

func unhandledCommand(e *env) {
	run := e.start()
	got := e.poll()
	e.signal("s")
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil, completeWorkflow("done")))
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Signaled TaskScheduled")
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND, e.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause)
	next := e.poll()
	busy := refused[*serviceerror.ResourceExhausted](e, e.api.SignalWorkflowExecution, e.newSignal("late"))
	require.Equal(e, enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, busy.Cause)
	busy = refused[*serviceerror.ResourceExhausted](e, e.api.UpdateWorkflowExecution, e.newUpdate("late"))
	require.Equal(e, enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, busy.Cause)
	e.complete(next, completeWorkflow("done"))
	e.wantStatus(run, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
}

func signalRacesClose(e *env) {
	for range 10 {
		run := e.start()
		got := e.poll()
		signal := begin(e, callMax, e.api.SignalWorkflowExecution, e.newSignal("s"))
		_, err := try(e, callMax, e.api.RespondWorkflowTaskCompleted, completion(got, nil, completeWorkflow("done")))
		signaled := signal.failure() == nil
		if err == nil {
			require.False(e, signaled && e.count(run, "Signaled") == 0, "a signal was taken and lost")
			continue
		}
		asError[*serviceerror.InvalidArgument](e, err)
		require.Equal(e, 1, e.count(run, "Signaled"))
		e.complete(e.poll(), completeWorkflow("done"))
	}
}

func eagerActivity(e *env) {
	run := e.start()
	eager := func(a *activityAttributes) { a.RequestEagerExecution = true }
	done := e.complete(e.poll(), e.activity("a", eager), e.activity("b"))
	require.Len(e, done.ActivityTasks, 1)
	got := done.ActivityTasks[0]
	require.Equal(e, "a", got.ActivityId)
	require.EqualValues(e, 1, got.Attempt)
	require.Equal(e, "b", e.pollActivity().ActivityId, "only the other one is in the queue")
	e.pollNoActivity()
	e.completeActivity(got, "eagerly")
	require.Equal(e, "worker", e.event(run, "ActivityStarted").GetActivityTaskStartedEventAttributes().Identity)
	require.Equal(e, "eagerly", text(e.event(run, "ActivityCompleted").GetActivityTaskCompletedEventAttributes().Result))
}

func eagerStart(e *env) {
	req := e.newStart(func(r *startRequest) { r.RequestEagerExecution, r.RequestId = true, "once" })
	started := do(e, e.api.StartWorkflowExecution, req)
	got := started.EagerWorkflowTask
	require.NotNil(e, got)
	require.Equal(e, "Started TaskScheduled TaskStarted", shorts(got.History.Events))
	require.True(e, got.History.Events[0].GetWorkflowExecutionStartedEventAttributes().EagerExecutionAccepted)
	require.EqualValues(e, 3, got.StartedEventId)
	again := do(e, e.api.StartWorkflowExecution, req)
	require.True(e, again.Started)
	require.Equal(e, started.RunId, again.RunId)
	require.NotNil(e, again.EagerWorkflowTask, "the answer may have been lost")
	require.Equal(e, got.TaskToken, again.EagerWorkflowTask.TaskToken)
	e.pollNothing()
	e.complete(got, completeWorkflow("done"))
	e.wantStatus(started.RunId, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
}

func noEagerStart(e *env) {
	delayed, cron := e.sub("delayed"), e.sub("cron")
	require.Nil(e, do(e, e.api.StartWorkflowExecution, delayed.newStart(func(r *startRequest) {
		r.RequestEagerExecution, r.WorkflowStartDelay = true, seconds(60)
	})).EagerWorkflowTask)
	require.Nil(e, do(e, e.api.StartWorkflowExecution, cron.newStart(func(r *startRequest) {
		r.RequestEagerExecution, r.CronSchedule = true, "0 0 * * *"
	})).EagerWorkflowTask)
	require.False(e, delayed.stored("")[0].GetWorkflowExecutionStartedEventAttributes().EagerExecutionAccepted)
}

func eagerStartTimesOut(e *env) {
	started := do(e, e.api.StartWorkflowExecution, e.newStart(func(r *startRequest) {
		r.RequestEagerExecution, r.WorkflowTaskTimeout = true, durationpb.New(time.Second)
	}))
	require.NotNil(e, started.EagerWorkflowTask)
	got := e.poll()
	require.EqualValues(e, 2, got.Attempt)
	e.complete(got, completeWorkflow("done"))
	refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskCompleted, completion(started.EagerWorkflowTask, nil))
	e.wantHistory(started.RunId, "Started TaskScheduled TaskStarted TaskTimedOut TaskScheduled TaskStarted TaskCompleted Completed")
}

func heartbeatKeepsUpdate(e *env) {
	e.idle()
	e.signal("s")
	update := e.update("u")
	var got *task
	e.eventually("the update comes with a task", func() bool {
		if got == nil {
			got = e.poll()
		} else {
			got = e.completeWith(got, func(r *completeRequest) { r.ForceCreateNewWorkflowTask, r.ReturnNewWorkflowTask = true, true }).WorkflowTask
		}
		return len(got.Messages) == 1
	})
	request := got.Messages[0]
	next := e.completeWith(got, func(r *completeRequest) { r.ForceCreateNewWorkflowTask, r.ReturnNewWorkflowTask = true, true }).WorkflowTask
	require.Empty(e, next.Messages)
	require.True(e, update.waiting())
	e.reply(next, new(reply).accept(request).finish("u", "yes"))
	require.Equal(e, "yes", text(update.result().GetOutcome().GetSuccess()))
}

func eagerOtherQueue(e *env) {
	e.start()
	var commands []*command
	for _, id := range []string{"a", "b", "c", "d"} {
		commands = append(commands, e.activity(id, func(a *activityAttributes) { a.RequestEagerExecution, a.TaskQueue = true, normal(e.queue+"-other") }))
	}
	done := e.complete(e.poll(), commands...)
	require.Len(e, done.ActivityTasks, 3)
	for _, a := range done.ActivityTasks {
		e.completeActivity(a, "done")
	}
	rest := do(e, e.api.PollActivityTaskQueue, &workflowservice.PollActivityTaskQueueRequest{TaskQueue: normal(e.queue + "-other")})
	require.Equal(e, "d", rest.ActivityId)
}
