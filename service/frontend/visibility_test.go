package frontend_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	filterpb "go.temporal.io/api/filter/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/service/frontend"
)

// visibilityStore answers with prepared rows and remembers what it was asked.
type visibilityStore struct {
	rows      []*persistence.VisibilityRow
	count     int64
	groups    []persistence.GroupCount
	err       error
	namespace string
	filter    persistence.Filter
	groupBy   *persistence.Field
	limit     int
}

func (s *visibilityStore) ListVisibility(
	_ context.Context, namespaceID string, filter persistence.Filter, after *persistence.VisibilityCursor, limit int,
) ([]*persistence.VisibilityRow, error) {
	s.namespace, s.filter, s.limit = namespaceID, filter, limit
	rows := s.rows
	if after != nil {
		for i, row := range rows {
			if row.RunID == after.RunID && row.StartTime.Equal(after.StartTime) && row.CloseTime.Equal(after.CloseTime) {
				rows = rows[i+1:]
				break
			}
		}
	}
	return rows[:min(limit, len(rows))], s.err
}

func (s *visibilityStore) CountVisibility(
	_ context.Context, namespaceID string, filter persistence.Filter, groupBy *persistence.Field,
) (int64, []persistence.GroupCount, error) {
	s.namespace, s.filter, s.groupBy = namespaceID, filter, groupBy
	return s.count, s.groups, s.err
}

func newVisibility(t *testing.T) (*frontend.Visibility, *visibilityStore, *namespace.Namespace) {
	registry := namespace.New(&namespaceStore{})
	n, err := registry.Create(context.Background(), namespace.NewRecord("orders", time.Hour))
	require.NoError(t, err)
	_, err = frontend.NewOperator(registry).AddSearchAttributes(context.Background(), &operatorservice.AddSearchAttributesRequest{
		Namespace: "orders", SearchAttributes: map[string]enumspb.IndexedValueType{"Color": enumspb.INDEXED_VALUE_TYPE_KEYWORD}})
	require.NoError(t, err)
	store := &visibilityStore{}
	return frontend.NewVisibility(registry, store), store, n
}

func rows(n int) []*persistence.VisibilityRow {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var rows []*persistence.VisibilityRow
	for i := range n {
		row := &persistence.VisibilityRow{WorkflowID: fmt.Sprint("w", i), RunID: fmt.Sprintf("019b7a00-0000-7000-8000-%012d", i), Status: 1,
			StartTime: start.Add(-time.Duration(i)), SearchAttributes: []byte(`{"Color":"red","Gone":1}`)}
		if i >= n/2 {
			row.Status, row.CloseTime = 2, start.Add(time.Hour-time.Duration(i))
		}
		rows = append(rows, row)
	}
	return rows
}

func field(name string, t persistence.FieldType, custom bool) persistence.Field {
	return persistence.Field{Name: name, Type: t, Custom: custom}
}

var hidden = persistence.IsNull{Field: field("TemporalNamespaceDivision", persistence.FieldKeyword, true)}

func TestListWorkflowExecutions(t *testing.T) {
	ctx := context.Background()
	v, store, n := newVisibility(t)
	store.rows = rows(5)
	for _, size := range []int32{1, 2, 4, 5, 6, 0, -1, 5000} {
		var listed []string
		r := &workflowservice.ListWorkflowExecutionsRequest{Namespace: "orders", PageSize: size, Query: "Color = 'red'"}
		for {
			page, err := v.ListWorkflowExecutions(ctx, r)
			require.NoError(t, err)
			for _, e := range page.GetExecutions() {
				listed = append(listed, e.GetExecution().GetWorkflowId())
				require.Len(t, e.GetSearchAttributes().GetIndexedFields(), 1)
				require.Equal(t, "Keyword", string(e.GetSearchAttributes().GetIndexedFields()["Color"].GetMetadata()["type"]))
			}
			if len(page.GetNextPageToken()) == 0 {
				break
			}
			require.Len(t, page.GetExecutions(), int(size))
			r.NextPageToken = page.GetNextPageToken()
		}
		require.Equal(t, []string{"w0", "w1", "w2", "w3", "w4"}, listed)
		if size < 1 || size > 1000 {
			require.Equal(t, 1001, store.limit)
		}
	}
	require.Equal(t, n.ID(), store.namespace)
	require.Equal(t, persistence.And{Filters: []persistence.Filter{
		persistence.Compare{Field: field("Color", persistence.FieldKeyword, true), Op: persistence.Equal, Value: "red"}, hidden,
	}}, store.filter)
	scan, err := v.ScanWorkflowExecutions(ctx, &workflowservice.ScanWorkflowExecutionsRequest{Namespace: "orders", PageSize: 3})
	require.NoError(t, err)
	require.Len(t, scan.GetExecutions(), 3)
	require.NotEmpty(t, scan.GetNextPageToken())
}

func TestListErrors(t *testing.T) {
	ctx := context.Background()
	v, store, _ := newVisibility(t)
	list := func(r *workflowservice.ListWorkflowExecutionsRequest) error {
		_, err := v.ListWorkflowExecutions(ctx, r)
		return err
	}
	requireCode(t, list(&workflowservice.ListWorkflowExecutionsRequest{}), codes.InvalidArgument, "Namespace is empty.")
	requireCode(t, list(&workflowservice.ListWorkflowExecutionsRequest{Namespace: "no-such-thing"}), codes.NotFound, "no-such-thing")
	requireCode(t, list(&workflowservice.ListWorkflowExecutionsRequest{Namespace: "orders", NextPageToken: []byte("garbage")}), codes.InvalidArgument, "Invalid NextPageToken.")
	requireCode(t, list(&workflowservice.ListWorkflowExecutionsRequest{Namespace: "orders", Query: "Gone = 1"}), codes.InvalidArgument, "column name 'Gone' is not a valid search attribute")
	requireCode(t, list(&workflowservice.ListWorkflowExecutionsRequest{Namespace: "orders", Query: "GROUP BY ExecutionStatus"}), codes.InvalidArgument, "'GROUP BY' clause")
	store.err = persistence.ErrUnavailable
	requireCode(t, list(&workflowservice.ListWorkflowExecutionsRequest{Namespace: "orders"}), codes.Unavailable, "please retry")
	store.err = errors.New("broken")
	requireCode(t, list(&workflowservice.ListWorkflowExecutionsRequest{Namespace: "orders"}), codes.Unknown, "list executions: broken")
	store.err, store.rows = nil, rows(1)
	store.rows[0].Memo = []byte{0xff}
	requireCode(t, list(&workflowservice.ListWorkflowExecutionsRequest{Namespace: "orders"}), codes.Unknown, "decode memo")
}

func TestCountWorkflowExecutions(t *testing.T) {
	ctx := context.Background()
	v, store, n := newVisibility(t)
	store.count = 3
	got, err := v.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: "orders"})
	require.NoError(t, err)
	require.Equal(t, int64(3), got.GetCount())
	require.Empty(t, got.GetGroups())
	require.Nil(t, store.groupBy)
	require.Equal(t, hidden, store.filter)
	require.Equal(t, n.ID(), store.namespace)

	store.groups = []persistence.GroupCount{{Value: int64(1), Count: 1}, {Value: int64(5), Count: 2}}
	got, err = v.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: "orders", Query: "GROUP BY ExecutionStatus"})
	require.NoError(t, err)
	require.Equal(t, "ExecutionStatus", store.groupBy.Name)
	require.Len(t, got.GetGroups(), 2)
	require.Equal(t, `"Terminated"`, string(got.GetGroups()[1].GetGroupValues()[0].GetData()))
	require.Equal(t, "Keyword", string(got.GetGroups()[1].GetGroupValues()[0].GetMetadata()["type"]))
	require.Equal(t, int64(2), got.GetGroups()[1].GetCount())

	_, err = v.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: "orders", Query: "Color ="})
	requireCode(t, err, codes.InvalidArgument, "invalid query: syntax error at position 8")
	store.err = persistence.ErrUnavailable
	_, err = v.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: "orders"})
	requireCode(t, err, codes.Unavailable, "please retry")
}

func TestListByOldFilters(t *testing.T) {
	ctx := context.Background()
	v, store, _ := newVisibility(t)
	store.rows = rows(2)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	closeTime := field("CloseTime", persistence.FieldDatetime, false)
	times := &filterpb.StartTimeFilter{EarliestTime: timestamppb.New(at), LatestTime: timestamppb.New(at.Add(time.Hour))}
	open, err := v.ListOpenWorkflowExecutions(ctx, &workflowservice.ListOpenWorkflowExecutionsRequest{Namespace: "orders", StartTimeFilter: times, MaximumPageSize: 1,
		Filters: &workflowservice.ListOpenWorkflowExecutionsRequest_TypeFilter{TypeFilter: &filterpb.WorkflowTypeFilter{Name: "Order"}}})
	require.NoError(t, err)
	require.Len(t, open.GetExecutions(), 1)
	require.NotEmpty(t, open.GetNextPageToken())
	require.Equal(t, persistence.And{Filters: []persistence.Filter{
		persistence.Compare{Field: field("WorkflowType", persistence.FieldKeyword, false), Op: persistence.Equal, Value: "Order"},
		persistence.IsNull{Field: closeTime},
		persistence.Compare{Field: field("StartTime", persistence.FieldDatetime, false), Op: persistence.GreaterOrEqual, Value: at},
		persistence.Compare{Field: field("StartTime", persistence.FieldDatetime, false), Op: persistence.LessOrEqual, Value: at.Add(time.Hour)},
		hidden,
	}}, store.filter)

	closed := &workflowservice.ListClosedWorkflowExecutionsRequest{Namespace: "orders", StartTimeFilter: &filterpb.StartTimeFilter{EarliestTime: timestamppb.New(at)},
		Filters: &workflowservice.ListClosedWorkflowExecutionsRequest_StatusFilter{StatusFilter: &filterpb.StatusFilter{Status: enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED}}}
	_, err = v.ListClosedWorkflowExecutions(ctx, closed)
	require.NoError(t, err)
	require.Equal(t, persistence.And{Filters: []persistence.Filter{
		persistence.IsNull{Field: closeTime, Negate: true},
		persistence.Compare{Field: field("ExecutionStatus", persistence.FieldKeyword, false), Op: persistence.Equal, Value: int64(5)},
		persistence.Compare{Field: closeTime, Op: persistence.GreaterOrEqual, Value: at},
		hidden,
	}}, store.filter)
	closed.GetStatusFilter().Status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	_, err = v.ListClosedWorkflowExecutions(ctx, closed)
	requireCode(t, err, codes.InvalidArgument, "StatusFilter must be specified and must be not Running.")
	closed.Filters = &workflowservice.ListClosedWorkflowExecutionsRequest_ExecutionFilter{ExecutionFilter: &filterpb.WorkflowExecutionFilter{WorkflowId: "w", RunId: "r"}}
	closed.NextPageToken = []byte("garbage")
	_, err = v.ListClosedWorkflowExecutions(ctx, closed)
	requireCode(t, err, codes.InvalidArgument, "Invalid NextPageToken.")

	times.EarliestTime, times.LatestTime = times.LatestTime, times.EarliestTime
	_, err = v.ListOpenWorkflowExecutions(ctx, &workflowservice.ListOpenWorkflowExecutionsRequest{Namespace: "orders", StartTimeFilter: times})
	requireCode(t, err, codes.InvalidArgument, "EarliestTime in StartTimeFilter should not be larger than LatestTime.")
	_, err = v.ListArchivedWorkflowExecutions(ctx, &workflowservice.ListArchivedWorkflowExecutionsRequest{Namespace: "orders", PageSize: 10_001})
	requireCode(t, err, codes.InvalidArgument, "PageSize is larger than allowed 10000.")
	_, err = v.ListArchivedWorkflowExecutions(ctx, &workflowservice.ListArchivedWorkflowExecutionsRequest{Namespace: "orders"})
	requireCode(t, err, codes.InvalidArgument, "not configured for visibility archival")
}

func TestGetSearchAttributes(t *testing.T) {
	v, _, _ := newVisibility(t)
	got, err := v.GetSearchAttributes(context.Background(), &workflowservice.GetSearchAttributesRequest{})
	require.NoError(t, err)
	require.Len(t, got.GetKeys(), 33)
	require.Equal(t, enumspb.INDEXED_VALUE_TYPE_KEYWORD, got.GetKeys()["WorkflowId"])
}
