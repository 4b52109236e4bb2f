package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
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
)

const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// clusterID is what GetClusterInfo reports: there is one cluster per database, and no client tells them apart by it.
const clusterID = "7b1c7f0e-2f1a-4d55-9c3e-5c1f4be0a9d1"

// Services are what a process runs. What it does not run it reaches at the addresses of Options.
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
	// public is where the frontend, internal where history or matching listens.
	public   []net.Listener
	internal net.Listener
	http     net.Listener
	// namespaces are registered at start.
	namespaces []string
}

// app composes the modules of a process. Starting it brings up history and matching before the first call is let in, stopping
// it goes the other way.
func (p process) app() (*fx.App, error) {
	opts := []fx.Option{
		fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }),
		fx.StartTimeout(startTimeout), fx.StopTimeout(stopTimeout),
		fx.Supply(p.log, p.health),
		fx.Provide(
			func() (*prometheus.Registry, prometheus.Registerer) { return newMetrics() },
			func() persistence.Store { return p.store },
			func() *namespace.Registry { return namespace.New(p.store) },
		),
		// Each part is a module of its own: fx runs their hooks in the order of this list.
		fx.Module("namespaces", fx.Invoke(p.prepareNamespaces)),
	}
	peers, err := p.peers()
	if err != nil {
		return nil, err
	}
	opts = append(opts, fx.Module("peers", peers))
	if p.services.Matching {
		opts = append(opts, fx.Module("matching-process", p.matching()))
	}
	if p.services.History {
		opts = append(opts, fx.Module("history-process", p.history()))
	}
	if p.internal != nil {
		opts = append(opts, fx.Module("internal", fx.Invoke(p.serveInternal)))
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

func newMetrics() (*prometheus.Registry, prometheus.Registerer) {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r, r
}

// bound is a server that is known only after those who call it have been made: services of one process call each other.
type (
	boundHistory  struct{ historypb.HistoryServiceServer }
	boundMatching struct {
		matchingpb.MatchingServiceServer
	}
)

// peers provides the clients: bound directly to a service of this process, or connected to its address.
func (p process) peers() (fx.Option, error) {
	historyServer, matchingServer := &boundHistory{}, &boundMatching{}
	var (
		historyClient  historypb.HistoryServiceClient   = historypb.LocalHistoryServiceClient{Server: historyServer}
		matchingClient matchingpb.MatchingServiceClient = matchingpb.LocalMatchingServiceClient{Server: matchingServer}
		conns          []*grpc.ClientConn
		bind           []fx.Option
	)
	if p.services.History {
		bind = append(bind, fx.Invoke(func(s historypb.HistoryServiceServer) { historyServer.HistoryServiceServer = s }))
	} else {
		conn, err := cluster.Dial(p.options.HistoryAddress)
		if err != nil {
			return nil, fmt.Errorf("--history-address: %w", err)
		}
		conns, historyClient = append(conns, conn), historypb.NewHistoryServiceClient(conn)
	}
	if p.services.Matching {
		bind = append(bind, fx.Invoke(func(s matchingpb.MatchingServiceServer) { matchingServer.MatchingServiceServer = s }))
	} else if p.options.MatchingAddress != "" {
		conn, err := cluster.Dial(p.options.MatchingAddress)
		if err != nil {
			return nil, fmt.Errorf("--matching-address: %w", err)
		}
		conns, matchingClient = append(conns, conn), matchingpb.NewMatchingServiceClient(conn)
	}
	bind = append(bind,
		fx.Provide(
			func() historypb.HistoryServiceClient { return historyClient },
			func() matchingpb.MatchingServiceClient { return matchingClient },
		),
		fx.Invoke(func(l fx.Lifecycle) {
			l.Append(fx.StopHook(func() (err error) {
				for _, c := range conns {
					err = errors.Join(err, c.Close())
				}
				return err
			}))
		}),
	)
	return fx.Options(bind...), nil
}

func (p process) prepareNamespaces(l fx.Lifecycle, r *namespace.Registry) {
	l.Append(fx.StartHook(func(ctx context.Context) error {
		if err := r.EnsureSystem(ctx); err != nil {
			return fmt.Errorf("create the system namespace: %w", err)
		}
		if err := r.Ensure(ctx, devRetention, p.namespaces...); err != nil {
			return fmt.Errorf("create namespaces: %w", err)
		}
		return nil
	}))
}

func (p process) matching() fx.Option {
	return fx.Options(
		fx.Provide(func(s persistence.Store, h historypb.HistoryServiceClient, m prometheus.Registerer) matching.Params {
			return matching.Params{Store: s, History: h, HostName: hostName(), Logger: p.log.Named("matching"), Metrics: m}
		}),
		matching.Module,
	)
}

func (p process) history() fx.Option {
	return fx.Options(
		fx.Provide(func(s persistence.Store, h historypb.HistoryServiceClient, m matchingpb.MatchingServiceClient, r *namespace.Registry, reg prometheus.Registerer) history.Params {
			return history.Params{Store: s, History: h, Matching: m, Namespaces: r, Owner: hostName(), Logger: p.log.Named("history"), Metrics: reg}
		}),
		history.Module,
	)
}

func (p process) frontend() (fx.Option, error) {
	cfg := frontend.Config{Listeners: p.public, ClusterID: clusterID}
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

// serveInternal lets the other processes in.
func (p process) serveInternal(in struct {
	fx.In
	Lifecycle fx.Lifecycle
	Shutdown  fx.Shutdowner
	History   historypb.HistoryServiceServer   `optional:"true"`
	Matching  matchingpb.MatchingServiceServer `optional:"true"`
}) {
	server := cluster.NewServer()
	if in.History != nil {
		historypb.RegisterHistoryServiceServer(server, in.History)
	}
	if in.Matching != nil {
		matchingpb.RegisterMatchingServiceServer(server, in.Matching)
	}
	in.Lifecycle.Append(fx.StartStopHook(
		func() {
			go func() {
				if err := server.Serve(p.internal); err != nil {
					p.fail(in.Shutdown, "serve internal gRPC", err)
				}
			}()
		},
		func(ctx context.Context) { stopGRPC(ctx, server) },
	))
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

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown-host"
	}
	return name
}

// fail ends the process: a server that cannot be reached must not look alive.
func (p process) fail(shutdown fx.Shutdowner, what string, err error) {
	p.log.Error("stopped serving", zap.String("operation", what), zap.Error(err))
	_ = shutdown.Shutdown(fx.ExitCode(1)) // it is stopping already
}
