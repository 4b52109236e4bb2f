package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// flushTimeout bounds what a stopping process waits for a collector.
const flushTimeout = 2 * time.Second

// Tracing makes the traces of a process. Nil is tracing that is off.
type Tracing struct {
	provider    *sdktrace.TracerProvider
	propagators propagation.TextMapPropagator
}

// Options say where traces go.
type Options struct {
	// Endpoint is the URL of a collector (OTLP over gRPC). Empty: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT; if
	// these are empty too, tracing is off.
	Endpoint string
	// Service, Version and Instance name the process in traces. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
	Service  string
	Version  string
	Instance string
	Logger   *zap.Logger
}

// Open begins tracing; it returns nil if nobody asks for it. The other standard variables (OTEL_TRACES_SAMPLER,
// OTEL_EXPORTER_OTLP_HEADERS …) hold. A collector that is not there is no error: traces are dropped until it is.
func Open(ctx context.Context, o Options) (*Tracing, error) {
	var options []otlptracegrpc.Option
	switch {
	case o.Endpoint != "":
		endpoint, err := endpointURL(o.Endpoint)
		if err != nil {
			return nil, err
		}
		options = append(options, otlptracegrpc.WithEndpointURL(endpoint))
	case os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "":
		return nil, nil
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	if o.Logger != nil {
		// The module has only the one handler for the process.
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Logger.Warn("traces could not be sent", zap.Error(err)) }))
	}
	about, err := describe(ctx, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("describe this process in traces: %w", err), exporter.Shutdown(ctx))
	}
	return New(sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))), nil
}

// New makes traces with a provider, which Close shuts down.
func New(provider *sdktrace.TracerProvider) *Tracing {
	return &Tracing{
		provider:    provider,
		propagators: propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}
}

func endpointURL(endpoint string) (string, error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("--otlp-endpoint is %q; it must be a URL like http://localhost:4317, or https:// for TLS", endpoint)
	}
	return endpoint, nil
}

func describe(ctx context.Context, o Options) (*resource.Resource, error) {
	return resource.New(ctx, resource.WithAttributes(attribute.String("service.name", o.Service),
		attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
}

// Close sends what is still here and ends tracing.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

func (t *Tracing) grpcOptions() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(t.propagators),
		otelgrpc.WithFilter(filters.Not(filters.HealthCheck())),
	}
}

// ServerOptions make a gRPC server trace its calls.
func (t *Tracing) ServerOptions() []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(t.grpcOptions()...))}
}

// DialOptions make a gRPC client trace its calls, and tell the server of the trace.
func (t *Tracing) DialOptions() []grpc.DialOption {
	if t == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(t.grpcOptions()...))}
}

// Call begins the span of a call that comes without gRPC, within what its metadata names.
func (t *Tracing) Call(ctx context.Context, method string, headers metadata.MD) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx = t.propagators.Extract(ctx, carrier(headers))
	ctx, span := t.provider.Tracer(scope).Start(ctx, strings.TrimPrefix(method, "/"), trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return ctx, Span{}
	}
	return ctx, Span{span: span}
}

// carrier is metadata as propagators read it.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if values := metadata.MD(c).Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}
