package frontend

import (
	"context"

	"github.com/google/uuid"
	activitypb "go.temporal.io/api/activity/v1"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
)

// activityCommand is an operator's command on activities of one workflow.
type activityCommand interface {
	namespaced
	GetExecution() *commonpb.WorkflowExecution
	GetId() string
	GetType() string
}

// checkActivityCommand checks the address of a command. all tells whether the command is for every activity.
func checkActivityCommand(r activityCommand, all bool) error {
	if err := checkWorkflow(r.GetExecution().GetWorkflowId(), r.GetExecution().GetRunId()); err != nil {
		return err
	}
	if !all && r.GetId() == "" && r.GetType() == "" {
		return serviceerror.NewInvalidArgument("Either Activity.Id or Activity.Type should be set on request.")
	}
	return nil
}

// UpdateActivityOptions implements WorkflowService.
func (h *Handler) UpdateActivityOptions(ctx context.Context, r *workflowservice.UpdateActivityOptionsRequest) (*workflowservice.UpdateActivityOptionsResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := firstError(checkActivityCommand(r, r.GetMatchAll()), checkActivityOptionsUpdate(r)); err != nil {
		return nil, err
	}
	return h.history.UpdateActivityOptions(ctx, &historypb.UpdateActivityOptionsRequest{NamespaceId: n.ID(), Request: r})
}

func checkActivityOptionsUpdate(r *workflowservice.UpdateActivityOptionsRequest) error {
	hasMask, hasOptions := r.GetUpdateMask() != nil, r.GetActivityOptions() != nil
	switch {
	case r.GetRestoreOriginal() && hasMask:
		return serviceerror.NewInvalidArgument("Both UpdateMask and RestoreOriginal are provided")
	case r.GetRestoreOriginal() && hasOptions:
		return serviceerror.NewInvalidArgument("Both ActivityOptions and RestoreOriginal are provided")
	case r.GetRestoreOriginal():
		return nil
	case !hasMask:
		return serviceerror.NewInvalidArgument("UpdateMask is not provided")
	case !hasOptions:
		return serviceerror.NewInvalidArgument("ActivityOptions are not provided")
	}
	return checkActivityOptions(r.GetActivityOptions())
}

func checkActivityOptions(o *activitypb.ActivityOptions) error {
	if o.GetTaskQueue() != nil {
		if err := checkTaskQueue(o.GetTaskQueue()); err != nil {
			return err
		}
	}
	_, scheduleToClose := duration("invalid ScheduleToCloseTimeout", o.GetScheduleToCloseTimeout())
	_, scheduleToStart := duration("invalid ScheduleToStartTimeout", o.GetScheduleToStartTimeout())
	_, startToClose := duration("invalid StartToCloseTimeout", o.GetStartToCloseTimeout())
	_, heartbeat := duration("invalid HeartbeatTimeout", o.GetHeartbeatTimeout())
	return firstError(scheduleToClose, scheduleToStart, startToClose, heartbeat, checkPriority(o.GetPriority()))
}

// PauseActivity implements WorkflowService.
func (h *Handler) PauseActivity(ctx context.Context, r *workflowservice.PauseActivityRequest) (*workflowservice.PauseActivityResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkActivityCommand(r, false); err != nil {
		return nil, err
	}
	if r.GetRequestId() == "" {
		r = shallowCopy(r)
		r.RequestId = uuid.NewString()
	}
	return h.history.PauseActivity(ctx, &historypb.PauseActivityRequest{NamespaceId: n.ID(), Request: r})
}

// UnpauseActivity implements WorkflowService.
func (h *Handler) UnpauseActivity(ctx context.Context, r *workflowservice.UnpauseActivityRequest) (*workflowservice.UnpauseActivityResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkActivityCommand(r, r.GetUnpauseAll()); err != nil {
		return nil, err
	}
	return h.history.UnpauseActivity(ctx, &historypb.UnpauseActivityRequest{NamespaceId: n.ID(), Request: r})
}

// ResetActivity implements WorkflowService.
func (h *Handler) ResetActivity(ctx context.Context, r *workflowservice.ResetActivityRequest) (*workflowservice.ResetActivityResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkActivityCommand(r, r.GetMatchAll()); err != nil {
		return nil, err
	}
	return h.history.ResetActivity(ctx, &historypb.ResetActivityRequest{NamespaceId: n.ID(), Request: r})
}
