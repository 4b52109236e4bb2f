package workflow

import (
	"errors"
	"fmt"
	"strings"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// rejection is a command that cannot be carried out: the whole completion is dropped and the workflow task fails with the
// cause (CONTRACT 2.1).
type rejection struct {
	cause enumspb.WorkflowTaskFailedCause
	text  string
	// terminate: a worker would only do the same again (a payload over the limit), so the run ends.
	terminate bool
}

func (r *rejection) Error() string { return r.cause.String() + ": " + r.text }

func reject(cause enumspb.WorkflowTaskFailedCause, format string, args ...any) error {
	return &rejection{cause: cause, text: fmt.Sprintf(format, args...)}
}

// tooLarge is a rejection that ends the run.
func tooLarge(cause enumspb.WorkflowTaskFailedCause, format string, args ...any) error {
	return &rejection{cause: cause, text: fmt.Sprintf(format, args...), terminate: true}
}

// completion is a worker's answer being applied.
type completion struct {
	*Tx
	req  *workflowservice.RespondWorkflowTaskCompletedRequest
	task *statepb.WorkflowTask
	// completed is the id of the WORKFLOW_TASK_COMPLETED event.
	completed int64
	out       *Completion
	messages  messages
	// startedChildren are the workflow ids of children that this completion starts.
	startedChildren map[string]bool
	// counts is how much the run waits for of other executions; nil: not counted yet.
	counts *pendingCounts
	// pendingIDs are the ids of the pending activities; nil until the first command that schedules one.
	pendingIDs map[string]bool
}

// Completion is the outcome of a worker's answer.
type Completion struct {
	// Err is what the worker must be told once the transition is committed: its commands were refused.
	Err error
	// EagerActivities are the activities (by scheduled event id) that are started at once and go out with the reply.
	EagerActivities []int64
	// ResetHistoryEventID: the task left no trace, and the worker must take its position back to this event.
	ResetHistoryEventID int64
}

// CompleteTask applies a worker's answer to the started workflow task.
func (t *Tx) CompleteTask(token *tokenpb.Task, req *workflowservice.RespondWorkflowTaskCompletedRequest) (*Completion, error) {
	task, err := t.answered(token)
	if err != nil {
		return nil, err
	}
	if err := checkShape(req.Commands); err != nil {
		return nil, err
	}
	if t.heartbeatTooLong(task, req) {
		return t.timeOutHeartbeat(), nil
	}
	c, err := t.apply(task, req)
	var r *rejection
	if !errors.As(err, &r) {
		return c, err
	}
	return t.rejectCompletion(token, req, r)
}

func (t *Tx) apply(task *statepb.WorkflowTask, req *workflowservice.RespondWorkflowTaskCompletedRequest) (*Completion, error) {
	c := &completion{Tx: t, req: req, task: task, out: &Completion{}, startedChildren: map[string]bool{}}
	if err := c.readMessages(); err != nil {
		return nil, err
	}
	if c.leavesNoTrace() {
		return c.dropTask()
	}
	t.writeCompleted(c)
	for _, cmd := range req.Commands {
		if err := c.command(cmd); err != nil {
			return nil, err
		}
	}
	if err := c.remainingMessages(); err != nil {
		return nil, err
	}
	c.cancelUnstarted()
	t.stick(req)
	t.core.ClosingGuard = false
	if !t.open() {
		return c.out, nil
	}
	if req.ForceCreateNewWorkflowTask {
		c.heartbeat()
	}
	if req.ReturnNewWorkflowTask {
		t.returnTask = &inlineStart{identity: req.Identity}
	}
	return c.out, nil
}

// writeCompleted ends the task and appends WORKFLOW_TASK_COMPLETED.
func (t *Tx) writeCompleted(c *completion) {
	task, req := t.endTask(true, c.req.Identity), c.req
	c.task = task
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
	e.Attributes = &historypb.HistoryEvent_WorkflowTaskCompletedEventAttributes{WorkflowTaskCompletedEventAttributes: &historypb.WorkflowTaskCompletedEventAttributes{
		ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId, Identity: req.Identity,
		BinaryChecksum: req.BinaryChecksum, WorkerVersion: req.WorkerVersionStamp, SdkMetadata: req.SdkMetadata, MeteringMetadata: req.MeteringMetadata,
	}}
	t.add(e)
	c.completed = e.EventId
	t.core.LastCompletedTaskStartedEventId = task.StartedEventId
	t.core.CompletedTasks++
	t.noteResetPoint(c)
	t.noteWorkerVersion(req.WorkerVersionStamp)
	t.clearProblem()
}

// stick remembers where the worker keeps the run's state.
func (t *Tx) stick(req *workflowservice.RespondWorkflowTaskCompletedRequest) {
	a := req.StickyAttributes
	t.core.StickyQueue, t.core.StickyTimeout = a.GetWorkerTaskQueue().GetName(), a.GetScheduleToStartTimeout()
}

// heartbeat opens the next task of a worker that is busy with local activities; none while the run is paused.
func (c *completion) heartbeat() {
	if !c.mayHaveTask() {
		return
	}
	s := scheduling{}
	if len(c.req.Commands) == 0 && len(c.req.Messages) == 0 {
		s.original = c.task.OriginalScheduledTime
	}
	c.flush()
	c.scheduleTask(s)
	c.core.Task.Heartbeat = true
}

func (t *Tx) heartbeatTooLong(task *statepb.WorkflowTask, req *workflowservice.RespondWorkflowTaskCompletedRequest) bool {
	return req.ForceCreateNewWorkflowTask && len(req.Commands) == 0 && len(req.Messages) == 0 &&
		t.now.Sub(task.OriginalScheduledTime.AsTime()) > heartbeatMax
}

func (t *Tx) timeOutHeartbeat() *Completion {
	t.timeOutTask()
	return &Completion{Err: serviceerror.NewNotFound("The workflow task was kept alive by heartbeats for too long and has been timed out.")}
}

// rejectCompletion drops everything that the completion did. The first attempt is recorded as failed; a later one is left to
// time out, so that a worker that repeats its mistake is slowed down.
func (t *Tx) rejectCompletion(token *tokenpb.Task, req *workflowservice.RespondWorkflowTaskCompletedRequest, r *rejection) (*Completion, error) {
	t.reset()
	task, err := t.answered(token)
	if err != nil {
		return nil, err
	}
	text := r.cause.String()
	if r.text != "" {
		text += ": " + r.text
	}
	unhandled := r.cause == enumspb.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
	if task.Attempt > 1 && !unhandled && !r.terminate {
		return nil, serviceerror.NewInvalidArgument(text)
	}
	if !unhandled {
		t.abortUpdates(t.sentUpdates(), errUpdateTaskFailed)
	}
	t.failTask(TaskFailure{
		Cause: r.cause, Identity: req.Identity,
		Failure: &failurepb.Failure{Message: text, FailureInfo: &failurepb.Failure_ServerFailureInfo{ServerFailureInfo: &failurepb.ServerFailureInfo{}}},
		Event: func(a *historypb.WorkflowTaskFailedEventAttributes) {
			a.BinaryChecksum, a.WorkerVersion = req.BinaryChecksum, req.WorkerVersionStamp
		},
	})
	t.core.ClosingGuard = unhandled
	if r.terminate {
		t.terminate(Termination{Reason: text, Identity: serverIdentity})
	}
	return &Completion{Err: serviceerror.NewInvalidArgument(text)}, nil
}

// serverIdentity signs what the server does by itself.
const serverIdentity = "history-service"

// checkShape refuses a list of commands that no worker may send: then nothing is written and the task stays open.
func checkShape(commands []*commandpb.Command) error {
	for i, cmd := range commands {
		if _, known := commandNames[cmd.CommandType]; !known {
			return serviceerror.NewInvalidArgumentf("unknown command type: %s", cmd.CommandType)
		}
		if isClosing(cmd.CommandType) && i != len(commands)-1 {
			return serviceerror.NewInvalidArgumentf("invalid command sequence: [%s], command %s must be the last command.", commandTypes(commands), cmd.CommandType)
		}
	}
	return nil
}

// commandTypes lists the types of the commands, the first ones if they are many.
func commandTypes(commands []*commandpb.Command) string {
	var types []string
	for _, cmd := range commands[:min(len(commands), typesShownMax)] {
		types = append(types, cmd.CommandType.String())
	}
	if len(commands) > typesShownMax {
		types = append(types, "...")
	}
	return strings.Join(types, ", ")
}

// typesShownMax bounds the commands that an error lists.
const typesShownMax = 50

func isClosing(typ enumspb.CommandType) bool {
	switch typ {
	case enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION, enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
		enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION, enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:
		return true
	}
	return false
}

// commandNames are the commands there are, and how they apply.
var commandNames = map[enumspb.CommandType]func(*completion, *commandpb.Command) error{
	enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK:                     (*completion).scheduleActivity,
	enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK:               (*completion).requestCancelActivity,
	enumspb.COMMAND_TYPE_START_TIMER:                                (*completion).startTimer,
	enumspb.COMMAND_TYPE_CANCEL_TIMER:                               (*completion).cancelTimer,
	enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:                (*completion).completeWorkflow,
	enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:                    (*completion).failWorkflow,
	enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:                  (*completion).cancelWorkflow,
	enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:         (*completion).continueAsNew,
	enumspb.COMMAND_TYPE_RECORD_MARKER:                              (*completion).recordMarker,
	enumspb.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:          (*completion).upsertSearchAttributes,
	enumspb.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES:                 (*completion).modifyProperties,
	enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION:             (*completion).startChild,
	enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION:         (*completion).signalExternal,
	enumspb.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION: (*completion).cancelExternal,
	enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE:                           (*completion).protocolMessage,
}

func (c *completion) command(cmd *commandpb.Command) error {
	return commandNames[cmd.CommandType](c, cmd)
}

// commandEvent makes the event that a command writes, with what every command may carry.
func (c *completion) commandEvent(typ enumspb.EventType, cmd *commandpb.Command) *historypb.HistoryEvent {
	e := c.newEvent(typ)
	e.UserMetadata = cmd.UserMetadata
	e.EventGroupMarkers = cmd.EventGroupMarkers
	return e
}

func (c *completion) recordMarker(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_RECORD_MARKER_ATTRIBUTES
	a := cmd.GetRecordMarkerCommandAttributes()
	switch {
	case a == nil:
		return reject(cause, "RecordMarkerCommandAttributes is not set.")
	case a.MarkerName == "":
		return reject(cause, "MarkerName is not set on RecordMarkerCommand.")
	case len(a.MarkerName) > idLengthMax:
		return reject(cause, "%s", tooLong("MarkerName", "RecordMarkerCommand", a.MarkerName).text)
	}
	size := proto.Size(a.Header)
	for _, p := range a.Details {
		size += proto.Size(p)
	}
	if size > blobSizeMax {
		return tooLarge(cause, "RecordMarkerCommandAttributes.Details exceeds size limit.")
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_MARKER_RECORDED, cmd)
	e.Attributes = &historypb.HistoryEvent_MarkerRecordedEventAttributes{MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{
		MarkerName: a.MarkerName, Details: a.Details, WorkflowTaskCompletedEventId: c.completed, Header: a.Header, Failure: a.Failure,
	}}
	c.add(e)
	return nil
}

func (c *completion) upsertSearchAttributes(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES
	a := cmd.GetUpsertWorkflowSearchAttributesCommandAttributes()
	if a == nil {
		return reject(cause, "UpsertWorkflowSearchAttributesCommandAttributes is not set on UpsertWorkflowSearchAttributesCommand.")
	}
	if len(a.SearchAttributes.GetIndexedFields()) == 0 {
		return reject(cause, "IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.")
	}
	typed, err := c.env.CheckSearchAttributes(a.SearchAttributes)
	if err != nil {
		return reject(cause, "%s", err.Error())
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, cmd)
	e.Attributes = &historypb.HistoryEvent_UpsertWorkflowSearchAttributesEventAttributes{UpsertWorkflowSearchAttributesEventAttributes: &historypb.UpsertWorkflowSearchAttributesEventAttributes{
		WorkflowTaskCompletedEventId: c.completed, SearchAttributes: typed,
	}}
	c.add(e)
	c.mergeSearchAttributes(typed)
	return nil
}

// mergeSearchAttributes sets attributes; a null value deletes one (CONTRACT 8.6.37).
func (t *Tx) mergeSearchAttributes(upsert *commonpb.SearchAttributes) {
	attributes := t.editAttributes()
	if attributes.SearchAttributes == nil {
		attributes.SearchAttributes = &commonpb.SearchAttributes{}
	}
	attributes.SearchAttributes.IndexedFields = mergeFields(attributes.SearchAttributes.IndexedFields, upsert.GetIndexedFields())
}

func (c *completion) modifyProperties(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES
	a := cmd.GetModifyWorkflowPropertiesCommandAttributes()
	if a == nil {
		return reject(cause, "ModifyWorkflowPropertiesCommandAttributes is not set on ModifyWorkflowPropertiesCommand.")
	}
	if len(a.UpsertedMemo.GetFields()) == 0 {
		return reject(cause, "UpsertedMemo.Fields is not set on ModifyWorkflowPropertiesCommand.")
	}
	attributes := c.editAttributes()
	if attributes.Memo == nil {
		attributes.Memo = &commonpb.Memo{}
	}
	attributes.Memo.Fields = mergeFields(attributes.Memo.Fields, a.UpsertedMemo.Fields)
	if proto.Size(attributes.Memo) > memoSizeMax {
		return tooLarge(cause, "ModifyWorkflowPropertiesCommandAttributes exceeds size limit.")
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED, cmd)
	e.Attributes = &historypb.HistoryEvent_WorkflowPropertiesModifiedEventAttributes{WorkflowPropertiesModifiedEventAttributes: &historypb.WorkflowPropertiesModifiedEventAttributes{
		WorkflowTaskCompletedEventId: c.completed, UpsertedMemo: a.UpsertedMemo,
	}}
	c.add(e)
	return nil
}

func mergeFields(fields, upsert map[string]*commonpb.Payload) map[string]*commonpb.Payload {
	merged := map[string]*commonpb.Payload{}
	for k, v := range fields {
		merged[k] = v
	}
	for k, v := range upsert {
		if isNull(v) {
			delete(merged, k)
		} else {
			merged[k] = v
		}
	}
	return merged
}

// isNull tells a payload that stands for "no value".
func isNull(p *commonpb.Payload) bool {
	switch string(p.GetMetadata()["encoding"]) {
	case "binary/null":
		return true
	case "json/plain":
		return string(p.GetData()) == "[]" // a JSON null is a value, as recorded of the reference
	}
	return p == nil
}

// Sizes and lengths of CONTRACT 5.1.
const (
	idLengthMax = 1000
	blobSizeMax = 2 << 20
	memoSizeMax = 2 << 20
)
