package contract

import (
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
)

// The rest of the checklist.
var misc = []point{
	{"8.41 signal with start ignores the reuse policy while a run is open", signalWithStartRunning},
	{"8.42 terminate fails the running task and keeps what came before", terminateDuringTask},
	{"8.42 terminate during a transient task", terminateDuringTransient},
	{"8.42 a run timeout during a task", timeoutDuringTask},
	{"8.43 pending activities", describePending},
	{"8.44 namespaces by name and id", namespaceByID},
	{"8.45 what the UI reads of the cluster", clusterInfo},
	{"8.46 links and poller groups are optional", optionalFields},
}

func signalWithStartRunning(e *env) {
	run := e.idle()
	again := do(e, e.api.SignalWithStartWorkflowExecution, e.newSignalWithStart("s", func(r *signalWithStartRequest) {
		r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	}))
	require.False(e, again.Started)
	require.Equal(e, run, again.RunId)
	refused[*serviceerror.InvalidArgument](e, e.api.SignalWithStartWorkflowExecution, e.newSignalWithStart("s", func(r *signalWithStartRequest) {
		r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	}))
	e.terminate()
	refused[*serviceerror.WorkflowExecutionAlreadyStarted](e, e.api.SignalWithStartWorkflowExecution, e.newSignalWithStart("s", func(r *signalWithStartRequest) {
		r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	}))
}

func terminateDuringTask(e *env) {
	run := e.start()
	got := e.poll()
	e.signal("kept")
	e.terminate()
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Signaled Terminated")
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND, e.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause)
	refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil))
}

func terminateDuringTransient(e *env) {
	run := e.start()
	e.failTask(e.poll())
	e.poll()
	e.terminate()
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Terminated")
}

func timeoutDuringTask(e *env) {
	run := e.start(func(r *startRequest) { r.WorkflowRunTimeout = seconds(10) })
	e.poll()
	e.signal("kept")
	e.awaitClosed(run)
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Signaled TimedOut")
}

func describePending(e *env) {
	run := e.start()
	e.complete(e.poll(), e.activity("a", withRetry(retry(3600, 0))))
	pending := e.pendingActivity(run)
	require.Equal(e, enumspb.PENDING_ACTIVITY_STATE_SCHEDULED, pending.State)
	require.EqualValues(e, 1, pending.Attempt)
	a := e.pollActivity()
	pending = e.pendingActivity(run)
	require.Equal(e, enumspb.PENDING_ACTIVITY_STATE_STARTED, pending.State)
	require.NotNil(e, pending.LastStartedTime)
	require.Equal(e, "worker", pending.LastWorkerIdentity)
	e.failActivity(a, failure("Bad"))
	pending = e.pendingActivity(run)
	require.EqualValues(e, 2, pending.Attempt)
	require.Equal(e, "Bad happened", pending.LastFailure.GetMessage())
	require.Equal(e, time.Hour, pending.CurrentRetryInterval.AsDuration())
	require.InDelta(e, float64(time.Now().Add(time.Hour).Unix()), float64(pending.NextAttemptScheduleTime.AsTime().Unix()), 60)
}

func namespaceByID(e *env) {
	byName := do(e, e.api.DescribeNamespace, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	id := byName.GetNamespaceInfo().GetId()
	require.NotEmpty(e, id)
	out, err := e.bareDescribeNamespace(&workflowservice.DescribeNamespaceRequest{Id: id})
	require.NoError(e, err)
	require.Equal(e, namespace, out.GetNamespaceInfo().GetName())
	out, err = e.bareDescribeNamespace(&workflowservice.DescribeNamespaceRequest{Namespace: "temporal-system"})
	require.NoError(e, err)
	require.Equal(e, "32049b68-7872-4094-8e63-d0dd59896a83", out.GetNamespaceInfo().GetId())
}

func (e *env) bareDescribeNamespace(req *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	ctx, cancel := bareContext()
	defer cancel()
	return e.api.DescribeNamespace(ctx, req)
}

func clusterInfo(e *env) {
	info := do(e, e.api.GetClusterInfo, &workflowservice.GetClusterInfoRequest{})
	require.Regexp(e, `^1\.(3[2-9]|[4-9]\d)\.\d+`, info.ServerVersion, "pages of the UI depend on it")
	require.NotContains(e, info.VisibilityStore, "elasticsearch")
	require.NotEmpty(e, info.VisibilityStore)
	require.NotEmpty(e, info.ClusterId)
	require.NotEmpty(e, info.ClusterName)
}

func optionalFields(e *env) {
	link := &commonpb.Link{Variant: &commonpb.Link_WorkflowEvent_{WorkflowEvent: &commonpb.Link_WorkflowEvent{Namespace: namespace, WorkflowId: "other", RunId: "0198a9b4-0000-7000-8000-000000000000"}}}
	run := e.start(func(r *startRequest) { r.Links = []*commonpb.Link{link} })
	require.Len(e, e.stored(run)[0].Links, 1, "given links are kept")
	e.signal("without links")
	got := e.poll() // names no poller group
	e.complete(got)
	require.Empty(e, e.event(run, "Signaled").Links)
}
