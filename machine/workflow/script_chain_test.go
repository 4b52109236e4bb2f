package workflow

import (
	"strings"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
)

// Verbs of chains, children and requests to other workflows.

func init() {
	for verb, run := range map[string]func(*script, input){
		"retention":     func(s *script, in input) { s.env.Retention = parseDuration(in.word(0)) },
		"child-started": scriptChildStarted,
		"child-failed":  scriptChildFailed,
		"child-closed":  scriptChildClosed,
		"child-released": func(s *script, in input) {
			s.apply(func(tx *Tx) error { tx.ChildReleased(in.number("event", 0)); return nil })
		},
		"become-child": scriptBecomeChild,
		"release":      func(s *script, _ input) { s.apply(func(tx *Tx) error { tx.ReleaseFirstTask(); return nil }) },
		"external-done": func(s *script, in input) {
			s.apply(func(tx *Tx) error { tx.ExternalDone(in.number("event", 0)); return nil })
		},
		"external-failed": scriptExternalFailed,
		"effect-failed":   scriptEffectFailed,
		"effect-done": func(s *script, in input) {
			s.apply(func(tx *Tx) error { tx.CloseEffectDone(in.number("id", 0)); return nil })
		},
		"owes": func(s *script, _ input) {
			s.printf("owes: %t, needs owner: %t", s.state.OwesEffects(), s.state.NeedsOwner())
		},
	} {
		scriptVerbs[verb] = run
	}
	for verb, make := range map[string]func(in input) *commandpb.Command{
		"continue":        continueCommand,
		"child":           childCommand,
		"signal-external": signalExternalCommand,
		"cancel-external": cancelExternalCommand,
	} {
		scriptCommands[verb] = make
	}
}

// continue [INPUT] [type=] [queue=] [run-timeout=] [delay=] [cron=] [attempts=] [color=]
func continueCommand(in input) *commandpb.Command {
	a := &commandpb.ContinueAsNewWorkflowExecutionCommandAttributes{
		Input: payloads(in.word(0)), WorkflowRunTimeout: optional(in.duration("run-timeout")), BackoffStartInterval: optional(in.duration("delay")),
		CronSchedule: strings.ReplaceAll(in.or("cron", ""), "_", " "),
	}
	if name, ok := in.named["type"]; ok {
		a.WorkflowType = &commonpb.WorkflowType{Name: name}
	}
	if name, ok := in.named["queue"]; ok {
		a.TaskQueue = &taskqueuepb.TaskQueue{Name: name}
	}
	if n := in.number("attempts", 0); n != 0 {
		a.RetryPolicy = &commonpb.RetryPolicy{MaximumAttempts: int32(n)}
	}
	if name, ok := in.named["attribute"]; ok {
		a.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{name: {Data: []byte("v")}}}
	}
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION,
		Attributes:  &commandpb.Command_ContinueAsNewWorkflowExecutionCommandAttributes{ContinueAsNewWorkflowExecutionCommandAttributes: a},
	}
}

// child ID [type=] [policy=] [namespace=] [run-timeout=] [execution-timeout=] [cron=] [attempts=] [priority=] [size=]
func childCommand(in input) *commandpb.Command {
	a := &commandpb.StartChildWorkflowExecutionCommandAttributes{
		Namespace: in.or("namespace", ""), WorkflowId: in.word(0), WorkflowType: &commonpb.WorkflowType{Name: in.or("type", "child")},
		Input: ofSize(in.number("size", 0)), WorkflowRunTimeout: optional(in.duration("run-timeout")), WorkflowExecutionTimeout: optional(in.duration("execution-timeout")),
		CronSchedule: strings.ReplaceAll(in.or("cron", ""), "_", " "), Control: in.or("control", ""),
		ParentClosePolicy: enumspb.ParentClosePolicy(enumspb.ParentClosePolicy_value["PARENT_CLOSE_POLICY_"+in.or("policy", "UNSPECIFIED")]),
	}
	if in.is("untyped") {
		a.WorkflowType = nil
	}
	if h := in.or("header", ""); h != "" {
		a.Header = &commonpb.Header{Fields: map[string]*commonpb.Payload{"h": {Data: []byte(h)}}}
	}
	if n := in.number("attempts", 0); n != 0 {
		a.RetryPolicy = &commonpb.RetryPolicy{MaximumAttempts: int32(n)}
	}
	if n := in.number("priority", 0); n != 0 {
		a.Priority = &commonpb.Priority{PriorityKey: int32(n)}
	}
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION,
		Attributes:  &commandpb.Command_StartChildWorkflowExecutionCommandAttributes{StartChildWorkflowExecutionCommandAttributes: a},
	}
}

// signal-external ID NAME [namespace=] [run=] [child] [size=]
func signalExternalCommand(in input) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION,
		Attributes: &commandpb.Command_SignalExternalWorkflowExecutionCommandAttributes{SignalExternalWorkflowExecutionCommandAttributes: &commandpb.SignalExternalWorkflowExecutionCommandAttributes{
			Namespace:  in.or("namespace", ""),
			Execution:  &commonpb.WorkflowExecution{WorkflowId: in.word(0), RunId: in.or("run", "")},
			SignalName: in.word(1), Input: ofSize(in.number("size", 0)), ChildWorkflowOnly: in.is("child"), Control: in.or("control", ""),
		}},
	}
}

// cancel-external ID [namespace=] [run=] [child]
func cancelExternalCommand(in input) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION,
		Attributes: &commandpb.Command_RequestCancelExternalWorkflowExecutionCommandAttributes{RequestCancelExternalWorkflowExecutionCommandAttributes: &commandpb.RequestCancelExternalWorkflowExecutionCommandAttributes{
			Namespace: in.or("namespace", ""), WorkflowId: in.word(0), RunId: in.or("run", ""), ChildWorkflowOnly: in.is("child"), Reason: in.or("reason", ""),
		}},
	}
}

// child-started event= run=
func scriptChildStarted(s *script, in input) {
	s.apply(func(tx *Tx) error {
		s.printf("waited for: %t", tx.ChildStarted(in.number("event", 0), in.or("run", "child-run-1"), nil))
		return nil
	})
}

// child-failed event=
func scriptChildFailed(s *script, in input) {
	s.apply(func(tx *Tx) error {
		tx.ChildStartFailed(in.number("event", 0), enumspb.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS, in.or("control", ""))
		return nil
	})
}

// child-closed HOW event= [id=] [first=] [last=]
func scriptChildClosed(s *script, in input) {
	e := &historypb.HistoryEvent{}
	switch in.word(0) {
	case "completed":
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{Result: payloads("result")}}
	case "failed":
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{
			Failure: applicationFailure(in, "Bad"), RetryState: enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED,
		}}
	case "canceled":
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionCanceledEventAttributes{WorkflowExecutionCanceledEventAttributes: &historypb.WorkflowExecutionCanceledEventAttributes{Details: payloads("bye")}}
	case "timed-out":
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionTimedOutEventAttributes{WorkflowExecutionTimedOutEventAttributes: &historypb.WorkflowExecutionTimedOutEventAttributes{RetryState: enumspb.RETRY_STATE_TIMEOUT}}
	case "terminated":
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes{WorkflowExecutionTerminatedEventAttributes: &historypb.WorkflowExecutionTerminatedEventAttributes{}}
	}
	s.apply(func(tx *Tx) error {
		return tx.ChildClosed(ChildClose{
			InitiatedID: in.number("event", 0), FirstRunID: in.or("first", "child-run-1"), Event: e,
			Execution: &commonpb.WorkflowExecution{WorkflowId: in.or("id", "c"), RunId: in.or("last", "child-run-1")},
		})
	})
}

// become-child event=: goes on as the child of an initiation, as its first run.
func scriptBecomeChild(s *script, in input) {
	event := in.number("event", 0)
	req := s.state.ChildRequest(s.state.Children[event], s.events[event-1], "default")
	s.printf("policy %s, conflict %s", req.Request.WorkflowIdReusePolicy, req.Request.WorkflowIdConflictPolicy)
	tx := Open(ChildOpening(req, "child-run-1"), s.now, s.env)
	s.state, s.rows, s.events = nil, nil, nil
	s.commit(tx)
	s.printf("child of its parent: %t", s.state.IsChildOf(req.Parent))
}

// external-failed event= [limit]
func scriptExternalFailed(s *script, in input) {
	cause := enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND
	if in.is("namespace") {
		cause = enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_NAMESPACE_NOT_FOUND
	}
	s.apply(func(tx *Tx) error { tx.ExternalFailed(in.number("event", 0), cause); return nil })
}

// effect-failed id= [after=] [run=]
func scriptEffectFailed(s *script, in input) {
	s.apply(func(tx *Tx) error {
		tx.EffectFailed(in.number("id", 0), in.duration("after"), in.or("run", ""))
		return nil
	})
	s.printNext()
}
