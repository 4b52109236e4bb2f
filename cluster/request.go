package cluster

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// path leads to a string in a message, through messages and the first elements of lists.
type path []protoreflect.FieldDescriptor

// findPath resolves the names of fields in a kind of message; false if it has no such string.
func findPath(in protoreflect.MessageDescriptor, names string) (path, bool) {
	var p path
	for name := range strings.SplitSeq(names, ".") {
		if in == nil {
			return nil, false
		}
		field := in.Fields().ByName(protoreflect.Name(name))
		if field == nil {
			return nil, false
		}
		p = append(p, field)
		in = field.Message()
	}
	return p, p[len(p)-1].Kind() == protoreflect.StringKind
}

// get reads the string; "" where anything on the way is not set.
func (p path) get(in proto.Message) string {
	m := in.ProtoReflect()
	for _, field := range p[:len(p)-1] {
		v := m.Get(field)
		if !field.IsList() {
			m = v.Message()
			continue
		}
		if v.List().Len() == 0 {
			return ""
		}
		m = v.List().Get(0).Message()
	}
	return m.Get(p[len(p)-1]).String()
}

// rule says whether a call may be made again when it may have been applied.
type rule struct {
	// read: it changes nothing.
	read bool
	// never: applying it twice may do harm.
	never bool
	// key, if set, is what makes it harmless: a string in the request that must not be empty.
	key string
}

var (
	reads = rule{read: true}
	// repeats: to apply it again is harmless, for the reason beside it.
	repeats = rule{}
	never   = rule{never: true}
)

// once: it is applied once for this string of the request.
func once(key string) rule { return rule{key: key} }

// method is what routing knows of one method.
type method struct {
	rule
	key path // nil: none needed
	// workflow is where the request has the workflow id, or nil.
	workflow path
}

// repeatable tells whether this call may be made again when it may have been applied.
func (m method) repeatable(in proto.Message) bool {
	return !m.never && (m.key == nil || m.key.get(in) != "")
}

// methods resolves the rules of a service. They belong to the program, as the service does: a mistake in them is found as soon as
// a client is made.
func methods(service protoreflect.ServiceDescriptor, rules map[string]rule) map[string]method {
	found := map[string]method{}
	for i := range service.Methods().Len() {
		descriptor := service.Methods().Get(i)
		r, ok := rules[string(descriptor.Name())]
		m := method{rule: r}
		if ok && r.key != "" {
			m.key, ok = findPath(descriptor.Input(), r.key)
		}
		if !ok {
			panic(fmt.Sprintf("cluster: no rule, or a wrong one, for %s", descriptor.FullName()))
		}
		found[string(descriptor.Name())] = m
	}
	return found
}
