package frontend

import (
	"context"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	historypb "github.com/perdure/perdure/api/history/v1"
)

// ResetWorkflowExecution implements WorkflowService.
func (h *Handler) ResetWorkflowExecution(ctx context.Context, r *workflowservice.ResetWorkflowExecutionRequest) (*workflowservice.ResetWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := firstError(
		requiredID("RequestId", r.GetRequestId()),
		checkExecution(r.GetWorkflowExecution()),
		checkReset(r),
	); err != nil {
		return nil, err
	}
	return h.history.ResetWorkflowExecution(ctx, &historypb.ResetWorkflowExecutionRequest{NamespaceId: n.ID(), Request: r})
}

func checkReset(r *workflowservice.ResetWorkflowExecutionRequest) error {
	// The first event is the start of the workflow: no task ends before the second.
	if r.GetWorkflowTaskFinishEventId() <= 1 {
		return serviceerror.NewInvalidArgument("Workflow task finish ID must be > 1 && <= workflow last event ID.")
	}
	// Clients still send the deprecated field.
	if reapply := r.GetResetReapplyType(); enumspb.ResetReapplyType_name[int32(reapply)] == "" {
		return serviceerror.NewInvalidArgumentf("Unknown ResetReapplyType %d.", reapply)
	}
	for _, operation := range r.GetPostResetOperations() {
		if err := checkPostResetOperation(operation); err != nil {
			return err
		}
	}
	return nil
}

func checkPostResetOperation(o *workflowpb.PostResetOperation) error {
	update := o.GetUpdateWorkflowOptions()
	if update == nil {
		return serviceerror.NewInvalidArgument("A post-reset operation can only be an update of workflow options.")
	}
	if update.GetUpdateMask() == nil {
		return serviceerror.NewInvalidArgument("UpdateMask is not set on the post-reset operation.")
	}
	return checkOptionsUpdate(update.GetWorkflowExecutionOptions(), update.GetUpdateMask())
}

// UpdateWorkflowExecutionOptions implements WorkflowService.
func (h *Handler) UpdateWorkflowExecutionOptions(ctx context.Context, r *workflowservice.UpdateWorkflowExecutionOptionsRequest) (*workflowservice.UpdateWorkflowExecutionOptionsResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := firstError(
		checkWorkflow(r.GetWorkflowExecution().GetWorkflowId(), r.GetWorkflowExecution().GetRunId()),
		checkOptionsUpdate(r.GetWorkflowExecutionOptions(), r.GetUpdateMask()),
	); err != nil {
		return nil, err
	}
	return h.history.UpdateWorkflowExecutionOptions(ctx, &historypb.UpdateWorkflowExecutionOptionsRequest{NamespaceId: n.ID(), Request: r})
}

func checkOptionsUpdate(o *workflowpb.WorkflowExecutionOptions, mask *fieldmaskpb.FieldMask) error {
	for _, path := range mask.GetPaths() {
		if _, err := fieldmaskpb.New(&workflowpb.WorkflowExecutionOptions{}, path); err != nil {
			return serviceerror.NewInvalidArgumentf(
				"error parsing UpdateMask: proto: invalid path %q for message %q", path, o.ProtoReflect().Descriptor().FullName())
		}
	}
	if err := checkOverrideMask(mask); err != nil {
		return err
	}
	return firstError(checkPriority(o.GetPriority()), checkVersioningOverride(o.GetVersioningOverride()))
}

// checkOverrideMask refuses to change only a part of a versioning override: its fields make sense only together.
func checkOverrideMask(mask *fieldmaskpb.FieldMask) error {
	const field, part = "versioning_override", "versioning_override."
	for _, path := range mask.GetPaths() {
		if len(path) > len(field) && path[:len(part)] == part {
			return serviceerror.NewInvalidArgument("error applying update_options: versioning_override fields must be updated together")
		}
	}
	return nil
}

// PauseWorkflowExecution implements WorkflowService.
func (h *Handler) PauseWorkflowExecution(ctx context.Context, r *workflowservice.PauseWorkflowExecutionRequest) (*workflowservice.PauseWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkPause(r); err != nil {
		return nil, err
	}
	if r.GetRequestId() == "" {
		r = shallowCopy(r)
		r.RequestId = uuid.NewString()
	}
	return h.history.PauseWorkflowExecution(ctx, &historypb.PauseWorkflowExecutionRequest{NamespaceId: n.ID(), Request: r})
}

// UnpauseWorkflowExecution implements WorkflowService.
func (h *Handler) UnpauseWorkflowExecution(ctx context.Context, r *workflowservice.UnpauseWorkflowExecutionRequest) (*workflowservice.UnpauseWorkflowExecutionResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkPause(r); err != nil {
		return nil, err
	}
	if r.GetRequestId() == "" {
		r = shallowCopy(r)
		r.RequestId = uuid.NewString()
	}
	return h.history.UnpauseWorkflowExecution(ctx, &historypb.UnpauseWorkflowExecutionRequest{NamespaceId: n.ID(), Request: r})
}

// pauseRequest is what pause and unpause have in common.
type pauseRequest interface {
	namespaced
	GetWorkflowId() string
	GetRunId() string
	GetIdentity() string
	GetReason() string
	GetRequestId() string
}

func checkPause(r pauseRequest) error {
	if r.GetWorkflowId() == "" {
		return errWorkflowMissing()
	}
	return firstError(
		checkRunID(r.GetRunId()),
		checkIdentity(r.GetIdentity()),
		checkLength("Reason", r.GetReason(), reasonLengthMax),
		checkLength("RequestId", r.GetRequestId(), idLengthMax),
	)
}
