package server

import (
	"fmt"
	"net"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
)

// WebUI is the Web UI on its own port. It is a client of the gRPC API like any other.
type WebUI struct {
	address string
	server  *uiserver.Server
	done    chan struct{}
}

// NewWebUI makes the Web UI for an API at a gRPC target. The port must be free: it is tried here, because the module that
// serves the UI ends the process when it is not.
func NewWebUI(host string, port int, target, namespace, version string) (*WebUI, error) {
	address := net.JoinHostPort(host, fmt.Sprint(port))
	l, err := Listen("--ui-port", address)
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
	go func() {
		defer close(u.done)
		_ = u.server.Start() // it returns nil on Stop and ends the process on anything else
	}()
}

// Stop ends serving and waits for it.
func (u *WebUI) Stop() {
	u.server.Stop()
	<-u.done
}
