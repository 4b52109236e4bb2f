package frontend

import (
	"context"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/visibility"
)

// VisibilityStore is what list and count need of a database; persistence.Store has it.
type VisibilityStore interface {
	ListVisibility(ctx context.Context, namespaceID string, filter persistence.Filter, after *persistence.VisibilityCursor, limit int) ([]*persistence.VisibilityRow, error)
	CountVisibility(ctx context.Context, namespaceID string, filter persistence.Filter, groupBy *persistence.Field) (int64, []persistence.GroupCount, error)
}

// Visibility is the RPCs that list and count executions.
type Visibility struct {
	registry Registry
	store    VisibilityStore
}

// NewVisibility makes the visibility handlers of a process.
func NewVisibility(registry Registry, store VisibilityStore) *Visibility {
	return &Visibility{registry: registry, store: store}
}

// ListWorkflowExecutions lists the executions that a filter finds: open ones first, then by close time, newest first.
func (v *Visibility) ListWorkflowExecutions(
	ctx context.Context, r *workflowservice.ListWorkflowExecutionsRequest,
) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	executions, next, err := v.list(ctx, r, r.GetQuery(), r.GetPageSize(), r.GetNextPageToken())
	if err != nil {
		return nil, err
	}
	return &workflowservice.ListWorkflowExecutionsResponse{Executions: executions, NextPageToken: next}, nil
}

// ScanWorkflowExecutions is the older name of ListWorkflowExecutions.
func (v *Visibility) ScanWorkflowExecutions(
	ctx context.Context, r *workflowservice.ScanWorkflowExecutionsRequest,
) (*workflowservice.ScanWorkflowExecutionsResponse, error) {
	executions, next, err := v.list(ctx, r, r.GetQuery(), r.GetPageSize(), r.GetNextPageToken())
	if err != nil {
		return nil, err
	}
	return &workflowservice.ScanWorkflowExecutionsResponse{Executions: executions, NextPageToken: next}, nil
}

// CountWorkflowExecutions counts the executions that a filter finds, on request by status.
func (v *Visibility) CountWorkflowExecutions(
	ctx context.Context, r *workflowservice.CountWorkflowExecutionsRequest,
) (*workflowservice.CountWorkflowExecutionsResponse, error) {
	n, err := v.namespace(ctx, r)
	if err != nil {
		return nil, err
	}
	var filter persistence.Filter
	var groupBy *persistence.Field
	err = v.registry.WithAttributes(ctx, n, func(a *visibility.Attributes) error {
		var err error
		filter, groupBy, err = a.ParseCount(r.GetQuery())
		return err
	})
	if err != nil {
		return nil, err
	}
	count, groups, err := v.store.CountVisibility(ctx, n.ID(), filter, groupBy)
	if err != nil {
		return nil, visibilityStoreError("count executions", err)
	}
	response := &workflowservice.CountWorkflowExecutionsResponse{Count: count}
	for _, g := range groups {
		group, err := statusGroup(g)
		if err != nil {
			return nil, err
		}
		response.Groups = append(response.Groups, group)
	}
	return response, nil
}

func statusGroup(g persistence.GroupCount) (*workflowservice.CountWorkflowExecutionsResponse_AggregationGroup, error) {
	number, ok := g.Value.(int64)
	if !ok {
		return nil, fmt.Errorf("count executions: a group of the value %v (%T), expected the number of a status", g.Value, g.Value)
	}
	value, err := visibility.NewPayload(enumspb.INDEXED_VALUE_TYPE_KEYWORD, enumspb.WorkflowExecutionStatus(number).String())
	if err != nil {
		return nil, err
	}
	return &workflowservice.CountWorkflowExecutionsResponse_AggregationGroup{GroupValues: []*commonpb.Payload{value}, Count: g.Count}, nil
}

// GetSearchAttributes lists the attributes that every namespace has; it knows no namespace, so it cannot list custom ones.
func (v *Visibility) GetSearchAttributes(
	context.Context, *workflowservice.GetSearchAttributesRequest,
) (*workflowservice.GetSearchAttributesResponse, error) {
	return &workflowservice.GetSearchAttributesResponse{Keys: visibility.SystemAttributes()}, nil
}

// list answers a page of the executions that a query finds.
func (v *Visibility) list(
	ctx context.Context, r namespaced, query string, pageSize int32, token []byte,
) ([]*workflowpb.WorkflowExecutionInfo, []byte, error) {
	n, err := v.namespace(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	after, err := visibility.DecodePageToken(token)
	if err != nil {
		return nil, nil, err
	}
	var filter persistence.Filter
	attributes := n.Attributes()
	err = v.registry.WithAttributes(ctx, n, func(a *visibility.Attributes) error {
		var err error
		attributes = a
		filter, err = a.ParseList(query)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return v.page(ctx, n.ID(), attributes, filter, after, visibility.PageSize(pageSize))
}

func (v *Visibility) page(
	ctx context.Context, namespaceID string, attributes *visibility.Attributes, filter persistence.Filter, after *persistence.VisibilityCursor, limit int,
) ([]*workflowpb.WorkflowExecutionInfo, []byte, error) {
	// One row more than the page tells whether there is a next one.
	rows, err := v.store.ListVisibility(ctx, namespaceID, filter, after, limit+1)
	if err != nil {
		return nil, nil, visibilityStoreError("list executions", err)
	}
	var next []byte
	if len(rows) > limit {
		rows = rows[:limit]
		next = visibility.EncodePageToken(rows[limit-1])
	}
	executions := make([]*workflowpb.WorkflowExecutionInfo, len(rows))
	for i, row := range rows {
		if executions[i], err = attributes.ExecutionInfo(row); err != nil {
			return nil, nil, fmt.Errorf("list executions: %w", err)
		}
	}
	return executions, next, nil
}

func (v *Visibility) namespace(ctx context.Context, r namespaced) (*namespace.Namespace, error) {
	return requestNamespace(ctx, v.registry, r)
}

// requestNamespace returns the namespace that the interceptor has found. Called without interceptors, it finds it itself.
func requestNamespace(ctx context.Context, registry Registry, r namespaced) (*namespace.Namespace, error) {
	if n, ok := ctx.Value(namespaceKey{}).(*namespace.Namespace); ok {
		return n, nil
	}
	return resolve(ctx, registry, r)
}

// visibilityStoreError turns a database that does not answer into UNAVAILABLE, which clients retry.
func visibilityStoreError(operation string, err error) error {
	if errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrClosed) {
		return serviceerror.NewUnavailablef("%s: the database does not answer in time, please retry", operation)
	}
	return fmt.Errorf("%s: %w", operation, err)
}
