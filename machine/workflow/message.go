package workflow

import (
	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	updatepb "go.temporal.io/api/update/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// Updates travel in protocol messages beside a workflow task's events and commands. PROTOCOL_MESSAGE commands say where among
// the commands a message of the worker applies; the others apply behind them, in their order. Rejections write nothing and
// apply first of all, so that a run that closes in the same task does not swallow them.

const badMessage = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE

// speculativeEventsMax is how many events, besides the end of the last task, a worker may have to be sent again when a
// speculative task is dropped (CONTRACT 5.2).
const speculativeEventsMax = 10

// requestMessageID is the id of the message that carries an update to the worker.
func requestMessageID(updateID string) string { return updateID + "/request" }

// UpdateMessages are the updates that go out with the started workflow task, as messages of the poll's reply.
func (s *State) UpdateMessages() ([]*protocolpb.Message, error) {
	task := s.Task()
	if task == nil || task.StartedEventId == 0 {
		return nil, nil
	}
	var out []*protocolpb.Message
	for _, id := range updatesInOrder(s.Volatile.Updates) {
		u := s.Volatile.Updates[id]
		if u.sentIn != task.StartedEventId {
			continue
		}
		body, err := anypb.New(u.Request)
		if err != nil {
			return nil, err
		}
		out = append(out, &protocolpb.Message{
			Id: requestMessageID(id), ProtocolInstanceId: id, SequencingId: &protocolpb.Message_EventId{EventId: u.sequence}, Body: body,
		})
	}
	return out, nil
}

// message is one message of a completion.
type message struct {
	id, update string
	body       proto.Message
	done       bool
}

// messages are those of a completion, in their order.
type messages []*message

// readMessages decodes the worker's messages and applies rejections.
func (c *completion) readMessages() error {
	for _, m := range c.req.Messages {
		body, err := m.Body.UnmarshalNew()
		if err != nil {
			return reject(badMessage, "Message %s cannot be decoded.", m.Id)
		}
		read := &message{id: m.Id, update: m.ProtocolInstanceId, body: body}
		switch r := body.(type) {
		case *updatepb.Acceptance, *updatepb.Response:
		case *updatepb.Rejection:
			if err := c.rejectUpdate(read.update, r); err != nil {
				return err
			}
		default:
			return reject(badMessage, "Message %s has a body of the unknown type %s.", m.Id, m.Body.GetTypeUrl())
		}
		c.messages = append(c.messages, read)
	}
	return nil
}

// protocolMessage applies the message that a command points to.
func (c *completion) protocolMessage(cmd *commandpb.Command) error {
	id := cmd.GetProtocolMessageCommandAttributes().GetMessageId()
	if id == "" {
		return reject(badMessage, "MessageID is not set on ProtocolMessageCommand.")
	}
	var found *message
	for _, m := range c.messages {
		if m.id != id || m.done {
			continue
		}
		if m.done = true; found == nil { // an id means one message: others of the same are not applied
			found = m
		}
	}
	if found == nil {
		return reject(badMessage, "ProtocolMessageCommand referenced absent message ID %s", cut(id, quotedMax))
	}
	return c.applyMessage(found)
}

// remainingMessages applies the messages that no command points to, and rejects the updates that the worker ignored. A worker
// that is busy with local activities is not asked yet.
func (c *completion) remainingMessages() error {
	if !c.open() {
		return nil
	}
	for _, m := range c.messages {
		if !m.done {
			if err := c.applyMessage(m); err != nil {
				return err
			}
		}
	}
	if !c.req.ForceCreateNewWorkflowTask {
		c.ignoreUpdates()
	}
	return nil
}

func (c *completion) applyMessage(m *message) error {
	m.done = true
	switch body := m.body.(type) {
	case *updatepb.Acceptance:
		return c.acceptUpdate(m.update, body)
	case *updatepb.Response:
		return c.completeUpdate(m.update, body)
	}
	return nil
}

// acceptUpdate makes an update durable: from now on the run will answer it. An update that was only admitted is in memory: if the host
// that sent it to the worker is gone, the acceptance carries all that is needed, and the caller comes back for the outcome.
func (c *completion) acceptUpdate(id string, body *updatepb.Acceptance) error {
	a := &historypb.WorkflowExecutionUpdateAcceptedEventAttributes{ProtocolInstanceId: id, AcceptedRequestMessageId: requestMessageID(id)}
	part := &statepb.Update{Id: id}
	if u := c.volatile.Updates[id]; u != nil && u.sentIn != 0 {
		a.AcceptedRequestSequencingEventId, a.AcceptedRequest = u.sequence, u.Request
		delete(c.editUpdates(), id)
	} else if admitted, ok := c.updates.get(id); ok && admitted.AcceptedEventId == 0 {
		a.AcceptedRequestSequencingEventId, part.AdmittedEventId = admitted.AdmittedEventId, admitted.AdmittedEventId
	} else if request := body.GetAcceptedRequest(); !ok && request.GetMeta().GetUpdateId() == id {
		a.AcceptedRequestSequencingEventId, a.AcceptedRequest = body.GetAcceptedRequestSequencingEventId(), request
		if u != nil {
			delete(c.editUpdates(), id)
		}
	} else {
		return c.updateFault(id, body)
	}
	e := c.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED)
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionUpdateAcceptedEventAttributes{WorkflowExecutionUpdateAcceptedEventAttributes: a}
	c.add(e)
	part.AcceptedEventId = e.EventId
	c.updates.put(id, part)
	c.core.UpdateCount++
	c.answer(UpdateOutcome{ID: id, Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED})
	return nil
}

// completeUpdate records the outcome of an accepted update.
func (c *completion) completeUpdate(id string, r *updatepb.Response) error {
	part, ok := c.updates.get(id)
	if !ok || part.AcceptedEventId == 0 || part.CompletedEventId != 0 {
		return c.updateFault(id, r)
	}
	if r.Outcome.GetValue() == nil {
		return reject(badMessage, "The response to update %s has no outcome.", cut(id, quotedMax))
	}
	if proto.Size(r.Outcome) > blobSizeMax {
		return tooLarge(badMessage, "The outcome of update %s is larger than %d bytes.", id, blobSizeMax)
	}
	meta := &updatepb.Meta{UpdateId: id, Identity: r.Meta.GetIdentity()}
	e := c.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED)
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionUpdateCompletedEventAttributes{WorkflowExecutionUpdateCompletedEventAttributes: &historypb.WorkflowExecutionUpdateCompletedEventAttributes{
		Meta: meta, AcceptedEventId: part.AcceptedEventId, Outcome: r.Outcome,
	}}
	c.add(e)
	c.updates.edit(id).CompletedEventId = e.EventId
	c.answer(UpdateOutcome{ID: id, Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, Outcome: r.Outcome})
	return nil
}

// rejectUpdate gives a validator's refusal to the caller. It leaves no trace in the history.
func (c *completion) rejectUpdate(id string, r *updatepb.Rejection) error {
	if u := c.volatile.Updates[id]; u != nil && u.sentIn != 0 {
		delete(c.editUpdates(), id)
	} else if admitted, ok := c.updates.get(id); ok && admitted.AcceptedEventId == 0 {
		c.updates.delete(id)
		c.write()
	} else if ok {
		return c.updateFault(id, r)
	} else {
		return nil // nobody waits for it: its caller has gone, or the host that knew of it
	}
	failure := r.Failure
	if failure == nil {
		failure = serverFailure("RejectedUpdate", "The worker rejected the update without saying why.")
	}
	c.answerFailure(id, failure)
	return nil
}

// updateFault says why an update cannot take this message.
func (c *completion) updateFault(id string, body proto.Message) error {
	state := c.updateState(id)
	if state == "" {
		return reject(badMessage, "update %s wasn't found on the server. "+
			"This is most likely a transient error which will be resolved automatically by retries", cut(id, quotedMax))
	}
	return reject(badMessage, "invalid state transition attempted for Update %s: received *update.%s message while in state %s",
		id, body.ProtoReflect().Descriptor().Name(), state)
}

// updateState names how far an update has come; "": the run does not know it.
func (c *completion) updateState(id string) string {
	part, known := c.updates.get(id)
	switch u := c.volatile.Updates[id]; {
	case part.GetCompletedEventId() != 0:
		return "Completed"
	case part.GetAcceptedEventId() != 0:
		return "Accepted"
	case u != nil && u.sentIn != 0:
		return "Sent"
	case known || u != nil:
		return "Admitted"
	}
	return ""
}

// leavesNoTrace tells whether a speculative task can be dropped as if it had never been: the worker has only rejected or
// ignored updates, and can go back to the state before the task (CONTRACT 8.1.3).
func (c *completion) leavesNoTrace() bool {
	back := c.core.LastCompletedTaskStartedEventId
	if !c.task.Speculative || back == 0 || len(c.req.Commands) > 0 || c.req.ForceCreateNewWorkflowTask {
		return false
	}
	for _, m := range c.messages {
		if _, rejection := m.body.(*updatepb.Rejection); !rejection {
			return false
		}
	}
	// The task's history began behind the start of the last completed task, the first of it was that task's end.
	resent := c.core.NextEventId - 1 - (back + 1)
	if c.req.GetCapabilities().GetDiscardSpeculativeWorkflowTaskWithEvents() {
		return resent <= speculativeEventsMax
	}
	return resent <= 0
}

// dropTask forgets a speculative task.
func (c *completion) dropTask() (*Completion, error) {
	c.ignoreUpdates()
	c.volatile.Task, c.touched = nil, true
	c.out.ResetHistoryEventID = c.core.LastCompletedTaskStartedEventId
	if c.req.ReturnNewWorkflowTask {
		c.returnTask = &inlineStart{identity: c.req.Identity}
	}
	return c.out, nil
}
