package history

import (
	"context"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	eventpb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

const (
	// resetPage is how many rows of the base are read at a time, resetChunkBytes how many bytes of them are written at a time.
	resetPage       = 256
	resetChunkBytes = 512 << 10
	// resetChainMax bounds the runs after the base whose signals and updates are applied again.
	resetChainMax = 1000
)

// ResetWorkflowExecution implements HistoryService.
func (s *Service) ResetWorkflowExecution(ctx context.Context, in *historypb.ResetWorkflowExecutionRequest) (*workflowservice.ResetWorkflowExecutionResponse, error) {
	req := in.GetRequest()
	out := &workflowservice.ResetWorkflowExecutionResponse{}
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), req.GetWorkflowExecution().GetWorkflowId()), func(x *access) (err error) {
		out.RunId, err = x.reset(req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// reset makes a run that has the base's history up to a point, and returns its id. The rows of the base up to that point are
// copied first: before the new run's own row they mean nothing.
func (x *access) reset(req *workflowservice.ResetWorkflowExecutionRequest) (string, error) {
	base, err := x.find(req.GetWorkflowExecution().GetRunId())
	if err != nil {
		return "", err
	}
	current, err := x.find("")
	if err != nil {
		return "", err
	}
	if req.GetWorkflowExecution().GetRunId() != "" && current.state.Start.RequestId == req.GetRequestId() {
		return current.id, nil // the same request again
	}
	if base.state.StartedInMemory(req.GetWorkflowTaskFinishEventId()) {
		// Readers see this event: the history must have it before it can be the point.
		if _, err := x.transition(base, func(tx *workflow.Tx) error { tx.FlushVolatile(); return nil }); err != nil {
			return "", err
		}
	}
	if err := base.state.CheckResetPoint(req.GetWorkflowTaskFinishEventId()); err != nil {
		return "", err
	}
	prefix, between, err := x.readPrefix(base, req.GetWorkflowTaskFinishEventId())
	if err != nil {
		return "", err
	}
	folded, err := foldPrefix(base.id, prefix)
	if err != nil {
		return "", fmt.Errorf("fold run %s up to event %d: %w", base.id, req.GetWorkflowTaskFinishEventId(), err)
	}
	id, err := x.newRunID()
	if err != nil {
		return "", err
	}
	changes, flushed, err := x.endForReset(id, base, current, folded, req.GetReason())
	if err != nil {
		return "", err
	}
	later, err := x.readLater(base, req.GetWorkflowTaskFinishEventId(), current.id, flushed)
	if err != nil {
		return "", err
	}
	tx, err := workflow.Reset(workflow.Resetting{
		NewRunID: id, RequestID: req.GetRequestId(), Reason: req.GetReason(), Between: between, Later: later,
		Exclude: workflow.ResetExclusions(req.GetResetReapplyType(), req.GetResetReapplyExcludeTypes()), // clients still send it
	}, folded, x.now, x.env(""))
	if err != nil {
		return "", err
	}
	for _, operation := range req.GetPostResetOperations() {
		if o := operation.GetUpdateWorkflowOptions(); o != nil {
			if _, err := tx.UpdateOptions(o.GetWorkflowExecutionOptions(), o.GetUpdateMask().GetPaths(), req.GetIdentity()); err != nil {
				return "", err
			}
		}
	}
	opened := &change{run: x.newRun(id), tx: tx}
	if err := x.copyPrefix(opened.run, prefix); err != nil {
		return "", err
	}
	return id, x.commit(append(changes, opened)...)
}

// endForReset ends the run that is open, and notes on the base which run comes of it. It returns the events with which the open
// run ends: what waited there for the end of a workflow task is among them.
func (x *access) endForReset(newRunID string, base, current *run, folded *workflow.State, reason string) (changes []*change, flushed []*eventpb.HistoryEvent, err error) {
	if current.state.Open() {
		c, err := x.begin(current, false)
		if err != nil {
			return nil, nil, err
		}
		if err := c.tx.CloseForReset(newRunID, folded, reason); err != nil {
			return nil, nil, err
		}
		if err := c.finish(); err != nil {
			return nil, nil, err
		}
		changes, flushed = append(changes, c), c.res.Events
	}
	if base != current || !current.state.Open() {
		c, err := x.begin(base, false)
		if err != nil {
			return nil, nil, err
		}
		c.tx.NoteReset(newRunID)
		changes = append(changes, c)
	}
	return changes, flushed, nil
}

// readPrefix reads the rows before the one that holds the reset point, and the events ahead of the point in that one.
func (x *access) readPrefix(base *run, finish int64) (prefix []persistence.Transition, between []*eventpb.HistoryEvent, err error) {
	for next := int64(1); ; {
		rows, err := x.Service.store.ReadTransitions(x.ctx, base.bucket, base.id, next, resetPage)
		if err != nil {
			return nil, nil, readError("read the run's rows", err)
		}
		for _, row := range rows {
			events := &statepb.Events{}
			if err := proto.Unmarshal(row.Events, events); err != nil {
				return nil, nil, fmt.Errorf("decode row %d of run %s: %w", row.Seq, base.id, err)
			}
			if n := len(events.Events); n > 0 && events.Events[n-1].EventId >= finish {
				if len(prefix) == 0 {
					return nil, nil, workflow.ErrResetPoint(finish)
				}
				return prefix, events.Events[:finish-events.Events[0].EventId], nil
			}
			prefix = append(prefix, row)
			next = row.Seq + 1
		}
		if len(rows) == 0 {
			return nil, nil, serviceerror.NewDataLossf("The history of run %s has no event %d.", base.id, finish)
		}
	}
}

// foldPrefix is the state after rows. Snapshots delete rows without events, and with them the news that something which is
// pending in an older row has ended while a workflow task was running; but the events that tell of it are in later rows.
func foldPrefix(runID string, prefix []persistence.Transition) (*workflow.State, error) {
	parts := make([][]byte, len(prefix))
	for i, row := range prefix {
		parts[i] = row.Parts
	}
	state, err := workflow.Load(nil, parts)
	if err != nil {
		return nil, err
	}
	if copied := state.Start.RunId; copied != runID { // the run comes of a reset itself: its first rows are another run's
		state.Start.RunId = runID
		for _, p := range state.Core.ResetPoints.GetPoints() {
			if p.RunId == copied {
				p.RunId = runID
			}
		}
	}
	for _, row := range prefix {
		events := &statepb.Events{}
		if err := proto.Unmarshal(row.Events, events); err != nil {
			return nil, fmt.Errorf("decode row %d: %w", row.Seq, err)
		}
		for _, e := range events.Events {
			dropEnded(state, e)
		}
	}
	return state, nil
}

// dropEnded drops from a folded state what an event says has ended.
func dropEnded(s *workflow.State, e *eventpb.HistoryEvent) {
	timer := func(id string, started int64) {
		if t := s.Timers[id]; t != nil && t.StartedEventId == started {
			delete(s.Timers, id)
		}
	}
	switch a := e.Attributes.(type) {
	case *eventpb.HistoryEvent_TimerFiredEventAttributes:
		timer(a.TimerFiredEventAttributes.TimerId, a.TimerFiredEventAttributes.StartedEventId)
	case *eventpb.HistoryEvent_TimerCanceledEventAttributes:
		timer(a.TimerCanceledEventAttributes.TimerId, a.TimerCanceledEventAttributes.StartedEventId)
	case *eventpb.HistoryEvent_ActivityTaskCompletedEventAttributes:
		delete(s.Activities, a.ActivityTaskCompletedEventAttributes.ScheduledEventId)
	case *eventpb.HistoryEvent_ActivityTaskFailedEventAttributes:
		delete(s.Activities, a.ActivityTaskFailedEventAttributes.ScheduledEventId)
	case *eventpb.HistoryEvent_ActivityTaskTimedOutEventAttributes:
		delete(s.Activities, a.ActivityTaskTimedOutEventAttributes.ScheduledEventId)
	case *eventpb.HistoryEvent_ActivityTaskCanceledEventAttributes:
		delete(s.Activities, a.ActivityTaskCanceledEventAttributes.ScheduledEventId)
	case *eventpb.HistoryEvent_StartChildWorkflowExecutionFailedEventAttributes:
		delete(s.Children, a.StartChildWorkflowExecutionFailedEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_ChildWorkflowExecutionCompletedEventAttributes:
		delete(s.Children, a.ChildWorkflowExecutionCompletedEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_ChildWorkflowExecutionFailedEventAttributes:
		delete(s.Children, a.ChildWorkflowExecutionFailedEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_ChildWorkflowExecutionCanceledEventAttributes:
		delete(s.Children, a.ChildWorkflowExecutionCanceledEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_ChildWorkflowExecutionTimedOutEventAttributes:
		delete(s.Children, a.ChildWorkflowExecutionTimedOutEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_ChildWorkflowExecutionTerminatedEventAttributes:
		delete(s.Children, a.ChildWorkflowExecutionTerminatedEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_ExternalWorkflowExecutionSignaledEventAttributes:
		delete(s.Externals, a.ExternalWorkflowExecutionSignaledEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_SignalExternalWorkflowExecutionFailedEventAttributes:
		delete(s.Externals, a.SignalExternalWorkflowExecutionFailedEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_ExternalWorkflowExecutionCancelRequestedEventAttributes:
		delete(s.Externals, a.ExternalWorkflowExecutionCancelRequestedEventAttributes.InitiatedEventId)
	case *eventpb.HistoryEvent_RequestCancelExternalWorkflowExecutionFailedEventAttributes:
		delete(s.Externals, a.RequestCancelExternalWorkflowExecutionFailedEventAttributes.InitiatedEventId)
	}
}

// readLater reads what may be applied again: from the reset point on, also of the runs that followed the base. If the open run
// is the last of them, what it ends with belongs to that. The children that the base initiated are told, too.
func (x *access) readLater(base *run, from int64, open string, flushed []*eventpb.HistoryEvent) (later []*eventpb.HistoryEvent, err error) {
	r := base
	add := func(events []*eventpb.HistoryEvent) {
		for _, e := range events {
			if mayReapply(e) || (r == base && e.EventType == enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED) {
				later = append(later, e)
			}
		}
	}
	for n := 0; r != nil && n < resetChainMax; n++ {
		d := x.durableOf(r)
		for from <= d.last {
			events, err := d.read(x.ctx, from, d.last, historyPageMax)
			if err != nil {
				return nil, err
			}
			add(events)
			from = events[len(events)-1].EventId + 1
		}
		if r.id == open {
			add(flushed)
		}
		if r.state.Core.NewRunId == "" {
			break
		}
		from = 1
		if r, err = x.load(r.state.Core.NewRunId); err != nil { // nil: deleted
			return nil, err
		}
	}
	return later, nil
}

// mayReapply tells the events that come from outside.
func mayReapply(e *eventpb.HistoryEvent) bool {
	switch e.Attributes.(type) {
	case *eventpb.HistoryEvent_WorkflowExecutionSignaledEventAttributes,
		*eventpb.HistoryEvent_WorkflowExecutionCancelRequestedEventAttributes,
		*eventpb.HistoryEvent_WorkflowExecutionUpdateAdmittedEventAttributes,
		*eventpb.HistoryEvent_WorkflowExecutionUpdateAcceptedEventAttributes:
		return true
	}
	return false
}

// copyPrefix writes the base's rows as the new run's, in chunks.
func (x *access) copyPrefix(r *run, prefix []persistence.Transition) error {
	var chunk []persistence.RunWrite
	size := 0
	flush := func() error {
		m := &persistence.Mutation{Key: x.chain.key, Epoch: x.chain.epoch, Runs: chunk}
		chunk, size = nil, 0
		return x.write(m)
	}
	for i := range prefix {
		row := &prefix[i]
		chunk = append(chunk, persistence.RunWrite{RunID: r.id, Bucket: r.bucket, Transition: row})
		size += len(row.Events) + len(row.Parts)
		r.seq, r.dense = row.Seq, false
		r.rows++
		r.partsBytes += len(row.Parts)
		if size >= resetChunkBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(chunk) == 0 {
		return nil
	}
	return flush()
}
