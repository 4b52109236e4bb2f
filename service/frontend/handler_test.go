package frontend

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// TestRequestsAreNotChanged sends requests that need something filled in, in process, where both sides hold the same message.
func TestRequestsAreNotChanged(t *testing.T) {
	e := newEnv(t)
	token, big := e.token(testNamespace), payloads(3<<20)
	for _, request := range []proto.Message{
		startRequestWith(func(r *startReq) {
			r.RetryPolicy = &commonpb.RetryPolicy{}
			r.WorkflowExecutionTimeout = seconds(10)
			r.SearchAttributes = attributes("Color", `"red"`)
		}),
		signalWithStart(func(r *signalStartReq) { r.SearchAttributes = attributes("Color", `"red"`) }),
		aSignal(), aCancel(), aPause(), anUnpause(), anActivityPause(),
		with(anUpdate(), func(r *updateReq) { r.Request.Meta.UpdateId = "" }),
		multi(func(r *startReq) { r.Namespace = "" }, func(r *updateReq) { r.Request.Meta = &updatepb.Meta{} }),
		&completedReq{TaskToken: token},
		&failedReq{TaskToken: token, Failure: applicationFailure(text(3 << 20))},
		&queryDoneReq{TaskToken: e.queryToken(testNamespace), QueryResult: big},
		&heartbeatReq{TaskToken: token},
		&heartbeatReq{TaskToken: token, Details: big},
		&activityDoneReq{TaskToken: token},
		&activityDoneReq{TaskToken: token, Result: big},
		&activityFailReq{TaskToken: token, Failure: applicationFailure(text(3 << 20)), LastHeartbeatDetails: big},
		&activityCancReq{TaskToken: token},
		&failByIDReq{Namespace: testNamespace, WorkflowId: "w", ActivityId: "a", LastHeartbeatDetails: big},
	} {
		before := proto.Clone(request)
		_, err := send(t.Context(), t, e.local, request)
		require.NoError(t, err, rpcOf(request))
		require.True(t, proto.Equal(before, request), rpcOf(request))
	}
}

// TestNoRequestPanics sends to every RPC messages whose parts are there but empty, as deep as a few levels: what a client
// can leave out is taken care of.
func TestNoRequestPanics(t *testing.T) {
	e := newEnv(t)
	methods := 0
	for _, service := range []string{"temporal.api.workflowservice.v1.WorkflowService", "temporal.api.operatorservice.v1.OperatorService"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		require.NoError(t, err)
		rpcs := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range rpcs.Len() {
			methods++
			for depth := range 4 {
				for choice := range 3 {
					request, reply := newMessage(t, rpcs.Get(i).Input()), newMessage(t, rpcs.Get(i).Output())
					fillEmpty(request.ProtoReflect(), depth, choice)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					err := e.local.Invoke(ctx, "/"+service+"/"+string(rpcs.Get(i).Name()), request, reply)
					cancel()
					require.NotEqual(t, codes.Internal, status.Code(err), "%s: %v", rpcs.Get(i).Name(), request)
					require.NotEqual(t, codes.Unknown, status.Code(err), "%s: %v", rpcs.Get(i).Name(), request)
				}
			}
		}
	}
	require.Greater(t, methods, 100)
	require.Empty(t, e.logs.FilterMessage("panic in a request").All())
}

func newMessage(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	messageType, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	require.NoError(t, err)
	return messageType.New().Interface()
}

// fillEmpty sets every part of a message to an empty one, and of alternatives the one of choice. Names are set to something
// that is found or accepted.
func fillEmpty(m protoreflect.Message, depth, choice int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if oneof := f.ContainingOneof(); oneof != nil && oneof.Fields().Get(choice%oneof.Fields().Len()) != f {
			continue
		}
		switch {
		case f.Name() == "namespace" && f.Kind() == protoreflect.StringKind:
			m.Set(f, protoString(testNamespace))
		case f.Kind() == protoreflect.StringKind && !f.IsList() && !f.IsMap() && f.Name() != "run_id" && f.Name() != "first_execution_run_id":
			m.Set(f, protoString("x"))
		case depth == 0 || f.Kind() != protoreflect.MessageKind || f.IsMap():
		case f.IsList():
			element := m.Mutable(f).List().AppendMutable()
			fillEmpty(element.Message(), depth-1, choice)
		default:
			fillEmpty(m.Mutable(f).Message(), depth-1, choice)
		}
	}
}

// TestHandlerWithoutInterceptors calls the handler as another part of the process may.
func TestHandlerWithoutInterceptors(t *testing.T) {
	e := newEnv(t)
	h := NewHandler(HandlerParams{
		Registry: e.registry,
		History:  historypb.NewHistoryServiceClient(e.history),
		Matching: matchingpb.NewMatchingServiceClient(e.matching),
	})
	_, err := h.DescribeWorkflowExecution(t.Context(), aDescribe())
	require.NoError(t, err)
	_, err = h.StartWorkflowExecution(t.Context(), startRequestWith(func(r *startReq) { r.Namespace = deprecatedNamespace }))
	require.IsType(t, &serviceerror.NamespaceInvalidState{}, err)
	_, err = h.RespondWorkflowTaskCompleted(t.Context(), &completedReq{TaskToken: e.token(testNamespace)})
	require.NoError(t, err)
}

// TestNewAttributeIsUsableAtOnce registers an attribute behind the back of the cached namespace.
func TestNewAttributeIsUsableAtOnce(t *testing.T) {
	e := newEnv(t)
	request := startRequestWith(func(r *startReq) { r.SearchAttributes = attributes("Size", `7`) })
	_, err := e.send(t.Context(), request)
	require.IsType(t, invalid, err)
	require.Empty(t, e.history.taken())
	e.addAttribute("Size")
	_, err = e.send(t.Context(), request)
	require.NoError(t, err)
	typed := onlyCall[*historypb.StartWorkflowExecutionRequest](t, e.history).GetRequest().GetSearchAttributes()
	require.Equal(t, "Int", string(typed.GetIndexedFields()["Size"].GetMetadata()["type"]))
}

func BenchmarkStartInProcess(b *testing.B) {
	e := newEnv(b)
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	request := startRequestWith(func(r *startReq) { r.RequestId, r.Input = "r", payloads(100) })
	reply := replyTo(b, request)
	b.ReportAllocs()
	for b.Loop() {
		if err := e.local.Invoke(ctx, "/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution", request, reply); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDescribeOverGRPC(b *testing.B) {
	e := newEnv(b)
	request := aDescribe()
	reply := replyTo(b, request)
	b.ReportAllocs()
	for b.Loop() {
		if err := e.conn.Invoke(b.Context(), "/temporal.api.workflowservice.v1.WorkflowService/DescribeWorkflowExecution", request, reply); err != nil {
			b.Fatal(err)
		}
	}
}
