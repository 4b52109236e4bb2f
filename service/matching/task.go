package matching

import (
	"container/list"
	"time"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// A queue has the priority levels 1 (first) … levelMax; a task that names none has levelDefault.
const (
	levelDefault = 3
	levelMax     = 5
)

// levelOf is the effective level of a priority key; too large ones are clipped.
func levelOf(priorityKey int32) int16 {
	switch {
	case priorityKey <= 0:
		return levelDefault
	case priorityKey > levelMax:
		return levelMax
	default:
		return int16(priorityKey)
	}
}

// source says where a task comes from and with that what becomes of it when it is done.
type source uint8

const (
	// sourceFresh tasks have a caller of AddTask waiting for them.
	sourceFresh source = iota
	// sourceBacklog tasks have a row.
	sourceBacklog
	// sourceQuery tasks have a caller of Query waiting for them.
	sourceQuery
)

// task is what a poll can get.
type task struct {
	// source and key change, under the partition's lock, when a fresh task is stored.
	source source
	level  int16
	// key is the row's, of a backlog task. A fresh one has a pass, and a number in the order of arrival as its id.
	key persistence.TaskKey
	// data is nil for a query, query for everything else.
	data  *statepb.Task
	query *query
	// startID is the request id of the task's start from the first try until the outcome is known. Empty: nobody tried.
	startID string
	// failures counts the polls that gave up on starting it.
	failures int
	// outcome gets one value when a fresh task is done. Its buffer is 1: the sender never waits.
	outcome chan outcome
	// abandoned is set when the caller that waits for a fresh task or a query is gone.
	abandoned bool
	// forwarded: the task came from another partition, which has the caller or the row. offered: it waits, or has waited, here.
	forwarded, offered bool
	// ordered: the task is to be dispatched from the backlog only, after what is older.
	ordered bool
	// storing: a row is being written for it, while it may still meet a poll here. finished: it was started, or is obsolete.
	storing, finished bool
	// charged is when tokens were taken for the task; zero: they were not.
	charged time.Time
	// heap is where the task waits, and index its place there; a query waits in a list, at element. Else they are nil.
	heap    *taskHeap
	index   int
	element *list.Element
}

// fairnessKey is the key under which the task shares its queue with others.
func (t *task) fairnessKey() string { return t.data.GetPriority().GetFairnessKey() }

// outcome is what became of a fresh task.
type outcome uint8

const (
	// outcomeDone: started or obsolete.
	outcomeDone outcome = iota + 1
	// outcomeStickyGone: the sticky queue's worker has left.
	outcomeStickyGone
	// outcomeLost: the partition was given up; nothing is known to have happened.
	outcomeLost
)

func (t *task) finish(o outcome) {
	if t.outcome != nil {
		t.outcome <- o
	}
}

func (t *task) expired(now time.Time) bool {
	expiry := t.data.GetExpiry()
	return expiry != nil && !expiry.AsTime().After(now)
}

// created is when the task was made; zero if that is not known.
func (t *task) created() time.Time {
	if ts := t.data.GetCreateTime(); ts != nil {
		return ts.AsTime()
	}
	return time.Time{}
}

// poll is a poller that waits.
type poll struct {
	id          string
	identity    string
	instanceKey string
	// before, if set, is what the poll's task must go before.
	before *turn
	// since is when the call joined the line first, waited how long it has waited for the task that it was given.
	since  time.Time
	waited time.Duration
	// given gets the task, or nil when the poll is to end empty. Its buffer is 1: the sender never waits.
	given chan *task
	// element is the poll's place in the line while it waits; else nil.
	element *list.Element
}
