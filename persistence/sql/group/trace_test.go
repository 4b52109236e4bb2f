package group

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/perdure/perdure/telemetry"
)

// The span of a group's commit is in the trace of one member and linked with those of the others; who is in no trace shares the commit
// all the same.
func TestSpanOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exporter := tracetest.NewInMemoryExporter()
		tracing := telemetry.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)))
		hold := make(chan struct{})
		c := New(func(_ context.Context, members []sized) error {
			if len(members) == 1 { // the first, behind which the others collect
				<-hold
			}
			return nil
		}, Options{})
		submit := func(traced bool) {
			ctx, call := context.Background(), telemetry.Span{}
			if traced {
				ctx, call = tracing.Call(ctx, "/service/Call", nil)
			}
			require.NoError(t, c.Submit(ctx, 1))
			call.End(nil)
		}
		go submit(false)
		synctest.Wait()
		go submit(false)
		synctest.Wait()
		for range 2 {
			go submit(true)
			synctest.Wait()
		}
		close(hold)
		synctest.Wait()
		c.Close()
		byName := map[string][]tracetest.SpanStub{}
		for _, s := range exporter.GetSpans() {
			byName[s.Name] = append(byName[s.Name], s)
		}
		require.Len(t, byName["store.commit"], 2)
		require.Len(t, byName["store.group"], 1)
		group := byName["store.group"][0]
		require.Len(t, group.Links, 1)
		var within, linked int
		for _, member := range byName["store.commit"] {
			switch member.SpanContext.SpanID() {
			case group.Parent.SpanID():
				within++
			case group.Links[0].SpanContext.SpanID():
				linked++
				require.Equal(t, group.SpanContext, member.Links[0].SpanContext)
			}
		}
		require.Equal(t, []int{1, 1}, []int{within, linked})
	})
}

type sized int

func (sized) Size() int { return 1 }
