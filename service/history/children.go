package history

import (
	"context"

	enumspb "go.temporal.io/api/enums/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// What other executions ask of this one. Their requests may come more than once.

// StartChild implements HistoryService. The child's first workflow task is held until ReleaseChild.
func (s *Service) StartChild(ctx context.Context, in *historypb.StartChildRequest) (*historypb.StartChildResponse, error) {
	if err := s.checkStartable(ctx, in.GetNamespaceId()); err != nil {
		return nil, err
	}
	var runID string
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), in.GetRequest().GetWorkflowId()), func(x *access) error {
		st := startOf(in.GetNamespaceId(), in.GetRequest())
		st.opening = workflow.ChildOpening(in, "")
		begun, err := x.start(st)
		if err == nil {
			runID = begun.run.id
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &historypb.StartChildResponse{RunId: runID}, nil
}

// checkStartable refuses to start workflows in a namespace that is not there, or is on its way out.
func (s *Service) checkStartable(ctx context.Context, namespaceID string) error {
	n, err := s.namespaces.ByID(ctx, namespaceID)
	if err != nil {
		return err
	}
	return n.RequireState(enumspb.NAMESPACE_STATE_REGISTERED)
}

// ReleaseChild implements HistoryService.
func (s *Service) ReleaseChild(ctx context.Context, in *historypb.ReleaseChildRequest) (*historypb.ReleaseChildResponse, error) {
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), in.GetChild().GetWorkflowId()), func(x *access) error {
		r, err := x.find(in.GetChild().GetRunId())
		if err != nil {
			return err
		}
		_, err = x.transition(r, func(tx *workflow.Tx) error {
			tx.ReleaseFirstTask()
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &historypb.ReleaseChildResponse{}, nil
}

// resetsMax bounds the resets of one run that an answer is passed on through.
const resetsMax = 100

// RecordChildClosed implements HistoryService. A parent that was reset gets it in the run that the reset has made.
func (s *Service) RecordChildClosed(ctx context.Context, in *historypb.RecordChildClosedRequest) (*historypb.RecordChildClosedResponse, error) {
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), in.GetParent().GetWorkflowId()), func(x *access) error {
		r, err := x.find(in.GetParent().GetRunId())
		for range resetsMax {
			if err != nil || r.state.Open() || r.state.ResetRunID() == "" {
				break
			}
			r, err = x.find(r.state.ResetRunID())
		}
		if err != nil {
			return err
		}
		_, err = x.transition(r, func(tx *workflow.Tx) error {
			return tx.ChildClosed(workflow.ChildClose{
				InitiatedID: in.GetInitiatedEventId(), FirstRunID: in.GetChild().GetRunId(),
				Execution: execOf(in.GetChild().GetWorkflowId(), in.GetLastRunId()), Event: in.GetCloseEvent(),
				Redirected: in.GetParent().GetRunId() != "" && in.GetParent().GetRunId() != r.id,
			})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &historypb.RecordChildClosedResponse{}, nil
}

// SignalFromWorkflow implements HistoryService.
func (s *Service) SignalFromWorkflow(ctx context.Context, in *historypb.SignalFromWorkflowRequest) (*historypb.SignalFromWorkflowResponse, error) {
	out := &historypb.SignalFromWorkflowResponse{}
	req := in.GetRequest()
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), req.GetWorkflowExecution().GetWorkflowId()), func(x *access) error {
		r, err := x.find(req.GetWorkflowExecution().GetRunId())
		if err != nil {
			return err
		}
		if err := checkFamily(r, in.GetChildWorkflowOnly(), in.GetSource()); err != nil {
			return err
		}
		out.RunId = r.id
		signal := signalOf(req)
		signal.Sender = in.GetSource().GetExecution()
		_, err = x.transition(r, func(tx *workflow.Tx) error { return tx.Signal(signal) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// checkFamily refuses what only a run's parent may do.
func checkFamily(r *run, childOnly bool, source *historypb.Source) error {
	if childOnly && !r.state.IsChildOf(source) {
		return errWorkflowNotFound(r.state.Start.WorkflowId)
	}
	return nil
}

// CancelFromWorkflow implements HistoryService.
func (s *Service) CancelFromWorkflow(ctx context.Context, in *historypb.CancelFromWorkflowRequest) (*historypb.CancelFromWorkflowResponse, error) {
	out := &historypb.CancelFromWorkflowResponse{}
	req := in.GetRequest()
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), req.GetWorkflowExecution().GetWorkflowId()), func(x *access) error {
		r, err := x.findFirst(req.GetWorkflowExecution(), req.GetFirstExecutionRunId())
		if err != nil {
			return err
		}
		if err := checkFirst(r, req.GetFirstExecutionRunId()); err != nil {
			return err
		}
		if err := checkFamily(r, in.GetChildWorkflowOnly(), in.GetSource()); err != nil {
			return err
		}
		out.RunId = r.id
		_, err = x.transition(r, func(tx *workflow.Tx) error {
			return tx.RequestCancel(workflow.Cancellation{
				Reason: req.GetReason(), Identity: req.GetIdentity(), RequestID: req.GetRequestId(),
				Requester: in.GetSource().GetExecution(), InitiatedEventID: in.GetSource().GetInitiatedEventId(),
			})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// TerminateFromWorkflow implements HistoryService.
func (s *Service) TerminateFromWorkflow(ctx context.Context, in *historypb.TerminateFromWorkflowRequest) (*historypb.TerminateFromWorkflowResponse, error) {
	req := in.GetRequest()
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), req.GetWorkflowExecution().GetWorkflowId()), func(x *access) error {
		r, err := x.findFirst(req.GetWorkflowExecution(), req.GetFirstExecutionRunId())
		if err != nil {
			return err
		}
		if err := checkFirst(r, req.GetFirstExecutionRunId()); err != nil {
			return err
		}
		if err := checkFamily(r, in.GetChildWorkflowOnly(), in.GetSource()); err != nil {
			return err
		}
		if req.GetFirstExecutionRunId() == "" && in.GetChildWorkflowOnly() && r.state.Start.ParentInitiatedEventId != in.GetSource().GetInitiatedEventId() {
			return errWorkflowNotFound(r.state.Start.WorkflowId) // a child of another initiation
		}
		return x.terminate(r, workflow.Termination{Reason: req.GetReason(), Details: req.GetDetails(), Identity: req.GetIdentity()})
	})
	if err != nil {
		return nil, err
	}
	return &historypb.TerminateFromWorkflowResponse{}, nil
}
