package frontend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
)

const describeRPC = "DescribeWorkflowExecution"

func TestPanicEndsOnlyTheRequest(t *testing.T) {
	e := newEnv(t)
	e.history.answers(func(context.Context, string, proto.Message, proto.Message) error { panic("secret boom") })
	_, err := e.send(t.Context(), aDescribe())
	require.IsType(t, &serviceerror.Internal{}, err)
	require.NotContains(t, err.Error(), "boom")
	entries := e.logs.FilterMessage("panic in a request").All()
	require.Len(t, entries, 1)
	require.Equal(t, "secret boom", entries[0].ContextMap()["panic"])
	require.Contains(t, entries[0].ContextMap()["stack"], "interceptors_test.go")
	require.Equal(t, testNamespace, entries[0].ContextMap()["namespace"])
	require.Equal(t, 1, answered(t, e, describeRPC, codes.Internal))

	e.history.answers(nil)
	_, err = e.send(t.Context(), aDescribe())
	require.NoError(t, err)
}

func TestErrorsOfServices(t *testing.T) {
	e := newEnv(t)
	notFound := serviceerror.NewNotFound("workflow not found")
	moved, err := status.New(codes.Unavailable, "moved").WithDetails(&historypb.ShardMoved{OwnerAddress: "10.0.0.1:1"})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		err     error
		want    error
		message string // "": not to be seen by the client
		logged  bool
	}{
		"service error":         {notFound, &serviceerror.NotFound{}, "workflow not found", false},
		"wrapped service error": {fmt.Errorf("load run: %w", notFound), &serviceerror.NotFound{}, "workflow not found", false},
		"details are kept":      {serviceerror.NewWorkflowExecutionAlreadyStarted("running", "r", testRunID), &serviceerror.WorkflowExecutionAlreadyStarted{}, "running", false},
		"status of a remote":    {serviceerror.NewWorkflowNotReady("later").(serviceerror.ServiceError).Status().Err(), &serviceerror.WorkflowNotReady{}, "later", false},
		"wrapped remote status": {fmt.Errorf("call: %w", status.Error(codes.Aborted, "again")), &serviceerror.Aborted{}, "again", false},
		"shard moved":           {moved.Err(), &serviceerror.Unavailable{}, "moved", false},
		"unknown error":         {errors.New("password=hunter2"), nil, "", true},
		"internal error":        {serviceerror.NewInternal("password=hunter2"), &serviceerror.Internal{}, "", true},
		"data loss":             {serviceerror.NewDataLoss("password=hunter2"), &serviceerror.DataLoss{}, "", true},
		"interrupted inside":    {fmt.Errorf("load: %w", context.Canceled), &serviceerror.Unavailable{}, "The request was interrupted in the server. Please retry.", false},
		"timed out inside":      {context.DeadlineExceeded, &serviceerror.Unavailable{}, "The request was interrupted in the server. Please retry.", false},
		"unimplemented elsewhere": {status.Error(codes.Unimplemented, "method DescribeWorkflowExecution not implemented"), &serviceerror.Unimplemented{},
			"method DescribeWorkflowExecution not supported", false},
	} {
		t.Run(name, func(t *testing.T) {
			e.logs.TakeAll()
			e.history.fails(c.err)
			// In process: nothing between the chain and the test changes the error.
			err := e.local.Invoke(t.Context(), workflowservice.WorkflowService_DescribeWorkflowExecution_FullMethodName, aDescribe(), replyTo(t, aDescribe()))
			if c.want != nil {
				require.IsType(t, c.want, asServiceError(err))
			} else {
				require.Equal(t, codes.Unknown, status.Code(err))
			}
			for _, detail := range status.Convert(err).Proto().GetDetails() {
				require.NotContains(t, detail.GetTypeUrl(), "perdure")
			}
			if c.message != "" {
				require.Equal(t, c.message, status.Convert(err).Message())
			} else {
				require.NotContains(t, err.Error(), "hunter2")
			}
			require.Equal(t, c.logged, e.logs.FilterMessage("request failed").Len() == 1)
			if c.logged {
				fields := e.logs.FilterMessage("request failed").All()[0].ContextMap()
				require.Contains(t, err.Error(), fields["reference"])
				require.Contains(t, fields["error"], "hunter2")
				require.Equal(t, testNamespace, fields["namespace"])
			}
		})
	}
}

// A refusal says whose limit it was.
func TestScopeOfRefusals(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct {
		given, want enumspb.ResourceExhaustedScope
	}{{0, ofOne}, {ofOne, ofOne}, {ofAll, ofAll}} {
		e.history.fails(fmt.Errorf("signal: %w", &serviceerror.ResourceExhausted{Cause: enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, Scope: c.given, Message: "busy"}))
		_, err := e.send(t.Context(), aDescribe())
		var refused *serviceerror.ResourceExhausted
		require.ErrorAs(t, err, &refused)
		require.Equal(t, c.want, refused.Scope)
		require.Equal(t, enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, refused.Cause)
		require.Equal(t, "busy", refused.Message)
	}
}

func TestContextErrorsOfTheCaller(t *testing.T) {
	e := newEnv(t)
	started := make(chan struct{}, 1)
	e.history.answers(func(ctx context.Context, _ string, _, _ proto.Message) error {
		started <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	reply := replyTo(t, aDescribe())
	const method = workflowservice.WorkflowService_DescribeWorkflowExecution_FullMethodName

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.Equal(t, codes.DeadlineExceeded, status.Code(e.local.Invoke(ctx, method, aDescribe(), reply)))
	<-started

	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	require.Equal(t, codes.Canceled, status.Code(e.local.Invoke(ctx, method, aDescribe(), reply)))
}

func TestLongMessagesAreShortened(t *testing.T) {
	e := newEnv(t)
	e.history.fails(serviceerror.NewNamespaceNotFound(strings.Repeat("ü", 4000)))
	_, err := e.send(t.Context(), aDescribe())
	require.IsType(t, &serviceerror.NamespaceNotFound{}, err)
	require.LessOrEqual(t, len(err.Error()), errorMessageMax)
	require.Contains(t, err.Error(), "shortened")
}

func TestUnsupportedRPCs(t *testing.T) {
	e := newEnv(t)
	unimplemented := &serviceerror.Unimplemented{}
	checkRefusals(t, e, []refusal{
		{"unsupported", &workflowservice.CreateScheduleRequest{Namespace: testNamespace}, unimplemented},
		{"without namespace", &workflowservice.CreateScheduleRequest{}, invalid},
		{"unknown namespace", &workflowservice.CreateScheduleRequest{Namespace: "no-such"}, &serviceerror.NamespaceNotFound{}},
		{"disabled", &workflowservice.UpdateWorkerBuildIdCompatibilityRequest{Namespace: testNamespace}, &serviceerror.PermissionDenied{}},
		{"disabled", &workflowservice.GetWorkerBuildIdCompatibilityRequest{Namespace: testNamespace}, &serviceerror.PermissionDenied{}},
		{"disabled", &workflowservice.UpdateWorkerVersioningRulesRequest{Namespace: testNamespace}, &serviceerror.PermissionDenied{}},
		{"disabled", &workflowservice.GetWorkerVersioningRulesRequest{Namespace: testNamespace}, &serviceerror.PermissionDenied{}},
		{"disabled", &workflowservice.GetWorkerTaskReachabilityRequest{Namespace: testNamespace}, &serviceerror.PermissionDenied{}},
	})
	_, err := e.send(t.Context(), &workflowservice.CreateScheduleRequest{Namespace: testNamespace})
	require.ErrorContains(t, err, "CreateSchedule")
	require.ErrorContains(t, err, "not supported")

	err = e.conn.Invoke(t.Context(), "/temporal.api.workflowservice.v1.WorkflowService/NoSuchMethod", aDescribe(), replyTo(t, aDescribe()))
	require.Equal(t, codes.Unimplemented, status.Code(err))
	err = e.conn.Invoke(t.Context(), "/temporal.api.nosuchservice.v1.NoSuchService/Method", aDescribe(), replyTo(t, aDescribe()))
	require.Equal(t, codes.Unimplemented, status.Code(err))
	_, err = operatorservice.NewOperatorServiceClient(e.conn).DeleteNamespace(t.Context(), &operatorservice.DeleteNamespaceRequest{NamespaceId: testRunID})
	require.Equal(t, codes.Unimplemented, status.Code(err))
}

func TestNamespaceStateDetails(t *testing.T) {
	e := newEnv(t)
	_, err := e.send(t.Context(), startRequestWith(func(r *startReq) { r.Namespace = deprecatedNamespace }))
	var state *serviceerror.NamespaceInvalidState
	require.ErrorAs(t, err, &state)
	require.Equal(t, deprecatedNamespace, state.Namespace)
	require.Equal(t, enumspb.NAMESPACE_STATE_DEPRECATED, state.State)
	require.Equal(t, []enumspb.NamespaceState{enumspb.NAMESPACE_STATE_REGISTERED}, state.AllowedStates)

	_, err = e.send(t.Context(), startRequestWith(func(r *startReq) { r.Namespace = "no-such" }))
	var unknown *serviceerror.NamespaceNotFound
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, "no-such", unknown.Namespace)
}

func TestClientVersions(t *testing.T) {
	e := newEnv(t)
	notSupported := &serviceerror.ClientVersionNotSupported{}
	for name, c := range map[string]struct {
		headers []string
		want    error
	}{
		"none":                      {nil, nil},
		"go":                        {[]string{headerClientName, clientGo, headerClientVersion, "1.40.0"}, nil},
		"go 2":                      {[]string{headerClientName, clientGo, headerClientVersion, "2.0.0"}, notSupported},
		"java 2":                    {[]string{headerClientName, clientJava, headerClientVersion, "2.0.0"}, notSupported},
		"ui 2":                      {[]string{headerClientName, clientUI, headerClientVersion, "2.41.0"}, nil},
		"ui 3":                      {[]string{headerClientName, clientUI, headerClientVersion, "3.0.0"}, notSupported},
		"prerelease":                {[]string{headerClientName, clientPython, headerClientVersion, "1.2.0rc1"}, nil},
		"unknown client":            {[]string{headerClientName, "mine", headerClientVersion, "garbage"}, nil},
		"garbage":                   {[]string{headerClientName, clientGo, headerClientVersion, "not-a-version"}, invalid},
		"version missing":           {[]string{headerClientName, clientGo}, nil},
		"server range without name": {[]string{headerSupportedVersions, ">=99.0.0"}, nil},
		"server range":              {[]string{headerClientName, clientGo, headerClientVersion, "1.40.0", headerSupportedVersions, ">=1.0.0 <2.0.0"}, nil},
		"server too old":            {[]string{headerClientName, clientGo, headerClientVersion, "1.40.0", headerSupportedVersions, ">=99.0.0"}, &serviceerror.ServerVersionNotSupported{}},
		"server range garbage":      {[]string{headerClientName, clientGo, headerClientVersion, "1.40.0", headerSupportedVersions, "not a range"}, invalid},
	} {
		t.Run(name, func(t *testing.T) {
			// Twice: the check remembers what it has accepted.
			for range 2 {
				_, err := e.send(withHeaders(t.Context(), c.headers...), aDescribe())
				if c.want == nil {
					require.NoError(t, err)
				} else {
					require.IsType(t, c.want, err)
				}
			}
		})
	}

	_, err := e.send(withHeaders(t.Context(), headerClientName, clientUI, headerClientVersion, "3.0.0"), aDescribe())
	var unsupported *serviceerror.ClientVersionNotSupported
	require.ErrorAs(t, err, &unsupported)
	require.Equal(t, "3.0.0", unsupported.ClientVersion)
	require.Equal(t, clientUI, unsupported.ClientName)
	require.Equal(t, "<3.0.0", unsupported.SupportedVersions)
}

func TestMetrics(t *testing.T) {
	e := newEnv(t)
	_, err := e.send(t.Context(), aDescribe())
	require.NoError(t, err)
	_, err = e.send(t.Context(), with(aDescribe(), func(r *workflowservice.DescribeWorkflowExecutionRequest) { r.Namespace = "no-such" }))
	require.Error(t, err)
	_, err = e.send(t.Context(), aHistory())
	require.NoError(t, err)
	_, err = e.send(t.Context(), with(aHistory(), func(r *historyReq) { r.WaitNewEvent = true }))
	require.NoError(t, err)

	require.Equal(t, 1, answered(t, e, describeRPC, codes.OK))
	require.Equal(t, 1, answered(t, e, describeRPC, codes.NotFound))
	require.Equal(t, 2, observations(t, e, "perdure_frontend_request_seconds", describeRPC))
	require.Equal(t, 0, observations(t, e, "perdure_frontend_long_poll_seconds", describeRPC))
	require.Equal(t, 1, observations(t, e, "perdure_frontend_request_seconds", "GetWorkflowExecutionHistory"))
	require.Equal(t, 1, observations(t, e, "perdure_frontend_long_poll_seconds", "GetWorkflowExecutionHistory"))
}

func TestLimitsSeeTheNamespace(t *testing.T) {
	var seen string
	e := newLimitedEnv(t, func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		n, err := requestNamespace(ctx, nil, request.(namespaced))
		if err != nil {
			return nil, err
		}
		seen = n.Name()
		if n.Name() == otherNamespace {
			return nil, serviceerror.NewPermissionDenied("not for you", "")
		}
		return next(ctx, request)
	})
	_, err := e.send(t.Context(), &completedReq{TaskToken: e.token(testNamespace)})
	require.NoError(t, err)
	require.Equal(t, testNamespace, seen)
	_, err = e.send(t.Context(), &completedReq{TaskToken: e.token(otherNamespace)})
	require.IsType(t, &serviceerror.PermissionDenied{}, err)
}

func TestAuthenticationComesFirst(t *testing.T) {
	refused := serviceerror.NewPermissionDenied("who are you?", "")
	chain, err := NewChain(ChainParams{
		Logger:     zap.NewNop(),
		Registerer: prometheus.NewRegistry(),
		Authentication: []grpc.UnaryServerInterceptor{
			func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, refused },
		},
	})
	require.NoError(t, err)
	// Without a registry, a lookup of the namespace would end in INTERNAL.
	_, err = chain.Intercept(t.Context(), aDescribe(), &grpc.UnaryServerInfo{}, nil)
	require.IsType(t, refused, asServiceError(err))
}
