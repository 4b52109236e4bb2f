package workflow

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// encoder collects parts. Their order is that of the keys, so that the same state gives the same bytes.
type encoder struct {
	parts []*statepb.Part
	err   error
}

var deterministic = proto.MarshalOptions{Deterministic: true}

// set adds a part; a nil message is a tombstone.
func (e *encoder) set(key string, m proto.Message) {
	if !m.ProtoReflect().IsValid() {
		e.parts = append(e.parts, &statepb.Part{Key: key, Deleted: true})
		return
	}
	value, err := deterministic.Marshal(m)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.parts = append(e.parts, &statepb.Part{Key: key, Value: value})
}

func (e *encoder) bytes() ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	return deterministic.Marshal(&statepb.Parts{Parts: e.parts})
}

func encodeNumbered[V proto.Message](e *encoder, kind string, m map[int64]V) {
	for _, id := range sortedKeys(m) {
		e.set(kind+"/"+strconv.FormatInt(id, 10), m[id])
	}
}

func encodeNamed[V proto.Message](e *encoder, kind string, m map[string]V) {
	for _, id := range sortedKeys(m) {
		e.set(kind+"/"+id, m[id])
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

func sorted[K cmp.Ordered](keys []K) []K {
	slices.Sort(keys)
	return keys
}
