// Package telemetry is tracing: spans from a call of the public API to the commit in the database, sent to an OpenTelemetry collector.
//
// Who makes spans needs no configuration: a span is made where the context has one that is recorded, by the provider of that one. So traces
// begin at the API and nowhere else, and while tracing is off nothing of this package allocates memory or takes a lock.
package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name under which this program's spans are made.
const scope = "github.com/perdure/perdure"

// Span is a stretch of work in a trace. Its zero value is no span; its methods do nothing then.
type Span struct {
	span trace.Span
}

// Start begins a span within that of the context, and returns the context of the work. Without one that is recorded there, it returns the
// context as it is and no span.
func Start(ctx context.Context, name string) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	return begin(ctx, parent, name)
}

func begin(ctx context.Context, parent trace.Span, name string, options ...trace.SpanStartOption) (context.Context, Span) {
	ctx, span := parent.TracerProvider().Tracer(scope).Start(ctx, name, options...)
	return ctx, Span{span: span}
}

// Current is the span of a context.
func Current(ctx context.Context) Span {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		return Span{span: span}
	}
	return Span{}
}

// Recorded tells whether the span exists: only then is it worth while to work out what to set.
func (s Span) Recorded() bool { return s.span != nil }

// SetString notes something about the work.
func (s Span) SetString(key, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// SetInt notes a number.
func (s Span) SetInt(key string, value int64) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int64(key, value))
	}
}

// End ends the span; a non-nil error is its outcome.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// TraceID is the trace of a context, as collectors show it; "" if there is none.
func TraceID(ctx context.Context) string {
	if c := trace.SpanContextFromContext(ctx); c.IsValid() {
		return c.TraceID().String()
	}
	return ""
}

// Join begins the span of work that is done for several at once, such as the commit of a group. It is within the first of their spans
// that is recorded, and linked with the others, both ways. Without any it returns the context as it is and no span.
func Join(ctx context.Context, name string, members int, member func(i int) Span) (context.Context, Span) {
	first := 0
	for first < members && !member(first).Recorded() {
		first++
	}
	if first == members {
		return ctx, Span{}
	}
	parent := member(first).span
	var links []trace.Link
	for i := first + 1; i < members; i++ {
		if m := member(i); m.Recorded() {
			links = append(links, trace.Link{SpanContext: m.span.SpanContext()})
		}
	}
	ctx, joined := begin(trace.ContextWithSpan(ctx, parent), parent, name, trace.WithLinks(links...))
	for i := first + 1; i < members; i++ {
		if m := member(i); m.Recorded() {
			m.span.AddLink(trace.Link{SpanContext: joined.span.SpanContext()})
		}
	}
	return ctx, joined
}
