package postgres

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/group"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

type (
	runKey struct {
		namespace uuidBytes
		kind      persistence.Kind
		business  string
		run       uuidBytes
	}
	shardEpoch struct {
		shard persistence.ShardID
		epoch persistence.Epoch
	}
	queueID struct {
		namespace uuidBytes
		name      string
		typ       int16
		partition int32
	}
	queueEpoch struct {
		queue queueID
		epoch persistence.Epoch
	}
	purge struct {
		key    runKey
		shard  persistence.ShardID
		bucket int32
		seq    int64
	}
	queueMetadata struct {
		queue    queueID
		metadata []byte
	}
)

// mergedRun is all writes of a group to one executions row: an UPDATE … FROM with a key twice would apply only one of them.
type mergedRun struct {
	key   runKey
	shard persistence.ShardID
	write persistence.RunWrite
}

// add translates a member. An error blames the member alone; the batch is then of no use any more.
func (g *groupBatch) add(index int, m *member) error {
	switch {
	case m.mutation != nil:
		return g.addMutation(index, m)
	case m.deleteRun != nil:
		return g.addRunDelete(index, m.deleteRun)
	default:
		return g.addQueueWrite(index, m.queue)
	}
}

func (g *groupBatch) addMutation(index int, m *member) error {
	key := m.mutation.Key
	g.fenceShard(index, m.shard, m.mutation.Epoch)
	if m.mutation.First {
		g.expectNone(index, m)
	}
	for i := range m.mutation.Runs {
		w := &m.mutation.Runs[i]
		k := runKey{m.namespace, key.Kind, key.BusinessID, m.runs[i]}
		if g.deletedRuns[k] {
			return fmt.Errorf("%w: the run is just being deleted", persistence.ErrConflict)
		}
		if err := g.addRun(k, m.shard, w); err != nil {
			return err
		}
		if w.Visibility != nil {
			row := w.Visibility
			if m.cut {
				row = cutToSystem(row)
			}
			g.rows[k].write.Visibility = row
		}
	}
	return nil
}

// addRun merges a write into what the group has for the run.
func (g *groupBatch) addRun(k runKey, shard persistence.ShardID, w *persistence.RunWrite) error {
	if t := w.Transition; t != nil {
		g.addTransition(w.Bucket, k.run, t)
	}
	if w.Snapshot != nil && !w.Snapshot.Dense {
		g.purges = append(g.purges, purge{k, shard, w.Bucket, w.Snapshot.Seq})
	}
	old, ok := g.rows[k]
	if !ok {
		row := &mergedRun{key: k, shard: shard, write: *w}
		g.rows[k] = row
		g.order = append(g.order, row)
		return nil
	}
	if w.Insert {
		return fmt.Errorf("%w: run %s is inserted twice", persistence.ErrConflict, k.run)
	}
	into := &old.write
	into.Bucket = w.Bucket
	if w.SetStatus {
		into.SetStatus, into.Status, into.Open = true, w.Status, w.Open
	}
	if w.SetWakeAt {
		into.SetWakeAt, into.WakeAt = true, w.WakeAt
	}
	if w.SetHasEffects {
		into.SetHasEffects, into.HasEffects = true, w.HasEffects
	}
	if w.Snapshot != nil {
		into.Snapshot = w.Snapshot
	}
	return nil
}

func (g *groupBatch) addTransition(bucket int32, run uuidBytes, t *persistence.Transition) {
	c := g.transitions.columns
	c[0].int32(bucket)
	c[1].uuid(run)
	c[2].int64(t.Seq)
	c[3].int64(t.FirstEventID)
	c[4].bytesOrNull(t.Events)
	c[5].bytesOrNull(t.Parts)
}

// expectNone has it checked that a member's key has no run.
func (g *groupBatch) expectNone(index int, m *member) {
	c := g.firsts.columns
	c[0].int32(int32(m.shard))
	c[1].uuid(m.namespace)
	c[2].int16(int16(m.mutation.Key.Kind))
	c[3].text(m.mutation.Key.BusinessID)
	g.firstOwners = append(g.firstOwners, []int{index})
}

func addRunKey(t *table, k runKey, shard persistence.ShardID) {
	t.columns[0].int32(int32(shard))
	t.columns[1].uuid(k.namespace)
	t.columns[2].int16(int16(k.kind))
	t.columns[3].text(k.business)
	t.columns[4].uuid(k.run)
}

// finish writes the merged rows into the arrays. An insert of an open run comes after the update that closed the one before it, since
// updates are a statement of their own, and that one comes first.
func (g *groupBatch) finish() {
	for _, row := range g.order {
		if row.write.Insert {
			g.insertRow(row)
		} else if changesRow(&row.write) {
			g.updateRow(row)
		}
		if row.write.Visibility != nil {
			g.visibilityRow(row)
		}
	}
	for _, q := range g.queueOrder {
		addQueueKey(g.queues, q.queue)
		g.queues.columns[4].bytes(q.metadata)
	}
}

func changesRow(w *persistence.RunWrite) bool {
	return w.SetStatus || w.SetWakeAt || w.SetHasEffects || w.Snapshot != nil
}

func (g *groupBatch) insertRow(row *mergedRun) {
	c, w := g.inserts.columns, &row.write
	addRunKey(g.inserts, row.key, row.shard)
	c[5].int32(w.Status)
	c[6].bool(w.Open)
	c[7].int32(w.Bucket)
	nanosOrNull(c[8], w.WakeAt)
	c[9].bool(w.HasEffects)
	c[10].text(w.StartRequestID)
	snapshot(c[11], c[12], w.Snapshot)
}

func (g *groupBatch) updateRow(row *mergedRun) {
	c, w := g.updates.columns, &row.write
	addRunKey(g.updates, row.key, row.shard)
	if w.SetStatus {
		c[5].int32(w.Status)
		c[6].bool(w.Open)
	} else {
		c[5].null()
		c[6].null()
	}
	c[7].int32(w.Bucket)
	c[8].bool(w.SetWakeAt)
	nanosOrNull(c[9], w.WakeAt)
	if w.SetHasEffects {
		c[10].bool(w.HasEffects)
	} else {
		c[10].null()
	}
	snapshot(c[11], c[12], w.Snapshot)
}

func snapshot(seq, parts *array, s *persistence.Snapshot) {
	if s == nil {
		seq.null()
		parts.null()
		return
	}
	seq.int64(s.Seq)
	parts.bytes(s.Parts)
}

func nanosOrNull(a *array, t time.Time) {
	if t.IsZero() {
		a.null()
		return
	}
	a.int64(visibilitysql.Nanos(t))
}

func (g *groupBatch) visibilityRow(row *mergedRun) {
	c, v := g.visibility.columns, row.write.Visibility
	c[0].uuid(row.key.namespace)
	c[1].uuid(row.key.run)
	c[2].text(storable(v.WorkflowID))
	c[3].text(storable(v.WorkflowType))
	c[4].text(storable(v.TaskQueue))
	c[5].int32(v.Status)
	c[6].int64(visibilitysql.Nanos(v.StartTime))
	c[7].int64(visibilitysql.Nanos(v.ExecutionTime))
	nanosOrNull(c[8], v.CloseTime)
	c[9].int64(v.HistoryLength)
	c[10].int64(v.HistorySizeBytes)
	c[11].int64(v.StateTransitionCount)
	c[12].textOrNull(storable(v.ParentWorkflowID))
	uuidOrNull(c[13], v.ParentRunID)
	c[14].textOrNull(storable(v.RootWorkflowID))
	uuidOrNull(c[15], v.RootRunID)
	if isObject(v.SearchAttributes) {
		c[16].bytes(v.SearchAttributes)
	} else {
		c[16].null()
	}
	c[17].bytesOrNull(v.Memo)
}

// isObject tells JSON objects from other JSON. What is no JSON at all, the database finds out.
func isObject(document []byte) bool {
	trimmed := bytes.TrimLeft(document, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{' && len(bytes.Trim(trimmed[1:], " \t\r\n}")) > 0
}

func uuidOrNull(a *array, s string) {
	id, ok := parseUUID(s)
	if !ok {
		a.null()
		return
	}
	a.uuid(id)
}

// storable replaces what PostgreSQL's text cannot hold. Visibility shows such a text as well as it can.
func storable(s string) string {
	if !strings.ContainsRune(s, 0) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cutToSystem is the row without what users chose freely.
func cutToSystem(v *persistence.VisibilityRow) *persistence.VisibilityRow {
	const textMax = 1024 // fits into every index even if nothing can be compressed
	cut := *v
	cut.SearchAttributes, cut.Memo = nil, nil
	cut.WorkflowType = cutText(v.WorkflowType, textMax)
	cut.WorkflowID = cutText(v.WorkflowID, textMax)
	return &cut
}

func cutText(s string, bytesMax int) string {
	if len(s) <= bytesMax {
		return s
	}
	return strings.ToValidUTF8(s[:bytesMax], "")
}

func (g *groupBatch) addRunDelete(index int, d *runDelete) error {
	g.fenceShard(index, d.shard, d.epoch)
	if g.deletedRuns[d.key] {
		return nil
	}
	g.deletedRuns[d.key] = true
	t := g.runDeletes[d.bucket]
	if t == nil {
		t = newTable(oidUUID)
		g.runDeletes[d.bucket] = t
	}
	t.columns[0].uuid(d.key.run)
	addRunKey(g.deletes, d.key, d.shard)
	g.visibilityDeletes.columns[0].uuid(d.key.namespace)
	g.visibilityDeletes.columns[1].uuid(d.key.run)
	return nil
}

// fenceShard has each epoch of each shard checked once.
func (g *groupBatch) fenceShard(index int, shard persistence.ShardID, epoch persistence.Epoch) {
	key := shardEpoch{shard, epoch}
	row, ok := g.shardRows[key]
	if !ok {
		row = len(g.fenceOwners)
		g.shardRows[key] = row
		g.fenceOwners = append(g.fenceOwners, nil)
		g.fence.columns[0].int32(int32(shard))
		g.fence.columns[1].int64(int64(epoch))
	}
	g.fenceOwners[row] = append(g.fenceOwners[row], index)
}

func (g *groupBatch) addQueueWrite(index int, w *queueWrite) error {
	if g.queuesDeleted[w.id] {
		return persistence.ErrFenced // the queue and with it the ownership end in this group
	}
	g.fenceQueue(index, w)
	for i := range w.tasks {
		t := &w.tasks[i]
		c := g.tasks.columns
		addQueueKey(g.tasks, w.id)
		c[4].int16(t.Key.Level)
		c[5].int64(t.Key.Pass)
		c[6].int64(t.Key.ID)
		c[7].bytes(t.Task)
	}
	if w.setMetadata {
		g.setMetadata(w)
	}
	for _, r := range w.ranges {
		c := g.taskDeletes.columns
		addQueueKey(g.taskDeletes, w.id)
		c[4].int16(r.Level)
		c[5].int64(r.From.Pass)
		c[6].int64(r.From.ID)
		c[7].int64(r.To.Pass)
		c[8].int64(r.To.ID)
	}
	if w.deleteQueue {
		g.queuesDeleted[w.id] = true
		addQueueKey(g.queueDeletes, w.id)
	}
	return nil
}

func (g *groupBatch) setMetadata(w *queueWrite) {
	if i, ok := g.queueMetadata[w.id]; ok {
		g.queueOrder[i].metadata = w.metadata
		return
	}
	g.queueMetadata[w.id] = len(g.queueOrder)
	g.queueOrder = append(g.queueOrder, queueMetadata{w.id, w.metadata})
}

func (g *groupBatch) fenceQueue(index int, w *queueWrite) {
	key := queueEpoch{w.id, w.epoch}
	row, ok := g.queueRows[key]
	if !ok {
		row = len(g.queueOwners)
		g.queueRows[key] = row
		g.queueOwners = append(g.queueOwners, nil)
		addQueueKey(g.queueFence, w.id)
		g.queueFence.columns[4].int64(int64(w.epoch))
	}
	g.queueOwners[row] = append(g.queueOwners[row], index)
}

func addQueueKey(t *table, q queueID) {
	t.columns[0].uuid(q.namespace)
	t.columns[1].text(q.name)
	t.columns[2].int16(q.typ)
	t.columns[3].int32(q.partition)
}

// blame turns the failure of a check into the errors of the members behind it.
func (g *groupBatch) blame(err *pgconn.PgError) *group.BlameError {
	owners, fault := g.fenceOwners, persistence.ErrFenced
	switch err.Code {
	case stateStaleQueue:
		owners = g.queueOwners
	case stateKeyExists:
		owners, fault = g.firstOwners, persistence.ErrExists
	}
	blamed := &group.BlameError{Members: map[int]error{}}
	for _, position := range strings.Split(err.Detail, ",") {
		n, convErr := strconv.Atoi(position)
		if convErr != nil || n < 1 || n > len(owners) {
			continue
		}
		for _, index := range slices.Clone(owners[n-1]) {
			blamed.Members[index] = fault
		}
	}
	return blamed
}
