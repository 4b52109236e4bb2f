package frontend

import (
	"context"
	"maps"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/visibility"
)

const (
	// customAttributesMax bounds a namespace's record and the choice that its users have to look through. Values cost
	// nothing until they are set.
	customAttributesMax = 500
	// attributeNameBytesMax is that of a value: a name is part of every row that has the attribute.
	attributeNameBytesMax = visibility.SearchAttributeValueBytesMax
)

// Operator is the OperatorService. RPCs that it does not have answer UNIMPLEMENTED.
type Operator struct {
	operatorservice.UnimplementedOperatorServiceServer

	registry NamespaceRegistry
}

// NewOperator makes the OperatorService of a process.
func NewOperator(registry NamespaceRegistry) *Operator { return &Operator{registry: registry} }

// AddSearchAttributes registers custom search attributes in a namespace. They can be used at once.
func (o *Operator) AddSearchAttributes(
	ctx context.Context, r *operatorservice.AddSearchAttributesRequest,
) (*operatorservice.AddSearchAttributesResponse, error) {
	n, err := requestNamespace(ctx, o.registry, r)
	if err != nil {
		return nil, err
	}
	if len(r.GetSearchAttributes()) == 0 {
		return nil, serviceerror.NewInvalidArgument("SearchAttributes are not set on request.")
	}
	for _, name := range slices.Sorted(maps.Keys(r.GetSearchAttributes())) {
		if err := checkNewAttribute(name, r.GetSearchAttributes()[name]); err != nil {
			return nil, err
		}
	}
	_, err = o.registry.Update(ctx, n.Name(), func(record *statepb.Namespace) error {
		return addAttributes(record, r.GetSearchAttributes())
	})
	if err != nil {
		return nil, err
	}
	return &operatorservice.AddSearchAttributesResponse{}, nil
}

func checkNewAttribute(name string, t enumspb.IndexedValueType) error {
	switch {
	case name == "" || strings.ContainsRune(name, 0):
		return serviceerror.NewInvalidArgumentf("%q cannot be the name of a search attribute.", name)
	case visibility.Reserved(name):
		return serviceerror.NewInvalidArgumentf("Search attribute %s is reserved by system.", name)
	case enumspb.IndexedValueType_name[int32(t)] == "" || t == enumspb.INDEXED_VALUE_TYPE_UNSPECIFIED:
		return serviceerror.NewInvalidArgumentf("Unknown search attribute type: %s.", t)
	}
	return checkLength("Search attribute name", name, attributeNameBytesMax)
}

// addAttributes is idempotent: what exists with the same type is left alone.
func addAttributes(record *statepb.Namespace, attributes map[string]enumspb.IndexedValueType) error {
	if record.SearchAttributes == nil {
		record.SearchAttributes = make(map[string]enumspb.IndexedValueType, len(attributes))
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if t, ok := record.SearchAttributes[name]; ok && t != attributes[name] {
			return serviceerror.NewAlreadyExistsf("Search attribute %s already exists with the type %s.", name, t)
		}
		record.SearchAttributes[name] = attributes[name]
	}
	if len(record.SearchAttributes) > customAttributesMax {
		return serviceerror.NewInvalidArgumentf("Unable to create search attributes: a namespace cannot have more than %d.", customAttributesMax)
	}
	return nil
}

// RemoveSearchAttributes takes custom search attributes out of a namespace. Values that executions have stay stored, but are
// no longer shown or found.
func (o *Operator) RemoveSearchAttributes(
	ctx context.Context, r *operatorservice.RemoveSearchAttributesRequest,
) (*operatorservice.RemoveSearchAttributesResponse, error) {
	n, err := requestNamespace(ctx, o.registry, r)
	if err != nil {
		return nil, err
	}
	if len(r.GetSearchAttributes()) == 0 {
		return nil, serviceerror.NewInvalidArgument("SearchAttributes are not set on request.")
	}
	for _, name := range r.GetSearchAttributes() {
		if visibility.Reserved(name) {
			return nil, serviceerror.NewInvalidArgumentf("Unable to remove non-custom search attributes: %s.", name)
		}
	}
	_, err = o.registry.Update(ctx, n.Name(), func(record *statepb.Namespace) error {
		for _, name := range r.GetSearchAttributes() {
			delete(record.SearchAttributes, name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &operatorservice.RemoveSearchAttributesResponse{}, nil
}

// ListSearchAttributes lists what a namespace's executions can be searched by.
func (o *Operator) ListSearchAttributes(
	ctx context.Context, r *operatorservice.ListSearchAttributesRequest,
) (*operatorservice.ListSearchAttributesResponse, error) {
	n, err := requestNamespace(ctx, o.registry, r)
	if err != nil {
		return nil, err
	}
	return &operatorservice.ListSearchAttributesResponse{
		CustomAttributes: n.Attributes().Custom(),
		SystemAttributes: visibility.SystemAttributes(),
	}, nil
}
