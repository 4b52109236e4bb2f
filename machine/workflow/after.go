package workflow

import (
	"maps"
)

// After is the state as it will be once the transition is applied, for what must be written along with it: a snapshot, a
// visibility row, the next deadline. The transition must be finished. The result shares parts with the present state: it is
// for reading only.
func (t *Tx) After() *State {
	return &State{
		Start: t.start, Core: t.core, Attributes: t.attributes,
		Activities:   t.activities.after(),
		Timers:       t.timers.after(),
		Children:     t.children.after(),
		Externals:    t.externals.after(),
		Updates:      t.updates.after(),
		Requests:     t.requests.after(),
		Buffered:     t.buffered.after(),
		CloseEffects: t.closeEffects.after(),
		Unknown:      t.state.Unknown,
		Volatile:     t.volatile,
	}
}

// after is the rows as [overlay.merge] will leave them.
func (o *overlay[K, V]) after() map[K]V {
	if len(o.changed) == 0 {
		return o.rows
	}
	merged := maps.Clone(o.rows)
	for k, v := range o.changed {
		if v.ProtoReflect().IsValid() {
			merged[k] = v
		} else {
			delete(merged, k)
		}
	}
	return merged
}
