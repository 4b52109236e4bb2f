package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

const (
	// readyTimeout bounds a readiness check: a database that does not answer in time is not ready.
	readyTimeout = 2 * time.Second
	// headerTimeout bounds how long a client of the HTTP port may take for its header.
	headerTimeout = 5 * time.Second
	// idleTimeout is how long a connection is kept for the next request.
	idleTimeout = 2 * time.Minute
)

// Health answers for the process. Live says that the process runs; ready, that it can serve.
type Health struct {
	started  atomic.Bool
	stopping atomic.Bool
	// required must all hold; it is complete before Started.
	required []requirement
	// parts are what a deep check looks at; complete before Started, too.
	parts []part

	deepMu   sync.Mutex
	deepLast deepReport
}

// requirement is something that the process depends on.
type requirement struct {
	what  string
	check func(ctx context.Context) error
}

// NewHealth makes a process's health.
func NewHealth() *Health { return &Health{} }

// Require makes the process unready while check fails. All requirements must be known before Started.
func (h *Health) Require(what string, check func(ctx context.Context) error) {
	h.required = append(h.required, requirement{what, check})
}

// Started marks the process as serving.
func (h *Health) Started() { h.started.Store(true) }

// Stopping marks the process as leaving: it is not ready any more.
func (h *Health) Stopping() { h.stopping.Store(true) }

// running is nil between start and stop.
func (h *Health) running() error {
	switch {
	case h.stopping.Load():
		return errors.New("the process is stopping")
	case !h.started.Load():
		return errors.New("the process is starting")
	}
	return nil
}

func (h *Health) ready(ctx context.Context) error {
	if err := h.running(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, r := range h.required {
		if err := r.check(ctx); err != nil {
			return fmt.Errorf("%s: %w", r.what, err)
		}
	}
	return nil
}

// NewHTTPServer serves /healthz/live, /healthz/ready, /healthz/deep, /metrics, /debug/pprof/ and, if api is not nil, the HTTP/JSON API on
// every other path.
func NewHTTPServer(h *Health, metrics prometheus.Gatherer, api http.Handler, log *zap.Logger) *http.Server {
	mux := http.NewServeMux()
	if api != nil {
		mux.Handle("/", api)
	}
	mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, r *http.Request) { answer(w, h.ready(r.Context())) })
	mux.HandleFunc("GET /healthz/deep", h.serveDeep)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, ErrorLog: zap.NewStdLog(log)}
}

func answer(w http.ResponseWriter, err error) {
	body := map[string]string{"status": "ok"}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		body = map[string]string{"status": "unavailable", "reason": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}

// Listen opens a TCP port; the error names the flag that chose it.
func Listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, portError(flag, address, err)
	}
	return l, nil
}
