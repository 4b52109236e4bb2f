package contract

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Conditions and their errors.
var conditions = []point{
	{"6.3 missing and wrong fields", wrongFields},
	{"6.3 namespaces that are missing", unknownNamespace},
	{"6.3 a namespace that exists", existingNamespace},
	{"6.3 a deprecated namespace", deprecatedNamespace},
	{"6.3 a start while a run is open", startWhileOpen},
	{"6.3 a start while a run is open, terminating it", startTerminating},
	{"6.3 a start after a run is closed", startAfterClose},
	{"6.3 policies that contradict", contradictingPolicies},
	{"6.3 requests to a closed run", requestsToClosed},
	{"6.3 requests to an unknown run", requestsToUnknown},
	{"6.3 another first run", otherFirstRun},
	{"6.3 polls without time", pollsWithoutTime},
	{"6.3 tokens", wrongTokens},
	{"6.3 activities that are over", activityOver},
	{"6.3 a query before the first task", queryBeforeFirstTask},
	{"6.3 a query without a worker", queryWithoutWorker},
	{"6.3 page tokens", wrongPageTokens},
	{"6.3 client versions", clientVersions},
	{"6.3 filters", wrongFilters},
}

func wrongFields(e *env) {
	e.refusedStarts(
		func(r *startRequest) { r.WorkflowType = nil },
		func(r *startRequest) { r.TaskQueue = nil },
		func(r *startRequest) { r.WorkflowId = "" },
		func(r *startRequest) { r.WorkflowIdReusePolicy = 99 },
		func(r *startRequest) { r.WorkflowIdConflictPolicy = 99 },
		func(r *startRequest) { r.Priority = &commonpb.Priority{PriorityKey: -1} },
		func(r *startRequest) { r.CronSchedule = "often" },
	)
	bad := execution(e.id, "not-a-uuid")
	refused[*serviceerror.InvalidArgument](e, e.api.DescribeWorkflowExecution, &describeRequest{Execution: bad})
	refused[*serviceerror.InvalidArgument](e, e.api.DescribeWorkflowExecution, &describeRequest{})
	refused[*serviceerror.InvalidArgument](e, e.api.SignalWorkflowExecution, e.newSignal("s", func(r *signalRequest) { r.WorkflowExecution = bad }))
	refused[*serviceerror.InvalidArgument](e, e.api.SignalWorkflowExecution, e.newSignal(""))
	refused[*serviceerror.InvalidArgument](e, e.api.TerminateWorkflowExecution, e.newTerminate(func(r *terminateRequest) { r.WorkflowExecution = bad }))
	refused[*serviceerror.InvalidArgument](e, e.api.PollWorkflowTaskQueue, e.newPoll(nil))
	refused[*serviceerror.PermissionDenied](e, e.api.UpdateWorkflowExecution, e.newUpdate("u", func(r *updateRequest) { r.WaitPolicy.LifecycleStage = stageAdmitted }))
}

func unknownNamespace(e *env) {
	for _, name := range []string{"", "no-such-namespace"} {
		ctx, cancel := bareContext()
		req := e.newStart()
		req.Namespace = name
		_, err := e.api.StartWorkflowExecution(ctx, req)
		cancel()
		if name == "" {
			asError[*serviceerror.InvalidArgument](e, err)
		} else {
			require.Equal(e, name, asError[*serviceerror.NamespaceNotFound](e, err).Namespace)
		}
	}
}

func (e *env) register(name string) {
	e.Helper()
	do(e, e.api.RegisterNamespace, &workflowservice.RegisterNamespaceRequest{Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)})
}

func existingNamespace(e *env) {
	e.register(e.id)
	refused[*serviceerror.NamespaceAlreadyExists](e, e.api.RegisterNamespace, &workflowservice.RegisterNamespaceRequest{
		Namespace: e.id, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	refused[*serviceerror.InvalidArgument](e, e.api.RegisterNamespace, &workflowservice.RegisterNamespaceRequest{Namespace: e.id + "-without-retention"})
	req := e.newStart(func(r *startRequest) { r.Namespace = e.id })
	do(e, e.api.StartWorkflowExecution, req) // usable at once
}

func deprecatedNamespace(e *env) {
	e.register(e.id)
	mine := func(r *startRequest) { r.Namespace = e.id }
	do(e, e.api.StartWorkflowExecution, e.newStart(mine))
	do(e, e.api.DeprecateNamespace, &workflowservice.DeprecateNamespaceRequest{Namespace: e.id})
	e.eventually("every host knows", func() bool {
		_, err := try(e, callMax, e.api.StartWorkflowExecution, e.sub("other").newStart(mine))
		return err != nil
	})
	state := refused[*serviceerror.NamespaceInvalidState](e, e.api.StartWorkflowExecution, e.sub("another").newStart(mine))
	require.Equal(e, enumspb.NAMESPACE_STATE_DEPRECATED, state.State)
	refused[*serviceerror.NamespaceInvalidState](e, e.api.SignalWithStartWorkflowExecution, e.newSignalWithStart("s", func(r *signalWithStartRequest) { r.Namespace = e.id }))
	do(e, e.api.SignalWorkflowExecution, e.newSignal("goes on", func(r *signalRequest) { r.Namespace = e.id }))
}

func startWhileOpen(e *env) {
	run := e.start(func(r *startRequest) { r.RequestId = "first" })
	taken := refused[*serviceerror.WorkflowExecutionAlreadyStarted](e, e.api.StartWorkflowExecution, e.newStart())
	require.Equal(e, run, taken.RunId)
	require.Equal(e, "first", taken.StartRequestId)
	existing := do(e, e.api.StartWorkflowExecution, e.newStart(func(r *startRequest) { r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING }))
	require.False(e, existing.Started)
	require.Equal(e, run, existing.RunId)
	require.Equal(e, running, existing.Status)
	e.wantHistory(run, "Started TaskScheduled")
}

func startTerminating(e *env) {
	for _, mod := range []func(*startRequest){
		func(r *startRequest) {
			r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
		},
		func(r *startRequest) { r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING }, // old clients send it
	} {
		old := do(e, e.api.StartWorkflowExecution, e.newStart(func(r *startRequest) { r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING })).RunId
		e.pass(1100 * time.Millisecond) // the id may have a minimal interval
		started := do(e, e.api.StartWorkflowExecution, e.newStart(mod))
		require.True(e, started.Started)
		require.NotEqual(e, old, started.RunId)
		e.wantStatus(old, terminated)
		e.wantStatus(started.RunId, running)
	}
}

func startAfterClose(e *env) {
	finish := func(w *env, with *command) string {
		run := w.start()
		w.complete(w.poll(), with)
		return run
	}
	reuse := func(p enumspb.WorkflowIdReusePolicy) func(*startRequest) {
		return func(r *startRequest) { r.WorkflowIdReusePolicy = p }
	}
	good, bad := e.sub("good"), e.sub("bad")
	run := finish(good, completeWorkflow("done"))
	taken := refused[*serviceerror.WorkflowExecutionAlreadyStarted](e, e.api.StartWorkflowExecution, good.newStart(reuse(enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE)))
	require.Equal(e, run, taken.RunId)
	refused[*serviceerror.WorkflowExecutionAlreadyStarted](e, e.api.StartWorkflowExecution, good.newStart(reuse(enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY)))
	require.True(e, do(e, e.api.StartWorkflowExecution, good.newStart()).Started)
	finish(bad, failWorkflow(failure("Bad")))
	refused[*serviceerror.WorkflowExecutionAlreadyStarted](e, e.api.StartWorkflowExecution, bad.newStart(reuse(enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE)))
	require.True(e, do(e, e.api.StartWorkflowExecution, bad.newStart(reuse(enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY))).Started)
}

func contradictingPolicies(e *env) {
	const terminateIfRunning = enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING // old clients send it
	e.refusedStarts(
		func(r *startRequest) {
			r.WorkflowIdReusePolicy, r.WorkflowIdConflictPolicy = terminateIfRunning, enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
		},
		func(r *startRequest) {
			r.WorkflowIdReusePolicy, r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE, enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
		},
		func(r *startRequest) { r.CronSchedule, r.WorkflowStartDelay = "0 0 * * *", seconds(1) },
	)
}

func requestsToClosed(e *env) {
	run := e.start()
	e.complete(e.poll(), completeWorkflow("done"))
	before := len(e.stored(run))
	refused[*serviceerror.NotFound](e, e.api.SignalWorkflowExecution, e.newSignal("s"))
	refused[*serviceerror.NotFound](e, e.api.TerminateWorkflowExecution, e.newTerminate())
	refused[*serviceerror.NotFound](e, e.api.UpdateWorkflowExecution, e.newUpdate("u"))
	e.cancel() // is too late, but no error
	require.Len(e, e.stored(run), before)
}

func requestsToUnknown(e *env) {
	unknown := execution(e.id, "")
	for _, exec := range []*commonpb.WorkflowExecution{unknown, execution(e.id, uuid.NewString())} {
		refused[*serviceerror.NotFound](e, e.api.SignalWorkflowExecution, e.newSignal("s", func(r *signalRequest) { r.WorkflowExecution = exec }))
		refused[*serviceerror.NotFound](e, e.api.TerminateWorkflowExecution, e.newTerminate(func(r *terminateRequest) { r.WorkflowExecution = exec }))
		refused[*serviceerror.NotFound](e, e.api.RequestCancelWorkflowExecution, e.newCancel(func(r *cancelRequest) { r.WorkflowExecution = exec }))
		refused[*serviceerror.NotFound](e, e.api.UpdateWorkflowExecution, e.newUpdate("u", func(r *updateRequest) { r.WorkflowExecution = exec }))
		refused[*serviceerror.NotFound](e, e.api.DescribeWorkflowExecution, &describeRequest{Execution: exec})
		refused[*serviceerror.NotFound](e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: exec})
		refused[*serviceerror.NotFound](e, e.api.ResetWorkflowExecution, e.newReset(4, func(r *resetRequest) { r.WorkflowExecution = exec }))
		query := e.newQuery("q")
		query.Execution = exec
		refused[*serviceerror.NotFound](e, e.api.QueryWorkflow, query)
	}
}

func otherFirstRun(e *env) {
	run := e.idle()
	other := uuid.NewString()
	refused[*serviceerror.NotFound](e, e.api.RequestCancelWorkflowExecution, e.newCancel(func(r *cancelRequest) { r.FirstExecutionRunId = other }))
	refused[*serviceerror.NotFound](e, e.api.TerminateWorkflowExecution, e.newTerminate(func(r *terminateRequest) { r.FirstExecutionRunId = other }))
	refused[*serviceerror.NotFound](e, e.api.UpdateWorkflowExecution, e.newUpdate("u", func(r *updateRequest) { r.FirstExecutionRunId = other }))
	e.wantHistory(run, firstTask)
}

func pollsWithoutTime(e *env) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := e.api.PollWorkflowTaskQueue(ctx, e.newPoll(normal(e.queue)))
	asError[*serviceerror.InvalidArgument](e, err)
	_, err = try(e, 1500*time.Millisecond, e.api.PollWorkflowTaskQueue, e.newPoll(normal(e.queue)))
	asError[*serviceerror.FailedPrecondition](e, err)
	_, err = try(e, 1500*time.Millisecond, e.api.PollActivityTaskQueue, &workflowservice.PollActivityTaskQueueRequest{TaskQueue: normal(e.queue)})
	asError[*serviceerror.FailedPrecondition](e, err)
}

func wrongTokens(e *env) {
	run := e.start()
	stale := e.poll()
	e.failTask(stale)
	refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskCompleted, completion(stale, nil))
	refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskFailed, e.newFailTask(stale))
	got := e.poll()
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, func(r *completeRequest) { r.Namespace = "temporal-system" }))
	garbage := &task{TaskToken: []byte("garbage that is no token")}
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(garbage, nil))
	refused[*serviceerror.InvalidArgument](e, e.api.RespondActivityTaskCompleted, &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: garbage.TaskToken})
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(&task{}, nil))
	ctx, cancel := bareContext() // the token says which namespace
	defer cancel()
	_, err := e.api.RespondWorkflowTaskCompleted(ctx, completion(got, nil, completeWorkflow("done")))
	require.NoError(e, err)
	e.wantStatus(run, completed)
	refused[*serviceerror.NotFound](e, e.api.RespondWorkflowTaskCompleted, completion(got, nil))
}

func activityOver(e *env) {
	_, a := e.runningActivity()
	e.completeActivity(a, "done")
	complete := &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: a.TaskToken}
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskCompleted, complete)
	refused[*serviceerror.NotFound](e, e.api.RecordActivityTaskHeartbeat, newHeartbeat(a, 1))
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskFailed, &workflowservice.RespondActivityTaskFailedRequest{TaskToken: a.TaskToken, Failure: failure("Bad")})
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskCompletedById, &workflowservice.RespondActivityTaskCompletedByIdRequest{WorkflowId: e.id, ActivityId: "unknown"})
	e.terminate()
	refused[*serviceerror.NotFound](e, e.api.RespondActivityTaskCompleted, complete)
}

func queryBeforeFirstTask(e *env) {
	e.start()
	e.terminate()
	refused[*serviceerror.WorkflowNotReady](e, e.api.QueryWorkflow, e.newQuery("state"))
}

func queryWithoutWorker(e *env) {
	e.idle()
	asError[*serviceerror.DeadlineExceeded](e, begin(e, 3*time.Second, e.api.QueryWorkflow, e.newQuery("state")).failure())
}

func wrongPageTokens(e *env) {
	run := e.idle()
	garbage := []byte("garbage that is no token")
	refused[*serviceerror.InvalidArgument](e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, run), NextPageToken: garbage})
	refused[*serviceerror.InvalidArgument](e, e.api.ListWorkflowExecutions, &workflowservice.ListWorkflowExecutionsRequest{NextPageToken: garbage})
	refused[*serviceerror.InvalidArgument](e, e.api.ListNamespaces, &workflowservice.ListNamespacesRequest{NextPageToken: garbage})
}

func clientVersions(e *env) {
	describe := func(pairs ...string) error {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), pairs...), callMax)
		defer cancel()
		_, err := e.api.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
		return err
	}
	require.NoError(e, describe())
	require.NoError(e, describe("client-name", "temporal-go", "client-version", "1.36.0"))
	asError[*serviceerror.ClientVersionNotSupported](e, describe("client-name", "temporal-go", "client-version", "2.0.0"))
	asError[*serviceerror.ServerVersionNotSupported](e, describe("client-name", "temporal-go", "client-version", "1.36.0", "supported-server-versions", "<1.0.0"))
	asError[*serviceerror.InvalidArgument](e, describe("client-name", "temporal-go", "client-version", "not a version"))
}

func wrongFilters(e *env) {
	for _, filter := range []string{"NoSuch = 1", "WorkflowId =", "WorkflowId = 'a' ORDER BY StartTime", "WorkflowId LIKE 'a%'", "Color > ", "GROUP BY Color"} {
		refused[*serviceerror.InvalidArgument](e, e.api.ListWorkflowExecutions, &workflowservice.ListWorkflowExecutionsRequest{Query: filter})
		refused[*serviceerror.InvalidArgument](e, e.api.CountWorkflowExecutions, &workflowservice.CountWorkflowExecutionsRequest{Query: filter})
	}
}

// attachRequest makes a start that finds a run note its request id there.
var attachRequest = &workflowpb.OnConflictOptions{AttachRequestId: true}

func newPause(e *env, run string) *workflowservice.PauseWorkflowExecutionRequest {
	return &workflowservice.PauseWorkflowExecutionRequest{WorkflowId: e.id, RunId: run, Identity: "client", Reason: "wait"}
}

func newUnpause(e *env, run string) *workflowservice.UnpauseWorkflowExecutionRequest {
	return &workflowservice.UnpauseWorkflowExecutionRequest{WorkflowId: e.id, RunId: run, Identity: "client", Reason: "go on"}
}
