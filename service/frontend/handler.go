package frontend

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/visibility"
)

// Registry is what the frontend needs of the registry of namespaces.
type Registry interface {
	// ByName finds a namespace, or answers NamespaceNotFound.
	ByName(ctx context.Context, name string) (*namespace.Namespace, error)
	// ByID finds a namespace, or answers NamespaceNotFound.
	ByID(ctx context.Context, id string) (*namespace.Namespace, error)
	// WithAttributes calls f with the namespace's search attributes, and once more with fresh ones if f meets an unknown one.
	WithAttributes(ctx context.Context, n *namespace.Namespace, f func(*visibility.Attributes) error) error
}

// Handler is the WorkflowService. RPCs that it does not have answer UNIMPLEMENTED.
//
// It expects the interceptors of this package around it: they resolve the namespace and turn its errors into statuses.
type Handler struct {
	*Namespaces
	*Visibility
	*Cluster
	unsupported

	registry Registry
	history  historypb.HistoryServiceClient
	matching matchingpb.MatchingServiceClient
}

// unsupported keeps the embedded server one level deeper than the handlers' own methods, which so take precedence.
type unsupported struct {
	workflowservice.UnimplementedWorkflowServiceServer
}

var _ workflowservice.WorkflowServiceServer = (*Handler)(nil)

// HandlerParams is what a handler delegates to.
type HandlerParams struct {
	Registry   Registry
	History    historypb.HistoryServiceClient
	Matching   matchingpb.MatchingServiceClient
	Namespaces *Namespaces
	Visibility *Visibility
	Cluster    *Cluster
}

// NewHandler makes the WorkflowService of a process.
func NewHandler(p HandlerParams) *Handler {
	return &Handler{
		Namespaces: p.Namespaces,
		Visibility: p.Visibility,
		Cluster:    p.Cluster,
		registry:   p.Registry,
		history:    p.History,
		matching:   p.Matching,
	}
}

// typedAttributes validates search attributes and returns them with their types.
func (h *Handler) typedAttributes(
	ctx context.Context, n *namespace.Namespace, sa *commonpb.SearchAttributes,
) (*commonpb.SearchAttributes, error) {
	if len(sa.GetIndexedFields()) == 0 {
		return sa, nil
	}
	var typed *commonpb.SearchAttributes
	err := h.registry.WithAttributes(ctx, n, func(a *visibility.Attributes) error {
		var err error
		typed, err = a.Validate(sa)
		return err
	})
	return typed, err
}
