package frontend

import (
	"context"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// checkPollDeadline refuses polls that could not be answered in time, before a task is wasted on one.
func checkPollDeadline(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return serviceerror.NewInvalidArgument("Context timeout is not set.")
	}
	if time.Until(deadline) < pollDeadlineMin {
		return serviceerror.NewFailedPrecondition("Context timeout is too short.")
	}
	return nil
}

// PollWorkflowTaskQueue implements WorkflowService.
func (h *Handler) PollWorkflowTaskQueue(ctx context.Context, r *workflowservice.PollWorkflowTaskQueueRequest) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	partition, err := polledPartition(n.ID(), r.GetTaskQueue(), enumspb.TASK_QUEUE_TYPE_WORKFLOW)
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
	return h.matching.PollWorkflowTaskQueue(ctx, &matchingpb.PollWorkflowTaskQueueRequest{
		Partition: partition, Request: r, PollId: uuid.NewString(),
	})
}

// RespondWorkflowTaskCompleted implements WorkflowService.
func (h *Handler) RespondWorkflowTaskCompleted(ctx context.Context, r *workflowservice.RespondWorkflowTaskCompletedRequest) (*workflowservice.RespondWorkflowTaskCompletedResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := taskToken(r, n)
	if err != nil {
		return nil, err
	}
	if err := firstError(
		checkIdentity(r.GetIdentity()),
		// Old workers still send it.
		checkWorkerVersion(r.GetWorkerVersionStamp()),
		checkDeploymentOptions(r.GetDeploymentOptions()),
	); err != nil {
		return nil, err
	}
	if r.GetPageNumber() != 0 || r.GetIntermediatePage() {
		return nil, serviceerror.NewFailedPrecondition("Completions in several pages are not supported by this namespace.")
	}
	if r.GetNamespace() == "" {
		r = shallowCopy(r)
		r.Namespace = n.Name()
	}
	return h.history.RespondWorkflowTaskCompleted(ctx, &historypb.RespondWorkflowTaskCompletedRequest{NamespaceId: n.ID(), Request: r, Token: token})
}

// RespondWorkflowTaskFailed implements WorkflowService.
func (h *Handler) RespondWorkflowTaskFailed(ctx context.Context, r *workflowservice.RespondWorkflowTaskFailedRequest) (*workflowservice.RespondWorkflowTaskFailedResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := taskToken(r, n)
	if err != nil {
		return nil, err
	}
	if err := firstError(
		checkIdentity(r.GetIdentity()),
		// Old workers still send it.
		checkWorkerVersion(r.GetWorkerVersion()),
		checkDeploymentOptions(r.GetDeploymentOptions()),
	); err != nil {
		return nil, err
	}
	if r.GetNamespace() == "" || oversized(r.GetFailure()) {
		r = shallowCopy(r)
		r.Namespace = n.Name()
		r.Failure = fitFailure(r.GetFailure())
	}
	return h.history.RespondWorkflowTaskFailed(ctx, &historypb.RespondWorkflowTaskFailedRequest{NamespaceId: n.ID(), Request: r, Token: token})
}

// RespondQueryTaskCompleted implements WorkflowService.
func (h *Handler) RespondQueryTaskCompleted(ctx context.Context, r *workflowservice.RespondQueryTaskCompletedRequest) (*workflowservice.RespondQueryTaskCompletedResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	token, err := queryToken(r, n)
	if err != nil {
		return nil, err
	}
	if tooLarge := checkPayload(r.GetQueryResult()); tooLarge != nil {
		// Whoever asked waits for an answer: that it is too large is one.
		r = shallowCopy(r)
		r.CompletedType = enumspb.QUERY_RESULT_TYPE_FAILED
		r.QueryResult = nil
		r.Failure = nil
		r.ErrorMessage = tooLarge.Error()
	}
	return h.matching.RespondQueryTaskCompleted(ctx, &matchingpb.RespondQueryTaskCompletedRequest{
		NamespaceId: n.ID(), TaskQueue: token.GetTaskQueue(), QueryId: token.GetQueryId(), Owner: token.GetOwner(), Request: r,
	})
}
