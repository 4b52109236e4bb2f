package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/postgres"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/service/history"
)

const (
	// sleepingRuns are open and have nothing to do; nearRuns of them are due within minutes.
	sleepingRuns = 100_000
	nearRuns     = 1_000
	// takeAllMax is how long it may take to own and serve every shard, and to have read all that a new owner must read.
	takeAllMax = 3 * time.Second
)

// A new owner reads only what it needs: taking over every shard does not cost more when workflows sleep in them.
func TestTakeoverOfSleepingWorkflows(t *testing.T) {
	database := pgtest.MigratedURL(t, postgres.MigrateURL)
	fillWithSleepers(t, database)
	store, err := postgres.Open(t.Context(), postgres.Options{URL: database})
	require.NoError(t, err)
	defer store.Close()
	metrics := prometheus.NewRegistry()
	member, err := cluster.New(cluster.Params{Store: store, Self: persistence.Member{Service: cluster.History, Address: "127.0.0.1:1"}})
	require.NoError(t, err)
	service := history.New(history.Params{Store: store, Namespaces: namespace.New(store), Owner: member.Self().ID, Metrics: metrics})
	shards := cluster.NewShards(member, service)
	service.PlacedBy(shards)
	require.NoError(t, member.Join(t.Context()))
	require.NoError(t, service.Start(t.Context()))

	begun := time.Now()
	shards.Start()
	require.Eventually(t, func() bool {
		return shards.Ready() && gauge(t, metrics, "perdure_history_shards_recovering") == 0
	}, recoverMax, 5*time.Millisecond)
	took := time.Since(begun)
	t.Logf("took %d shards with %d sleeping workflows in %v", persistence.ShardCount, sleepingRuns, took)
	require.Len(t, service.Owned(), persistence.ShardCount)
	require.EqualValues(t, nearRuns, gauge(t, metrics, "perdure_history_timers"), "the wake-ups of the next minutes")
	require.Zero(t, gauge(t, metrics, "perdure_history_cached_runs"), "sleeping workflows are not loaded")
	judge(t, took, takeAllMax)

	ctx, cancel := context.WithTimeout(context.Background(), recoverMax)
	defer cancel()
	shards.Stop()
	require.NoError(t, service.Stop(ctx))
	require.NoError(t, member.Leave(ctx))
}

// fillWithSleepers stores open runs, under an owner that is gone.
func fillWithSleepers(t *testing.T, database string) {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Options{URL: database})
	require.NoError(t, err)
	defer store.Close()
	all := make([]persistence.ShardID, persistence.ShardCount)
	for i := range all {
		all[i] = persistence.ShardID(i)
	}
	epochs, err := store.TakeShards(t.Context(), "gone", all)
	require.NoError(t, err)
	space, now := uuid.NewString(), time.Now()
	const writers = 512
	errs := make([]error, writers)
	var wait sync.WaitGroup
	for writer := range writers {
		wait.Go(func() {
			for n := writer; n < sleepingRuns && errs[writer] == nil; n += writers {
				wakeAt := now.Add(24*time.Hour + time.Duration(n)*time.Second)
				if n < nearRuns {
					wakeAt = now.Add(3 * time.Minute)
				}
				errs[writer] = store.Commit(t.Context(), sleeper(space, n, epochs, wakeAt))
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func sleeper(space string, n int, epochs map[persistence.ShardID]persistence.Epoch, wakeAt time.Time) *persistence.Mutation {
	key := persistence.ExecutionKey{NamespaceID: space, Kind: persistence.KindWorkflow, BusinessID: fmt.Sprint("sleeper-", n)}
	return &persistence.Mutation{Key: key, Epoch: epochs[key.Shard()], Runs: []persistence.RunWrite{{
		RunID: uuid.Must(uuid.NewV7()).String(), Insert: true, Open: true, Status: 1, StartRequestID: uuid.NewString(),
		SetWakeAt: true, WakeAt: wakeAt, Transition: &persistence.Transition{Seq: 1, FirstEventID: 1, Events: make([]byte, 500), Parts: make([]byte, 300)},
	}}}
}

// gauge reads one metric.
func gauge(t *testing.T, metrics *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
