package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	eventpb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

// change is a transition of one run on its way to the store.
type change struct {
	run *run
	tx  *workflow.Tx
	// newRunID is that of the run that may follow this one.
	newRunID string
	// inHand: the workflow task that the transition schedules is given to somebody right after it, not dispatched.
	inHand bool
	// res is what the finished transition asks for; set by commit.
	res *workflow.Result
	// write is its row, if it has one.
	write *persistence.RunWrite
}

// begin opens a transition of a run. withStart provides the run's first event: it must be set where a new run may follow.
func (x *access) begin(r *run, withStart bool) (*change, error) {
	newRunID, err := x.newRunID()
	if err != nil {
		return nil, err
	}
	env := x.env(newRunID)
	if withStart {
		if env.StartEvent, err = x.event(r, 1); err != nil {
			return nil, err
		}
	}
	return &change{run: r, tx: workflow.Begin(r.state, x.now, env), newRunID: newRunID}, nil
}

// transition applies one input to a run and commits what follows from it.
func (x *access) transition(r *run, input func(*workflow.Tx) error) (*workflow.Result, error) {
	c, err := x.begin(r, false)
	if err != nil {
		return nil, err
	}
	if c.tx.EnforceLimits() {
		if err := x.commit(c); err != nil {
			return nil, err
		}
		return nil, errCompleted
	}
	if err := input(c.tx); err != nil {
		return nil, err
	}
	if err := x.commit(c); err != nil {
		return nil, err
	}
	return c.res, nil
}

// open makes a new run's first transition.
func (x *access) open(o workflow.Opening) *change {
	return &change{run: x.newRun(o.RunID), tx: workflow.Open(o, x.now, x.env(""))}
}

func (x *access) newRun(id string) *run { return &run{chain: x.chain, id: id, dense: true} }

// commit finishes transitions of runs of this execution and stores them together; then they are the state, and their effects
// are under way. A run that closes must come before the one that opens. Runs that follow by themselves (continue-as-new,
// retry, cron) are added behind the run they follow.
func (x *access) commit(changes ...*change) error {
	return x.commitAs(&persistence.Mutation{Key: x.chain.key, Epoch: x.chain.epoch}, changes)
}

// commitAs is commit with the mutation to fill.
func (x *access) commitAs(mutation *persistence.Mutation, changes []*change) error {
	for i := 0; i < len(changes); i++ {
		c := changes[i]
		if err := c.finish(); err != nil {
			return err
		}
		if c.res.Successor != nil {
			changes = append(changes, &change{run: x.newRun(c.newRunID), tx: c.res.Successor})
		}
		if !c.res.Durable {
			continue
		}
		var err error
		if c.write, err = c.row(); err != nil {
			return fmt.Errorf("write a transition of run %s: %w", c.run.id, err)
		}
		mutation.Runs = append(mutation.Runs, *c.write)
	}
	if len(mutation.Runs) > 0 {
		if err := x.write(mutation); err != nil {
			return err
		}
	}
	for _, c := range changes {
		x.applied(c)
	}
	return nil
}

// finish settles the transition, once.
func (c *change) finish() (err error) {
	if c.res != nil {
		return nil
	}
	if c.res, err = c.tx.Finish(); err != nil {
		return fmt.Errorf("finish a transition of run %s: %w", c.run.id, err)
	}
	return nil
}

// row is what a durable transition writes.
func (c *change) row() (*persistence.RunWrite, error) {
	r, res := c.run, c.res
	t := &persistence.Transition{Seq: r.seq + 1, FirstEventID: res.FirstEventID, Parts: res.Parts}
	var err error
	if t.Events, err = encodeEvents(res.Events); err != nil {
		return nil, err
	}
	after := c.tx.After()
	w := &persistence.RunWrite{
		RunID: r.id, Bucket: r.bucket, Transition: t,
		Insert: res.New, Open: after.Open(), Status: int32(after.Core.Status),
	}
	if res.New {
		w.StartRequestID = after.Start.RequestId
	} else {
		w.SetStatus = r.state.Core.Status != after.Core.Status
	}
	c.setOwnerFields(w, after)
	// The rows that a reset has copied may have gaps: what the fold knows better than they do must be in a snapshot.
	copied := res.New && r.seq > 0
	if copied || res.Closed || r.rows+1 >= snapshotRows || r.partsBytes+len(t.Parts) > max(snapshotBytes, r.snapshotBytes) {
		parts, err := after.Snapshot()
		if err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		w.Snapshot = &persistence.Snapshot{Seq: t.Seq, Parts: parts, Dense: r.dense}
	}
	if res.Visibility {
		if w.Visibility, err = visibilityRow(after); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// setOwnerFields keeps the invariant: the stored flag is set, or the stored wake-up is not after the next deadline and nothing
// waits for acknowledgement. While the flag is set the wake-up need not be right.
func (c *change) setOwnerFields(w *persistence.RunWrite, after *workflow.State) {
	r, res := c.run, c.res
	switch {
	case res.New:
		w.HasEffects = true // its first task is about to be dispatched; a run that has none loses the flag when it is quiet
	case !after.Open():
		if pending := len(after.PendingEffects()) > 0 || after.Deleting(); pending != r.flagged {
			w.SetHasEffects, w.HasEffects = true, pending
		}
		if wake := storedTime(after.NextDeadline()); !wake.Equal(r.wakeAt) {
			w.SetWakeAt, w.WakeAt = true, wake
		}
	case r.flagged:
	case len(res.Effects) > 0, after.Volatile.Task != nil:
		w.SetHasEffects, w.HasEffects = true, true
	default:
		wake := storedTime(after.NextDeadline())
		if !wake.IsZero() && (r.wakeAt.IsZero() || wake.Before(r.wakeAt)) {
			w.SetWakeAt, w.WakeAt = true, wake
		}
	}
}

// storedTime is a time as databases keep it: in microseconds, never later than the time itself.
func storedTime(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Truncate(time.Microsecond)
}

func encodeEvents(events []*eventpb.HistoryEvent) ([]byte, error) {
	if len(events) == 0 {
		return nil, nil
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&statepb.Events{Events: events})
}

// write commits a mutation and turns its failure into what the caller must do or hear. It goes on when the caller gives up.
func (x *access) write(m *persistence.Mutation) error {
	ctx, cancel := x.writeContext()
	defer cancel()
	begun := time.Now()
	err := x.Service.store.Commit(ctx, m)
	x.metrics.commits.WithLabelValues(commitResult(err)).Observe(time.Since(begun).Seconds())
	if err != nil {
		return x.writeError(m, err)
	}
	x.metrics.transitions.WithLabelValues("durable").Add(float64(len(m.Runs)))
	return nil
}

// writeContext is that of a write: it outlives its caller, but a stopping service does not wait for long.
func (x *access) writeContext() (context.Context, context.CancelFunc) {
	timeout := commitTimeout
	if x.Service.ctx.Err() != nil {
		timeout = stopTimeout
	}
	return context.WithTimeout(context.WithoutCancel(x.ctx), timeout)
}

// writeError drops what is not known for sure after a failed write.
func (x *access) writeError(m *persistence.Mutation, err error) error {
	shard := m.Key.Shard()
	switch {
	case errors.Is(err, persistence.ErrFenced):
		x.dropRuns(x.chain)
		x.lost(shard, m.Epoch)
		return errShardMoved(shard, x.ownerOf(shard))
	case errors.Is(err, persistence.ErrExists):
		return err // the caller asked
	case errors.Is(err, persistence.ErrConflict):
		x.logger.Warn("commit met another state than the cached one", zap.String("namespace_id", m.Key.NamespaceID),
			zap.String("workflow_id", m.Key.BusinessID), zap.String("run_id", m.Runs[0].RunID), zap.Error(err))
		x.dropRuns(x.chain)
		return errReload
	case errors.Is(err, persistence.ErrTooLarge):
		return errTooLarge
	case errors.Is(err, persistence.ErrUnavailable), errors.Is(err, persistence.ErrClosed):
		return serviceerror.NewUnavailablef("write the workflow's state: %v", err)
	default: // ErrOutcomeUnknown, a wait that ended early, and whatever a store should not return
		x.dropRuns(x.chain)
		x.resolve(shard, m.Epoch)
		return serviceerror.NewUnavailablef("write the workflow's state: %v", err)
	}
}

// errTooLarge is the answer to a request whose transition the database cannot take.
var errTooLarge = serviceerror.NewInvalidArgument("The request changes more than one transaction can hold.")

func commitResult(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, persistence.ErrFenced):
		return "fenced"
	case errors.Is(err, persistence.ErrConflict):
		return "conflict"
	case errors.Is(err, persistence.ErrExists):
		return "exists"
	case errors.Is(err, persistence.ErrOutcomeUnknown):
		return "unknown"
	}
	return "failed"
}

// applied makes a stored (or volatile) transition the state of its run.
func (x *access) applied(c *change) {
	r, res := c.run, c.res
	r.state = c.tx.Apply()
	if res.New {
		x.chain.current = r.id
		x.cacheRun(r)
	}
	x.touch(r)
	if w := c.write; w != nil {
		r.stored(w)
	} else {
		x.metrics.transitions.WithLabelValues("volatile").Inc()
	}
	r.recent.append(res.Events)
	if len(res.Events) > 0 || res.Closed {
		r.notify()
	}
	r.reviewQueries()
	r.tellUpdates(res.Updates)
	x.carryOut(r, c.dispatched())
}

// dispatched are the transition's effects that are to be carried out.
func (c *change) dispatched() []workflow.Effect {
	if !c.inHand {
		return c.res.Effects
	}
	return slices.DeleteFunc(slices.Clone(c.res.Effects), func(e workflow.Effect) bool {
		_, task := e.(workflow.DispatchWorkflowTask)
		return task
	})
}

// stored notes what is in the run's rows now.
func (r *run) stored(w *persistence.RunWrite) {
	if w.Insert || w.SetHasEffects {
		r.flagged = w.HasEffects
	}
	if w.Insert || w.SetWakeAt {
		r.wakeAt = w.WakeAt
	}
	if t := w.Transition; t != nil {
		r.seq = t.Seq
		r.rows++
		r.partsBytes += len(t.Parts)
		r.dense = (r.dense || w.Snapshot != nil) && len(t.Events) > 0
	}
	if w.Snapshot != nil {
		r.rows, r.partsBytes, r.snapshotBytes = 0, 0, len(w.Snapshot.Parts)
	}
}
