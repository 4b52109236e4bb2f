package workflow

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	activitypb "go.temporal.io/api/activity/v1"
	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// checkInvariants asserts what holds of every run at any time: its rows and its history, as written, against its state.
func checkInvariants(t require.TestingT, s *State, rows [][]byte, events []*historypb.HistoryEvent) {
	snapshot, err := s.Snapshot()
	require.NoError(t, err)
	folded, err := Load(nil, rows)
	require.NoError(t, err)
	requireSnapshot(t, snapshot, folded, "the rows do not fold to the state")
	again, err := Load(snapshot, nil)
	require.NoError(t, err)
	requireSnapshot(t, snapshot, again, "the snapshot does not load to the state")
	require.Equal(t, again.Size(), s.Size(), "the size of the state is not what its parts take")
	require.EqualValues(t, len(events)+1, s.Core.NextEventId)
	require.EqualValues(t, len(s.Buffered), s.Core.BufferedCount)
	if task := s.Task(); task == nil || task.StartedEventId == 0 {
		require.Empty(t, s.Buffered, "events wait although no task is running")
	}
	if !s.Open() {
		require.Nil(t, s.Task(), "a closed run has a workflow task")
		require.Empty(t, s.Activities)
		require.Empty(t, s.Timers)
		require.Empty(t, s.Buffered)
		require.Equal(t, s.Core.CloseEventId, s.Core.NextEventId-1, "the closing event is not the last")
	}
	seen := map[int64]bool{}
	for _, e := range s.PendingEffects() {
		require.LessOrEqual(t, e.EffectID(), s.Core.LastEffectId)
		require.False(t, seen[e.EffectID()], "effect %d is pending twice", e.EffectID())
		seen[e.EffectID()] = true
	}
	checkHistory(t, events)
}

func requireSnapshot(t require.TestingT, want []byte, s *State, text string) {
	got, err := s.Snapshot()
	require.NoError(t, err)
	require.Equal(t, want, got, text)
}

// checkHistory asserts what a worker relies on in a history: dense ids; nothing between the start of a workflow task and its
// end; one close for each activity and timer, behind its start.
func checkHistory(t require.TestingT, events []*historypb.HistoryEvent) {
	open := map[int64]string{} // by the event that opened it
	started := map[int64]int64{}
	for i, e := range events {
		require.EqualValues(t, i+1, e.EventId, "event ids are not dense")
		if i > 0 && events[i-1].EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED {
			require.True(t, endsTask(e.EventType), "event %d %s is between the start and the end of a task", e.EventId, e.EventType)
		}
		closes := func(id, startedID int64, what string) {
			require.Equal(t, what, open[id], "event %d %s closes event %d", e.EventId, e.EventType, id)
			require.Equal(t, started[id], startedID, "event %d %s names its start", e.EventId, e.EventType)
			delete(open, id)
		}
		switch a := e.Attributes.(type) {
		case *historypb.HistoryEvent_TimerStartedEventAttributes:
			open[e.EventId] = "timer"
		case *historypb.HistoryEvent_TimerFiredEventAttributes:
			closes(a.TimerFiredEventAttributes.StartedEventId, 0, "timer")
		case *historypb.HistoryEvent_TimerCanceledEventAttributes:
			closes(a.TimerCanceledEventAttributes.StartedEventId, 0, "timer")
		case *historypb.HistoryEvent_ActivityTaskScheduledEventAttributes:
			open[e.EventId] = "activity"
		case *historypb.HistoryEvent_ActivityTaskStartedEventAttributes:
			started[a.ActivityTaskStartedEventAttributes.ScheduledEventId] = e.EventId
		case *historypb.HistoryEvent_ActivityTaskCompletedEventAttributes:
			closes(a.ActivityTaskCompletedEventAttributes.ScheduledEventId, a.ActivityTaskCompletedEventAttributes.StartedEventId, "activity")
		case *historypb.HistoryEvent_ActivityTaskFailedEventAttributes:
			closes(a.ActivityTaskFailedEventAttributes.ScheduledEventId, a.ActivityTaskFailedEventAttributes.StartedEventId, "activity")
		case *historypb.HistoryEvent_ActivityTaskTimedOutEventAttributes:
			closes(a.ActivityTaskTimedOutEventAttributes.ScheduledEventId, a.ActivityTaskTimedOutEventAttributes.StartedEventId, "activity")
		case *historypb.HistoryEvent_ActivityTaskCanceledEventAttributes:
			closes(a.ActivityTaskCanceledEventAttributes.ScheduledEventId, a.ActivityTaskCanceledEventAttributes.StartedEventId, "activity")
		}
	}
}

func endsTask(typ enumspb.EventType) bool {
	return typ == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED || typ == enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED || typ == enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT
}

// model is a run under random inputs.
type model struct {
	now        time.Time
	state      *State
	rows       [][]byte
	events     []*historypb.HistoryEvent
	tasks      []*tokenpb.Task
	activities []*tokenpb.Task
	signals    int // sent
	ids        int // made
	answers    []UpdateOutcome
}

func TestRandomRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{now: scriptEpoch}
		m.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"poll":             m.poll,
			"complete":         m.complete,
			"complete again":   m.complete,
			"fail":             m.fail,
			"signal":           m.signal,
			"cancel":           m.cancel,
			"fire":             m.fire,
			"wait":             func(t *rapid.T) { m.now = m.now.Add(someTime(t)) },
			"poll activity":    m.pollActivity,
			"answer activity":  m.answerActivity,
			"operate activity": m.operateActivity,
			"pause":            m.pause,
			"ack":              m.ack,
			"crash":            m.crash,
			"terminate":        m.terminate,
		})
	})
}

func someTime(t *rapid.T) time.Duration {
	return time.Duration(rapid.IntRange(0, 12_000).Draw(t, "ms")) * time.Millisecond
}

func (m *model) env() Env {
	return Env{NewRunID: "next", Namespace: "default", EagerActivities: true}
}

func (m *model) open(t *rapid.T) {
	req := &workflowservice.StartWorkflowExecutionRequest{WorkflowId: "w"}
	if rapid.Bool().Draw(t, "run timeout") {
		req.WorkflowRunTimeout = durationpb.New(2 * time.Minute)
	}
	if rapid.Bool().Draw(t, "delay") {
		req.WorkflowStartDelay = durationpb.New(5 * time.Second)
	}
	tx := Open(Opening{RunID: "run", RequestID: "start", Attributes: StartAttributes(req)}, m.now, m.env())
	m.commit(t, tx)
}

// do applies an input. It is first applied and dropped, which must leave no trace and give the same bytes.
func (m *model) do(t *rapid.T, input func(tx *Tx) error) bool {
	before, err := m.state.Snapshot()
	require.NoError(t, err)
	dropped := Begin(m.state, m.now, m.env())
	failed := input(dropped) != nil
	var first *Result
	if !failed {
		first, err = dropped.Finish()
		require.NoError(t, err)
	}
	requireSnapshot(t, before, m.state, "a transition that was dropped has left a trace")
	tx := Begin(m.state, m.now, m.env())
	require.Equal(t, failed, input(tx) != nil, "the same input is refused once and taken once")
	if failed {
		return false
	}
	second := m.commit(t, tx)
	require.Equal(t, first.Parts, second.Parts, "the same input gives other parts")
	require.Len(t, second.Events, len(first.Events))
	for i, e := range first.Events {
		require.True(t, proto.Equal(e, second.Events[i]), "the same input gives other events")
	}
	return true
}

func (m *model) commit(t *rapid.T, tx *Tx) *Result {
	r, err := tx.Finish()
	require.NoError(t, err)
	after, err := tx.After().Snapshot()
	require.NoError(t, err)
	m.state = tx.Apply()
	m.answers = append(m.answers, r.Updates...)
	if r.Durable {
		requireSnapshot(t, after, m.state, "After is not what Apply made")
		m.rows = append(m.rows, r.Parts)
		m.events = append(m.events, r.Events...)
	}
	checkInvariants(t, m.state, m.rows, m.events)
	pending := map[int64]bool{}
	for _, e := range m.state.PendingEffects() {
		pending[e.EffectID()] = true
	}
	for _, e := range r.Effects {
		require.True(t, pending[e.EffectID()] || e.EffectID() < 0, "effect %d is not pending", e.EffectID())
	}
	m.checkSignals(t)
	return r
}

// checkSignals: every signal is in the history once, or waits; in the order in which they came.
func (m *model) checkSignals(t *rapid.T) {
	var names []string
	for _, e := range m.events {
		if a := e.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
			names = append(names, a.SignalName)
		}
	}
	for _, n := range sortedKeys(m.state.Buffered) {
		if a := m.state.Buffered[n].Event.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
			names = append(names, a.SignalName)
		}
	}
	for i, name := range names {
		require.Equal(t, fmt.Sprint("signal-", i+1), name)
	}
	require.GreaterOrEqual(t, m.signals, len(names))
}

func (m *model) newID() string {
	m.ids++
	return fmt.Sprint("id-", m.ids)
}

func (m *model) poll(t *rapid.T) {
	task := m.state.Task()
	if task == nil {
		t.Skip()
	}
	in := TaskStart{EffectID: task.EffectId, StartID: m.newID(), Identity: "worker", Sticky: rapid.Bool().Draw(t, "sticky")}
	m.do(t, func(tx *Tx) error {
		started, err := tx.StartTask(in)
		if err == nil {
			m.tasks = append(m.tasks, &tokenpb.Task{
				ScheduledEventId: started.ScheduledEventId, StartedEventId: started.StartedEventId, Attempt: started.Attempt, StartId: started.StartId,
			})
		}
		return err
	})
}

// draw picks one of the tokens, mostly the newest; stale ones must do no harm.
func draw(t *rapid.T, tokens []*tokenpb.Task) *tokenpb.Task {
	if len(tokens) == 0 {
		t.Skip()
	}
	return tokens[len(tokens)-1-rapid.IntRange(0, min(2, len(tokens)-1)).Draw(t, "token")]
}

func (m *model) complete(t *rapid.T) {
	req := &workflowservice.RespondWorkflowTaskCompletedRequest{
		Identity:                   "worker",
		ReturnNewWorkflowTask:      rapid.Bool().Draw(t, "new"),
		ForceCreateNewWorkflowTask: rapid.IntRange(0, 9).Draw(t, "force") == 0,
	}
	for range rapid.IntRange(0, 4).Draw(t, "commands") {
		req.Commands = append(req.Commands, m.command(t))
	}
	if rapid.IntRange(0, 19).Draw(t, "close") == 0 {
		req.Commands = append(req.Commands, doneCommand(parseInput("done")))
	}
	token := draw(t, m.tasks)
	m.do(t, func(tx *Tx) error {
		c, err := tx.CompleteTask(token, req)
		if err == nil {
			for _, id := range c.EagerActivities {
				a, _ := tx.activity(id)
				m.activities = append(m.activities, &tokenpb.Task{ScheduledEventId: id, Attempt: a.Attempt, StartId: a.StartId})
			}
		}
		return err
	})
	if task := m.state.Task(); task != nil && task.StartedEventId != 0 {
		m.tasks = append(m.tasks, &tokenpb.Task{ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId, Attempt: task.Attempt, StartId: task.StartId})
	}
}

func (m *model) command(t *rapid.T) *commandpb.Command {
	id := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "id")
	lines := []string{
		"activity " + id,
		"activity " + id + " run=3s heartbeat=1s attempts=3 interval=1s",
		"activity " + id + " close=4s interval=2s",
		"activity " + id + " eager",
		"timer " + id + " 2s",
		"timer " + id,
		"cancel-timer " + id,
		"marker m",
	}
	for scheduled := range m.state.Activities {
		if m.state.Activities[scheduled].ActivityId == id {
			lines = append(lines, fmt.Sprint("cancel-activity event=", scheduled))
		}
	}
	in := parseInput(rapid.SampledFrom(lines).Draw(t, "command"))
	return scriptCommands[in.verb](in)
}

func (m *model) fail(t *rapid.T) {
	token := draw(t, m.tasks)
	m.do(t, func(tx *Tx) error {
		return tx.FailTask(token, TaskFailure{Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR})
	})
}

func (m *model) signal(t *rapid.T) {
	name := fmt.Sprint("signal-", m.signals+1)
	m.signals++
	if !m.do(t, func(tx *Tx) error { return tx.Signal(Signal{Name: name, RequestID: name}) }) {
		m.signals--
	}
}

func (m *model) cancel(t *rapid.T) {
	m.do(t, func(tx *Tx) error { return tx.RequestCancel(Cancellation{RequestID: "cancel"}) })
}

func (m *model) terminate(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
		t.Skip()
	}
	m.do(t, func(tx *Tx) error { return tx.Terminate(Termination{}) })
}

func (m *model) fire(t *rapid.T) {
	if next := m.state.NextDeadline(); next.After(m.now) && rapid.Bool().Draw(t, "at the deadline") {
		m.now = next
	}
	m.do(t, (*Tx).Fire)
	if next := m.state.NextDeadline(); !next.IsZero() {
		require.True(t, next.After(m.now), "after Fire something is still due: %s at %s", next, m.now)
	}
}

func (m *model) pollActivity(t *rapid.T) {
	for _, id := range sortedKeys(m.state.Activities) {
		a := m.state.Activities[id]
		if isStarted(a) || rapid.IntRange(0, 2).Draw(t, "skip") == 0 {
			continue
		}
		in := ActivityStart{ScheduledEventID: id, EffectID: a.EffectId, Attempt: a.Attempt, Stamp: a.Stamp, StartID: m.newID(), Identity: "worker"}
		m.do(t, func(tx *Tx) error {
			_, err := tx.StartActivity(in)
			if err == nil {
				m.activities = append(m.activities, &tokenpb.Task{ScheduledEventId: id, Attempt: in.Attempt, StartId: in.StartID})
			}
			return err
		})
		return
	}
	t.Skip()
}

func (m *model) answerActivity(t *rapid.T) {
	token := draw(t, m.activities)
	if rapid.IntRange(0, 4).Draw(t, "by id") == 0 {
		token = &tokenpb.Task{ActivityId: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "id")}
	}
	kind := rapid.IntRange(0, 4).Draw(t, "answer")
	m.do(t, func(tx *Tx) error {
		switch kind {
		case 0:
			return tx.CompleteActivity(token, &workflowservice.RespondActivityTaskCompletedRequest{Result: payloads("r")})
		case 1:
			_, err := tx.FailActivity(token, &workflowservice.RespondActivityTaskFailedRequest{Failure: &failurepb.Failure{Message: "m"}})
			return err
		case 2:
			return tx.CancelActivity(token, &workflowservice.RespondActivityTaskCanceledRequest{})
		}
		_, err := tx.HeartbeatActivity(token, payloads("h"))
		return err
	})
}

func (m *model) operateActivity(t *rapid.T) {
	by := ActivitySelector{ID: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "id")}
	if rapid.IntRange(0, 3).Draw(t, "all") == 0 {
		by = ActivitySelector{All: true}
	}
	kind, flag := rapid.IntRange(0, 3).Draw(t, "operation"), rapid.Bool().Draw(t, "flag")
	jitter := time.Duration(rapid.IntRange(0, 1).Draw(t, "jitter")) * time.Second
	m.do(t, func(tx *Tx) error {
		switch kind {
		case 0:
			return tx.PauseActivity(ActivityPause{Activities: by})
		case 1:
			return tx.UnpauseActivity(ActivityUnpause{Activities: by, ResetAttempts: flag, ResetHeartbeat: flag, Jitter: jitter})
		case 2:
			return tx.ResetActivity(ActivityReset{Activities: by, KeepPaused: flag, ResetHeartbeat: flag, RestoreOptions: flag, Jitter: jitter})
		}
		options := &activitypb.ActivityOptions{StartToCloseTimeout: durationpb.New(time.Second)}
		_, err := tx.UpdateActivityOptions(ActivityOptionsUpdate{Activities: by, Options: options, Paths: []string{"start_to_close_timeout"}, Restore: flag})
		return err
	})
}

func (m *model) pause(t *rapid.T) {
	pausing := Pausing{Identity: "client", RequestID: m.newID()}
	m.do(t, func(tx *Tx) error {
		if tx.paused() {
			return tx.Unpause(pausing)
		}
		return tx.Pause(pausing)
	})
}

func (m *model) ack(t *rapid.T) {
	pending := m.state.PendingEffects()
	if len(pending) == 0 {
		t.Skip()
	}
	id := rapid.SampledFrom(pending).Draw(t, "effect").EffectID()
	flush := rapid.Bool().Draw(t, "flush")
	m.do(t, func(tx *Tx) error {
		tx.Acknowledge(id)
		if flush {
			tx.FlushVolatile()
		}
		return nil
	})
	for _, e := range m.state.PendingEffects() {
		require.NotEqual(t, id, e.EffectID())
	}
}

// crash loses all that is volatile.
func (m *model) crash(t *rapid.T) {
	state, err := Load(nil, m.rows)
	require.NoError(t, err)
	m.state = state
	checkInvariants(t, m.state, m.rows, m.events)
}
