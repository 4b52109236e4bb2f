package frontend

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testNamespace       = "test"
	otherNamespace      = "other"
	deprecatedNamespace = "deprecated"
	deletedNamespace    = "deleted"
	testRunID           = "0198c0de-0000-7000-8000-000000000001"
)

// call is one call that a fake service got.
type call struct {
	method  string // the RPC's name
	request proto.Message
}

// fakeService is history or matching: it notes calls and answers what it is told to.
type fakeService struct {
	mu     sync.Mutex
	calls  []call
	answer func(ctx context.Context, method string, request, reply proto.Message) error
}

var _ grpc.ClientConnInterface = (*fakeService)(nil)

func (f *fakeService) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	name := method[strings.LastIndexByte(method, '/')+1:]
	f.mu.Lock()
	f.calls = append(f.calls, call{name, args.(proto.Message)})
	answer := f.answer
	f.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, name, args.(proto.Message), reply.(proto.Message))
}

func (f *fakeService) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, serviceerror.NewInternal("no streams")
}

// fails makes every further call end in an error.
func (f *fakeService) fails(err error) {
	f.answers(func(context.Context, string, proto.Message, proto.Message) error { return err })
}

func (f *fakeService) answers(answer func(ctx context.Context, method string, request, reply proto.Message) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// taken returns the calls so far and forgets them.
func (f *fakeService) taken() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// memoryNamespaces is a store of namespaces.
type memoryNamespaces struct {
	mu      sync.Mutex
	records map[string]persistence.NamespaceRecord // by name
}

func (s *memoryNamespaces) CreateNamespace(_ context.Context, r *persistence.NamespaceRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.records[r.Name]; taken {
		return persistence.ErrConflict
	}
	s.records[r.Name] = *r
	return nil
}

func (s *memoryNamespaces) GetNamespace(_ context.Context, id, name string) (*persistence.NamespaceRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if (id != "" && r.ID == id) || (id == "" && r.Name == name) {
			return &r, nil
		}
	}
	return nil, persistence.ErrNotFound
}

func (s *memoryNamespaces) UpdateNamespace(_ context.Context, r *persistence.NamespaceRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.records[r.Name]
	if !ok {
		return persistence.ErrNotFound
	}
	if old.Version != r.Version {
		return persistence.ErrConflict
	}
	r.Version++
	s.records[r.Name] = *r
	return nil
}

func (s *memoryNamespaces) ListNamespaces(context.Context, string, int) ([]*persistence.NamespaceRecord, error) {
	return nil, nil
}

// noRows is a store of visibility without any rows.
type noRows struct{}

func (noRows) ListVisibility(context.Context, string, persistence.Filter, *persistence.VisibilityCursor, int) ([]*persistence.VisibilityRow, error) {
	return nil, nil
}

func (noRows) CountVisibility(context.Context, string, persistence.Filter, *persistence.Field) (int64, []persistence.GroupCount, error) {
	return 0, nil, nil
}

// env is a frontend on an in-memory network between a client and fake services.
type env struct {
	t        testing.TB
	conn     *grpc.ClientConn
	client   workflowservice.WorkflowServiceClient
	history  *fakeService
	matching *fakeService
	registry *namespace.Registry
	stored   *memoryNamespaces
	metrics  *prometheus.Registry
	logs     *observer.ObservedLogs
	server   *Server
	local    *LocalConn
}

func newEnv(t testing.TB) *env {
	t.Helper()
	return newLimitedEnv(t)
}

// newLimitedEnv makes a frontend with interceptors of its own.
func newLimitedEnv(t testing.TB, limits ...grpc.UnaryServerInterceptor) *env {
	t.Helper()
	return newEnvWith(t, ChainParams{Limits: limits})
}

// newEnvWith makes a frontend whose chain has parts of its own.
func newEnvWith(t testing.TB, p ChainParams) *env {
	t.Helper()
	e := &env{t: t, history: &fakeService{}, matching: &fakeService{}, metrics: prometheus.NewRegistry()}
	core, logs := observer.New(zapcore.DebugLevel)
	e.logs = logs
	e.stored = &memoryNamespaces{records: make(map[string]persistence.NamespaceRecord)}
	e.registry = namespace.New(e.stored)
	for name, state := range map[string]enumspb.NamespaceState{
		testNamespace:       enumspb.NAMESPACE_STATE_REGISTERED,
		otherNamespace:      enumspb.NAMESPACE_STATE_REGISTERED,
		deprecatedNamespace: enumspb.NAMESPACE_STATE_DEPRECATED,
		deletedNamespace:    enumspb.NAMESPACE_STATE_DELETED,
	} {
		record := namespace.NewRecord(name, time.Hour)
		record.Info.State = state
		record.SearchAttributes = map[string]enumspb.IndexedValueType{"Color": enumspb.INDEXED_VALUE_TYPE_KEYWORD}
		_, err := e.registry.Create(t.Context(), record)
		require.NoError(t, err)
	}
	p.Registry, p.Logger, p.Registerer = e.registry, zap.New(core), e.metrics
	chain, err := NewChain(p)
	require.NoError(t, err)
	capabilities := BuildCapabilities()
	handler := NewHandler(HandlerParams{
		Registry:   e.registry,
		History:    historypb.NewHistoryServiceClient(e.history),
		Matching:   matchingpb.NewMatchingServiceClient(e.matching),
		Namespaces: NewNamespaces(e.registry, capabilities),
		Visibility: NewVisibility(e.registry, noRows{}),
		Cluster:    NewCluster("cluster", "memory", capabilities),
	})
	operator := NewOperator(e.registry)
	e.server = NewServer(ServerConfig{}, chain, handler, operator)
	e.local = NewLocalConn(chain, handler, operator)
	e.serve()
	return e
}

func (e *env) serve() {
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///frontend",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.UseCompressor("gzip")))
	require.NoError(e.t, err)
	e.conn, e.client = conn, workflowservice.NewWorkflowServiceClient(conn)
	e.t.Cleanup(func() {
		require.NoError(e.t, conn.Close())
		e.server.Stop(context.Background())
		require.NoError(e.t, <-served)
	})
}

// addAttribute registers an Int search attribute as another process would: past this process's cache.
func (e *env) addAttribute(name string) {
	_, err := namespace.New(e.stored).Update(context.Background(), testNamespace, func(record *statepb.Namespace) error {
		record.SearchAttributes[name] = enumspb.INDEXED_VALUE_TYPE_INT
		return nil
	})
	require.NoError(e.t, err)
}

func (e *env) namespaceID(name string) string {
	n, err := e.registry.ByName(context.Background(), name)
	require.NoError(e.t, err)
	return n.ID()
}

// send makes the call that belongs to a request, and returns what a client's library makes of the error.
func (e *env) send(ctx context.Context, request proto.Message) (proto.Message, error) {
	return send(ctx, e.t, e.conn, request)
}

func send(ctx context.Context, t testing.TB, conn grpc.ClientConnInterface, request proto.Message) (proto.Message, error) {
	t.Helper()
	reply := replyTo(t, request)
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
	}
	err := conn.Invoke(ctx, "/temporal.api.workflowservice.v1.WorkflowService/"+rpcOf(request), request, reply)
	return reply, asServiceError(err)
}

func withHeaders(ctx context.Context, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// with returns the message after a change.
func with[M proto.Message](m M, change func(M)) M {
	change(m)
	return m
}

// refusal is a request that the frontend itself refuses.
type refusal struct {
	name    string
	request proto.Message
	want    error // its type is what counts: code and detail follow from it
}

// checkRefusals sends each request and expects an error of the wanted type, with a message, before any service is asked.
func checkRefusals(t *testing.T, e *env, cases []refusal) {
	t.Helper()
	for _, c := range cases {
		t.Run(rpcOf(c.request)+"/"+c.name, func(t *testing.T) {
			_, err := e.send(t.Context(), c.request)
			require.IsType(t, c.want, err)
			require.NotEmpty(t, err.Error())
			require.Empty(t, e.history.taken())
			require.Empty(t, e.matching.taken())
		})
	}
}

func rpcOf(request proto.Message) string {
	return strings.TrimSuffix(string(request.ProtoReflect().Descriptor().Name()), "Request")
}

// acceptance is a request that a service gets to see.
type acceptance struct {
	name    string
	request proto.Message
}

func checkAcceptances(t *testing.T, e *env, cases []acceptance) {
	t.Helper()
	for _, c := range cases {
		t.Run(rpcOf(c.request)+"/"+c.name, func(t *testing.T) {
			_, err := e.send(t.Context(), c.request)
			require.NoError(t, err)
			require.NotEmpty(t, append(e.history.taken(), e.matching.taken()...))
		})
	}
}

// onlyCall returns the request of the one call that a service got.
func onlyCall[M proto.Message](t *testing.T, f *fakeService) M {
	t.Helper()
	calls := f.taken()
	require.Len(t, calls, 1)
	request, ok := calls[0].request.(M)
	require.True(t, ok, "got %T", calls[0].request)
	return request
}

var (
	invalid = &serviceerror.InvalidArgument{}
)

func protoString(s string) protoreflect.Value { return protoreflect.ValueOfString(s) }

func protoMessage(m proto.Message) protoreflect.Value {
	return protoreflect.ValueOfMessage(m.ProtoReflect())
}

// replyTo makes the response message of a request.
func replyTo(t testing.TB, request proto.Message) proto.Message {
	t.Helper()
	full := request.ProtoReflect().Descriptor().FullName()
	replyType, err := protoregistry.GlobalTypes.FindMessageByName(full.Parent().Append(protoreflect.Name(rpcOf(request) + "Response")))
	require.NoError(t, err)
	return replyType.New().Interface()
}

// asServiceError is what a client's library makes of an error.
func asServiceError(err error) error { return serviceerror.FromStatus(status.Convert(err)) }

// answered counts the answers of an RPC with a code.
func answered(t *testing.T, e *env, rpc string, code codes.Code) int {
	t.Helper()
	m := metric(t, e, "perdure_frontend_requests_total", map[string]string{"rpc": rpc, "code": code.String()})
	return int(m.GetCounter().GetValue())
}

// observations counts what a histogram of an RPC has seen.
func observations(t *testing.T, e *env, name, rpc string) int {
	t.Helper()
	return int(metric(t, e, name, map[string]string{"rpc": rpc}).GetHistogram().GetSampleCount())
}

// metric finds a metric by its labels; nil if there is none.
func metric(t *testing.T, e *env, name string, labels map[string]string) *dto.Metric {
	t.Helper()
	families, err := e.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if hasLabels(m, labels) {
				return m
			}
		}
	}
	return nil
}

func hasLabels(m *dto.Metric, labels map[string]string) bool {
	for _, label := range m.GetLabel() {
		if labels[label.GetName()] != label.GetValue() {
			return false
		}
	}
	return true
}
