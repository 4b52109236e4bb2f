package workflow

import (
	"fmt"
	"maps"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// Tx is one transition under way. Its methods (one file per kind) apply inputs; [Tx.Finish] says what must be written;
// [Tx.Apply] makes it the state once that is durable. A Tx that is not applied leaves no trace.
//
// A method that returns an error has refused its input. What it changed before is undone by dropping the Tx; a refusal that
// must leave something behind (a failed workflow task) is reported in the method's result instead.
type Tx struct {
	state *State
	now   time.Time
	env   Env

	core       *statepb.Core
	start      *statepb.Start // as changed by this transition
	attributes *statepb.Attributes

	activities   overlay[int64, *statepb.Activity]
	timers       overlay[string, *statepb.Timer]
	children     overlay[int64, *statepb.Child]
	externals    overlay[int64, *statepb.External]
	updates      overlay[string, *statepb.Update]
	requests     overlay[string, *statepb.Request]
	buffered     overlay[int64, *statepb.Buffered]
	closeEffects overlay[int64, *statepb.CloseEffect]

	volatile   Volatile
	ownUpdates bool // volatile.Updates is the transition's own copy

	events     []*historypb.HistoryEvent // appended, with ids
	firstEvent int64
	pending    []*statepb.Buffered // of buffered types, in order of arrival, still without ids
	effects    []Effect

	durable    bool // something must be written
	touched    bool // the volatile state changed
	wake       bool // the worker must be told: a workflow task is needed
	visibility bool // what list shows has changed
	returnTask *inlineStart
	answers    []UpdateOutcome
	successor  *Tx
	newRun     bool            // the run is made by a reset
	inherited  map[string]bool // children (by create request id) that a reset run goes on with
	finished   bool
}

// Env is what a transition may need to know of the world outside its run. The caller provides it beforehand.
type Env struct {
	// NewRunID is the id of a run that follows this one, should there be one.
	NewRunID string
	// StartEvent is the run's first event, with the payloads that the state does not keep. It is needed where
	// [State.MayContinue] says so, and by a continue-as-new.
	StartEvent *historypb.HistoryEvent
	// Namespace is the name of the run's namespace; NamespaceID finds another namespace's id.
	Namespace   string
	NamespaceID func(name string) (id string, err error)
	// Retention is how long a closed run is kept; zero: not known.
	Retention time.Duration
	// CheckSearchAttributes validates attributes that a command sets and fills in their types.
	CheckSearchAttributes func(*commonpb.SearchAttributes) (*commonpb.SearchAttributes, error)
	// EagerActivities: a completion may get activities that it schedules back at once, past the queues.
	EagerActivities bool
}

// Begin opens a transition at a time. Time never goes back within a run.
func Begin(s *State, now time.Time, env Env) *Tx {
	if last := s.Core.LastEventTime.AsTime(); now.Before(last) {
		now = last
	}
	t := &Tx{state: s, now: now, env: env}
	t.reset()
	return t
}

// reset drops everything that the transition has done so far.
func (t *Tx) reset() {
	s := t.state
	*t = Tx{
		state:        s,
		now:          t.now,
		env:          t.env,
		core:         proto.CloneOf(s.Core),
		start:        s.Start,
		attributes:   s.Attributes,
		activities:   over(s.Activities),
		timers:       over(s.Timers),
		children:     over(s.Children),
		externals:    over(s.Externals),
		updates:      over(s.Updates),
		requests:     over(s.Requests),
		buffered:     over(s.Buffered),
		closeEffects: over(s.CloseEffects),
		volatile:     s.Volatile,
		firstEvent:   s.Core.NextEventId,
	}
	t.volatile.Heartbeats = maps.Clone(s.Volatile.Heartbeats)
	t.volatile.Acked = maps.Clone(s.Volatile.Acked)
}

// Now is the transition's time.
func (t *Tx) Now() time.Time { return t.now }

func (t *Tx) open() bool { return isOpen(t.core.Status) }

func (t *Tx) timestamp() *timestamppb.Timestamp { return timestamppb.New(t.now) }

// newEvent makes an event of this transition's time, without an id.
func (t *Tx) newEvent(typ enumspb.EventType) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: typ, EventTime: t.timestamp()}
}

// add appends an event of an unbuffered type to the history and returns it.
func (t *Tx) add(e *historypb.HistoryEvent) *historypb.HistoryEvent {
	e.EventId = t.core.NextEventId
	e.TaskId = e.EventId
	t.core.NextEventId++
	t.core.HistorySizeBytes += int64(proto.Size(e))
	t.core.LastEventTime = t.timestamp()
	t.events = append(t.events, e)
	t.durable = true
	return e
}

// record hands in an event of a buffered type: it gets its id at the end of the transition, or of the workflow task that is
// running then.
func (t *Tx) record(e *historypb.HistoryEvent) {
	t.recordRequest(e, "")
}

// recordRequest is record for an event that applies a request id, which is remembered with it.
func (t *Tx) recordRequest(e *historypb.HistoryEvent, requestID string) {
	t.remember(requestID, e)
	t.pending = append(t.pending, &statepb.Buffered{Event: e, RequestId: requestID})
	t.durable = true
}

// write marks the transition as one that changes parts.
func (t *Tx) write() { t.durable = true }

// nextEffect numbers a new effect.
func (t *Tx) nextEffect() int64 {
	t.core.LastEffectId++
	t.durable = true
	return t.core.LastEffectId
}

// remember notes a request id as applied by an event (0: still buffered).
func (t *Tx) remember(requestID string, e *historypb.HistoryEvent) {
	if requestID == "" {
		return
	}
	t.requests.put(requestID, &statepb.Request{Time: t.timestamp(), EventType: e.EventType, EventId: e.EventId})
	t.pruneRequests()
	t.durable = true
}

// attrs returns memo and search attributes for changing.
func (t *Tx) editAttributes() *statepb.Attributes {
	if t.attributes == t.state.Attributes {
		t.attributes = proto.CloneOf(t.attributes)
	}
	t.durable, t.visibility = true, true
	return t.attributes
}

// Result is what a finished transition asks for.
type Result struct {
	// Durable: Parts, and Events if there are any, must be written before anybody hears of the transition. Otherwise only
	// volatile state changed, and Apply may follow at once.
	Durable bool
	// FirstEventID is the id of the first of Events, or of the next event if there are none.
	FirstEventID int64
	Events       []*historypb.HistoryEvent
	Parts        []byte
	// New is set by the first transition of a run.
	New bool
	// Closed is set when this transition closed the run.
	Closed bool
	// Visibility: the run's visibility row must be written with it.
	Visibility bool
	// Effects are those that this transition made. A workflow task that was started inline is not among them.
	Effects []Effect
	// InlineTask is the workflow task that a completion asked to get in its reply, started; nil: none.
	InlineTask *statepb.WorkflowTask
	// Updates are the updates that this transition has answered: their callers are told once it is durable.
	Updates []UpdateOutcome
	// Successor is the first transition of the run that follows this one (continue-as-new, retry, cron), to be finished and
	// committed with it, after it.
	Successor *Tx
}

// Finish settles the transition: buffered events are flushed or stored, the next workflow task is scheduled if one is needed.
// It must be called once; then the Tx takes no more inputs.
func (t *Tx) Finish() (*Result, error) {
	if t.finished {
		return nil, fmt.Errorf("transition of %s finished twice", t.start.RunId)
	}
	t.finished = true
	inline := t.settle()
	r := &Result{Durable: t.durable, FirstEventID: t.firstEvent, New: t.newRun || (t.state.Core.NextEventId == firstEventID && t.state.Start.RunId == ""),
		Effects: t.liveEffects(), InlineTask: inline, Updates: t.answers, Successor: t.successor}
	if !t.durable {
		return r, nil
	}
	t.foldVolatile()
	t.core.StateTransitionCount++
	r.Closed = isOpen(t.state.Core.Status) && !t.open()
	r.Visibility = t.visibility || r.Closed || r.New
	r.Events = t.events
	parts, err := t.encode()
	if err != nil {
		return nil, fmt.Errorf("encode transition of %s: %w", t.start.RunId, err)
	}
	r.Parts = parts
	return r, nil
}

// encode lists the parts that the transition changed.
func (t *Tx) encode() ([]byte, error) {
	e := encoder{}
	if t.start != t.state.Start {
		e.set("start", t.start)
	}
	if t.attributes != t.state.Attributes {
		e.set("attributes", t.attributes)
	}
	e.set("core", t.core)
	encodeNumbered(&e, "activity", t.activities.changed)
	encodeNamed(&e, "timer", t.timers.changed)
	encodeNumbered(&e, "child", t.children.changed)
	encodeNumbered(&e, "external", t.externals.changed)
	encodeNamed(&e, "update", t.updates.changed)
	encodeNamed(&e, "request", t.requests.changed)
	encodeNumbered(&e, "buffered", t.buffered.changed)
	encodeNumbered(&e, "close", t.closeEffects.changed)
	return e.bytes()
}

// Apply makes the transition the state. If it was durable, its row must have been committed.
func (t *Tx) Apply() *State {
	s := t.state
	s.Volatile = t.volatile
	if !t.durable {
		return s
	}
	s.Start, s.Core, s.Attributes = t.start, t.core, t.attributes
	s.pendingBytes += t.activities.merge() + t.timers.merge() + t.children.merge() + t.externals.merge() +
		t.updates.merge() + t.requests.merge() + t.buffered.merge() + t.closeEffects.merge()
	return s
}

// settle ends the transition: it makes the open task's start durable if anything is, places the buffered events, and schedules
// the next workflow task.
func (t *Tx) settle() (inline *statepb.WorkflowTask) {
	if !t.durable {
		return t.scheduleSpeculative()
	}
	if !t.open() {
		t.dropBuffered()
		t.core.Task, t.volatile.Task = nil, nil
		return nil
	}
	if t.taskStarted() {
		t.storePending()
		if !t.bufferOverflow() {
			t.keepStart()
			return nil
		}
		t.forceFailTask()
	}
	t.recordSpeculative()
	appended := t.flush()
	t.toNormalTask(appended)
	if t.needsTask() {
		t.scheduleTask(scheduling{})
	}
	return t.scheduleSpeculative()
}

// keepStart makes the start of the running task durable along with the transition. That of a speculative task can stay
// volatile for as long as the history does not go on.
func (t *Tx) keepStart() {
	if !t.task().Speculative || t.buffered.len() > 0 {
		t.persistStart()
	}
}

// scheduleSpeculative opens a task for waiting updates if no other will take them, and starts a task inline that the completion
// asked for.
func (t *Tx) scheduleSpeculative() *statepb.WorkflowTask {
	if t.task() == nil && t.mayHaveTask() && t.hasUnsentUpdates() {
		t.scheduleTask(scheduling{speculative: true})
	}
	return t.startInline()
}

// liveEffects leaves out what the transition has made and settled itself, and the dispatch of a task that is already in a
// worker's hands.
func (t *Tx) liveEffects() []Effect {
	return slices.DeleteFunc(t.effects, func(e Effect) bool {
		if acknowledged(t.core, e.EffectID()) {
			return true
		}
		d, ok := e.(DispatchWorkflowTask)
		if !ok {
			return false
		}
		task := t.task()
		return task == nil || task.EffectId != d.ID || task.StartedEventId != 0
	})
}

// foldVolatile lets newer heartbeats and acknowledgements ride on a durable transition.
func (t *Tx) foldVolatile() {
	for id, h := range t.volatile.Heartbeats {
		if a, ok := t.activities.get(id); ok && a.Attempt == h.Attempt {
			if _, changed := t.activities.changed[id]; !changed {
				t.activities.put(id, h.Activity)
			}
		}
	}
	t.volatile.Heartbeats = nil
	if len(t.volatile.Acked) > 0 {
		acknowledge(t.core, sortedKeys(t.volatile.Acked))
		t.volatile.Acked = nil
	}
}
