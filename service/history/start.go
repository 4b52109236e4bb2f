package history

import (
	"context"
	"encoding/json"
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

// start is a run to be started, by whichever call.
type start struct {
	opening workflow.Opening
	reuse   enumspb.WorkflowIdReusePolicy
	// conflict is what to do if a run is open; never UNSPECIFIED.
	conflict enumspb.WorkflowIdConflictPolicy
	// then is applied to the new run in the same transition; nil: nothing.
	then func(*workflow.Tx) error
	// eager: the first task is handed out with the reply, not dispatched.
	eager bool
}

// started is how a start ended.
type started struct {
	run *run
	// created: this call made the run. Repeated: an earlier call with the same request id did, or attached itself to it. Neither:
	// a run is open, and the conflict policy says to use it.
	created, repeated bool
	// change of the new run; nil if none was made.
	change *change
}

// StartWorkflowExecution implements HistoryService.
func (s *Service) StartWorkflowExecution(ctx context.Context, in *historypb.StartWorkflowExecutionRequest) (*workflowservice.StartWorkflowExecutionResponse, error) {
	var out *workflowservice.StartWorkflowExecutionResponse
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), in.GetRequest().GetWorkflowId()), func(x *access) (err error) {
		out, err = x.startForClient(in.GetRequest())
		return err
	})
	return out, err
}

func (x *access) startForClient(r *workflowservice.StartWorkflowExecutionRequest) (*workflowservice.StartWorkflowExecutionResponse, error) {
	st, err := x.start(startOf(x.chain.key.NamespaceID, r))
	if err != nil {
		return nil, err
	}
	if !st.created && !st.repeated && r.GetOnConflictOptions() != nil {
		if err := x.attach(st.run, r); err != nil {
			return nil, err
		}
	}
	return x.startResponse(st, r)
}

// startOf is the start that a client's request asks for.
func startOf(namespaceID string, r *workflowservice.StartWorkflowExecutionRequest) *start {
	attributes := workflow.StartAttributes(r)
	st := &start{
		opening: workflow.Opening{
			NamespaceID: namespaceID, RequestID: r.GetRequestId(), Attributes: attributes,
			UserMetadata: r.GetUserMetadata(), Links: r.GetLinks(),
		},
		reuse:    r.GetWorkflowIdReusePolicy(),
		conflict: r.GetWorkflowIdConflictPolicy(),
	}
	if st.reuse == enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING { // old clients still send it
		st.reuse, st.conflict = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	}
	if st.conflict == enumspb.WORKFLOW_ID_CONFLICT_POLICY_UNSPECIFIED {
		st.conflict = enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	}
	if r.GetRequestEagerExecution() && r.GetWorkflowStartDelay().AsDuration() <= 0 && r.GetCronSchedule() == "" {
		st.eager, attributes.EagerExecutionAccepted = true, true
	}
	return st
}

// start makes a new run if the policies allow it.
func (x *access) start(st *start) (*started, error) {
	if x.chain.current == "" && x.optimism.try() {
		begun, err := x.openRun(st, nil, true)
		if !errors.Is(err, persistence.ErrExists) {
			return begun, err
		}
		x.optimism.failed()
	}
	current, err := x.load("")
	if err != nil {
		return nil, err
	}
	if current == nil {
		return x.openRun(st, nil, false)
	}
	if r, err := x.startedBy(current, st.opening.RequestID); err != nil || r != nil {
		return &started{run: r, repeated: true}, err
	}
	if !current.state.Open() {
		if err := checkReuse(current, st.reuse); err != nil {
			return nil, err
		}
		return x.openRun(st, nil, false)
	}
	switch st.conflict {
	case enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING:
		return &started{run: current}, nil
	case enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING:
		return x.openRun(st, current, false)
	}
	return nil, alreadyStarted(current, "Workflow execution is already running. WorkflowId: %s, RunId: %s.")
}

// startedBy finds the recent run that a request id has started or been attached to; nil: none.
func (x *access) startedBy(current *run, requestID string) (*run, error) {
	if current.state.Start.RequestId == requestID || isAttached(current.state.Requests[requestID]) {
		return current, nil
	}
	rows, err := x.Service.store.ListRuns(x.ctx, x.chain.key, runsPerKeyMax)
	if err != nil {
		return nil, readError("look for the request's run", err)
	}
	for _, row := range rows {
		if row.StartRequestID == requestID {
			return x.find(row.RunID)
		}
	}
	return nil, nil
}

// isAttached tells whether a request id has been attached to a run that another start had made.
func isAttached(r *statepb.Request) bool {
	return r != nil && r.EventType == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED
}

// checkReuse refuses to start another run after a closed one, if the policy says so.
func checkReuse(closed *run, reuse enumspb.WorkflowIdReusePolicy) error {
	switch {
	case reuse == enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE:
		return alreadyStarted(closed, "Workflow execution already finished. WorkflowId: %s, RunId: %s. Workflow Id reuse policy: reject duplicate workflow Id.")
	case reuse == enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY && closed.status() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return alreadyStarted(closed, "Workflow execution already finished successfully. WorkflowId: %s, RunId: %s. Workflow Id reuse policy: allow duplicate workflow Id if last run failed.")
	}
	return nil
}

func alreadyStarted(r *run, format string) error {
	start := r.state.Start
	return serviceerror.NewWorkflowExecutionAlreadyStartedf(start.RequestId, start.RunId, format, start.WorkflowId, start.RunId)
}

// openRun makes the run, and in the same commit terminates the one that is open (nil: none). With first set nobody has looked whether
// there are others of its key: ErrExists if there are.
func (x *access) openRun(st *start, open *run, first bool) (*started, error) {
	id, err := x.newRunID()
	if err != nil {
		return nil, err
	}
	st.opening.RunID = id
	var changes []*change
	if open != nil {
		c, err := x.begin(open, false)
		if err != nil {
			return nil, err
		}
		if err := c.tx.Terminate(replaced(id)); err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	opened := x.open(st.opening)
	opened.inHand = st.eager
	if st.then != nil {
		if err := st.then(opened.tx); err != nil {
			return nil, err
		}
	}
	mutation := &persistence.Mutation{Key: x.chain.key, Epoch: x.chain.epoch, First: first}
	if err := x.commitAs(mutation, append(changes, opened)); err != nil {
		return nil, err
	}
	return &started{run: opened.run, created: true, change: opened}, nil
}

// replaced ends a run to make room for another one.
func replaced(by string) workflow.Termination {
	text, _ := json.Marshal("terminated by new runID: " + by) // a string always encodes
	return workflow.Termination{
		Reason:   "TerminateIfRunning WorkflowIdReusePolicy",
		Identity: serverIdentity,
		Details:  &commonpb.Payloads{Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: text}}},
	}
}

// serverIdentity signs what the server does by itself.
const serverIdentity = "history-service"

func (x *access) startResponse(st *started, r *workflowservice.StartWorkflowExecutionRequest) (*workflowservice.StartWorkflowExecutionResponse, error) {
	out := &workflowservice.StartWorkflowExecutionResponse{
		RunId: st.run.id, Started: st.created || st.repeated, Status: st.run.status(),
		Link: x.startLink(st.run),
	}
	if request := st.run.state.Requests[r.GetRequestId()]; isAttached(request) {
		out.Started = false
		out.Link = x.requestLink(st.run, r.GetRequestId(), request.EventType)
	}
	var err error
	out.EagerWorkflowTask, err = x.eagerTask(st, r)
	return out, err
}

// eagerTask starts a new run's first task for the client that started it, or returns it again to a client that repeats its
// request. The start is in memory only, as any: after a crash the task is dispatched as usual.
func (x *access) eagerTask(st *started, r *workflowservice.StartWorkflowExecutionRequest) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	if !r.GetRequestEagerExecution() {
		return nil, nil
	}
	task := st.run.state.Task()
	switch {
	case task == nil || task.Attempt != 1 || st.run.state.Core.CompletedTasks > 0:
		return nil, nil
	case task.StartedEventId != 0 && task.StartId != r.GetRequestId(), task.StartedEventId == 0 && !st.created:
		return nil, nil
	}
	reply, err := x.startTask(st.run, workflow.TaskStart{
		ScheduledEventID: task.ScheduledEventId, EffectID: task.EffectId, StartID: r.GetRequestId(), Identity: r.GetIdentity(),
	})
	if err != nil {
		return nil, err
	}
	return reply.complete(x.ctx)
}

func (x *access) startLink(r *run) *commonpb.Link {
	return x.eventLink(r, &commonpb.Link_WorkflowEvent{Reference: &commonpb.Link_WorkflowEvent_EventRef{
		EventRef: &commonpb.Link_WorkflowEvent_EventReference{EventId: 1, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED},
	}})
}

func (x *access) requestLink(r *run, requestID string, typ enumspb.EventType) *commonpb.Link {
	return x.eventLink(r, &commonpb.Link_WorkflowEvent{Reference: &commonpb.Link_WorkflowEvent_RequestIdRef{
		RequestIdRef: &commonpb.Link_WorkflowEvent_RequestIdReference{RequestId: requestID, EventType: typ},
	}})
}

func (x *access) eventLink(r *run, event *commonpb.Link_WorkflowEvent) *commonpb.Link {
	event.Namespace = x.namespaceName(x.ctx, x.chain.key.NamespaceID)
	event.WorkflowId, event.RunId = x.chain.key.BusinessID, r.id
	return &commonpb.Link{Variant: &commonpb.Link_WorkflowEvent_{WorkflowEvent: event}}
}

// attach writes a start's on-conflict options to the open run that it found.
func (x *access) attach(r *run, req *workflowservice.StartWorkflowExecutionRequest) error {
	options := req.GetOnConflictOptions()
	a := workflow.Attachment{}
	if options.GetAttachRequestId() {
		a.RequestID = req.GetRequestId()
	}
	if options.GetAttachCompletionCallbacks() {
		a.Callbacks = req.GetCompletionCallbacks()
	}
	if options.GetAttachLinks() {
		a.Links = req.GetLinks()
	}
	_, err := x.transition(r, func(tx *workflow.Tx) error { return tx.Attach(a) })
	return err
}
