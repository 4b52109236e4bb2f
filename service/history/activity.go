package history

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// RecordActivityTaskStarted implements HistoryService. The start is durable before the worker gets the task.
func (s *Service) RecordActivityTaskStarted(ctx context.Context, in *historypb.RecordActivityTaskStartedRequest) (*historypb.RecordActivityTaskStartedResponse, error) {
	var task *workflowservice.PollActivityTaskQueueResponse
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), in.GetExecution().GetWorkflowId()), func(x *access) error {
		r, err := x.find(in.GetExecution().GetRunId())
		if err != nil {
			return err
		}
		if _, err = x.transition(r, func(tx *workflow.Tx) error {
			_, err := tx.StartActivity(workflow.ActivityStart{
				ScheduledEventID: in.GetScheduledEventId(), EffectID: in.GetEffectId(), Attempt: in.GetAttempt(), Stamp: in.GetStamp(),
				StartID: in.GetRequestId(), Identity: in.GetPoll().GetIdentity(),
			})
			return err
		}); err != nil {
			return err
		}
		task, err = x.activityTask(r, in.GetScheduledEventId())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &historypb.RecordActivityTaskStartedResponse{Task: task}, nil
}

// activityTask describes a started activity to its worker.
func (x *access) activityTask(r *run, scheduledEventID int64) (*workflowservice.PollActivityTaskQueueResponse, error) {
	a := r.state.Activities[scheduledEventID]
	if a == nil {
		return nil, serviceerror.NewNotFound("The activity is over.")
	}
	event, err := x.event(r, scheduledEventID)
	if err != nil {
		return nil, err
	}
	scheduled := event.GetActivityTaskScheduledEventAttributes()
	return &workflowservice.PollActivityTaskQueueResponse{
		TaskToken:                   x.activityToken(r, a),
		WorkflowNamespace:           x.namespaceName(x.ctx, x.chain.key.NamespaceID),
		WorkflowType:                r.state.Start.WorkflowType,
		WorkflowExecution:           &commonpb.WorkflowExecution{WorkflowId: x.chain.key.BusinessID, RunId: r.id},
		ActivityType:                a.ActivityType,
		ActivityId:                  a.ActivityId,
		Header:                      scheduled.GetHeader(),
		Input:                       scheduled.GetInput(),
		HeartbeatDetails:            a.HeartbeatDetails,
		ScheduledTime:               a.ScheduledTime,
		CurrentAttemptScheduledTime: a.AttemptScheduledTime,
		StartedTime:                 a.StartedTime,
		Attempt:                     a.Attempt,
		ScheduleToCloseTimeout:      a.ScheduleToCloseTimeout,
		StartToCloseTimeout:         a.StartToCloseTimeout,
		HeartbeatTimeout:            a.HeartbeatTimeout,
		RetryPolicy:                 a.RetryPolicy,
		Priority:                    a.Priority,
	}, nil
}

func (x *access) activityToken(r *run, a *statepb.Activity) []byte {
	token, _ := proto.Marshal(&tokenpb.Task{ // plain fields always encode
		NamespaceId: x.chain.key.NamespaceID, WorkflowId: x.chain.key.BusinessID, RunId: r.id,
		ScheduledEventId: a.ScheduledEventId, Attempt: a.Attempt, ActivityId: a.ActivityId, StartId: a.StartId,
	})
	return token
}

// answerActivity applies a worker's word about an activity.
func (s *Service) answerActivity(ctx context.Context, namespaceID string, token *tokenpb.Task, answer func(*workflow.Tx) error) error {
	return s.with(ctx, workflowKey(namespaceID, token.GetWorkflowId()), func(x *access) error {
		r, err := x.find(token.GetRunId())
		if err != nil {
			return err
		}
		_, err = x.transition(r, answer)
		return err
	})
}

// RespondActivityTaskCompleted implements HistoryService.
func (s *Service) RespondActivityTaskCompleted(ctx context.Context, in *historypb.RespondActivityTaskCompletedRequest) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	err := s.answerActivity(ctx, in.GetNamespaceId(), in.GetToken(), func(tx *workflow.Tx) error {
		return tx.CompleteActivity(in.GetToken(), in.GetRequest())
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RespondActivityTaskCompletedResponse{}, nil
}

// RespondActivityTaskFailed implements HistoryService.
func (s *Service) RespondActivityTaskFailed(ctx context.Context, in *historypb.RespondActivityTaskFailedRequest) (*workflowservice.RespondActivityTaskFailedResponse, error) {
	out := &workflowservice.RespondActivityTaskFailedResponse{}
	err := s.answerActivity(ctx, in.GetNamespaceId(), in.GetToken(), func(tx *workflow.Tx) (err error) {
		out.Failures, err = tx.FailActivity(in.GetToken(), in.GetRequest())
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// RespondActivityTaskCanceled implements HistoryService.
func (s *Service) RespondActivityTaskCanceled(ctx context.Context, in *historypb.RespondActivityTaskCanceledRequest) (*workflowservice.RespondActivityTaskCanceledResponse, error) {
	err := s.answerActivity(ctx, in.GetNamespaceId(), in.GetToken(), func(tx *workflow.Tx) error {
		return tx.CancelActivity(in.GetToken(), in.GetRequest())
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RespondActivityTaskCanceledResponse{}, nil
}

// RecordActivityTaskHeartbeat implements HistoryService. Most heartbeats are in memory only.
func (s *Service) RecordActivityTaskHeartbeat(ctx context.Context, in *historypb.RecordActivityTaskHeartbeatRequest) (*workflowservice.RecordActivityTaskHeartbeatResponse, error) {
	var reply workflow.HeartbeatReply
	err := s.answerActivity(ctx, in.GetNamespaceId(), in.GetToken(), func(tx *workflow.Tx) (err error) {
		reply, err = tx.HeartbeatActivity(in.GetToken(), in.GetRequest().GetDetails())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RecordActivityTaskHeartbeatResponse{
		CancelRequested: reply.CancelRequested, ActivityPaused: reply.Paused, ActivityReset: reply.Reset,
	}, nil
}
