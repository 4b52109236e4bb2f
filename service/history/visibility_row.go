package history

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"time"

	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/visibility"
)

// visibilityRow is what list and count know of a run in a state.
func visibilityRow(s *workflow.State) (*persistence.VisibilityRow, error) {
	memo, err := visibility.EncodeMemo(s.Attributes.GetMemo())
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", s.Start.RunId, err)
	}
	row := &persistence.VisibilityRow{
		NamespaceID:          s.Start.NamespaceId,
		RunID:                s.Start.RunId,
		WorkflowID:           s.Start.WorkflowId,
		WorkflowType:         s.Start.WorkflowType.GetName(),
		TaskQueue:            s.Core.TaskQueue,
		Status:               int32(s.Core.Status),
		StartTime:            s.Start.StartTime.AsTime(),
		ExecutionTime:        s.Start.ExecutionTime.AsTime(),
		CloseTime:            timeOf(s.Core.CloseTime),
		HistoryLength:        s.Core.NextEventId - 1,
		HistorySizeBytes:     s.Core.HistorySizeBytes,
		StateTransitionCount: s.Core.StateTransitionCount,
		ParentWorkflowID:     s.Start.Parent.GetWorkflowId(),
		ParentRunID:          s.Start.Parent.GetRunId(),
		RootWorkflowID:       s.Start.Root.GetWorkflowId(),
		RootRunID:            s.Start.Root.GetRunId(),
		SearchAttributes:     visibility.EncodeSearchAttributes(s.Attributes.GetSearchAttributes()),
		Memo:                 memo,
	}
	if row.RootWorkflowID == "" { // a run without parent is its own root
		row.RootWorkflowID, row.RootRunID = row.WorkflowID, row.RunID
	}
	return row, nil
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// checkSearchAttributes validates search attributes that a workflow sets.
func (s *Service) checkSearchAttributes(ctx context.Context, n *namespace.Namespace, sa *commonpb.SearchAttributes) (typed *commonpb.SearchAttributes, err error) {
	err = s.namespaces.WithAttributes(ctx, n, func(a *visibility.Attributes) error {
		typed, err = a.Validate(sa)
		return err
	})
	return typed, err
}
