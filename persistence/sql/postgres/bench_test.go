package postgres

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/group"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// BenchmarkCommit commits the five transitions of a simple workflow (visibility is written with the first and the last), by a number of
// callers at the same time. It reports per mutation: bytes of WAL, transactions, and the server's CPU.
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchmarkCommit(b, callers) })
	}
}

func benchmarkCommit(b *testing.B, callers int) {
	ctx := context.Background()
	server := pgtest.NewServer(b, "fsync=on", "full_page_writes=off", "autovacuum=off")
	var groups, members atomic.Int64
	s := open(b, Options{URL: server.URL(), Migrate: true, Group: group.Options{Observe: func(o group.Observation) {
		groups.Add(1)
		members.Add(int64(o.Members))
	}}})
	all := make([]persistence.ShardID, persistence.ShardCount)
	for i := range all {
		all[i] = persistence.ShardID(i)
	}
	epochs, err := s.TakeShards(ctx, "bench", all)
	require.NoError(b, err)
	wal := func() (position int64) {
		require.NoError(b, s.pool.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn() - '0/0'").Scan(&position))
		return position
	}
	groups.Store(0)
	members.Store(0)
	before, cpuBefore := wal(), server.CPU(b)
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				n := next.Add(5)
				if n > int64(b.N)+4 {
					return
				}
				if err := benchmarkWorkflow(s, epochs, n); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	count := float64(members.Load())
	b.ReportMetric(float64(wal()-before)/count, "WAL-B/op")
	b.ReportMetric(float64(groups.Load())/count, "commits/op")
	b.ReportMetric(float64((server.CPU(b)-cpuBefore).Microseconds())/count, "server-µs/op")
}

func benchmarkWorkflow(s *Store, epochs map[persistence.ShardID]persistence.Epoch, n int64) error {
	key, run := keyOf(fmt.Sprintf("workflow-%d", n)), newRun()
	epoch := epochs[key.Shard()]
	first := startWrite(key, run)
	last := nextWrite(run, 5)
	last.SetStatus, last.Status, last.SetWakeAt, last.SetHasEffects = true, 2, true, true
	last.Snapshot = &persistence.Snapshot{Seq: 5, Parts: make([]byte, 150)}
	closed := *first.Visibility
	closed.Status, closed.CloseTime = 2, closed.StartTime.Add(1)
	last.Visibility = &closed
	for _, w := range []persistence.RunWrite{first, nextWrite(run, 2), nextWrite(run, 3), nextWrite(run, 4), last} {
		if err := commit(s, key, epoch, w); err != nil {
			return err
		}
	}
	return nil
}
