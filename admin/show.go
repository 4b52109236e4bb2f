package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

// Stored is one run as it is stored, readable: what Show makes, meant to be printed as JSON.
type Stored struct {
	Execution  Execution                  `json:"execution"`
	Visibility *persistence.VisibilityRow `json:"visibility"`
	// Parts are the run's current parts by key: messages of perdure.state.v1 as JSON, or the bytes of a part that this binary does
	// not know.
	Parts map[string]json.RawMessage `json:"parts"`
	// PendingEffects and NextDeadline are what the state asks for.
	PendingEffects []string     `json:"pendingEffects,omitempty"`
	NextDeadline   *time.Time   `json:"nextDeadline,omitempty"`
	Transitions    []Transition `json:"transitions"`
	// Violations are the invariants that the run breaks.
	Violations []Violation `json:"violations,omitempty"`
}

// Execution is the row of a run.
type Execution struct {
	NamespaceID    string              `json:"namespaceId"`
	WorkflowID     string              `json:"workflowId"`
	RunID          string              `json:"runId"`
	Kind           persistence.Kind    `json:"kind"`
	Shard          persistence.ShardID `json:"shard"`
	Bucket         int32               `json:"bucket"`
	Status         string              `json:"status"`
	Open           bool                `json:"open"`
	StartRequestID string              `json:"startRequestId"`
	WakeAt         *time.Time          `json:"wakeAt,omitempty"`
	HasEffects     bool                `json:"hasEffects"`
	SnapshotSeq    int64               `json:"snapshotSeq,omitempty"`
	SnapshotBytes  int                 `json:"snapshotBytes,omitempty"`
}

// Transition is a row of a run's log, without its payloads.
type Transition struct {
	Seq          int64    `json:"seq"`
	FirstEventID int64    `json:"firstEventId"`
	Events       []string `json:"events,omitempty"`
	Parts        []string `json:"parts,omitempty"`
	Deleted      []string `json:"deleted,omitempty"`
	EventBytes   int      `json:"eventBytes"`
	PartBytes    int      `json:"partBytes"`
}

// Show reads a run: with an empty run id the newest of the key. There being none is persistence.ErrNotFound.
func Show(ctx context.Context, store Store, key persistence.ExecutionKey, runID string) (*Stored, error) {
	if runID == "" {
		runs, err := store.ListRuns(ctx, key, 1)
		if err != nil {
			return nil, fmt.Errorf("find the newest run: %w", err)
		}
		if len(runs) == 0 {
			return nil, persistence.ErrNotFound
		}
		runID = runs[0].RunID
	}
	out := &Stored{}
	if err := store.InspectRun(ctx, key, runID, out.read); err != nil {
		return nil, err
	}
	return out, nil
}

func (out *Stored) read(r *persistence.StoredRun) error {
	out.Visibility = r.Visibility
	out.Execution = executionOf(r)
	c := newCheck(r)
	for row, err := range r.Log {
		if err != nil {
			return err
		}
		c.row(row)
		out.Transitions = append(out.Transitions, summary(row))
	}
	c.finish()
	out.Violations = c.found
	var snapshot []byte
	if r.Snapshot != nil {
		snapshot = r.Snapshot.Parts
	}
	out.Parts = currentParts(append([][]byte{snapshot}, c.tail...))
	if state, err := c.load(); err == nil && !c.unknown {
		for _, e := range state.PendingEffects() {
			out.PendingEffects = append(out.PendingEffects, effectText(e))
		}
		out.NextDeadline = optional(state.NextDeadline())
	}
	return nil
}

func executionOf(r *persistence.StoredRun) Execution {
	e := Execution{
		NamespaceID: r.Key.NamespaceID, WorkflowID: r.Key.BusinessID, RunID: r.RunID, Kind: r.Key.Kind, Shard: r.Shard, Bucket: r.Bucket,
		Status: enumspb.WorkflowExecutionStatus(r.Status).String(), Open: r.Open, StartRequestID: r.StartRequestID,
		WakeAt: optional(r.WakeAt), HasEffects: r.HasEffects,
	}
	if s := r.Snapshot; s != nil {
		e.SnapshotSeq, e.SnapshotBytes = s.Seq, len(s.Parts)
	}
	return e
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// summary leaves out what does not decode: the violations tell of it.
func summary(row persistence.Transition) Transition {
	t := Transition{Seq: row.Seq, FirstEventID: row.FirstEventID, EventBytes: len(row.Events), PartBytes: len(row.Parts)}
	events, parts := &statepb.Events{}, &statepb.Parts{}
	if proto.Unmarshal(row.Events, events) == nil {
		for _, e := range events.GetEvents() {
			t.Events = append(t.Events, fmt.Sprintf("%d %s", e.GetEventId(), e.GetEventType()))
		}
	}
	if proto.Unmarshal(row.Parts, parts) == nil {
		for _, p := range parts.GetParts() {
			if p.GetDeleted() {
				t.Deleted = append(t.Deleted, p.GetKey())
			} else {
				t.Parts = append(t.Parts, p.GetKey())
			}
		}
	}
	return t
}

// currentParts are the last values of the parts of encoded lists.
func currentParts(lists [][]byte) map[string]json.RawMessage {
	latest := map[string]json.RawMessage{}
	for _, encoded := range lists {
		parts := &statepb.Parts{}
		if proto.Unmarshal(encoded, parts) != nil {
			continue
		}
		for _, p := range parts.GetParts() {
			if p.GetDeleted() {
				delete(latest, p.GetKey())
			} else {
				latest[p.GetKey()] = partJSON(p.GetKey(), p.GetValue())
			}
		}
	}
	return latest
}

func partJSON(key string, value []byte) json.RawMessage {
	m, err := decodePart(key, value)
	if err == nil && m != nil {
		if text, err := protojson.Marshal(m); err == nil {
			return text
		}
	}
	text, _ := json.Marshal(value) // base64: bytes always encode
	return text
}

func effectText(e workflow.Effect) string {
	switch e := e.(type) {
	case workflow.DispatchWorkflowTask:
		return fmt.Sprintf("%d: dispatch workflow task %d (attempt %d) to %q", e.ID, e.ScheduledEventID, e.Attempt, e.Queue)
	case workflow.DispatchActivity:
		return fmt.Sprintf("%d: dispatch activity %d (attempt %d) to %q", e.ID, e.ScheduledEventID, e.Attempt, e.Queue)
	case workflow.StartChild:
		return fmt.Sprintf("%d: start child workflow %q", e.ID, e.Child.GetWorkflowId())
	case workflow.ReleaseChild:
		return fmt.Sprintf("%d: release child workflow %q", e.ID, e.Child.GetWorkflowId())
	case workflow.SendExternal:
		return fmt.Sprintf("%d: signal or cancel workflow %q", e.ID, e.External.GetTarget().GetWorkflowId())
	case workflow.NotifyParent:
		return fmt.Sprintf("%d: tell the parent", e.ID)
	case workflow.CloseChild:
		return fmt.Sprintf("%d: apply the close policy to child workflow %q", e.ID, e.Child.GetWorkflowId())
	}
	return fmt.Sprintf("%d: %T", e.EffectID(), e)
}
