package contract

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/test/harness"
)

// survivors are what must be true after kill -9 of the server: each prepares something and returns what to check afterwards.
var survivors = []struct {
	name    string
	prepare func(*env) (check func())
}{
	{"8.40 an accepted update survives, and its outcome is found", acceptedUpdateSurvives},
	{"8.40 an admitted update is lost, and sent again", admittedUpdateIsSentAgain},
	{"8.04 a lost speculative task comes again", speculativeTaskComesAgain},
	{"8.01 a task whose start was lost comes again", startedTaskComesAgain},
	{"8.20 repeated requests are still known", requestsStillKnown},
	{"8.30 a durable start of an activity is not repeated", startedActivityIsNotRepeated},
}

func TestCrash(t *testing.T) {
	t.Parallel()
	for _, f := range harness.Flavours {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s := connect(t, f.Start(t))
			var checks []func()
			for _, p := range survivors {
				checks = append(checks, p.prepare(s.env(t)))
			}
			s.server.Crash()
			for i, p := range survivors {
				t.Log(p.name)
				checks[i]()
			}
		})
	}
}

func acceptedUpdateSurvives(e *env) func() {
	e.idle()
	update := e.update("u", untilAccepted)
	got := e.poll()
	e.reply(got, new(reply).accept(got.Messages[0]))
	ref := update.result().UpdateRef
	return func() {
		require.Equal(e, stageAccepted, do(e, e.api.PollWorkflowExecutionUpdate, newPollUpdate(ref, stageAccepted)).Stage)
		e.signal("go on")
		e.reply(e.poll(), new(reply).finish("u", "after the crash"))
		require.Equal(e, "after the crash", text(do(e, e.api.PollWorkflowExecutionUpdate, newPollUpdate(ref, stageCompleted)).GetOutcome().GetSuccess()))
	}
}

func admittedUpdateIsSentAgain(e *env) func() {
	run := e.idle()
	update := e.update("u")
	require.Len(e, e.poll().Messages, 1)
	return func() {
		require.Error(e, update.failure(), "its caller is told")
		e.wantHistory(run, firstTask)
		update = e.update("u")
		got := e.poll()
		e.reply(got, new(reply).accept(got.Messages[0]).finish("u", "yes"))
		require.Equal(e, "yes", text(update.result().GetOutcome().GetSuccess()))
	}
}

func speculativeTaskComesAgain(e *env) func() {
	e.idle()
	update := e.update("u")
	lost := e.poll()
	return func() {
		require.Error(e, update.failure())
		refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskCompleted, completion(lost, nil))
		e.signal("wake")
		e.complete(e.poll())
	}
}

func startedTaskComesAgain(e *env) func() {
	run := e.start()
	lost := e.poll()
	return func() {
		// Either the start was durable, and the token is good or its task times out; or the task comes again.
		if _, err := try(e, callMax, e.api.RespondWorkflowTaskCompleted, completion(lost, nil, marker("m"))); err != nil {
			asError[*serviceerror.NotFound](e, err)
			e.complete(e.poll(), marker("m"))
		}
		e.wantHistory(run, firstTask, "MarkerRecorded")
	}
}

func requestsStillKnown(e *env) func() {
	start := e.newStart(func(r *startRequest) { r.RequestId = "once" })
	run := do(e, e.api.StartWorkflowExecution, start).RunId
	e.complete(e.poll())
	signal := e.newSignal("s", func(r *signalRequest) { r.RequestId = "once more" })
	do(e, e.api.SignalWorkflowExecution, signal)
	return func() {
		again := do(e, e.api.StartWorkflowExecution, start)
		require.True(e, again.Started)
		require.Equal(e, run, again.RunId)
		do(e, e.api.SignalWorkflowExecution, signal)
		require.Equal(e, 1, e.count(run, "Signaled"))
	}
}

func startedActivityIsNotRepeated(e *env) func() {
	run, a := e.runningActivity()
	return func() {
		e.pollNoActivity()
		e.completeActivity(a, "from before the crash")
		require.Equal(e, 1, e.count(run, "ActivityCompleted"))
	}
}
