package contract

import (
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Kinds of workflow tasks.
var workflowTasks = []point{
	{"8.01 a normal task's events are stored", normalTask},
	{"8.02 a transient task's events are made up until one succeeds", transientTask},
	{"8.02 new events make a transient task a normal one", transientBecomesNormal},
	{"8.03 a speculative task with rejections only is dropped", speculativeDropped},
	{"8.03 a speculative task with a command is stored", speculativeWithCommand},
	{"8.03 a speculative task with an accepted update is stored", speculativeAccepted},
	{"8.03 a speculative heartbeat is stored", speculativeHeartbeat},
	{"8.03 a speculative task that shipped many events is stored", speculativeManyEvents},
	{"8.03 a speculative task of an old worker is stored", speculativeOldWorker},
	{"8.03 a write in between stores a speculative task first", speculativeWriteBetween},
	{"8.04 a failed speculative task goes out again with the whole history", speculativeFails},
	{"8.04 a speculative task that times out comes again", speculativeTimesOut},
	{"8.05 the last page ends with the made-up events", provisionalPages},
	{"8.05 the events of a speculative task, for workers and for people", provisionalSpeculative},
	{"8.06 a sticky worker gets what is new", stickyPartial},
	{"8.06 a long task history goes on in pages", taskHistoryPages},
}

func normalTask(e *env) {
	run := e.start()
	got := e.poll()
	require.EqualValues(e, 3, got.StartedEventId)
	require.EqualValues(e, 1, got.Attempt)
	require.Zero(e, got.PreviousStartedEventId)
	require.Equal(e, "Started TaskScheduled TaskStarted", shorts(got.History.Events))
	e.signal("s") // waits for the task's end
	e.complete(got)
	e.wantHistory(run, firstTask, "Signaled TaskScheduled")
	started := e.event(run, "TaskStarted").GetWorkflowTaskStartedEventAttributes()
	require.EqualValues(e, 2, started.ScheduledEventId)
	require.Equal(e, "worker", started.Identity)
	next := e.poll()
	require.EqualValues(e, 7, next.StartedEventId)
	require.EqualValues(e, 3, next.PreviousStartedEventId)
	require.EqualValues(e, 7, next.History.Events[len(next.History.Events)-1].EventId, "the history ends with the started event")
}

func transientTask(e *env) {
	run := e.start()
	e.failTask(e.poll())
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed")
	second := e.poll()
	require.EqualValues(e, 2, second.Attempt)
	require.Equal(e, "Started TaskScheduled TaskStarted TaskFailed TaskScheduled TaskStarted", shorts(second.History.Events))
	require.EqualValues(e, 6, second.StartedEventId)
	e.failTask(second)
	third := e.poll()
	require.EqualValues(e, 3, third.Attempt)
	require.EqualValues(e, 6, third.StartedEventId, "the ids are taken again")
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed")
	e.complete(third)
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed TaskScheduled TaskStarted TaskCompleted")
	require.EqualValues(e, 3, e.event(run, "TaskScheduled").GetWorkflowTaskScheduledEventAttributes().Attempt)
}

func transientBecomesNormal(e *env) {
	run := e.start()
	e.failTask(e.poll())
	e.signal("news")
	got := e.poll()
	require.EqualValues(e, 1, got.Attempt)
	e.complete(got)
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Signaled TaskScheduled TaskStarted TaskCompleted")
}

func speculativeDropped(e *env) {
	run := e.idle()
	before := e.stored(run)
	update := e.update("u")
	got := e.poll()
	require.Len(e, got.Messages, 1)
	require.Equal(e, "u", got.Messages[0].ProtocolInstanceId)
	require.Equal(e, firstTask+" TaskScheduled TaskStarted", shorts(got.History.Events))
	done := e.reply(got, new(reply).reject(got.Messages[0]))
	require.EqualValues(e, 3, done.ResetHistoryEventId)
	require.Equal(e, "Rejected happened", update.result().GetOutcome().GetFailure().GetMessage())
	require.Len(e, e.stored(run), len(before))
}

func speculativeWithCommand(e *env) {
	run := e.idle()
	update := e.update("u")
	got := e.poll()
	done := e.reply(got, new(reply).reject(got.Messages[0]).then(marker("m")))
	require.Zero(e, done.ResetHistoryEventId)
	require.NotNil(e, update.result().GetOutcome().GetFailure())
	e.wantHistory(run, firstTask, "TaskScheduled TaskStarted TaskCompleted MarkerRecorded")
}

func speculativeAccepted(e *env) {
	run := e.idle()
	update := e.update("u")
	got := e.poll()
	require.Zero(e, e.reply(got, new(reply).accept(got.Messages[0]).finish("u", "yes")).ResetHistoryEventId)
	require.Equal(e, "yes", text(update.result().GetOutcome().GetSuccess()))
	e.wantHistory(run, firstTask, "TaskScheduled TaskStarted TaskCompleted UpdateAccepted UpdateCompleted")
}

func speculativeHeartbeat(e *env) {
	run := e.idle()
	update := e.update("u")
	got := e.poll()
	done := e.completeWith(got, func(r *completeRequest) { r.ForceCreateNewWorkflowTask, r.ReturnNewWorkflowTask = true, true })
	require.Zero(e, done.ResetHistoryEventId)
	require.NotNil(e, done.WorkflowTask)
	require.True(e, update.waiting(), "a heartbeat does not reject updates")
	e.reply(done.WorkflowTask, new(reply).reject(got.Messages[0]))
	require.NotNil(e, update.result().GetOutcome().GetFailure())
	e.wantHistory(run, firstTask, "TaskScheduled TaskStarted TaskCompleted TaskScheduled TaskStarted TaskCompleted")
}

func speculativeManyEvents(e *env) {
	run := e.start()
	e.complete(e.poll(), markers(11)...)
	update := e.update("u")
	got := e.poll()
	require.Zero(e, e.reply(got, new(reply).reject(got.Messages[0])).ResetHistoryEventId)
	require.NotNil(e, update.result().GetOutcome().GetFailure())
	require.Equal(e, 2, e.count(run, "TaskCompleted"))
}

func speculativeOldWorker(e *env) {
	run := e.start()
	e.complete(e.poll(), marker("m"))
	update := e.update("u")
	got := e.poll()
	done := e.reply(got, new(reply).reject(got.Messages[0]), func(r *completeRequest) { r.Capabilities = nil })
	require.Zero(e, done.ResetHistoryEventId)
	require.NotNil(e, update.result().GetOutcome().GetFailure())
	require.Equal(e, 2, e.count(run, "TaskCompleted"))
}

func speculativeWriteBetween(e *env) {
	run := e.idle()
	update := e.update("u")
	got := e.poll()
	e.signal("between")
	e.wantHistory(run, firstTask, "TaskScheduled TaskStarted")
	require.Zero(e, e.reply(got, new(reply).reject(got.Messages[0])).ResetHistoryEventId)
	require.NotNil(e, update.result().GetOutcome().GetFailure())
	e.wantHistory(run, firstTask, "TaskScheduled TaskStarted TaskCompleted Signaled TaskScheduled")
}

func speculativeFails(e *env) {
	e.start()
	e.completeWith(e.poll(), e.stick)
	awake := e.stickyWorker()
	update := e.update("u")
	got := awake.result()
	require.NotEmpty(e, got.TaskToken)
	require.Equal(e, "TaskCompleted TaskScheduled TaskStarted", shorts(got.History.Events), "the worker knows the rest")
	e.failTask(got)
	again := e.poll()
	require.EqualValues(e, 1, again.History.Events[0].EventId, "the whole history comes again")
	require.Len(e, again.Messages, 1)
	e.reply(again, new(reply).accept(again.Messages[0]).finish("u", "yes"))
	require.Equal(e, "yes", text(update.result().GetOutcome().GetSuccess()))
}

func speculativeTimesOut(e *env) {
	e.idle(func(r *startRequest) { r.WorkflowTaskTimeout = seconds(5) })
	update := e.update("u")
	e.poll() // and forget it
	again := e.poll()
	require.Len(e, again.Messages, 1)
	e.reply(again, new(reply).accept(again.Messages[0]).finish("u", "yes"))
	require.Equal(e, "yes", text(update.result().GetOutcome().GetSuccess()))
}

func provisionalPages(e *env) {
	run := e.start()
	e.failTask(e.poll())
	got := e.poll()
	require.Equal(e, "Started TaskScheduled TaskStarted TaskFailed TaskScheduled TaskStarted", shorts(e.events(run)))
	for _, client := range []string{"temporal-cli", "temporal-ui"} {
		require.Equal(e, "Started TaskScheduled TaskStarted TaskFailed", shorts(e.eventsAs(client, run)))
	}
	var all []string
	req := &historyRequest{Execution: execution(e.id, run), MaximumPageSize: 2}
	for {
		page := do(e, e.api.GetWorkflowExecutionHistory, req)
		all = append(all, shorts(page.History.Events))
		if req.NextPageToken = page.NextPageToken; len(req.NextPageToken) == 0 {
			break
		}
	}
	require.Contains(e, all[len(all)-1], "TaskScheduled TaskStarted", "they are on the last page only")
	events := e.events(run)
	require.EqualValues(e, got.StartedEventId, events[len(events)-1].EventId)
}

func stickyPartial(e *env) {
	run := e.start()
	e.completeWith(e.poll(), e.stick)
	awake := e.stickyWorker()
	e.signal("s")
	got := awake.result()
	require.EqualValues(e, got.PreviousStartedEventId+1, got.History.Events[0].EventId)
	require.Equal(e, "TaskCompleted Signaled TaskScheduled TaskStarted", shorts(got.History.Events))
	whole := e.events(run) // a worker that has lost its cache
	require.EqualValues(e, 1, whole[0].EventId)
	require.EqualValues(e, got.StartedEventId, whole[len(whole)-1].EventId)
}

func taskHistoryPages(e *env) {
	run := e.start()
	e.complete(e.poll(), markers(600)...)
	e.signal("s")
	got := e.poll()
	last := got.History.Events[len(got.History.Events)-1].EventId
	token := got.NextPageToken
	require.NotEmpty(e, token)
	for len(token) > 0 {
		page := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, run), NextPageToken: token})
		for _, event := range page.History.Events {
			require.EqualValues(e, last+1, event.EventId)
			last = event.EventId
		}
		token = page.NextPageToken
	}
	require.Equal(e, got.StartedEventId, last)
}

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

func provisionalSpeculative(e *env) {
	run := e.idle()
	update := e.update("u")
	got := e.poll()
	seen := e.events(run)
	require.Equal(e, firstTask+" TaskScheduled TaskStarted", shorts(seen))
	require.EqualValues(e, got.StartedEventId, seen[len(seen)-1].EventId)
	require.Equal(e, firstTask, shorts(e.eventsAs("temporal-ui", run)))
	e.reply(got, new(reply).reject(got.Messages[0]))
	require.NotNil(e, update.result().GetOutcome().GetFailure())
	require.Equal(e, firstTask, shorts(e.events(run)))
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
