package frontend

import (
	"context"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/namespace"
)

// UpdateWorkflowExecution implements WorkflowService.
func (h *Handler) UpdateWorkflowExecution(ctx context.Context, r *workflowservice.UpdateWorkflowExecutionRequest) (*workflowservice.UpdateWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	update, err := completeUpdate(r)
	if err != nil {
		return nil, err
	}
	return h.history.UpdateWorkflowExecution(ctx, &historypb.UpdateWorkflowExecutionRequest{NamespaceId: n.ID(), Request: update})
}

// completeUpdate validates an update and returns it with an id.
func completeUpdate(r *workflowservice.UpdateWorkflowExecutionRequest) (*workflowservice.UpdateWorkflowExecutionRequest, error) {
	if err := checkExecution(r.GetWorkflowExecution()); err != nil {
		return nil, err
	}
	if err := checkUpdate(r.GetRequest()); err != nil {
		return nil, err
	}
	if r.GetWaitPolicy().GetLifecycleStage() == enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED {
		return nil, serviceerror.NewPermissionDenied(
			"Waiting until an update is admitted is not supported: wait until it is accepted or completed.", "")
	}
	if r.GetRequest().GetMeta().GetUpdateId() != "" {
		return r, nil
	}
	r = shallowCopy(r)
	r.Request = shallowCopy(r.GetRequest())
	r.Request.Meta = shallowCopy(r.GetRequest().GetMeta())
	r.Request.Meta.UpdateId = uuid.NewString()
	return r, nil
}

func checkUpdate(r *updatepb.Request) error {
	if r.GetMeta() == nil {
		return serviceerror.NewInvalidArgument("Update meta is not set on the request.")
	}
	if r.GetInput() == nil {
		return serviceerror.NewInvalidArgument("Update input is not set on the request.")
	}
	return firstError(
		required("Update name", r.GetInput().GetName()),
		checkLength("UpdateId", r.GetMeta().GetUpdateId(), idLengthMax),
		checkLength("RequestId", r.GetRequestId(), idLengthMax),
		checkSize("Update input", r.GetInput().GetArgs(), payloadSizeMax),
		checkCallbacks(r.GetCompletionCallbacks()),
	)
}

// PollWorkflowExecutionUpdate implements WorkflowService.
func (h *Handler) PollWorkflowExecutionUpdate(ctx context.Context, r *workflowservice.PollWorkflowExecutionUpdateRequest) (*workflowservice.PollWorkflowExecutionUpdateResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.GetUpdateRef() == nil {
		return nil, serviceerror.NewInvalidArgument("UpdateRef is not set on the request.")
	}
	if err := checkExecution(r.GetUpdateRef().GetWorkflowExecution()); err != nil {
		return nil, err
	}
	return h.history.PollWorkflowExecutionUpdate(ctx, &historypb.PollWorkflowExecutionUpdateRequest{NamespaceId: n.ID(), Request: r})
}

// ExecuteMultiOperation implements WorkflowService. Its one use is update-with-start.
func (h *Handler) ExecuteMultiOperation(ctx context.Context, r *workflowservice.ExecuteMultiOperationRequest) (*workflowservice.ExecuteMultiOperationResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	operations := r.GetOperations()
	if len(operations) != 2 || operations[0].GetStartWorkflow() == nil || operations[1].GetUpdateWorkflow() == nil {
		return nil, serviceerror.NewInvalidArgument("Operations have to be exactly [Start, Update].")
	}
	start, err := h.completeStartOfUpdate(ctx, n, operations[0].GetStartWorkflow())
	if err != nil {
		return nil, updateWithStartFailed(err, errAborted())
	}
	update, err := completeUpdateOfStart(n, operations[1].GetUpdateWorkflow(), start.GetWorkflowId())
	if err != nil {
		return nil, updateWithStartFailed(errAborted(), err)
	}
	r = shallowCopy(r)
	r.Operations = []*workflowservice.ExecuteMultiOperationRequest_Operation{
		{Operation: &workflowservice.ExecuteMultiOperationRequest_Operation_StartWorkflow{StartWorkflow: start}},
		{Operation: &workflowservice.ExecuteMultiOperationRequest_Operation_UpdateWorkflow{UpdateWorkflow: update}},
	}
	return h.history.ExecuteMultiOperation(ctx, &historypb.ExecuteMultiOperationRequest{NamespaceId: n.ID(), Request: r})
}

func updateWithStartFailed(start, update error) error {
	return serviceerror.NewMultiOperationExecution("Update-with-start could not be executed.", []error{start, update})
}

func errAborted() error { return serviceerror.NewMultiOperationAborted("Operation was aborted.") }

// completeStartOfUpdate validates the start of an update-with-start. The update waits for the first workflow task, so
// nothing may delay that.
func (h *Handler) completeStartOfUpdate(
	ctx context.Context, n *namespace.Namespace, r *workflowservice.StartWorkflowExecutionRequest,
) (*workflowservice.StartWorkflowExecutionRequest, error) {
	switch {
	case r.GetNamespace() != "" && r.GetNamespace() != n.Name():
		return nil, serviceerror.NewInvalidArgument("The start's namespace is not that of the request.")
	case r.GetCronSchedule() != "":
		return nil, serviceerror.NewInvalidArgument("CronSchedule is not supported by update-with-start.")
	case r.GetWorkflowStartDelay() != nil:
		return nil, serviceerror.NewInvalidArgument("WorkflowStartDelay is not supported by update-with-start.")
	case r.GetRequestEagerExecution():
		return nil, serviceerror.NewInvalidArgument("RequestEagerExecution is not supported by update-with-start.")
	}
	start, err := h.completeStart(ctx, n, r)
	if err != nil {
		return nil, err
	}
	start.Namespace = n.Name()
	return start, nil
}

// completeUpdateOfStart validates the update of an update-with-start. It goes to the run that the start finds or makes.
func completeUpdateOfStart(
	n *namespace.Namespace, r *workflowservice.UpdateWorkflowExecutionRequest, workflowID string,
) (*workflowservice.UpdateWorkflowExecutionRequest, error) {
	switch {
	case r.GetNamespace() != "" && r.GetNamespace() != n.Name():
		return nil, serviceerror.NewInvalidArgument("The update's namespace is not that of the request.")
	case r.GetWorkflowExecution().GetRunId() != "":
		return nil, serviceerror.NewInvalidArgument("RunId is not allowed in update-with-start.")
	case r.GetFirstExecutionRunId() != "":
		return nil, serviceerror.NewInvalidArgument("FirstExecutionRunId is not allowed in update-with-start.")
	}
	update, err := completeUpdate(r)
	if err != nil {
		return nil, err
	}
	if update.GetWorkflowExecution().GetWorkflowId() != workflowID {
		return nil, serviceerror.NewInvalidArgument("WorkflowId of the update is not that of the start.")
	}
	update = shallowCopy(update)
	update.Namespace = n.Name()
	return update, nil
}
