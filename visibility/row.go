package visibility

import (
	"encoding/json"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/persistence"
)

// EncodeSearchAttributes makes the JSON object of persistence.VisibilityRow.SearchAttributes from payloads that Validate has
// passed or the server has made. It goes by the types in the payloads' metadata. It never fails a transition: what has no
// value or does not decode is left out. Nil if nothing remains.
func EncodeSearchAttributes(sa *commonpb.SearchAttributes) []byte {
	object := make(map[string]any, len(sa.GetIndexedFields()))
	for name, p := range sa.GetIndexedFields() {
		value, err := decodePayload(payloadType(name, p), p)
		if err != nil || value == nil {
			continue
		}
		if t, ok := value.(time.Time); ok {
			value = t.Format(datetimeLayout)
		}
		object[name] = value
	}
	if len(object) == 0 {
		return nil
	}
	encoded, err := marshalJSON(object)
	if err != nil {
		return nil // unreachable: strings, finite numbers, bools and lists of strings
	}
	return encoded
}

func payloadType(name string, p *commonpb.Payload) enumspb.IndexedValueType {
	if t, ok := predefinedAttributes[name]; ok {
		return t
	}
	t, err := enumspb.IndexedValueTypeFromString(string(p.GetMetadata()[metadataType]))
	if err != nil {
		return enumspb.INDEXED_VALUE_TYPE_UNSPECIFIED
	}
	return t
}

// NewPayload makes the payload of an attribute that the server sets itself. Value is string, int64, float64, bool, time.Time
// or []string, as the type says.
func NewPayload(t enumspb.IndexedValueType, value any) (*commonpb.Payload, error) {
	p, err := encodePayload(t, value)
	if err != nil {
		return nil, fmt.Errorf("encode search attribute of type %s: %w", t, err)
	}
	return p, nil
}

// DecodeSearchAttributes makes typed payloads from a row's JSON object. Attributes that the namespace no longer has, or has
// with another type now, are left out.
func (a *Attributes) DecodeSearchAttributes(object []byte) (*commonpb.SearchAttributes, error) {
	sa := &commonpb.SearchAttributes{}
	if len(object) == 0 {
		return sa, nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(object, &values); err != nil {
		return nil, fmt.Errorf("decode stored search attributes: %w", err)
	}
	for name, raw := range values {
		t, ok := a.settable(name)
		if !ok {
			continue
		}
		value, err := decodeJSON(t, raw)
		if err != nil || value == nil {
			continue
		}
		p, err := encodePayload(t, value)
		if err != nil {
			return nil, fmt.Errorf("encode search attribute %s: %w", name, err)
		}
		if sa.IndexedFields == nil {
			sa.IndexedFields = make(map[string]*commonpb.Payload, len(values))
		}
		sa.IndexedFields[name] = p
	}
	return sa, nil
}

// EncodeMemo makes persistence.VisibilityRow.Memo. Nil if the memo is empty.
func EncodeMemo(memo *commonpb.Memo) ([]byte, error) {
	if len(memo.GetFields()) == 0 {
		return nil, nil
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(memo)
	if err != nil {
		return nil, fmt.Errorf("encode memo: %w", err)
	}
	return b, nil
}

// ExecutionInfo makes a list's entry from a row.
func (a *Attributes) ExecutionInfo(row *persistence.VisibilityRow) (*workflowpb.WorkflowExecutionInfo, error) {
	memo := &commonpb.Memo{}
	if err := proto.Unmarshal(row.Memo, memo); err != nil {
		return nil, fmt.Errorf("decode memo of run %s: %w", row.RunID, err)
	}
	sa, err := a.DecodeSearchAttributes(row.SearchAttributes)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", row.RunID, err)
	}
	info := &workflowpb.WorkflowExecutionInfo{
		Execution:        &commonpb.WorkflowExecution{WorkflowId: row.WorkflowID, RunId: row.RunID},
		Type:             &commonpb.WorkflowType{Name: row.WorkflowType},
		StartTime:        timestamp(row.StartTime),
		ExecutionTime:    timestamp(row.ExecutionTime),
		Status:           enumspb.WorkflowExecutionStatus(row.Status),
		Memo:             memo,
		SearchAttributes: sa,
		TaskQueue:        row.TaskQueue,
		ParentExecution:  execution(row.ParentWorkflowID, row.ParentRunID),
		RootExecution:    execution(row.RootWorkflowID, row.RootRunID),
	}
	if row.CloseTime.IsZero() {
		return info, nil
	}
	// Of an open run the counters are those of the row's last write, not of now: better none than wrong ones.
	info.CloseTime = timestamp(row.CloseTime)
	info.ExecutionDuration = durationpb.New(row.CloseTime.Sub(row.ExecutionTime))
	info.HistoryLength = row.HistoryLength
	info.HistorySizeBytes = row.HistorySizeBytes
	info.StateTransitionCount = row.StateTransitionCount
	return info, nil
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func execution(workflowID, runID string) *commonpb.WorkflowExecution {
	if workflowID == "" {
		return nil
	}
	return &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID}
}
