package server

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/service/frontend"
	"github.com/perdure/perdure/service/history"
	"github.com/perdure/perdure/service/matching"
	"github.com/perdure/perdure/taskqueue"
	"github.com/perdure/perdure/telemetry"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// clusterID is what GetClusterInfo reports: there is one cluster per database, and no client tells them apart by it.
const clusterID = "7b1c7f0e-2f1a-4d55-9c3e-5c1f4be0a9d1"

// Services are what a process runs. What it does not run it reaches at the other members of the cluster.
type Services struct{ Frontend, History, Matching bool }

// AllServices is everything in one process: calls between services are then plain calls.
var AllServices = Services{Frontend: true, History: true, Matching: true}

// process is one process to be composed.
type process struct {
	options  Options
	services Services
	log      *zap.Logger
	store    persistence.Store
	health   *Health
	metrics  *prometheus.Registry
	tracing  *telemetry.Tracing // nil: off
	// member: the process joins the cluster of its database; else it is alone with it.
	member bool
	// late is told what the store and membership notice.
	late *late
	// public is where the frontend, internal where history or matching listens.
	public   []net.Listener
	internal net.Listener
	http     net.Listener
}

// app composes the modules of a process. Starting it makes the process a member, then brings up history and matching, and lets the
// first call in last; stopping it goes the other way.
func (p process) app() (*fx.App, error) {
	opts := []fx.Option{
		fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }),
		fx.StartTimeout(startTimeout), fx.StopTimeout(stopTimeout),
		fx.Supply(p.log, p.health),
		fx.Provide(
			func() (*prometheus.Registry, prometheus.Registerer) { return p.metrics, p.metrics },
			func() persistence.Store { return p.store },
			func() *namespace.Registry { return namespace.New(p.store) },
		),
		// Each part is a module of its own: fx runs their hooks in the order of this list.
		fx.Module("namespaces", fx.Invoke(p.prepareNamespaces)),
	}
	if p.member {
		opts = append(opts, fx.Module("peers", p.clusterPeers()))
		if p.internal != nil {
			opts = append(opts, fx.Module("internal", fx.Invoke(p.serveInternal)))
		}
		opts = append(opts, fx.Module("membership", fx.Invoke(p.join)))
	} else {
		opts = append(opts, fx.Module("peers", p.localPeers()))
	}
	if p.services.Matching {
		opts = append(opts, fx.Module("matching-process", p.matching()))
	}
	if p.services.History {
		opts = append(opts, fx.Module("history-process", p.history()))
	}
	if p.member {
		opts = append(opts, fx.Module("placement", fx.Invoke(p.place)))
	}
	if p.services.Frontend {
		frontend, err := p.frontend()
		if err != nil {
			return nil, err
		}
		opts = append(opts, fx.Module("frontend-process", frontend))
	}
	opts = append(opts, fx.Module("http", fx.Invoke(p.serveHTTP)))
	app := fx.New(opts...)
	return app, app.Err()
}

func newMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// bound are the services of this process, known only after those who call them have been made: they call each other.
type bound struct {
	history  struct{ historypb.HistoryServiceServer }
	matching struct {
		matchingpb.MatchingServiceServer
	}
}

func (b *bound) bind(services Services) fx.Option {
	var options []fx.Option
	if services.History {
		options = append(options, fx.Invoke(func(s historypb.HistoryServiceServer) { b.history.HistoryServiceServer = s }))
	}
	if services.Matching {
		options = append(options, fx.Invoke(func(s matchingpb.MatchingServiceServer) { b.matching.MatchingServiceServer = s }))
	}
	return fx.Options(options...)
}

// localPeers provides the clients of a process that is alone with its database: they call its services directly.
func (p process) localPeers() fx.Option {
	bound := &bound{}
	return fx.Options(
		bound.bind(p.services),
		fx.Provide(
			func() historypb.HistoryServiceClient {
				return historypb.LocalHistoryServiceClient{Server: &bound.history}
			},
			func() matchingpb.MatchingServiceClient {
				return taskqueue.NewClient(matchingpb.LocalMatchingServiceClient{Server: &bound.matching})
			},
		),
	)
}

func (p process) prepareNamespaces(l fx.Lifecycle, r *namespace.Registry) {
	l.Append(fx.StartHook(func(ctx context.Context) error {
		if err := r.EnsureSystem(ctx); err != nil {
			return fmt.Errorf("create the system namespace: %w", err)
		}
		if err := r.Ensure(ctx, devRetention, p.options.Namespaces...); err != nil {
			return fmt.Errorf("create namespaces: %w", err)
		}
		return nil
	}))
}

// serviceParams are what history and matching are made of.
type serviceParams struct {
	fx.In

	Store      persistence.Store
	History    historypb.HistoryServiceClient
	Matching   matchingpb.MatchingServiceClient
	Namespaces *namespace.Registry
	Metrics    prometheus.Registerer
	Cluster    *cluster.Membership `optional:"true"`
}

func (p process) matching() fx.Option {
	return fx.Options(
		fx.Provide(func(in serviceParams) matching.Params {
			params := matching.Params{Store: in.Store, History: in.History, Peers: taskqueue.Direct(in.Matching), HostName: hostName(), Logger: p.log.Named("matching"), Metrics: in.Metrics}
			params.Config.Partitions = p.options.TaskQueuePartitions
			if in.Cluster != nil {
				params.Owner, params.OwnerHost = in.Cluster.Self().ID, in.Cluster.PartitionAddress
			}
			return params
		}),
		matching.Module,
	)
}

func (p process) history() fx.Option {
	return fx.Options(
		fx.Provide(func(in serviceParams) history.Params {
			params := history.Params{Store: in.Store, History: in.History, Matching: in.Matching, Namespaces: in.Namespaces,
				Owner: hostName(), Logger: p.log.Named("history"), Metrics: in.Metrics}
			if in.Cluster != nil {
				params.Owner = in.Cluster.Self().ID
			}
			return params
		}),
		history.Module,
		fx.Invoke(func(s *history.Service) {
			if !p.member { // else it is told with the shards' placement
				p.health.Describe("shards", shardsPart(s, nil, nil))
			}
		}),
	)
}

func (p process) frontend() (fx.Option, error) {
	cfg := frontend.Config{Listeners: p.public, ClusterID: clusterID, Load: p.options.Load, Tracing: p.tracing}
	cfg.Server.Options = p.tracing.ServerOptions()
	if p.options.TLS.Enabled() {
		config, err := ServerTLS(p.options.TLS, p.log)
		if err != nil {
			return nil, err
		}
		cfg.Server.Options = append(cfg.Server.Options, grpc.Creds(publicCredentials{credentials.NewTLS(config)}))
	}
	return fx.Options(
		fx.Supply(cfg),
		frontend.Module,
	), nil
}

// stopGRPC finishes what runs; what does not finish in time is cut off.
func stopGRPC(ctx context.Context, server *grpc.Server) {
	done := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		server.Stop()
	case <-time.After(stopTimeout / 3):
		server.Stop()
	}
}

// fail ends the process: a server that cannot be reached must not look alive.
func (p process) fail(shutdown fx.Shutdowner, what string, err error) {
	p.log.Error("stopped serving", zap.String("operation", what), zap.Error(err))
	_ = shutdown.Shutdown(fx.ExitCode(1)) // it is stopping already
}
