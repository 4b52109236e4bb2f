package history

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	eventpb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	historypb "github.com/perdure/perdure/api/history/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

// A reader sees the durable history, and at its end the events of the open workflow task that are not durable yet. Those may
// come to nothing, so no page token points behind them, and a reader that follows a run event by event does not get them: it
// would get the durable ones again. For such a reader the start of a normal task is made durable at once. (A reader that waits
// for the close only, as clients do that wait for a result, costs nothing.)

// view is a run as a reader found it, under the lock.
type view struct {
	durable durable
	open    bool
	// suffix are the events that are not durable; transient tells that those are of a task that leaves them out of the history.
	suffix    []*eventpb.HistoryEvent
	transient bool
}

func (x *access) view(r *run) *view {
	v := &view{durable: x.durableOf(r), open: r.state.Open()}
	v.suffix, v.transient = r.state.ProvisionalEvents(false)
	return v
}

// GetWorkflowExecutionHistory implements HistoryService.
func (s *Service) GetWorkflowExecutionHistory(ctx context.Context, in *historypb.GetWorkflowExecutionHistoryRequest) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	req := in.GetRequest()
	token, err := pageToken(req.GetNextPageToken(), req.GetExecution().GetRunId())
	if err != nil {
		return nil, err
	}
	key := workflowKey(in.GetNamespaceId(), req.GetExecution().GetWorkflowId())
	if token != nil && token.GetTaskStartedEventId() != 0 {
		return s.readForWorker(ctx, key, token, pageSize(req.GetMaximumPageSize()))
	}
	closeOnly := req.GetHistoryEventFilterType() == enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
	first := token == nil
	if first {
		token = &tokenpb.HistoryPage{RunId: req.GetExecution().GetRunId(), NextEventId: 1, Wait: req.GetWaitNewEvent()}
	}
	// The first answer to one who waits is what there is, at once; but a close event is waited for.
	news := func(v *view) bool {
		if closeOnly {
			return !v.open
		}
		return !v.open || v.durable.last >= token.NextEventId
	}
	v, err := s.look(ctx, key, token.GetRunId(), looking{
		wait: token.GetWait() && (!first || closeOnly), follow: token.GetWait() && !closeOnly, news: news,
	})
	if err != nil {
		return nil, err
	}
	token.RunId = v.durable.runID
	if closeOnly {
		return s.readClose(ctx, v, token)
	}
	return s.readPage(ctx, v, token, pageSize(req.GetMaximumPageSize()), in.GetHideProvisional())
}

// looking is how a reader looks at a run: whether it waits until there is news, and whether it follows every event.
type looking struct {
	wait, follow bool
	news         func(*view) bool
}

// look finds a run, and with wait set waits until it has news, for as long as a long poll goes on.
func (s *Service) look(ctx context.Context, key persistence.ExecutionKey, runID string, how looking) (*view, error) {
	timeout := time.NewTimer(waitTime(ctx, longPollWait))
	defer timeout.Stop()
	for {
		var (
			v       *view
			found   *run
			changed <-chan struct{}
		)
		err := s.with(ctx, key, func(x *access) error {
			r, err := x.find(runID)
			if err != nil {
				return err
			}
			if how.follow && r.startedInMemory() {
				if _, err := x.transition(r, func(tx *workflow.Tx) error { tx.FlushVolatile(); return nil }); err != nil {
					return err
				}
			}
			v = x.view(r)
			if how.wait && !how.news(v) {
				found, changed = r, r.wait()
				if how.follow {
					r.followers++
				}
			}
			return nil
		})
		if err != nil || changed == nil {
			return v, err
		}
		runID = v.durable.runID
		expired := false
		select {
		case <-changed:
		case <-timeout.C:
			expired = true
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.ctx.Done():
			err = errStopped
		}
		s.onRun(found, func() {
			found.done()
			if how.follow {
				found.followers--
			}
		})
		if err != nil || expired {
			return v, err
		}
	}
}

// readClose answers a reader who wants the last event only.
func (s *Service) readClose(ctx context.Context, v *view, token *tokenpb.HistoryPage) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	out := &workflowservice.GetWorkflowExecutionHistoryResponse{History: &eventpb.History{}}
	if v.open {
		if !token.GetWait() {
			return out, nil
		}
		var err error
		out.NextPageToken, err = proto.Marshal(token)
		return out, err
	}
	last, err := v.durable.event(ctx, v.durable.last)
	if err != nil {
		return nil, err
	}
	out.History.Events = []*eventpb.HistoryEvent{last}
	return out, nil
}

// readPage answers with the events from the token on.
func (s *Service) readPage(ctx context.Context, v *view, token *tokenpb.HistoryPage, limit int, hide bool) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	events, err := v.durable.read(ctx, token.GetNextEventId(), v.durable.last, limit)
	if err != nil {
		return nil, err
	}
	token.NextEventId += int64(len(events))
	out := &workflowservice.GetWorkflowExecutionHistoryResponse{}
	switch more := token.GetNextEventId() <= v.durable.last; {
	case more, token.GetWait() && v.open:
		if out.NextPageToken, err = proto.Marshal(token); err != nil {
			return nil, err
		}
	case !token.GetWait() && (!v.transient || !hide):
		events = append(events[:len(events):len(events)], v.suffix...)
	}
	out.History = &eventpb.History{Events: events}
	return out, nil
}

// readForWorker continues a worker's read of its task's history. Of a task that is over the rest is what became durable.
func (s *Service) readForWorker(ctx context.Context, key persistence.ExecutionKey, token *tokenpb.HistoryPage, limit int) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	var d durable
	var suffix []*eventpb.HistoryEvent
	err := s.with(ctx, key, func(x *access) error {
		r, err := x.find(token.GetRunId())
		if err != nil {
			return err
		}
		d = x.durableOf(r)
		if task := r.state.Task(); task != nil && task.StartedEventId == token.GetTaskStartedEventId() {
			suffix, _ = r.state.ProvisionalEvents(true)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	history, next, err := workerPage(ctx, d, token.GetNextEventId(), limit, token, suffix)
	if err != nil {
		return nil, err
	}
	return &workflowservice.GetWorkflowExecutionHistoryResponse{History: history, NextPageToken: next}, nil
}

// GetWorkflowExecutionHistoryReverse implements HistoryService: the durable events, the newest first.
func (s *Service) GetWorkflowExecutionHistoryReverse(ctx context.Context, in *historypb.GetWorkflowExecutionHistoryReverseRequest) (*workflowservice.GetWorkflowExecutionHistoryReverseResponse, error) {
	req := in.GetRequest()
	token, err := pageToken(req.GetNextPageToken(), req.GetExecution().GetRunId())
	if err != nil {
		return nil, err
	}
	runID := req.GetExecution().GetRunId()
	if token != nil {
		runID = token.GetRunId()
	}
	key := workflowKey(in.GetNamespaceId(), req.GetExecution().GetWorkflowId())
	v, err := s.look(ctx, key, runID, looking{})
	if err != nil {
		return nil, err
	}
	if token == nil {
		token = &tokenpb.HistoryPage{RunId: v.durable.runID, NextEventId: v.durable.last}
	}
	events, err := v.durable.readBack(ctx, 1, min(token.GetNextEventId(), v.durable.last), pageSize(req.GetMaximumPageSize()))
	if err != nil {
		return nil, err
	}
	out := &workflowservice.GetWorkflowExecutionHistoryReverseResponse{History: &eventpb.History{Events: events}}
	if n := len(events); n > 0 && events[n-1].GetEventId() > 1 {
		token.NextEventId = events[n-1].GetEventId() - 1
		out.NextPageToken, err = proto.Marshal(token)
	}
	return out, err
}

// pageToken decodes the token of a request, nil if it has none. It pins the run: a request may name no other one.
func pageToken(data []byte, runID string) (*tokenpb.HistoryPage, error) {
	if len(data) == 0 {
		return nil, nil
	}
	token := &tokenpb.HistoryPage{}
	if err := proto.Unmarshal(data, token); err != nil || token.GetRunId() == "" || token.GetNextEventId() < 1 {
		return nil, serviceerror.NewInvalidArgument("Invalid NextPageToken.")
	}
	if runID != "" && runID != token.GetRunId() {
		return nil, serviceerror.NewInvalidArgument("RunId in the request does not match the NextPageToken.")
	}
	return token, nil
}

// pageSize is how many events an answer holds: what was asked for, within the limit.
func pageSize(asked int32) int {
	if asked <= 0 || asked > historyPageMax {
		return historyPageMax
	}
	return int(asked)
}
