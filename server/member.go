package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/cluster/certs"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/service/history"
	"github.com/perdure/perdure/service/matching"
	"github.com/perdure/perdure/taskqueue"
)

const (
	// drainTimeout bounds the giving away of shards and partitions: whoever takes over does so within a second, or is in trouble.
	drainTimeout = 10 * time.Second
	// clockOffsetMax is how far this machine's clock may be from the database's. Deadlines do not depend on it, but what people read
	// in logs and certificates does.
	clockOffsetMax = 5 * time.Second
)

// names are the services of a process as membership has them.
func (s Services) names() string {
	var names []string
	for _, service := range []struct {
		name string
		runs bool
	}{{cluster.Frontend, s.Frontend}, {cluster.History, s.History}, {cluster.Matching, s.Matching}} {
		if service.runs {
			names = append(names, service.name)
		}
	}
	return strings.Join(names, ",")
}

// newMembership makes the process's part in the cluster; it does not join yet.
func (p process) newMembership(store persistence.Store, metrics prometheus.Registerer) (*cluster.Membership, error) {
	params := cluster.Params{
		Store: store, Logger: p.log.Named("cluster"), Metrics: metrics, ServerName: p.options.InternalTLS.ServerName,
		Self:    persistence.Member{ID: hostName() + "/" + uuid.NewString(), Service: p.services.names()},
		OnClock: func(database, local time.Time) { p.late.clock(database, local) }, DialOptions: p.tracing.DialOptions(),
	}
	if p.internal != nil {
		var err error
		if params.Self.Address, err = p.options.advertised(p.internal.Addr()); err != nil {
			return nil, err
		}
	}
	if tls := p.options.InternalTLS; tls.Enabled() {
		files := certs.Files{Cert: tls.Cert, Key: tls.Key, CA: tls.CA}
		files.Names.Pair, files.Names.CA = "--internal-tls-cert and --internal-tls-key", "--internal-tls-ca"
		var err error
		if params.Certs, err = certs.Load(files, p.log); err != nil {
			return nil, err
		}
	}
	return cluster.New(params)
}

// advertised is what other members are told to dial: what the option says, with the listener's port unless it names another. Without the
// option, of a listener on all addresses it is the one on the way to the database, which all members share, or another one of this machine.
func (o *Options) advertised(listener net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(listener.String())
	if err != nil {
		return "", fmt.Errorf("address of the internal listener: %w", err)
	}
	if o.AdvertiseAddress != "" {
		return withPort(o.AdvertiseAddress, port)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return listener.String(), nil
	}
	return net.JoinHostPort(localAddress(o.Postgres).String(), port), nil
}

// withPort completes an address that may be a host only.
func withPort(address, port string) (string, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	if !strings.Contains(host, ":") || net.ParseIP(host) != nil {
		return net.JoinHostPort(host, port), nil
	}
	host, named, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("--advertise-address: %w", err)
	}
	if named == "" {
		named = port
	}
	return net.JoinHostPort(host, named), nil
}

// localAddress is an address of this machine that others can dial.
func localAddress(database string) net.IP {
	if u, err := url.Parse(database); err == nil && u.Hostname() != "" {
		// Nothing is sent: this only asks for the route.
		if conn, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), "9")); err == nil {
			defer conn.Close()
			if local, ok := conn.LocalAddr().(*net.UDPAddr); ok && !local.IP.IsLoopback() {
				return local.IP
			}
		}
	}
	addresses, _ := net.InterfaceAddrs() // none: there is the loopback address
	for _, a := range addresses {
		if network, ok := a.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
			return network.IP
		}
	}
	return net.IPv4(127, 0, 0, 1)
}

// late is what the store and membership tell services that are made after them.
type late struct {
	clock   func(database, local time.Time)
	changed func(reason string)
}

func newLate() *late {
	return &late{clock: func(time.Time, time.Time) {}, changed: func(string) {}}
}

// clusterPeers provides the clients that find the owners of shards and partitions.
func (p process) clusterPeers() fx.Option {
	bound := &bound{}
	return fx.Options(
		bound.bind(p.services),
		fx.Provide(
			p.newMembership,
			func(m *cluster.Membership) historypb.HistoryServiceClient {
				if !p.services.History {
					return cluster.NewHistoryClient(m, nil)
				}
				return cluster.NewHistoryClient(m, historypb.LocalHistoryServiceClient{Server: &bound.history})
			},
			func(m *cluster.Membership) matchingpb.MatchingServiceClient {
				if !p.services.Matching {
					return taskqueue.NewClient(cluster.NewMatchingClient(m, nil))
				}
				return taskqueue.NewClient(cluster.NewMatchingClient(m, matchingpb.LocalMatchingServiceClient{Server: &bound.matching}))
			},
		),
	)
}

// serveInternal lets the other members in.
func (p process) serveInternal(in struct {
	fx.In
	Lifecycle fx.Lifecycle
	Shutdown  fx.Shutdowner
	Cluster   *cluster.Membership
	History   historypb.HistoryServiceServer   `optional:"true"`
	Matching  matchingpb.MatchingServiceServer `optional:"true"`
}) {
	server := in.Cluster.NewServer(p.tracing.ServerOptions()...)
	if in.History != nil {
		historypb.RegisterHistoryServiceServer(server, in.History)
	}
	if in.Matching != nil {
		matchingpb.RegisterMatchingServiceServer(server, in.Matching)
	}
	in.Lifecycle.Append(fx.StartStopHook(
		func() {
			go func() {
				if err := server.Serve(p.internal); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
					p.fail(in.Shutdown, "serve internal gRPC", err)
				}
			}()
		},
		func(ctx context.Context) { stopGRPC(ctx, server) },
	))
}

// join makes the process a member while it runs.
func (p process) join(l fx.Lifecycle, m *cluster.Membership) {
	p.health.Require("membership", func(context.Context) error {
		if err := leaseError(m); err != nil {
			return err
		}
		return clockError(m)
	})
	p.health.Describe("lease", leasePart(m))
	p.health.Describe("clock", clockPart(m))
	p.health.Describe("peers", peersPart(m))
	l.Append(fx.StartStopHook(
		func(ctx context.Context) error {
			if err := m.Join(ctx); err != nil {
				return err
			}
			if err := apart(m); err != nil {
				return errors.Join(err, m.Leave(ctx))
			}
			self := m.Self()
			p.log.Info("joined the cluster", zap.String("member", self.ID), zap.String("internal", self.Address), zap.Int("members", len(m.View().Members)))
			return nil
		},
		func(ctx context.Context) {
			if err := m.Leave(ctx); err != nil { // the lease runs out
				p.log.Warn("the others are not told that this process has left", zap.Error(err))
			}
		},
	))
}

func leaseError(m *cluster.Membership) error {
	if !m.Valid() {
		return errors.New("the lease of this process in the database has run out")
	}
	return nil
}

func clockError(m *cluster.Membership) error {
	if offset := m.ClockOffset(); offset.Abs() > clockOffsetMax {
		return fmt.Errorf("the clocks of this machine and of the database differ by %v", offset.Round(time.Millisecond))
	}
	return nil
}

// apart refuses to join members on other machines if one side can be reached only from its own.
func apart(m *cluster.Membership) error {
	now := time.Now().Add(m.ClockOffset())
	self := m.Self()
	for _, other := range m.View().Members {
		host, _, _ := strings.Cut(other.ID, "/")
		if host == hostName() || other.Expires.Before(now) {
			continue
		}
		const remedy = "give it an address that the others can dial (--internal-address or --grpc-address, --advertise-address)"
		switch {
		case loopback(self.Address):
			return fmt.Errorf("this process listens to other services at %s only, but there is a member of the cluster on machine %s: %s", self.Address, host, remedy)
		case loopback(other.Address):
			return fmt.Errorf("a member of the cluster on machine %s listens at %s only: %s", host, other.Address, remedy)
		}
	}
	return nil
}

func loopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// place has membership decide what the services of this process own. At its end everything is given to the others, before the
// services stop.
func (p process) place(in struct {
	fx.In
	Lifecycle fx.Lifecycle
	Cluster   *cluster.Membership
	History   *history.Service  `optional:"true"`
	Matching  *matching.Service `optional:"true"`
}) {
	var parts *cluster.Partitions
	if in.Matching != nil {
		parts = cluster.NewPartitions(in.Cluster, in.Matching)
		p.health.Describe("partitions", partitionsPart(in.Matching))
		in.Lifecycle.Append(fx.StartStopHook(parts.Start, func(ctx context.Context) { p.drain(ctx, "partitions", parts.Drain) }))
	}
	if in.History != nil {
		shards := cluster.NewShards(in.Cluster, in.History)
		in.History.PlacedBy(shards)
		p.late.clock = in.History.SetClock
		p.health.Require("shards", func(context.Context) error {
			if !shards.Ready() {
				return errors.New("this process has not got its shards yet")
			}
			return nil
		})
		p.health.Describe("shards", shardsPart(in.History, in.Cluster, shards))
		in.Lifecycle.Append(fx.StartStopHook(shards.Start, func(ctx context.Context) { p.drain(ctx, "shards", shards.Drain) }))
	}
	p.late.changed = func(reason string) {
		if in.History != nil {
			in.History.DatabaseChanged(reason)
		}
		if in.Matching != nil {
			go in.Matching.Release(func(*matchingpb.Partition) bool { return false }) // the store waits for this function
		}
	}
}

// drain gives away what this process owns. What cannot be given is taken by the others once it is gone.
func (p process) drain(ctx context.Context, what string, drain func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := drain(ctx); err != nil {
		p.log.Warn("not everything was handed over", zap.String("what", what), zap.Error(err))
	}
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown-host"
	}
	return name
}
