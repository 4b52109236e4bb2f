package frontend

import (
	"context"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
	"github.com/perdure/perdure/namespace"
)

// PollActivityTaskQueue implements WorkflowService.
func (h *Handler) PollActivityTaskQueue(ctx context.Context, r *workflowservice.PollActivityTaskQueueRequest) (*workflowservice.PollActivityTaskQueueResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	partition, err := polledPartition(n.ID(), r.GetTaskQueue(), enumspb.TASK_QUEUE_TYPE_ACTIVITY)
	if err != nil {
		return nil, err
	}
	if err := firstError(
		checkIdentity(r.GetIdentity()),
		checkWorkerVersion(r.GetWorkerVersionCapabilities()),
		checkDeploymentOptions(r.GetDeploymentOptions()),
		checkPollDeadline(ctx),
		checkUnversioned(r.GetWorkerVersionCapabilities(), r.GetDeploymentOptions()),
	); err != nil {
		return nil, err
	}
	return h.matching.PollActivityTaskQueue(ctx, &matchingpb.PollActivityTaskQueueRequest{
		Partition: partition, Request: r, PollId: uuid.NewString(),
	})
}

// RecordActivityTaskHeartbeat implements WorkflowService.
func (h *Handler) RecordActivityTaskHeartbeat(ctx context.Context, r *workflowservice.RecordActivityTaskHeartbeatRequest) (*workflowservice.RecordActivityTaskHeartbeatResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := taskToken(r, n)
	if err != nil {
		return nil, err
	}
	return h.heartbeat(ctx, n, token, r)
}

// RespondActivityTaskCompleted implements WorkflowService.
func (h *Handler) RespondActivityTaskCompleted(ctx context.Context, r *workflowservice.RespondActivityTaskCompletedRequest) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := taskToken(r, n)
	if err != nil {
		return nil, err
	}
	return h.completeActivity(ctx, n, token, r)
}

// RespondActivityTaskFailed implements WorkflowService.
func (h *Handler) RespondActivityTaskFailed(ctx context.Context, r *workflowservice.RespondActivityTaskFailedRequest) (*workflowservice.RespondActivityTaskFailedResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := taskToken(r, n)
	if err != nil {
		return nil, err
	}
	return h.failActivity(ctx, n, token, r)
}

// RespondActivityTaskCanceled implements WorkflowService.
func (h *Handler) RespondActivityTaskCanceled(ctx context.Context, r *workflowservice.RespondActivityTaskCanceledRequest) (*workflowservice.RespondActivityTaskCanceledResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := taskToken(r, n)
	if err != nil {
		return nil, err
	}
	return h.cancelActivity(ctx, n, token, r)
}

func (h *Handler) heartbeat(
	ctx context.Context, n *namespace.Namespace, token *tokenpb.Task, r *workflowservice.RecordActivityTaskHeartbeatRequest,
) (*workflowservice.RecordActivityTaskHeartbeatResponse, error) {
	if oversized(r.GetDetails()) {
		if err := h.failOversized(ctx, n, token, r, heartbeatTooLarge); err != nil {
			return nil, err
		}
		// The worker must stop: its activity has failed.
		return &workflowservice.RecordActivityTaskHeartbeatResponse{CancelRequested: true}, nil
	}
	if r.GetNamespace() == "" {
		r = shallowCopy(r)
		r.Namespace = n.Name()
	}
	return h.history.RecordActivityTaskHeartbeat(ctx, &historypb.RecordActivityTaskHeartbeatRequest{NamespaceId: n.ID(), Request: r, Token: token})
}

func (h *Handler) completeActivity(
	ctx context.Context, n *namespace.Namespace, token *tokenpb.Task, r *workflowservice.RespondActivityTaskCompletedRequest,
) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	if err := firstError(checkIdentity(r.GetIdentity()), checkDeploymentOptions(r.GetDeploymentOptions())); err != nil {
		return nil, err
	}
	if oversized(r.GetResult()) {
		return &workflowservice.RespondActivityTaskCompletedResponse{}, h.failOversized(ctx, n, token, r, resultTooLarge)
	}
	if r.GetNamespace() == "" {
		r = shallowCopy(r)
		r.Namespace = n.Name()
	}
	return h.history.RespondActivityTaskCompleted(ctx, &historypb.RespondActivityTaskCompletedRequest{NamespaceId: n.ID(), Request: r, Token: token})
}

func (h *Handler) failActivity(
	ctx context.Context, n *namespace.Namespace, token *tokenpb.Task, r *workflowservice.RespondActivityTaskFailedRequest,
) (*workflowservice.RespondActivityTaskFailedResponse, error) {
	if err := firstError(checkIdentity(r.GetIdentity()), checkDeploymentOptions(r.GetDeploymentOptions())); err != nil {
		return nil, err
	}
	if r.GetFailure() != nil && r.GetFailure().GetApplicationFailureInfo() == nil {
		return nil, serviceerror.NewInvalidArgument("Failure must have ApplicationFailureInfo.")
	}
	fit, tooLarge := fitActivityFailure(n, r)
	response, err := h.history.RespondActivityTaskFailed(ctx, &historypb.RespondActivityTaskFailedRequest{NamespaceId: n.ID(), Request: fit, Token: token})
	if err != nil || len(tooLarge) == 0 {
		return response, err
	}
	response = shallowCopy(response)
	response.Failures = append(tooLarge, response.GetFailures()...)
	return response, nil
}

// fitActivityFailure returns the request without what is too large in it, and a failure for each thing that was.
func fitActivityFailure(
	n *namespace.Namespace, r *workflowservice.RespondActivityTaskFailedRequest,
) (*workflowservice.RespondActivityTaskFailedRequest, []*failurepb.Failure) {
	detailsTooLarge, tooLarge := oversized(r.GetLastHeartbeatDetails()), oversized(r.GetFailure())
	if r.GetNamespace() != "" && !detailsTooLarge && !tooLarge {
		return r, nil
	}
	r = shallowCopy(r)
	r.Namespace = n.Name()
	var failures []*failurepb.Failure
	if detailsTooLarge {
		r.LastHeartbeatDetails = nil
		failures = append(failures, sizeFailure(heartbeatTooLarge))
	}
	if tooLarge {
		r.Failure = fitFailure(r.GetFailure())
		failures = append(failures, sizeFailure(failureTooLarge))
	}
	return r, failures
}

func (h *Handler) cancelActivity(
	ctx context.Context, n *namespace.Namespace, token *tokenpb.Task, r *workflowservice.RespondActivityTaskCanceledRequest,
) (*workflowservice.RespondActivityTaskCanceledResponse, error) {
	if err := firstError(checkIdentity(r.GetIdentity()), checkDeploymentOptions(r.GetDeploymentOptions())); err != nil {
		return nil, err
	}
	if oversized(r.GetDetails()) {
		return &workflowservice.RespondActivityTaskCanceledResponse{}, h.failOversized(ctx, n, token, r, cancelTooLarge)
	}
	if r.GetNamespace() == "" {
		r = shallowCopy(r)
		r.Namespace = n.Name()
	}
	return h.history.RespondActivityTaskCanceled(ctx, &historypb.RespondActivityTaskCanceledRequest{NamespaceId: n.ID(), Request: r, Token: token})
}

// activityAnswer is any of a worker's messages about its activity task.
type activityAnswer interface {
	tokened
	GetIdentity() string
}

// failOversized fails the activity instead of recording what is too large. Refusing the request would leave the activity
// running until its timeout, only to be tried again.
func (h *Handler) failOversized(
	ctx context.Context, n *namespace.Namespace, token *tokenpb.Task, r activityAnswer, message string,
) error {
	_, err := h.history.RespondActivityTaskFailed(ctx, &historypb.RespondActivityTaskFailedRequest{
		NamespaceId: n.ID(),
		Token:       token,
		Request: &workflowservice.RespondActivityTaskFailedRequest{
			Namespace: n.Name(),
			TaskToken: r.GetTaskToken(),
			Identity:  r.GetIdentity(),
			Failure:   sizeFailure(message),
		},
	})
	return err
}
