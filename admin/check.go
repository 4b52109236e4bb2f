package admin

import (
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

// check is the check of one run. Rows come one by one, then finish.
type check struct {
	run     *persistence.StoredRun
	found   []Violation
	unknown bool
	rows    int64
	events  int64

	fold *fold
	// tail are the parts of the rows after the snapshot.
	tail      [][]byte
	lastSeq   int64
	nextEvent int64
	// atSnapshot: the row of the snapshot has been seen.
	atSnapshot bool
	// reported keeps a run whose rows do not fit together from being reported once per row.
	reported map[Check]bool
}

func newCheck(r *persistence.StoredRun) *check {
	c := &check{run: r, nextEvent: 1, fold: newFold(), reported: map[Check]bool{}, unknown: r.Key.Kind != persistence.KindWorkflow}
	if shard := r.Key.Shard(); shard != r.Shard {
		c.violated(WrongShard, "the row is in shard %d, its key belongs into shard %d", r.Shard, shard)
	}
	return c
}

// violated reports a violation, the first of its kind.
func (c *check) violated(what Check, format string, args ...any) {
	if c.reported[what] {
		return
	}
	c.reported[what] = true
	key := c.run.Key
	c.found = append(c.found, Violation{Check: what, NamespaceID: key.NamespaceID, WorkflowID: key.BusinessID, RunID: c.run.RunID, Detail: fmt.Sprintf(format, args...)})
}

func (c *check) row(t persistence.Transition) {
	c.rows++
	c.checkSeq(t)
	c.checkEvents(t)
	parts := &statepb.Parts{}
	if err := proto.Unmarshal(t.Parts, parts); err != nil {
		c.violated(Undecodable, "parts of row %d: %v", t.Seq, err)
	}
	snapshot := c.run.Snapshot
	if snapshot == nil || t.Seq > snapshot.Seq {
		c.tail = append(c.tail, t.Parts)
		return
	}
	c.fold.add(t.Seq, parts.GetParts())
	if t.Seq == snapshot.Seq {
		c.atSnapshot = true
		c.checkSnapshot()
	}
}

// checkSeq demands every row after the snapshot. Before it, those without events have been deleted; that none with events is
// missing, the event ids tell.
func (c *check) checkSeq(t persistence.Transition) {
	if snapshot := c.run.Snapshot; (snapshot == nil || t.Seq > snapshot.Seq) && t.Seq != c.lastSeq+1 {
		c.violated(SeqGap, "row %d follows row %d", t.Seq, c.lastSeq)
	}
	c.lastSeq = t.Seq
}

func (c *check) checkEvents(t persistence.Transition) {
	if c.unknown {
		return
	}
	if t.FirstEventID != c.nextEvent {
		c.violated(EventGap, "row %d says that its first event is %d, but %d is next", t.Seq, t.FirstEventID, c.nextEvent)
	}
	events := &statepb.Events{}
	if err := proto.Unmarshal(t.Events, events); err != nil {
		c.violated(Undecodable, "events of row %d: %v", t.Seq, err)
		return
	}
	for _, e := range events.GetEvents() {
		if e.GetEventId() != c.nextEvent {
			c.violated(EventGap, "row %d has event %d where %d is next", t.Seq, e.GetEventId(), c.nextEvent)
		}
		c.nextEvent = e.GetEventId() + 1
		c.events++
	}
}

func (c *check) checkSnapshot() {
	parts := &statepb.Parts{}
	if err := proto.Unmarshal(c.run.Snapshot.Parts, parts); err != nil {
		c.violated(Undecodable, "snapshot: %v", err)
		return
	}
	if difference := c.fold.compare(parts.GetParts()); difference != "" {
		c.violated(SnapshotDiffers, "the snapshot of row %d: %s", c.run.Snapshot.Seq, difference)
	}
	c.fold = nil
}

// finish checks what needs the whole run.
func (c *check) finish() {
	if c.rows == 0 {
		c.violated(SeqGap, "the run has no rows in bucket %d", c.run.Bucket)
	} else if s := c.run.Snapshot; s != nil && !c.atSnapshot {
		c.violated(SeqGap, "there is a snapshot of row %d, but no such row; the last one is row %d", s.Seq, c.lastSeq)
	}
	if c.unknown {
		return
	}
	if c.run.Visibility == nil {
		c.violated(VisibilityMissing, "the run cannot be listed")
	}
	state, err := c.load()
	if err != nil {
		c.violated(Undecodable, "the state cannot be loaded: %v", err)
		return
	}
	c.checkIdentity(state)
	c.checkStatus(state)
	if next := state.Core.GetNextEventId(); next != c.nextEvent {
		c.violated(EventGap, "the state says that the next event is %d, the log ends before %d", next, c.nextEvent)
	}
	c.checkPending(state)
	c.checkOwnerFields(state)
	if c.run.Visibility != nil {
		if difference := compareVisibility(state, c.run.Visibility); difference != "" {
			c.violated(VisibilityDiffers, "%s", difference)
		}
	}
}

func (c *check) load() (*workflow.State, error) {
	if c.run.Snapshot == nil {
		return workflow.Load(nil, c.tail)
	}
	return workflow.Load(c.run.Snapshot.Parts, c.tail)
}

func (c *check) checkIdentity(s *workflow.State) {
	for _, id := range []struct{ what, stored, state string }{
		{"namespace", c.run.Key.NamespaceID, s.Start.GetNamespaceId()},
		{"workflow", c.run.Key.BusinessID, s.Start.GetWorkflowId()},
		{"run", c.run.RunID, s.Start.GetRunId()},
		{"start request", c.run.StartRequestID, s.Start.GetRequestId()},
	} {
		if id.stored != id.state {
			c.violated(Identity, "the %s of the row is %q, that of the state %q", id.what, id.stored, id.state)
		}
	}
}

func (c *check) checkStatus(s *workflow.State) {
	status := enumspb.WorkflowExecutionStatus(c.run.Status)
	if status != s.Core.GetStatus() || c.run.Open != s.Open() {
		c.violated(StatusDiffers, "the row says %s (open: %t), the state %s (open: %t)", status, c.run.Open, s.Core.GetStatus(), s.Open())
	}
}

func (c *check) checkPending(s *workflow.State) {
	if s.Open() {
		return
	}
	task := 0
	if s.Core.GetTask() != nil {
		task = 1
	}
	if task+len(s.Activities)+len(s.Timers)+len(s.Buffered) > 0 {
		c.violated(PendingAfterClose, "the run is closed and has %d workflow tasks, %d activities, %d timers and %d buffered events",
			task, len(s.Activities), len(s.Timers), len(s.Buffered))
	}
}

// checkOwnerFields: without the flag, nothing of the run may be lost to an owner that only waits for its wake-up. With it, every
// owner loads the run, so the wake-up need not be right.
func (c *check) checkOwnerFields(s *workflow.State) {
	if c.run.HasEffects {
		return
	}
	if n := len(s.PendingEffects()); n > 0 {
		c.violated(EffectsUnflagged, "%d effects are pending, and the row does not carry the flag", n)
	}
	due := s.NextDeadline()
	if !due.IsZero() && (c.run.WakeAt.IsZero() || c.run.WakeAt.After(due)) {
		c.violated(WakeupLate, "the next deadline is at %s, the stored wake-up at %s", timeText(due), timeText(c.run.WakeAt))
	}
}

// sameTime compares with what a database keeps of a time: microseconds at least.
func sameTime(a, b time.Time) bool {
	return a.Truncate(time.Microsecond).Equal(b.Truncate(time.Microsecond))
}
