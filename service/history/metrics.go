package history

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an operator can watch of the history service.
type metrics struct {
	transitions *prometheus.CounterVec // by kind: durable, volatile
	commits     *prometheus.HistogramVec
	runs        prometheus.Gauge
	cacheBytes  prometheus.Gauge
	effects     prometheus.Gauge
	effectTries *prometheus.CounterVec
	timers      prometheus.Gauge
	shards      prometheus.Gauge
	busy        prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "perdure", Subsystem: "history", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts(opts(name, help)))
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(opts(name, help)), []string{label})
	}
	m := &metrics{
		transitions: counters("transitions_total", "State transitions, by kind: durable (one commit each), volatile.", "kind"),
		commits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "perdure", Subsystem: "history", Name: "commit_seconds", Help: "Latency of commits, by result.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"result"}),
		runs:        gauge("cached_runs", "Runs in memory."),
		cacheBytes:  gauge("cached_bytes", "Approximate memory of the cached runs."),
		effects:     gauge("effects_pending", "Effects that are being carried out."),
		effectTries: counters("effect_tries_total", "Attempts to carry out an effect, by result: done, failed.", "result"),
		timers:      gauge("timers", "Wake-ups in memory."),
		shards:      gauge("shards_owned", "Shards that this host owns."),
		busy: prometheus.NewCounter(prometheus.CounterOpts(opts("busy_total",
			"Calls refused because too many others waited for the same execution."))),
	}
	if registerer != nil {
		registerer.MustRegister(m.transitions, m.commits, m.runs, m.cacheBytes, m.effects, m.effectTries, m.timers, m.shards, m.busy)
	}
	return m
}
