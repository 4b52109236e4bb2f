package workflow

import (
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// A child goes through these states in its parent; each arrow is one transition of the parent, made when the effect named
// beside it has been answered:
//
//	initiated --StartChild--> started --ReleaseChild--> released
//	initiated --StartChild fails--> gone      started, released --the child's chain closes--> gone
//
// The child is started with its first workflow task held back; it is released once the parent has durably recorded the start.
// So no child works for a parent that does not know of it. When the parent closes, what it still owes to its children becomes
// close effects.

// pendingChildrenMax bounds the children of a run that are pending at the same time (CONTRACT 5.2).
const pendingChildrenMax = 2000

func (c *completion) startChild(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_CHILD_EXECUTION_ATTRIBUTES
	a := cmd.GetStartChildWorkflowExecutionCommandAttributes()
	if err := c.checkChild(a); err != nil {
		return err
	}
	namespace, namespaceID, err := c.targetNamespace(a.Namespace, cause)
	if err != nil {
		return err
	}
	searchAttributes, err := c.checkNewSearchAttributes(a.SearchAttributes, cause)
	if err != nil {
		return err
	}
	init := c.initiateChild(a)
	init.Namespace, init.NamespaceId, init.SearchAttributes = namespace, namespaceID, searchAttributes
	e := c.commandEvent(enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED, cmd)
	e.Attributes = &historypb.HistoryEvent_StartChildWorkflowExecutionInitiatedEventAttributes{StartChildWorkflowExecutionInitiatedEventAttributes: init}
	c.add(e)
	child := &statepb.Child{
		InitiatedEventId: e.EventId, Namespace: namespace, NamespaceId: namespaceID, WorkflowId: a.WorkflowId, WorkflowType: a.WorkflowType,
		ParentClosePolicy: init.ParentClosePolicy, CreateRequestId: createRequestID(c.start.RunId, e.EventId), EffectId: c.nextEffect(),
	}
	c.children.put(e.EventId, child)
	c.effects = append(c.effects, childEffect(child))
	c.startedChildren[a.WorkflowId] = true
	c.countPending().children++
	return nil
}

// namespaceOf is the name of the namespace that a command names.
func (c *completion) namespaceOf(name string) string {
	if name == "" {
		return c.env.Namespace
	}
	return name
}

// targetNamespace resolves the namespace that a command names; the empty name is the run's own. Another one is refused, for
// nothing says that the run's owner may act there; one that does not exist is told apart from that.
func (c *completion) targetNamespace(name string, cause enumspb.WorkflowTaskFailedCause) (namespace, id string, err error) {
	if name == "" || name == c.env.Namespace {
		return c.env.Namespace, c.start.NamespaceId, nil
	}
	if _, err = c.env.NamespaceID(name); err != nil {
		return "", "", err
	}
	return "", "", reject(cause, "cross namespace commands are not allowed")
}

func (c *completion) checkChild(a *commandpb.StartChildWorkflowExecutionCommandAttributes) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_CHILD_EXECUTION_ATTRIBUTES
	if a == nil {
		return reject(cause, "StartChildWorkflowExecutionCommandAttributes is not set on StartChildWorkflowExecutionCommand.")
	}
	if f := childFault(a); f.text != "" {
		return reject(cause, "%s", f.of("WorkflowId", a.WorkflowId, "WorkflowType", a.WorkflowType.GetName(), "Namespace", c.namespaceOf(a.Namespace)))
	}
	switch {
	case proto.Size(a.Input) > blobSizeMax:
		return tooLarge(cause, "StartChildWorkflowExecutionCommandAttributes.Input exceeds size limit.")
	case proto.Size(a.Memo) > memoSizeMax:
		return tooLarge(cause, "StartChildWorkflowExecutionCommandAttributes.Memo exceeds size limit.")
	case c.countPending().children >= pendingChildrenMax:
		return reject(enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED,
			"The run has %d pending children, which is the limit.", pendingChildrenMax)
	}
	return nil
}

// childFault returns what is wrong with the attributes themselves.
func childFault(a *commandpb.StartChildWorkflowExecutionCommandAttributes) fault {
	const command = "StartChildWorkflowExecutionCommand"
	name := a.WorkflowType.GetName()
	switch {
	case a.WorkflowId == "":
		return required("WorkflowId", command)
	case len(a.WorkflowId) > idLengthMax:
		return tooLong("WorkflowId", command, a.WorkflowId)
	case name == "":
		return required("WorkflowType", command)
	case len(name) > idLengthMax:
		return tooLong("WorkflowType", command, name)
	}
	var queue, cron string
	if a.TaskQueue.GetName() != "" {
		queue = queueFault(a.TaskQueue)
	}
	if err := CheckCron(a.CronSchedule); err != nil {
		cron = err.Error()
	}
	return firstFault(
		badDuration("WorkflowExecutionTimeout", command, a.WorkflowExecutionTimeout),
		badDuration("WorkflowRunTimeout", command, a.WorkflowRunTimeout),
		badDuration("WorkflowTaskTimeout", command, a.WorkflowTaskTimeout),
		invalid("RetryPolicy", command, checkRetryPolicy(a.RetryPolicy)),
		invalid("Priority", command, priorityFault(a.Priority)),
		invalid("TaskQueue", command, queue),
		invalid("CronSchedule", command, cron),
	)
}

// initiateChild fills in what the command leaves open.
func (c *completion) initiateChild(a *commandpb.StartChildWorkflowExecutionCommandAttributes) *historypb.StartChildWorkflowExecutionInitiatedEventAttributes {
	init := &historypb.StartChildWorkflowExecutionInitiatedEventAttributes{
		WorkflowId: a.WorkflowId, WorkflowType: a.WorkflowType, Input: a.Input,
		TaskQueue:                &taskqueuepb.TaskQueue{Name: c.core.TaskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		WorkflowExecutionTimeout: positive(a.WorkflowExecutionTimeout), WorkflowRunTimeout: orZero(a.WorkflowRunTimeout),
		ParentClosePolicy: a.ParentClosePolicy, Control: a.Control, WorkflowTaskCompletedEventId: c.completed,
		WorkflowIdReusePolicy: a.WorkflowIdReusePolicy, RetryPolicy: runRetryPolicy(a.RetryPolicy), CronSchedule: a.CronSchedule,
		Header: a.Header, Memo: a.Memo, Priority: a.Priority, VersioningOverride: a.VersioningOverride,
	}
	//lint:ignore SA1019 what the command says is recorded
	init.InheritBuildId = a.InheritBuildId
	if name := a.TaskQueue.GetName(); name != "" {
		init.TaskQueue.Name = name
	}
	if init.ParentClosePolicy == enumspb.PARENT_CLOSE_POLICY_UNSPECIFIED {
		init.ParentClosePolicy = enumspb.PARENT_CLOSE_POLICY_TERMINATE
	}
	if init.WorkflowIdReusePolicy == enumspb.WORKFLOW_ID_REUSE_POLICY_UNSPECIFIED {
		init.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	}
	timeouts := &historypb.WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionTimeout: init.WorkflowExecutionTimeout, WorkflowRunTimeout: init.WorkflowRunTimeout, WorkflowTaskTimeout: a.WorkflowTaskTimeout,
	}
	completeRunTimeouts(timeouts)
	init.WorkflowRunTimeout, init.WorkflowTaskTimeout = timeouts.WorkflowRunTimeout, timeouts.WorkflowTaskTimeout
	return init
}

// childEffect is what must be done next for a child; nil: nothing, or not now.
func childEffect(c *statepb.Child) Effect {
	switch {
	case c.NextTry != nil || c.Released:
		return nil
	case c.RunId == "":
		return StartChild{ID: c.EffectId, Child: c}
	}
	return ReleaseChild{ID: c.EffectId, Child: c}
}

// ChildStarted records that a child has been started, as its first run and with the header of its initiation. False: the
// parent no longer waits for it (it has closed, or knows the child's end already); then a child that was started only now, and
// that the parent does not abandon, must be terminated, for nobody else will.
func (t *Tx) ChildStarted(initiatedID int64, runID string, header *commonpb.Header) bool {
	c, ok := t.children.get(initiatedID)
	if !t.open() || !ok {
		return false
	}
	if c.RunId != "" {
		return c.RunId == runID
	}
	t.recordChildStarted(initiatedID, runID, header)
	return true
}

func (t *Tx) recordChildStarted(initiatedID int64, runID string, header *commonpb.Header) {
	c := t.children.edit(initiatedID)
	t.settled(c.EffectId)
	c.RunId, c.EffectId, c.NextTry, c.Tries = runID, t.nextEffect(), nil, 0
	e := t.newEvent(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
	e.Attributes = &historypb.HistoryEvent_ChildWorkflowExecutionStartedEventAttributes{ChildWorkflowExecutionStartedEventAttributes: &historypb.ChildWorkflowExecutionStartedEventAttributes{
		Namespace: c.Namespace, NamespaceId: c.NamespaceId, InitiatedEventId: initiatedID,
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: c.WorkflowId, RunId: runID}, WorkflowType: c.WorkflowType, Header: header,
	}}
	t.record(e)
	t.effects = append(t.effects, childEffect(c))
}

// ChildStartFailed records that a child could not be started.
func (t *Tx) ChildStartFailed(initiatedID int64, cause enumspb.StartChildWorkflowExecutionFailedCause, control string) {
	c, ok := t.children.get(initiatedID)
	if !t.open() || !ok || c.RunId != "" {
		return
	}
	e := t.newEvent(enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED)
	e.Attributes = &historypb.HistoryEvent_StartChildWorkflowExecutionFailedEventAttributes{StartChildWorkflowExecutionFailedEventAttributes: &historypb.StartChildWorkflowExecutionFailedEventAttributes{
		Namespace: c.Namespace, NamespaceId: c.NamespaceId, WorkflowId: c.WorkflowId, WorkflowType: c.WorkflowType,
		Cause: cause, Control: control, InitiatedEventId: initiatedID,
	}}
	t.dropChild(c)
	t.record(e)
}

// ChildReleased notes that a child may work. It is volatile: to release a child twice is harmless.
func (t *Tx) ChildReleased(initiatedID int64) {
	if c, ok := t.children.get(initiatedID); ok && c.RunId != "" {
		t.Acknowledge(c.EffectId)
	}
}

func (t *Tx) dropChild(c *statepb.Child) {
	t.settled(c.EffectId)
	t.children.delete(c.InitiatedEventId)
	t.write()
}
