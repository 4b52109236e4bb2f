package workflow

import (
	"encoding/json"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// A paused run is open and takes in what comes (signals, timers, results), but nothing of it is given to workers: neither the
// workflow task that waits nor its activities. What is running goes on. Whoever fetches a task that was dispatched before is
// told that it is obsolete; the end of the pause dispatches everything anew.

const (
	attributePause = "TemporalPauseInfo"
	// Entries of the attribute stand for the workflow itself, or for the paused activities of a type.
	pauseInfoWorkflow = "Workflow:"
	pauseInfoReason   = "Reason:"
	pauseInfoActivity = "property:activityType="
)

var (
	errPaused    = serviceerror.NewFailedPrecondition("workflow is already paused.")
	errNotPaused = serviceerror.NewFailedPrecondition("workflow is not paused.")
)

// Pausing is a request to pause a run, or to let it go on.
type Pausing struct{ Identity, Reason, RequestID string }

func (t *Tx) paused() bool { return t.core.Status == enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED }

// Pause stops giving the run's tasks to workers. The same request again changes nothing.
func (t *Tx) Pause(in Pausing) error {
	switch {
	case !t.open():
		return errCompleted
	case in.RequestID != "" && t.requests.has(in.RequestID):
		return nil
	case t.paused():
		return errPaused
	}
	t.core.Status = enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED
	t.core.Pause = &statepb.PauseInfo{Identity: in.Identity, Reason: in.Reason, PauseTime: t.timestamp(), RequestId: in.RequestID}
	t.holdTask()
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED)
	e.WorkerMayIgnore = true
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionPausedEventAttributes{WorkflowExecutionPausedEventAttributes: &historypb.WorkflowExecutionPausedEventAttributes{
		Identity: in.Identity, Reason: in.Reason, RequestId: in.RequestID,
	}}
	t.recordRequest(e, in.RequestID)
	t.notePause()
	return nil
}

// holdTask keeps a waiting workflow task waiting: it must not move to another queue. A speculative one is forgotten, its updates
// wait for the next.
func (t *Tx) holdTask() {
	task := t.task()
	switch {
	case task == nil || task.StartedEventId != 0:
	case task.Speculative:
		t.volatile.Task = nil
	default:
		task = proto.CloneOf(task)
		task.ScheduleToStartDeadline = nil
		t.core.Task = task
	}
}

// Unpause gives the run's tasks to workers again. The same request again changes nothing.
func (t *Tx) Unpause(in Pausing) error {
	switch {
	case !t.open():
		return errCompleted
	case in.RequestID != "" && t.requests.has(in.RequestID):
		return nil
	case !t.paused():
		return errNotPaused
	}
	t.core.Status, t.core.Pause = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UNPAUSED)
	e.WorkerMayIgnore = true
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionUnpausedEventAttributes{WorkflowExecutionUnpausedEventAttributes: &historypb.WorkflowExecutionUnpausedEventAttributes{
		Identity: in.Identity, Reason: in.Reason, RequestId: in.RequestID,
	}}
	t.recordRequest(e, in.RequestID)
	t.notePause()
	t.redispatchTask()
	t.redispatchActivities()
	return nil
}

// redispatchTask puts a waiting workflow task on its queue again.
func (t *Tx) redispatchTask() {
	task := t.core.Task
	if task == nil || task.StartedEventId != 0 || t.volatile.Task != nil {
		return
	}
	t.settled(task.EffectId)
	task.EffectId = t.nextEffect()
	if d := t.core.StickyTimeout.AsDuration(); isSticky(task) && d > 0 {
		task.ScheduleToStartDeadline = timestamppb.New(t.now.Add(d))
	}
	t.effects = append(t.effects, dispatchTask(task, t.core))
}

// notePause shows in the run's search attributes what is paused: the workflow itself, and activities by their types.
func (t *Tx) notePause() {
	var entries []string
	if p := t.core.Pause; p != nil {
		entries = append(entries, pauseInfoWorkflow+t.start.WorkflowId, pauseInfoReason+p.Reason)
	}
	types := map[string]bool{}
	for _, a := range t.activities.all() {
		if a.Paused {
			types[pauseInfoActivity+a.ActivityType.GetName()] = true
		}
	}
	entries = append(entries, sortedKeys(types)...)
	var shown []string
	if p := t.attributes.GetSearchAttributes().GetIndexedFields()[attributePause]; p != nil {
		_ = json.Unmarshal(p.Data, &shown) // an undecodable list is replaced
	}
	if slices.Equal(entries, shown) {
		return
	}
	t.setKeywords(attributePause, entries)
	t.visibility = true
	if len(entries) == 0 {
		// As recorded of the reference, the attribute stays and is null.
		t.attributes.SearchAttributes.IndexedFields[attributePause] = &commonpb.Payload{
			Data: []byte("null"), Metadata: map[string][]byte{"encoding": []byte("json/plain"), "type": []byte("KeywordList")},
		}
	}
}
