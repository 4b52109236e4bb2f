package history

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/zap"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

// DeleteWorkflowExecution implements HistoryService. An open run is terminated first. A run that still owes something to
// others (telling its parent, ending its children) is deleted once that is done.
func (s *Service) DeleteWorkflowExecution(ctx context.Context, in *historypb.DeleteWorkflowExecutionRequest) (*workflowservice.DeleteWorkflowExecutionResponse, error) {
	execution := in.GetRequest().GetWorkflowExecution()
	t := target{key: workflowKey(in.GetNamespaceId(), execution.GetWorkflowId())}
	deleted := false
	err := s.with(ctx, t.key, func(x *access) error {
		r, err := x.find(execution.GetRunId())
		if err != nil {
			return err
		}
		t.runID = r.id
		if err := x.markDeleting(r); err != nil {
			return err
		}
		deleted, err = x.deleteRun(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !deleted {
		s.background(func() { s.deleteWhenDone(t) })
	}
	return &workflowservice.DeleteWorkflowExecutionResponse{}, nil
}

// markDeleting closes an open run and, if it owes something to others, has whoever owns it then delete it later.
func (x *access) markDeleting(r *run) error {
	if !r.state.Open() && (r.state.Deleting() || !r.state.OwesEffects()) {
		return nil
	}
	_, err := x.transition(r, func(tx *workflow.Tx) error {
		tx.MarkDeleting()
		if !r.state.Open() {
			return nil
		}
		return tx.Terminate(workflow.Termination{Reason: "Delete workflow execution", Identity: serverIdentity})
	})
	return err
}

// deleteRun deletes a closed run that owes nothing to others.
func (x *access) deleteRun(r *run) (deleted bool, err error) {
	if r.state.OwesEffects() {
		return false, nil
	}
	ctx, cancel := x.writeContext()
	defer cancel()
	err = x.Service.store.DeleteRun(ctx, x.chain.key, x.chain.epoch, r.bucket, r.id)
	if err != nil {
		return false, x.writeError(&persistence.Mutation{Key: x.chain.key, Epoch: x.chain.epoch}, err)
	}
	x.drop(r)
	x.timers.set(x.chain.key, r.id, time.Time{})
	if x.chain.current == r.id {
		x.chain.current = ""
	}
	return true, nil
}

// errOwing says that a run still owes something to others.
var errOwing = errors.New("history: the run still has effects under way")

// deleteWhenDone deletes a closed run as soon as its effects are done. If the host stops before, the run's next owner goes on.
func (s *Service) deleteWhenDone(t target) {
	for pause := (backoff{}); sleep(s.ctx, pause.next()); {
		err := s.with(s.ctx, t.key, func(x *access) error {
			r, err := x.load(t.runID)
			if err != nil || r == nil {
				return err
			}
			deleted, err := x.deleteRun(r)
			if err == nil && !deleted {
				return errOwing
			}
			return err
		})
		if err == nil || s.notOurs(t.key) {
			return
		}
		if !errors.Is(err, errOwing) {
			s.logger.Warn("run not deleted; trying again", zap.String("namespace_id", t.key.NamespaceID),
				zap.String("workflow_id", t.key.BusinessID), zap.String("run_id", t.runID), zap.Error(err))
		}
	}
}
