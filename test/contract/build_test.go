package contract

import (
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
)

// The commands of workers.

type (
	command            = commandpb.Command
	activityAttributes = commandpb.ScheduleActivityTaskCommandAttributes
	childAttributes    = commandpb.StartChildWorkflowExecutionCommandAttributes
	newRunAttributes   = commandpb.ContinueAsNewWorkflowExecutionCommandAttributes
	signalAttributes   = commandpb.SignalExternalWorkflowExecutionCommandAttributes
	cancelAttributes   = commandpb.RequestCancelExternalWorkflowExecutionCommandAttributes
)

func startTimer(id string, s float64) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_START_TIMER, Attributes: &commandpb.Command_StartTimerCommandAttributes{
		StartTimerCommandAttributes: &commandpb.StartTimerCommandAttributes{TimerId: id, StartToFireTimeout: seconds(s)},
	}}
}

func cancelTimer(id string) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_CANCEL_TIMER, Attributes: &commandpb.Command_CancelTimerCommandAttributes{
		CancelTimerCommandAttributes: &commandpb.CancelTimerCommandAttributes{TimerId: id},
	}}
}

func (e *env) activity(id string, mods ...func(*activityAttributes)) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK, Attributes: &commandpb.Command_ScheduleActivityTaskCommandAttributes{
		ScheduleActivityTaskCommandAttributes: with(&activityAttributes{
			ActivityId: id, ActivityType: &commonpb.ActivityType{Name: "activity"}, TaskQueue: normal(e.queue), Input: payloads(id), StartToCloseTimeout: seconds(60),
		}, mods),
	}}
}

func withRetry(p *commonpb.RetryPolicy) func(*activityAttributes) {
	return func(a *activityAttributes) { a.RetryPolicy = p }
}

func cancelActivity(scheduled int64) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK, Attributes: &commandpb.Command_RequestCancelActivityTaskCommandAttributes{
		RequestCancelActivityTaskCommandAttributes: &commandpb.RequestCancelActivityTaskCommandAttributes{ScheduledEventId: scheduled},
	}}
}

func completeWorkflow(result any) *command { return completeWithPayloads(payloads(result)) }

func completeWithPayloads(result *commonpb.Payloads) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_CompleteWorkflowExecutionCommandAttributes{
		CompleteWorkflowExecutionCommandAttributes: &commandpb.CompleteWorkflowExecutionCommandAttributes{Result: result},
	}}
}

func failWorkflow(f *failurepb.Failure) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_FailWorkflowExecutionCommandAttributes{
		FailWorkflowExecutionCommandAttributes: &commandpb.FailWorkflowExecutionCommandAttributes{Failure: f},
	}}
}

func cancelWorkflow() *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_CancelWorkflowExecutionCommandAttributes{
		CancelWorkflowExecutionCommandAttributes: &commandpb.CancelWorkflowExecutionCommandAttributes{},
	}}
}

func continueAsNew(mods ...func(*newRunAttributes)) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_ContinueAsNewWorkflowExecutionCommandAttributes{
		ContinueAsNewWorkflowExecutionCommandAttributes: with(&newRunAttributes{Input: payloads("next")}, mods),
	}}
}

func marker(name string) *command { return markerWith(name, payloads("value")) }

func markerWith(name string, value *commonpb.Payloads) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_RECORD_MARKER, Attributes: &commandpb.Command_RecordMarkerCommandAttributes{
		RecordMarkerCommandAttributes: &commandpb.RecordMarkerCommandAttributes{MarkerName: name, Details: map[string]*commonpb.Payloads{"data": value}},
	}}
}

func markers(n int) (commands []*command) {
	for range n {
		commands = append(commands, marker("m"))
	}
	return commands
}

// child is the workflow that the tests start as a child, on its own queue.
func (e *env) child() *env { return e.sub("child") }

func (e *env) startChild(mods ...func(*childAttributes)) *command {
	c := e.child()
	return &command{CommandType: enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_StartChildWorkflowExecutionCommandAttributes{
		StartChildWorkflowExecutionCommandAttributes: with(&childAttributes{
			WorkflowId: c.id, WorkflowType: typeNamed("child"), TaskQueue: normal(c.queue), Input: payloads("child"),
		}, mods),
	}}
}

func policy(p enumspb.ParentClosePolicy) func(*childAttributes) {
	return func(a *childAttributes) { a.ParentClosePolicy = p }
}

func signalExternal(id string, mods ...func(*signalAttributes)) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_SignalExternalWorkflowExecutionCommandAttributes{
		SignalExternalWorkflowExecutionCommandAttributes: with(&signalAttributes{Execution: execution(id, ""), SignalName: "from-outside", Input: payloads("hello")}, mods),
	}}
}

func cancelExternal(id string, mods ...func(*cancelAttributes)) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_RequestCancelExternalWorkflowExecutionCommandAttributes{
		RequestCancelExternalWorkflowExecutionCommandAttributes: with(&cancelAttributes{WorkflowId: id}, mods),
	}}
}

func upsertAttributes(fields map[string]*commonpb.Payload) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, Attributes: &commandpb.Command_UpsertWorkflowSearchAttributesCommandAttributes{
		UpsertWorkflowSearchAttributesCommandAttributes: &commandpb.UpsertWorkflowSearchAttributesCommandAttributes{SearchAttributes: &commonpb.SearchAttributes{IndexedFields: fields}},
	}}
}

func upsertMemo(fields map[string]*commonpb.Payload) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES, Attributes: &commandpb.Command_ModifyWorkflowPropertiesCommandAttributes{
		ModifyWorkflowPropertiesCommandAttributes: &commandpb.ModifyWorkflowPropertiesCommandAttributes{UpsertedMemo: &commonpb.Memo{Fields: fields}},
	}}
}

// messageCommand puts a message at a place among the commands.
func messageCommand(id string) *command {
	return &command{CommandType: enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE, Attributes: &commandpb.Command_ProtocolMessageCommandAttributes{
		ProtocolMessageCommandAttributes: &commandpb.ProtocolMessageCommandAttributes{MessageId: id},
	}}
}
