package contract

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/perdure/perdure/test/harness"
)

// callMax is how long a call may take on a busy machine, if a test does not say otherwise.
const callMax = 40 * time.Second

// namespace is where the points run.
const namespace = "default"

// suite is one server under test.
type suite struct {
	server   *harness.Server
	api      workflowservice.WorkflowServiceClient
	operator operatorservice.OperatorServiceClient
}

func connect(t *testing.T, server *harness.Server) *suite {
	conn, err := grpc.NewClient(server.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(fillNamespace), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(128<<20)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s := &suite{server: server, api: workflowservice.NewWorkflowServiceClient(conn), operator: operatorservice.NewOperatorServiceClient(conn)}
	ctx, cancel := context.WithTimeout(context.Background(), callMax)
	defer cancel()
	_, err = s.operator.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: namespace, SearchAttributes: map[string]enumspb.IndexedValueType{
			"Color": enumspb.INDEXED_VALUE_TYPE_KEYWORD, "Size": enumspb.INDEXED_VALUE_TYPE_INT,
		},
	}, grpc.WaitForReady(true))
	require.NoError(t, err)
	return s
}

// bare marks a call whose namespace is not filled in.
type bare struct{}

// fillNamespace names the namespace in requests that do not.
func fillNamespace(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if m := req.(proto.Message).ProtoReflect(); ctx.Value(bare{}) == nil {
		f := m.Descriptor().Fields().ByName("namespace")
		if f != nil && f.Kind() == protoreflect.StringKind && m.Get(f).String() == "" {
			m.Set(f, protoreflect.ValueOfString(namespace))
		}
	}
	return invoke(ctx, method, req, reply, conn, options...)
}

// env is one point under test: its ids and the ways to talk to the server.
type env struct {
	*testing.T
	*suite
	id, queue string
}

func (s *suite) env(t *testing.T) *env {
	id := "wf-" + strings.ToLower(rand.Text())[:12]
	return &env{T: t, suite: s, id: id, queue: id + "-queue"}
}

// sub is another workflow of the same test, on the same queue or its own.
func (e *env) sub(id string) *env {
	return &env{T: e.T, suite: e.suite, id: e.id + "-" + id, queue: e.queue + "-" + id}
}

// method is a call of the API.
type method[Q, R any] func(context.Context, Q, ...grpc.CallOption) (R, error)

func try[Q, R any](e *env, within time.Duration, call method[Q, R], req Q) (R, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return call(ctx, req)
}

// do makes a call that must succeed.
func do[Q, R any](e *env, call method[Q, R], req Q) R {
	e.Helper()
	out, err := try(e, callMax, call, req)
	require.NoError(e, err)
	return out
}

// doAs is do with a header of the request.
func doAs[Q, R any](e *env, key, value string, call method[Q, R], req Q) R {
	e.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), key, value), callMax)
	defer cancel()
	out, err := call(ctx, req)
	require.NoError(e, err)
	return out
}

// refused makes a call that must fail with an error of the type E: the code and the detail that make it one.
func refused[E error, Q, R any](e *env, call method[Q, R], req Q) E {
	e.Helper()
	_, err := try(e, callMax, call, req)
	return asError[E](e, err)
}

// asError tells whether a client's SDK would see an error as one of type E.
func asError[E error](e *env, err error) (found E) {
	e.Helper()
	require.Error(e, err)
	seen := serviceerror.FromStatus(status.Convert(err))
	require.IsType(e, found, seen, "%v", err)
	return seen.(E)
}

// pending is a call under way.
type pending[R any] struct {
	e    *env
	done chan struct{}
	out  R
	err  error
}

// begin makes a call in the background.
func begin[Q, R any](e *env, within time.Duration, call method[Q, R], req Q) *pending[R] {
	p := &pending[R]{e: e, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.out, p.err = try(e, within, call, req)
	}()
	return p
}

// result is the answer, which must be a success.
func (p *pending[R]) result() R {
	p.e.Helper()
	<-p.done
	require.NoError(p.e, p.err)
	return p.out
}

// failure is the error of the call.
func (p *pending[R]) failure() error {
	<-p.done
	return p.err
}

// waiting tells that the call has no answer yet.
func (p *pending[R]) waiting() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// eventually waits for something that the server does in its own time.
func (e *env) eventually(what string, condition func() bool) {
	e.Helper()
	require.Eventually(e, condition, callMax, 20*time.Millisecond, what)
}

// pass lets the server's time pass: it is the subject of the test, not a way to wait for something.
func (e *env) pass(d time.Duration) { <-time.After(d) }

// bareContext is for a call whose namespace is not filled in.
func bareContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithValue(context.Background(), bare{}, true), callMax)
}

// serviceerrorOf is an error as a client's SDK sees it.
func serviceerrorOf(err error) error { return serviceerror.FromStatus(status.Convert(err)) }
