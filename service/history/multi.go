package history

import (
	"context"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// ExecuteMultiOperation implements HistoryService for its one use, update-with-start. The start and the admission of the update
// happen under one lock, and in one commit if a run is made: nobody can see the run without its update. A client that repeats
// both with the same ids finds what it did before.
func (s *Service) ExecuteMultiOperation(ctx context.Context, in *historypb.ExecuteMultiOperationRequest) (*workflowservice.ExecuteMultiOperationResponse, error) {
	operations := in.GetRequest().GetOperations()
	if len(operations) != 2 || operations[0].GetStartWorkflow() == nil || operations[1].GetUpdateWorkflow() == nil {
		return nil, serviceerror.NewInvalidArgument("Operations have to be exactly [Start, Update].")
	}
	start, update := operations[0].GetStartWorkflow(), operations[1].GetUpdateWorkflow()
	var a *awaited
	var begun *workflowservice.StartWorkflowExecutionResponse
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), start.GetWorkflowId()), func(x *access) (err error) {
		begun, a, err = x.updateWithStart(start, update)
		return err
	})
	if err != nil {
		return nil, err
	}
	updated, err := s.updateResponse(ctx, update.GetRequest().GetMeta().GetUpdateId(), a)
	if err != nil {
		return nil, multiError(errAborted, err)
	}
	return multiResponse(begun, updated), nil
}

func (x *access) updateWithStart(start *workflowservice.StartWorkflowExecutionRequest, update *workflowservice.UpdateWorkflowExecutionRequest) (*workflowservice.StartWorkflowExecutionResponse, *awaited, error) {
	if begun, a, err := x.findUpdate(update); err != nil || a != nil {
		return begun, a, err
	}
	st := startOf(x.chain.key.NamespaceID, start)
	var refused error
	st.then = func(tx *workflow.Tx) error {
		_, refused = tx.AdmitUpdate(update.GetRequest())
		return refused
	}
	done, err := x.start(st)
	switch {
	case refused != nil:
		return nil, nil, multiError(errAborted, refused)
	case err == nil:
	case transient(err) || err == errReload:
		return nil, nil, err
	default:
		return nil, nil, multiError(err, errAborted)
	}
	a, err := x.admit(done.run, update)
	if err != nil {
		return nil, nil, multiError(errAborted, err)
	}
	begun, err := x.startResponse(done, start)
	return begun, a, err
}

// findUpdate finds the update of a repeated request on the current run; nil: it has not been there.
func (x *access) findUpdate(update *workflowservice.UpdateWorkflowExecutionRequest) (*workflowservice.StartWorkflowExecutionResponse, *awaited, error) {
	current, err := x.load("")
	if err != nil || current == nil {
		return nil, nil, err
	}
	id := update.GetRequest().GetMeta().GetUpdateId()
	status, known := current.state.UpdateStatus(id)
	if !known {
		return nil, nil, nil
	}
	begun := &workflowservice.StartWorkflowExecutionResponse{RunId: current.id, Status: current.status()}
	return begun, x.await(current, id, status, stageOfUpdate(update.GetWaitPolicy())), nil
}

// errAborted is the status of an operation that was given up because of the other one.
var errAborted = serviceerror.NewMultiOperationAborted("Operation was aborted.")

func multiError(start, update error) error {
	return serviceerror.NewMultiOperationExecution("Update-with-Start could not be executed.", []error{start, update})
}

func multiResponse(start *workflowservice.StartWorkflowExecutionResponse, update *workflowservice.UpdateWorkflowExecutionResponse) *workflowservice.ExecuteMultiOperationResponse {
	type response = workflowservice.ExecuteMultiOperationResponse_Response
	return &workflowservice.ExecuteMultiOperationResponse{Responses: []*response{
		{Response: &workflowservice.ExecuteMultiOperationResponse_Response_StartWorkflow{StartWorkflow: start}},
		{Response: &workflowservice.ExecuteMultiOperationResponse_Response_UpdateWorkflow{UpdateWorkflow: update}},
	}}
}
