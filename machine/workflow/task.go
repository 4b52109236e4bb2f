package workflow

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// A workflow task is normal, transient (attempt above 1: its events are written only if it succeeds) or speculative (made for
// an update on an idle run: it leaves no trace if it changes nothing). CONTRACT 8.1 and 8.2.
//
//	scheduled --start--> started (volatile) --any durable transition--> started (durable)
//	started --complete--> none, or the next one      started --fail, time out--> scheduled, transient
//	scheduled on sticky --schedule-to-start--> scheduled on the normal queue

const (
	firstEventID = 1
	// taskTimeoutDefault and taskTimeoutMax are of the start-to-close timeout of a workflow task (CONTRACT 5.3).
	taskTimeoutDefault = 10 * time.Second
	taskTimeoutMax     = 120 * time.Second
	// From this attempt on the timeout grows by lengthenInitial, doubled each time, up to lengthenMax (CONTRACT 5.3).
	lengthenFromAttempt = 4
	lengthenInitial     = 5 * time.Second
	lengthenMax         = 10 * time.Minute
	// heartbeatMax bounds how long a chain of forced tasks (local activities) may go on without progress.
	heartbeatMax = 30 * time.Minute
	// inlineStartID is the request id of a task that is handed out in the reply to a completion.
	inlineStartID = "request-from-RespondWorkflowTaskCompleted"
)

var errTaskNotFound = serviceerror.NewNotFound("Workflow task not found.")

// scheduling says how a workflow task differs from a plain first attempt.
type scheduling struct {
	attempt     int32
	original    *timestamppb.Timestamp // when the first of a chain of heartbeat tasks was scheduled
	normal      bool                   // not on the sticky queue
	speculative bool
}

// inlineStart asks for the next task in the reply to a completion.
type inlineStart struct{ identity string }

func isSticky(task *statepb.WorkflowTask) bool {
	return task.QueueKind == enumspb.TASK_QUEUE_KIND_STICKY
}

// task is the open workflow task as it stands, durable or not; nil: none. It must not be changed.
func (t *Tx) task() *statepb.WorkflowTask {
	if t.volatile.Task != nil {
		return t.volatile.Task
	}
	return t.core.Task
}

func (t *Tx) taskStarted() bool {
	task := t.task()
	return task != nil && task.StartedEventId != 0
}

// needsTask tells whether a workflow task must be scheduled now. Before the first one is due (start delay, cron, a child that
// waits for its parent) and while the run is paused, events only collect.
func (t *Tx) needsTask() bool {
	return t.wake && t.task() == nil && t.mayHaveTask()
}

func (t *Tx) mayHaveTask() bool {
	return t.core.FirstTaskDue == nil && !t.core.FirstTaskHeld && t.core.Status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
}

// scheduleTask opens a workflow task.
func (t *Tx) scheduleTask(s scheduling) {
	task := &statepb.WorkflowTask{
		Attempt:               max(s.attempt, 1),
		ScheduledTime:         t.timestamp(),
		OriginalScheduledTime: s.original,
		QueueKind:             enumspb.TASK_QUEUE_KIND_NORMAL,
		Queue:                 t.core.TaskQueue,
		Speculative:           s.speculative,
	}
	if task.OriginalScheduledTime == nil {
		task.OriginalScheduledTime = task.ScheduledTime
	}
	task.Timeout = durationpb.New(t.taskTimeout(task.Attempt))
	if t.core.StickyQueue != "" && task.Attempt == 1 && !s.normal {
		task.QueueKind, task.Queue = enumspb.TASK_QUEUE_KIND_STICKY, t.core.StickyQueue
		if d := t.core.StickyTimeout.AsDuration(); d > 0 {
			task.ScheduleToStartDeadline = timestamppb.New(t.now.Add(d))
		}
	}
	task.Transient = task.Attempt > 1
	task.ScheduledEventId = t.core.NextEventId
	if task.Speculative {
		t.volatile.LastDispatch++
		task.EffectId = -t.volatile.LastDispatch
		t.core.Task, t.volatile.Task, t.touched = nil, task, true
	} else {
		task.EffectId = t.nextEffect()
		t.core.Task, t.volatile.Task = task, nil
	}
	if !task.Transient && !task.Speculative {
		t.add(t.scheduledEvent(task))
	}
	t.wake = false
	t.effects = append(t.effects, dispatchTask(task, t.core))
}

// taskTimeout lengthens the timeout of a task that keeps failing, so that a broken worker is asked less and less often.
func (t *Tx) taskTimeout(attempt int32) time.Duration {
	timeout := t.start.TaskTimeout.AsDuration()
	if attempt < lengthenFromAttempt {
		return timeout
	}
	extra := lengthenInitial
	for range attempt - lengthenFromAttempt {
		if extra *= 2; extra >= lengthenMax {
			extra = lengthenMax
			break
		}
	}
	return timeout + extra
}

// toNormalTask turns the transient task that this transition has scheduled into a normal one: events have come with the end of
// the task before, so this is no longer a retry of the same work. One that was waiting already is turned when it is started,
// so that its SCHEDULED stands behind whatever has come until then.
func (t *Tx) toNormalTask(appended bool) {
	task := t.task()
	if !appended || task == nil || !task.Transient || task.StartedEventId != 0 || task.EffectId <= t.state.Core.LastEffectId {
		return
	}
	t.settled(task.EffectId)
	t.core.Task = nil
	t.wake = true // for a normal one, as soon as there may be one
}

// recordSpeculative makes a normal task of a waiting speculative one when events are about to be appended: it cannot be dropped
// without a trace any more, and its SCHEDULED stands before them.
func (t *Tx) recordSpeculative() {
	task := t.task()
	if task == nil || !task.Speculative || task.StartedEventId != 0 || !t.hasBuffered() {
		return
	}
	t.settled(task.EffectId)
	t.core.Task, t.volatile.Task = nil, nil
	t.scheduleTask(scheduling{})
}

// recordTransient makes a normal task of a transient one that is about to start, if events have come while it waited.
func (t *Tx) recordTransient(task *statepb.WorkflowTask) {
	if !task.Transient || task.ScheduledEventId == t.core.NextEventId {
		return
	}
	task.Transient, task.Attempt = false, 1
	task.ScheduledTime, task.ScheduledEventId = t.timestamp(), t.core.NextEventId
	task.Timeout = durationpb.New(t.taskTimeout(task.Attempt))
	t.add(t.scheduledEvent(task))
}

// TaskStart is a poller that takes a workflow task.
type TaskStart struct {
	ScheduledEventID int64
	EffectID         int64
	// StartID tells this delivery from others; the same again gets the same answer.
	StartID  string
	Identity string
	// Sticky tells that the poller serves the run's sticky queue: it has the run's state in its cache.
	Sticky bool
}

// StartTask gives the open workflow task to a poller. It is volatile: a crash before the next durable transition gives the
// task to somebody else, and the token of this start then misses. NotFound: the task is obsolete.
func (t *Tx) StartTask(in TaskStart) (*statepb.WorkflowTask, error) {
	task := t.task()
	switch {
	case !t.open(), task == nil, task.EffectId != in.EffectID, t.paused() && task.StartedEventId == 0:
		return nil, serviceerror.NewNotFound("The workflow task is obsolete.")
	case task.StartedEventId != 0 && task.StartId == in.StartID:
		return task, nil
	case task.StartedEventId != 0:
		return nil, serviceerror.NewNotFound("The workflow task has been started by another poll.")
	}
	return t.startTask(task, in), nil
}

func (t *Tx) startTask(task *statepb.WorkflowTask, in TaskStart) *statepb.WorkflowTask {
	task = proto.CloneOf(task)
	task.StartId, task.Identity, task.StartedTime = in.StartID, in.Identity, t.timestamp()
	if !in.Sticky {
		task.QueueKind = enumspb.TASK_QUEUE_KIND_NORMAL // the whole history goes out, whatever queue was asked first
	}
	task.ScheduleToStartDeadline = nil
	t.recordTransient(task)
	task.HistorySizeBytes = t.core.HistorySizeBytes
	task.SuggestReasons = t.suggestReasons()
	task.SuggestContinueAsNew = len(task.SuggestReasons) > 0
	if task.Transient || task.Speculative {
		task.ScheduledEventId = t.core.NextEventId
		task.StartedEventId = t.core.NextEventId + 1
	} else {
		task.StartedEventId = t.core.NextEventId
	}
	t.volatile.Task, t.touched = task, true
	t.sendUpdates(task)
	if acknowledged(t.core, task.EffectId) {
		// Nobody would dispatch it again after a crash: the start itself must be durable.
		t.persistStart()
	}
	return task
}

// persistStart makes a volatile start durable: something else is about to be.
func (t *Tx) persistStart() { t.persistStartAs("") }

// persistStartAs is persistStart with the identity that the STARTED of a speculative task gets: of whoever ends the task, as
// recorded of the reference, and nobody's if time does, or if events come.
func (t *Tx) persistStartAs(identity string) {
	if t.volatile.Task == nil {
		return
	}
	task := proto.CloneOf(t.volatile.Task)
	t.core.Task, t.volatile.Task = task, nil
	t.durable = true
	if task.Transient {
		return
	}
	if task.Speculative {
		task.Speculative, task.Identity = false, identity
		t.add(t.scheduledEvent(task))
	}
	t.add(t.startedEvent(task))
}

// startInline starts the task that settle has just scheduled, if the completion asked for it.
func (t *Tx) startInline() *statepb.WorkflowTask {
	task := t.task()
	if t.returnTask == nil || task == nil || task.StartedEventId != 0 || task.Attempt > 1 {
		return nil
	}
	return t.startTask(task, TaskStart{StartID: inlineStartID, Identity: t.returnTask.identity, Sticky: isSticky(task)})
}

// answered finds the started task that a token belongs to.
func (t *Tx) answered(token *tokenpb.Task) (*statepb.WorkflowTask, error) {
	task := t.task()
	if !t.open() || task == nil || task.StartedEventId == 0 ||
		task.ScheduledEventId != token.ScheduledEventId || task.StartedEventId != token.StartedEventId ||
		task.Attempt != token.Attempt || task.StartId != token.StartId {
		return nil, errTaskNotFound
	}
	return task, nil
}

// endTask closes the started task for the one who has this identity. With events set it appends those that are not in the
// history yet (of a success, or of the first failure).
func (t *Tx) endTask(events bool, identity string) *statepb.WorkflowTask {
	t.persistStartAs(identity)
	task := t.core.Task
	if task.Transient && events {
		t.add(t.scheduledEvent(task))
		t.add(t.startedEvent(task))
	}
	t.core.Task = nil
	t.write()
	t.settled(task.EffectId)
	return task
}

// TaskFailure is why a workflow task failed.
type TaskFailure struct {
	Cause    enumspb.WorkflowTaskFailedCause
	Failure  *failurepb.Failure
	Identity string
	// Event fills in what the worker reported besides.
	Event func(*historypb.WorkflowTaskFailedEventAttributes)
}

// failTask ends the started task as failed and schedules the next attempt. Only the first failure in a row is recorded.
func (t *Tx) failTask(f TaskFailure) {
	task := t.endTask(false, f.Identity)
	if !task.Transient {
		e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED)
		a := &historypb.WorkflowTaskFailedEventAttributes{
			ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId,
			Cause: f.Cause, Failure: f.Failure, Identity: f.Identity,
		}
		if f.Event != nil {
			f.Event(a)
		}
		e.Attributes = &historypb.HistoryEvent_WorkflowTaskFailedEventAttributes{WorkflowTaskFailedEventAttributes: a}
		t.add(e)
	}
	t.noteProblem("WorkflowTaskFailed", f.Cause.String())
	t.retryTask(task)
}

// retryTask schedules the task after one that failed or timed out. A failure on a sticky queue may be the cache's: it costs the
// stickiness, not an attempt.
func (t *Tx) retryTask(failed *statepb.WorkflowTask) {
	t.unsendUpdates()
	sticky := isSticky(failed)
	t.clearSticky()
	if !t.mayHaveTask() {
		return
	}
	attempt := failed.Attempt + 1
	if sticky {
		attempt = failed.Attempt
	}
	t.scheduleTask(scheduling{attempt: attempt, normal: true})
}

func (t *Tx) clearSticky() { t.core.StickyQueue, t.core.StickyTimeout = "", nil }

// forceFailTask fails the running task on the server's own account: too many events wait for its end.
func (t *Tx) forceFailTask() {
	t.failTask(TaskFailure{Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND, Identity: serverIdentity})
}

// FailTask is a worker's report that it could not process the task. A completion that is too large for the wire stays so: the run
// ends, for a worker would only try the same again.
func (t *Tx) FailTask(token *tokenpb.Task, f TaskFailure) error {
	if !t.open() {
		return errCompleted
	}
	if _, err := t.answered(token); err != nil {
		return err
	}
	t.failTask(f)
	if f.Cause == enumspb.WORKFLOW_TASK_FAILED_CAUSE_GRPC_MESSAGE_TOO_LARGE {
		t.terminate(Termination{Reason: f.Cause.String(), Identity: serverIdentity})
	}
	return nil
}

// fireTask applies what is due of the open workflow task.
func (t *Tx) fireTask() {
	task := t.task()
	if task == nil {
		if due := t.core.FirstTaskDue; due != nil && !t.now.Before(due.AsTime()) {
			t.core.FirstTaskDue = nil
			t.wake = true
			t.write()
		}
		return
	}
	if due := taskDeadline(task); due.IsZero() || t.now.Before(due) {
		return
	}
	if task.StartedEventId == 0 {
		t.timeOutSticky(task)
		return
	}
	t.timeOutTask()
}

// timeOutSticky moves a task that its worker did not fetch to the normal queue. A speculative one leaves its trace by that.
func (t *Tx) timeOutSticky(task *statepb.WorkflowTask) {
	if task.Speculative {
		t.add(t.scheduledEvent(task))
	}
	t.addTaskTimedOut(task, enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START)
	t.core.Task, t.volatile.Task = nil, nil
	t.settled(task.EffectId)
	t.clearSticky()
	t.write()
	t.scheduleTask(scheduling{attempt: task.Attempt, original: task.OriginalScheduledTime, normal: true})
}

// timeOutTask ends the started task: its worker did not answer in time.
func (t *Tx) timeOutTask() {
	task := t.endTask(false, "")
	if !task.Transient {
		t.addTaskTimedOut(task, enumspb.TIMEOUT_TYPE_START_TO_CLOSE)
	}
	t.noteProblem("WorkflowTaskTimedOut", "StartToClose")
	t.retryTask(task)
}

func (t *Tx) addTaskTimedOut(task *statepb.WorkflowTask, typ enumspb.TimeoutType) {
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)
	e.Attributes = &historypb.HistoryEvent_WorkflowTaskTimedOutEventAttributes{WorkflowTaskTimedOutEventAttributes: &historypb.WorkflowTaskTimedOutEventAttributes{
		ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId, TimeoutType: typ,
	}}
	t.add(e)
}

// taskDeadline is when the open workflow task is due; zero: never.
func taskDeadline(task *statepb.WorkflowTask) time.Time {
	switch {
	case task == nil:
		return time.Time{}
	case task.StartedEventId != 0:
		return task.StartedTime.AsTime().Add(task.Timeout.AsDuration())
	case task.ScheduleToStartDeadline != nil:
		return task.ScheduleToStartDeadline.AsTime()
	}
	return time.Time{}
}

// ResetSticky makes the next workflow task go to the normal queue.
func (t *Tx) ResetSticky() error {
	if !t.open() {
		return errCompleted
	}
	if t.core.StickyQueue != "" {
		t.clearSticky()
		t.write()
	}
	return nil
}

func (t *Tx) taskQueueOf(task *statepb.WorkflowTask) *taskqueuepb.TaskQueue {
	if task.Queue != t.core.TaskQueue {
		return &taskqueuepb.TaskQueue{Name: task.Queue, Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: t.core.TaskQueue}
	}
	return &taskqueuepb.TaskQueue{Name: task.Queue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
}

func (t *Tx) scheduledEvent(task *statepb.WorkflowTask) *historypb.HistoryEvent {
	return scheduledEvent(task, t.taskQueueOf(task))
}

func (t *Tx) startedEvent(task *statepb.WorkflowTask) *historypb.HistoryEvent {
	return startedEvent(task)
}

func scheduledEvent(task *statepb.WorkflowTask, queue *taskqueuepb.TaskQueue) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{
		EventId: task.ScheduledEventId, TaskId: task.ScheduledEventId, EventTime: task.ScheduledTime, EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
		Attributes: &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{
			TaskQueue: queue, StartToCloseTimeout: task.Timeout, Attempt: task.Attempt,
		}},
	}
}

func startedEvent(task *statepb.WorkflowTask) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{
		EventId: task.StartedEventId, TaskId: task.StartedEventId, EventTime: task.StartedTime, EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED,
		Attributes: &historypb.HistoryEvent_WorkflowTaskStartedEventAttributes{WorkflowTaskStartedEventAttributes: &historypb.WorkflowTaskStartedEventAttributes{
			ScheduledEventId: task.ScheduledEventId, Identity: task.Identity, RequestId: task.StartId,
			SuggestContinueAsNew: task.SuggestContinueAsNew, SuggestContinueAsNewReasons: task.SuggestReasons, HistorySizeBytes: task.HistorySizeBytes,
		}},
	}
}

// ProvisionalEvents are the events of the open workflow task that are not in the history: what a worker that got the task
// must see at the history's end. For a reader (forWorker unset) those of a transient task carry no identity, as recorded of the
// reference, and a waiting transient task shows its SCHEDULED.
func (s *State) ProvisionalEvents(forWorker bool) (events []*historypb.HistoryEvent, transient bool) {
	task := s.Task()
	if task == nil || !s.Open() {
		return nil, false
	}
	hidden := task.Transient || task.Speculative
	if hidden {
		scheduled := proto.CloneOf(task)
		scheduled.ScheduledEventId = s.Core.NextEventId
		queue := &taskqueuepb.TaskQueue{Name: task.Queue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
		if task.Queue != s.Core.TaskQueue {
			queue = &taskqueuepb.TaskQueue{Name: task.Queue, Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: s.Core.TaskQueue}
		}
		events = append(events, scheduledEvent(scheduled, queue))
	}
	if task.StartedEventId != 0 && (hidden || s.Volatile.Task != nil) {
		e := startedEvent(task)
		if hidden && !forWorker {
			e.GetWorkflowTaskStartedEventAttributes().Identity = ""
		}
		events = append(events, e)
	}
	return events, hidden
}
