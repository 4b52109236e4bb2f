package cluster

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an operator can watch of the cluster, as this process sees it.
type metrics struct {
	members       *prometheus.GaugeVec // by service
	gaps          prometheus.Counter
	renewFailures prometheus.Counter
	unreachable   prometheus.Counter
	retries       *prometheus.CounterVec // by service and reason
	shardsTaken   prometheus.Counter
	shardsGiven   prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "perdure", Subsystem: "cluster", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	m := &metrics{
		members:       prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("members", "Live members.")), []string{"service"}),
		gaps:          counter("lease_gaps_total", "Times that this member's lease had run out, or the process had been frozen, and it gave up what it owned."),
		renewFailures: counter("lease_renewal_failures_total", "Failed renewals of this member's lease."),
		unreachable:   counter("members_unreachable_total", "Members passed over before the end of their lease because they could not be reached."),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts(opts("call_retries_total",
			"Calls to other members that were made again, by reason: moved, unsent, lost, unavailable, no_owner.")), []string{"service", "reason"}),
		shardsTaken: counter("shards_taken_total", "Shards that this member has taken."),
		shardsGiven: counter("shards_released_total", "Shards that this member has released to others."),
	}
	if registerer != nil {
		registerer.MustRegister(m.members, m.gaps, m.renewFailures, m.unreachable, m.retries, m.shardsTaken, m.shardsGiven)
	}
	return m
}

func (m *metrics) show(v *View) {
	for _, service := range []string{Frontend, History, Matching} {
		m.members.WithLabelValues(service).Set(float64(len(v.Live(service))))
	}
}
