package history

import (
	"context"
	"fmt"

	eventpb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

// durable is a run's history as far as it is durable, as seen under the lock. It can be read without the lock: what is durable
// never changes.
type durable struct {
	s      *Service
	runID  string
	bucket int32
	// last is the id of the last event.
	last   int64
	recent recentEvents
}

func (s *Service) durableOf(r *run) durable {
	return durable{s: s, runID: r.id, bucket: r.bucket, last: r.state.Core.NextEventId - 1, recent: r.recent}
}

// read returns the events from … to (both inclusive), as many as fit a page: at most limit, and at least one if there is one.
func (d durable) read(ctx context.Context, from, to int64, limit int) ([]*eventpb.HistoryEvent, error) {
	if to = min(to, d.last); from > to || limit <= 0 {
		return nil, nil
	}
	if events, ok := d.recent.from(from); ok {
		return fit(events[:min(int64(len(events)), to-from+1)], limit), nil
	}
	to = min(to, from+int64(limit)-1)
	var events []*eventpb.HistoryEvent
	for size := 0; from <= to && size < historyPageBytes; {
		rows, err := d.s.store.ReadHistory(ctx, persistence.HistoryRange{
			Bucket: d.bucket, RunID: d.runID, From: from, To: to, RowsMax: limit, BytesMax: historyPageBytes,
		})
		if err != nil {
			return nil, readError("read the history", err)
		}
		batch, err := decodeEvents(rows, from, to)
		if err != nil {
			return nil, fmt.Errorf("read the history of run %s: %w", d.runID, err)
		}
		if len(batch) == 0 || batch[0].EventId != from {
			return nil, serviceerror.NewDataLossf("The history of run %s has no event %d.", d.runID, from)
		}
		for _, e := range batch {
			size += proto.Size(e)
		}
		events = append(events, batch...)
		from = batch[len(batch)-1].EventId + 1
	}
	return fit(events, limit), nil
}

// readBack returns the events from … to in descending order, as many as fit a page.
func (d durable) readBack(ctx context.Context, from, to int64, limit int) ([]*eventpb.HistoryEvent, error) {
	low := max(from, to-int64(limit)+1)
	var events []*eventpb.HistoryEvent
	for next := low; next <= to; {
		batch, err := d.read(ctx, next, to, int(to-next+1))
		if err != nil {
			return nil, err
		}
		events = append(events, batch...)
		next = batch[len(batch)-1].EventId + 1
	}
	for i, j := 0, len(events)-1; i < j; i, j = i+1, j-1 {
		events[i], events[j] = events[j], events[i]
	}
	return fit(events, limit), nil
}

// event returns one event.
func (d durable) event(ctx context.Context, id int64) (*eventpb.HistoryEvent, error) {
	events, err := d.read(ctx, id, id, 1)
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, serviceerror.NewDataLossf("The history of run %s has no event %d.", d.runID, id)
	}
	return events[0], nil
}

// event returns one durable event of a run.
func (x *access) event(r *run, id int64) (*eventpb.HistoryEvent, error) {
	return x.durableOf(r).event(x.ctx, id)
}

// fit cuts events to what one answer may hold: at least one.
func fit(events []*eventpb.HistoryEvent, limit int) []*eventpb.HistoryEvent {
	size := 0
	for i, e := range events {
		if size += proto.Size(e); i > 0 && (i == limit || size > historyPageBytes) {
			return events[:i:i]
		}
	}
	return events
}

func decodeEvents(rows []persistence.Transition, from, to int64) ([]*eventpb.HistoryEvent, error) {
	var events []*eventpb.HistoryEvent
	for _, row := range rows {
		batch := &statepb.Events{}
		if err := proto.Unmarshal(row.Events, batch); err != nil {
			return nil, fmt.Errorf("decode row %d: %w", row.Seq, err)
		}
		for _, e := range batch.Events {
			if e.EventId >= from && e.EventId <= to {
				events = append(events, e)
			}
		}
	}
	return events, nil
}
