package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/persistence"
)

// purgesPreparedMax bounds the statements of buckets that a connection keeps prepared. More buckets than that are never written at
// once; what comes beyond is parsed each time.
const purgesPreparedMax = 128

// idleSuspect is how long a connection may rest before it is looked at: one that broke meanwhile would make the outcome of the next
// commit unknown, although nothing arrived.
const idleSuspect = 500 * time.Millisecond

// poolSuspect is the same for connections of a pool, whose calls can be repeated. It is longer than the interval at which leases are
// renewed, which would otherwise be two transactions each.
const poolSuspect = 4 * time.Second

// binaryFormat says that all parameters are binary.
var binaryFormat = []int16{1}

// commitConn is the connection of one committer. It is used by one goroutine at a time and connects when it is needed.
type commitConn struct {
	store    *Store
	config   *pgx.ConnConfig
	conn     *pgx.Conn
	key      int64 // of the incarnation as of the last identification
	prepared map[string]bool
	lastUsed time.Time
	doubt    atomic.Pointer[pgconn.Notice] // a warning that the commit may not be as durable as asked for
}

func newCommitConn(store *Store, config *pgx.ConnConfig) *commitConn {
	c := &commitConn{store: store, config: config.Copy()}
	c.config.OnNotice = c.onNotice
	return c
}

// onNotice keeps the warnings that say that a commit did not reach its standbys. Any other notice is of no consequence.
func (c *commitConn) onNotice(_ *pgconn.PgConn, n *pgconn.Notice) {
	level := n.SeverityUnlocalized
	if level == "" {
		level = n.Severity
	}
	const operatorIntervention = "57"
	if level == "WARNING" && (n.File == "syncrep.c" || class((*pgconn.PgError)(n)) == operatorIntervention) {
		c.doubt.Store(n)
	}
}

// ready connects if there is no connection that looks alive.
func (c *commitConn) ready(ctx context.Context) error {
	if c.conn != nil && c.key != c.store.identity.currentKey() {
		c.close() // the database became another one: whom this connection leads to must be asked again
	}
	if c.conn != nil && !c.conn.IsClosed() && time.Since(c.lastUsed) > idleSuspect {
		if err := c.conn.Ping(ctx); err != nil {
			c.close()
		}
	}
	if c.conn != nil && !c.conn.IsClosed() {
		return nil
	}
	c.close()
	conn, err := pgx.ConnectConfig(ctx, c.config)
	if err != nil {
		return fmt.Errorf("%w: connect: %w", persistence.ErrUnavailable, err)
	}
	c.conn, c.prepared = conn, map[string]bool{}
	if err := c.setUp(ctx); err != nil {
		c.close()
		return fmt.Errorf("%w: prepare a connection: %w", persistence.ErrUnavailable, err)
	}
	return nil
}

func (c *commitConn) setUp(ctx context.Context) error {
	key, err := c.store.identity.check(ctx, c.conn)
	if err != nil {
		return err
	}
	c.key = key
	if c.unnamed() {
		return nil
	}
	pipeline := c.conn.PgConn().StartPipeline(ctx)
	for name, sql := range commitStatements {
		pipeline.SendPrepare(name, sql, nil)
	}
	if err := pipeline.Sync(); err != nil {
		return err
	}
	for range len(commitStatements) + 1 { // the sync answers, too
		if _, err := pipeline.GetResults(); err != nil {
			_ = pipeline.Close() // the first error is the one that says something
			return err
		}
	}
	return pipeline.Close()
}

func (c *commitConn) close() {
	if c.conn == nil {
		return
	}
	closeConn(c.conn)
	c.conn = nil
}

// run sends a group as one pipeline that ends in one Sync, and waits for ReadyForQuery.
func (c *commitConn) run(ctx context.Context, g *groupBatch) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	batch, err := c.pipeline(ctx, g)
	if err != nil {
		return err
	}
	c.doubt.Store(nil)
	err = c.conn.PgConn().ExecBatch(ctx, batch).Close()
	c.lastUsed = time.Now()
	if err != nil {
		err = commitError(err)
	} else if n := c.doubt.Load(); n != nil {
		err = fmt.Errorf("%w: %s (SQLSTATE %s)", persistence.ErrOutcomeUnknown, n.Message, n.Code)
	}
	if c.conn.IsClosed() {
		c.close()
	}
	return err
}

// pipeline translates the tables of a group into statements. Tables that the group does not write cost nothing.
func (c *commitConn) pipeline(ctx context.Context, g *groupBatch) (*pgconn.Batch, error) {
	batch := &pgconn.Batch{}
	key := int64Param(c.key)
	exec := func(name string, params ...[]byte) { c.exec(batch, name, params) }
	if c.unnamed() {
		c.store.identity.guard(batch)
	}
	exec("lock", []byte(c.store.lockTimeout), key)
	if g.fence.rows() > 0 {
		exec("fence_shards", append([][]byte{key}, g.fence.values()...)...)
	}
	if g.queueFence.rows() > 0 {
		exec("fence_queues", append([][]byte{key}, g.queueFence.values()...)...)
	}
	simple := func(name string, t *table) {
		if t.rows() > 0 {
			exec(name, t.values()...)
		}
	}
	simple("check_first", g.firsts)
	simple("insert_transitions", g.transitions)
	for _, p := range g.purges {
		params := [][]byte{int32Param(int32(p.shard)), p.key.namespace[:], int16Param(int16(p.key.kind)), []byte(p.key.business), p.key.run[:],
			int64Param(p.seq)}
		if err := c.byBucket(ctx, batch, "purge", p.bucket, sqlPurge(p.bucket), params); err != nil {
			return nil, err
		}
	}
	if n := g.updates.rows(); n > 0 {
		exec("update_executions", append(g.updates.values(), int64Param(int64(n)))...)
	}
	simple("insert_executions", g.inserts)
	simple("upsert_visibility", g.visibility)
	for bucket, t := range g.runDeletes {
		if err := c.byBucket(ctx, batch, "delete", bucket, sqlDeleteTransitions(bucket), t.values()); err != nil {
			return nil, err
		}
	}
	simple("delete_executions", g.deletes)
	simple("delete_visibility", g.visibilityDeletes)
	simple("insert_tasks", g.tasks)
	simple("update_queues", g.queues)
	simple("delete_tasks", g.taskDeletes)
	for id := range g.queuesDeleted {
		exec("delete_queue_tasks", id.namespace[:], []byte(id.name), int16Param(id.typ), int32Param(id.partition))
	}
	simple("delete_queues", g.queueDeletes)
	return batch, nil
}

// exec adds a statement of a commit.
func (c *commitConn) exec(batch *pgconn.Batch, name string, params [][]byte) {
	if c.unnamed() {
		batch.ExecParams(commitStatements[name], params, nil, binaryFormat, nil)
		return
	}
	batch.ExecPrepared(name, params, binaryFormat, nil)
}

// unnamed tells whether what is prepared on this connection may not be found again.
func (c *commitConn) unnamed() bool { return c.config.DefaultQueryExecMode == unnamed }

// byBucket adds a statement whose text names the bucket; it is prepared on first use.
func (c *commitConn) byBucket(ctx context.Context, batch *pgconn.Batch, verb string, bucket int32, sql string, params [][]byte) error {
	name := fmt.Sprintf("%s_%d", verb, bucket)
	if !c.prepared[name] {
		if c.unnamed() || len(c.prepared) >= purgesPreparedMax {
			batch.ExecParams(sql, params, nil, binaryFormat, nil)
			return nil
		}
		if _, err := c.conn.PgConn().Prepare(ctx, name, sql, nil); err != nil {
			return fmt.Errorf("%w: prepare: %w", persistence.ErrUnavailable, err) // nothing of the group was sent
		}
		c.prepared[name] = true
	}
	batch.ExecPrepared(name, params, binaryFormat, nil)
	return nil
}
