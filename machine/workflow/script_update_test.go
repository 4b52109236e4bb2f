package workflow

import (
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// Verbs of updates, messages, pauses and options.

func init() {
	for verb, run := range map[string]func(*script, input){
		"update":   scriptUpdate,
		"status":   scriptUpdateStatus,
		"messages": scriptMessages,
		"answer":   scriptAnswer,
		"pause": func(s *script, in input) {
			s.apply(func(tx *Tx) error {
				return tx.Pause(Pausing{Identity: "client", Reason: in.or("reason", "maintenance"), RequestID: in.or("request", "pause-1")})
			})
		},
		"unpause": func(s *script, in input) {
			s.apply(func(tx *Tx) error {
				return tx.Unpause(Pausing{Identity: "client", Reason: in.or("reason", "done"), RequestID: in.or("request", "unpause-1")})
			})
		},
		"attach":  scriptAttach,
		"options": scriptOptions,
	} {
		scriptVerbs[verb] = run
	}
}

func renderUpdate(u UpdateOutcome) string {
	if u.Err != nil {
		return u.ID + " error " + describeError(u.Err)
	}
	line := fmt.Sprintf("%s %s", u.ID, u.Stage)
	if u.Outcome != nil {
		line += " " + renderMessage(u.Outcome)
	}
	return line
}

// update ID [size=] [times=]
func scriptUpdate(s *script, in input) {
	req := &updatepb.Request{
		Meta:  &updatepb.Meta{UpdateId: in.word(0), Identity: "client"},
		Input: &updatepb.Input{Name: "change", Args: ofSize(in.number("size", 0))},
	}
	s.apply(func(tx *Tx) error {
		status, err := tx.AdmitUpdate(req)
		if err == nil {
			s.printf("status %s", status.Stage)
		}
		return err
	})
}

// status ID
func scriptUpdateStatus(s *script, in input) {
	status, known := s.state.UpdateStatus(in.word(0))
	line := fmt.Sprintf("known: %t, %s", known, status.Stage)
	if status.CompletedEventID != 0 {
		line += fmt.Sprintf(" event=%d", status.CompletedEventID)
	}
	if status.Outcome != nil {
		line += " " + renderMessage(status.Outcome)
	}
	s.printf("%s", line)
}

// messages: those that go out with the started task.
func scriptMessages(s *script, _ input) {
	list, err := s.state.UpdateMessages()
	require.NoError(s.t, err)
	for _, m := range list {
		req := &updatepb.Request{}
		require.NoError(s.t, m.Body.UnmarshalTo(req))
		s.printf("message %s instance=%s event=%d %s", m.Id, m.ProtocolInstanceId, m.GetEventId(), renderMessage(req.Meta))
	}
	if len(list) == 0 {
		s.printf("none")
	}
}

// answer [as=] [new] [force] [discard] [sticky=]: answers the task. Lines "accept ID", "respond ID [RESULT]" and "reject ID" are messages
// with their commands ("silent": without), the others are commands.
func scriptAnswer(s *script, in input) {
	req := &workflowservice.RespondWorkflowTaskCompletedRequest{
		Identity: "worker", ForceCreateNewWorkflowTask: in.is("force"), ReturnNewWorkflowTask: in.is("new"),
		Capabilities: &workflowservice.RespondWorkflowTaskCompletedRequest_Capabilities{DiscardSpeculativeWorkflowTaskWithEvents: in.is("discard")},
	}
	if d, ok := in.named["sticky"]; ok {
		req.StickyAttributes = &taskqueuepb.StickyExecutionAttributes{
			WorkerTaskQueue: &taskqueuepb.TaskQueue{Name: "sticky-q"}, ScheduleToStartTimeout: durationpb.New(parseDuration(d)),
		}
	}
	for _, text := range in.lines {
		line := parseInput(text)
		body := messageBody(line)
		if body == nil {
			req.Commands = append(req.Commands, s.command(line))
			continue
		}
		id := line.or("id", line.word(0)+"/"+line.verb)
		if line.verb != "bare" {
			packed, err := anypb.New(body)
			require.NoError(s.t, err)
			req.Messages = append(req.Messages, &protocolpb.Message{Id: id, ProtocolInstanceId: line.word(0), Body: packed})
		}
		if line.verb != "reject" && !line.is("silent") {
			req.Commands = append(req.Commands, &commandpb.Command{
				CommandType: enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE,
				Attributes:  &commandpb.Command_ProtocolMessageCommandAttributes{ProtocolMessageCommandAttributes: &commandpb.ProtocolMessageCommandAttributes{MessageId: id}},
			})
		}
	}
	s.apply(func(tx *Tx) error {
		c, err := tx.CompleteTask(s.token(in.or("as", "task")), req)
		if err != nil {
			return err
		}
		if c.Err != nil {
			s.printf("refused %s", describeError(c.Err))
		}
		if c.ResetHistoryEventID != 0 {
			s.printf("reset to event %d", c.ResetHistoryEventID)
		}
		return nil
	})
	if task := s.state.Task(); in.is("new") && task != nil && task.StartedEventId != 0 {
		s.tokens["task"] = &tokenpb.Task{ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId, Attempt: task.Attempt, StartId: task.StartId}
	}
}

func messageBody(line input) proto.Message {
	switch line.verb {
	case "accept":
		a := &updatepb.Acceptance{}
		if line.is("whole") {
			a.AcceptedRequestSequencingEventId = 2
			a.AcceptedRequest = &updatepb.Request{Meta: &updatepb.Meta{UpdateId: line.word(0), Identity: "client"}, Input: &updatepb.Input{Name: "change"}}
		}
		return a
	case "respond", "bare":
		r := &updatepb.Response{Meta: &updatepb.Meta{UpdateId: line.word(0), Identity: "client"}}
		if !line.is("empty") {
			r.Outcome = &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: payloads("result")}}
		}
		return r
	case "reject":
		return &updatepb.Rejection{Failure: applicationFailure(line, "Rejected")}
	case "strange":
		return &updatepb.Meta{}
	}
	return nil
}

// attach [request=] [link=]
func scriptAttach(s *script, in input) {
	a := Attachment{RequestID: in.or("request", "")}
	if id, ok := in.named["link"]; ok {
		a.Links = []*commonpb.Link{{Variant: &commonpb.Link_WorkflowEvent_{WorkflowEvent: &commonpb.Link_WorkflowEvent{WorkflowId: id}}}}
	}
	s.apply(func(tx *Tx) error { return tx.Attach(a) })
}

// options PATHS [priority=] [fairness=] [pinned=]: paths with commas between them.
func scriptOptions(s *script, in input) {
	o := &workflowpb.WorkflowExecutionOptions{}
	if in.named["priority"] != "" || in.named["fairness"] != "" {
		o.Priority = &commonpb.Priority{PriorityKey: int32(in.number("priority", 0)), FairnessKey: in.or("fairness", "")}
	}
	if in.is("auto") {
		o.VersioningOverride = &workflowpb.VersioningOverride{Override: &workflowpb.VersioningOverride_AutoUpgrade{AutoUpgrade: true}}
	}
	s.apply(func(tx *Tx) error {
		now, err := tx.UpdateOptions(o, strings.Split(in.word(0), ","), "client")
		if err == nil {
			s.printf("options %s", renderMessage(now))
		}
		return err
	})
}
