package server

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/group"
	"github.com/perdure/perdure/persistence/sql/postgres"
)

// measured is a store whose operations are timed, as their callers see them: the wait for a connection or a group included.
type measured struct {
	persistence.Store
	seconds *prometheus.HistogramVec
}

// measure times the operations of a store.
func measure(store persistence.Store, registerer prometheus.Registerer) persistence.Store {
	m := measured{Store: store, seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "perdure", Subsystem: "store", Name: "operation_seconds",
		Help:    "Duration of storage operations, by operation and result: ok (the database answered), failed.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9), // 0.5 ms to 33 s
	}, []string{"operation", "result"})}
	registerer.MustRegister(m.seconds)
	return m
}

// done is to be deferred at the start of an operation.
func (m measured) done(operation string, begun time.Time, err *error) {
	result := "ok"
	switch {
	case *err == nil,
		errors.Is(*err, persistence.ErrNotFound), errors.Is(*err, persistence.ErrConflict), errors.Is(*err, persistence.ErrFenced):
	default:
		result = "failed"
	}
	m.seconds.WithLabelValues(operation, result).Observe(time.Since(begun).Seconds())
}

func (m measured) TakeShards(
	ctx context.Context, owner string, shards []persistence.ShardID,
) (epochs map[persistence.ShardID]persistence.Epoch, err error) {
	defer m.done("take_shards", time.Now(), &err)
	return m.Store.TakeShards(ctx, owner, shards)
}

func (m measured) RetakeShards(
	ctx context.Context, owner string, shards []persistence.ShardID,
) (epochs map[persistence.ShardID]persistence.Epoch, err error) {
	defer m.done("retake_shards", time.Now(), &err)
	return m.Store.RetakeShards(ctx, owner, shards)
}

func (m measured) Commit(ctx context.Context, mutation *persistence.Mutation) (err error) {
	defer m.done("commit", time.Now(), &err)
	return m.Store.Commit(ctx, mutation)
}

func (m measured) LoadRun(ctx context.Context, key persistence.ExecutionKey, runID string) (run *persistence.Run, err error) {
	defer m.done("load_run", time.Now(), &err)
	return m.Store.LoadRun(ctx, key, runID)
}

func (m measured) ListRuns(ctx context.Context, key persistence.ExecutionKey, limit int) (runs []*persistence.Run, err error) {
	defer m.done("list_runs", time.Now(), &err)
	return m.Store.ListRuns(ctx, key, limit)
}

func (m measured) ReadHistory(ctx context.Context, r persistence.HistoryRange) (rows []persistence.Transition, err error) {
	defer m.done("read_history", time.Now(), &err)
	return m.Store.ReadHistory(ctx, r)
}

func (m measured) ReadTransitions(
	ctx context.Context, bucket int32, runID string, fromSeq int64, limit int,
) (rows []persistence.Transition, err error) {
	defer m.done("read_transitions", time.Now(), &err)
	return m.Store.ReadTransitions(ctx, bucket, runID, fromSeq, limit)
}

func (m measured) ScanWakeups(
	ctx context.Context, shards []persistence.ShardID, before time.Time, after persistence.ScanCursor, limit int,
) (found []persistence.RunRef, next persistence.ScanCursor, err error) {
	defer m.done("scan_wakeups", time.Now(), &err)
	return m.Store.ScanWakeups(ctx, shards, before, after, limit)
}

func (m measured) ScanEffects(
	ctx context.Context, shards []persistence.ShardID, after persistence.ScanCursor, limit int,
) (found []persistence.RunRef, next persistence.ScanCursor, err error) {
	defer m.done("scan_effects", time.Now(), &err)
	return m.Store.ScanEffects(ctx, shards, after, limit)
}

func (m measured) DeleteRun(
	ctx context.Context, key persistence.ExecutionKey, epoch persistence.Epoch, bucket int32, runID string,
) (err error) {
	defer m.done("delete_run", time.Now(), &err)
	return m.Store.DeleteRun(ctx, key, epoch, bucket, runID)
}

func (m measured) ListVisibility(
	ctx context.Context, namespaceID string, filter persistence.Filter, after *persistence.VisibilityCursor, limit int,
) (rows []*persistence.VisibilityRow, err error) {
	defer m.done("list_visibility", time.Now(), &err)
	return m.Store.ListVisibility(ctx, namespaceID, filter, after, limit)
}

func (m measured) CountVisibility(
	ctx context.Context, namespaceID string, filter persistence.Filter, groupBy *persistence.Field,
) (count int64, groups []persistence.GroupCount, err error) {
	defer m.done("count_visibility", time.Now(), &err)
	return m.Store.CountVisibility(ctx, namespaceID, filter, groupBy)
}

func (m measured) TakeQueue(ctx context.Context, owner string, key persistence.QueueKey) (q *persistence.Queue, err error) {
	defer m.done("take_queue", time.Now(), &err)
	return m.Store.TakeQueue(ctx, owner, key)
}

func (m measured) WriteTasks(
	ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, tasks []persistence.BacklogTask,
) (err error) {
	defer m.done("write_tasks", time.Now(), &err)
	return m.Store.WriteTasks(ctx, key, epoch, tasks)
}

func (m measured) ReadTasks(
	ctx context.Context, key persistence.QueueKey, level int16, after persistence.TaskKey, limit int,
) (tasks []persistence.BacklogTask, err error) {
	defer m.done("read_tasks", time.Now(), &err)
	return m.Store.ReadTasks(ctx, key, level, after, limit)
}

func (m measured) UpdateQueue(
	ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, metadata []byte, ranges []persistence.TaskRange,
) (err error) {
	defer m.done("update_queue", time.Now(), &err)
	return m.Store.UpdateQueue(ctx, key, epoch, metadata, ranges)
}

func (m measured) GetNamespace(ctx context.Context, id, name string) (r *persistence.NamespaceRecord, err error) {
	defer m.done("get_namespace", time.Now(), &err)
	return m.Store.GetNamespace(ctx, id, name)
}

func (m measured) RenewMember(
	ctx context.Context, member persistence.Member, ttl time.Duration,
) (members []persistence.Member, now time.Time, err error) {
	defer m.done("renew_member", time.Now(), &err)
	return m.Store.RenewMember(ctx, member, ttl)
}

// groupMetrics watch group commit: how many writes share a transaction, and how long one takes.
type groupMetrics struct {
	seconds *prometheus.HistogramVec
	members prometheus.Histogram
	bytes   prometheus.Histogram
}

func newGroupMetrics(registerer prometheus.Registerer) *groupMetrics {
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: "perdure", Subsystem: "store", Name: name, Help: help, Buckets: buckets}
	}
	g := &groupMetrics{
		seconds: prometheus.NewHistogramVec(histogram("group_seconds",
			"Duration of group commits in the database, by result: ok, unknown, failed.",
			prometheus.ExponentialBuckets(0.0005, 2, 14)), []string{"result"}), // to 4 s
		members: prometheus.NewHistogram(histogram("group_members",
			"Writes that one group commit made durable.", prometheus.ExponentialBuckets(1, 2, 9))), // to 256
		bytes: prometheus.NewHistogram(histogram("group_bytes",
			"Size of a group commit.", prometheus.ExponentialBuckets(1<<10, 4, 8))), // to 16 MiB
	}
	registerer.MustRegister(g.seconds, g.members, g.bytes)
	return g
}

func (g *groupMetrics) observe(o group.Observation) {
	result := "ok"
	switch {
	case errors.Is(o.Err, persistence.ErrOutcomeUnknown):
		result = "unknown"
	case o.Err != nil:
		result = "failed"
	}
	g.seconds.WithLabelValues(result).Observe(o.Duration.Seconds())
	g.members.Observe(float64(o.Members))
	g.bytes.Observe(float64(o.Bytes))
}

// exportStats exports what the store for PostgreSQL knows of itself, read when it is asked for.
func exportStats(store *postgres.Store, registerer prometheus.Registerer) {
	number := func(value func(postgres.Stats) float64) func() float64 {
		return func() float64 { return value(store.Stats()) }
	}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "perdure", Subsystem: "store", Name: name, Help: help}
	}
	registerer.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("commits_waiting", "Writes that wait for the next group commit.")),
			number(func(s postgres.Stats) float64 { return float64(s.Waiting) })),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("visibility_cut_total",
			"Visibility rows that the database refused and that were stored with system attributes only.")),
			number(func(s postgres.Stats) float64 { return float64(s.VisibilityCut) })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("connections_in_use", "Connections for reads that are in use, of at most 8.")),
			number(func(s postgres.Stats) float64 { return float64(s.PoolInUse) })),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("connection_waits_total", "Reads that had to wait for a connection.")),
			number(func(s postgres.Stats) float64 { return float64(s.PoolWaits) })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("list_connections_in_use",
			"Connections for lists and counts that are in use, of at most 2.")),
			number(func(s postgres.Stats) float64 { return float64(s.ListsInUse) })),
	)
}
