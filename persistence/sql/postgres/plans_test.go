package postgres

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// planned is a statement with the settings it runs under, literals for its parameters (none: the plan is generic, NULLs will do), and
// the indexes it may use.
type planned struct {
	name     string
	settings string
	sql      string
	args     string
	indexes  []string
}

// conditions are the columns of an index that make a scan of it cheap.
var conditions = map[string][]string{
	"executions_pkey":        {"shard_id", "namespace_id", "kind", "business_id"},
	"executions_wake_at":     {"shard_id", "wake_at"},
	"executions_has_effects": {"shard_id"},
	"transitions_0_pkey":     {"bucket", "run_id"},
	"visibility_pkey":        {"run_id"},
	"task_queues_pkey":       {"namespace_id", "task_queue"},
	"tasks_pkey":             {"namespace_id", "task_queue", "type", "partition"},
	"shards_pkey":            {"shard_id"},
	"namespaces_pkey":        {"id"},
	"namespaces_name_key":    {"name"},
}

const (
	someUUID  = `'018f0000-0000-7000-8000-000000000001'::uuid`
	someShard = `'{1,2,3}'::int4[]`
)

func plannedStatements() []planned {
	execution, transition := []string{"executions_pkey"}, []string{"transitions_0_pkey"}
	run := `1, ` + someUUID + `, 1::int2, 'a'`
	return []planned{
		{"fence shards", settingsGeneric, sqlFenceShards, "", []string{"shards_pkey"}},
		{"fence queues", settingsGeneric, sqlFenceQueues, "", []string{"task_queues_pkey"}},
		{"check first runs", settingsGeneric, sqlCheckFirst, "", execution},
		{"insert transitions", settingsGeneric, sqlInsertTransitions, "", nil},
		{"purge", settingsGeneric, sqlPurge(0), "", []string{"executions_pkey", "transitions_0_pkey"}},
		{"update executions", settingsGeneric, sqlUpdateExecutions, "", execution},
		{"insert executions", settingsGeneric, sqlInsertExecutions, "", nil},
		{"upsert visibility", settingsGeneric, sqlUpsertVisibility, "", nil},
		{"delete transitions", settingsGeneric, sqlDeleteTransitions(0), "", transition},
		{"delete executions", settingsGeneric, sqlDeleteExecutions, "", execution},
		{"delete visibility", settingsGeneric, sqlDeleteVisibility, "", []string{"visibility_pkey"}},
		{"insert tasks", settingsGeneric, sqlInsertTasks, "", nil},
		{"update queues", settingsGeneric, sqlUpdateQueues, "", []string{"task_queues_pkey"}},
		{"delete tasks", settingsGeneric, sqlDeleteTasks, "", []string{"tasks_pkey"}},
		{"delete the tasks of a queue", settingsGeneric, sqlDeleteQueueTasks, "", []string{"tasks_pkey"}},
		{"delete queues", settingsGeneric, sqlDeleteQueues, "", []string{"task_queues_pkey"}},

		{"load a run", settingsGeneric, sqlLoadRun, run + ", " + someUUID, execution},
		{"load the current run", settingsGeneric, sqlLoadCurrentRun, run, execution},
		{"load transitions", settingsCustom, sqlLoadTransitions, `0, ` + someUUID + `, 0`, transition},
		{"list runs", settingsGeneric, sqlListRuns, run + ", 10", execution},
		{"read history", settingsCustom, sqlReadHistory, `0, ` + someUUID + `, 1, 10, 10, 10`, transition},
		{"read history in reverse", settingsCustom, sqlReadHistoryReverse, `0, ` + someUUID + `, 1, 10, 10, 10`, transition},
		{"read transitions", settingsCustom, sqlReadTransitions, `0, ` + someUUID + `, 1, 10`, transition},
		{"scan wake-ups", settingsCustom, sqlScanWakeups, someShard + `, 1000, 0, 0, ` + someUUID + `, 100`, []string{"executions_wake_at"}},
		{"scan effects", settingsCustom, sqlScanEffects, someShard + `, 0, ` + someUUID + `, 100`, []string{"executions_has_effects"}},
		{"get a queue", settingsGeneric, sqlGetQueue, "", []string{"task_queues_pkey"}},
		{"list queues", settingsGeneric, sqlListQueues, "", []string{"task_queues_pkey"}},
		{"read tasks", settingsGeneric, sqlReadTasks, "", []string{"tasks_pkey"}},
		{"count tasks", settingsGeneric, sqlCountTasks, "", []string{"tasks_pkey"}},
		{"keys of shards", settingsGeneric, sqlShardKeys, "", []string{"shards_pkey"}},
		{"move shards", settingsGeneric, sqlMoveShards, "", []string{"shards_pkey"}},
		{"move a queue", settingsGeneric, sqlMoveQueue, "", []string{"task_queues_pkey"}},
		{"get a namespace", settingsGeneric, sqlGetNamespace, "", []string{"namespaces_pkey"}},
		{"get a namespace by name", settingsGeneric, sqlGetNamespaceByName, "", []string{"namespaces_name_key"}},
	}
}

func TestPlansUseTheirIndexesAtEverySize(t *testing.T) {
	url := database(t)
	conn := connect(t, url)
	check := func(t *testing.T) {
		for _, s := range plannedStatements() {
			t.Run(s.name, func(t *testing.T) { checkPlan(t, conn, s) })
		}
	}
	t.Run("empty", check)
	execute(t, conn, "ALTER TABLE executions SET (autovacuum_enabled = off)", "ALTER TABLE transitions_0 SET (autovacuum_enabled = off)",
		"ALTER TABLE visibility SET (autovacuum_enabled = off)", "ALTER TABLE tasks SET (autovacuum_enabled = off)")
	fill(t, conn, 100_000)
	t.Run("large and not analyzed", check)
	execute(t, conn, "ANALYZE")
	t.Run("large", check)
	execute(t, conn, "TRUNCATE transitions, executions",
		`INSERT INTO transitions (bucket, run_id, seq, first_event_id, events) SELECT 0, `+someUUID+`, i, 1, '\x01' FROM generate_series(1, 100000) AS i`,
		`INSERT INTO executions (shard_id, namespace_id, kind, business_id, run_id, status, open, bucket, wake_at, has_effects, start_request_id)
SELECT 1, `+someUUID+`, 1, 'w', gen_random_uuid(), 1, false, 0, 1, true, '' FROM generate_series(1, 100000) AS i`, "ANALYZE")
	t.Run("large and all of one key", check)
}

func execute(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := conn.Exec(context.Background(), sql)
		require.NoError(t, err, sql)
	}
}

// fill makes rows in every table that a plan could be wrong about.
func fill(t *testing.T, conn *pgx.Conn, rows int) {
	t.Helper()
	numbers := fmt.Sprintf("FROM generate_series(1, %d) AS i", rows)
	execute(t, conn,
		`INSERT INTO shards SELECT i, 'o', 1, 1 FROM generate_series(0, 4095) AS i`,
		`INSERT INTO executions (shard_id, namespace_id, kind, business_id, run_id, status, open, bucket, wake_at, has_effects, start_request_id)
SELECT i % 4096, `+someUUID+`, 1, 'w' || i, gen_random_uuid(), 1, true, 0, i, i % 2 = 0, '' `+numbers,
		`INSERT INTO transitions (bucket, run_id, seq, first_event_id, events) SELECT 0, gen_random_uuid(), 1, 1, '\x01' `+numbers,
		`INSERT INTO visibility (namespace_id, run_id, workflow_id, workflow_type, task_queue, status, start_time, execution_time, history_length,
  history_size_bytes, state_transition_count) SELECT `+someUUID+`, gen_random_uuid(), 'w' || i, 't', 'q', 1, i, i, 1, 1, 1 `+numbers,
		`INSERT INTO task_queues (namespace_id, task_queue, type, partition, owner, key, epoch)
SELECT `+someUUID+`, 'q' || i, 1, 0, 'o', 1, 1 FROM generate_series(1, 5000) AS i`,
		`INSERT INTO tasks (namespace_id, task_queue, type, partition, level, pass, task_id, task) SELECT `+someUUID+`, 'q', 1, 0, 3, 0, i, '\x01' `+numbers,
		`INSERT INTO namespaces SELECT gen_random_uuid(), 'n' || i, '', 1 FROM generate_series(1, 5000) AS i`)
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

func checkPlan(t *testing.T, conn *pgx.Conn, s planned) {
	plan := explain(t, conn, s)
	for _, bad := range []string{"Seq Scan", "Hash", "Merge Join", "Bitmap", "Gather", "never executed"} {
		require.NotContains(t, plan, bad)
	}
	allowed := map[string]bool{}
	for _, index := range s.indexes {
		allowed[index] = true
		require.Contains(t, plan, " "+index+" ", "the index is not used:\n%s", plan)
	}
	lines := strings.Split(plan, "\n")
	for i, line := range lines {
		_, rest, found := strings.Cut(line, "Index Scan using ")
		if !found {
			_, rest, found = strings.Cut(line, "Index Scan Backward using ")
		}
		if !found {
			continue
		}
		index, _, _ := strings.Cut(rest, " ")
		require.True(t, allowed[index], "unexpected index %s:\n%s", index, plan)
		require.Contains(t, lines[i+1], "Index Cond", "the whole index is read:\n%s", plan)
		for _, column := range conditions[index] {
			require.Contains(t, lines[i+1], column, "too much of the index is read:\n%s", plan)
		}
	}
}

// explain returns the plan of the very statement under its settings.
func explain(t *testing.T, conn *pgx.Conn, s planned) string {
	t.Helper()
	ctx := context.Background()
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	defer func() {
		require.NoError(t, tx.Rollback(ctx))
		execute(t, conn, "DEALLOCATE statement")
	}()
	args := s.args
	if args == "" {
		count := 0
		for _, m := range placeholder.FindAllStringSubmatch(s.sql, -1) {
			var n int
			_, err := fmt.Sscan(m[1], &n)
			require.NoError(t, err)
			count = max(count, n)
		}
		args = strings.TrimSuffix(strings.Repeat("NULL, ", count), ", ")
	}
	for _, sql := range []string{s.settings, "PREPARE statement AS " + s.sql} {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		require.NoError(t, err)
	}
	results, err := conn.PgConn().Exec(ctx, "EXPLAIN EXECUTE statement("+args+")").ReadAll()
	require.NoError(t, err)
	var plan strings.Builder
	for _, row := range results[0].Rows {
		plan.Write(row[0])
		plan.WriteByte('\n')
	}
	return plan.String()
}

// TestLocksDoNotGrowWithThePartitions: a statement that had to lock all partitions would fill the lock table of a large installation.
func TestLocksDoNotGrowWithThePartitions(t *testing.T) {
	ctx := context.Background()
	conn := connect(t, database(t))
	for bucket := 1; bucket <= 100; bucket++ {
		execute(t, conn, fmt.Sprintf("CREATE TABLE transitions_%[1]d PARTITION OF transitions FOR VALUES IN (%[1]d)", bucket))
	}
	statements := []planned{
		{"insert", settingsGeneric, `INSERT INTO transitions (bucket, run_id, seq, first_event_id) SELECT * FROM unnest('{7}'::int4[], ARRAY[gen_random_uuid()],
'{1}'::int8[], '{1}'::int8[])`, "", nil},
		{"purge", settingsGeneric, sqlPurge(7), "NULL, NULL, NULL, NULL, NULL, NULL", nil},
		{"delete", settingsGeneric, sqlDeleteTransitions(7), "NULL", nil},
		{"load", settingsCustom, sqlLoadTransitions, "7, " + someUUID + ", 0", nil},
		{"history", settingsCustom, sqlReadHistory, "7, " + someUUID + ", 1, 2, 3, 4", nil},
	}
	for _, s := range statements {
		t.Run(s.name, func(t *testing.T) {
			tx, err := conn.Begin(ctx)
			require.NoError(t, err)
			defer func() { require.NoError(t, tx.Rollback(ctx)) }()
			_, err = conn.PgConn().Exec(ctx, "PREPARE statement AS "+s.sql).ReadAll()
			require.NoError(t, err)
			defer func() { execute(t, conn, "DEALLOCATE statement") }()
			for range 8 { // also after the planner has made up its mind about generic plans
				execute(t, conn, s.settings)
				call := "EXECUTE statement"
				if s.args != "" {
					call += "(" + s.args + ")"
				}
				_, err = conn.PgConn().Exec(ctx, call).ReadAll()
				require.NoError(t, err)
			}
			var locks int
			require.NoError(t, tx.QueryRow(ctx, `SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text LIKE 'transitions%'`).Scan(&locks))
			require.LessOrEqual(t, locks, 6, "the parent, the partition and their indexes, perhaps in two modes")
		})
	}
}
