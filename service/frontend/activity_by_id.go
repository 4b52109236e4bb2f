package frontend

import (
	"context"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	tokenpb "github.com/perdure/perdure/api/token/v1"
	"github.com/perdure/perdure/namespace"
)

// byID is a request that names an activity of a workflow by its id.
type byID interface {
	namespaced
	GetWorkflowId() string
	GetRunId() string
	GetActivityId() string
}

// activityToken makes a token without event id: history looks the activity up by its id.
func activityToken(r byID, n *namespace.Namespace) (*tokenpb.Task, error) {
	if err := firstError(required("ActivityId", r.GetActivityId()), checkRunID(r.GetRunId())); err != nil {
		return nil, err
	}
	if r.GetWorkflowId() == "" {
		// Without a workflow it names a standalone activity, of which there are none.
		return nil, serviceerror.NewNotFoundf("activity not found for ID: %s", r.GetActivityId())
	}
	return &tokenpb.Task{
		NamespaceId: n.ID(),
		WorkflowId:  r.GetWorkflowId(),
		RunId:       r.GetRunId(),
		ActivityId:  r.GetActivityId(),
	}, nil
}

// RecordActivityTaskHeartbeatById implements WorkflowService.
func (h *Handler) RecordActivityTaskHeartbeatById(ctx context.Context, r *workflowservice.RecordActivityTaskHeartbeatByIdRequest) (*workflowservice.RecordActivityTaskHeartbeatByIdResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := activityToken(r, n)
	if err != nil {
		return nil, err
	}
	response, err := h.heartbeat(ctx, n, token, &workflowservice.RecordActivityTaskHeartbeatRequest{
		Namespace:  r.GetNamespace(),
		Details:    r.GetDetails(),
		Identity:   r.GetIdentity(),
		ResourceId: r.GetResourceId(),
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RecordActivityTaskHeartbeatByIdResponse{
		CancelRequested: response.GetCancelRequested(),
		ActivityPaused:  response.GetActivityPaused(),
		ActivityReset:   response.GetActivityReset(),
	}, nil
}

// RespondActivityTaskCompletedById implements WorkflowService.
func (h *Handler) RespondActivityTaskCompletedById(ctx context.Context, r *workflowservice.RespondActivityTaskCompletedByIdRequest) (*workflowservice.RespondActivityTaskCompletedByIdResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := activityToken(r, n)
	if err != nil {
		return nil, err
	}
	_, err = h.completeActivity(ctx, n, token, &workflowservice.RespondActivityTaskCompletedRequest{
		Namespace:  r.GetNamespace(),
		Result:     r.GetResult(),
		Identity:   r.GetIdentity(),
		ResourceId: r.GetResourceId(),
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RespondActivityTaskCompletedByIdResponse{}, nil
}

// RespondActivityTaskFailedById implements WorkflowService.
func (h *Handler) RespondActivityTaskFailedById(ctx context.Context, r *workflowservice.RespondActivityTaskFailedByIdRequest) (*workflowservice.RespondActivityTaskFailedByIdResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := activityToken(r, n)
	if err != nil {
		return nil, err
	}
	response, err := h.failActivity(ctx, n, token, &workflowservice.RespondActivityTaskFailedRequest{
		Namespace:            r.GetNamespace(),
		Failure:              r.GetFailure(),
		Identity:             r.GetIdentity(),
		LastHeartbeatDetails: r.GetLastHeartbeatDetails(),
		ResourceId:           r.GetResourceId(),
		Cause:                r.GetCause(),
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RespondActivityTaskFailedByIdResponse{Failures: response.GetFailures()}, nil
}

// RespondActivityTaskCanceledById implements WorkflowService.
func (h *Handler) RespondActivityTaskCanceledById(ctx context.Context, r *workflowservice.RespondActivityTaskCanceledByIdRequest) (*workflowservice.RespondActivityTaskCanceledByIdResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := activityToken(r, n)
	if err != nil {
		return nil, err
	}
	_, err = h.cancelActivity(ctx, n, token, &workflowservice.RespondActivityTaskCanceledRequest{
		Namespace:         r.GetNamespace(),
		Details:           r.GetDetails(),
		Identity:          r.GetIdentity(),
		DeploymentOptions: r.GetDeploymentOptions(),
		ResourceId:        r.GetResourceId(),
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RespondActivityTaskCanceledByIdResponse{}, nil
}
