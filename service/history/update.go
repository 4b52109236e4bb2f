package history

import (
	"context"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/machine/workflow"
)

const (
	stageAccepted  = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
	stageCompleted = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
)

type stage = enumspb.UpdateWorkflowExecutionLifecycleStage

// updateWait is a call that waits until an update has reached a stage. It is guarded by its run's chain.
type updateWait struct {
	id    string
	stage stage
	// told gets one value.
	told chan updateNews
}

// updateNews is how far an update has come, or why it will go no further.
type updateNews struct {
	stage   stage
	outcome *updatepb.Outcome
	// completed is the event that holds the outcome, if it is not given.
	completed int64
	err       error
}

// awaited is an update that a call has asked for, as it was found under the lock.
type awaited struct {
	run  *run
	news updateNews
	// wait is set if the stage that was asked for has not been reached.
	wait *updateWait
	// history finds the outcome of an update that was completed before.
	history durable
}

// UpdateWorkflowExecution implements HistoryService.
func (s *Service) UpdateWorkflowExecution(ctx context.Context, in *historypb.UpdateWorkflowExecutionRequest) (*workflowservice.UpdateWorkflowExecutionResponse, error) {
	req := in.GetRequest()
	var a *awaited
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), req.GetWorkflowExecution().GetWorkflowId()), func(x *access) error {
		r, err := x.findFirst(req.GetWorkflowExecution(), req.GetFirstExecutionRunId())
		if err == nil {
			err = checkFirst(r, req.GetFirstExecutionRunId())
		}
		if err == nil {
			a, err = x.admit(r, req)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.updateResponse(ctx, req.GetRequest().GetMeta().GetUpdateId(), a)
}

// admit takes an update in, or finds it, and waits for its stage.
func (x *access) admit(r *run, req *workflowservice.UpdateWorkflowExecutionRequest) (*awaited, error) {
	var status workflow.UpdateStatus
	_, err := x.transition(r, func(tx *workflow.Tx) (err error) {
		status, err = tx.AdmitUpdate(req.GetRequest())
		return err
	})
	if err != nil {
		return nil, err
	}
	return x.await(r, req.GetRequest().GetMeta().GetUpdateId(), status, stageOfUpdate(req.GetWaitPolicy())), nil
}

// stageOf is the stage that a caller wants to wait for. One that this server does not know would never be reached: then there is
// no wait.
func stageOf(p *updatepb.WaitPolicy) stage {
	if p.GetLifecycleStage() > stageCompleted {
		return enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_UNSPECIFIED
	}
	return p.GetLifecycleStage()
}

// stageOfUpdate is the stage that the caller of an update wants to wait for; without a word of it, acceptance.
func stageOfUpdate(p *updatepb.WaitPolicy) stage {
	if p.GetLifecycleStage() == enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_UNSPECIFIED {
		return stageAccepted
	}
	return stageOf(p)
}

// await notes a caller that waits for a stage, unless it has been reached.
func (x *access) await(r *run, id string, status workflow.UpdateStatus, want stage) *awaited {
	a := &awaited{
		run: r, history: x.durableOf(r),
		news: updateNews{stage: status.Stage, outcome: status.Outcome, completed: status.CompletedEventID},
	}
	if status.Stage < want {
		a.wait = &updateWait{id: id, stage: want, told: make(chan updateNews, 1)}
		r.updates = append(r.updates, a.wait)
		x.touch(r)
	}
	return a
}

func (s *Service) updateResponse(ctx context.Context, id string, a *awaited) (*workflowservice.UpdateWorkflowExecutionResponse, error) {
	news, err := s.updateNews(ctx, a)
	if err != nil {
		return nil, err
	}
	return &workflowservice.UpdateWorkflowExecutionResponse{
		UpdateRef: a.ref(id), Stage: news.stage, Outcome: news.outcome,
	}, nil
}

func (a *awaited) ref(id string) *updatepb.UpdateRef {
	return &updatepb.UpdateRef{WorkflowExecution: execOf(a.run.chain.key.BusinessID, a.run.id), UpdateId: id}
}

// updateNews waits for the stage that was asked for, at most for the time of a long poll, and returns what has been reached. A
// caller whose deadline comes first gets DEADLINE_EXCEEDED: to many of them an early answer with less than they asked for would
// look like one.
func (s *Service) updateNews(ctx context.Context, a *awaited) (updateNews, error) {
	news := a.news
	if a.wait != nil {
		var err error
		if news, err = s.awaitUpdate(ctx, a); err != nil {
			return news, err
		}
	}
	if news.err != nil {
		return news, news.err
	}
	if news.stage == stageCompleted && news.outcome == nil {
		completed, err := a.history.event(ctx, news.completed)
		if err != nil {
			return news, err
		}
		news.outcome = completed.GetWorkflowExecutionUpdateCompletedEventAttributes().GetOutcome()
	}
	return news, nil
}

func (s *Service) awaitUpdate(ctx context.Context, a *awaited) (updateNews, error) {
	timeout, cancel := context.WithTimeout(ctx, longPollWait)
	defer cancel()
	select {
	case news := <-a.wait.told:
		return news, nil
	case <-timeout.Done():
	case <-s.ctx.Done():
	}
	var news updateNews
	s.onRun(a.run, func() {
		a.run.removeUpdate(a.wait)
		select {
		case news = <-a.wait.told: // just in time
		default:
			status, _ := a.run.state.UpdateStatus(a.wait.id)
			news = updateNews{stage: status.Stage, outcome: status.Outcome, completed: status.CompletedEventID}
		}
	})
	switch {
	case s.ctx.Err() != nil:
		return news, errStopped
	default:
		return news, ctx.Err()
	}
}

func (r *run) removeUpdate(w *updateWait) {
	r.updates = slices.DeleteFunc(r.updates, func(other *updateWait) bool { return other == w })
}

// tellUpdates passes on, after a commit, what became of updates.
func (r *run) tellUpdates(outcomes []workflow.UpdateOutcome) {
	for _, o := range outcomes {
		r.updates = slices.DeleteFunc(r.updates, func(w *updateWait) bool {
			if w.id != o.ID || (o.Err == nil && o.Stage < w.stage) {
				return false
			}
			w.told <- updateNews{stage: o.Stage, outcome: o.Outcome, err: o.Err}
			return true
		})
	}
}

// failUpdates ends every wait: the run has been dropped from memory.
func (r *run) failUpdates(err error) {
	for _, w := range r.updates {
		w.told <- updateNews{err: err}
	}
	r.updates = nil
}

// PollWorkflowExecutionUpdate implements HistoryService.
func (s *Service) PollWorkflowExecutionUpdate(ctx context.Context, in *historypb.PollWorkflowExecutionUpdateRequest) (*workflowservice.PollWorkflowExecutionUpdateResponse, error) {
	ref := in.GetRequest().GetUpdateRef()
	id := ref.GetUpdateId()
	key := workflowKey(in.GetNamespaceId(), ref.GetWorkflowExecution().GetWorkflowId())
	var a *awaited
	err := s.with(ctx, key, func(x *access) error {
		r, err := x.find(ref.GetWorkflowExecution().GetRunId())
		if err != nil {
			return err
		}
		status, known := r.state.UpdateStatus(id)
		if !known {
			return serviceerror.NewNotFoundf("update %q not found", id)
		}
		a = x.await(r, id, status, stageOf(in.GetRequest().GetWaitPolicy()))
		return nil
	})
	if err != nil {
		return nil, err
	}
	news, err := s.updateNews(ctx, a)
	if err != nil {
		return nil, err
	}
	return &workflowservice.PollWorkflowExecutionUpdateResponse{
		UpdateRef: a.ref(id), Stage: news.stage, Outcome: news.outcome,
	}, nil
}
