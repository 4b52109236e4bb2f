package frontend

import (
	"context"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// callMetrics count and time calls. Labels are bounded: RPCs and codes are few and known.
type callMetrics struct {
	requests        *prometheus.CounterVec
	seconds         *prometheus.HistogramVec
	longPollSeconds *prometheus.HistogramVec
	longPolls       *prometheus.GaugeVec
}

func newCallMetrics(registerer prometheus.Registerer) (*callMetrics, error) {
	const rpc, code = "rpc", "code"
	t := &callMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perdure_frontend_requests_total",
			Help: "Calls of the public API that were answered, by RPC and status code.",
		}, []string{rpc, code}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "perdure_frontend_request_seconds",
			Help:    "Duration of calls of the public API that do not wait for others, by RPC.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s
		}, []string{rpc}),
		longPollSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "perdure_frontend_long_poll_seconds",
			Help:    "Duration of calls that wait for others (polls, queries, updates, history with wait), by RPC.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 15), // 5 ms to 82 s
		}, []string{rpc}),
		longPolls: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "perdure_frontend_long_polls",
			Help: "Calls that wait for others at this moment, by RPC.",
		}, []string{rpc}),
	}
	for _, c := range []prometheus.Collector{t.requests, t.seconds, t.longPollSeconds, t.longPolls} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *callMetrics) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (response any, err error) {
	rpc := path.Base(info.FullMethod)
	seconds := t.seconds
	if isLongPoll(request) {
		seconds = t.longPollSeconds
		t.longPolls.WithLabelValues(rpc).Inc()
		defer t.longPolls.WithLabelValues(rpc).Dec()
	}
	begun := time.Now()
	code := codes.Internal // of a panic, which passes through here
	defer func() {
		seconds.WithLabelValues(rpc).Observe(time.Since(begun).Seconds())
		t.requests.WithLabelValues(rpc, code.String()).Inc()
	}()
	response, err = next(ctx, request)
	code = status.Code(err)
	return response, err
}
