package frontend

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

type (
	pollReq          = workflowservice.PollWorkflowTaskQueueRequest
	activityPollReq  = workflowservice.PollActivityTaskQueueRequest
	completedReq     = workflowservice.RespondWorkflowTaskCompletedRequest
	failedReq        = workflowservice.RespondWorkflowTaskFailedRequest
	queryDoneReq     = workflowservice.RespondQueryTaskCompletedRequest
	heartbeatReq     = workflowservice.RecordActivityTaskHeartbeatRequest
	activityDoneReq  = workflowservice.RespondActivityTaskCompletedRequest
	activityFailReq  = workflowservice.RespondActivityTaskFailedRequest
	activityCancReq  = workflowservice.RespondActivityTaskCanceledRequest
	heartbeatByIDReq = workflowservice.RecordActivityTaskHeartbeatByIdRequest
	doneByIDReq      = workflowservice.RespondActivityTaskCompletedByIdRequest
	failByIDReq      = workflowservice.RespondActivityTaskFailedByIdRequest
	cancelByIDReq    = workflowservice.RespondActivityTaskCanceledByIdRequest
)

func aPoll() *pollReq {
	return &pollReq{Namespace: testNamespace, TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}}
}

func anActivityPoll() *activityPollReq {
	return &activityPollReq{Namespace: testNamespace, TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}}
}

func marshal(t testing.TB, m proto.Message) []byte {
	data, err := proto.Marshal(m)
	require.NoError(t, err)
	return data
}

func (e *env) token(namespaceName string) []byte {
	return marshal(e.t, &tokenpb.Task{NamespaceId: e.namespaceID(namespaceName), WorkflowId: "w", RunId: testRunID, ScheduledEventId: 5})
}

func (e *env) queryToken(namespaceName string) []byte {
	return marshal(e.t, &tokenpb.Query{NamespaceId: e.namespaceID(namespaceName), TaskQueue: "q", QueryId: "id"})
}

func versionCapabilities(use bool) *commonpb.WorkerVersionCapabilities {
	return &commonpb.WorkerVersionCapabilities{BuildId: "b", UseVersioning: use}
}

func deploymentOptions(mode enumspb.WorkerVersioningMode) *deploymentpb.WorkerDeploymentOptions {
	return &deploymentpb.WorkerDeploymentOptions{DeploymentName: "d", BuildId: "b", WorkerVersioningMode: mode}
}

func TestPolls(t *testing.T) {
	e := newEnv(t)
	poll := func(name string, change func(*pollReq)) refusal { return refusal{name, with(aPoll(), change), invalid} }
	activityPoll := func(name string, change func(*activityPollReq)) refusal {
		return refusal{name, with(anActivityPoll(), change), invalid}
	}
	const versioned, unversioned = enumspb.WORKER_VERSIONING_MODE_VERSIONED, enumspb.WORKER_VERSIONING_MODE_UNVERSIONED
	checkRefusals(t, e, []refusal{
		poll("namespace missing", func(r *pollReq) { r.Namespace = "" }),
		{"namespace unknown", with(aPoll(), func(r *pollReq) { r.Namespace = "no-such" }), &serviceerror.NamespaceNotFound{}},
		poll("queue missing", func(r *pollReq) { r.TaskQueue = nil }),
		poll("queue empty", func(r *pollReq) { r.TaskQueue.Name = "" }),
		poll("queue 1001", func(r *pollReq) { r.TaskQueue.Name = text(1001) }),
		poll("queue partition", func(r *pollReq) { r.TaskQueue.Name = "/_sys/q/1" }),
		poll("queue internal", func(r *pollReq) { r.TaskQueue.Name = "temporal-sys-per-ns-tq" }),
		poll("normal with normal name", func(r *pollReq) { r.TaskQueue.NormalName = "other" }),
		poll("normal name is a partition", func(r *pollReq) {
			r.TaskQueue.Kind, r.TaskQueue.NormalName = enumspb.TASK_QUEUE_KIND_STICKY, "/_sys/q/1"
		}),
		poll("identity 1001", func(r *pollReq) { r.Identity = text(1001) }),
		poll("build id 256", func(r *pollReq) {
			r.WorkerVersionCapabilities = &commonpb.WorkerVersionCapabilities{BuildId: text(256), UseVersioning: true}
		}),
		poll("versioning without build id", func(r *pollReq) {
			r.WorkerVersionCapabilities = &commonpb.WorkerVersionCapabilities{UseVersioning: true}
		}),
		poll("deployment without build id", func(r *pollReq) {
			r.DeploymentOptions = &deploymentpb.WorkerDeploymentOptions{DeploymentName: "d", WorkerVersioningMode: versioned}
		}),
		poll("deployment name with dot", func(r *pollReq) {
			r.DeploymentOptions = &deploymentpb.WorkerDeploymentOptions{DeploymentName: "a.b", BuildId: "b", WorkerVersioningMode: versioned}
		}),
		// A worker of a deployment sets both.
		{"deployment", with(aPoll(), func(r *pollReq) {
			r.WorkerVersionCapabilities, r.DeploymentOptions = versionCapabilities(true), deploymentOptions(versioned)
		}), &serviceerror.Unimplemented{}},
		{"deployment", with(anActivityPoll(), func(r *activityPollReq) {
			r.WorkerVersionCapabilities, r.DeploymentOptions = versionCapabilities(true), deploymentOptions(versioned)
		}), &serviceerror.Unimplemented{}},
		{"versioning rules", with(aPoll(), func(r *pollReq) { r.WorkerVersionCapabilities = versionCapabilities(true) }), &serviceerror.PermissionDenied{}},
		{"versioning rules", with(anActivityPoll(), func(r *activityPollReq) {
			r.WorkerVersionCapabilities = versionCapabilities(true)
		}), &serviceerror.PermissionDenied{}},
		activityPoll("queue missing", func(r *activityPollReq) { r.TaskQueue = nil }),
		activityPoll("queue 1001", func(r *activityPollReq) { r.TaskQueue.Name = text(1001) }),
		activityPoll("queue partition", func(r *activityPollReq) { r.TaskQueue.Name = "/_sys/q/1" }),
		activityPoll("identity 1001", func(r *activityPollReq) { r.Identity = text(1001) }),
	})
	checkAcceptances(t, e, []acceptance{
		{"plain", aPoll()},
		{"deprecated namespace", with(aPoll(), func(r *pollReq) { r.Namespace = deprecatedNamespace })},
		{"sticky without normal name", with(aPoll(), func(r *pollReq) { r.TaskQueue.Kind = enumspb.TASK_QUEUE_KIND_STICKY })},
		{"unversioned of a deployment", with(aPoll(), func(r *pollReq) {
			r.WorkerVersionCapabilities, r.DeploymentOptions = versionCapabilities(false), deploymentOptions(unversioned)
		})},
		{"unversioned of a deployment", with(anActivityPoll(), func(r *activityPollReq) {
			r.WorkerVersionCapabilities, r.DeploymentOptions = versionCapabilities(false), deploymentOptions(unversioned)
		})},
		{"kind unknown", with(aPoll(), func(r *pollReq) { r.TaskQueue.Kind = 99 })},
		{"rate negative", with(anActivityPoll(), func(r *activityPollReq) {
			r.TaskQueueMetadata = &taskqueuepb.TaskQueueMetadata{MaxTasksPerSecond: wrapperspb.Double(-1)}
		})},
	})
}

func TestPollDeadline(t *testing.T) {
	e := newEnv(t)
	for _, request := range []proto.Message{aPoll(), anActivityPoll()} {
		// Without any deadline, which e.send would add.
		err := e.conn.Invoke(t.Context(), "/temporal.api.workflowservice.v1.WorkflowService/"+rpcOf(request), request, replyTo(t, request))
		require.IsType(t, invalid, asServiceError(err))
		short, cancel := context.WithTimeout(t.Context(), 1900*time.Millisecond)
		_, err = e.send(short, request)
		cancel()
		require.IsType(t, &serviceerror.FailedPrecondition{}, err)
		require.Empty(t, e.matching.taken())
	}
}

func TestPollPartition(t *testing.T) {
	e := newEnv(t)
	_, err := e.send(t.Context(), with(aPoll(), func(r *pollReq) {
		r.TaskQueue = &taskqueuepb.TaskQueue{Name: "s", Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: "q"}
	}))
	require.NoError(t, err)
	sticky := onlyCall[*matchingpb.PollWorkflowTaskQueueRequest](t, e.matching)
	require.True(t, proto.Equal(&matchingpb.Partition{
		NamespaceId: e.namespaceID(testNamespace), TaskQueue: "s", Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW,
		Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: "q"}, sticky.GetPartition()))
	require.NoError(t, uuid.Validate(sticky.GetPollId()))

	_, err = e.send(t.Context(), anActivityPoll())
	require.NoError(t, err)
	activity := onlyCall[*matchingpb.PollActivityTaskQueueRequest](t, e.matching).GetPartition()
	require.Equal(t, enumspb.TASK_QUEUE_TYPE_ACTIVITY, activity.GetType())
	require.Equal(t, enumspb.TASK_QUEUE_KIND_NORMAL, activity.GetKind())
}

// TestTokens checks what every answer to a task has in common.
func TestTokens(t *testing.T) {
	e := newEnv(t)
	for _, make := range []func(namespace string, token []byte) tokenRequest{
		func(n string, b []byte) tokenRequest { return &completedReq{Namespace: n, TaskToken: b} },
		func(n string, b []byte) tokenRequest { return &failedReq{Namespace: n, TaskToken: b} },
		func(n string, b []byte) tokenRequest { return &heartbeatReq{Namespace: n, TaskToken: b} },
		func(n string, b []byte) tokenRequest { return &activityDoneReq{Namespace: n, TaskToken: b} },
		func(n string, b []byte) tokenRequest { return &activityFailReq{Namespace: n, TaskToken: b} },
		func(n string, b []byte) tokenRequest { return &activityCancReq{Namespace: n, TaskToken: b} },
		func(n string, b []byte) tokenRequest { return &queryDoneReq{Namespace: n, TaskToken: b} },
	} {
		own, other, gone := e.token(testNamespace), e.token(otherNamespace), e.token(deletedNamespace)
		if _, isQuery := make("", nil).(*queryDoneReq); isQuery {
			own, other, gone = e.queryToken(testNamespace), e.queryToken(otherNamespace), e.queryToken(deletedNamespace)
		}
		checkRefusals(t, e, []refusal{
			{"bare", make(testNamespace, nil), invalid},
			{"nothing", make("", nil), invalid},
			{"garbage", make(testNamespace, []byte("garbage")), invalid},
			{"garbage without namespace", make("", []byte("garbage")), invalid},
			{"empty message", make(testNamespace, []byte{0x20, 0x05}), invalid},
			{"of another namespace", make(testNamespace, other), invalid},
			{"unknown namespace", make("no-such", own), &serviceerror.NamespaceNotFound{}},
			{"namespace of token deleted", make("", gone), &serviceerror.NamespaceInvalidState{}},
		})
		for _, request := range []tokenRequest{make(testNamespace, own), make("", own)} {
			_, err := e.send(t.Context(), request)
			require.NoError(t, err, rpcOf(request))
			calls := append(e.history.taken(), e.matching.taken()...)
			require.Len(t, calls, 1)
			require.Equal(t, e.namespaceID(testNamespace), calls[0].request.(interface{ GetNamespaceId() string }).GetNamespaceId())
			if carrier, ok := calls[0].request.(interface{ GetToken() *tokenpb.Task }); ok {
				require.Equal(t, int64(5), carrier.GetToken().GetScheduledEventId())
				require.Equal(t, testNamespace, innerRequest(calls[0].request).(namespaced).GetNamespace())
			}
		}
	}
}

type tokenRequest interface {
	proto.Message
	tokened
}

func TestRespondRefusals(t *testing.T) {
	e := newEnv(t)
	token := e.token(testNamespace)
	done := func(change func(*completedReq)) *completedReq {
		return with(&completedReq{Namespace: testNamespace, TaskToken: token}, change)
	}
	// Old workers still send stamps.
	longBuild := done(func(r *completedReq) {
		r.WorkerVersionStamp = &commonpb.WorkerVersionStamp{BuildId: text(256), UseVersioning: true}
	})
	serverKind := &failurepb.Failure{FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{}}}
	checkRefusals(t, e, []refusal{
		{"identity 1001", done(func(r *completedReq) { r.Identity = text(1001) }), invalid},
		{"build id 256", longBuild, invalid},
		{"page", done(func(r *completedReq) { r.PageNumber = 1 }), &serviceerror.FailedPrecondition{}},
		{"intermediate page", done(func(r *completedReq) { r.IntermediatePage = true }), &serviceerror.FailedPrecondition{}},
		{"identity 1001", &failedReq{Namespace: testNamespace, TaskToken: token, Identity: text(1001)}, invalid},
		{"identity 1001", &activityDoneReq{Namespace: testNamespace, TaskToken: token, Identity: text(1001)}, invalid},
		{"identity 1001", &activityFailReq{Namespace: testNamespace, TaskToken: token, Identity: text(1001)}, invalid},
		{"identity 1001", &activityCancReq{Namespace: testNamespace, TaskToken: token, Identity: text(1001)}, invalid},
		{"failure without info", &activityFailReq{Namespace: testNamespace, TaskToken: token, Failure: &failurepb.Failure{Message: "m"}}, invalid},
		{"failure of a server's kind", &activityFailReq{Namespace: testNamespace, TaskToken: token, Failure: serverKind}, invalid},
	})
	checkAcceptances(t, e, []acceptance{
		{"identity 1001", &heartbeatReq{Namespace: testNamespace, TaskToken: token, Identity: text(1001)}},
		{"failure missing", &activityFailReq{Namespace: testNamespace, TaskToken: token}},
		{"cause unknown", &failedReq{Namespace: testNamespace, TaskToken: token, Cause: 999}},
	})
}

func applicationFailure(message string) *failurepb.Failure {
	return &failurepb.Failure{Message: message, FailureInfo: &failurepb.Failure_ApplicationFailureInfo{
		ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "T"}}}
}

// TestOversized checks that what is too large ends an activity, a query or a task instead of being tried again for ever.
func TestOversized(t *testing.T) {
	e := newEnv(t)
	token, big := e.token(testNamespace), payloads(3<<20)

	for message, request := range map[string]proto.Message{
		heartbeatTooLarge: &heartbeatReq{Namespace: testNamespace, TaskToken: token, Identity: "me", Details: big},
		resultTooLarge:    &activityDoneReq{Namespace: testNamespace, TaskToken: token, Identity: "me", Result: big},
		cancelTooLarge:    &activityCancReq{Namespace: testNamespace, TaskToken: token, Identity: "me", Details: big},
	} {
		reply, err := e.send(t.Context(), request)
		require.NoError(t, err)
		failed := onlyCall[*historypb.RespondActivityTaskFailedRequest](t, e.history)
		require.Equal(t, message, failed.GetRequest().GetFailure().GetMessage())
		require.True(t, failed.GetRequest().GetFailure().GetServerFailureInfo().GetNonRetryable())
		require.Equal(t, "me", failed.GetRequest().GetIdentity())
		require.Equal(t, "w", failed.GetToken().GetWorkflowId())
		if heartbeat, ok := reply.(*workflowservice.RecordActivityTaskHeartbeatResponse); ok {
			require.True(t, heartbeat.GetCancelRequested())
		}
	}

	reply, err := e.send(t.Context(), &activityFailReq{Namespace: testNamespace, TaskToken: token,
		Failure: applicationFailure(strings.Repeat("ä", 3<<19)), LastHeartbeatDetails: payloads(1)})
	require.NoError(t, err)
	failed := onlyCall[*historypb.RespondActivityTaskFailedRequest](t, e.history).GetRequest()
	require.Equal(t, failureTooLarge, failed.GetFailure().GetMessage())
	require.Equal(t, "T", failed.GetFailure().GetCause().GetApplicationFailureInfo().GetType())
	require.LessOrEqual(t, len(failed.GetFailure().GetCause().GetMessage()), failureTextMax)
	require.True(t, utf8.ValidString(failed.GetFailure().GetCause().GetMessage()))
	require.NotNil(t, failed.GetLastHeartbeatDetails())
	require.Equal(t, failureTooLarge, reply.(*workflowservice.RespondActivityTaskFailedResponse).GetFailures()[0].GetMessage())

	reply, err = e.send(t.Context(), &activityFailReq{Namespace: testNamespace, TaskToken: token,
		Failure: applicationFailure("m"), LastHeartbeatDetails: big})
	require.NoError(t, err)
	failed = onlyCall[*historypb.RespondActivityTaskFailedRequest](t, e.history).GetRequest()
	require.Equal(t, "m", failed.GetFailure().GetMessage())
	require.Nil(t, failed.GetLastHeartbeatDetails())
	require.Equal(t, heartbeatTooLarge, reply.(*workflowservice.RespondActivityTaskFailedResponse).GetFailures()[0].GetMessage())

	_, err = e.send(t.Context(), &failedReq{Namespace: testNamespace, TaskToken: token, Failure: applicationFailure(text(3 << 20))})
	require.NoError(t, err)
	task := onlyCall[*historypb.RespondWorkflowTaskFailedRequest](t, e.history).GetRequest()
	require.Equal(t, failureTooLarge, task.GetFailure().GetMessage())

	_, err = e.send(t.Context(), &queryDoneReq{Namespace: testNamespace, TaskToken: e.queryToken(testNamespace), QueryResult: big,
		CompletedType: enumspb.QUERY_RESULT_TYPE_ANSWERED})
	require.NoError(t, err)
	query := onlyCall[*matchingpb.RespondQueryTaskCompletedRequest](t, e.matching)
	require.Equal(t, "id", query.GetQueryId())
	require.Equal(t, enumspb.QUERY_RESULT_TYPE_FAILED, query.GetRequest().GetCompletedType())
	require.NotEmpty(t, query.GetRequest().GetErrorMessage())
	require.Nil(t, query.GetRequest().GetQueryResult())
}

func TestActivitiesByID(t *testing.T) {
	e := newEnv(t)
	for _, request := range []proto.Message{
		&heartbeatByIDReq{Namespace: testNamespace, WorkflowId: "w", RunId: testRunID, ActivityId: "a", Identity: "me", Details: payloads(1)},
		&doneByIDReq{Namespace: testNamespace, WorkflowId: "w", RunId: testRunID, ActivityId: "a", Identity: "me", Result: payloads(1)},
		&failByIDReq{Namespace: testNamespace, WorkflowId: "w", RunId: testRunID, ActivityId: "a", Identity: "me", Failure: applicationFailure("m")},
		&cancelByIDReq{Namespace: testNamespace, WorkflowId: "w", RunId: testRunID, ActivityId: "a", Identity: "me", Details: payloads(1)},
	} {
		checkRefusals(t, e, []refusal{
			{"bare", setField(request.ProtoReflect().New().Interface(), "namespace", testNamespace), invalid},
			{"namespace missing", setField(request, "namespace", ""), invalid},
			{"namespace unknown", setField(request, "namespace", "no-such"), &serviceerror.NamespaceNotFound{}},
			{"activity id missing", setField(request, "activity_id", ""), invalid},
			{"bad run id", setField(request, "run_id", "not-a-uuid"), invalid},
			{"workflow id missing", setField(request, "workflow_id", ""), &serviceerror.NotFound{}},
		})
		checkAcceptances(t, e, []acceptance{
			{"current run", setField(request, "run_id", "")},
			{"workflow id 1001", setField(request, "workflow_id", text(1001))},
			{"activity id 1001", setField(request, "activity_id", text(1001))},
		})
		_, err := e.send(t.Context(), request)
		require.NoError(t, err)
		calls := e.history.taken()
		require.Len(t, calls, 1)
		require.True(t, proto.Equal(
			&tokenpb.Task{NamespaceId: e.namespaceID(testNamespace), WorkflowId: "w", RunId: testRunID, ActivityId: "a"},
			calls[0].request.(interface{ GetToken() *tokenpb.Task }).GetToken()))
		inner := innerRequest(calls[0].request).(activityAnswer)
		require.Equal(t, "me", inner.GetIdentity())
		require.Equal(t, testNamespace, inner.GetNamespace())
		requireSamePayload(t, request, inner.(proto.Message))
	}
	checkRefusals(t, e, []refusal{
		{"failure without info", &failByIDReq{Namespace: testNamespace, WorkflowId: "w", ActivityId: "a", Failure: &failurepb.Failure{}}, invalid},
	})
}

// requireSamePayload checks that what an answer carries is in the request made from it.
func requireSamePayload(t *testing.T, sent, got proto.Message) {
	for _, name := range []string{"details", "result", "failure"} {
		field := sent.ProtoReflect().Descriptor().Fields()
		for i := range field.Len() {
			if string(field.Get(i).Name()) != name {
				continue
			}
			gotField := got.ProtoReflect().Descriptor().Fields().ByName(field.Get(i).Name())
			require.True(t, proto.Equal(
				sent.ProtoReflect().Get(field.Get(i)).Message().Interface(), got.ProtoReflect().Get(gotField).Message().Interface()))
		}
	}
}

func TestHeartbeatByIDAnswer(t *testing.T) {
	e := newEnv(t)
	e.history.answers(func(_ context.Context, _ string, _, reply proto.Message) error {
		proto.Merge(reply, &workflowservice.RecordActivityTaskHeartbeatResponse{CancelRequested: true, ActivityPaused: true, ActivityReset: true})
		return nil
	})
	reply, err := e.client.RecordActivityTaskHeartbeatById(t.Context(), &heartbeatByIDReq{Namespace: testNamespace, WorkflowId: "w", ActivityId: "a"})
	require.NoError(t, err)
	require.True(t, reply.GetCancelRequested() && reply.GetActivityPaused() && reply.GetActivityReset())
}
