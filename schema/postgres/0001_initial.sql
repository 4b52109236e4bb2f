-- The first schema of PostgreSQL (15 and later). Same tables and columns as SQLite's. Times are nanoseconds since 1970 (NULL: none),
-- except in cluster_members, whose clock is the database's own. Text keys are COLLATE "C": bytes compare faster than any locale, and an
-- upgrade of the C library cannot reorder an index.
-- schema_version itself is created by the store before the first migration.

-- Checks inside a commit's pipeline select this function over the rows that they must not find: it aborts the transaction.
CREATE FUNCTION perdure_raise(state text, what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'perdure: check failed: %', state USING ERRCODE = state, DETAIL = what;
END $$;

-- Read by each commit (the fence), written when a shard moves.
CREATE TABLE shards (
    shard_id int4   PRIMARY KEY,
    owner    text   COLLATE "C" NOT NULL,
    key      bigint NOT NULL,
    epoch    bigint NOT NULL
);

-- One row per run. Fixed-width columns come first: they are reached without walking the others.
-- fillfactor: a run's row is rewritten a few times (a wake-up that comes earlier, a snapshot); with room in its page, a version that
-- changes no indexed column needs no new index entries (HOT) and is pruned without vacuum.
-- A snapshot above 2 KB lives out of line, and an update that does not change it copies only the pointer.
CREATE TABLE executions (
    shard_id         int4    NOT NULL,
    status           int4    NOT NULL,
    bucket           int4    NOT NULL,
    kind             int2    NOT NULL,
    open             boolean NOT NULL,
    has_effects      boolean NOT NULL,
    namespace_id     uuid    NOT NULL,
    run_id           uuid    NOT NULL,
    wake_at          bigint,
    snapshot_seq     bigint,
    business_id      text    COLLATE "C" NOT NULL,
    start_request_id text    COLLATE "C" NOT NULL,
    snapshot         bytea,
    PRIMARY KEY (shard_id, namespace_id, kind, business_id, run_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05);

-- At most one open run per key.
CREATE UNIQUE INDEX executions_open ON executions (shard_id, namespace_id, kind, business_id) WHERE open;
-- What is due, and what has effects to resume: by shard, in the order in which scans continue. Rows without either are not in them.
CREATE INDEX executions_wake_at ON executions (shard_id, wake_at, run_id) WHERE wake_at IS NOT NULL;
CREATE INDEX executions_has_effects ON executions (shard_id, run_id) WHERE has_effects;

-- Append only, so pages are filled whole. Partitioned by bucket so that retention drops tables instead of deleting rows; there is no
-- default partition, because attaching another would have to scan it. The key begins with what is new: run ids are ordered by time, so
-- inserts go to few pages and a checkpoint costs few full-page images.
CREATE TABLE transitions (
    bucket         int4   NOT NULL,
    run_id         uuid   NOT NULL,
    seq            bigint NOT NULL,
    first_event_id bigint NOT NULL,
    events         bytea,
    parts          bytea,
    PRIMARY KEY (bucket, run_id, seq)
) PARTITION BY LIST (bucket);

-- Few rows are ever deleted (those without events), so what matters is that freezing happens in small portions.
CREATE TABLE transitions_0 PARTITION OF transitions FOR VALUES IN (0)
    WITH (fillfactor = 100, autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_scale_factor = 0.1);

-- Payloads are often JSON: lz4 compresses them at a tenth of the CPU of pglz. Not every build has it. Applies to rows above 2 KB.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        ALTER TABLE transitions ALTER COLUMN events SET COMPRESSION lz4, ALTER COLUMN parts SET COMPRESSION lz4;
        ALTER TABLE transitions_0 ALTER COLUMN events SET COMPRESSION lz4, ALTER COLUMN parts SET COMPRESSION lz4;
        ALTER TABLE executions ALTER COLUMN snapshot SET COMPRESSION lz4;
    END IF;
END $$;

-- close_time is NULL while the run is open. Written at start, at close and when search attributes change. The key begins with the run id:
-- it is ordered by time, and no other index can serve a condition on it, which the planner would otherwise prefer on an empty table.
CREATE TABLE visibility (
    namespace_id           uuid   NOT NULL,
    run_id                 uuid   NOT NULL,
    start_time             bigint NOT NULL,
    execution_time         bigint NOT NULL,
    close_time             bigint,
    history_length         bigint NOT NULL,
    history_size_bytes     bigint NOT NULL,
    state_transition_count bigint NOT NULL,
    status                 int4   NOT NULL,
    parent_run_id          uuid,
    root_run_id            uuid,
    workflow_id            text   COLLATE "C" NOT NULL,
    workflow_type          text   COLLATE "C" NOT NULL,
    task_queue             text   COLLATE "C" NOT NULL,
    parent_workflow_id     text   COLLATE "C",
    root_workflow_id       text   COLLATE "C",
    search_attributes      jsonb,
    memo                   bytea,
    PRIMARY KEY (run_id, namespace_id)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05);

-- The order of lists: open runs first, then by close time, start time and run id; one index for each half.
CREATE INDEX visibility_open ON visibility (namespace_id, start_time DESC, run_id) WHERE close_time IS NULL;
CREATE INDEX visibility_closed ON visibility (namespace_id, close_time DESC, start_time DESC, run_id) WHERE close_time IS NOT NULL;
CREATE INDEX visibility_workflow_id ON visibility (namespace_id, workflow_id);
CREATE INDEX visibility_workflow_type ON visibility (namespace_id, workflow_type);
-- jsonb_path_ops hashes paths with their values: no value is too large for it, so this index cannot abort a transition.
CREATE INDEX visibility_search_attributes ON visibility USING gin (search_attributes jsonb_path_ops) WHERE search_attributes IS NOT NULL;

-- One row per partition of a task queue; its metadata is rewritten often and never indexed, hence the room for HOT updates.
CREATE TABLE task_queues (
    namespace_id uuid   NOT NULL,
    type         int2   NOT NULL,
    partition    int4   NOT NULL,
    key          bigint NOT NULL,
    epoch        bigint NOT NULL,
    task_queue   text   COLLATE "C" NOT NULL,
    owner        text   COLLATE "C" NOT NULL,
    metadata     bytea,
    PRIMARY KEY (namespace_id, task_queue, type, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- A queue: rows come at one end and go at the other. Readers start behind the ack level and so do not walk the dead; vacuum comes early
-- to keep the table small.
CREATE TABLE tasks (
    namespace_id uuid   NOT NULL,
    type         int2   NOT NULL,
    level        int2   NOT NULL,
    partition    int4   NOT NULL,
    pass         bigint NOT NULL,
    task_id      bigint NOT NULL,
    task_queue   text   COLLATE "C" NOT NULL,
    task         bytea  NOT NULL,
    PRIMARY KEY (namespace_id, task_queue, type, partition, level, pass, task_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE TABLE task_queue_data (
    namespace_id uuid   NOT NULL,
    task_queue   text   COLLATE "C" NOT NULL,
    type         int2   NOT NULL,
    data         bytea  NOT NULL,
    version      bigint NOT NULL,
    PRIMARY KEY (namespace_id, task_queue, type)
);

CREATE TABLE namespaces (
    id      uuid   PRIMARY KEY,
    name    text   COLLATE "C" NOT NULL UNIQUE,
    data    bytea  NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE nexus_endpoints (
    id      text   COLLATE "C" PRIMARY KEY,
    name    text   COLLATE "C" NOT NULL UNIQUE,
    data    bytea  NOT NULL,
    version bigint NOT NULL
);

-- A handful of rows, each rewritten every few seconds: HOT updates in one page.
CREATE TABLE cluster_members (
    id       text        COLLATE "C" PRIMARY KEY,
    service  text        COLLATE "C" NOT NULL,
    address  text        COLLATE "C" NOT NULL,
    key      bigint      NOT NULL,
    started  timestamptz NOT NULL,
    renewed  timestamptz NOT NULL,
    expires  timestamptz NOT NULL,
    draining boolean     NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);
