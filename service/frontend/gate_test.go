package frontend

import (
	"context"
	"math"
	"path"
	"sync"
	"testing"
	"testing/synctest"
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
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
)

const (
	rps        = enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT
	concurrent = enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT
	overloaded = enumspb.RESOURCE_EXHAUSTED_CAUSE_SYSTEM_OVERLOADED
	ofOne      = enumspb.RESOURCE_EXHAUSTED_SCOPE_NAMESPACE
	ofAll      = enumspb.RESOURCE_EXHAUSTED_SCOPE_SYSTEM
)

func aStart(namespace string) *workflowservice.StartWorkflowExecutionRequest {
	return &workflowservice.StartWorkflowExecutionRequest{Namespace: namespace}
}

func aDescribeIn(namespace string) *workflowservice.DescribeWorkflowExecutionRequest {
	return &workflowservice.DescribeWorkflowExecutionRequest{Namespace: namespace}
}

func aList(namespace string) *workflowservice.ListWorkflowExecutionsRequest {
	return &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace}
}

func aPollIn(namespace string) *workflowservice.PollWorkflowTaskQueueRequest {
	return &workflowservice.PollWorkflowTaskQueueRequest{Namespace: namespace}
}

// gated is the real chain with limits around a handler that waits as long as its test wants. It belongs into a synctest bubble.
type gated struct {
	t       *testing.T
	chain   *Chain
	metrics *prometheus.Registry
	// hold, unless nil, is what handlers wait for.
	hold chan struct{}
}

func newGated(t *testing.T, l LoadLimits) *gated {
	t.Helper()
	registry := namespace.New(&memoryNamespaces{records: map[string]persistence.NamespaceRecord{}})
	for _, name := range []string{testNamespace, otherNamespace} {
		_, err := registry.Create(t.Context(), namespace.NewRecord(name, time.Hour))
		require.NoError(t, err)
	}
	g := &gated{t: t, metrics: prometheus.NewRegistry()}
	chain, err := NewChain(ChainParams{Registry: registry, Logger: zap.NewNop(), Registerer: g.metrics, Load: l})
	require.NoError(t, err)
	g.chain = chain
	return g
}

func (g *gated) call(ctx context.Context, request proto.Message) error {
	info := &grpc.UnaryServerInfo{FullMethod: "/" + workflowservice.WorkflowService_ServiceDesc.ServiceName + "/" + rpcOf(request)}
	_, err := g.chain.Intercept(ctx, request, info, func(ctx context.Context, _ any) (any, error) {
		if g.hold == nil {
			return nil, nil
		}
		select {
		case <-g.hold:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	if err != nil {
		return asServiceError(err)
	}
	return nil
}

// passing makes n calls one after the other, at once, and returns how many pass. The others must be refused with a cause and scope.
func (g *gated) passing(
	n int, cause enumspb.ResourceExhaustedCause, scope enumspb.ResourceExhaustedScope, request func() proto.Message,
) (passed int) {
	g.t.Helper()
	for range n {
		err := g.call(g.t.Context(), request())
		if err == nil {
			passed++
			continue
		}
		g.refused(err, cause, scope)
	}
	return passed
}

func (g *gated) refused(err error, cause enumspb.ResourceExhaustedCause, scope enumspb.ResourceExhaustedScope) {
	g.t.Helper()
	var e *serviceerror.ResourceExhausted
	require.ErrorAs(g.t, err, &e)
	require.Equal(g.t, cause, e.Cause)
	require.Equal(g.t, scope, e.Scope)
	require.NotEmpty(g.t, e.Message)
}

// holding makes n calls that stay until release is closed.
func (g *gated) holding(n int, request func() proto.Message) (release func()) {
	g.t.Helper()
	hold := make(chan struct{})
	g.hold = hold
	var all sync.WaitGroup
	for range n {
		all.Go(func() { require.NoError(g.t, g.call(context.Background(), request())) })
	}
	synctest.Wait()
	g.hold = nil
	return func() {
		close(hold)
		all.Wait()
	}
}

func (g *gated) gauge(name string) float64 {
	m := metric(g.t, &env{metrics: g.metrics}, name, nil)
	require.NotNil(g.t, m)
	return m.GetGauge().GetValue()
}

func TestNamespaceRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{NamespaceRPS: 10, BurstRatio: 2})
		start := func() proto.Message { return aStart(testNamespace) }
		// Priority 1 leaves a tenth of the 19 tokens after the first.
		require.Equal(t, 18, g.passing(100, rps, ofOne, start))
		require.Equal(t, 0, g.passing(10, rps, ofOne, start))
		require.NoError(t, g.call(t.Context(), aStart(otherNamespace)), "another namespace is not affected")
		time.Sleep(time.Second)
		require.Equal(t, 10, g.passing(100, rps, ofOne, start))
		m := metric(t, &env{metrics: g.metrics}, "perdure_frontend_refused_total", map[string]string{"cause": "RpsLimit", "scope": "Namespace"})
		require.EqualValues(t, 82+10+90, m.GetCounter().GetValue())
	})
}

func TestHostRateIsOfAllNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{RPS: 10, NamespaceRPS: 5, BurstRatio: 1})
		require.Equal(t, 4, g.passing(50, rps, ofOne, func() proto.Message { return aStart(testNamespace) }))
		// What its own limit refuses costs the others nothing.
		require.Equal(t, 4, g.passing(4, rps, ofAll, func() proto.Message { return aStart(otherNamespace) }))
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, 10-8+5, g.passing(50, rps, ofAll, func() proto.Message { return &workflowservice.GetSystemInfoRequest{} }))
	})
}

// Over any stretch of time no more passes than the rate allows, however the calls are spread, and a caller that keeps asking gets all of
// it.
func TestRateOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, perSecond := range []float64{0.5, 7, 400} {
			g := newGated(t, LoadLimits{NamespaceRPS: perSecond, BurstRatio: 1})
			passed, begun := 0, time.Now()
			for time.Since(begun) < 20*time.Second {
				passed += g.passing(5, rps, ofOne, func() proto.Message { return aStart(testNamespace) })
				time.Sleep(time.Second / 100)
			}
			burst := max(1, perSecond)
			require.LessOrEqual(t, float64(passed), burst+20*perSecond)
			require.GreaterOrEqual(t, float64(passed), 20*perSecond)
		}
	})
}

// When there is too much of everything, what is refused is what matters least, and while there is not, nothing is.
func TestPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{RPS: 1000, BurstRatio: 1})
		var starts, describes, polls, infos int
		run := func(startsPerTick int) {
			// Ten seconds, once the burst is spent.
			g.passing(1000, rps, ofAll, func() proto.Message { return aDescribeIn(testNamespace) })
			starts, describes, polls, infos = 0, 0, 0, 0
			for range 1000 {
				time.Sleep(10 * time.Millisecond)
				polls += g.passing(3, rps, ofAll, func() proto.Message { return aPollIn(testNamespace) })
				describes += g.passing(5, rps, ofAll, func() proto.Message { return aDescribeIn(testNamespace) })
				starts += g.passing(startsPerTick, rps, ofAll, func() proto.Message { return aStart(testNamespace) })
				infos += g.passing(1, rps, ofAll, func() proto.Message { return &workflowservice.GetSystemInfoRequest{} })
			}
		}
		run(0) // 900 per second
		require.Equal(t, 5000, describes)
		require.Greater(t, polls, 2600, "all but those that came while the burst filled up")
		run(6)
		require.Equal(t, 6000, starts)
		require.InDelta(t, 3000, describes, 200)
		require.Zero(t, polls)
		run(12)
		require.InDelta(t, 9000, starts, 400)
		require.Zero(t, polls)
		require.Less(t, describes, 10)
		require.Equal(t, 1000, infos)
	})
}

func TestOperatorsGetThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{NamespaceRPS: 10, BurstRatio: 1})
		g.passing(100, rps, ofOne, func() proto.Message { return aStart(testNamespace) })
		operator := metadata.NewIncomingContext(t.Context(), metadata.Pairs(headerCallerType, callerOperator))
		for range 2 { // a fifth
			require.NoError(t, g.call(operator, aDescribeIn(testNamespace)))
		}
		g.refused(g.call(operator, aDescribeIn(testNamespace)), rps, ofOne)
	})
}

func TestKindsHaveRatesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{NamespaceVisibilityRPS: 10, NamespaceChangeRPS: 40, NamespaceDeploymentReadRPS: 10, BurstRatio: 1})
		list := func() proto.Message { return aList(testNamespace) }
		require.Equal(t, 7, g.passing(100, rps, ofOne, list))
		require.NoError(t, g.call(t.Context(), aList(otherNamespace)))
		require.Equal(t, 100, g.passing(100, rps, ofOne, func() proto.Message { return aStart(testNamespace) }))
		require.Equal(t, 7, g.passing(100, rps, ofOne, func() proto.Message {
			return &workflowservice.ListWorkerDeploymentsRequest{Namespace: testNamespace}
		}))
		update := func(name string) func() proto.Message {
			return func() proto.Message { return &workflowservice.UpdateNamespaceRequest{Namespace: name} }
		}
		first := g.passing(20, rps, ofOne, update(testNamespace))
		require.Equal(t, 16, first, "a burst of ten seconds of its 2 per second")
		require.NoError(t, g.call(t.Context(), update(otherNamespace)()))
		registered := 0
		for i := range 100 {
			if g.call(t.Context(), &workflowservice.RegisterNamespaceRequest{Namespace: string(rune('a' + i))}) == nil {
				registered++
			}
		}
		require.Equal(t, 32-17, registered, "all together")
	})
}

// A call that waits costs its token when it comes, and nothing while it waits.
func TestWaitingCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{NamespaceRPS: 100, BurstRatio: 1, NamespaceWaiting: 40, Waiting: 60, InFlight: 1})
		poll := func() proto.Message { return aPollIn(testNamespace) }
		release := g.holding(40, poll)
		require.Equal(t, 0, g.passing(10, concurrent, ofOne, poll))
		require.InDelta(t, 0, g.gauge("perdure_frontend_in_flight"), 0)
		time.Sleep(time.Second)
		require.Equal(t, 90, g.passing(1000, rps, ofOne, func() proto.Message { return aStart(testNamespace) }), "as if nobody waited")
		releaseOthers := g.holding(20, func() proto.Message { return aPollIn(otherNamespace) })
		require.Equal(t, 0, g.passing(1, concurrent, ofAll, func() proto.Message { return aPollIn(otherNamespace) }))
		release()
		releaseOthers()
		time.Sleep(time.Second)
		g.holding(40, poll)()
	})
}

func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{InFlight: 20})
		// One namespace may have half of it.
		release := g.holding(10, func() proto.Message { return aStart(testNamespace) })
		require.InDelta(t, 10, g.gauge("perdure_frontend_in_flight"), 0)
		g.refused(g.call(t.Context(), aStart(testNamespace)), concurrent, ofOne)
		releaseOthers := g.holding(8, func() proto.Message { return aStart(otherNamespace) })
		g.refused(g.call(t.Context(), aDescribeIn(otherNamespace)), overloaded, ofAll)
		g.refused(g.call(t.Context(), aStart(otherNamespace)), overloaded, ofAll)
		require.NoError(t, g.call(t.Context(), &workflowservice.GetSystemInfoRequest{}))
		release()
		releaseOthers()
		require.InDelta(t, 0, g.gauge("perdure_frontend_in_flight"), 0)
		require.NoError(t, g.call(t.Context(), aDescribeIn(testNamespace)))
	})
}

func TestBytesInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{InFlightBytes: 10_000})
		large := func() proto.Message {
			r := aStart(testNamespace)
			r.RequestId = string(make([]byte, 4000))
			return r
		}
		release := g.holding(2, large)
		g.refused(g.call(t.Context(), large()), overloaded, ofAll)
		require.NoError(t, g.call(t.Context(), aStart(testNamespace)), "a small one fits")
		release()
		require.InDelta(t, 0, g.gauge("perdure_frontend_in_flight_bytes"), 0)
		huge := aStart(testNamespace)
		huge.RequestId = string(make([]byte, 20_000))
		require.NoError(t, g.call(t.Context(), huge), "alone, anything passes that gRPC lets in")
	})
}

func TestPanicGivesItsPlaceBack(t *testing.T) {
	g := newGated(t, LoadLimits{InFlight: 2})
	for range 5 {
		info := &grpc.UnaryServerInfo{FullMethod: workflowservice.WorkflowService_DescribeNamespace_FullMethodName}
		boom := func(context.Context, any) (any, error) { panic("boom") }
		_, err := g.chain.Intercept(t.Context(), &workflowservice.DescribeNamespaceRequest{}, info, boom)
		require.IsType(t, &serviceerror.Internal{}, asServiceError(err))
	}
}

// What is known of a namespace goes away when it is idle.
func TestIdleNamespacesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{NamespaceRPS: 10, NamespaceWaiting: 1, BurstRatio: 1})
		require.NoError(t, g.call(t.Context(), aStart(testNamespace)))
		release := g.holding(1, func() proto.Message { return aPollIn(otherNamespace) })
		require.InDelta(t, 2, g.gauge("perdure_frontend_active_namespaces"), 0)
		time.Sleep(2 * loadSweepEvery)
		info := &workflowservice.GetSystemInfoRequest{}
		require.NoError(t, g.call(t.Context(), info))
		require.InDelta(t, 1, g.gauge("perdure_frontend_active_namespaces"), 0, "one has a call that waits")
		release()
		time.Sleep(2 * loadSweepEvery)
		require.NoError(t, g.call(t.Context(), info))
		require.InDelta(t, 0, g.gauge("perdure_frontend_active_namespaces"), 0)
	})
}

func TestHealthIsNeverLimited(t *testing.T) {
	e := newEnvWith(t, ChainParams{Load: LoadLimits{RPS: 1e-9, BurstRatio: 1, InFlight: 1}})
	_, err := e.client.GetSystemInfo(t.Context(), &workflowservice.GetSystemInfoRequest{})
	require.NoError(t, err)
	_, err = e.client.GetSystemInfo(t.Context(), &workflowservice.GetSystemInfoRequest{})
	require.IsType(t, &serviceerror.ResourceExhausted{}, asServiceError(err), "the error survives the network: %v", err)
	for range 10 {
		_, err := healthpb.NewHealthClient(e.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		require.NoError(t, err)
	}
}

// When there is no room, a call is refused before its request is read, with all that a client needs to know.
func TestRefusedUnread(t *testing.T) {
	e := newEnvWith(t, ChainParams{Load: LoadLimits{InFlight: 2}})
	began, release := make(chan struct{}), make(chan struct{})
	e.history.answers(func(context.Context, string, proto.Message, proto.Message) error {
		close(began)
		<-release
		return nil
	})
	held := make(chan error, 1)
	go func() {
		_, err := e.send(context.Background(), aDescribe())
		held <- err
	}()
	<-began
	_, err := e.send(t.Context(), aDescribe())
	(&gated{t: t}).refused(err, overloaded, ofAll)
	require.Zero(t, answered(t, e, describeRPC, codes.ResourceExhausted), "it never came as far as the chain")
	m := metric(t, e, "perdure_frontend_refused_total", map[string]string{"cause": "SystemOverloaded", "scope": "System"})
	require.EqualValues(t, 1, m.GetCounter().GetValue())
	_, err = healthpb.NewHealthClient(e.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	close(release)
	require.NoError(t, <-held)
}

func TestNoLimitsAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, LoadLimits{})
		for _, request := range []proto.Message{aStart(testNamespace), aList(testNamespace), aPollIn(testNamespace)} {
			require.Equal(t, 5000, g.passing(5000, rps, ofOne, func() proto.Message { return request }))
		}
	})
}

func TestClassesAreOfExistingCalls(t *testing.T) {
	exists := map[string]bool{}
	for _, desc := range []grpc.ServiceDesc{workflowservice.WorkflowService_ServiceDesc, operatorservice.OperatorService_ServiceDesc} {
		for _, m := range desc.Methods {
			exists[m.MethodName] = true
		}
	}
	for rpc := range classes {
		require.True(t, exists[rpc], "there is no %s", rpc)
	}
	for method, want := range map[string]callClass{
		workflowservice.WorkflowService_GetSystemInfo_FullMethodName:                {priority: priorityFirst},
		workflowservice.WorkflowService_RespondWorkflowTaskCompleted_FullMethodName: {priority: priorityProgress},
		workflowservice.WorkflowService_ResetWorkflowExecution_FullMethodName:       {priority: priorityChange},
		workflowservice.WorkflowService_CountWorkflowExecutions_FullMethodName:      {priorityRead, kindVisibility},
		operatorservice.OperatorService_DeleteNamespace_FullMethodName:              {priorityChange, kindNamespaceChange},
	} {
		c, limited := classOf(method, nil)
		require.True(t, limited)
		require.Equal(t, want, c, path.Base(method))
	}
	history := &workflowservice.GetWorkflowExecutionHistoryRequest{}
	const read = workflowservice.WorkflowService_GetWorkflowExecutionHistory_FullMethodName
	c, _ := classOf(read, history)
	require.Equal(t, priorityChange, c.priority, "what a worker reads")
	history.WaitNewEvent = true
	c, _ = classOf(read, history)
	require.Equal(t, priorityWait, c.priority)
}

func TestLoadLimitsAreChecked(t *testing.T) {
	require.NoError(t, LoadLimits{}.Validate())
	require.NoError(t, DefaultLoadLimits().Validate())
	require.ErrorContains(t, LoadLimits{NamespaceRPS: -1}.Validate(), "--limit-namespace-rps")
	require.ErrorContains(t, LoadLimits{BurstRatio: math.NaN()}.Validate(), "--limit-burst-ratio")
}

// A call that is not refused pays for the limits with no more than this.
func BenchmarkGate(b *testing.B) {
	limits := DefaultLoadLimits()
	limits.RPS, limits.NamespaceRPS = 1e12, 1e12
	g, err := newGate(limits, prometheus.NewRegistry())
	require.NoError(b, err)
	class, _ := classOf(workflowservice.WorkflowService_StartWorkflowExecution_FullMethodName, nil)
	request := aStart(testNamespace)
	b.ReportAllocs()
	for b.Loop() {
		size := g.size(request)
		if g.begin(class.priority, size, false) == nil {
			if load, err := g.admit("id", class, false, false); err == nil {
				g.leave(load, false)
			}
			g.end(size, false)
		}
	}
}
