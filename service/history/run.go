package history

import (
	"container/list"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/perdure/perdure/machine/workflow"
)

// run is a cached run: its state, what is known of its rows, and who waits for it. It is guarded by its chain's lock.
type run struct {
	chain  *chain
	id     string
	bucket int32
	state  *workflow.State

	// Of the stored rows: the last one, and what the executions row says.
	seq     int64
	wakeAt  time.Time
	flagged bool // has_effects
	// Of the log since the last snapshot.
	rows          int
	dense         bool // each of the rows is known to hold events
	partsBytes    int
	snapshotBytes int

	recent recentEvents

	// changed is closed when the history grows, the run closes, or the cached run is dropped; nil: nobody waits.
	changed chan struct{}
	waiters int
	// followers are those of the waiters that want every event.
	followers int
	queries   []*bufferedQuery
	updates   []*updateWait
	// notBefore keeps a wake-up that has failed from coming again at once.
	notBefore time.Time
	// dropped: this is no longer the run. Whoever waited looks again.
	dropped bool

	// Guarded by cache.mu: where the cache keeps it, and the bytes that it is counted with.
	element *list.Element
	list    *list.List
	counted int64
	touched time.Time
}

// runOverhead is the memory of a run apart from its payloads, roughly.
const runOverhead = 6 << 10

// bytes is how much memory the run takes, roughly: decoded parts are about twice their encoding.
func (r *run) bytes() int64 {
	return int64(runOverhead + 2*(r.snapshotBytes+r.partsBytes) + r.recent.bytes)
}

// pinned tells whether the run must stay in memory: something of it is not in its rows, or somebody waits on it.
func (r *run) pinned() bool {
	return r.flagged || r.waiters > 0 || len(r.queries) > 0 || len(r.updates) > 0 || hasVolatile(r.state)
}

func hasVolatile(s *workflow.State) bool {
	v := &s.Volatile
	return v.Task != nil || len(v.Heartbeats) > 0 || len(v.Acked) > 0 || len(v.Updates) > 0
}

// quiet tells whether nothing would be lost to a new owner that does not look at the run: its effects flag can be cleared. A
// workflow task that waits in matching's backlog is durable there; one in the hands of a worker must have a durable start.
func (r *run) quiet() bool {
	return r.state.Volatile.Task == nil && len(r.state.PendingEffects()) == 0 && !r.state.Deleting()
}

func (r *run) status() enumspb.WorkflowExecutionStatus { return r.state.Core.Status }

// wait returns a channel that is closed when there may be news of the run. Done follows, under the lock.
func (r *run) wait() <-chan struct{} {
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	r.waiters++
	return r.changed
}

func (r *run) done() { r.waiters-- }

// startedInMemory tells whether a normal workflow task has been started, and the history does not have that yet.
func (r *run) startedInMemory() bool { return r.state.StartedInMemory(r.state.Core.NextEventId) }

// notify wakes whoever waits.
func (r *run) notify() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// wake is when the run is to be woken; zero: never.
func (r *run) wake() time.Time {
	at := r.state.NextDeadline()
	if !at.IsZero() && at.Before(r.notBefore) {
		return r.notBefore
	}
	return at
}
