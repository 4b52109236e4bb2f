package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"

	"github.com/perdure/perdure/persistence/sql/sqlite"
	"github.com/perdure/perdure/service/frontend"
)

// devRetention is how long the namespaces that a server makes by itself keep closed workflows.
const devRetention = 72 * time.Hour

// DevOptions are those of the development server.
type DevOptions struct {
	Options

	DBFile   string
	IP       string
	Port     int
	UIPort   int
	HTTPPort int
	Headless bool
}

// uiPortOffset is between the API's port and the Web UI's, unless --ui-port says otherwise.
const uiPortOffset = 1000

// AddFlags registers the development server's flags.
func (o *DevOptions) AddFlags(f *pflag.FlagSet) {
	o.Options.AddFlags(f)
	f.StringVar(&o.DBFile, "db-filename", "", "keep state in this SQLite `file`, made if it does not exist (default: in memory)")
	f.StringVar(&o.IP, "ip", "127.0.0.1", "`address` to listen on; 0.0.0.0 lets other machines in")
	f.IntVarP(&o.Port, "port", "p", 7233, "`port` of the gRPC API")
	f.IntVar(&o.UIPort, "ui-port", 0, "`port` of the Web UI (default: --port + 1000)")
	f.IntVar(&o.HTTPPort, "http-port", 0, "`port` of the HTTP/JSON API, health, metrics and pprof (default: none)")
	f.BoolVar(&o.Headless, "headless", false, "do not serve the Web UI")
	f.StringSliceVarP(&o.Namespaces, "namespace", "n", nil, "`name` of a namespace to make besides \"default\"; may be repeated")
	o.AddLoadFlags(f, frontend.DevLoadLimits())
	setDefault(f, "log-level", "warn")
	setDefault(f, "log-format", "text")
}

func setDefault(f *pflag.FlagSet, name, value string) {
	flag := f.Lookup(name)
	flag.DefValue = value
	_ = flag.Value.Set(value) // strings take any value
}

// RunDev runs the development server until ctx ends, and says on out where everything is.
func RunDev(ctx context.Context, o DevOptions, out io.Writer) error {
	log, err := NewLogger(o.LogLevel, o.LogFormat)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	o.GRPCAddress = net.JoinHostPort(o.IP, fmt.Sprint(o.Port))
	o.Namespaces = append([]string{"default"}, o.Namespaces...)
	p := process{options: o.Options, services: AllServices, log: log, health: NewHealth(), metrics: newMetrics()}
	public, err := Listen("--port", o.GRPCAddress)
	if err != nil {
		return err
	}
	p.public = []net.Listener{public}
	if o.HTTPPort != 0 {
		if p.http, err = Listen("--http-port", net.JoinHostPort(o.IP, fmt.Sprint(o.HTTPPort))); err != nil {
			return err
		}
	}
	ui, err := o.webUI(&p)
	if err != nil {
		return err
	}
	if err := p.openTracing(ctx); err != nil {
		return err
	}
	defer p.closeTracing()
	store, err := sqlite.Open(ctx, sqlite.Options{Path: o.DBFile, Logger: log.Named("sqlite")})
	if err != nil {
		return err
	}
	p.store = measure(store, p.metrics)
	p.health.Describe("database", databasePart(store))
	if ui != nil {
		defer ui.Stop()
	}
	return p.run(ctx, func() {
		if ui != nil {
			ui.Start()
		}
		o.banner(out, ui)
	})
}

func (o *DevOptions) webUI(p *process) (*WebUI, error) {
	if o.Headless {
		return nil, nil
	}
	port := o.UIPort
	if port == 0 {
		port = o.Port + uiPortOffset
	}
	return p.webUI("--ui-port", o.IP, port)
}

// loopbackFor is an address under which this machine reaches a listener.
func loopbackFor(ip string) string {
	switch ip {
	case "0.0.0.0":
		return "127.0.0.1"
	case "::":
		return "::1"
	}
	return ip
}

func (o *DevOptions) banner(out io.Writer, ui *WebUI) {
	state := "in memory, lost on exit (keep it with --db-filename FILE)"
	if o.DBFile != "" {
		state = o.DBFile
	}
	fmt.Fprintf(out, "Perdure %s, development server\n\n", Version)
	fmt.Fprintf(out, "  API         %s\n", o.GRPCAddress)
	if ui != nil {
		fmt.Fprintf(out, "  Web UI      http://%s\n", net.JoinHostPort(loopbackFor(o.IP), portOf(ui.address)))
	}
	if o.HTTPPort != 0 {
		fmt.Fprintf(out, "  HTTP API    http://%s\n", net.JoinHostPort(loopbackFor(o.IP), fmt.Sprint(o.HTTPPort)))
	}
	fmt.Fprintf(out, "  State       %s\n", state)
	fmt.Fprintf(out, "  Namespaces  %v\n\nCtrl-C stops it.\n", o.Namespaces)
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// publicCredentials are TLS for everybody who comes over the network; a Unix socket is guarded by its file's rights.
type publicCredentials struct {
	credentials.TransportCredentials
}

func (c publicCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.LocalAddr().Network() == "unix" {
		return conn, localAuth{}, nil
	}
	return c.TransportCredentials.ServerHandshake(conn)
}

func (c publicCredentials) Clone() credentials.TransportCredentials {
	return publicCredentials{c.TransportCredentials.Clone()}
}

type localAuth struct{}

func (localAuth) AuthType() string { return "local" }
