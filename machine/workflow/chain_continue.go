package workflow

import (
	"cmp"
	"fmt"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"google.golang.org/protobuf/proto"
)

// continueAsNew closes the run and starts the next one of the chain with other input.
func (c *completion) continueAsNew(cmd *commandpb.Command) error {
	a := cmd.GetContinueAsNewWorkflowExecutionCommandAttributes()
	if err := c.checkClosing(); err != nil {
		return err
	}
	if err := c.checkContinue(a); err != nil {
		return err
	}
	searchAttributes, err := c.checkNewSearchAttributes(a.SearchAttributes, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_CONTINUE_AS_NEW_ATTRIBUTES)
	if err != nil {
		return err
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW, cmd)
	out := &historypb.WorkflowExecutionContinuedAsNewEventAttributes{
		NewExecutionRunId: c.env.NewRunID, WorkflowType: a.WorkflowType, TaskQueue: a.TaskQueue, Input: a.Input,
		WorkflowRunTimeout: a.WorkflowRunTimeout, WorkflowTaskTimeout: a.WorkflowTaskTimeout, WorkflowTaskCompletedEventId: c.completed,
		BackoffStartInterval: positive(a.BackoffStartInterval), Initiator: a.Initiator, Failure: a.Failure, LastCompletionResult: a.LastCompletionResult,
		Header: a.Header, Memo: a.Memo, SearchAttributes: searchAttributes,
	}
	if a.WorkflowType.GetName() == "" {
		out.WorkflowType = c.start.WorkflowType
	}
	out.TaskQueue = &taskqueuepb.TaskQueue{Name: c.core.TaskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
	if name := a.TaskQueue.GetName(); name != "" {
		out.TaskQueue.Name = name
	}
	if a.WorkflowRunTimeout.AsDuration() <= 0 {
		out.WorkflowRunTimeout = orZero(c.start.RunTimeout)
	}
	if a.WorkflowTaskTimeout.AsDuration() <= 0 {
		out.WorkflowTaskTimeout = c.start.TaskTimeout
	}
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionContinuedAsNewEventAttributes{WorkflowExecutionContinuedAsNewEventAttributes: out}

	next, err := c.follow(Opening{Attributes: c.continuedStart(out, a)}, a.BackoffStartInterval.AsDuration())
	if err != nil {
		return err
	}
	c.closeWith(enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW, e, next)
	return nil
}

// checkContinue validates what continue-as-new asks for. Fields that are not set are inherited.
func (c *completion) checkContinue(a *commandpb.ContinueAsNewWorkflowExecutionCommandAttributes) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_CONTINUE_AS_NEW_ATTRIBUTES
	switch {
	case a == nil:
		return reject(cause, "ContinueAsNewWorkflowExecutionCommandAttributes is not set on ContinueAsNewWorkflowExecutionCommand.")
	case proto.Size(a.Input) > blobSizeMax:
		return tooLarge(cause, "ContinueAsNewWorkflowExecutionCommandAttributes.Input exceeds size limit.")
	case proto.Size(a.Memo) > memoSizeMax:
		return tooLarge(cause, "ContinueAsNewWorkflowExecutionCommandAttributes.Memo exceeds size limit.")
	}
	if f := continueFault(a); f.text != "" {
		return reject(cause, "%s", f.of(
			"WorkflowType", cmp.Or(a.WorkflowType.GetName(), c.start.WorkflowType.GetName()),
			"TaskQueue", fmt.Sprintf("name:%q kind:TASK_QUEUE_KIND_NORMAL", cmp.Or(a.TaskQueue.GetName(), c.core.TaskQueue))))
	}
	return nil
}

// continueFault returns what is wrong with the attributes themselves.
func continueFault(a *commandpb.ContinueAsNewWorkflowExecutionCommandAttributes) fault {
	const command = "ContinueAsNewWorkflowExecutionCommand"
	if name := a.WorkflowType.GetName(); len(name) > idLengthMax {
		return tooLong("WorkflowType", command, name)
	}
	if text := queueFault(a.TaskQueue); a.TaskQueue.GetName() != "" && text != "" {
		return fault{"", "error validating " + command + " TaskQueue: " + text + "."}
	}
	var cron string
	if err := CheckCron(a.CronSchedule); err != nil {
		cron = err.Error()
	}
	return firstFault(
		badDuration("WorkflowRunTimeout", command, a.WorkflowRunTimeout),
		badDuration("WorkflowTaskTimeout", command, a.WorkflowTaskTimeout),
		badDuration("BackoffStartInterval", command, a.BackoffStartInterval),
		invalid("RetryPolicy", command, checkRetryPolicy(a.RetryPolicy)),
		invalid("CronSchedule", command, cron),
	)
}

// continuedStart is the first event of the run that continue-as-new asked for.
func (c *completion) continuedStart(out *historypb.WorkflowExecutionContinuedAsNewEventAttributes, a *commandpb.ContinueAsNewWorkflowExecutionCommandAttributes) *historypb.WorkflowExecutionStartedEventAttributes {
	start := &historypb.WorkflowExecutionStartedEventAttributes{
		WorkflowType: out.WorkflowType, TaskQueue: out.TaskQueue, Input: out.Input,
		WorkflowRunTimeout: out.WorkflowRunTimeout, WorkflowTaskTimeout: out.WorkflowTaskTimeout,
		Initiator: out.Initiator, ContinuedFailure: out.Failure, LastCompletionResult: out.LastCompletionResult, Attempt: 1,
		RetryPolicy: runRetryPolicy(a.RetryPolicy), CronSchedule: a.CronSchedule,
		Header: out.Header, Memo: out.Memo, SearchAttributes: out.SearchAttributes,
	}
	if start.Initiator == enumspb.CONTINUE_AS_NEW_INITIATOR_UNSPECIFIED {
		start.Initiator = enumspb.CONTINUE_AS_NEW_INITIATOR_WORKFLOW
	}
	if first := c.env.StartEvent.GetWorkflowExecutionStartedEventAttributes(); first != nil {
		start.CompletionCallbacks = first.CompletionCallbacks
		if start.LastCompletionResult == nil {
			start.LastCompletionResult = first.LastCompletionResult
		}
	}
	return start
}

// runRetryPolicy completes the retry policy of a run. Unlike an activity, a run without one is not retried.
func runRetryPolicy(policy *commonpb.RetryPolicy) *commonpb.RetryPolicy {
	if policy == nil {
		return nil
	}
	return completeRetryPolicy(policy)
}

// checkNewSearchAttributes validates the search attributes that a command gives to a run that it starts.
func (c *completion) checkNewSearchAttributes(a *commonpb.SearchAttributes, cause enumspb.WorkflowTaskFailedCause) (*commonpb.SearchAttributes, error) {
	if len(a.GetIndexedFields()) == 0 {
		return a, nil
	}
	typed, err := c.env.CheckSearchAttributes(a)
	if err != nil {
		return nil, reject(cause, "%s", err.Error())
	}
	return typed, nil
}
