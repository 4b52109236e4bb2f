package postgres

import "strconv"

// The settings of a transaction are set inside of it, never on a session: a pool in transaction mode (PgBouncer) may give every
// transaction another session. They are the first statement of each pipeline, so they cost no round trip.
//
// Without the join and scan methods, "UPDATE … FROM unnest" and loads go through the primary key whatever the planner believes of a
// table that nobody has analyzed. A generic plan is made once per connection; where the partition of a bucket is to be found, the
// plan must know the bucket, or it locks every partition.
const (
	planSettings = `set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), ` +
		`set_config('enable_mergejoin', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_material', 'off', true), ` +
		`set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true), `
	genericPlan = `set_config('plan_cache_mode', 'force_generic_plan', true)`
	customPlan  = `set_config('plan_cache_mode', 'force_custom_plan', true)`

	settingsGeneric = "SELECT " + planSettings + genericPlan
	settingsCustom  = "SELECT " + planSettings + customPlan
	// beginLoad starts a transaction of several reads that see one state.
	beginLoad = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

	// settingsList is for the pool of lists and counts, where the planner chooses: what they read depends on the filter.
	settingsList = `SELECT set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true), ` +
		`set_config('statement_timeout', $1, true)`
)

// fewRows is true of every number that it is asked about, but the planner takes a range for rare. It then expects one row of an array
// and asks an index for it, also where it believes that most of a table belongs to the one run or queue that it knows statistics of.
const fewRows = "BETWEEN 0 AND 9000000000000000000"

// The statements of a commit, in the order in which they run.
const (
	// Parameters: the lock timeout, the key of this incarnation. The select list is evaluated from left to right.
	sqlLock = "SELECT " + planSettings + genericPlan + `, set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared($2::bigint)`

	// Parameters: the key, shards, epochs. It must be a statement of its own after the lock: one statement would read with a
	// snapshot that is older than the lock.
	sqlFenceShards = `SELECT perdure_raise('` + stateStaleShard + `', string_agg(u.ord::text, ','))
FROM unnest($2::int4[], $3::int8[]) WITH ORDINALITY AS u(shard_id, epoch, ord) LEFT JOIN shards s ON s.shard_id = u.shard_id
WHERE s.key IS DISTINCT FROM $1::int8 OR s.epoch IS DISTINCT FROM u.epoch HAVING count(*) > 0`

	// Parameters: the key, queue keys, epochs.
	sqlFenceQueues = `SELECT perdure_raise('` + stateStaleQueue + `', string_agg(u.ord::text, ','))
FROM unnest($2::uuid[], $3::text[], $4::int2[], $5::int4[], $6::int8[]) WITH ORDINALITY AS u(namespace_id, task_queue, type, partition, epoch, ord)
LEFT JOIN task_queues q ON q.namespace_id = u.namespace_id AND q.task_queue = u.task_queue AND q.type = u.type AND q.partition = u.partition
WHERE q.key IS DISTINCT FROM $1::int8 OR q.epoch IS DISTINCT FROM u.epoch HAVING count(*) > 0`

	// Parameters: keys.
	sqlCheckFirst = `SELECT perdure_raise('` + stateKeyExists + `', string_agg(u.ord::text, ','))
FROM unnest($1::int4[], $2::uuid[], $3::int2[], $4::text[]) WITH ORDINALITY AS u(shard_id, namespace_id, kind, business_id, ord)
WHERE EXISTS (SELECT FROM executions e WHERE e.shard_id = u.shard_id AND e.namespace_id = u.namespace_id AND e.kind = u.kind
  AND e.business_id = u.business_id) HAVING count(*) > 0`

	sqlInsertTransitions = `INSERT INTO transitions (bucket, run_id, seq, first_event_id, events, parts)
SELECT * FROM unnest($1::int4[], $2::uuid[], $3::int8[], $4::int8[], $5::bytea[], $6::bytea[])`

	// The columns of one row keep their value where the parameter is NULL; wake_at has a flag, because its NULL is a value. A column
	// that gets the value it has does not count as changed, so that the update stays HOT. The sum of the flags is the check.
	sqlUpdateExecutions = `WITH updated AS (
UPDATE executions e SET status = coalesce(u.status, e.status), open = coalesce(u.open, e.open), bucket = u.bucket,
  wake_at = CASE WHEN u.set_wake_at THEN u.wake_at ELSE e.wake_at END, has_effects = coalesce(u.has_effects, e.has_effects),
  snapshot_seq = coalesce(u.snapshot_seq, e.snapshot_seq), snapshot = coalesce(u.snapshot, e.snapshot)
FROM unnest($1::int4[], $2::uuid[], $3::int2[], $4::text[], $5::uuid[], $6::int4[], $7::bool[], $8::int4[], $9::bool[], $10::int8[], $11::bool[],
  $12::int8[], $13::bytea[]) AS u(shard_id, namespace_id, kind, business_id, run_id, status, open, bucket, set_wake_at, wake_at, has_effects,
  snapshot_seq, snapshot)
WHERE e.shard_id = u.shard_id AND e.namespace_id = u.namespace_id AND e.kind = u.kind AND e.business_id = u.business_id AND e.run_id = u.run_id
RETURNING 1)
SELECT perdure_raise('` + stateMissingRow + `', count(*)::text) FROM updated HAVING count(*) <> $14::int8`

	sqlInsertExecutions = `INSERT INTO executions
(shard_id, namespace_id, kind, business_id, run_id, status, open, bucket, wake_at, has_effects, start_request_id, snapshot_seq, snapshot)
SELECT * FROM unnest($1::int4[], $2::uuid[], $3::int2[], $4::text[], $5::uuid[], $6::int4[], $7::bool[], $8::int4[], $9::int8[], $10::bool[],
  $11::text[], $12::int8[], $13::bytea[])`

	sqlUpsertVisibility = `INSERT INTO visibility AS v
(namespace_id, run_id, workflow_id, workflow_type, task_queue, status, start_time, execution_time, close_time, history_length, history_size_bytes,
  state_transition_count, parent_workflow_id, parent_run_id, root_workflow_id, root_run_id, search_attributes, memo)
SELECT u.c1, u.c2, u.c3, u.c4, u.c5, u.c6, u.c7, u.c8, u.c9, u.c10, u.c11, u.c12, u.c13, u.c14, u.c15, u.c16, u.c17::jsonb, u.c18
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::int4[], $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[],
  $12::int8[], $13::text[], $14::uuid[], $15::text[], $16::uuid[], $17::text[], $18::bytea[])
  AS u(c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18)
ON CONFLICT (namespace_id, run_id) DO UPDATE SET workflow_id = excluded.workflow_id, workflow_type = excluded.workflow_type,
  task_queue = excluded.task_queue, status = excluded.status, start_time = excluded.start_time, execution_time = excluded.execution_time,
  close_time = excluded.close_time, history_length = excluded.history_length, history_size_bytes = excluded.history_size_bytes,
  state_transition_count = excluded.state_transition_count, parent_workflow_id = excluded.parent_workflow_id,
  parent_run_id = excluded.parent_run_id, root_workflow_id = excluded.root_workflow_id, root_run_id = excluded.root_run_id,
  search_attributes = excluded.search_attributes, memo = excluded.memo`

	sqlDeleteExecutions = `DELETE FROM executions e USING unnest($1::int4[], $2::uuid[], $3::int2[], $4::text[], $5::uuid[])
  AS u(shard_id, namespace_id, kind, business_id, run_id)
WHERE e.shard_id = u.shard_id AND e.namespace_id = u.namespace_id AND e.kind = u.kind AND e.business_id = u.business_id AND e.run_id = u.run_id`

	// "IS TRUE" hides the namespace from the planner: it is the first column of other indexes, and on an empty table all look alike.
	sqlDeleteVisibility = `DELETE FROM visibility v USING unnest($1::uuid[], $2::uuid[]) AS u(namespace_id, run_id)
WHERE v.run_id = u.run_id AND (v.namespace_id = u.namespace_id) IS TRUE`

	sqlInsertTasks = `INSERT INTO tasks (namespace_id, task_queue, type, partition, level, pass, task_id, task)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int2[], $4::int4[], $5::int2[], $6::int8[], $7::int8[], $8::bytea[])`

	sqlUpdateQueues = `UPDATE task_queues q SET metadata = u.metadata
FROM unnest($1::uuid[], $2::text[], $3::int2[], $4::int4[], $5::bytea[]) AS u(namespace_id, task_queue, type, partition, metadata)
WHERE q.namespace_id = u.namespace_id AND q.task_queue = u.task_queue AND q.type = u.type AND q.partition = u.partition`

	sqlDeleteTasks = `DELETE FROM tasks t
USING unnest($1::uuid[], $2::text[], $3::int2[], $4::int4[], $5::int2[], $6::int8[], $7::int8[], $8::int8[], $9::int8[])
  AS u(namespace_id, task_queue, type, partition, level, pass_from, id_from, pass_to, id_to)
WHERE t.namespace_id = u.namespace_id AND t.task_queue = u.task_queue AND t.type = u.type AND t.partition = u.partition AND t.level = u.level
  AND u.partition ` + fewRows + ` AND (t.pass, t.task_id) >= (u.pass_from, u.id_from) AND (t.pass, t.task_id) <= (u.pass_to, u.id_to)`

	// One queue at a time: as a join with an array, the planner would read the whole table where one queue has most of it.
	sqlDeleteQueueTasks = `DELETE FROM tasks WHERE namespace_id = $1::uuid AND task_queue = $2::text AND type = $3::int2 AND partition = $4::int4`

	sqlDeleteQueues = `DELETE FROM task_queues q USING unnest($1::uuid[], $2::text[], $3::int2[], $4::int4[]) AS u(namespace_id, task_queue, type, partition)
WHERE q.namespace_id = u.namespace_id AND q.task_queue = u.task_queue AND q.type = u.type AND q.partition = u.partition`
)

// commitStatements are prepared on each connection of a committer, under these names.
var commitStatements = map[string]string{
	"lock":               sqlLock,
	"fence_shards":       sqlFenceShards,
	"fence_queues":       sqlFenceQueues,
	"check_first":        sqlCheckFirst,
	"insert_transitions": sqlInsertTransitions,
	"update_executions":  sqlUpdateExecutions,
	"insert_executions":  sqlInsertExecutions,
	"upsert_visibility":  sqlUpsertVisibility,
	"delete_executions":  sqlDeleteExecutions,
	"delete_visibility":  sqlDeleteVisibility,
	"insert_tasks":       sqlInsertTasks,
	"update_queues":      sqlUpdateQueues,
	"delete_tasks":       sqlDeleteTasks,
	"delete_queue_tasks": sqlDeleteQueueTasks,
	"delete_queues":      sqlDeleteQueues,
}

// sqlPurge deletes the rows without events of one run that a snapshot has made superfluous. Those before the previous snapshot are gone
// already: the scan begins there, or each snapshot of a long run would walk all of its rows. One run at a time: as a join with an array,
// the planner may look for the run in all of a small bucket, and keep to that when it is small no more. The bucket is part of the text, so
// that a generic plan knows its partition.
func sqlPurge(bucket int32) string {
	return `DELETE FROM transitions WHERE bucket = ` + strconv.Itoa(int(bucket)) + ` AND run_id = $5::uuid AND seq < $6::int8 AND events IS NULL
AND seq >= coalesce((SELECT snapshot_seq FROM executions WHERE shard_id = $1::int4 AND namespace_id = $2::uuid AND kind = $3::int2
  AND business_id = $4::text AND run_id = $5::uuid), 0)`
}

// sqlDeleteTransitions deletes all rows of runs.
func sqlDeleteTransitions(bucket int32) string {
	return `DELETE FROM transitions WHERE bucket = ` + strconv.Itoa(int(bucket)) + ` AND run_id = ANY($1::uuid[])`
}

const executionColumns = `shard_id, namespace_id, kind, business_id, run_id, bucket, open, status, start_request_id, wake_at, has_effects`

// The statements of reads.
const (
	sqlLoadRun = `SELECT ` + executionColumns + `, snapshot_seq, snapshot FROM executions
WHERE shard_id = $1 AND namespace_id = $2 AND kind = $3 AND business_id = $4 AND run_id = $5`

	sqlLoadCurrentRun = `SELECT ` + executionColumns + `, snapshot_seq, snapshot FROM executions
WHERE shard_id = $1 AND namespace_id = $2 AND kind = $3 AND business_id = $4 ORDER BY run_id DESC LIMIT 1`

	sqlLoadTransitions = `SELECT seq, first_event_id, parts FROM transitions WHERE bucket = $1 AND run_id = $2 AND seq > $3 ORDER BY seq`

	sqlListRuns = `SELECT ` + executionColumns + ` FROM executions
WHERE shard_id = $1 AND namespace_id = $2 AND kind = $3 AND business_id = $4 ORDER BY run_id DESC LIMIT $5`

	// No index knows event ids, but they ascend with seq: bisection finds where From and To lie within some rows, so that a page of a long
	// history costs a page. lo is a row that begins at or before the target (or 0), and every row after hi begins later.
	historySearch = `WITH RECURSIVE search(target, lo, hi) AS (
SELECT t, 0::int8, (SELECT seq FROM transitions WHERE bucket = $1 AND run_id = $2 ORDER BY seq DESC LIMIT 1)
FROM unnest(ARRAY[$3::int8, $4::int8]) AS t
UNION ALL
SELECT target, CASE WHEN m.before THEN m.seq ELSE lo END, CASE WHEN m.before THEN hi ELSE (lo + hi) / 2 END
FROM search CROSS JOIN LATERAL (SELECT seq, first_event_id <= target AS before FROM transitions
  WHERE bucket = $1 AND run_id = $2 AND seq > (lo + hi) / 2 ORDER BY seq LIMIT 1) AS m
WHERE hi - lo > 64) `

	// The first row of the range is the last one with events that begins at or before From. The sum over the lengths (which reads no
	// out-of-line data) cuts the answer; its first row passes always.
	historyRows = `SELECT seq, first_event_id, events FROM transitions
WHERE bucket = $1 AND run_id = $2 AND first_event_id <= $4 AND events IS NOT NULL AND seq <= (SELECT min(hi) FROM search WHERE target = $4)
  AND seq >= coalesce((SELECT seq FROM transitions WHERE bucket = $1 AND run_id = $2 AND first_event_id <= $3 AND events IS NOT NULL
    AND seq <= (SELECT min(hi) FROM search WHERE target = $3) ORDER BY seq DESC LIMIT 1), 0)`

	sqlReadHistory = historySearch + `SELECT seq, first_event_id, events FROM (
SELECT seq, first_event_id, events, octet_length(events) AS size, sum(octet_length(events)) OVER (ORDER BY seq) AS total
FROM (` + historyRows + ` ORDER BY seq LIMIT $5) AS page) AS sized WHERE total <= $6 OR total = size ORDER BY seq`

	sqlReadHistoryReverse = historySearch + `SELECT seq, first_event_id, events FROM (
SELECT seq, first_event_id, events, octet_length(events) AS size, sum(octet_length(events)) OVER (ORDER BY seq DESC) AS total
FROM (` + historyRows + ` ORDER BY seq DESC LIMIT $5) AS page) AS sized WHERE total <= $6 OR total = size ORDER BY seq DESC`

	sqlReadTransitions = `SELECT seq, first_event_id, events, parts FROM transitions
WHERE bucket = $1 AND run_id = $2 AND seq >= $3 ORDER BY seq LIMIT $4`

	sqlScanWakeups = `SELECT shard_id, namespace_id, kind, business_id, run_id, wake_at FROM executions
WHERE shard_id = ANY($1) AND wake_at < $2 AND (shard_id, wake_at, run_id) > ($3, $4, $5) ORDER BY shard_id, wake_at, run_id LIMIT $6`

	sqlScanEffects = `SELECT shard_id, namespace_id, kind, business_id, run_id, wake_at FROM executions
WHERE shard_id = ANY($1) AND has_effects AND (shard_id, run_id) > ($2, $3) ORDER BY shard_id, run_id LIMIT $4`

	queueColumns = `namespace_id, task_queue, type, partition, epoch, metadata`
	queueKey     = `namespace_id = $1 AND task_queue = $2 AND type = $3 AND partition = $4`

	sqlGetQueue   = `SELECT ` + queueColumns + ` FROM task_queues WHERE ` + queueKey
	sqlListQueues = `SELECT ` + queueColumns + ` FROM task_queues WHERE namespace_id = $1 AND task_queue = $2 ORDER BY type, partition`
	sqlReadTasks  = `SELECT level, pass, task_id, task FROM tasks WHERE ` + queueKey + ` AND level = $5
AND (pass, task_id) > ($6, $7) ORDER BY pass, task_id LIMIT $8`
	sqlCountTasks = `SELECT level, count(*) FROM tasks WHERE ` + queueKey + ` AND task_id < $5 GROUP BY level`
)
