package frontend

import (
	"context"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/perdure/perdure/namespace"
)

type namespaceKey struct{}

// withNamespace returns a context that carries the namespace of the request.
func withNamespace(ctx context.Context, n *namespace.Namespace) context.Context {
	return context.WithValue(ctx, namespaceKey{}, n)
}

// namespaced is a request that acts in one namespace.
type namespaced interface {
	GetNamespace() string
}

// resolve finds and checks the namespace of a request. An answer to a task may leave it to its token.
func resolve(ctx context.Context, registry Registry, r namespaced) (*namespace.Namespace, error) {
	n, err := find(ctx, registry, r)
	if err != nil {
		return nil, err
	}
	return n, n.RequireState(allowedStates(r)...)
}

func find(ctx context.Context, registry Registry, r namespaced) (*namespace.Namespace, error) {
	if name := r.GetNamespace(); name != "" {
		return registry.ByName(ctx, name)
	}
	if t, ok := r.(tokened); ok && len(t.GetTaskToken()) > 0 {
		id, err := tokenNamespace(t)
		if err != nil {
			return nil, err
		}
		return registry.ByID(ctx, id)
	}
	return nil, errNamespaceMissing(r)
}

// errNamespaceMissing has the text recorded of the service that the request is for.
func errNamespaceMissing(r namespaced) error {
	switch r.(type) {
	case *operatorservice.AddSearchAttributesRequest, *operatorservice.ListSearchAttributesRequest, *operatorservice.RemoveSearchAttributesRequest:
		return errNotSet("Namespace")
	}
	return serviceerror.NewInvalidArgument("Namespace is empty.")
}

var (
	statesToStart = []enumspb.NamespaceState{enumspb.NAMESPACE_STATE_REGISTERED}
	statesToUse   = []enumspb.NamespaceState{enumspb.NAMESPACE_STATE_REGISTERED, enumspb.NAMESPACE_STATE_DEPRECATED}
)

// allowedStates says in which states a namespace takes a request: a deprecated one starts nothing new, but everything that
// runs in it goes on.
func allowedStates(r namespaced) []enumspb.NamespaceState {
	switch r.(type) {
	case *workflowservice.StartWorkflowExecutionRequest,
		*workflowservice.SignalWithStartWorkflowExecutionRequest,
		*workflowservice.ExecuteMultiOperationRequest:
		return statesToStart
	default:
		return statesToUse
	}
}

// ownNamespaceRules are the requests whose handlers find their namespace themselves: those about namespaces.
func ownNamespaceRules(r any) bool {
	switch r.(type) {
	case *workflowservice.RegisterNamespaceRequest,
		*workflowservice.DescribeNamespaceRequest,
		*workflowservice.UpdateNamespaceRequest,
		*workflowservice.DeprecateNamespaceRequest,
		*operatorservice.DeleteNamespaceRequest:
		return true
	default:
		return false
	}
}

// namespaceOf returns the namespace of a request.
func (h *Handler) namespaceOf(ctx context.Context, r namespaced) (*namespace.Namespace, error) {
	return requestNamespace(ctx, h.registry, r)
}
