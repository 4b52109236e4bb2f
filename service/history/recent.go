package history

import (
	eventpb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"
)

// recentEvents are the last events of a run's durable history, without gaps. The slice is only appended to or cut at its front:
// a reader may keep what it was given.
type recentEvents struct {
	events []*eventpb.HistoryEvent
	bytes  int
}

// append adds the events of a transition and drops the oldest beyond the limits.
func (h *recentEvents) append(events []*eventpb.HistoryEvent) {
	if len(events) == 0 {
		return
	}
	if n := len(h.events); n > 0 && h.events[n-1].EventId+1 != events[0].EventId {
		h.events, h.bytes = nil, 0 // never: but a gap must not be served
	}
	for _, e := range events {
		h.bytes += proto.Size(e)
	}
	h.events = append(h.events, events...)
	drop := 0
	for drop < len(h.events) && (len(h.events)-drop > recentEventsMax || h.bytes > recentBytesMax) {
		h.bytes -= proto.Size(h.events[drop])
		drop++
	}
	h.events = h.events[drop:]
}

// from returns the events from an id on, if all of them are here.
func (h *recentEvents) from(id int64) ([]*eventpb.HistoryEvent, bool) {
	if len(h.events) == 0 || id < h.events[0].EventId {
		return nil, false
	}
	skip := int(id - h.events[0].EventId)
	if skip > len(h.events) {
		return nil, false
	}
	return h.events[skip:len(h.events):len(h.events)], true
}
