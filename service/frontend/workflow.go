package frontend

import (
	"context"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/namespace"
)

// StartWorkflowExecution implements WorkflowService.
func (h *Handler) StartWorkflowExecution(ctx context.Context, r *workflowservice.StartWorkflowExecutionRequest) (*workflowservice.StartWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	start, err := h.completeStart(ctx, n, r)
	if err != nil {
		return nil, err
	}
	return h.history.StartWorkflowExecution(ctx, &historypb.StartWorkflowExecutionRequest{NamespaceId: n.ID(), Request: start})
}

// completeStart validates a start and returns a copy with everything filled in.
func (h *Handler) completeStart(
	ctx context.Context, n *namespace.Namespace, r *workflowservice.StartWorkflowExecutionRequest,
) (*workflowservice.StartWorkflowExecutionRequest, error) {
	d, err := checkStart(r, enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL)
	if err != nil {
		return nil, err
	}
	err = firstError(
		checkCallbacks(r.GetCompletionCallbacks()),
		checkOnConflictOptions(r.GetOnConflictOptions()),
		checkPayload(r.GetLastCompletionResult()),
		checkPayload(r.GetContinuedFailure()),
		checkDeploymentOptions(r.GetEagerWorkerDeploymentOptions()),
	)
	if err != nil {
		return nil, err
	}
	attributes, err := h.typedAttributes(ctx, n, r.GetSearchAttributes())
	if err != nil {
		return nil, err
	}
	out := shallowCopy(r)
	out.RequestId = d.requestID
	out.TaskQueue = d.taskQueue
	out.WorkflowExecutionTimeout = d.executionTimeout
	out.WorkflowRunTimeout = d.runTimeout
	out.WorkflowTaskTimeout = d.taskTimeout
	out.WorkflowStartDelay = d.startDelay
	out.WorkflowIdReusePolicy = d.reuse
	out.WorkflowIdConflictPolicy = d.conflict
	out.RetryPolicy = d.retry
	out.SearchAttributes = attributes
	return out, nil
}

// SignalWithStartWorkflowExecution implements WorkflowService.
func (h *Handler) SignalWithStartWorkflowExecution(ctx context.Context, r *workflowservice.SignalWithStartWorkflowExecutionRequest) (*workflowservice.SignalWithStartWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := firstError(
		requiredID("WorkflowId", r.GetWorkflowId()),
		requiredID("SignalName", r.GetSignalName()),
		checkPayload(r.GetSignalInput()),
	); err != nil {
		return nil, err
	}
	if r.GetWorkflowIdConflictPolicy() == enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL {
		return nil, serviceerror.NewInvalidArgument(
			"Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this operation.")
	}
	d, err := checkStart(r, enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING)
	if err != nil {
		return nil, err
	}
	attributes, err := h.typedAttributes(ctx, n, r.GetSearchAttributes())
	if err != nil {
		return nil, err
	}
	out := shallowCopy(r)
	out.RequestId = d.requestID
	out.TaskQueue = d.taskQueue
	out.WorkflowExecutionTimeout = d.executionTimeout
	out.WorkflowRunTimeout = d.runTimeout
	out.WorkflowTaskTimeout = d.taskTimeout
	out.WorkflowStartDelay = d.startDelay
	out.WorkflowIdReusePolicy = d.reuse
	out.WorkflowIdConflictPolicy = d.conflict
	out.RetryPolicy = d.retry
	out.SearchAttributes = attributes
	return h.history.SignalWithStartWorkflowExecution(ctx, &historypb.SignalWithStartWorkflowExecutionRequest{NamespaceId: n.ID(), Request: out})
}

// SignalWorkflowExecution implements WorkflowService.
func (h *Handler) SignalWorkflowExecution(ctx context.Context, r *workflowservice.SignalWorkflowExecutionRequest) (*workflowservice.SignalWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := firstError(
		checkExecution(r.GetWorkflowExecution()),
		requiredID("SignalName", r.GetSignalName()),
		checkLength("RequestId", r.GetRequestId(), idLengthMax),
		checkPayload(r.GetInput()),
		checkLinks(r.GetLinks()),
	); err != nil {
		return nil, err
	}
	if r.GetRequestId() == "" {
		r = shallowCopy(r)
		r.RequestId = uuid.NewString()
	}
	return h.history.SignalWorkflowExecution(ctx, &historypb.SignalWorkflowExecutionRequest{NamespaceId: n.ID(), Request: r})
}

// RequestCancelWorkflowExecution implements WorkflowService.
func (h *Handler) RequestCancelWorkflowExecution(ctx context.Context, r *workflowservice.RequestCancelWorkflowExecutionRequest) (*workflowservice.RequestCancelWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := firstError(checkExecution(r.GetWorkflowExecution()), checkLinks(r.GetLinks())); err != nil {
		return nil, err
	}
	if r.GetRequestId() == "" {
		r = shallowCopy(r)
		r.RequestId = uuid.NewString()
	}
	return h.history.RequestCancelWorkflowExecution(ctx, &historypb.RequestCancelWorkflowExecutionRequest{NamespaceId: n.ID(), Request: r})
}

// TerminateWorkflowExecution implements WorkflowService.
func (h *Handler) TerminateWorkflowExecution(ctx context.Context, r *workflowservice.TerminateWorkflowExecutionRequest) (*workflowservice.TerminateWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := firstError(
		checkExecution(r.GetWorkflowExecution()),
		checkPayload(r.GetDetails()),
		checkLinks(r.GetLinks()),
	); err != nil {
		return nil, err
	}
	return h.history.TerminateWorkflowExecution(ctx, &historypb.TerminateWorkflowExecutionRequest{NamespaceId: n.ID(), Request: r})
}

// DeleteWorkflowExecution implements WorkflowService.
func (h *Handler) DeleteWorkflowExecution(ctx context.Context, r *workflowservice.DeleteWorkflowExecutionRequest) (*workflowservice.DeleteWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkExecution(r.GetWorkflowExecution()); err != nil {
		return nil, err
	}
	return h.history.DeleteWorkflowExecution(ctx, &historypb.DeleteWorkflowExecutionRequest{NamespaceId: n.ID(), Request: r})
}

// ResetStickyTaskQueue implements WorkflowService.
func (h *Handler) ResetStickyTaskQueue(ctx context.Context, r *workflowservice.ResetStickyTaskQueueRequest) (*workflowservice.ResetStickyTaskQueueResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkExecution(r.GetExecution()); err != nil {
		return nil, err
	}
	return h.history.ResetStickyTaskQueue(ctx, &historypb.ResetStickyTaskQueueRequest{NamespaceId: n.ID(), Request: r})
}
