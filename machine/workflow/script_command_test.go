package workflow

import (
	"maps"
	"slices"
	"strings"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// scriptCommands are the commands in a completion. Files of other topics add theirs in an init function.
var scriptCommands = map[string]func(in input) *commandpb.Command{}

func init() {
	for verb, make := range map[string]func(in input) *commandpb.Command{
		"activity":        activityCommand,
		"cancel-activity": cancelActivityCommand,
		"timer":           timerCommand,
		"cancel-timer":    cancelTimerCommand,
		"marker":          markerCommand,
		"done":            doneCommand,
		"fail":            failCommand,
		"canceled":        canceledCommand,
		"upsert":          upsertCommand,
		"memo":            memoCommand,
		"empty":           emptyCommand,
	} {
		scriptCommands[verb] = make
	}
}

func (s *script) command(in input) *commandpb.Command {
	make, ok := scriptCommands[in.verb]
	if !ok {
		s.t.Fatalf("no command %q; there are %v", in.verb, slices.Sorted(maps.Keys(scriptCommands)))
	}
	return make(in)
}

// activity ID [close=] [start=] [run=] [heartbeat=] [attempts=] [interval=] [coefficient=] [final=] [queue=] [priority=] [size=] [eager] [bare]
func activityCommand(in input) *commandpb.Command {
	a := &commandpb.ScheduleActivityTaskCommandAttributes{
		ActivityId:             in.word(0),
		ActivityType:           &commonpb.ActivityType{Name: in.or("type", "activity")},
		TaskQueue:              &taskqueuepb.TaskQueue{Name: in.or("queue", "q"), Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		Input:                  ofSize(in.number("size", 0)),
		ScheduleToCloseTimeout: optional(in.duration("close")),
		ScheduleToStartTimeout: optional(in.duration("start")),
		StartToCloseTimeout:    optional(in.duration("run")),
		HeartbeatTimeout:       optional(in.duration("heartbeat")),
		RequestEagerExecution:  in.is("eager"),
	}
	if a.ScheduleToCloseTimeout == nil && a.StartToCloseTimeout == nil && !in.is("bare") {
		a.StartToCloseTimeout = durationpb.New(parseDuration("1m"))
	}
	if in.named["attempts"] != "" || in.named["interval"] != "" || in.named["final"] != "" {
		a.RetryPolicy = &commonpb.RetryPolicy{
			InitialInterval: optional(in.duration("interval")), BackoffCoefficient: float64(in.number("coefficient", 1)), MaximumAttempts: int32(in.number("attempts", 0)),
		}
		if final := in.named["final"]; final != "" {
			a.RetryPolicy.NonRetryableErrorTypes = strings.Split(final, ",")
		}
	}
	if in.named["priority"] != "" || in.named["weight"] != "" {
		a.Priority = &commonpb.Priority{PriorityKey: int32(in.number("priority", 0)), FairnessWeight: float32(in.number("weight", 0)), FairnessKey: in.or("fairness", "")}
	}
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
		Attributes:  &commandpb.Command_ScheduleActivityTaskCommandAttributes{ScheduleActivityTaskCommandAttributes: a},
	}
}

// cancel-activity SCHEDULED-EVENT
func cancelActivityCommand(in input) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK,
		Attributes: &commandpb.Command_RequestCancelActivityTaskCommandAttributes{RequestCancelActivityTaskCommandAttributes: &commandpb.RequestCancelActivityTaskCommandAttributes{
			ScheduledEventId: in.number("event", 0),
		}},
	}
}

// timer ID TIMEOUT
func timerCommand(in input) *commandpb.Command {
	a := &commandpb.StartTimerCommandAttributes{TimerId: in.or("id", in.word(0))}
	if text := in.word(1); text != "" {
		a.StartToFireTimeout = durationpb.New(parseDuration(text))
	}
	return &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_START_TIMER, Attributes: &commandpb.Command_StartTimerCommandAttributes{StartTimerCommandAttributes: a}}
}

// cancel-timer ID
func cancelTimerCommand(in input) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_CANCEL_TIMER,
		Attributes:  &commandpb.Command_CancelTimerCommandAttributes{CancelTimerCommandAttributes: &commandpb.CancelTimerCommandAttributes{TimerId: in.word(0)}},
	}
}

// marker NAME [size=]
func markerCommand(in input) *commandpb.Command {
	a := &commandpb.RecordMarkerCommandAttributes{MarkerName: in.word(0)}
	if n := in.number("size", 0); n > 0 {
		a.Details = map[string]*commonpb.Payloads{"d": ofSize(n)}
	}
	return &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_RECORD_MARKER, Attributes: &commandpb.Command_RecordMarkerCommandAttributes{RecordMarkerCommandAttributes: a}}
}

// done [RESULT] [size=]
func doneCommand(in input) *commandpb.Command {
	result := payloads(in.word(0))
	if n := in.number("size", 0); n > 0 {
		result = ofSize(n)
	}
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
		Attributes:  &commandpb.Command_CompleteWorkflowExecutionCommandAttributes{CompleteWorkflowExecutionCommandAttributes: &commandpb.CompleteWorkflowExecutionCommandAttributes{Result: result}},
	}
}

func applicationFailure(in input, typ string) *failurepb.Failure {
	info := &failurepb.ApplicationFailureInfo{Type: typ, NonRetryable: in.is("final"), NextRetryDelay: optional(in.duration("delay"))}
	if n := in.number("details-size", 0); n > 0 {
		info.Details = ofSize(n)
	}
	message := typ + " happened"
	if n := in.number("size", 0); n > 0 {
		message = strings.Repeat("ü", int(n)/2)
	}
	return &failurepb.Failure{Message: message, FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: info}}
}

// fail TYPE [final]
func failCommand(in input) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
		Attributes: &commandpb.Command_FailWorkflowExecutionCommandAttributes{FailWorkflowExecutionCommandAttributes: &commandpb.FailWorkflowExecutionCommandAttributes{
			Failure: applicationFailure(in, in.word(0)),
		}},
	}
}

func canceledCommand(in input) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION,
		Attributes:  &commandpb.Command_CancelWorkflowExecutionCommandAttributes{CancelWorkflowExecutionCommandAttributes: &commandpb.CancelWorkflowExecutionCommandAttributes{Details: payloads(in.word(0))}},
	}
}

func fieldsOf(in input) map[string]*commonpb.Payload {
	fields := map[string]*commonpb.Payload{}
	for name, value := range in.named {
		fields[name] = &commonpb.Payload{Data: []byte(value), Metadata: map[string][]byte{"encoding": []byte("json/plain")}}
	}
	return fields
}

// upsert NAME=VALUE …
func upsertCommand(in input) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
		Attributes: &commandpb.Command_UpsertWorkflowSearchAttributesCommandAttributes{UpsertWorkflowSearchAttributesCommandAttributes: &commandpb.UpsertWorkflowSearchAttributesCommandAttributes{
			SearchAttributes: &commonpb.SearchAttributes{IndexedFields: fieldsOf(in)},
		}},
	}
}

// memo NAME=VALUE …
func memoCommand(in input) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES,
		Attributes: &commandpb.Command_ModifyWorkflowPropertiesCommandAttributes{ModifyWorkflowPropertiesCommandAttributes: &commandpb.ModifyWorkflowPropertiesCommandAttributes{
			UpsertedMemo: &commonpb.Memo{Fields: fieldsOf(in)},
		}},
	}
}

// empty TYPE: a command without attributes.
func emptyCommand(in input) *commandpb.Command {
	return &commandpb.Command{CommandType: enumspb.CommandType(enumspb.CommandType_value["COMMAND_TYPE_"+in.word(0)])}
}
