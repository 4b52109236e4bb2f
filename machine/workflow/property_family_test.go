package workflow

import (
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	updatepb "go.temporal.io/api/update/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// family is a run under random inputs that has updates, children and requests to other workflows, and that is reset.
type family struct {
	*model
	// waiting are the callers of updates that have had no final answer; accepted is what the run has promised.
	waiting, accepted map[string]bool
}

func TestRandomFamilies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &family{model: &model{now: scriptEpoch}, waiting: map[string]bool{}, accepted: map[string]bool{}}
		f.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"poll":         f.poll,
			"poll again":   f.poll,
			"answer":       f.answer,
			"answer again": f.answer,
			"fail":         func(t *rapid.T) { f.watch(t, func() { f.fail(t) }) },
			"update":       f.update,
			"signal":       f.signal,
			"cancel":       f.cancel,
			"child":        f.child,
			"external":     f.external,
			"effect fails": f.effectFails,
			"options":      f.options,
			"fire":         func(t *rapid.T) { f.watch(t, func() { f.fire(t) }) },
			"wait":         func(t *rapid.T) { f.now = f.now.Add(someTime(t)) },
			"activity":     f.pollActivity,
			"pause":        f.pause,
			"ack":          f.ack,
			"crash":        f.crashed,
			"terminate":    func(t *rapid.T) { f.watch(t, func() { f.terminate(t) }) },
			"reset":        f.reset,
		})
	})
}

// change applies an input twice: a dropped transition must leave the volatile state alone as well. The updates that it has
// answered are checked off.
func (f *family) change(t *rapid.T, input func(tx *Tx) error) bool {
	volatile := f.state.Volatile
	task, updates := proto.CloneOf(volatile.Task), maps.Clone(volatile.Updates)
	dropped := Begin(f.state, f.now, f.env())
	if input(dropped) == nil {
		_, err := dropped.Finish()
		require.NoError(t, err)
	}
	require.True(t, proto.Equal(task, f.state.Volatile.Task), "a dropped transition has changed the volatile task")
	require.Equal(t, updates, f.state.Volatile.Updates, "a dropped transition has changed volatile updates")
	done := false
	f.watch(t, func() { done = f.do(t, input) })
	return done
}

// watch looks at the answers to updates of whatever happens meanwhile.
func (f *family) watch(t *rapid.T, happens func()) {
	f.answers = nil
	happens()
	for _, a := range f.answers {
		require.True(t, f.waiting[a.ID] || f.accepted[a.ID], "update %s is answered, but nobody waits", a.ID)
		if a.Err == nil && a.Stage == enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED {
			f.accepted[a.ID] = true
			continue
		}
		require.True(t, a.Err != nil || a.Outcome != nil, "update %s has been completed without an outcome", a.ID)
		delete(f.waiting, a.ID)
		if u := f.state.Updates[a.ID]; u == nil || u.AcceptedEventId == 0 {
			delete(f.accepted, a.ID) // it was aborted or, admitted by a reset, rejected
		}
	}
	f.checkUpdates(t)
}

func (f *family) checkUpdates(t *rapid.T) {
	for id := range f.waiting {
		_, known := f.state.UpdateStatus(id)
		require.True(t, known, "somebody waits for update %s, which the run does not know", id)
	}
	for id := range f.accepted {
		status, known := f.state.UpdateStatus(id)
		require.True(t, known && status.Stage >= enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED, "the accepted update %s is lost", id)
	}
	sent, err := f.state.UpdateMessages()
	require.NoError(t, err)
	require.LessOrEqual(t, len(sent), updatesInFlightMax)
	task := f.state.Task()
	unsent := 0
	for _, u := range f.state.Volatile.Updates {
		if u.sentIn == 0 {
			unsent++
		}
	}
	if unsent > 0 && task == nil && f.state.Core.FirstTaskDue == nil {
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED, f.state.Core.Status, "updates wait, but no task will take them")
	}
}

func (f *family) update(t *rapid.T) {
	id := rapid.SampledFrom([]string{"u1", "u2", "u3", "u4", "u5", "u6"}).Draw(t, "update")
	req := &updatepb.Request{Meta: &updatepb.Meta{UpdateId: id}, Input: &updatepb.Input{Name: "change"}}
	var status UpdateStatus
	if f.change(t, func(tx *Tx) (err error) { status, err = tx.AdmitUpdate(req); return err }) &&
		status.Stage != enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED {
		f.waiting[id] = true
	}
}

// answer completes the workflow task with some answers to updates, right and wrong ones, and some commands.
func (f *family) answer(t *rapid.T) {
	req := &workflowservice.RespondWorkflowTaskCompletedRequest{
		ReturnNewWorkflowTask:      rapid.Bool().Draw(t, "new"),
		ForceCreateNewWorkflowTask: rapid.IntRange(0, 9).Draw(t, "force") == 0,
		Capabilities:               &workflowservice.RespondWorkflowTaskCompletedRequest_Capabilities{DiscardSpeculativeWorkflowTaskWithEvents: rapid.Bool().Draw(t, "discard")},
	}
	say := func(id, verb string, body proto.Message, ordered bool) {
		packed, err := anypb.New(body)
		require.NoError(t, err)
		req.Messages = append(req.Messages, &protocolpb.Message{Id: id + verb, ProtocolInstanceId: id, Body: packed})
		if ordered {
			req.Commands = append(req.Commands, &commandpb.Command{
				CommandType: enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE,
				Attributes:  &commandpb.Command_ProtocolMessageCommandAttributes{ProtocolMessageCommandAttributes: &commandpb.ProtocolMessageCommandAttributes{MessageId: id + verb}},
			})
		}
	}
	for _, id := range f.openUpdates(t) {
		how := rapid.SampledFrom([]string{"accept", "complete", "accept and complete", "reject", "ignore"}).Draw(t, "how")
		ordered := rapid.Bool().Draw(t, "ordered")
		if how == "accept" || how == "accept and complete" {
			say(id, "accept", &updatepb.Acceptance{}, ordered)
		}
		if how == "complete" || how == "accept and complete" {
			say(id, "complete", &updatepb.Response{Outcome: &updatepb.Outcome{Value: &updatepb.Outcome_Success{}}}, ordered)
		}
		if how == "reject" {
			say(id, "reject", &updatepb.Rejection{Failure: applicationFailure(input{}, "No")}, false)
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "commands") {
		req.Commands = append(req.Commands, f.familyCommand(t))
	}
	switch rapid.IntRange(0, 29).Draw(t, "close") {
	case 0:
		req.Commands = append(req.Commands, doneCommand(parseInput("done")))
	case 1:
		req.Commands = append(req.Commands, continueCommand(parseInput("continue")))
	}
	token := draw(t, f.tasks)
	f.change(t, func(tx *Tx) error { _, err := tx.CompleteTask(token, req); return err })
	if task := f.state.Task(); task != nil && task.StartedEventId != 0 {
		f.tasks = append(f.tasks, tokenOf(task.ScheduledEventId, task.StartedEventId, task.Attempt, task.StartId))
	}
}

func (f *family) openUpdates(*rapid.T) []string {
	ids := updatesInOrder(f.state.Volatile.Updates)
	for _, id := range sortedKeys(f.state.Updates) {
		if f.state.Updates[id].CompletedEventId == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

func (f *family) familyCommand(t *rapid.T) *commandpb.Command {
	id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
	line := rapid.SampledFrom([]string{
		"child " + id, "child " + id + " policy=ABANDON", "child " + id + " policy=REQUEST_CANCEL",
		"signal-external " + id + " s", "cancel-external " + id, "timer " + id + " 2s", "activity " + id, "marker m",
	}).Draw(t, "command")
	in := parseInput(line)
	return scriptCommands[in.verb](in)
}

func (f *family) child(t *rapid.T) {
	if len(f.state.Children) == 0 {
		t.Skip()
	}
	id := rapid.SampledFrom(sortedKeys(f.state.Children)).Draw(t, "child")
	c := f.state.Children[id]
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		f.change(t, func(tx *Tx) error { tx.ChildStarted(id, fmt.Sprint("run-of-", id), nil); return nil })
	case 1:
		f.change(t, func(tx *Tx) error {
			tx.ChildStartFailed(id, enumspb.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS, "")
			return nil
		})
	case 2:
		f.change(t, func(tx *Tx) error { tx.ChildReleased(id); return nil })
	case 3:
		e := &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes{}}
		f.change(t, func(tx *Tx) error {
			return tx.ChildClosed(ChildClose{InitiatedID: id, FirstRunID: fmt.Sprint("run-of-", id), Event: e,
				Execution: &commonpb.WorkflowExecution{WorkflowId: c.WorkflowId, RunId: "last"}})
		})
	}
}

func (f *family) external(t *rapid.T) {
	if len(f.state.Externals) == 0 {
		t.Skip()
	}
	id := rapid.SampledFrom(sortedKeys(f.state.Externals)).Draw(t, "external")
	if rapid.Bool().Draw(t, "done") {
		f.change(t, func(tx *Tx) error { tx.ExternalDone(id); return nil })
		return
	}
	f.change(t, func(tx *Tx) error {
		tx.ExternalFailed(id, enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND)
		return nil
	})
}

// effectFails puts an effect off; it is then pending no more, but owed, and has a deadline.
func (f *family) effectFails(t *rapid.T) {
	pending := f.state.PendingEffects()
	if len(pending) == 0 {
		t.Skip()
	}
	e := rapid.SampledFrom(pending).Draw(t, "effect")
	f.change(t, func(tx *Tx) error { tx.EffectFailed(e.EffectID(), 0, ""); return nil })
	switch e.(type) {
	case StartChild, ReleaseChild, SendExternal, NotifyParent, CloseChild:
		require.True(t, f.state.OwesEffects())
		require.False(t, f.state.NextDeadline().IsZero())
		for _, other := range f.state.PendingEffects() {
			require.NotEqual(t, e.EffectID(), other.EffectID())
		}
	}
}

func (f *family) options(t *rapid.T) {
	if rapid.Bool().Draw(t, "attach") {
		id := f.newID()
		f.change(t, func(tx *Tx) error { return tx.Attach(Attachment{RequestID: id}) })
		return
	}
	o := &workflowpb.WorkflowExecutionOptions{Priority: &commonpb.Priority{PriorityKey: int32(rapid.IntRange(0, 5).Draw(t, "priority"))}}
	f.change(t, func(tx *Tx) error { _, err := tx.UpdateOptions(o, []string{"priority"}, ""); return err })
}

// crashed loses what is volatile: whoever waits for an update that has not been accepted must ask again.
func (f *family) crashed(t *rapid.T) {
	f.crash(t)
	for id := range f.waiting {
		if _, known := f.state.UpdateStatus(id); !known {
			delete(f.waiting, id)
		}
	}
	f.checkUpdates(t)
}

// reset goes on with the run that a reset makes, to the end of any workflow task of the history. Rows without events may have
// been deleted.
func (f *family) reset(t *rapid.T) {
	var points []int64
	for _, e := range f.events {
		if endsTask(e.EventType) {
			points = append(points, e.EventId)
		}
	}
	if len(points) == 0 || rapid.IntRange(0, 2).Draw(t, "reset") > 0 {
		t.Skip()
	}
	finish := rapid.SampledFrom(points).Draw(t, "point")
	rows, base := rowsBefore(t, f.rows, finish, rapid.Bool().Draw(t, "lossy"))
	require.NotNil(t, base)
	copied := base.Core.NextEventId - 1
	runID, between, events := f.newID(), f.events[copied:finish-1], f.events[:copied:copied]
	if f.state.Open() {
		f.change(t, func(tx *Tx) error { return tx.CloseForReset(runID, base, "") })
	} else {
		f.change(t, func(tx *Tx) error { tx.NoteReset(runID); return nil })
	}
	tx, err := Reset(Resetting{NewRunID: runID, RequestID: runID, Between: between, Later: f.events[finish-1:], Base: f.state}, base, f.now, f.env())
	require.NoError(t, err, "event %d cannot be reset to", finish)
	r, err := tx.Finish()
	require.NoError(t, err)
	next := tx.Apply()
	f.state, f.rows, f.events, f.tasks = next, append(rows, r.Parts), append(events, r.Events...), nil
	checkInvariants(t, f.state, f.rows, f.events)
	f.checkSignals(t)
	f.waiting, f.accepted = map[string]bool{}, map[string]bool{}
	for id := range next.Updates {
		f.accepted[id] = true
	}
	require.True(t, r.New && next.Open() && next.Task() != nil)
}

func tokenOf(scheduled, started int64, attempt int32, startID string) *tokenpb.Task {
	return &tokenpb.Task{ScheduledEventId: scheduled, StartedEventId: started, Attempt: attempt, StartId: startID}
}
