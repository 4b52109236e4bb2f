package history

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an operator can watch of the history service.
type metrics struct {
	transitions *prometheus.CounterVec // by kind: durable, volatile
	commits     *prometheus.HistogramVec
	effectTries *prometheus.CounterVec
	lookups     *prometheus.CounterVec // of runs in the cache, by result
	busy        prometheus.Counter
	cacheHits   prometheus.Counter
	cacheMisses prometheus.Counter
	evictions   prometheus.Counter
}

func metricOpts(name, help string) prometheus.Opts {
	return prometheus.Opts{Namespace: "perdure", Subsystem: "history", Name: name, Help: help}
}

func newMetrics() *metrics {
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(metricOpts(name, help)), []string{label})
	}
	lookups := counters("cache_lookups_total", "Runs looked for in memory, by result: hit, miss (then the database was asked).", "result")
	return &metrics{
		cacheHits:   lookups.WithLabelValues("hit"),
		cacheMisses: lookups.WithLabelValues("miss"),
		lookups:     lookups,
		evictions:   prometheus.NewCounter(prometheus.CounterOpts(metricOpts("cache_evictions_total", "Idle runs forgotten because memory was short."))),
		transitions: counters("transitions_total", "State transitions, by kind: durable (one commit each), volatile.", "kind"),
		commits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "perdure", Subsystem: "history", Name: "commit_seconds",
			Help:    "Latency of commits, by result: ok, fenced, conflict, unknown, failed.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"result"}),
		effectTries: counters("effect_tries_total", "Attempts to carry out an effect, by result: done, failed.", "result"),
		busy: prometheus.NewCounter(prometheus.CounterOpts(metricOpts("busy_total",
			"Calls refused because too many others waited for the same execution."))),
	}
}

// register exports the metrics, and gauges that are read when they are asked for.
func (s *Service) register(registerer prometheus.Registerer) {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(metricOpts(name, help)), value)
	}
	m := s.metrics
	registerer.MustRegister(m.transitions, m.commits, m.effectTries, m.busy, m.lookups, m.evictions,
		gauge("cached_runs", "Runs in memory.", func() float64 {
			runs, _ := s.cache.size()
			return float64(runs)
		}),
		gauge("cached_bytes", "Approximate memory of the cached runs.", func() float64 {
			_, bytes := s.cache.size()
			return float64(bytes)
		}),
		gauge("effects_pending", "Effects that are being carried out.", func() float64 { return float64(s.effects.count()) }),
		gauge("timers", "Wake-ups in memory.", func() float64 { return float64(s.timers.count()) }),
		gauge("shards_recovering", "Shards of which the work under way at their former owner is being resumed.",
			func() float64 { return float64(s.recovering.Load()) }),
		gauge("shards_owned", "Shards that this host owns.", func() float64 { return float64(s.ownership.count()) }),
	)
}
