package workflow

import (
	"iter"

	"google.golang.org/protobuf/proto"
)

// overlay is a transition's view of a map of parts: reads fall through to the durable rows, writes stay here until the
// transition has been committed. Durable rows are never changed, so a transition that fails is simply dropped.
type overlay[K comparable, V proto.Message] struct {
	rows    map[K]V
	changed map[K]V // a nil message: deleted
	gone    V       // the nil message
}

func over[K comparable, V proto.Message](rows map[K]V) overlay[K, V] {
	return overlay[K, V]{rows: rows}
}

func (o *overlay[K, V]) get(key K) (V, bool) {
	if v, ok := o.changed[key]; ok {
		return v, v.ProtoReflect().IsValid()
	}
	v, ok := o.rows[key]
	return v, ok
}

func (o *overlay[K, V]) has(key K) bool {
	_, ok := o.get(key)
	return ok
}

// edit returns the part for changing. It must exist.
func (o *overlay[K, V]) edit(key K) V {
	if v, ok := o.changed[key]; ok {
		return v
	}
	v := proto.CloneOf(o.rows[key])
	o.put(key, v)
	return v
}

func (o *overlay[K, V]) put(key K, v V) {
	if o.changed == nil {
		o.changed = map[K]V{}
	}
	o.changed[key] = v
}

func (o *overlay[K, V]) delete(key K) {
	if _, durable := o.rows[key]; durable {
		o.put(key, o.gone)
		return
	}
	delete(o.changed, key)
}

// all yields the parts in no order.
func (o *overlay[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, v := range o.changed {
			if v.ProtoReflect().IsValid() && !yield(k, v) {
				return
			}
		}
		for k, v := range o.rows {
			if _, over := o.changed[k]; !over && !yield(k, v) {
				return
			}
		}
	}
}

func (o *overlay[K, V]) len() int {
	n := len(o.rows)
	for k, v := range o.changed {
		_, durable := o.rows[k]
		switch alive := v.ProtoReflect().IsValid(); {
		case alive && !durable:
			n++
		case !alive && durable:
			n--
		}
	}
	return n
}

// merge makes the changes durable rows: the transition has been committed. It returns by how many bytes they have grown.
func (o *overlay[K, V]) merge() (grown int) {
	for k, v := range o.changed {
		grown += proto.Size(v) - proto.Size(o.rows[k])
		if v.ProtoReflect().IsValid() {
			o.rows[k] = v
		} else {
			delete(o.rows, k)
		}
	}
	o.changed = nil
	return grown
}
