package admin

import (
	"bytes"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

const (
	partStart      = "start"
	partAttributes = "attributes"
)

// partMessages are the messages of a workflow run's parts, by the word before the slash of their keys.
var partMessages = map[string]func() proto.Message{
	partStart:      func() proto.Message { return &statepb.Start{} },
	"core":         func() proto.Message { return &statepb.Core{} },
	partAttributes: func() proto.Message { return &statepb.Attributes{} },
	"activity":     func() proto.Message { return &statepb.Activity{} },
	"timer":        func() proto.Message { return &statepb.Timer{} },
	"child":        func() proto.Message { return &statepb.Child{} },
	"external":     func() proto.Message { return &statepb.External{} },
	"update":       func() proto.Message { return &statepb.Update{} },
	"request":      func() proto.Message { return &statepb.Request{} },
	"buffered":     func() proto.Message { return &statepb.Buffered{} },
	"close":        func() proto.Message { return &statepb.CloseEffect{} },
}

// decodePart decodes a part; nil without an error: the kind of part is not known.
func decodePart(key string, value []byte) (proto.Message, error) {
	kind, _, _ := strings.Cut(key, "/")
	newMessage, ok := partMessages[kind]
	if !ok {
		return nil, nil
	}
	m := newMessage()
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("part %s: %w", key, err)
	}
	return m, nil
}

// samePart compares two values of a part by what they mean: binaries may differ in the order of fields that they do not know.
func samePart(key string, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	ma, errA := decodePart(key, a)
	mb, errB := decodePart(key, b)
	return errA == nil && errB == nil && ma != nil && proto.Equal(ma, mb)
}

// fold is the parts of a run as its rows leave them, the last value of each.
type fold struct {
	latest map[string]foldedPart
	// gap is the last sequence number of which no row is stored: what it changed is not known.
	gap int64
	seq int64
}

type foldedPart struct {
	value   []byte
	deleted bool
	seq     int64
}

func newFold() *fold { return &fold{latest: map[string]foldedPart{}} }

func (f *fold) add(seq int64, parts []*statepb.Part) {
	if seq > f.seq+1 {
		f.gap = seq - 1
	}
	f.seq = seq
	for _, p := range parts {
		f.latest[p.GetKey()] = foldedPart{value: p.GetValue(), deleted: p.GetDeleted(), seq: seq}
	}
}

// compare says how a snapshot taken after the last row differs from the rows; "" if it does not. A snapshot deletes earlier rows
// without events, and with them what they changed: a part counts only if no row is missing after the one that last wrote it.
func (f *fold) compare(snapshot []*statepb.Part) string {
	in := make(map[string][]byte, len(snapshot))
	for _, p := range snapshot {
		if !p.GetDeleted() {
			in[p.GetKey()] = p.GetValue()
		}
	}
	for key, p := range f.latest {
		value, ok := in[key]
		switch {
		case p.seq <= f.gap:
		case p.deleted && ok:
			return fmt.Sprintf("part %s has been deleted by row %d, but is in the snapshot", key, p.seq)
		case !p.deleted && !ok:
			return fmt.Sprintf("part %s of row %d is not in the snapshot", key, p.seq)
		case !p.deleted && !samePart(key, p.value, value):
			return fmt.Sprintf("part %s is not what row %d has made of it", key, p.seq)
		}
	}
	for key, value := range in {
		_, ok := f.latest[key]
		if !ok && f.gap == 0 && !(key == partAttributes && len(value) == 0) { // which a snapshot always has
			return fmt.Sprintf("part %s is in no row", key)
		}
	}
	return ""
}
