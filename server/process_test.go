package server

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	commonpb "go.temporal.io/api/common/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/sqlite"
	"github.com/perdure/perdure/service/frontend"
	"github.com/perdure/perdure/telemetry"
)

// running is a whole server within the test, on a database in memory.
type running struct {
	process
	client workflowservice.WorkflowServiceClient
	http   string // its URL
}

// run starts a server with everything in it; it ends with the test. Change may set what the server is made of.
func run(t *testing.T, change func(*process)) *running {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Options{})
	require.NoError(t, err)
	p := process{
		options:  Options{Namespaces: []string{"default"}, Load: frontend.DevLoadLimits()},
		services: AllServices, log: zap.NewNop(), health: NewHealth(), metrics: newMetrics(),
	}
	p.store = measure(store, p.metrics)
	p.health.Describe("database", databasePart(store))
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return l
	}
	p.public, p.http = []net.Listener{listen()}, listen()
	change(&p)
	ctx, stop := context.WithCancel(context.Background())
	started, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- p.run(ctx, func() { close(started) }) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-stopped)
	})
	select {
	case <-started:
	case err := <-stopped:
		stopped <- nil
		t.Fatal(err)
	}
	if len(p.public) == 0 {
		return &running{process: p}
	}
	conn, err := grpc.NewClient(p.public[0].Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return &running{process: p, client: workflowservice.NewWorkflowServiceClient(conn), http: "http://" + p.http.Addr().String()}
}

func aStart(id string) *workflowservice.StartWorkflowExecutionRequest {
	return &workflowservice.StartWorkflowExecutionRequest{
		Namespace: "default", WorkflowId: id, RequestId: id, WorkflowType: &commonpb.WorkflowType{Name: "W"},
		TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}, WorkflowRunTimeout: durationpb.New(time.Minute),
	}
}

// A start is one trace from the call to the commit, over gRPC and over HTTP.
func TestTraceOfAStart(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	s := run(t, func(p *process) {
		p.tracing = telemetry.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)))
	})
	check := func(rpc, remote string) {
		t.Helper()
		// Spans are exported when they end, and the call's after its answer.
		require.Eventually(t, func() bool { return len(spansNamed(exporter, rpc)) == 1 }, 10*time.Second, time.Millisecond)
		call := spansNamed(exporter, rpc)[0]
		require.Equal(t, remote, parentOf(call))
		above := call
		for _, name := range []string{"history.transition", "store.commit", "store.group"} {
			child := childNamed(exporter, above, name)
			require.NotNil(t, child, "%s has no %s", above.Name, name)
			above = *child
		}
		exporter.Reset()
	}
	_, err := s.client.StartWorkflowExecution(t.Context(), aStart("grpc"))
	require.NoError(t, err)
	check("temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution", "0000000000000000")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.http+"/api/v1/namespaces/default/workflows/http",
		strings.NewReader(`{"workflowType":{"name":"W"},"taskQueue":{"name":"q"}}`))
	require.NoError(t, err)
	request.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	check("temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution", "b7ad6b7169203331")
	http.DefaultClient.CloseIdleConnections()
}

func parentOf(s tracetest.SpanStub) string { return s.Parent.SpanID().String() }

func spansNamed(exporter *tracetest.InMemoryExporter, name string) (found []tracetest.SpanStub) {
	for _, s := range exporter.GetSpans() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

func childNamed(exporter *tracetest.InMemoryExporter, parent tracetest.SpanStub, name string) *tracetest.SpanStub {
	for _, s := range spansNamed(exporter, name) {
		if s.Parent.SpanID() == parent.SpanContext.SpanID() && s.SpanContext.TraceID() == parent.SpanContext.TraceID() {
			return &s
		}
	}
	return nil
}

func (s *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	NewHTTPServer(s.health, s.metrics, nil, s.log).Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestDeepCheck(t *testing.T) {
	s := run(t, func(*process) {})
	code, text := s.get(t, "/healthz/deep")
	require.Equal(t, http.StatusOK, code, text)
	var report deepReport
	require.NoError(t, json.Unmarshal([]byte(text), &report))
	require.Equal(t, "ok", report.Status)
	require.EqualValues(t, persistence.ShardCount, report.Parts["shards"].Detail["owned"])
	require.Positive(t, report.Parts["database"].Detail["write_ms"])
	require.Equal(t, "sqlite", report.Parts["database"].Detail["store"])
}

// Whatever fails is named, the other parts are told all the same, and the process counts as alive.
func TestDegraded(t *testing.T) {
	h := NewHealth()
	h.Require("database", func(context.Context) error { return errors.New("no write possible") })
	h.Describe("database", func(context.Context) (map[string]any, error) {
		return map[string]any{"write_ms": 1.5}, errors.New("no write possible")
	})
	h.Describe("lease", func(context.Context) (map[string]any, error) { return nil, nil })
	h.Describe("stuck", func(ctx context.Context) (map[string]any, error) {
		deadline, ok := ctx.Deadline()
		require.True(t, ok && time.Until(deadline) <= deepTimeout, "no part may hold up the others for ever")
		return nil, nil
	})
	s := &running{process: process{health: h, metrics: newMetrics(), log: zap.NewNop()}}
	code, text := s.get(t, "/healthz/deep")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "the process is starting")
	h.Started()
	h.deepLast.Checked = time.Time{} // long ago
	code, text = s.get(t, "/healthz/deep")
	require.Equal(t, http.StatusServiceUnavailable, code)
	var report deepReport
	require.NoError(t, json.Unmarshal([]byte(text), &report))
	require.Equal(t, "degraded", report.Status)
	require.False(t, report.Parts["database"].OK)
	require.Equal(t, "no write possible", report.Parts["database"].Why)
	require.InDelta(t, 1.5, report.Parts["database"].Detail["write_ms"], 0)
	require.True(t, report.Parts["lease"].OK)
	require.True(t, report.Parts["process"].OK)
	code, text = s.get(t, "/healthz/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "database: no write possible")
	code, _ = s.get(t, "/healthz/live")
	require.Equal(t, http.StatusOK, code)
	code, _ = s.get(t, "/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusOK, code)
}
