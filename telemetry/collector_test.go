package telemetry

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// collector is what traces are sent to.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer

	mu       sync.Mutex
	services []string
	spans    []string
}

func (c *collector) Export(_ context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				c.services = append(c.services, a.GetValue().GetStringValue())
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, span.GetName())
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// What is still here at the end is sent before Close returns.
func TestSpansReachACollector(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c, server := &collector{}, grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	for _, name := range []string{"OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER"} {
		t.Setenv(name, "")
	}
	tracing, err := Open(t.Context(), Options{Endpoint: "http://" + listener.Addr().String(), Service: "perdure-history"})
	require.NoError(t, err)
	ctx, call := tracing.Call(t.Context(), "/service/Method", nil)
	_, inner := Start(ctx, "inner")
	inner.End(nil)
	call.End(nil)
	require.NoError(t, tracing.Close(t.Context()))
	require.Equal(t, []string{"inner", "service/Method"}, c.spans)
	require.Equal(t, []string{"perdure-history"}, c.services)
}
