package workflow

import (
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// Effect is something the outside must be told. Effects are numbered per run; each is carried out at least once, until it is
// acknowledged ([Tx.Acknowledge]) or the state no longer asks for it.
type Effect interface{ EffectID() int64 }

// The effects. All of them derive from state alone: see [State.PendingEffects].
type (
	// DispatchWorkflowTask puts the open workflow task on its queue.
	DispatchWorkflowTask struct {
		ID               int64
		ScheduledEventID int64
		Attempt          int32
		Queue            string
		Sticky           bool
		NormalQueue      string
		ScheduledTime    time.Time
		Priority         *commonpb.Priority
	}
	// DispatchActivity puts an activity's current attempt on its queue.
	DispatchActivity struct {
		ID               int64
		ScheduledEventID int64
		Attempt          int32
		Stamp            int32
		Queue            string
		ScheduledTime    time.Time
		// Expiry is when the task becomes worthless (schedule-to-start, schedule-to-close); zero: never.
		Expiry   time.Time
		Priority *commonpb.Priority
	}
	// StartChild starts the child of an initiation; its outcome is [Tx.ChildStarted] or [Tx.ChildStartFailed].
	StartChild struct {
		ID    int64
		Child *statepb.Child
	}
	// ReleaseChild lets a started child have its first workflow task; its outcome is [Tx.ChildReleased].
	ReleaseChild struct {
		ID    int64
		Child *statepb.Child
	}
	// SendExternal signals or cancels another workflow; its outcome is [Tx.ExternalDone] or [Tx.ExternalFailed].
	SendExternal struct {
		ID       int64
		External *statepb.External
	}
	// NotifyParent tells the parent how this run's chain ended; acknowledged when the parent has recorded it.
	NotifyParent struct{ ID int64 }
	// CloseChild applies the parent close policy to a child that this closed run leaves behind.
	CloseChild struct {
		ID    int64
		Child *statepb.Child
	}
)

func (e DispatchWorkflowTask) EffectID() int64 { return e.ID }
func (e DispatchActivity) EffectID() int64     { return e.ID }
func (e StartChild) EffectID() int64           { return e.ID }
func (e ReleaseChild) EffectID() int64         { return e.ID }
func (e SendExternal) EffectID() int64         { return e.ID }
func (e NotifyParent) EffectID() int64         { return e.ID }
func (e CloseChild) EffectID() int64           { return e.ID }

// PendingEffects derives every effect that has not been acknowledged, in order. A new owner of the run carries them out.
func (s *State) PendingEffects() []Effect {
	var effects []Effect
	add := func(e Effect) {
		if !s.Acknowledged(e.EffectID()) {
			effects = append(effects, e)
		}
	}
	paused := s.Core.Status == enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED
	if task := s.Task(); task != nil && task.StartedEventId == 0 && !task.Speculative && !paused {
		add(s.dispatchTask(task))
	}
	for _, a := range s.Activities {
		if d, ok := dispatchable(a); ok && !paused {
			add(d)
		}
	}
	for _, c := range s.Children {
		if e := childEffect(c); e != nil {
			add(e)
		}
	}
	for _, x := range s.Externals {
		if x.NextTry == nil {
			add(SendExternal{ID: x.EffectId, External: x})
		}
	}
	for _, c := range s.CloseEffects {
		if c.NextTry == nil {
			add(closeEffect(c))
		}
	}
	slices.SortFunc(effects, func(a, b Effect) int { return int(a.EffectID() - b.EffectID()) })
	return effects
}

func (s *State) dispatchTask(task *statepb.WorkflowTask) DispatchWorkflowTask {
	return dispatchTask(task, s.Core)
}

func dispatchTask(task *statepb.WorkflowTask, core *statepb.Core) DispatchWorkflowTask {
	return DispatchWorkflowTask{
		ID: task.EffectId, ScheduledEventID: task.ScheduledEventId, Attempt: task.Attempt,
		Queue: task.Queue, Sticky: isSticky(task), NormalQueue: core.TaskQueue,
		ScheduledTime: task.ScheduledTime.AsTime(), Priority: core.Priority,
	}
}

func closeEffect(c *statepb.CloseEffect) Effect {
	if c.NotifyParent {
		return NotifyParent{ID: c.EffectId}
	}
	return CloseChild{ID: c.EffectId, Child: c.Child}
}

// Acknowledged tells whether an effect needs nothing more.
func (s *State) Acknowledged(id int64) bool {
	return s.Volatile.Acked[id] || acknowledged(s.Core, id)
}

// NeedsOwner tells whether a new owner of the shard must look at the run at once: it has effects to resume, or a workflow task
// in the hands of a worker whose timeout is in memory only.
func (s *State) NeedsOwner() bool { return s.Core.Task != nil || len(s.PendingEffects()) > 0 }

// Acknowledge notes that an effect has been carried out for good. It is volatile and rides on the next durable transition.
func (t *Tx) Acknowledge(id int64) {
	if id < 0 || t.state.Acknowledged(id) {
		return
	}
	if t.volatile.Acked == nil {
		t.volatile.Acked = map[int64]bool{}
	}
	t.volatile.Acked[id] = true
	t.touched = true
}

// FlushVolatile makes acknowledgements, heartbeats and the start of a task durable: before a hand-over, or once the run is quiet. A
// speculative task in the hands of a worker becomes a normal one: the next owner knows nothing of the former.
func (t *Tx) FlushVolatile() {
	if task := t.volatile.Task; task != nil && task.StartedEventId != 0 {
		t.persistStart()
	}
	if len(t.volatile.Acked) > 0 || len(t.volatile.Heartbeats) > 0 {
		t.write()
	}
}

func acknowledged(core *statepb.Core, id int64) bool {
	if id < 0 {
		return false // of a speculative task: not in the account
	}
	if id <= core.EffectLowWater {
		return true
	}
	for i := 0; i+1 < len(core.EffectsAcknowledged); i += 2 {
		if core.EffectsAcknowledged[i] <= id && id <= core.EffectsAcknowledged[i+1] {
			return true
		}
	}
	return false
}

// acknowledge adds ids (sorted) to the low-water mark and the ranges above it.
func acknowledge(core *statepb.Core, ids []int64) {
	ranges := slices.Clone(core.EffectsAcknowledged)
	for _, id := range ids {
		if id > core.EffectLowWater {
			ranges = append(ranges, id, id)
		}
	}
	core.EffectLowWater, core.EffectsAcknowledged = compact(core.EffectLowWater, ranges)
}

// compact sorts [from, to] pairs, joins neighbours and lets those at the low-water mark raise it.
func compact(low int64, ranges []int64) (int64, []int64) {
	type pair struct{ from, to int64 }
	var pairs []pair
	for i := 0; i+1 < len(ranges); i += 2 {
		pairs = append(pairs, pair{ranges[i], ranges[i+1]})
	}
	slices.SortFunc(pairs, func(a, b pair) int { return int(a.from - b.from) })
	var out []int64
	for _, p := range pairs {
		switch {
		case p.from <= low+1:
			low = max(low, p.to)
		case len(out) > 0 && p.from <= out[len(out)-1]+1:
			out[len(out)-1] = max(out[len(out)-1], p.to)
		default:
			out = append(out, p.from, p.to)
		}
	}
	return low, out
}

// settled drops effects of tasks and activities that no longer exist from the account: they need no acknowledgement. An effect
// id that no part carries is acknowledged by definition, so the low-water mark may pass it.
func (t *Tx) settled(ids ...int64) {
	slices.Sort(ids)
	acknowledge(t.core, ids)
}
