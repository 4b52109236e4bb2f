package matching

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // to look into PostgreSQL
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // to look into SQLite's file
)

const (
	// deep is the backlog of the test, deepSample how much of it is taken before the workflows are closed.
	deep       = 100_000
	deepSample = 3000
	// deepMax bounds each of its steps, on a slow machine.
	deepMax = 5 * time.Minute
	// memoryMax is what a deep backlog may add to the memory of a matching process: what is loaded of it is a few thousand tasks.
	memoryMax = 256 << 20
)

// TestDeepBacklog fills a queue with more than is kept in memory, kills its owners, takes some of it and closes the workflows of the rest.
func TestDeepBacklog(t *testing.T) {
	for _, f := range []flavour{{"start-dev", startDev}, {cluster, startCluster}} {
		t.Run(f.name, func(t *testing.T) {
			e := newEnv(t, f.start(t, 0))
			memory := e.memory()
			e.add(job{name: "work", n: deep, spread: true})
			e.awaitExact(deep, deepMax)
			if f.name == cluster { // the others keep the workflows in the same process
				require.Less(t, e.memory()-memory, int64(memoryMax))
			}
			e.place.crash()
			e.awaitExact(deep, deepMax)
			c := e.work(50, -1, 0)
			c.await(deepSample, deepMax)
			c.stop()
			c.requireOnce()
			require.Positive(t, e.describe().GetStats().GetApproximateBacklogAge().AsDuration())
			e.terminate()
			begun := time.Now()
			c = e.work(10, -1, 0)
			e.awaitBacklog(0, deepMax)
			t.Logf("%d tasks of closed workflows were dropped in %v", deep-deepSample, time.Since(begun))
			c.stop()
			require.Zero(t, c.count(), "tasks of closed workflows")
			require.Eventually(t, func() bool { return e.rows() == 0 }, callMax, 100*time.Millisecond, "rows are left")
		})
	}
}

// awaitExact waits until so many tasks are stored and the queue knows exactly how many. There may be more than were added: a dispatch that
// was not acknowledged in time, or before a kill, is made again.
func (e *env) awaitExact(n int64, within time.Duration) {
	e.Helper()
	require.Eventually(e, func() bool {
		stored := e.rows()
		return stored >= n && e.describe().GetStats().GetApproximateBacklogCount() == stored
	}, within, 100*time.Millisecond, "what is described is not what is stored")
}

// memory is what the matching processes have in memory, in bytes.
func (e *env) memory() int64 {
	e.Helper()
	var sum int64
	for _, h := range e.matching {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.process.Pid()))
		require.NoError(e, err)
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		require.NoError(e, err)
		sum += kb << 10
	}
	return sum
}

// query asks the database for a number.
func (e *env) query(query string) int64 {
	e.Helper()
	driver, source := "pgx", e.url
	if e.file != "" {
		driver, source = "sqlite", "file:"+e.file+"?mode=ro"
	}
	db, err := sql.Open(driver, source)
	require.NoError(e, err)
	defer db.Close()
	var n int64
	require.NoError(e, db.QueryRowContext(context.Background(), query).Scan(&n))
	return n
}

// rows is the number of stored tasks of the queue. That of the workflows' own queues does not matter.
func (e *env) rows() int64 {
	return e.query(fmt.Sprintf(`SELECT count(*) FROM tasks WHERE task_queue = '%s'`, e.queue))
}

// stored is what the backlog takes in the database, in bytes, with what is free in it: of PostgreSQL its table, of SQLite the whole file.
func (e *env) stored() int64 {
	if e.file == "" {
		return e.query(`SELECT pg_total_relation_size('tasks')`)
	}
	info, err := os.Stat(e.file)
	require.NoError(e, err)
	return info.Size()
}

// BenchmarkDeepBacklog tells how fast a deep backlog is written, drained, and dropped when its workflows are closed, what that takes of
// memory and storage, and how fast a short one is drained. PERDURE_BACKLOG is its depth.
func BenchmarkDeepBacklog(b *testing.B) {
	depth := deep
	if text := os.Getenv("PERDURE_BACKLOG"); text != "" {
		var err error
		depth, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	for _, f := range []flavour{{"start-dev", startDev}, {cluster, startCluster}} {
		b.Run(fmt.Sprint(f.name, "/", depth), func(b *testing.B) {
			for b.Loop() {
				benchmarkBacklog(b, f.start(b, 0), depth)
			}
		})
	}
}

func benchmarkBacklog(b *testing.B, p *place, depth int) {
	const sample = 1000
	rate := func(n int, work func()) float64 {
		begun := time.Now()
		work()
		return float64(n) / time.Since(begun).Seconds()
	}
	drain := func(e *env, n int) float64 {
		c := e.work(100, -1, 0)
		defer c.stop()
		return rate(n, func() { c.await(n, time.Hour) })
	}
	short := newEnv(b, p)
	short.add(job{name: "work", n: sample, spread: true})
	short.awaitExact(sample, time.Hour)
	b.ReportMetric(drain(short, sample), "drained/s@1k")
	short.terminate()
	e := newEnv(b, p)
	b.ReportMetric(rate(depth, func() {
		e.add(job{name: "work", n: depth, spread: true})
		e.awaitExact(int64(depth), time.Hour)
	}), "added/s")
	b.ReportMetric(float64(e.memory()>>20), "MiB-RSS")
	b.ReportMetric(float64(e.stored()>>20), "MiB-stored")
	b.ReportMetric(drain(e, 5*sample), "drained/s@depth")
	e.terminate()
	b.ReportMetric(rate(depth, func() {
		defer e.work(10, -1, 0).stop()
		e.awaitBacklog(0, time.Hour)
	}), "dropped/s")
	require.Eventually(b, func() bool { return e.rows() == 0 }, time.Hour, 100*time.Millisecond)
	b.ReportMetric(float64(e.memory()>>20), "MiB-RSS-after")
	b.ReportMetric(float64(e.stored()>>20), "MiB-stored-after")
}
