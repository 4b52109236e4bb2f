package server

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
)

// WebUI is the Web UI on its own port. It is a client of the gRPC API like any other.
type WebUI struct {
	address string
	server  *uiserver.Server
	started bool
	done    chan struct{}
}

// webUIAt makes the Web UI that the option --ui-address asks for; nil: none.
func (p *process) webUIAt(address string) (*WebUI, error) {
	if address == "" {
		return nil, nil
	}
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("--ui-address: %w", err)
	}
	port, err := net.LookupPort("tcp", number)
	if err != nil {
		return nil, fmt.Errorf("--ui-address: %w", err)
	}
	return p.webUI("--ui-address", host, port)
}

// webUI makes the Web UI. When the API wants TLS, the UI reaches it through a socket that only this user may open.
func (p *process) webUI(flag, host string, port int) (*WebUI, error) {
	apiHost, apiPort, err := net.SplitHostPort(p.options.GRPCAddress)
	if err != nil {
		return nil, fmt.Errorf("address of the API for the Web UI: %w", err)
	}
	target := net.JoinHostPort(loopbackFor(apiHost), apiPort)
	if p.options.TLS.Enabled() {
		dir, err := os.MkdirTemp("", "perdure-ui-")
		if err != nil {
			return nil, fmt.Errorf("socket for the Web UI: %w", err)
		}
		socket := filepath.Join(dir, "api.sock")
		l, err := net.Listen("unix", socket)
		if err != nil {
			return nil, fmt.Errorf("socket for the Web UI: %w", err)
		}
		p.public = append(p.public, l)
		target = "unix://" + socket
	}
	return NewWebUI(flag, host, port, target, defaultNamespace, Version)
}

// defaultNamespace is the one that the Web UI opens.
const defaultNamespace = "default"

// NewWebUI makes the Web UI for an API at a gRPC target. The port must be free: it is tried here, because the module that
// serves the UI ends the process when it is not. The flag that chose it is named in the error.
func NewWebUI(flag, host string, port int, target, namespace, version string) (*WebUI, error) {
	address := net.JoinHostPort(host, fmt.Sprint(port))
	l, err := Listen(flag, address)
	if err != nil {
		return nil, err
	}
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("release %s: %w", address, err)
	}
	return &WebUI{
		address: address,
		done:    make(chan struct{}),
		server: uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
			TemporalGRPCAddress: target,
			Host:                host,
			Port:                port,
			EnableUI:            true,
			DefaultNamespace:    namespace,
			DisableNewsFetch:    true,
			HideLogs:            true,
			Distribution:        "server",
			DistributionVersion: version,
			CORS:                uiconfig.CORS{CookieInsecure: true},
		})),
	}, nil
}

// Start serves in the background.
func (u *WebUI) Start() {
	u.started = true
	go func() {
		defer close(u.done)
		_ = u.server.Start() // it returns nil on Stop and ends the process on anything else
	}()
}

// Stop ends serving, if it has begun, and waits for it.
func (u *WebUI) Stop() {
	if !u.started {
		return
	}
	u.server.Stop()
	<-u.done
}
