package workflow

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// hiddenFields say nothing in a script: sizes and counters that change with every field that is added.
var hiddenFields = map[protoreflect.Name]bool{
	"history_size_bytes": true, "state_transition_count": true, "buffered_bytes": true,
}

// renderMessage prints a message's populated fields in a stable form.
func renderMessage(m proto.Message) string { return renderFields(m.ProtoReflect()) }

func renderFields(m protoreflect.Message) string {
	switch special := m.Interface().(type) {
	case *timestamppb.Timestamp:
		if special.AsTime().IsZero() {
			return "zero"
		}
		return since(special.AsTime())
	case *durationpb.Duration:
		return special.AsDuration().String()
	case *commonpb.Payloads:
		return renderPayloads(special.Payloads)
	case *commonpb.Payload:
		return renderPayload(special)
	}
	var fields []string
	list := m.Descriptor().Fields()
	for i := range list.Len() {
		f := list.Get(i)
		if !m.Has(f) || hiddenFields[f.Name()] {
			continue
		}
		fields = append(fields, f.JSONName()+"="+renderValue(f, m.Get(f)))
	}
	return "{" + strings.Join(fields, " ") + "}"
}

func renderValue(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case f.IsMap():
		var items []string
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			items = append(items, k.String()+":"+renderSingle(f.MapValue(), v))
			return true
		})
		slices.Sort(items)
		return "{" + strings.Join(items, " ") + "}"
	case f.IsList():
		var items []string
		for i := range v.List().Len() {
			items = append(items, renderSingle(f, v.List().Get(i)))
		}
		return "[" + strings.Join(items, " ") + "]"
	}
	return renderSingle(f, v)
}

func renderSingle(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return renderFields(v.Message())
	case protoreflect.EnumKind:
		return strings.ToLower(string(f.Enum().Values().ByNumber(v.Enum()).Name()[len(enumPrefix(f.Enum())):]))
	case protoreflect.StringKind:
		return shorten(v.String())
	}
	return v.String()
}

// enumPrefix is what the names of an enum's values have in common.
func enumPrefix(e protoreflect.EnumDescriptor) string {
	values := e.Values()
	prefix := string(values.Get(0).Name())
	prefix = prefix[:strings.LastIndex(prefix, "_")+1]
	for i := range values.Len() {
		for !strings.HasPrefix(string(values.Get(i).Name()), prefix) {
			prefix = prefix[:strings.LastIndex(strings.TrimSuffix(prefix, "_"), "_")+1]
		}
	}
	return prefix
}

func shorten(text string) string {
	if len(text) > 100 {
		return fmt.Sprintf("%s…(%d)", text[:10], len(text))
	}
	if strings.ContainsAny(text, " =") {
		return fmt.Sprintf("%q", text)
	}
	return text
}

func renderPayloads(list []*commonpb.Payload) string {
	var items []string
	for _, p := range list {
		items = append(items, renderPayload(p))
	}
	return strings.Join(items, ",")
}

func renderPayload(p *commonpb.Payload) string {
	return shorten(string(p.GetData()))
}

func (s *script) renderEvent(e *historypb.HistoryEvent) string {
	line := fmt.Sprintf("%3d %s", e.EventId, e.EventType)
	body := e.ProtoReflect().Get(e.ProtoReflect().WhichOneof(e.ProtoReflect().Descriptor().Oneofs().ByName("attributes"))).Message()
	if text := renderFields(body); text != "{}" {
		line += " " + text
	}
	if at := e.EventTime.AsTime(); !at.Equal(s.now) {
		line += " at=" + since(at)
	}
	return line
}

func (s *script) renderEffect(e Effect) string {
	switch e := e.(type) {
	case DispatchWorkflowTask:
		line := fmt.Sprintf("%d DispatchWorkflowTask scheduled=%d attempt=%d queue=%s", e.ID, e.ScheduledEventID, e.Attempt, e.Queue)
		if e.Sticky {
			line += " sticky normal=" + e.NormalQueue
		}
		return line
	case DispatchActivity:
		line := fmt.Sprintf("%d DispatchActivity scheduled=%d attempt=%d stamp=%d queue=%s", e.ID, e.ScheduledEventID, e.Attempt, e.Stamp, e.Queue)
		if !e.Expiry.IsZero() {
			line += " expiry=" + since(e.Expiry)
		}
		if e.Priority != nil {
			line += " priority=" + renderMessage(e.Priority)
		}
		return line
	case StartChild:
		return fmt.Sprintf("%d StartChild initiated=%d %s", e.ID, e.Child.InitiatedEventId, e.Child.WorkflowId)
	case ReleaseChild:
		return fmt.Sprintf("%d ReleaseChild initiated=%d %s", e.ID, e.Child.InitiatedEventId, e.Child.WorkflowId)
	case SendExternal:
		return fmt.Sprintf("%d SendExternal %s", e.ID, renderMessage(e.External))
	case NotifyParent:
		return fmt.Sprintf("%d NotifyParent", e.ID)
	case CloseChild:
		return fmt.Sprintf("%d CloseChild %s %s", e.ID, e.Child.WorkflowId, e.Child.ParentClosePolicy)
	}
	return fmt.Sprintf("%d %T", e.EffectID(), e)
}

// partKeys lists the keys of parts; tombstones begin with a minus.
func partKeys(t testing.TB, row []byte) []string {
	parts := &statepb.Parts{}
	require.NoError(t, proto.Unmarshal(row, parts))
	var keys []string
	for _, p := range parts.Parts {
		if p.Deleted {
			keys = append(keys, "-"+p.Key)
		} else {
			keys = append(keys, p.Key)
		}
	}
	return keys
}

// renderPart prints a durable part.
func (s *script) renderPart(key string) string {
	snapshot, err := s.state.Snapshot()
	require.NoError(s.t, err)
	parts := &statepb.Parts{}
	require.NoError(s.t, proto.Unmarshal(snapshot, parts))
	found := map[string][]byte{}
	for _, p := range parts.Parts {
		found[p.Key] = p.Value
	}
	value, ok := found[key]
	if !ok {
		return fmt.Sprintf("no part %s among %v", key, slices.Sorted(maps.Keys(found)))
	}
	kind, _, _ := strings.Cut(key, "/")
	m, ok := partMessages[kind]
	require.True(s.t, ok, "no message for parts of kind %s", kind)
	m = proto.Clone(m)
	require.NoError(s.t, proto.Unmarshal(value, m))
	return renderMessage(m)
}

var partMessages = map[string]proto.Message{
	"start": &statepb.Start{}, "core": &statepb.Core{}, "attributes": &statepb.Attributes{}, "activity": &statepb.Activity{},
	"timer": &statepb.Timer{}, "child": &statepb.Child{}, "external": &statepb.External{}, "update": &statepb.Update{},
	"request": &statepb.Request{}, "buffered": &statepb.Buffered{}, "close": &statepb.CloseEffect{},
}

func describeError(err error) string {
	var service serviceerror.ServiceError
	if errors.As(err, &service) {
		return fmt.Sprintf("%s: %s", service.Status().Code(), err)
	}
	return err.Error()
}
