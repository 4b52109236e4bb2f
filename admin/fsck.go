package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// Store is what Fsck reads.
type Store interface {
	persistence.Inspector
	// ListRuns returns the runs of a key, newest first.
	ListRuns(ctx context.Context, key persistence.ExecutionKey, limit int) ([]*persistence.Run, error)
}

// Check names an invariant.
type Check string

// The invariants, in the order in which docs/operations.md explains them.
const (
	// Undecodable: a snapshot, a part or an event is not what it should be.
	Undecodable Check = "undecodable"
	// WrongShard: the row is not in the shard of its key, where nobody looks for it.
	WrongShard Check = "wrong_shard"
	// Identity: the state names another namespace, workflow, run or start request than the row.
	Identity Check = "identity"
	// SeqGap: a row of the log is missing that the state needs.
	SeqGap Check = "seq_gap"
	// EventGap: event ids are not dense, or not those that the rows and the state promise.
	EventGap Check = "event_gap"
	// SnapshotDiffers: the snapshot is not the fold of the rows up to it.
	SnapshotDiffers Check = "snapshot_differs"
	// StatusDiffers: the row's status, or whether it is open, is not the state's.
	StatusDiffers Check = "status_differs"
	// TwoOpenRuns: a business id has more than one open run.
	TwoOpenRuns Check = "two_open_runs"
	// OldRunOpen: a run is open that is not the newest of its business id.
	OldRunOpen Check = "old_run_open"
	// PendingAfterClose: a closed run has a pending task, activity or timer.
	PendingAfterClose Check = "pending_after_close"
	// EffectsUnflagged: a run has effects to carry out, but a new owner would not look at it.
	EffectsUnflagged Check = "effects_unflagged"
	// WakeupLate: the stored wake-up is after the run's next deadline, or missing.
	WakeupLate Check = "wakeup_late"
	// VisibilityMissing: the run has no visibility row.
	VisibilityMissing Check = "visibility_missing"
	// VisibilityDiffers: the visibility row does not say what the state says.
	VisibilityDiffers Check = "visibility_differs"
	// OrphanTransitions: a log whose run has no row.
	OrphanTransitions Check = "orphan_transitions"
	// OrphanVisibility: a visibility row whose run has no row.
	OrphanVisibility Check = "orphan_visibility"
)

// Checks lists all of them.
func Checks() []Check {
	return []Check{Undecodable, WrongShard, Identity, SeqGap, EventGap, SnapshotDiffers, StatusDiffers, TwoOpenRuns, OldRunOpen,
		PendingAfterClose, EffectsUnflagged, WakeupLate, VisibilityMissing, VisibilityDiffers, OrphanTransitions, OrphanVisibility}
}

// Violation is an invariant that something stored breaks.
type Violation struct {
	Check       Check  `json:"check"`
	NamespaceID string `json:"namespaceId,omitempty"`
	WorkflowID  string `json:"workflowId,omitempty"`
	RunID       string `json:"runId"`
	Detail      string `json:"detail"`
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: namespace %s, workflow %q, run %s: %s", v.Check, v.NamespaceID, v.WorkflowID, v.RunID, v.Detail)
}

// Counts is what a check has gone through.
type Counts struct {
	Runs        int64 `json:"runs"`
	Transitions int64 `json:"transitions"`
	Events      int64 `json:"events"`
	Violations  int64 `json:"violations"`
	// Leftovers are logs of resets that did not come to their end. They take room and do no harm.
	Leftovers int64 `json:"leftovers"`
	// Unknown are runs of kinds that this binary does not know; only their logs are checked.
	Unknown int64 `json:"unknown"`
}

// Options of Fsck. Zero values mean the defaults.
type Options struct {
	// PageSize is how many runs are read in one transaction (default 200): few enough that none lasts long.
	PageSize int
	// Violation is told of each violation as it is found; nil: they are only counted.
	Violation func(Violation)
	// Progress is told after each page; nil: nobody is.
	Progress func(Counts)
}

const (
	pageSizeDefault = 200
	// runsPerKeyMax bounds the runs of one business id that are looked at for one that is open beside another.
	runsPerKeyMax = 10_000
)

// Fsck verifies everything in a database. Its error says that the check could not be finished, not that something is wrong:
// that is Counts.Violations.
func Fsck(ctx context.Context, store Store, o Options) (Counts, error) {
	f := &fsck{store: store, options: o}
	if f.options.PageSize <= 0 {
		f.options.PageSize = pageSizeDefault
	}
	if err := f.runs(ctx); err != nil {
		return f.counts, fmt.Errorf("check the runs: %w", err)
	}
	if err := store.InspectOrphans(ctx, f.orphan); err != nil {
		return f.counts, fmt.Errorf("look for orphans: %w", err)
	}
	return f.counts, nil
}

// fsck is a check under way.
type fsck struct {
	store   Store
	options Options
	counts  Counts
	// open is the last open run, suspects are keys that seem to have another run beside it.
	open     persistence.RunPosition
	suspects []persistence.ExecutionKey
	// judged is the last key that was looked at for that: keys come in order, over pages.
	judged persistence.ExecutionKey
}

func (f *fsck) report(v Violation) {
	f.counts.Violations++
	if f.options.Violation != nil {
		f.options.Violation(v)
	}
}

func (f *fsck) runs(ctx context.Context) error {
	var after *persistence.RunPosition
	for {
		next, err := f.store.InspectRuns(ctx, after, f.options.PageSize, f.run)
		if err != nil {
			return err
		}
		if err := f.checkSuspects(ctx); err != nil {
			return err
		}
		if f.options.Progress != nil {
			f.options.Progress(f.counts)
		}
		if next == nil {
			return nil
		}
		after = next
	}
}

func (f *fsck) run(r *persistence.StoredRun) error {
	f.counts.Runs++
	f.suspect(r)
	c := newCheck(r)
	for row, err := range r.Log {
		if err != nil {
			return fmt.Errorf("run %s: %w", r.RunID, err)
		}
		c.row(row)
	}
	c.finish()
	f.counts.Transitions += c.rows
	f.counts.Events += c.events
	if c.unknown {
		f.counts.Unknown++
	}
	for _, v := range c.found {
		f.report(v)
	}
	return nil
}

// suspect notes a key of which an open run is followed by another run. The runs may come from two pages and so from two moments,
// between which the first may have closed: [fsck.checkSuspects] decides.
func (f *fsck) suspect(r *persistence.StoredRun) {
	if f.open.RunID != "" && f.open.Key == r.Key {
		f.suspects = append(f.suspects, r.Key)
	}
	f.open = persistence.RunPosition{}
	if r.Open {
		f.open = r.Position()
	}
}

// checkSuspects reads the runs of suspicious keys again, those of a key in one statement.
func (f *fsck) checkSuspects(ctx context.Context) error {
	for _, key := range f.suspects {
		if key == f.judged {
			continue
		}
		f.judged = key
		runs, err := f.store.ListRuns(ctx, key, runsPerKeyMax)
		if err != nil {
			return err
		}
		f.checkOpen(key, runs)
	}
	f.suspects = nil
	return nil
}

func (f *fsck) checkOpen(key persistence.ExecutionKey, newestFirst []*persistence.Run) {
	opens := 0
	for i, r := range newestFirst {
		if !r.Open {
			continue
		}
		v := Violation{NamespaceID: key.NamespaceID, WorkflowID: key.BusinessID, RunID: r.RunID}
		if opens++; opens > 1 {
			v.Check, v.Detail = TwoOpenRuns, "another run of this workflow id is open too"
			f.report(v)
		}
		if i > 0 {
			v.Check, v.Detail = OldRunOpen, "the run is open, but run "+newestFirst[0].RunID+" is newer"
			f.report(v)
		}
	}
}

func (f *fsck) orphan(o *persistence.Orphan) error {
	v := Violation{NamespaceID: o.NamespaceID, WorkflowID: o.BusinessID, RunID: o.RunID}
	if o.Visibility {
		v.Check, v.Detail = OrphanVisibility, "the run is listed but does not exist"
		f.report(v)
		return nil
	}
	start, err := firstStart(o.First.Parts)
	if err == nil && start.GetRunId() != o.RunID {
		// Only a reset gives a run the rows of another one, and it does so before the run exists.
		f.counts.Leftovers++
		return nil
	}
	v.NamespaceID, v.WorkflowID = start.GetNamespaceId(), start.GetWorkflowId()
	v.Check, v.Detail = OrphanTransitions, fmt.Sprintf("there is a log in bucket %d, but no run there", o.Bucket)
	f.report(v)
	return nil
}

var errNoStart = errors.New("no part \"start\"")

// firstStart is the start part of a log's first row.
func firstStart(encoded []byte) (*statepb.Start, error) {
	parts := &statepb.Parts{}
	if err := proto.Unmarshal(encoded, parts); err != nil {
		return nil, err
	}
	for _, p := range parts.GetParts() {
		if p.GetKey() == partStart {
			start := &statepb.Start{}
			return start, proto.Unmarshal(p.GetValue(), start)
		}
	}
	return nil, errNoStart
}

// timeText is a time in messages.
func timeText(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.RFC3339Nano)
}
