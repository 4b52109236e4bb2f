package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/visibility"
)

// cutTextMax is the length to which a store cuts the type and id of a run whose visibility row the database has refused.
const cutTextMax = 1024

// compareVisibility says how a visibility row differs from the state; "" if it does not. The row is written at start, at close
// and when what it shows changes: the counters of an open run are those of its last write.
func compareVisibility(s *workflow.State, row *persistence.VisibilityRow) string {
	start, core := s.Start, s.Core
	rootWorkflow, rootRun := start.GetRoot().GetWorkflowId(), start.GetRoot().GetRunId()
	if rootWorkflow == "" {
		rootWorkflow, rootRun = start.GetWorkflowId(), start.GetRunId()
	}
	attributes := visibility.EncodeSearchAttributes(s.Attributes.GetSearchAttributes())
	cut := isCut(s, row, attributes)
	for _, f := range []struct {
		name       string
		row, state string
		free       bool // chosen freely by users
	}{
		{"workflow id", row.WorkflowID, start.GetWorkflowId(), true},
		{"workflow type", row.WorkflowType, start.GetWorkflowType().GetName(), true},
		{"task queue", row.TaskQueue, core.GetTaskQueue(), false},
		{"status", enumspb.WorkflowExecutionStatus(row.Status).String(), core.GetStatus().String(), false},
		{"parent workflow", row.ParentWorkflowID, start.GetParent().GetWorkflowId(), false},
		{"parent run", row.ParentRunID, start.GetParent().GetRunId(), false},
		{"root workflow", row.RootWorkflowID, rootWorkflow, false},
		{"root run", row.RootRunID, rootRun, false},
	} {
		shortened := f.free && cut && strings.HasPrefix(storable(f.state), f.row)
		if storable(f.state) != f.row && !shortened {
			return fmt.Sprintf("its %s is %q, that of the state %q", f.name, f.row, f.state)
		}
	}
	for _, f := range []struct {
		name       string
		row, state time.Time
	}{
		{"start time", row.StartTime, start.GetStartTime().AsTime()},
		{"execution time", row.ExecutionTime, start.GetExecutionTime().AsTime()},
		{"close time", row.CloseTime, timeOf(core.GetCloseTime())},
	} {
		if !sameTime(f.row, f.state) {
			return fmt.Sprintf("its %s is %s, that of the state %s", f.name, timeText(f.row), timeText(f.state))
		}
	}
	if difference := compareCounters(s, row); difference != "" {
		return difference
	}
	if cut {
		return ""
	}
	return compareFree(s, row, attributes)
}

// isCut tells a row that the database has refused and that was therefore stored with system attributes only: PostgreSQL takes no
// zero character in JSON, and no text in an index that is too long for it.
func isCut(s *workflow.State, row *persistence.VisibilityRow, attributes []byte) bool {
	refused := bytes.Contains(attributes, []byte(`\u0000`)) || len(s.Start.GetWorkflowId()) > cutTextMax || len(s.Start.GetWorkflowType().GetName()) > cutTextMax
	return refused && len(row.SearchAttributes) == 0 && len(row.Memo) == 0
}

// storable is a text as a database can hold it.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func compareCounters(s *workflow.State, row *persistence.VisibilityRow) string {
	length := s.Core.GetNextEventId() - 1
	if row.HistoryLength > length || (!s.Open() && row.HistoryLength != length) {
		return fmt.Sprintf("its history length is %d, that of the state %d", row.HistoryLength, length)
	}
	size := s.Core.GetHistorySizeBytes()
	if row.HistorySizeBytes > size || (!s.Open() && row.HistorySizeBytes != size) {
		return fmt.Sprintf("its history size is %d bytes, that of the state %d", row.HistorySizeBytes, size)
	}
	if row.StateTransitionCount > s.Core.GetStateTransitionCount() { // a closed run may have had some more since
		return fmt.Sprintf("it counts %d state transitions, the state %d", row.StateTransitionCount, s.Core.GetStateTransitionCount())
	}
	return ""
}

// compareFree compares what users choose freely.
func compareFree(s *workflow.State, row *persistence.VisibilityRow, attributes []byte) string {
	memo, err := visibility.EncodeMemo(s.Attributes.GetMemo())
	if err != nil {
		return fmt.Sprintf("the state's memo cannot be encoded: %v", err)
	}
	if !bytes.Equal(memo, row.Memo) {
		return "its memo is not that of the state"
	}
	if !sameAttributes(attributes, row.SearchAttributes, s.Open()) {
		return fmt.Sprintf("its search attributes are %s, those of the state %s", row.SearchAttributes, attributes)
	}
	return ""
}

// sameAttributes compares JSON objects; no bytes are an empty one. A database may store another form of the same object. The list of
// an open run's builds is written with the next change of the row, at the latest at the close.
func sameAttributes(a, b []byte, open bool) bool {
	decode := func(text []byte) (object map[string]any, err error) {
		if len(text) == 0 {
			return map[string]any{}, nil
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		return object, d.Decode(&object)
	}
	da, errA := decode(a)
	db, errB := decode(b)
	if errA != nil || errB != nil {
		return bytes.Equal(a, b)
	}
	if open {
		delete(da, visibility.BuildIDs)
		delete(db, visibility.BuildIDs)
	}
	return reflect.DeepEqual(normal(da), normal(db))
}

// normal gives equal numbers one form: 1e3 and 1000 are the same.
func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		if i := int64(f); float64(i) == f {
			return i
		}
		return f
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = normal(v[k])
		}
	}
	return v
}
