package matching

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an operator can watch of matching.
type metrics struct {
	partitions  prometheus.Gauge
	added       *prometheus.CounterVec   // by result: matched, stored, sticky_gone, failed
	started     *prometheus.CounterVec   // by result: started, obsolete, retried
	polls       *prometheus.CounterVec   // by result: task, query, empty, failed
	pollWaits   *prometheus.HistogramVec // by the same result
	dropped     prometheus.Counter
	storeErrors *prometheus.CounterVec // by operation
	tokens      prometheus.Counter
	forwarded   *prometheus.CounterVec // by kind: task, poll
	resized     *prometheus.CounterVec // by direction: up, down
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "perdure", Subsystem: "matching", Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		partitions: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "perdure", Subsystem: "matching", Name: "partitions", Help: "Task queue partitions that are loaded.",
		}),
		added: counter("tasks_added_total",
			"Tasks offered, by result: matched without being stored, stored, sticky_gone (sent to the normal queue), failed.", "result"),
		started: counter("task_starts_total",
			"Attempts to start a task for a poll, by result: started, obsolete (dropped), retried (outcome unknown).", "result"),
		polls: counter("polls_total", "Polls answered, by result: task, query, empty, failed.", "result"),
		pollWaits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "perdure", Subsystem: "matching", Name: "poll_wait_seconds",
			Help:    "How long polls waited, by result: task, query, empty, failed.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9), // 1 ms to 65 s
		}, []string{"result"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "perdure", Subsystem: "matching", Name: "tasks_expired_total", Help: "Tasks dropped because they had expired while they waited.",
		}),
		tokens: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "perdure", Subsystem: "matching", Name: "tokens_granted_total", Help: "Tokens of rate limits given to partitions.",
		}),
		forwarded:   counter("forwarded_total", "Tasks and polls that found no match and were sent to the parent partition, by kind: task, poll.", "kind"),
		resized:     counter("resized_total", "Changes of a queue's number of partitions, by direction: up, down.", "direction"),
		storeErrors: counter("store_errors_total", "Failed storage operations: load, take, write, read, count, delete, read data, write data.", "operation"),
	}
	if registerer != nil {
		registerer.MustRegister(m.partitions, m.added, m.started, m.polls, m.pollWaits, m.dropped, m.storeErrors, m.tokens, m.forwarded, m.resized)
	}
	return m
}
