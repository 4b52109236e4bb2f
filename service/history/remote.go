package history

import (
	"context"
	"errors"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	eventpb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"

	historypb "github.com/perdure/perdure/api/history/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// Effects on other executions go to their owners by the HistoryService, and their outcome is a transition of the run that they
// come from. The receiver (children.go) applies each once, so that it does not matter how often it comes. One that keeps
// failing is put off: it becomes a deadline of the run.

const (
	// remoteTimeout bounds one call to another execution's owner.
	remoteTimeout = 10 * time.Second
	// remoteTriesMax is how often an effect on another execution is tried before it is put off.
	remoteTriesMax = 6
)

// performRemote carries out an effect on another execution once.
func (s *Service) performRemote(t target, e workflow.Effect) error {
	ctx, cancel := context.WithTimeout(s.ctx, remoteTimeout)
	defer cancel()
	switch e := e.(type) {
	case workflow.StartChild:
		return s.startChild(ctx, t, e)
	case workflow.ReleaseChild:
		return s.releaseChild(ctx, t, e)
	case workflow.SendExternal:
		return s.sendExternal(ctx, t, e)
	case workflow.NotifyParent:
		return s.notifyParent(ctx, t, e)
	case workflow.CloseChild:
		return s.closeChild(ctx, t, e)
	}
	return serviceerror.NewInternalf("unknown effect %T", e)
}

// remote tells whether an effect is on another execution.
func remote(e workflow.Effect) bool {
	switch e.(type) {
	case workflow.DispatchWorkflowTask, workflow.DispatchActivity:
		return false
	}
	return true
}

// errNotAsked says that the run no longer asks for an effect.
var errNotAsked = errors.New("history: the effect is obsolete")

// prepare reads what an effect needs of its run.
func (s *Service) prepare(ctx context.Context, t target, e workflow.Effect, read func(*access, *run) error) error {
	return s.with(ctx, t.key, func(x *access) error {
		r, err := x.load(t.runID)
		if err != nil {
			return err
		}
		if r == nil || !asksFor(r.state, e) {
			return errNotAsked
		}
		return read(x, r)
	})
}

// outcome applies what became of an effect to the run that it comes from. A run that is over has no use for it.
func (s *Service) outcome(ctx context.Context, t target, apply func(*workflow.Tx)) error {
	err := s.with(ctx, t.key, func(x *access) error {
		r, err := x.load(t.runID)
		if err != nil || r == nil {
			return err
		}
		_, err = x.transition(r, func(tx *workflow.Tx) error {
			apply(tx)
			return nil
		})
		return err
	})
	if code(err) == codes.NotFound {
		return nil
	}
	return err
}

// putOff makes a failing effect a deadline of its run.
func (s *Service) putOff(t target, e workflow.Effect) error {
	return s.outcome(s.ctx, t, func(tx *workflow.Tx) { tx.EffectFailed(e.EffectID(), 0, "") })
}

// sourceOf names a run and an event of it to the receiver of an effect.
func (x *access) sourceOf(r *run, initiatedEventID int64) *historypb.Source {
	return &historypb.Source{
		NamespaceId: x.chain.key.NamespaceID, Namespace: x.namespaceName(x.ctx, x.chain.key.NamespaceID),
		Execution: execOf(x.chain.key.BusinessID, r.id), InitiatedEventId: initiatedEventID,
	}
}

func execOf(workflowID, runID string) *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID}
}

func (s *Service) startChild(ctx context.Context, t target, e workflow.StartChild) error {
	var initiated *eventpb.HistoryEvent
	var request *historypb.StartChildRequest
	err := s.prepare(ctx, t, e, func(x *access, r *run) (err error) {
		initiated, request, err = x.childRequest(r, e.Child)
		return err
	})
	if err != nil {
		return err
	}
	a := initiated.GetStartChildWorkflowExecutionInitiatedEventAttributes()
	response, err := s.history.StartChild(ctx, request)
	if err == nil {
		return s.childStarted(ctx, t, request, response.GetRunId(), a)
	}
	cause, final := startFailure(err)
	if !final {
		return err
	}
	return s.outcome(ctx, t, func(tx *workflow.Tx) { tx.ChildStartFailed(e.Child.InitiatedEventId, cause, a.GetControl()) })
}

func (x *access) childRequest(r *run, c *statepb.Child) (*eventpb.HistoryEvent, *historypb.StartChildRequest, error) {
	initiated, err := x.event(r, c.InitiatedEventId)
	if err != nil {
		return nil, nil, err
	}
	return initiated, r.state.ChildRequest(c, initiated, x.namespaceName(x.ctx, x.chain.key.NamespaceID)), nil
}

// childStarted records a child's start in its parent. If the parent has closed meanwhile, the child it did not know of is an
// orphan, and ends.
func (s *Service) childStarted(ctx context.Context, t target, request *historypb.StartChildRequest, runID string, a *eventpb.StartChildWorkflowExecutionInitiatedEventAttributes) error {
	known := false
	err := s.outcome(ctx, t, func(tx *workflow.Tx) {
		known = tx.ChildStarted(request.GetParent().GetInitiatedEventId(), runID, a.GetHeader())
	})
	if err != nil || known || a.GetParentClosePolicy() == enumspb.PARENT_CLOSE_POLICY_ABANDON {
		return err
	}
	return s.terminateChild(ctx, request.GetParent(), request.GetNamespaceId(), request.GetRequest().GetNamespace(), execOf(request.GetRequest().GetWorkflowId(), ""), runID)
}

// startFailure tells why a child cannot be started, if trying again would not help.
func startFailure(err error) (cause enumspb.StartChildWorkflowExecutionFailedCause, final bool) {
	var exists *serviceerror.WorkflowExecutionAlreadyStarted
	switch {
	case errors.As(err, &exists):
		return enumspb.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS, true
	case isNamespaceGone(err):
		return enumspb.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_NAMESPACE_NOT_FOUND, true
	}
	return 0, false
}

func isNamespaceGone(err error) bool {
	var missing *serviceerror.NamespaceNotFound
	var state *serviceerror.NamespaceInvalidState
	return errors.As(err, &missing) || errors.As(err, &state)
}

func (s *Service) releaseChild(ctx context.Context, t target, e workflow.ReleaseChild) error {
	var source *historypb.Source
	err := s.prepare(ctx, t, e, func(x *access, r *run) error {
		source = x.sourceOf(r, e.Child.InitiatedEventId)
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.unhold(ctx, source, e.Child); err != nil {
		return err
	}
	return s.outcome(ctx, t, func(tx *workflow.Tx) { tx.ChildReleased(e.Child.InitiatedEventId) })
}

// unhold lets a child work. One that is gone needs nothing.
func (s *Service) unhold(ctx context.Context, source *historypb.Source, c *statepb.Child) error {
	_, err := s.history.ReleaseChild(ctx, &historypb.ReleaseChildRequest{
		NamespaceId: c.NamespaceId, Child: execOf(c.WorkflowId, c.RunId), Parent: source,
	})
	return gone(err)
}

// gone drops the error that the other execution does not exist or is over.
func gone(err error) error {
	if code(err) == codes.NotFound {
		return nil
	}
	return err
}

func (s *Service) sendExternal(ctx context.Context, t target, e workflow.SendExternal) error {
	var initiated *eventpb.HistoryEvent
	var source *historypb.Source
	var self bool
	err := s.prepare(ctx, t, e, func(x *access, r *run) (err error) {
		self = r.state.IsSelf(e.External)
		source = x.sourceOf(r, e.External.InitiatedEventId)
		initiated, err = x.event(r, e.External.InitiatedEventId)
		return err
	})
	switch {
	case err != nil:
		return err
	case self:
		err = errWorkflowNotFound(t.key.BusinessID)
	case e.External.Cancel:
		err = s.sendCancel(ctx, e.External, source, initiated)
	default:
		err = s.sendSignal(ctx, e.External, source, initiated)
	}
	if err == nil {
		return s.outcome(ctx, t, func(tx *workflow.Tx) { tx.ExternalDone(e.External.InitiatedEventId) })
	}
	cause, final := externalFailure(err)
	if !final {
		return err
	}
	return s.outcome(ctx, t, func(tx *workflow.Tx) { tx.ExternalFailed(e.External.InitiatedEventId, cause) })
}

// externalFailure tells why a signal or cancel request cannot be delivered, if trying again would not help.
func externalFailure(err error) (cause enumspb.SignalExternalWorkflowExecutionFailedCause, final bool) {
	switch {
	case isNamespaceGone(err):
		return enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_NAMESPACE_NOT_FOUND, true
	case code(err) == codes.NotFound:
		return enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND, true
	case code(err) == codes.InvalidArgument: // a signal that is valid is refused by the count alone
		return enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_SIGNAL_COUNT_LIMIT_EXCEEDED, true
	}
	return 0, false
}

// addressee is the run that a signal or cancel request goes to: once one has answered, no other.
func addressee(x *statepb.External) *commonpb.WorkflowExecution {
	if x.PinnedRunId != "" {
		return execOf(x.Target.GetWorkflowId(), x.PinnedRunId)
	}
	return x.Target
}

func (s *Service) sendSignal(ctx context.Context, x *statepb.External, source *historypb.Source, initiated *eventpb.HistoryEvent) error {
	a := initiated.GetSignalExternalWorkflowExecutionInitiatedEventAttributes()
	_, err := s.history.SignalFromWorkflow(ctx, &historypb.SignalFromWorkflowRequest{
		NamespaceId: x.NamespaceId, Source: source, ChildWorkflowOnly: x.ChildWorkflowOnly,
		Request: &workflowservice.SignalWorkflowExecutionRequest{
			Namespace: x.Namespace, WorkflowExecution: addressee(x), SignalName: a.GetSignalName(), Input: a.GetInput(),
			Header: a.GetHeader(), Identity: serverIdentity, RequestId: x.RequestId,
		},
	})
	return err
}

func (s *Service) sendCancel(ctx context.Context, x *statepb.External, source *historypb.Source, initiated *eventpb.HistoryEvent) error {
	_, err := s.history.CancelFromWorkflow(ctx, &historypb.CancelFromWorkflowRequest{
		NamespaceId: x.NamespaceId, Source: source, ChildWorkflowOnly: x.ChildWorkflowOnly,
		Request: &workflowservice.RequestCancelWorkflowExecutionRequest{
			Namespace: x.Namespace, WorkflowExecution: addressee(x), Identity: serverIdentity, RequestId: x.RequestId,
			Reason: initiated.GetRequestCancelExternalWorkflowExecutionInitiatedEventAttributes().GetReason(),
		},
	})
	return err
}

// notifyParent tells the parent how the run's chain ended.
func (s *Service) notifyParent(ctx context.Context, t target, e workflow.NotifyParent) error {
	var request *historypb.RecordChildClosedRequest
	err := s.prepare(ctx, t, e, func(x *access, r *run) error {
		closing, err := x.event(r, r.state.Core.CloseEventId)
		if err != nil {
			return err
		}
		start := r.state.Start
		request = &historypb.RecordChildClosedRequest{
			NamespaceId: start.ParentNamespaceId, Parent: start.Parent,
			InitiatedEventId: start.ParentInitiatedEventId, StartedEventId: start.ParentStartedEventId,
			Child: execOf(start.WorkflowId, start.FirstRunId), ChildType: start.WorkflowType,
			CloseEvent: closing, LastRunId: r.id,
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := s.history.RecordChildClosed(ctx, request); gone(err) != nil {
		return err
	}
	return s.outcome(ctx, t, func(tx *workflow.Tx) { tx.CloseEffectDone(e.ID) })
}

// closeChild applies the parent close policy to a child of a run that has closed.
func (s *Service) closeChild(ctx context.Context, t target, e workflow.CloseChild) error {
	c := e.Child
	var source *historypb.Source
	var request *historypb.StartChildRequest
	err := s.prepare(ctx, t, e, func(x *access, r *run) (err error) {
		source = x.sourceOf(r, c.InitiatedEventId)
		_, request, err = x.childRequest(r, c)
		return err
	})
	if err != nil {
		return err
	}
	switch c.ParentClosePolicy {
	case enumspb.PARENT_CLOSE_POLICY_ABANDON:
		err = s.abandonChild(ctx, source, c, request)
	case enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL:
		err = s.cancelChild(ctx, source, c)
	default:
		err = s.terminateChild(ctx, source, c.NamespaceId, c.Namespace, execOf(c.WorkflowId, ""), c.RunId)
	}
	if err != nil {
		return err
	}
	return s.outcome(ctx, t, func(tx *workflow.Tx) { tx.CloseEffectDone(e.ID) })
}

// abandonChild lets a child go on by itself: it is started, if its parent did not live to see that, and released.
func (s *Service) abandonChild(ctx context.Context, source *historypb.Source, c *statepb.Child, request *historypb.StartChildRequest) error {
	runID := c.RunId
	if runID == "" {
		response, err := s.history.StartChild(ctx, request)
		if _, final := startFailure(err); final {
			return nil // nobody is left to be told
		}
		if err != nil {
			return err
		}
		runID = response.GetRunId()
	}
	return s.unhold(ctx, source, &statepb.Child{NamespaceId: c.NamespaceId, WorkflowId: c.WorkflowId, RunId: runID})
}

// cancelChild asks a child to end. One whose first task is still held must be released to hear of it; one that was never
// known to have started ends at once.
func (s *Service) cancelChild(ctx context.Context, source *historypb.Source, c *statepb.Child) error {
	if c.RunId == "" {
		return s.terminateChild(ctx, source, c.NamespaceId, c.Namespace, execOf(c.WorkflowId, ""), "")
	}
	if !c.Released {
		if err := s.unhold(ctx, source, c); err != nil {
			return err
		}
	}
	_, err := s.history.CancelFromWorkflow(ctx, &historypb.CancelFromWorkflowRequest{
		NamespaceId: c.NamespaceId, Source: &historypb.Source{NamespaceId: source.NamespaceId, Namespace: source.Namespace, Execution: source.Execution},
		ChildWorkflowOnly: true,
		Request: &workflowservice.RequestCancelWorkflowExecutionRequest{
			Namespace: c.Namespace, WorkflowExecution: execOf(c.WorkflowId, ""), FirstExecutionRunId: c.RunId, Identity: serverIdentity,
		},
	})
	return gone(err)
}

// terminateChild ends a child because its parent has; the chain that the parent started is meant, whichever run of it is the
// current one. Without a first run id it is any child of that initiation.
func (s *Service) terminateChild(ctx context.Context, source *historypb.Source, namespaceID, namespace string, child *commonpb.WorkflowExecution, firstRunID string) error {
	_, err := s.history.TerminateFromWorkflow(ctx, &historypb.TerminateFromWorkflowRequest{
		NamespaceId: namespaceID, Source: source, ChildWorkflowOnly: true,
		Request: &workflowservice.TerminateWorkflowExecutionRequest{
			Namespace: namespace, WorkflowExecution: child, FirstExecutionRunId: firstRunID,
			Reason: "by parent close policy", Identity: serverIdentity,
		},
	})
	return gone(err)
}
