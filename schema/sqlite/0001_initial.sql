-- The first schema of SQLite. Same tables and columns as PostgreSQL's, in SQLite's types:
-- run ids and namespace ids are TEXT, flags INTEGER 0/1, times INTEGER nanoseconds since 1970 (NULL: none).
-- schema_version itself is created by the store before the first migration.

CREATE TABLE shards (
    shard_id INTEGER PRIMARY KEY,
    owner    TEXT    NOT NULL,
    key      INTEGER NOT NULL,
    epoch    INTEGER NOT NULL
) STRICT;

-- One row per run. The snapshot comes last, so that a read of the other columns does not walk its overflow pages.
-- Not WITHOUT ROWID: rows can be large, and keys of B-trees with large rows are slow.
CREATE TABLE executions (
    shard_id         INTEGER NOT NULL,
    namespace_id     TEXT    NOT NULL,
    kind             INTEGER NOT NULL,
    business_id      TEXT    NOT NULL,
    run_id           TEXT    NOT NULL,
    status           INTEGER NOT NULL,
    open             INTEGER NOT NULL,
    bucket           INTEGER NOT NULL,
    start_request_id TEXT    NOT NULL,
    wake_at          INTEGER,
    has_effects      INTEGER NOT NULL,
    snapshot_seq     INTEGER,
    snapshot         BLOB,
    PRIMARY KEY (shard_id, namespace_id, kind, business_id, run_id)
) STRICT;

CREATE UNIQUE INDEX executions_open ON executions (shard_id, namespace_id, kind, business_id) WHERE open = 1;
-- One process owns all shards of a file: what is due soon is a range of times, whatever its shard.
CREATE INDEX executions_wake_at ON executions (wake_at, shard_id, run_id) WHERE wake_at IS NOT NULL;
CREATE INDEX executions_has_effects ON executions (shard_id, run_id) WHERE has_effects = 1;

-- Append only. Not WITHOUT ROWID either: inner pages would hold whole rows, and few of them fit.
CREATE TABLE transitions (
    bucket         INTEGER NOT NULL,
    run_id         TEXT    NOT NULL,
    seq            INTEGER NOT NULL,
    first_event_id INTEGER NOT NULL,
    events         BLOB,
    parts          BLOB,
    PRIMARY KEY (bucket, run_id, seq)
) STRICT;

-- close_time is NULL while the run is open. search_attributes is JSON text: rows are written far more often than filtered here.
CREATE TABLE visibility (
    namespace_id           TEXT    NOT NULL,
    run_id                 TEXT    NOT NULL,
    workflow_id            TEXT    NOT NULL,
    workflow_type          TEXT    NOT NULL,
    task_queue             TEXT    NOT NULL,
    status                 INTEGER NOT NULL,
    start_time             INTEGER NOT NULL,
    execution_time         INTEGER NOT NULL,
    close_time             INTEGER,
    history_length         INTEGER NOT NULL,
    history_size_bytes     INTEGER NOT NULL,
    state_transition_count INTEGER NOT NULL,
    parent_workflow_id     TEXT    NOT NULL,
    parent_run_id          TEXT    NOT NULL,
    root_workflow_id       TEXT    NOT NULL,
    root_run_id            TEXT    NOT NULL,
    search_attributes      TEXT,
    memo                   BLOB,
    PRIMARY KEY (namespace_id, run_id)
) STRICT;

-- The order of lists: open runs first, then by close time, start time and run id; one index for each half.
CREATE INDEX visibility_open ON visibility (namespace_id, start_time DESC, run_id) WHERE close_time IS NULL;
CREATE INDEX visibility_closed ON visibility (namespace_id, close_time DESC, start_time DESC, run_id) WHERE close_time IS NOT NULL;
-- In the order of both halves (a NULL close_time is one value), else the planner would rather walk the indexes above.
CREATE INDEX visibility_workflow_id ON visibility (namespace_id, workflow_id, close_time DESC, start_time DESC, run_id);

CREATE TABLE task_queues (
    namespace_id TEXT    NOT NULL,
    task_queue   TEXT    NOT NULL,
    type         INTEGER NOT NULL,
    partition    INTEGER NOT NULL,
    owner        TEXT    NOT NULL,
    key          INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    metadata     BLOB,
    PRIMARY KEY (namespace_id, task_queue, type, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    namespace_id TEXT    NOT NULL,
    task_queue   TEXT    NOT NULL,
    type         INTEGER NOT NULL,
    partition    INTEGER NOT NULL,
    level        INTEGER NOT NULL,
    pass         INTEGER NOT NULL,
    task_id      INTEGER NOT NULL,
    task         BLOB    NOT NULL,
    PRIMARY KEY (namespace_id, task_queue, type, partition, level, pass, task_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE task_queue_data (
    namespace_id TEXT    NOT NULL,
    task_queue   TEXT    NOT NULL,
    type         INTEGER NOT NULL,
    data         BLOB    NOT NULL,
    version      INTEGER NOT NULL,
    PRIMARY KEY (namespace_id, task_queue, type)
) STRICT, WITHOUT ROWID;

CREATE TABLE namespaces (
    id      TEXT    PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    data    BLOB    NOT NULL,
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE nexus_endpoints (
    id      TEXT    PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    data    BLOB    NOT NULL,
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE cluster_members (
    id       TEXT    PRIMARY KEY,
    service  TEXT    NOT NULL,
    address  TEXT    NOT NULL,
    key      INTEGER NOT NULL,
    started  INTEGER NOT NULL,
    renewed  INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    draining INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
