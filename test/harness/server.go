package harness

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// Server is something that a client can use, however many processes it is.
type Server struct {
	Addr string
	// Crash kills every process of it and starts them again on the same database.
	Crash func()
}

// Flavour is a way to run the whole product.
type Flavour struct {
	Name  string
	Start func(t testing.TB) *Server
}

// Flavours are all of them.
var Flavours = []Flavour{
	{"start-dev", StartDev},
	{"postgres", StartOnPostgres},
	{"cluster", StartCluster},
}

// StartDev runs the development server on a file.
func StartDev(t testing.TB) *Server {
	s := &Server{Addr: FreeAddr(t)}
	_, port, _ := net.SplitHostPort(s.Addr)
	file := filepath.Join(t.TempDir(), "state.db")
	var p *Process
	launch := func() {
		p = Start(t, nil, "perdure", "server", "start-dev", "--headless", "--port", port, "--db-filename", file)
		p.AwaitReady(s.Addr)
	}
	launch()
	s.Crash = func() { p.Kill(); launch() }
	return s
}

// StartOnPostgres runs all services in one process, on PostgreSQL.
func StartOnPostgres(t testing.TB) *Server {
	s := &Server{Addr: FreeAddr(t)}
	url := pgtest.URL(t)
	var p *Process
	launch := func() {
		p = Start(t, []string{"PERDURE_POSTGRES=" + url}, "perdure", "server", "start", "--grpc-address", s.Addr, "--http-address", "")
		p.AwaitReady(s.Addr)
	}
	launch()
	s.registerDefault(t)
	s.Crash = func() { p.Kill(); launch() }
	return s
}

// StartCluster runs one process per service, on PostgreSQL.
func StartCluster(t testing.TB) *Server {
	s := &Server{Addr: FreeAddr(t)}
	history, matching := FreeAddr(t), FreeAddr(t)
	env := []string{"PERDURE_POSTGRES=" + pgtest.URL(t), "PERDURE_HTTP_ADDRESS="}
	var processes []*Process
	launch := func() {
		processes = []*Process{
			Start(t, env, "history", "--grpc-address", history),
			Start(t, env, "matching", "--grpc-address", matching),
			Start(t, env, "frontend", "--grpc-address", s.Addr),
		}
		processes[2].AwaitReady(s.Addr)
	}
	launch()
	s.registerDefault(t)
	s.Crash = func() {
		for _, p := range processes {
			p.Kill()
		}
		launch()
	}
	return s
}

// registerDefault makes the namespace "default", which only the development server makes by itself.
func (s *Server) registerDefault(t testing.TB) {
	t.Helper()
	c, err := client.NewNamespaceClient(client.Options{HostPort: s.Addr, Logger: Quiet{}})
	require.NoError(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), ReadyMax)
	defer cancel()
	err = c.Register(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: client.DefaultNamespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if !errors.As(err, new(*serviceerror.NamespaceAlreadyExists)) {
		require.NoError(t, err)
	}
}

// Dial makes an SDK client; it waits until the server can be used.
func (s *Server) Dial(t testing.TB) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: s.Addr, Logger: Quiet{}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.Eventually(t, func() bool {
		_, err := c.DescribeWorkflowExecution(context.Background(), "no-such-workflow", "")
		return errors.As(err, new(*serviceerror.NotFound))
	}, ReadyMax, 50*time.Millisecond, "the server never answered for its default namespace")
	return c
}

// Quiet drops the SDK's log: a killed server makes it talk.
type Quiet struct{}

// Debug drops a message.
func (Quiet) Debug(string, ...any) {}

// Info drops a message.
func (Quiet) Info(string, ...any) {}

// Warn drops a message.
func (Quiet) Warn(string, ...any) {}

// Error drops a message.
func (Quiet) Error(string, ...any) {}
