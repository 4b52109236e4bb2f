package history

import (
	"context"

	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// RequestCancelWorkflowExecution implements HistoryService. A closed run needs no cancel: OK.
func (s *Service) RequestCancelWorkflowExecution(ctx context.Context, in *historypb.RequestCancelWorkflowExecutionRequest) (*workflowservice.RequestCancelWorkflowExecutionResponse, error) {
	r := in.GetRequest()
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), r.GetWorkflowExecution().GetWorkflowId()), func(x *access) error {
		target, err := x.findFirst(r.GetWorkflowExecution(), r.GetFirstExecutionRunId())
		if err != nil || !target.state.Open() {
			return err
		}
		if err := checkFirst(target, r.GetFirstExecutionRunId()); err != nil {
			return err
		}
		_, err = x.transition(target, func(tx *workflow.Tx) error {
			return tx.RequestCancel(workflow.Cancellation{
				Reason: r.GetReason(), Identity: r.GetIdentity(), RequestID: r.GetRequestId(), Links: r.GetLinks(),
			})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RequestCancelWorkflowExecutionResponse{}, nil
}

// TerminateWorkflowExecution implements HistoryService.
func (s *Service) TerminateWorkflowExecution(ctx context.Context, in *historypb.TerminateWorkflowExecutionRequest) (*workflowservice.TerminateWorkflowExecutionResponse, error) {
	r := in.GetRequest()
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), r.GetWorkflowExecution().GetWorkflowId()), func(x *access) error {
		target, err := x.findFirst(r.GetWorkflowExecution(), r.GetFirstExecutionRunId())
		if err != nil {
			return err
		}
		if err := checkFirst(target, r.GetFirstExecutionRunId()); err != nil {
			return err
		}
		return x.terminate(target, workflow.Termination{
			Reason: r.GetReason(), Details: r.GetDetails(), Identity: r.GetIdentity(), Links: r.GetLinks(),
		})
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.TerminateWorkflowExecutionResponse{}, nil
}

// terminate closes a run, however large it has grown: no other limit comes first.
func (x *access) terminate(r *run, why workflow.Termination) error {
	c, err := x.begin(r, false)
	if err != nil {
		return err
	}
	if err := c.tx.Terminate(why); err != nil {
		return err
	}
	return x.commit(c)
}
