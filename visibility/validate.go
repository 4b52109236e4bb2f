package visibility

import (
	"fmt"
	"maps"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
)

// Limits of the search attributes of one request: what a list can carry for each of a thousand rows.
const (
	SearchAttributeKeysMax       = 100
	SearchAttributeValueBytesMax = 2 << 10
	SearchAttributesBytesMax     = 40 << 10
)

// Validate checks the search attributes of a start or an upsert: known names that a client may set, values of the right type,
// sizes. It returns them with the type in every payload's metadata; what it was given is not changed. Errors are
// *serviceerror.InvalidArgument or, for an unregistered name, *UnknownAttributeError.
func (a *Attributes) Validate(sa *commonpb.SearchAttributes) (*commonpb.SearchAttributes, error) {
	fields := sa.GetIndexedFields()
	if len(fields) == 0 {
		return sa, nil
	}
	if len(fields) > SearchAttributeKeysMax {
		return nil, serviceerror.NewInvalidArgumentf("number of search attributes %d exceeds limit %d", len(fields), SearchAttributeKeysMax)
	}
	typed := make(map[string]*commonpb.Payload, len(fields))
	total := 0
	for _, name := range slices.Sorted(maps.Keys(fields)) { // in order: of several errors always the same one
		payload := fields[name]
		if len(payload.GetData()) > SearchAttributeValueBytesMax {
			return nil, serviceerror.NewInvalidArgumentf("search attribute %s value size %d exceeds limit %d", name, len(payload.GetData()), SearchAttributeValueBytesMax)
		}
		if total += len(name) + len(payload.GetData()); total > SearchAttributesBytesMax {
			return nil, serviceerror.NewInvalidArgumentf("total size of search attributes exceeds limit %d", SearchAttributesBytesMax)
		}
		p, err := a.validateOne(name, payload)
		if err != nil {
			return nil, err
		}
		typed[name] = p
	}
	return &commonpb.SearchAttributes{IndexedFields: typed}, nil
}

func (a *Attributes) validateOne(name string, payload *commonpb.Payload) (*commonpb.Payload, error) {
	if _, ok := systemAttributes[name]; ok {
		return nil, serviceerror.NewInvalidArgumentf("%s attribute can't be set in SearchAttributes", name)
	}
	t, ok := a.settable(name)
	if !ok {
		return nil, newUnknownAttribute(name, fmt.Sprintf("Namespace %s has no mapping defined for search attribute %s", a.namespace, name))
	}
	value, err := decodePayload(t, payload)
	if err != nil {
		return nil, serviceerror.NewInvalidArgumentf("invalid value for search attribute %s of type %s: %s", name, t, describePayload(payload))
	}
	if wrapped(t, payload, value) {
		// A worker that decodes by type would fail on the list.
		return encodePayload(t, value)
	}
	return withType(payload, t), nil
}

// wrapped tells whether a scalar came as a list of one element.
func wrapped(t enumspb.IndexedValueType, p *commonpb.Payload, value any) bool {
	if value == nil || t == enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST {
		return false
	}
	for _, c := range p.GetData() {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c == '['
	}
	return false
}

func withType(p *commonpb.Payload, t enumspb.IndexedValueType) *commonpb.Payload {
	if string(p.GetMetadata()[metadataType]) == t.String() {
		return p
	}
	metadata := make(map[string][]byte, len(p.GetMetadata())+1)
	maps.Copy(metadata, p.GetMetadata())
	metadata[metadataType] = []byte(t.String())
	return &commonpb.Payload{Metadata: metadata, Data: p.GetData(), ExternalPayloads: p.GetExternalPayloads()}
}
