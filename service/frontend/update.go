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
			"UpdateWorkflowExecution issued asynchronously and waiting on update admitted is not supported.", "")
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
		return errNotSet("Update meta")
	}
	if r.GetInput() == nil {
		return errNotSet("Update input")
	}
	return firstError(
		required("Update name", r.GetInput().GetName()),
		checkLength("UpdateId", r.GetMeta().GetUpdateId(), idLengthMax),
		checkLength("RequestId", r.GetRequestId(), idLengthMax),
		checkPayload(r.GetInput().GetArgs()),
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
		return nil, errNotSet("UpdateRef")
	}
	if r.GetUpdateRef().GetWorkflowExecution().GetWorkflowId() == "" {
		return nil, errWorkflowMissing()
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
	return serviceerror.NewMultiOperationExecution("Update-with-Start could not be executed.", []error{start, update})
}

func errAborted() error { return serviceerror.NewMultiOperationAborted("Operation was aborted.") }

// completeStartOfUpdate validates the start of an update-with-start. The update waits for the first workflow task, so
// nothing may delay that.
func (h *Handler) completeStartOfUpdate(
	ctx context.Context, n *namespace.Namespace, r *workflowservice.StartWorkflowExecutionRequest,
) (*workflowservice.StartWorkflowExecutionRequest, error) {
	switch {
	case r.GetNamespace() != "" && r.GetNamespace() != n.Name():
		return nil, serviceerror.NewInvalidArgument("Operation namespace did not match request's namespace.")
	case r.GetCronSchedule() != "":
		return nil, serviceerror.NewInvalidArgument("CronSchedule is not allowed.")
	case r.GetWorkflowStartDelay() != nil:
		return nil, serviceerror.NewInvalidArgument("WorkflowStartDelay is not supported.")
	case r.GetRequestEagerExecution():
		return nil, serviceerror.NewInvalidArgument("RequestEagerExecution is not supported.")
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
		return nil, serviceerror.NewInvalidArgument("Operation namespace did not match request's namespace.")
	case r.GetWorkflowExecution().GetRunId() != "":
		return nil, serviceerror.NewInvalidArgument("RunId is not allowed.")
	case r.GetFirstExecutionRunId() != "":
		return nil, serviceerror.NewInvalidArgument("FirstExecutionRunId is not allowed.")
	}
	update, err := completeUpdate(r)
	if err != nil {
		return nil, err
	}
	if update.GetWorkflowExecution().GetWorkflowId() != workflowID {
		return nil, serviceerror.NewInvalidArgument("WorkflowId is not consistent with previous operation(s).")
	}
	update = shallowCopy(update)
	update.Namespace = n.Name()
	return update, nil
}
