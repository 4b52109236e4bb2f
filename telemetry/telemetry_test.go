package telemetry

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func recording(t *testing.T) (*Tracing, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	tracing := New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)))
	t.Cleanup(func() { require.NoError(t, tracing.Close(context.Background())) })
	return tracing, exporter
}

func TestSpansOfACall(t *testing.T) {
	tracing, exporter := recording(t)
	ctx, call := tracing.Call(t.Context(), "/service/Method",
		metadata.Pairs("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", TraceID(ctx))
	_, inner := Start(ctx, "inner")
	inner.SetString("who", "me")
	inner.SetInt("n", 7)
	inner.End(errors.New("refused"))
	call.End(nil)
	spans := exporter.GetSpans()
	require.Len(t, spans, 2)
	require.Equal(t, "inner", spans[0].Name)
	require.Equal(t, codes.Error, spans[0].Status.Code)
	require.Equal(t, "refused", spans[0].Status.Description)
	require.Len(t, spans[0].Attributes, 2)
	require.Equal(t, spans[1].SpanContext.SpanID(), spans[0].Parent.SpanID())
	require.Equal(t, "service/Method", spans[1].Name)
	require.Equal(t, "b7ad6b7169203331", spans[1].Parent.SpanID().String())
}

func TestJoin(t *testing.T) {
	tracing, exporter := recording(t)
	members := make([]Span, 4)
	for i := range 3 { // the first is in no trace
		_, members[i+1] = tracing.Call(t.Context(), "/s/M", nil)
	}
	ctx, joined := Join(t.Context(), "group", len(members), func(i int) Span { return members[i] })
	require.True(t, joined.Recorded())
	require.Equal(t, joined, Current(ctx))
	joined.End(nil)
	group := exporter.GetSpans()[0]
	require.Equal(t, members[1].span.SpanContext().SpanID(), group.Parent.SpanID())
	require.Len(t, group.Links, 2)
	for i, m := range members[2:] {
		require.Equal(t, m.span.SpanContext(), group.Links[i].SpanContext)
		m.End(nil)
	}
	for _, member := range exporter.GetSpans()[1:] {
		require.Len(t, member.Links, 1)
		require.Equal(t, group.SpanContext, member.Links[0].SpanContext)
	}
}

// What is not sampled is not recorded further down either.
func TestUnsampled(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracing := New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(sdktrace.NeverSample())))
	ctx, call := tracing.Call(t.Context(), "/s/M", nil)
	_, span := Start(ctx, "inner")
	require.False(t, call.Recorded() || span.Recorded())
	require.NotEmpty(t, TraceID(ctx), "a log line still names the trace of the client")
	require.NoError(t, tracing.Close(t.Context()))
	require.Empty(t, exporter.GetSpans())
}

func TestOffCostsNothing(t *testing.T) {
	var off *Tracing
	require.Empty(t, off.ServerOptions())
	require.Empty(t, off.DialOptions())
	require.NoError(t, off.Close(t.Context()))
	members := make([]Span, 8)
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		ctx, call := off.Call(ctx, "/s/M", nil)
		ctx, span := Start(ctx, "inner")
		span.SetString("key", "value")
		_, joined := Join(ctx, "group", len(members), func(i int) Span { return members[i] })
		joined.End(nil)
		span.End(nil)
		call.End(nil)
	}))
}

func TestOpen(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		t.Setenv(name, "")
	}
	off, err := Open(t.Context(), Options{})
	require.NoError(t, err)
	require.Nil(t, off)
	_, err = Open(t.Context(), Options{Endpoint: "ftp://collector"})
	require.ErrorContains(t, err, "--otlp-endpoint")
	for _, on := range []func() (*Tracing, error){
		func() (*Tracing, error) {
			return Open(t.Context(), Options{Endpoint: "127.0.0.1:1", Service: "perdure"})
		},
		func() (*Tracing, error) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			return Open(t.Context(), Options{Service: "perdure"})
		},
	} {
		tracing, err := on()
		require.NoError(t, err, "nobody listens there, which is no reason not to start")
		require.NotNil(t, tracing)
		require.Len(t, tracing.ServerOptions(), 1)
		require.NoError(t, tracing.Close(t.Context()))
	}
}

func BenchmarkStartOff(b *testing.B) {
	ctx := trace.ContextWithSpan(b.Context(), nil)
	for range 8 { // as deep as a context is at a commit
		ctx = context.WithValue(ctx, new(int), nil)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, span := Start(ctx, "inner")
		span.End(nil)
	}
}
