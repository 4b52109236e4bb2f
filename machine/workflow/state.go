// Package workflow is the state machine of a workflow execution's run. It is pure: no IO, no clock, no goroutine, no lock, no
// logging, no randomness. The same state and the same input give the same bytes.
//
// A run's state is a map of parts ([State]). A transition ([Tx]) takes one input (a client's request, a worker's answer, the
// passing of time) and collects what follows from it: events to append to the history, parts that changed, effects on the
// outside. Nothing of the state changes until the transition has been committed and [Tx.Apply] is called; a transition that
// fails is dropped.
//
// Invariants: event ids are dense from 1; the run's time never goes back; at most one workflow task is open; while one is
// started, events of the buffered types wait; a closed run has no pending task, activity or timer, but it may still have
// effects.
//
// One file holds one kind of transition: start.go, task.go (workflow tasks), signal.go, activity.go, timer.go, close.go …;
// commands.go applies a worker's commands; tx.go is what they share.
package workflow

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// State is one run: its durable parts and, in Volatile, what has happened since but need not survive a crash.
type State struct {
	Start      *statepb.Start
	Core       *statepb.Core
	Attributes *statepb.Attributes

	Activities   map[int64]*statepb.Activity // by scheduled event id
	Timers       map[string]*statepb.Timer   // by timer id
	Children     map[int64]*statepb.Child    // by initiated event id
	Externals    map[int64]*statepb.External // by initiated event id
	Updates      map[string]*statepb.Update  // by update id
	Requests     map[string]*statepb.Request // by request id
	Buffered     map[int64]*statepb.Buffered // by number
	CloseEffects map[int64]*statepb.CloseEffect

	// Unknown are parts of a newer binary: kept, not understood.
	Unknown map[string][]byte

	// pendingBytes is the encoded size of the maps of parts above, but for what is unknown.
	pendingBytes int

	Volatile Volatile
}

// Volatile is state that hangs on the cached run and is lost with it. Whatever is here must be harmless to lose: its event ids
// are provisional, and what it stands for is done again.
type Volatile struct {
	// Task is the open workflow task with its start, while the start is not durable; nil otherwise. Any durable transition
	// makes it durable first.
	Task *statepb.WorkflowTask
	// Heartbeats are newer than what the activities' parts hold, by scheduled event id. They ride on the next durable transition.
	Heartbeats map[int64]*Heartbeat
	// Updates are admitted and not yet accepted, by update id; LastUpdate counts them.
	Updates    map[string]*PendingUpdate
	LastUpdate int64
	// LastDispatch counts the dispatches of speculative workflow tasks: their effects are numbered downwards from -1, and nobody
	// resumes them.
	LastDispatch int64
	// Acked are effects that were acknowledged since the last durable transition.
	Acked map[int64]bool
}

// Heartbeat is the newest heartbeat of an activity attempt.
type Heartbeat struct {
	Time    time.Time
	Attempt int32
	// Part is the activity's part with the heartbeat in it.
	Activity *statepb.Activity
}

func newState() *State {
	return &State{
		Activities:   map[int64]*statepb.Activity{},
		Timers:       map[string]*statepb.Timer{},
		Children:     map[int64]*statepb.Child{},
		Externals:    map[int64]*statepb.External{},
		Updates:      map[string]*statepb.Update{},
		Requests:     map[string]*statepb.Request{},
		Buffered:     map[int64]*statepb.Buffered{},
		CloseEffects: map[int64]*statepb.CloseEffect{},
		Unknown:      map[string][]byte{},
	}
}

// Load folds a snapshot (may be nil) and the parts of the rows after it, in their order: the last value of each key wins.
func Load(snapshot []byte, rows [][]byte) (*State, error) {
	latest := map[string][]byte{}
	for _, row := range append([][]byte{snapshot}, rows...) {
		parts := &statepb.Parts{}
		if err := proto.Unmarshal(row, parts); err != nil {
			return nil, fmt.Errorf("decode parts: %w", err)
		}
		for _, p := range parts.Parts {
			if p.Deleted {
				delete(latest, p.Key)
			} else {
				latest[p.Key] = p.Value
			}
		}
	}
	s := newState()
	for key, value := range latest {
		if err := s.decode(key, value); err != nil {
			return nil, fmt.Errorf("decode part %s: %w", key, err)
		}
	}
	if s.Start == nil || s.Core == nil {
		return nil, fmt.Errorf("no start or core among %d parts", len(latest))
	}
	if s.Attributes == nil {
		s.Attributes = &statepb.Attributes{}
	}
	return s, nil
}

func (s *State) decode(key string, value []byte) error {
	kind, id, _ := strings.Cut(key, "/")
	switch kind {
	case "start":
		s.Start = &statepb.Start{}
		return proto.Unmarshal(value, s.Start)
	case "core":
		s.Core = &statepb.Core{}
		return proto.Unmarshal(value, s.Core)
	case "attributes":
		s.Attributes = &statepb.Attributes{}
		return proto.Unmarshal(value, s.Attributes)
	}
	known, err := s.decodePending(kind, id, value)
	switch {
	case !known:
		s.Unknown[key] = value
	case err == nil:
		s.pendingBytes += len(value)
	}
	return err
}

// decodePending decodes a part that is one of many. False: this binary does not know the kind.
func (s *State) decodePending(kind, id string, value []byte) (known bool, err error) {
	switch kind {
	case "activity":
		return true, decodeNumbered(s.Activities, id, value, &statepb.Activity{})
	case "timer":
		return true, decodeNamed(s.Timers, id, value, &statepb.Timer{})
	case "child":
		return true, decodeNumbered(s.Children, id, value, &statepb.Child{})
	case "external":
		return true, decodeNumbered(s.Externals, id, value, &statepb.External{})
	case "update":
		return true, decodeNamed(s.Updates, id, value, &statepb.Update{})
	case "request":
		return true, decodeNamed(s.Requests, id, value, &statepb.Request{})
	case "buffered":
		return true, decodeNumbered(s.Buffered, id, value, &statepb.Buffered{})
	case "close":
		return true, decodeNumbered(s.CloseEffects, id, value, &statepb.CloseEffect{})
	}
	return false, nil
}

// Size is how many bytes the run's state takes where it is stored.
func (s *State) Size() int {
	return s.pendingBytes + proto.Size(s.Start) + proto.Size(s.Core) + proto.Size(s.Attributes)
}

func decodeNumbered[V proto.Message](m map[int64]V, id string, value []byte, v V) error {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return err
	}
	m[n] = v
	return proto.Unmarshal(value, v)
}

func decodeNamed[V proto.Message](m map[string]V, id string, value []byte, v V) error {
	m[id] = v
	return proto.Unmarshal(value, v)
}

// Snapshot encodes all parts. Of a closed run it keeps what the run must still answer.
func (s *State) Snapshot() ([]byte, error) {
	e := encoder{}
	e.set("start", s.Start)
	e.set("core", s.Core)
	e.set("attributes", s.Attributes)
	encodeNumbered(&e, "activity", s.Activities)
	encodeNamed(&e, "timer", s.Timers)
	encodeNumbered(&e, "child", s.Children)
	encodeNumbered(&e, "external", s.Externals)
	encodeNamed(&e, "update", s.Updates)
	encodeNamed(&e, "request", s.Requests)
	encodeNumbered(&e, "buffered", s.Buffered)
	encodeNumbered(&e, "close", s.CloseEffects)
	for key, value := range s.Unknown {
		e.parts = append(e.parts, &statepb.Part{Key: key, Value: value})
	}
	return e.bytes()
}

// Open tells whether the run has not been closed. A paused run is open.
func (s *State) Open() bool { return isOpen(s.Core.Status) }

func isOpen(status enumspb.WorkflowExecutionStatus) bool {
	return status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING || status == enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED
}

// Task is the open workflow task as it stands, durable or not; nil: none.
func (s *State) Task() *statepb.WorkflowTask {
	if s.Volatile.Task != nil {
		return s.Volatile.Task
	}
	return s.Core.Task
}
