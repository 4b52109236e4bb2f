package workflow

import (
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// A reset makes a run that has the history of another one, the base, up to a workflow task, and lets that task end differently:
// as failed by the reset. What came to the base from outside afterwards is applied again (reset_reapply.go).
//
// The new run's rows are the base's up to the one that holds the task's end, copied with their parts; their fold is the state
// that the reset begins with. In the row of a task's end nothing but that task's SCHEDULED and STARTED precede it. They, the
// failure and what is re-applied are the first transition of the new run's own. Up to three transitions are committed together,
// in this order: the run that is open is terminated ([Tx.CloseForReset]), which may flush events that are to be re-applied; the
// base, if it is another one, notes the new run ([Tx.NoteReset]); the new run begins ([Reset]).

const (
	resetIdentity = "history-resetter"
	// unstartedID is the request id in the start of a task that no worker had, but that the reset must fail.
	unstartedID = "emptyUuid"
)

// ErrResetPoint refuses an event that is not the end of a workflow task: it must end one (completed, failed, timed out), or be
// that task's start. The text is the recorded one, which speaks of the event before.
func ErrResetPoint(finishEventID int64) error {
	return serviceerror.NewInvalidArgumentf(
		"StateRebuilder unable to Rebuild mutable state to event ID: %d, version: 0, this event must be at the boundary", finishEventID-1)
}

// Resetting describes a reset.
type Resetting struct {
	NewRunID string
	// RequestID is the request that the new run is known by.
	RequestID string
	Reason    string
	// Between are the events ahead of the reset point in the row that holds it: of the task's SCHEDULED and STARTED those that
	// no earlier row has.
	Between []*historypb.HistoryEvent
	// Later are the base's events from the reset point on, and those of the runs after it in the chain, in order, with those by
	// which the open run is closed for the reset: what may be applied again; and, of the base, the initiations of children.
	Later []*historypb.HistoryEvent
	// Base is the base as it is now, Followers are the runs after it in the chain: the new run must know the requests that they
	// have applied. Without Base, the fold stands for it.
	Base      *State
	Followers []*State
	// Exclude are the kinds of events not to apply again.
	Exclude []enumspb.ResetReapplyExcludeType
}

// CheckResetPoint refuses an event id that cannot be a reset point of the run whatever its history: it lies outside.
func (s *State) CheckResetPoint(finishEventID int64) error {
	if finishEventID <= firstEventID || finishEventID >= s.Core.NextEventId {
		return serviceerror.NewInvalidArgument("Workflow task finish ID must be > 1 && <= workflow last event ID.")
	}
	return nil
}

// StartedInMemory tells whether an event is the start of the running workflow task and not durable yet. That of a transient or
// speculative task is no event before the task has succeeded.
func (s *State) StartedInMemory(eventID int64) bool {
	task := s.Volatile.Task
	return task != nil && task.StartedEventId != 0 && task.StartedEventId == eventID && !task.Transient && !task.Speculative
}

// ResetExclusions are the kinds that are not applied again, by a request's reapply type (deprecated) and its exclusions.
func ResetExclusions(reapply enumspb.ResetReapplyType, exclude []enumspb.ResetReapplyExcludeType) []enumspb.ResetReapplyExcludeType {
	switch reapply { // the others exclude nothing by themselves
	case enumspb.RESET_REAPPLY_TYPE_NONE:
		return []enumspb.ResetReapplyExcludeType{enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE,
			enumspb.RESET_REAPPLY_EXCLUDE_TYPE_NEXUS, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_CANCEL_REQUEST}
	case enumspb.RESET_REAPPLY_TYPE_SIGNAL:
		return append([]enumspb.ResetReapplyExcludeType{enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE}, exclude...)
	}
	return exclude
}

// Reset makes the first transition of the new run. Fold is the state after the rows ahead of the one that holds the reset point;
// it is the new run's own from now on.
func Reset(in Resetting, fold *State, now time.Time, env Env) (*Tx, error) {
	if in.Base == nil {
		in.Base = fold
	}
	t := Begin(fold, now, env)
	t.newRun, t.visibility = true, true
	waiting := t.takeBuffered()
	if err := t.restoreTask(in.Between); err != nil {
		return nil, err
	}
	t.renewCore(in)
	t.renewStart(in)
	t.failReset(in)
	t.renewPending()
	t.keepBuffered(waiting)
	t.replaceChildren(in.Later)
	t.reapply(in.Later, in.Exclude)
	for _, s := range append([]*State{in.Base}, in.Followers...) {
		t.inheritRequests(s.Requests, s.Start)
	}
	t.wake = true
	return t, nil
}

// restoreTask brings the history to the point where the task has been started.
func (t *Tx) restoreTask(between []*historypb.HistoryEvent) error {
	refused := ErrResetPoint(t.core.NextEventId + int64(len(between)))
	task := t.core.Task
	if task != nil && (task.Transient || task.Speculative) {
		task = nil // its events are not in the history
	}
	for _, e := range between {
		scheduled, started := e.GetWorkflowTaskScheduledEventAttributes(), e.GetWorkflowTaskStartedEventAttributes()
		switch {
		case e.EventId != t.core.NextEventId:
			return refused
		case scheduled != nil && task == nil:
			task = &statepb.WorkflowTask{ScheduledEventId: e.EventId, ScheduledTime: e.EventTime, Attempt: scheduled.Attempt,
				Queue: scheduled.TaskQueue.GetName(), Timeout: scheduled.StartToCloseTimeout}
		case started != nil && task != nil && task.StartedEventId == 0:
			task.StartedEventId = e.EventId
		default:
			return refused
		}
		t.add(proto.CloneOf(e))
	}
	if task == nil {
		return refused
	}
	if task.StartedEventId == 0 {
		task.StartedTime, task.Identity, task.StartId = t.timestamp(), serverIdentity, unstartedID
		task.StartedEventId = t.core.NextEventId
		task.HistorySizeBytes = t.core.HistorySizeBytes
		t.add(t.startedEvent(task))
	}
	t.core.Task = task
	return nil
}

// renewStart gives the new run its own identity and time. It keeps its place in the chain; its timeouts begin anew, or a run
// that had timed out could not be reset.
func (t *Tx) renewStart(in Resetting) {
	p := proto.CloneOf(t.start)
	p.RunId, p.RequestId = in.NewRunID, in.RequestID
	p.StartTime, p.ExecutionTime = t.timestamp(), t.timestamp()
	p.FirstTaskBackoff, p.ReplacedChildren = nil, nil
	p.RunDeadline, p.ExecutionDeadline = nil, nil
	var d deadline
	if x := p.ExecutionTimeout.AsDuration(); x > 0 {
		p.ExecutionDeadline = timestamppb.New(t.now.Add(x))
		d.stamp(p.ExecutionDeadline)
	}
	if run := p.RunTimeout.AsDuration(); run > 0 {
		d.time(t.now.Add(run))
		p.RunDeadline = timestamppb.New(d.at)
	}
	t.start = p
}

// renewCore takes back what does not hold for a run that has just begun. The rows of a base that is itself the work of a reset
// begin with the run id of an older one.
func (t *Tx) renewCore(in Resetting) {
	c := t.core
	c.Status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	c.CloseTime, c.CloseEventId, c.NewRunId, c.ResetRun = nil, 0, "", nil
	c.FirstTaskDue, c.FirstTaskHeld = nil, false
	c.ClosingGuard, c.Deleting = false, false
	c.LastResetTime = t.timestamp()
	t.clearSticky()
	t.clearProblem()
	if c.Pause != nil {
		c.Pause = nil
		t.notePause()
	}
	points := &workflowpb.ResetPoints{}
	for _, p := range c.ResetPoints.GetPoints() {
		p = proto.CloneOf(p)
		if p.RunId == t.start.RunId || p.RunId == in.Base.Start.RunId {
			p.RunId = in.NewRunID
		}
		points.Points = append(points.Points, p)
	}
	if len(points.Points) > 0 {
		c.ResetPoints = points
	}
}

// failReset ends the task.
func (t *Tx) failReset(in Resetting) {
	task := t.core.Task
	t.core.Task = nil
	t.settled(task.EffectId)
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
	e.Attributes = &historypb.HistoryEvent_WorkflowTaskFailedEventAttributes{WorkflowTaskFailedEventAttributes: &historypb.WorkflowTaskFailedEventAttributes{
		ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId,
		Cause:    enumspb.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
		Identity: serverIdentity, BaseRunId: in.Base.Start.RunId, NewRunId: in.NewRunID,
		Failure: &failurepb.Failure{Message: in.Reason, FailureInfo: &failurepb.Failure_ResetWorkflowFailureInfo{ResetWorkflowFailureInfo: &failurepb.ResetWorkflowFailureInfo{}}},
	}}
	t.add(e)
}

// renewPending sends out again what is pending. Activities begin with their first attempt: what the base's workers do now is
// answered to the base, and misses. Children and requests to other workflows are known there by the ids of the base, so that
// they are not applied twice.
func (t *Tx) renewPending() {
	for _, id := range t.activityIDs() {
		t.renewActivity(t.editActivity(id))
	}
	for _, id := range t.childIDs() {
		c := t.children.edit(id)
		t.settled(c.EffectId)
		c.EffectId, c.NextTry, c.Tries = t.nextEffect(), nil, 0
		if e := childEffect(c); e != nil {
			t.effects = append(t.effects, e)
		}
	}
	var externals []int64
	for id := range t.externals.all() {
		externals = append(externals, id)
	}
	for _, id := range sorted(externals) {
		x := t.externals.edit(id)
		t.settled(x.EffectId)
		x.EffectId, x.NextTry, x.Tries = t.nextEffect(), nil, 0
		t.effects = append(t.effects, SendExternal{ID: x.EffectId, External: x})
	}
}

func (t *Tx) renewActivity(a *statepb.Activity) {
	a.Attempt, a.Backoff, a.Eager = 1, false, false
	a.ScheduledTime, a.AttemptScheduledTime = t.timestamp(), t.timestamp()
	a.StartedTime, a.StartId, a.Identity = nil, "", ""
	a.LastHeartbeatTime, a.HeartbeatDetails, a.LastFailure = nil, nil, nil
	a.LastStartedTime, a.LastAttemptCompleteTime, a.LastWorkerIdentity = nil, nil, ""
	a.RetryInterval = a.RetryPolicy.GetInitialInterval()
	a.Stamp++
	t.dispatchActivity(a)
}

// replacedChildrenMax bounds the children that a reset run replaces when it starts them again (CONTRACT 5.2).
const replacedChildrenMax = 1000

// replaceChildren notes the children that the base started behind the reset point: this run, when it comes to start them, takes
// their place.
func (t *Tx) replaceChildren(later []*historypb.HistoryEvent) {
	ids := map[string]bool{}
	for _, e := range later {
		if a := e.GetStartChildWorkflowExecutionInitiatedEventAttributes(); a != nil && len(ids) < replacedChildrenMax {
			ids[a.WorkflowId] = true
		}
	}
	t.start.ReplacedChildren = sortedKeys(ids) // renewStart has made the part this run's own
}

// CloseForReset terminates the open run that the reset run replaces. Fold is what the reset begins with: children that it has go
// on with the new run, and so do those that work for the base (they are replaced when they are started again); the others meet
// their parent close policy.
func (t *Tx) CloseForReset(newRunID string, fold *State, reason string) error {
	if !t.open() {
		return errCompleted
	}
	t.NoteReset(newRunID)
	t.inherited = map[string]bool{}
	for _, c := range fold.Children {
		t.inherited[c.CreateRequestId] = true
	}
	if t.start.RunId == fold.Start.RunId {
		for _, c := range t.children.all() {
			t.inherited[c.CreateRequestId] = t.inherited[c.CreateRequestId] || t.released(c)
		}
	}
	t.terminate(Termination{Reason: reason, Identity: resetIdentity})
	return nil
}

// NoteReset notes on the base run which run a reset has made of it.
func (t *Tx) NoteReset(newRunID string) {
	t.core.ResetRun = &commonpb.WorkflowExecution{WorkflowId: t.start.WorkflowId, RunId: newRunID}
	t.write()
}

// ResetRunID is the run that a reset has made of this one; "": none. Answers of children to a run that was closed go there.
func (s *State) ResetRunID() string { return s.Core.ResetRun.GetRunId() }
