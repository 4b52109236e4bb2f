package admin

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// harm damages what is stored of a run.
type harm func(t *testing.T, c *copied, r *persistence.StoredRun)

// damage is a kind of damage and how it must be named.
type damage struct {
	name string
	// workflow is the victim; run is which of its runs, 0: the oldest.
	workflow string
	run      int
	harm     harm
	want     []Check
}

func (d damage) test(t *testing.T, c *copied) {
	victim := runs(t, c)[d.workflow][d.run]
	d.harm(t, c, victim)
	found, _ := violations(t, c, 5)
	var checks []Check
	for _, v := range found {
		require.NotEmpty(t, v.Detail)
		if v.RunID == victim.RunID {
			checks = append(checks, v.Check)
		} else {
			require.Contains(t, []Check{TwoOpenRuns, OldRunOpen, StatusDiffers}, v.Check, "another run: %s", v)
		}
		if v.Check != OrphanTransitions || v.WorkflowID != "" {
			require.Equal(t, d.workflow, v.WorkflowID, "%s", v)
			require.Equal(t, victim.Key.NamespaceID, v.NamespaceID)
		}
	}
	require.ElementsMatch(t, d.want, checks)
}

// set changes columns of a table's row of the run.
func set(table, assignments string, args ...any) harm {
	return func(t *testing.T, c *copied, r *persistence.StoredRun) {
		c.exec(t, "UPDATE "+table+" SET "+assignments+" WHERE run_id = ?", append(slices.Clone(args), r.RunID)...)
	}
}

func drop(table string) harm {
	return func(t *testing.T, c *copied, r *persistence.StoredRun) {
		c.exec(t, "DELETE FROM "+table+" WHERE run_id = ?", r.RunID)
	}
}

func all(harms ...harm) harm {
	return func(t *testing.T, c *copied, r *persistence.StoredRun) {
		for _, h := range harms {
			h(t, c, r)
		}
	}
}

// rowOf reads the run's log again: which says whether a row is wanted; the first one that is.
func rowOf(t *testing.T, c *copied, r *persistence.StoredRun, wanted func(persistence.Transition) bool) persistence.Transition {
	t.Helper()
	var found *persistence.Transition
	c.use(t, func(store Store) {
		require.NoError(t, store.InspectRun(t.Context(), r.Key, r.RunID, func(r *persistence.StoredRun) error {
			for row, err := range r.Log {
				require.NoError(t, err)
				if found == nil && wanted(row) {
					found = &row
				}
			}
			return nil
		}))
	})
	require.NotNil(t, found)
	return *found
}

func dropRow(wanted func(r *persistence.StoredRun, row persistence.Transition) bool) harm {
	return func(t *testing.T, c *copied, r *persistence.StoredRun) {
		row := rowOf(t, c, r, func(row persistence.Transition) bool { return wanted(r, row) })
		c.exec(t, "DELETE FROM transitions WHERE run_id = ? AND seq = ?", r.RunID, row.Seq)
	}
}

// editEvents changes the events of the first row that has more than one.
func editEvents(edit func(*statepb.Events)) harm {
	return func(t *testing.T, c *copied, r *persistence.StoredRun) {
		events := &statepb.Events{}
		row := rowOf(t, c, r, func(row persistence.Transition) bool {
			require.NoError(t, proto.Unmarshal(row.Events, events))
			return len(events.Events) > 1
		})
		require.NoError(t, proto.Unmarshal(row.Events, events))
		edit(events)
		c.exec(t, "UPDATE transitions SET events = ? WHERE run_id = ? AND seq = ?", marshal(t, events), r.RunID, row.Seq)
	}
}

// editSnapshot changes the parts of the run's snapshot.
func editSnapshot(edit func(*statepb.Parts)) harm {
	return func(t *testing.T, c *copied, r *persistence.StoredRun) {
		parts := &statepb.Parts{}
		require.NotNil(t, r.Snapshot)
		require.NoError(t, proto.Unmarshal(r.Snapshot.Parts, parts))
		edit(parts)
		c.exec(t, "UPDATE executions SET snapshot = ? WHERE run_id = ?", marshal(t, parts), r.RunID)
	}
}

// editCore changes the core part of the last row of a run without a snapshot.
func editCore(edit func(*statepb.Core)) harm {
	return func(t *testing.T, c *copied, r *persistence.StoredRun) {
		require.Nil(t, r.Snapshot)
		var last persistence.Transition
		rowOf(t, c, r, func(row persistence.Transition) bool {
			last = row
			return row.Seq == 1
		})
		parts, core := &statepb.Parts{}, &statepb.Core{}
		require.NoError(t, proto.Unmarshal(last.Parts, parts))
		i := slices.IndexFunc(parts.Parts, func(p *statepb.Part) bool { return p.Key == "core" })
		require.GreaterOrEqual(t, i, 0)
		require.NoError(t, proto.Unmarshal(parts.Parts[i].Value, core))
		edit(core)
		parts.Parts[i].Value = marshal(t, core)
		c.exec(t, "UPDATE transitions SET parts = ? WHERE run_id = ? AND seq = ?", marshal(t, parts), r.RunID, last.Seq)
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return encoded
}

func dropPart(parts *statepb.Parts, key string) {
	parts.Parts = slices.DeleteFunc(parts.Parts, func(p *statepb.Part) bool { return p.Key == key })
}

var (
	garbage = []byte("\xff\xff garbage")
	later   = int64(4_000_000_000_000_000_000) // nanoseconds: in the year 2096
)

var damages = []damage{
	{"row in another shard", "order", 0, set("executions", "shard_id = CASE WHEN shard_id = 0 THEN 1 ELSE 0 END"), []Check{WrongShard}},
	{"row of another request", "order", 0, set("executions", "start_request_id = 'another'"), []Check{Identity}},
	{"a row after the snapshot is gone", "order-slow", 0, dropRow(func(_ *persistence.StoredRun, row persistence.Transition) bool { return row.Seq == 2 }),
		[]Check{SeqGap, EventGap}},
	{"the last row is gone", "busy", 0, dropRow(func(r *persistence.StoredRun, row persistence.Transition) bool { return row.Seq == r.Snapshot.Seq }),
		[]Check{SeqGap, EventGap}},
	{"all rows are gone", "busy", 0, drop("transitions"), []Check{SeqGap, EventGap}},
	{"a row with events before the snapshot is gone", "busy", 0,
		dropRow(func(_ *persistence.StoredRun, row persistence.Transition) bool {
			return row.Seq > 1 && len(row.Events) > 0
		}), []Check{EventGap}},
	{"a first event id is wrong", "order", 0, set("transitions", "first_event_id = first_event_id + 1"), []Check{EventGap}},
	{"an event is missing", "order", 0, editEvents(func(e *statepb.Events) { e.Events = e.Events[:len(e.Events)-1] }), []Check{EventGap}},
	{"an event is there twice", "order", 0, editEvents(func(e *statepb.Events) { e.Events = append(e.Events, e.Events[0]) }), []Check{EventGap}},
	{"events are garbage", "order", 0, set("transitions", "events = ?", garbage), []Check{Undecodable, EventGap}},
	{"parts are garbage", "order-slow", 0, set("transitions", "parts = ?", garbage), []Check{Undecodable}},
	{"the snapshot is garbage", "order", 0, set("executions", "snapshot = ?", garbage), []Check{Undecodable}},
	{"a part is not in the snapshot", "order", 0, editSnapshot(func(p *statepb.Parts) {
		p.Parts = slices.DeleteFunc(p.Parts, func(p *statepb.Part) bool { return len(p.Key) > 8 && p.Key[:8] == "request/" })
	}), []Check{SnapshotDiffers}},
	{"a part of the snapshot is in no row", "order", 0, editSnapshot(func(p *statepb.Parts) {
		p.Parts = append(p.Parts, &statepb.Part{Key: "update/none"})
	}), []Check{SnapshotDiffers}},
	{"a part of the snapshot has another value", "order", 0, editSnapshot(func(p *statepb.Parts) {
		core := &statepb.Core{}
		for _, part := range p.Parts {
			if part.Key == "core" && proto.Unmarshal(part.Value, core) == nil {
				core.CompletedTasks += 5
				part.Value, _ = proto.Marshal(core)
			}
		}
	}), []Check{SnapshotDiffers}},
	{"a timer of a closed run", "order", 0, editSnapshot(func(p *statepb.Parts) {
		p.Parts = append(p.Parts, &statepb.Part{Key: "timer/none"})
	}), []Check{SnapshotDiffers, PendingAfterClose}},
	{"a part that the state needs is missing", "order", 0, editSnapshot(func(p *statepb.Parts) { dropPart(p, "start") }), []Check{SnapshotDiffers, Undecodable}},
	{"an open run's row is closed", "order-slow", 0, set("executions", "status = 2, open = false"), []Check{StatusDiffers}},
	{"a closed run's row is open", "listed", 0, set("executions", "open = true"), []Check{StatusDiffers}},
	{"an old run is open", "chain", 1, set("executions", "open = true"), []Check{StatusDiffers, OldRunOpen}},
	{"two runs are open", "chain", 1, all(
		func(t *testing.T, c *copied, _ *persistence.StoredRun) { c.exec(t, "DROP INDEX executions_open") },
		func(t *testing.T, c *copied, _ *persistence.StoredRun) {
			c.exec(t, "UPDATE executions SET open = true WHERE business_id = 'chain'")
		}), []Check{StatusDiffers, OldRunOpen, TwoOpenRuns}},
	{"effects without the flag", "unpolled", 0, all(
		editCore(func(core *statepb.Core) { core.EffectLowWater, core.EffectsAcknowledged = 0, nil }), set("executions", "has_effects = false")),
		[]Check{EffectsUnflagged}},
	{"no wake-up", "delayed", 0, set("executions", "has_effects = false, wake_at = NULL"), []Check{WakeupLate}},
	{"a late wake-up", "delayed", 0, set("executions", "has_effects = false, wake_at = ?", later), []Check{WakeupLate}},
	{"no visibility row", "listed", 0, drop("visibility"), []Check{VisibilityMissing}},
	{"listed with another status", "order-slow", 0, set("visibility", "status = ?", int32(enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)), []Check{VisibilityDiffers}},
	{"listed as open", "listed", 0, set("visibility", "close_time = NULL"), []Check{VisibilityDiffers}},
	{"listed with another close time", "listed", 0, set("visibility", "close_time = close_time + 1000"), []Check{VisibilityDiffers}},
	{"listed with another start time", "listed", 0, set("visibility", "start_time = start_time - 1000000"), []Check{VisibilityDiffers}},
	{"listed with another type", "listed", 0, set("visibility", "workflow_type = 'another'"), []Check{VisibilityDiffers}},
	{"listed with another workflow id", "listed", 0, set("visibility", "workflow_id = 'another'"), []Check{VisibilityDiffers}},
	{"listed with another task queue", "listed", 0, set("visibility", "task_queue = 'another'"), []Check{VisibilityDiffers}},
	{"listed with another parent", "child-done", 0, set("visibility", "parent_workflow_id = 'another'"), []Check{VisibilityDiffers}},
	{"listed with another root", "child-done", 0, set("visibility", "root_workflow_id = 'another'"), []Check{VisibilityDiffers}},
	{"listed without search attributes", "listed", 0, set("visibility", "search_attributes = NULL"), []Check{VisibilityDiffers}},
	{"listed with other search attributes", "listed", 0, set("visibility", `search_attributes = '{"Color": "red"}'`), []Check{VisibilityDiffers}},
	{"listed without memo", "listed", 0, set("visibility", "memo = NULL"), []Check{VisibilityDiffers}},
	{"listed with another length", "listed", 0, set("visibility", "history_length = history_length - 1"), []Check{VisibilityDiffers}},
	{"listed with another size", "order-slow", 0, set("visibility", "history_size_bytes = 1000000000"), []Check{VisibilityDiffers}},
	{"listed with more transitions", "listed", 0, set("visibility", "state_transition_count = 1000"), []Check{VisibilityDiffers}},
	{"a run without a row", "busy", 0, drop("executions"), []Check{OrphanTransitions, OrphanVisibility}},
	{"only a log is left", "busy", 0, all(drop("executions"), drop("visibility")), []Check{OrphanTransitions}},
	{"only a visibility row is left", "busy", 0, all(drop("executions"), drop("transitions")), []Check{OrphanVisibility}},
}
