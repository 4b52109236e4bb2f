package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence/sql/group"
	"github.com/perdure/perdure/persistence/sql/postgres"
	"github.com/perdure/perdure/service/frontend"
	"github.com/perdure/perdure/telemetry"
)

// Run runs services on PostgreSQL until ctx ends.
func Run(ctx context.Context, o Options, services Services) error {
	tuneGC()
	log, err := NewLogger(o.LogLevel, o.LogFormat)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	p := process{options: o, services: services, log: log, member: true, late: newLate(), health: NewHealth(), metrics: newMetrics()}
	if err := p.listen(); err != nil {
		return err
	}
	ui, err := p.webUIAt(o.UIAddress)
	if err != nil {
		return err
	}
	if err := p.openTracing(ctx); err != nil {
		return err
	}
	defer p.closeTracing()
	if err := p.openPostgres(ctx); err != nil {
		return err
	}
	if ui != nil {
		defer ui.Stop()
	}
	return p.run(ctx, func() {
		if ui != nil {
			ui.Start()
		}
		log.Info("serving", zap.String("version", Version), zap.String("grpc", o.GRPCAddress), zap.String("http", o.HTTPAddress),
			zap.String("ui", o.UIAddress))
	})
}

// openPostgres opens the database, with its metrics and health.
func (p *process) openPostgres(ctx context.Context) error {
	store, err := postgres.Open(ctx, postgres.Options{
		URL: p.options.Postgres, Migrate: true, Logger: p.log.Named("postgres"), OnServerChange: func(reason string) { p.late.changed(reason) },
		Group: group.Options{Observe: newGroupMetrics(p.metrics).observe},
	})
	if err != nil {
		return oneLine(err)
	}
	exportStats(store, p.metrics)
	p.store = measure(store, p.metrics)
	p.health.Require("database", func(ctx context.Context) error { return store.Ping(ctx, true) })
	p.health.Describe("database", databasePart(store))
	p.health.Describe("connections", poolPart(store))
	return nil
}

// oneLine is an error as a person reads it at the end of a failed start: a driver's may list each address that it tried.
func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }

// listen opens the process's ports early, so that a taken one is told before anything is started.
func (p *process) listen() error {
	l, err := Listen("--grpc-address", p.options.GRPCAddress)
	if err != nil {
		return err
	}
	switch {
	case !p.services.Frontend:
		p.internal = l
	case p.services.History || p.services.Matching:
		if p.internal, err = Listen("--internal-address", p.options.InternalAddress); err != nil {
			return err
		}
		fallthrough
	default:
		p.public = []net.Listener{l}
	}
	if p.options.HTTPAddress == "" {
		return nil
	}
	p.http, err = Listen("--http-address", p.options.HTTPAddress)
	return err
}

// run starts the process, calls started, and stops it in order when ctx ends or a part of it fails.
func (p process) run(ctx context.Context, started func()) error {
	defer p.closeStore()
	app, err := p.app()
	if err != nil {
		return fmt.Errorf("compose the server: %w", err)
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := app.Start(startCtx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	p.health.Started()
	started()
	var failed error
	select {
	case <-ctx.Done():
	case s := <-app.Wait():
		if s.ExitCode != 0 {
			failed = errors.New("a part of the server has failed; see the log")
		}
	}
	p.health.Stopping()
	stopCtx, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancelStop()
	if err := app.Stop(stopCtx); err != nil {
		return errors.Join(failed, fmt.Errorf("stop: %w", err))
	}
	return failed
}

func (p process) closeStore() {
	if err := p.store.Close(); err != nil {
		p.log.Error("close the database", zap.Error(err))
	}
}

// openTracing begins to send traces, if that is asked for.
func (p *process) openTracing(ctx context.Context) (err error) {
	p.tracing, err = telemetry.Open(ctx, telemetry.Options{
		Endpoint: p.options.OTLPEndpoint, Service: "perdure-" + strings.ReplaceAll(p.services.names(), ",", "-"),
		Version: Version, Instance: hostName(), Logger: p.log,
	})
	return err
}

func (p process) closeTracing() {
	if err := p.tracing.Close(context.Background()); err != nil {
		p.log.Warn("the last traces could not be sent", zap.Error(err))
	}
}

// serveHTTP serves health, metrics and profiles, and on a frontend the HTTP/JSON API.
func (p process) serveHTTP(in struct {
	fx.In
	Lifecycle fx.Lifecycle
	Shutdown  fx.Shutdowner
	Metrics   *prometheus.Registry
	API       *frontend.LocalConn `optional:"true"`
	Chain     *frontend.Chain     `optional:"true"`
}) error {
	if p.http == nil {
		return nil
	}
	var api http.Handler
	if in.API != nil {
		var err error
		if api, err = frontend.NewHTTPGateway(in.API); err != nil {
			return fmt.Errorf("make the HTTP API: %w", err)
		}
	}
	server := NewHTTPServer(p.health, in.Metrics, api, p.log)
	in.Lifecycle.Append(fx.StartStopHook(
		func() {
			go func() {
				if err := server.Serve(p.http); !errors.Is(err, http.ErrServerClosed) {
					p.fail(in.Shutdown, "serve HTTP", err)
				}
			}()
		},
		func(ctx context.Context) error {
			if in.Chain != nil {
				in.Chain.Drain()
			}
			return server.Shutdown(ctx)
		},
	))
	return nil
}
