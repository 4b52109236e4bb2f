package history

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	historypb "github.com/perdure/perdure/api/history/v1"
)

func updateRequest(id string, want stage) *workflowservice.UpdateWorkflowExecutionRequest {
	return &workflowservice.UpdateWorkflowExecutionRequest{
		WorkflowExecution: execution("w", ""), WaitPolicy: &updatepb.WaitPolicy{LifecycleStage: want},
		Request: &updatepb.Request{Meta: &updatepb.Meta{UpdateId: id, Identity: "client"}, Input: &updatepb.Input{Name: "change"}},
	}
}

type updateAnswer struct {
	out *workflowservice.UpdateWorkflowExecutionResponse
	err error
}

func (h *host) update(id string, want stage) <-chan updateAnswer {
	answer := make(chan updateAnswer, 1)
	go func() {
		out, err := h.UpdateWorkflowExecution(h.ctx, &historypb.UpdateWorkflowExecutionRequest{NamespaceId: h.id(), Request: updateRequest(id, want)})
		answer <- updateAnswer{out, err}
	}()
	synctest.Wait()
	return answer
}

func (h *host) pollUpdate(id string, want stage) (*workflowservice.PollWorkflowExecutionUpdateResponse, error) {
	return h.PollWorkflowExecutionUpdate(h.ctx, &historypb.PollWorkflowExecutionUpdateRequest{NamespaceId: h.id(), Request: &workflowservice.PollWorkflowExecutionUpdateRequest{
		UpdateRef:  &updatepb.UpdateRef{WorkflowExecution: execution("w", ""), UpdateId: id},
		WaitPolicy: &updatepb.WaitPolicy{LifecycleStage: want},
	}})
}

// respondTo answers the update of a task with messages.
func (h *host) respondTo(task *workflowservice.PollWorkflowTaskQueueResponse, id string, bodies ...proto.Message) *workflowservice.RespondWorkflowTaskCompletedResponse {
	h.t.Helper()
	r := &workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken}
	for _, body := range bodies {
		packed, err := anypb.New(body)
		require.NoError(h.t, err)
		m := &protocolpb.Message{Id: uuid.NewString(), ProtocolInstanceId: id, Body: packed}
		r.Messages = append(r.Messages, m)
		if _, rejected := body.(*updatepb.Rejection); !rejected {
			r.Commands = append(r.Commands, &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE,
				Attributes: &commandpb.Command_ProtocolMessageCommandAttributes{ProtocolMessageCommandAttributes: &commandpb.ProtocolMessageCommandAttributes{MessageId: m.Id}}})
		}
	}
	out, err := h.respond(r)
	require.NoError(h.t, err)
	return out
}

func accept(id string) proto.Message {
	return &updatepb.Acceptance{AcceptedRequestMessageId: id + "/request", AcceptedRequest: updateRequest(id, 0).Request}
}

func outcome(id string) proto.Message {
	return &updatepb.Response{Meta: &updatepb.Meta{UpdateId: id}, Outcome: &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: payload("result")}}}
}

func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		run := h.run("w")
		h.complete(h.task())
		answer := h.update("u", stageCompleted)
		commits := h.db.Commits()
		task := h.task() // speculative: nothing is written for it
		require.Len(t, task.Messages, 1)
		require.Equal(t, "u", task.Messages[0].ProtocolInstanceId)
		require.Equal(t, commits, h.db.Commits())
		h.respondTo(task, "u", accept("u"), outcome("u"))
		got := <-answer
		require.NoError(t, got.err)
		require.Equal(t, stageCompleted, got.out.Stage)
		require.Equal(t, "result", string(got.out.Outcome.GetSuccess().Payloads[0].Data))
		require.Equal(t, run, got.out.UpdateRef.WorkflowExecution.RunId)
		require.Zero(t, h.waiters("w"))

		got = <-h.update("u", stageCompleted) // the same again
		require.Equal(t, "result", string(got.out.Outcome.GetSuccess().Payloads[0].Data))
		polled, err := h.pollUpdate("u", stageCompleted)
		require.NoError(t, err)
		require.Equal(t, "result", string(polled.Outcome.GetSuccess().Payloads[0].Data))
		_, err = h.pollUpdate("unknown", stageCompleted)
		require.Equal(t, codes.NotFound, code(err))
	})
}

func TestUpdateIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		h.complete(h.task())
		answer := h.update("u", stageCompleted)
		out := h.respondTo(h.task(), "u", &updatepb.Rejection{Failure: &failurepb.Failure{Message: "no"}})
		require.EqualValues(t, 3, out.ResetHistoryEventId)
		got := <-answer
		require.NoError(t, got.err)
		require.Equal(t, "no", got.out.Outcome.GetFailure().Message)
		require.Len(t, h.events("w", ""), 4)
	})
}

// A wait that ends too early tells how far the update has come.
func TestUpdateStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.ctx = t.Context()
		h.run("w")
		h.complete(h.task())
		begun := time.Now()
		answer := h.update("u", stageCompleted)
		task := h.task()
		polled, err := h.pollUpdate("u", 0)
		require.NoError(t, err)
		require.Equal(t, enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED, polled.Stage)
		const unknown = stageCompleted + 1
		polled, err = h.pollUpdate("u", unknown)
		require.NoError(t, err)
		require.Equal(t, enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED, polled.Stage, "nobody waits for what never comes")
		require.Equal(t, enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED, (<-h.update("u", unknown)).out.Stage)
		accepted := h.update("u", stageAccepted)
		h.respondTo(task, "u", accept("u"))
		require.Equal(t, stageAccepted, (<-accepted).out.Stage)
		got := <-answer
		require.NoError(t, got.err)
		require.Equal(t, longPollWait, time.Since(begun))
		require.Equal(t, stageAccepted, got.out.Stage)
		require.Nil(t, got.out.Outcome)

		require.NoError(t, h.terminateRun("w", ""))
		polled, err = h.pollUpdate("u", stageCompleted)
		require.NoError(t, err)
		require.Equal(t, "AcceptedUpdateCompletedWorkflow", polled.Outcome.GetFailure().GetApplicationFailureInfo().Type)
		require.Equal(t, codes.NotFound, code((<-h.update("v", stageAccepted)).err))
	})
}

func TestUpdateIsAbortedByTheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		answer := h.update("u", stageAccepted)
		require.NoError(t, h.terminateRun("w", ""))
		require.Equal(t, codes.NotFound, code((<-answer).err))
	})
}

func (h *host) updateWithStart(id string, policy enumspb.WorkflowIdConflictPolicy) (*workflowservice.ExecuteMultiOperationResponse, error) {
	start := startRequest("w")
	start.WorkflowIdConflictPolicy = policy
	type operation = workflowservice.ExecuteMultiOperationRequest_Operation
	return h.ExecuteMultiOperation(h.ctx, &historypb.ExecuteMultiOperationRequest{NamespaceId: h.id(), Request: &workflowservice.ExecuteMultiOperationRequest{
		Operations: []*operation{
			{Operation: &workflowservice.ExecuteMultiOperationRequest_Operation_StartWorkflow{StartWorkflow: start}},
			{Operation: &workflowservice.ExecuteMultiOperationRequest_Operation_UpdateWorkflow{UpdateWorkflow: updateRequest(id, stageCompleted)}},
		},
	}})
}

func TestUpdateWithStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		done := make(chan *workflowservice.ExecuteMultiOperationResponse, 1)
		commits := h.db.Commits()
		go func() {
			out, _ := h.updateWithStart("u", enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING)
			done <- out
		}()
		task := h.task()
		require.Equal(t, 1, h.db.Commits()-commits)
		require.Len(t, task.Messages, 1)
		require.EqualValues(t, 3, task.StartedEventId)
		h.respondTo(task, "u", accept("u"), outcome("u"))
		out := <-done
		require.Len(t, out.GetResponses(), 2)
		require.True(t, out.Responses[0].GetStartWorkflow().Started)
		require.Equal(t, stageCompleted, out.Responses[1].GetUpdateWorkflow().Stage)

		again, err := h.updateWithStart("u", enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL)
		require.NoError(t, err)
		require.False(t, again.Responses[0].GetStartWorkflow().Started)
		require.Equal(t, "result", string(again.Responses[1].GetUpdateWorkflow().Outcome.GetSuccess().Payloads[0].Data))

		_, err = h.updateWithStart("v", enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL)
		var multi *serviceerror.MultiOperationExecution
		require.ErrorAs(t, err, &multi)
		require.Equal(t, codes.AlreadyExists, code(err))
		var exists *serviceerror.WorkflowExecutionAlreadyStarted
		require.ErrorAs(t, multi.OperationErrors()[0], &exists)
		require.Equal(t, codes.Aborted, code(multi.OperationErrors()[1]))
	})
}
