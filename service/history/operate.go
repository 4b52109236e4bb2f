package history

import (
	"context"

	activitypb "go.temporal.io/api/activity/v1"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// What operators do to workflows and their activities.

// operate applies an operator's command to a run.
func (s *Service) operate(ctx context.Context, namespaceID string, execution *commonpb.WorkflowExecution, command func(*workflow.Tx) error) error {
	return s.with(ctx, workflowKey(namespaceID, execution.GetWorkflowId()), func(x *access) error {
		r, err := x.find(execution.GetRunId())
		if err != nil {
			return err
		}
		_, err = x.transition(r, command)
		return err
	})
}

// UpdateWorkflowExecutionOptions implements HistoryService.
func (s *Service) UpdateWorkflowExecutionOptions(ctx context.Context, in *historypb.UpdateWorkflowExecutionOptionsRequest) (*workflowservice.UpdateWorkflowExecutionOptionsResponse, error) {
	req := in.GetRequest()
	out := &workflowservice.UpdateWorkflowExecutionOptionsResponse{}
	err := s.operate(ctx, in.GetNamespaceId(), req.GetWorkflowExecution(), func(tx *workflow.Tx) (err error) {
		out.WorkflowExecutionOptions, err = tx.UpdateOptions(req.GetWorkflowExecutionOptions(), req.GetUpdateMask().GetPaths(), req.GetIdentity())
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// PauseWorkflowExecution implements HistoryService.
func (s *Service) PauseWorkflowExecution(ctx context.Context, in *historypb.PauseWorkflowExecutionRequest) (*workflowservice.PauseWorkflowExecutionResponse, error) {
	req := in.GetRequest()
	err := s.operate(ctx, in.GetNamespaceId(), execOf(req.GetWorkflowId(), req.GetRunId()), func(tx *workflow.Tx) error {
		return tx.Pause(workflow.Pausing{Identity: req.GetIdentity(), Reason: req.GetReason(), RequestID: req.GetRequestId()})
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.PauseWorkflowExecutionResponse{}, nil
}

// UnpauseWorkflowExecution implements HistoryService.
func (s *Service) UnpauseWorkflowExecution(ctx context.Context, in *historypb.UnpauseWorkflowExecutionRequest) (*workflowservice.UnpauseWorkflowExecutionResponse, error) {
	req := in.GetRequest()
	err := s.operate(ctx, in.GetNamespaceId(), execOf(req.GetWorkflowId(), req.GetRunId()), func(tx *workflow.Tx) error {
		return tx.Unpause(workflow.Pausing{Identity: req.GetIdentity(), Reason: req.GetReason(), RequestID: req.GetRequestId()})
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.UnpauseWorkflowExecutionResponse{}, nil
}

// UpdateActivityOptions implements HistoryService.
func (s *Service) UpdateActivityOptions(ctx context.Context, in *historypb.UpdateActivityOptionsRequest) (*workflowservice.UpdateActivityOptionsResponse, error) {
	req := in.GetRequest()
	var options *activitypb.ActivityOptions
	err := s.operate(ctx, in.GetNamespaceId(), req.GetExecution(), func(tx *workflow.Tx) (err error) {
		options, err = tx.UpdateActivityOptions(workflow.ActivityOptionsUpdate{
			Activities: workflow.ActivitySelector{ID: req.GetId(), Type: req.GetType(), All: req.GetMatchAll()},
			Options:    req.GetActivityOptions(), Paths: req.GetUpdateMask().GetPaths(), Restore: req.GetRestoreOriginal(),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.UpdateActivityOptionsResponse{ActivityOptions: options}, nil
}

// PauseActivity implements HistoryService.
func (s *Service) PauseActivity(ctx context.Context, in *historypb.PauseActivityRequest) (*workflowservice.PauseActivityResponse, error) {
	req := in.GetRequest()
	err := s.operate(ctx, in.GetNamespaceId(), req.GetExecution(), func(tx *workflow.Tx) error {
		return tx.PauseActivity(workflow.ActivityPause{
			Activities: workflow.ActivitySelector{ID: req.GetId(), Type: req.GetType()}, Identity: req.GetIdentity(), Reason: req.GetReason(),
		})
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.PauseActivityResponse{}, nil
}

// UnpauseActivity implements HistoryService.
func (s *Service) UnpauseActivity(ctx context.Context, in *historypb.UnpauseActivityRequest) (*workflowservice.UnpauseActivityResponse, error) {
	req := in.GetRequest()
	err := s.operate(ctx, in.GetNamespaceId(), req.GetExecution(), func(tx *workflow.Tx) error {
		return tx.UnpauseActivity(workflow.ActivityUnpause{
			Activities:    workflow.ActivitySelector{ID: req.GetId(), Type: req.GetType(), All: req.GetUnpauseAll()},
			ResetAttempts: req.GetResetAttempts(), ResetHeartbeat: req.GetResetHeartbeat(), Jitter: req.GetJitter().AsDuration(),
		})
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.UnpauseActivityResponse{}, nil
}

// ResetActivity implements HistoryService.
func (s *Service) ResetActivity(ctx context.Context, in *historypb.ResetActivityRequest) (*workflowservice.ResetActivityResponse, error) {
	req := in.GetRequest()
	err := s.operate(ctx, in.GetNamespaceId(), req.GetExecution(), func(tx *workflow.Tx) error {
		return tx.ResetActivity(workflow.ActivityReset{
			Activities:     workflow.ActivitySelector{ID: req.GetId(), Type: req.GetType(), All: req.GetMatchAll()},
			ResetHeartbeat: req.GetResetHeartbeat(), KeepPaused: req.GetKeepPaused(), RestoreOptions: req.GetRestoreOriginalOptions(),
			Jitter: req.GetJitter().AsDuration(),
		})
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.ResetActivityResponse{}, nil
}
