package history

import (
	"context"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// SignalWorkflowExecution implements HistoryService.
func (s *Service) SignalWorkflowExecution(ctx context.Context, in *historypb.SignalWorkflowExecutionRequest) (*workflowservice.SignalWorkflowExecutionResponse, error) {
	r := in.GetRequest()
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), r.GetWorkflowExecution().GetWorkflowId()), func(x *access) error {
		target, err := x.find(r.GetWorkflowExecution().GetRunId())
		if err != nil {
			return err
		}
		_, err = x.transition(target, func(tx *workflow.Tx) error { return tx.Signal(signalOf(r)) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.SignalWorkflowExecutionResponse{}, nil
}

func signalOf(r *workflowservice.SignalWorkflowExecutionRequest) workflow.Signal {
	return workflow.Signal{
		Name: r.GetSignalName(), Input: r.GetInput(), Header: r.GetHeader(), Identity: r.GetIdentity(),
		RequestID: r.GetRequestId(), Links: r.GetLinks(),
	}
}

// SignalWithStartWorkflowExecution implements HistoryService.
func (s *Service) SignalWithStartWorkflowExecution(ctx context.Context, in *historypb.SignalWithStartWorkflowExecutionRequest) (*workflowservice.SignalWithStartWorkflowExecutionResponse, error) {
	r := in.GetRequest()
	var out *workflowservice.SignalWithStartWorkflowExecutionResponse
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), r.GetWorkflowId()), func(x *access) error {
		st, err := x.start(startWithSignal(in.GetNamespaceId(), r))
		if err != nil {
			return err
		}
		if !st.created && !st.repeated {
			signal := signalOfStart(r)
			signal.RequestID = r.GetRequestId()
			if _, err := x.transition(st.run, func(tx *workflow.Tx) error { return tx.Signal(signal) }); err != nil {
				return err
			}
		}
		out = &workflowservice.SignalWithStartWorkflowExecutionResponse{RunId: st.run.id, Started: st.created}
		return nil
	})
	return out, err
}

// startWithSignal is a start whose first transition also holds the signal. The request id is remembered by the start.
func startWithSignal(namespaceID string, r *workflowservice.SignalWithStartWorkflowExecutionRequest) *start {
	st := startOf(namespaceID, &workflowservice.StartWorkflowExecutionRequest{
		WorkflowId: r.GetWorkflowId(), WorkflowType: r.GetWorkflowType(), TaskQueue: r.GetTaskQueue(), Input: r.GetInput(),
		WorkflowExecutionTimeout: r.GetWorkflowExecutionTimeout(), WorkflowRunTimeout: r.GetWorkflowRunTimeout(),
		WorkflowTaskTimeout: r.GetWorkflowTaskTimeout(), Identity: r.GetIdentity(), RequestId: r.GetRequestId(),
		WorkflowIdReusePolicy: r.GetWorkflowIdReusePolicy(), WorkflowIdConflictPolicy: r.GetWorkflowIdConflictPolicy(),
		RetryPolicy: r.GetRetryPolicy(), CronSchedule: r.GetCronSchedule(), Memo: r.GetMemo(), SearchAttributes: r.GetSearchAttributes(),
		Header: r.GetHeader(), WorkflowStartDelay: r.GetWorkflowStartDelay(), UserMetadata: r.GetUserMetadata(), Links: r.GetLinks(),
		VersioningOverride: r.GetVersioningOverride(), Priority: r.GetPriority(),
	})
	if r.GetWorkflowIdConflictPolicy() == enumspb.WORKFLOW_ID_CONFLICT_POLICY_UNSPECIFIED &&
		st.conflict != enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING {
		st.conflict = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	}
	st.then = func(tx *workflow.Tx) error { return tx.Signal(signalOfStart(r)) }
	return st
}

func signalOfStart(r *workflowservice.SignalWithStartWorkflowExecutionRequest) workflow.Signal {
	return workflow.Signal{
		Name: r.GetSignalName(), Input: r.GetSignalInput(), Header: r.GetHeader(), Identity: r.GetIdentity(), Links: r.GetLinks(),
	}
}
