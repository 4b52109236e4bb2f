package history

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	historypb "github.com/perdure/perdure/api/history/v1"
)

func TestStartIsIdempotentByRequestID(t *testing.T) {
	h := startHost(t)
	r := startRequest("w")
	first, err := h.startWith(r)
	require.NoError(t, err)
	require.True(t, first.Started)
	require.EqualValues(t, 1, first.Link.GetWorkflowEvent().GetEventRef().GetEventId())

	again, err := h.startWith(r)
	require.NoError(t, err)
	require.Equal(t, first.RunId, again.RunId)
	require.True(t, again.Started)

	require.NoError(t, h.terminateRun("w", ""))
	later := h.run("w")
	require.Greater(t, later, first.RunId)
	r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	again, err = h.startWith(r) // its run has closed, and another one runs
	require.NoError(t, err)
	require.Equal(t, first.RunId, again.RunId)
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, again.Status)
}

// A host that does not know a workflow id expects it to be new. If it was wrong, policies and request ids decide as ever, and the
// next starts look first.
func TestStartOfAnIDThatIsNotKnown(t *testing.T) {
	w := newWorld(t)
	h := w.start(Config{})
	r := startRequest("w")
	first, err := h.startWith(r)
	require.NoError(t, err)
	h.stop()

	h = w.start(Config{})
	again, err := h.startWith(r)
	require.NoError(t, err)
	require.Equal(t, first.RunId, again.RunId)
	require.True(t, again.Started)
	_, err = h.startWith(startRequest("w"))
	var exists *serviceerror.WorkflowExecutionAlreadyStarted
	require.ErrorAs(t, err, &exists)
	require.NoError(t, h.terminateRun("w", ""))
	h.stop()

	h = w.start(Config{})
	reuse := startRequest("w")
	reuse.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	_, err = h.startWith(reuse)
	require.ErrorAs(t, err, &exists)
	require.Greater(t, h.run("w"), first.RunId)

	h.stop()
	h = w.start(Config{})
	reuse = startRequest("w")
	reuse.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	replaced, err := h.startWith(reuse)
	require.NoError(t, err)
	require.NotEqual(t, first.RunId, replaced.RunId)
	reads := h.db.Reads()
	for i := range pessimism {
		h.run(fmt.Sprintf("wary-%d", i))
	}
	require.Equal(t, pessimism, h.db.Reads()-reads)
	h.run("trusting again")
	require.Equal(t, pessimism, h.db.Reads()-reads)
}

func TestStartConflictPolicies(t *testing.T) {
	h := startHost(t)
	run := h.run("w")
	for _, policy := range []enumspb.WorkflowIdConflictPolicy{enumspb.WORKFLOW_ID_CONFLICT_POLICY_UNSPECIFIED, enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL} {
		r := startRequest("w")
		r.WorkflowIdConflictPolicy = policy
		_, err := h.startWith(r)
		var exists *serviceerror.WorkflowExecutionAlreadyStarted
		require.ErrorAs(t, err, &exists)
		require.Equal(t, run, exists.RunId)
		require.NotEmpty(t, exists.StartRequestId)
	}

	r := startRequest("w")
	r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	used, err := h.startWith(r)
	require.NoError(t, err)
	require.Equal(t, run, used.RunId)
	require.False(t, used.Started)

	r = startRequest("w")
	r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	commits := h.db.Commits()
	replaced, err := h.startWith(r)
	require.NoError(t, err)
	require.Equal(t, 1, h.db.Commits()-commits) // atomically
	require.Greater(t, replaced.RunId, run)
	require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowTaskScheduled", "WorkflowExecutionTerminated"}, types(h.events("w", run)))
	require.Len(t, h.events("w", ""), 2)
}

func TestStartReusePolicies(t *testing.T) {
	h := startHost(t)
	h.run("w")
	h.complete(h.task(), completeWorkflow())
	for _, policy := range []enumspb.WorkflowIdReusePolicy{
		enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE, enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
	} {
		r := startRequest("w")
		r.WorkflowIdReusePolicy = policy
		_, err := h.startWith(r)
		var exists *serviceerror.WorkflowExecutionAlreadyStarted
		require.ErrorAs(t, err, &exists, policy)
	}
	h.run("w")
	require.NoError(t, h.terminateRun("w", ""))
	r := startRequest("w")
	r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
	out, err := h.startWith(r)
	require.NoError(t, err)
	require.True(t, out.Started)
}

func TestStartAttachesToTheOpenRun(t *testing.T) {
	h := startHost(t)
	run := h.run("w")
	h.complete(h.task())
	r := startRequest("w")
	r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	r.OnConflictOptions = &workflowpb.OnConflictOptions{AttachRequestId: true}
	for range 2 {
		out, err := h.startWith(r)
		require.NoError(t, err)
		require.Equal(t, run, out.RunId)
		require.False(t, out.Started)
		require.Equal(t, r.RequestId, out.Link.GetWorkflowEvent().GetRequestIdRef().GetRequestId())
	}
	require.Equal(t, "WorkflowExecutionOptionsUpdated", types(h.events("w", ""))[4])
	require.Len(t, h.events("w", ""), 5)

	require.NoError(t, h.terminateRun("w", ""))
	out, err := h.startWith(r)
	require.NoError(t, err)
	require.Equal(t, run, out.RunId, "the request has been applied: it makes no run when it comes again")
	require.False(t, out.Started)
}

func TestEagerStart(t *testing.T) {
	h := startHost(t)
	r := startRequest("w")
	r.RequestEagerExecution = true
	first, err := h.startWith(r)
	require.NoError(t, err)
	require.EqualValues(t, 3, first.EagerWorkflowTask.StartedEventId)
	require.Len(t, first.EagerWorkflowTask.History.Events, 3)
	require.True(t, first.EagerWorkflowTask.History.Events[0].GetWorkflowExecutionStartedEventAttributes().EagerExecutionAccepted)
	require.Zero(t, h.queues.Waiting())

	again, err := h.startWith(r)
	require.NoError(t, err)
	require.Equal(t, first.EagerWorkflowTask.TaskToken, again.EagerWorkflowTask.TaskToken)
	h.complete(again.EagerWorkflowTask, completeWorkflow())
	require.Len(t, h.events("w", ""), 5)
}

// A host that dies with an eager task in a client's hands leaves a run whose first task is dispatched as usual.
func TestEagerStartSurvivesACrash(t *testing.T) {
	w := newWorld(t)
	h := w.start(Config{})
	r := startRequest("w")
	r.RequestEagerExecution = true
	first, err := h.startWith(r)
	require.NoError(t, err)
	h.crash()

	h = w.start(Config{})
	task := h.task()
	require.EqualValues(t, 3, task.StartedEventId)
	_, err = h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: first.EagerWorkflowTask.TaskToken})
	require.ErrorContains(t, err, "Workflow task not found.")
	h.complete(task, completeWorkflow())
}

func signalWithStart(id string) *workflowservice.SignalWithStartWorkflowExecutionRequest {
	r := startRequest(id)
	return &workflowservice.SignalWithStartWorkflowExecutionRequest{
		WorkflowId: id, WorkflowType: r.WorkflowType, TaskQueue: r.TaskQueue, RequestId: uuid.NewString(), SignalName: "hello", Identity: "client",
	}
}

func (h *host) signalWithStart(r *workflowservice.SignalWithStartWorkflowExecutionRequest) (*workflowservice.SignalWithStartWorkflowExecutionResponse, error) {
	return h.SignalWithStartWorkflowExecution(h.ctx, &historypb.SignalWithStartWorkflowExecutionRequest{NamespaceId: h.id(), Request: r})
}

func TestSignalWithStart(t *testing.T) {
	h := startHost(t)
	r := signalWithStart("w")
	out, err := h.signalWithStart(r)
	require.NoError(t, err)
	require.True(t, out.Started)
	again, err := h.signalWithStart(r)
	require.NoError(t, err)
	require.Equal(t, out.RunId, again.RunId)
	require.False(t, again.Started)
	task := h.task()
	require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowExecutionSignaled", "WorkflowTaskScheduled", "WorkflowTaskStarted"}, types(task.History.Events))
	h.complete(task)

	running := signalWithStart("w")
	for range 2 { // the second one changes nothing
		out, err = h.signalWithStart(running)
		require.NoError(t, err)
		require.False(t, out.Started)
	}
	require.Len(t, h.events("w", ""), 7) // signaled, scheduled

	h.complete(h.task(), completeWorkflow())
	r = signalWithStart("w")
	r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	_, err = h.signalWithStart(r)
	var exists *serviceerror.WorkflowExecutionAlreadyStarted
	require.ErrorAs(t, err, &exists)
}

func TestStartDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		r := startRequest("w")
		r.WorkflowStartDelay = durationpb.New(3 * time.Second)
		_, err := h.startWith(r)
		require.NoError(t, err)
		require.NoError(t, h.signal("w", "meanwhile"))
		synctest.Wait()
		require.Zero(t, h.queues.Waiting())
		begun := time.Now()
		task := h.task()
		require.Equal(t, 3*time.Second, time.Since(begun))
		require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowExecutionSignaled", "WorkflowTaskScheduled", "WorkflowTaskStarted"}, types(task.History.Events))
	})
}

func TestRunIDsGrow(t *testing.T) {
	h := startHost(t)
	last := ""
	for range 50 {
		r := startRequest("w")
		r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
		out, err := h.startWith(r)
		require.NoError(t, err)
		require.Greater(t, out.RunId, last)
		id, err := uuid.Parse(out.RunId)
		require.NoError(t, err)
		require.EqualValues(t, 7, id.Version())
		require.Equal(t, uuid.RFC4122, id.Variant())
		last = out.RunId
	}
}

func TestSuccessorOfARunID(t *testing.T) {
	for id, want := range map[string]string{
		"01900000-0000-7000-8000-000000000000": "01900000-0000-7000-8000-000000000001",
		"01900000-0000-7000-8000-0000000000ff": "01900000-0000-7000-8000-000000000100",
		"01900000-0000-7000-bfff-ffffffffffff": "01900000-0000-7001-8000-000000000000",
		"01900000-0000-7fff-bfff-ffffffffffff": "01900000-0001-7000-8000-000000000000",
	} {
		require.Equal(t, want, successor(uuid.MustParse(id)).String())
	}
}

func TestUnknownWorkflows(t *testing.T) {
	h := startHost(t)
	err := h.signal("nobody", "s")
	require.EqualError(t, err, "workflow not found for ID: nobody")
	h.run("w")
	err = h.terminateRun("w", "01900000-0000-7000-8000-000000000000")
	require.EqualError(t, err, `workflow execution not found for workflow ID "w" and run ID "01900000-0000-7000-8000-000000000000"`)
	var notFound *serviceerror.NotFound
	require.ErrorAs(t, err, &notFound)
}

func TestSignalCancelTerminate(t *testing.T) {
	h := startHost(t)
	run := h.run("w")
	cancel := func(execution *commonpb.WorkflowExecution, first string) error {
		_, err := h.RequestCancelWorkflowExecution(h.ctx, &historypb.RequestCancelWorkflowExecutionRequest{
			NamespaceId: h.id(),
			Request:     &workflowservice.RequestCancelWorkflowExecutionRequest{WorkflowExecution: execution, FirstExecutionRunId: first},
		})
		return err
	}
	require.EqualError(t, cancel(execution("w", ""), "other"), "workflow execution not found")
	require.NoError(t, cancel(execution("w", "ignored"), run))
	require.NoError(t, cancel(execution("w", ""), "")) // a second one changes nothing
	require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowTaskScheduled", "WorkflowExecutionCancelRequested"}, types(h.events("w", "")))
	require.True(t, h.describe("w", "").WorkflowExtendedInfo.CancelRequested)

	require.NoError(t, h.terminateRun("w", run))
	require.EqualError(t, h.terminateRun("w", run), "workflow execution already completed")
	require.EqualError(t, h.signal("w", "s"), "workflow execution already completed")
	require.NoError(t, cancel(execution("w", ""), "")) // closed: nothing to do
	require.NoError(t, cancel(execution("w", ""), "other"))
}
