package frontend

import (
	"context"

	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
)

// DescribeWorkflowExecution implements WorkflowService.
func (h *Handler) DescribeWorkflowExecution(ctx context.Context, r *workflowservice.DescribeWorkflowExecutionRequest) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkExecution(r.GetExecution()); err != nil {
		return nil, err
	}
	return h.history.DescribeWorkflowExecution(ctx, &historypb.DescribeWorkflowExecutionRequest{NamespaceId: n.ID(), Request: r})
}

// GetWorkflowExecutionHistory implements WorkflowService.
func (h *Handler) GetWorkflowExecutionHistory(ctx context.Context, r *workflowservice.GetWorkflowExecutionHistoryRequest) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkExecution(r.GetExecution()); err != nil {
		return nil, err
	}
	return h.history.GetWorkflowExecutionHistory(ctx, &historypb.GetWorkflowExecutionHistoryRequest{
		NamespaceId:     n.ID(),
		Request:         r,
		HideProvisional: readByPeople(ctx),
	})
}

// readByPeople tells whether the client shows history to people. Events that may never become durable would confuse them;
// a worker cannot do without.
func readByPeople(ctx context.Context) bool {
	name := header(ctx, headerClientName)
	return name == clientCLI || name == clientUI
}

// GetWorkflowExecutionHistoryReverse implements WorkflowService.
func (h *Handler) GetWorkflowExecutionHistoryReverse(ctx context.Context, r *workflowservice.GetWorkflowExecutionHistoryReverseRequest) (*workflowservice.GetWorkflowExecutionHistoryReverseResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkExecution(r.GetExecution()); err != nil {
		return nil, err
	}
	return h.history.GetWorkflowExecutionHistoryReverse(ctx, &historypb.GetWorkflowExecutionHistoryReverseRequest{NamespaceId: n.ID(), Request: r})
}

// QueryWorkflow implements WorkflowService.
func (h *Handler) QueryWorkflow(ctx context.Context, r *workflowservice.QueryWorkflowRequest) (*workflowservice.QueryWorkflowResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkExecution(r.GetExecution()); err != nil {
		return nil, err
	}
	if r.GetQuery() == nil {
		return nil, errNotSet("WorkflowQuery")
	}
	if err := firstError(
		required("QueryType", r.GetQuery().GetQueryType()),
		checkPayload(r.GetQuery().GetQueryArgs()),
	); err != nil {
		return nil, err
	}
	return h.history.QueryWorkflow(ctx, &historypb.QueryWorkflowRequest{NamespaceId: n.ID(), Request: r})
}
