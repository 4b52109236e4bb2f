package postgres

import "encoding/binary"

// table is what a group writes with one statement: an array per parameter. Rows are added column by column.
type table struct{ columns []*array }

func newTable(oids ...uint32) *table {
	t := &table{columns: make([]*array, len(oids))}
	for i, oid := range oids {
		t.columns[i] = newArray(oid)
	}
	return t
}

func (t *table) rows() int { return t.columns[0].n }

func (t *table) reset() {
	for _, c := range t.columns {
		c.reset()
	}
}

func (t *table) values() [][]byte {
	values := make([][]byte, len(t.columns))
	for i, c := range t.columns {
		values[i] = c.value()
	}
	return values
}

func int16Param(v int16) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func int32Param(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }
func int64Param(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }

// groupBatch is what a group writes, by statement. A committer uses it again and again.
type groupBatch struct {
	fence, queueFence          *table
	firsts                     *table // keys that are to have no run yet
	transitions                *table
	purges                     []purge
	updates, inserts           *table
	visibility                 *table
	runDeletes                 map[int32]*table // by bucket
	deletes, visibilityDeletes *table
	tasks, queues              *table
	taskDeletes, queueDeletes  *table
	fenceOwners, queueOwners   [][]int // the members behind each row of the fences
	firstOwners                [][]int // and of firsts
	rows                       map[runKey]*mergedRun
	order                      []*mergedRun // rows in the order of their first write
	shardRows                  map[shardEpoch]int
	queueRows                  map[queueEpoch]int
	deletedRuns                map[runKey]bool
	queueMetadata              map[queueID]int // row of queues, of the last write
	queueOrder                 []queueMetadata
	queuesDeleted              map[queueID]bool
}

func newGroupBatch() *groupBatch {
	queue := []uint32{oidUUID, oidText, oidInt2, oidInt4}
	run := []uint32{oidInt4, oidUUID, oidInt2, oidText, oidUUID}
	with := func(prefix []uint32, more ...uint32) []uint32 {
		return append(append([]uint32(nil), prefix...), more...)
	}
	g := &groupBatch{
		fence:       newTable(oidInt4, oidInt8),
		queueFence:  newTable(with(queue, oidInt8)...),
		firsts:      newTable(run[:4]...),
		transitions: newTable(oidInt4, oidUUID, oidInt8, oidInt8, oidBytea, oidBytea),
		updates: newTable(with(run, oidInt4, oidBool, oidInt4, oidBool, oidInt8, oidBool, oidInt8,
			oidBytea)...),
		inserts: newTable(with(run, oidInt4, oidBool, oidInt4, oidInt8, oidBool, oidText, oidInt8, oidBytea)...),
		visibility: newTable(oidUUID, oidUUID, oidText, oidText, oidText, oidInt4, oidInt8, oidInt8, oidInt8, oidInt8, oidInt8,
			oidInt8, oidText, oidUUID, oidText, oidUUID, oidText, oidBytea),
		deletes:           newTable(run...),
		visibilityDeletes: newTable(oidUUID, oidUUID),
		tasks:             newTable(with(queue, oidInt2, oidInt8, oidInt8, oidBytea)...),
		queues:            newTable(with(queue, oidBytea)...),
		taskDeletes:       newTable(with(queue, oidInt2, oidInt8, oidInt8, oidInt8, oidInt8)...),
		queueDeletes:      newTable(queue...),
	}
	g.reset()
	return g
}

func (g *groupBatch) reset() {
	for _, t := range []*table{g.fence, g.queueFence, g.firsts, g.transitions, g.updates, g.inserts, g.visibility, g.deletes, g.visibilityDeletes,
		g.tasks, g.queues, g.taskDeletes, g.queueDeletes} {
		t.reset()
	}
	g.purges, g.runDeletes = nil, map[int32]*table{}
	g.fenceOwners, g.queueOwners, g.firstOwners = nil, nil, nil
	g.rows, g.order = map[runKey]*mergedRun{}, nil
	g.shardRows, g.queueRows = map[shardEpoch]int{}, map[queueEpoch]int{}
	g.deletedRuns = map[runKey]bool{}
	g.queueMetadata, g.queueOrder = map[queueID]int{}, nil
	g.queuesDeleted = map[queueID]bool{}
}
