package frontend

import (
	"context"
	"net"
	"time"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // SDKs compress every call.
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

const (
	// ReceiveBytesMaxDefault is gRPC's own limit; clients reckon with it.
	ReceiveBytesMaxDefault = 4 << 20
	// pingIntervalMin is how often a client may ping. SDKs ping every 30 s, also when they have nothing to say.
	pingIntervalMin = 10 * time.Second
	// pingInterval and pingTimeout find clients that are gone without a word, whose polls would otherwise take tasks.
	pingInterval = 30 * time.Second
	pingTimeout  = 10 * time.Second
	// streamsMax bounds the calls of one connection; a client that reaches it waits. It is as many as may wait in a process by default: a
	// worker has some hundred polls at most.
	streamsMax = 100_000
)

// ServerConfig configures the gRPC server.
type ServerConfig struct {
	// ReceiveBytesMax bounds one request, in bytes; 0: ReceiveBytesMaxDefault.
	ReceiveBytesMax int
	// Options are added to the server's own: transport credentials, statistics handlers.
	Options []grpc.ServerOption
}

// Server serves the public API over gRPC, with health checks and reflection.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
	chain  *Chain
}

// NewServer makes a server. It serves when Serve is called.
func NewServer(cfg ServerConfig, chain *Chain, workflow workflowservice.WorkflowServiceServer, operator operatorservice.OperatorServiceServer) *Server {
	receiveMax := cfg.ReceiveBytesMax
	if receiveMax == 0 {
		receiveMax = ReceiveBytesMaxDefault
	}
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(chain.Intercept, sendSmallPlain),
		grpc.InTapHandle(chain.load.tap),
		grpc.MaxRecvMsgSize(receiveMax),
		grpc.MaxConcurrentStreams(streamsMax),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingIntervalMin, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
	}
	s := &Server{
		grpc:   grpc.NewServer(append(options, cfg.Options...)...),
		health: health.NewServer(),
		chain:  chain,
	}
	workflowservice.RegisterWorkflowServiceServer(s.grpc, workflow)
	operatorservice.RegisterOperatorServiceServer(s.grpc, operator)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.SetServing(true)
	return s
}

// SetServing tells load balancers and probes whether to send requests here.
func (s *Server) SetServing(serving bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		state = healthpb.HealthCheckResponse_SERVING
	}
	for _, service := range []string{"", workflowservice.WorkflowService_ServiceDesc.ServiceName, operatorservice.OperatorService_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(service, state)
	}
}

// Serve accepts connections until Stop. It closes the listener.
func (s *Server) Serve(listener net.Listener) error { return s.grpc.Serve(listener) }

// Stop ends the server: health checks fail at once, calls that wait are sent elsewhere, the others are finished, and what is
// left when ctx ends is cut off.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.chain.Drain()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}
