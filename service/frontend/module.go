package frontend

import (
	"context"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/telemetry"
)

// Config configures the frontend of a process.
type Config struct {
	// Listeners are where the gRPC API is served. The module closes them.
	Listeners []net.Listener
	// ClusterID names the cluster; it is the same in all its processes.
	ClusterID string
	Server    ServerConfig
	// Load bounds what the process takes on.
	Load LoadLimits
	// Tracing makes the spans of calls that come without gRPC; nil: off.
	Tracing *telemetry.Tracing
}

// Module composes the frontend. The application provides Config, *namespace.Registry, persistence.Store, the clients of
// history and matching, a *zap.Logger and a prometheus.Registerer; interceptors that it provides in the groups
// "frontend_authentication" and "frontend_limits" are added to the chain. The module provides *LocalConn for clients in the process and
// *Chain.
var Module = fx.Module("frontend",
	fx.Provide(
		fx.Private,
		func(r *namespace.Registry) (Registry, NamespaceRegistry) { return r, r },
		func(s persistence.Store) VisibilityStore { return s },
		BuildCapabilities,
		NewNamespaces,
		NewVisibility,
		NewOperator,
		provideCluster,
		provideHandler,
	),
	fx.Provide(
		provideChain,
		provideServer,
		provideLocalConn,
	),
	fx.Invoke(serveGRPC),
)

type chainParams struct {
	fx.In

	Config         Config
	Registry       Registry
	Logger         *zap.Logger
	Registerer     prometheus.Registerer
	Authentication []grpc.UnaryServerInterceptor `group:"frontend_authentication"`
	Limits         []grpc.UnaryServerInterceptor `group:"frontend_limits"`
}

func provideChain(p chainParams) (*Chain, error) {
	return NewChain(ChainParams{
		Registry:       p.Registry,
		Logger:         p.Logger,
		Registerer:     p.Registerer,
		Authentication: p.Authentication,
		Limits:         p.Limits,
		Load:           p.Config.Load,
	})
}

type handlerParams struct {
	fx.In

	Registry   Registry
	History    historypb.HistoryServiceClient
	Matching   matchingpb.MatchingServiceClient
	Namespaces *Namespaces
	Visibility *Visibility
	Cluster    *Cluster
}

func provideHandler(p handlerParams) *Handler {
	return NewHandler(HandlerParams{
		Registry:   p.Registry,
		History:    p.History,
		Matching:   p.Matching,
		Namespaces: p.Namespaces,
		Visibility: p.Visibility,
		Cluster:    p.Cluster,
	})
}

func provideCluster(cfg Config, store persistence.Store, capabilities Capabilities) *Cluster {
	return NewCluster(cfg.ClusterID, store.Name(), capabilities)
}

func provideServer(cfg Config, chain *Chain, handler *Handler, operator *Operator) *Server {
	return NewServer(cfg.Server, chain, handler, operator)
}

func provideLocalConn(cfg Config, chain *Chain, handler *Handler, operator *Operator) *LocalConn {
	conn := NewLocalConn(chain, handler, operator)
	conn.tracing = cfg.Tracing
	return conn
}

var (
	_ workflowservice.WorkflowServiceServer = (*Handler)(nil)
	_ operatorservice.OperatorServiceServer = (*Operator)(nil)
)

func serveGRPC(lifecycle fx.Lifecycle, shutdown fx.Shutdowner, cfg Config, server *Server, logger *zap.Logger) {
	lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			for _, listener := range cfg.Listeners {
				logger.Info("serving gRPC", zap.Stringer("address", listener.Addr()))
				go func() {
					if err := server.Serve(listener); err != nil {
						stopApp(logger, shutdown, err)
					}
				}()
			}
			return nil
		},
		OnStop: func(ctx context.Context) error {
			server.Stop(ctx)
			return nil
		},
	})
}

// stopApp ends the process: a frontend that cannot accept connections must not look alive.
func stopApp(logger *zap.Logger, shutdown fx.Shutdowner, err error) {
	logger.Error("stopped serving gRPC", zap.Error(err))
	if err := shutdown.Shutdown(fx.ExitCode(1)); err != nil {
		logger.Error("shut down", zap.Error(err))
	}
}
