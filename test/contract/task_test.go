package contract

import (
	"github.com/stretchr/testify/require"
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
