package server

import (
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/telemetry"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// onPostgres makes a process a member of a cluster on a new database.
func onPostgres(t *testing.T) func(*process) { return onDatabase(t, pgtest.URL(t), AllServices) }

// onDatabase makes a process a member, of some services, of the cluster on a database.
func onDatabase(t *testing.T, url string, services Services) func(*process) {
	return func(p *process) {
		require.NoError(t, p.store.Close())
		fresh := process{options: p.options, services: services, log: p.log, health: NewHealth(), metrics: newMetrics(),
			public: p.public, http: p.http, member: true, late: newLate()}
		fresh.options.Postgres = url
		if services.History || services.Matching {
			var err error
			fresh.internal, err = Listen("--internal-address", "127.0.0.1:0")
			require.NoError(t, err)
		}
		if !services.Frontend {
			for _, l := range []net.Listener{p.public[0], p.http} {
				require.NoError(t, l.Close())
			}
			fresh.public, fresh.http = nil, nil
		}
		require.NoError(t, fresh.openPostgres(t.Context()))
		*p = fresh
	}
}

var (
	described = regexp.MustCompile(`fqName: "(perdure_\w+)".*variableLabels: \{([^}]*)\}`)
	listed    = regexp.MustCompile("`(perdure_\\w+)(?:\\{([a-z,]+)\\})?`")
)

// The table of metrics in docs/operations.md has every metric of a process that runs everything, with its labels, and no other.
func TestMetricsAreThoseOfTheTable(t *testing.T) {
	s := run(t, onPostgres(t))
	registered := map[string]string{}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		s.metrics.Describe(descriptions)
	}()
	for d := range descriptions {
		if found := described.FindStringSubmatch(d.String()); found != nil {
			registered[found[1]] = found[2]
		}
	}
	doc, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	table := map[string]string{}
	for line := range strings.Lines(string(doc)) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		if strings.HasPrefix(line, "| `perdure_") {
			for _, found := range listed.FindAllStringSubmatch(first, -1) {
				table[found[1]] = found[2]
			}
		}
	}
	require.Greater(t, len(registered), 30)
	require.Equal(t, registered, table)
}

// A trace goes on in the process that owns the shard, over the connection between the two.
func TestTraceBetweenProcesses(t *testing.T) {
	url := pgtest.URL(t)
	traced := func(services Services, exporter sdktrace.SpanExporter) func(*process) {
		return func(p *process) {
			onDatabase(t, url, services)(p)
			p.tracing = telemetry.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)))
		}
	}
	atHistory, atFrontend := tracetest.NewInMemoryExporter(), tracetest.NewInMemoryExporter()
	run(t, traced(Services{History: true, Matching: true}, atHistory))
	s := run(t, traced(Services{Frontend: true}, atFrontend))
	require.Eventually(t, func() bool { // until the shards have their owner
		_, err := s.client.StartWorkflowExecution(t.Context(), aStart("traced"))
		return err == nil
	}, startTimeout, 10*time.Millisecond)
	const (
		outer = "temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution"
		inner = "perdure.history.v1.HistoryService/StartWorkflowExecution"
	)
	var received tracetest.SpanStub
	require.Eventually(t, func() bool {
		for _, span := range spansNamed(atHistory, inner) {
			if child := childNamed(atHistory, span, "history.transition"); child != nil && childNamed(atHistory, *child, "store.commit") != nil {
				received = span
				return true
			}
		}
		return false
	}, startTimeout, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		for _, sent := range spansNamed(atFrontend, inner) { // several of one call, while the shard has no owner
			for _, call := range spansNamed(atFrontend, outer) {
				if sent.SpanContext.SpanID() == received.Parent.SpanID() && sent.Parent.SpanID() == call.SpanContext.SpanID() {
					return call.SpanContext.TraceID() == received.SpanContext.TraceID()
				}
			}
		}
		return false
	}, startTimeout, 10*time.Millisecond)
}

func TestDeepCheckOfAMember(t *testing.T) {
	s := run(t, onPostgres(t))
	var report deepReport
	require.Eventually(t, func() bool { // it has its shards a moment after it serves
		report = s.health.deep(t.Context())
		return report.Status == "ok"
	}, startTimeout, deepFresh/10, "%+v", &report)
	for _, part := range []string{"process", "database", "connections", "lease", "clock", "peers", "shards", "partitions"} {
		require.True(t, report.Parts[part].OK, part)
	}
	require.Len(t, report.Parts, 8)
	require.EqualValues(t, persistence.ShardCount, report.Parts["shards"].Detail["owned"])
	require.EqualValues(t, persistence.ShardCount, report.Parts["shards"].Detail["expected"])
	database := report.Parts["database"].Detail
	require.Positive(t, database["schema_version"])
	require.Equal(t, database["schema_version_of_binary"], database["schema_version"])
	lease := report.Parts["lease"].Detail
	require.Positive(t, lease["left_ms"])
	require.NotEmpty(t, lease["member"])
	code, _ := s.get(t, "/healthz/ready")
	require.Equal(t, http.StatusOK, code)
}
