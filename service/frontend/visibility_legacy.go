package frontend

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	filterpb "go.temporal.io/api/filter/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/visibility"
)

// ListOpenWorkflowExecutions lists open executions by the filters of old clients.
func (v *Visibility) ListOpenWorkflowExecutions(
	ctx context.Context, r *workflowservice.ListOpenWorkflowExecutionsRequest,
) (*workflowservice.ListOpenWorkflowExecutionsResponse, error) {
	open := persistence.IsNull{Field: systemField(visibility.CloseTime, persistence.FieldDatetime)}
	filters := append(legacyFilters(r.GetExecutionFilter(), r.GetTypeFilter()), open)
	executions, next, err := v.listLegacy(ctx, r, filters, visibility.StartTime)
	if err != nil {
		return nil, err
	}
	return &workflowservice.ListOpenWorkflowExecutionsResponse{Executions: executions, NextPageToken: next}, nil
}

// ListClosedWorkflowExecutions lists closed executions by the filters of old clients. In spite of its name the start time
// filter is about the time at which they closed.
func (v *Visibility) ListClosedWorkflowExecutions(
	ctx context.Context, r *workflowservice.ListClosedWorkflowExecutionsRequest,
) (*workflowservice.ListClosedWorkflowExecutionsResponse, error) {
	closed := persistence.IsNull{Field: systemField(visibility.CloseTime, persistence.FieldDatetime), Negate: true}
	filters := append(legacyFilters(r.GetExecutionFilter(), r.GetTypeFilter()), closed)
	if f := r.GetStatusFilter(); f != nil {
		if f.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED || f.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return nil, serviceerror.NewInvalidArgument("StatusFilter must be specified and must be not Running.")
		}
		filters = append(filters, equal(visibility.ExecutionStatus, int64(f.GetStatus())))
	}
	executions, next, err := v.listLegacy(ctx, r, filters, visibility.CloseTime)
	if err != nil {
		return nil, err
	}
	return &workflowservice.ListClosedWorkflowExecutionsResponse{Executions: executions, NextPageToken: next}, nil
}

// ListArchivedWorkflowExecutions has nothing to list: there is no archive.
func (v *Visibility) ListArchivedWorkflowExecutions(
	_ context.Context, r *workflowservice.ListArchivedWorkflowExecutionsRequest,
) (*workflowservice.ListArchivedWorkflowExecutionsResponse, error) {
	const pageMax = 10_000
	if r.GetPageSize() > pageMax {
		return nil, serviceerror.NewInvalidArgumentf("PageSize is larger than allowed %d.", pageMax)
	}
	return nil, serviceerror.NewInvalidArgument("Cluster is not configured for visibility archival.")
}

// legacyRequest is what the two requests have in common.
type legacyRequest interface {
	namespaced
	GetMaximumPageSize() int32
	GetNextPageToken() []byte
	GetStartTimeFilter() *filterpb.StartTimeFilter
}

func (v *Visibility) listLegacy(
	ctx context.Context, r legacyRequest, filters []persistence.Filter, timeField string,
) ([]*workflowpb.WorkflowExecutionInfo, []byte, error) {
	n, err := v.namespace(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	times, err := timeRange(r.GetStartTimeFilter(), timeField)
	if err != nil {
		return nil, nil, err
	}
	after, err := visibility.DecodePageToken(r.GetNextPageToken())
	if err != nil {
		return nil, nil, err
	}
	visible, err := n.Attributes().ParseList("") // hides the server's own executions
	if err != nil {
		return nil, nil, err
	}
	filter := persistence.And{Filters: append(append(filters, times...), visible)}
	return v.page(ctx, n.ID(), n.Attributes(), filter, after, visibility.PageSize(r.GetMaximumPageSize()))
}

func legacyFilters(execution *filterpb.WorkflowExecutionFilter, kind *filterpb.WorkflowTypeFilter) []persistence.Filter {
	var filters []persistence.Filter
	for _, f := range []struct{ name, value string }{
		{visibility.WorkflowID, execution.GetWorkflowId()},
		{visibility.RunID, execution.GetRunId()},
		{visibility.WorkflowType, kind.GetName()},
	} {
		if f.value != "" {
			filters = append(filters, equal(f.name, f.value))
		}
	}
	return filters
}

func timeRange(f *filterpb.StartTimeFilter, name string) ([]persistence.Filter, error) {
	earliest, latest := f.GetEarliestTime(), f.GetLatestTime()
	if earliest != nil && latest != nil && earliest.AsTime().After(latest.AsTime()) {
		return nil, serviceerror.NewInvalidArgument("EarliestTime in StartTimeFilter should not be larger than LatestTime.")
	}
	var filters []persistence.Filter
	bound := func(op persistence.CompareOp, t time.Time) {
		filters = append(filters, persistence.Compare{Field: systemField(name, persistence.FieldDatetime), Op: op, Value: t})
	}
	if earliest != nil {
		bound(persistence.GreaterOrEqual, earliest.AsTime())
	}
	if latest != nil {
		bound(persistence.LessOrEqual, latest.AsTime())
	}
	return filters, nil
}

func systemField(name string, t persistence.FieldType) persistence.Field {
	return persistence.Field{Name: name, Type: t}
}

func equal(name string, value any) persistence.Filter {
	return persistence.Compare{Field: systemField(name, persistence.FieldKeyword), Op: persistence.Equal, Value: value}
}
