package contract

import (
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
)

// Reading histories and attributes.
var reading = []point{
	{"8.34 waiting for new events", waitNewEvent},
	{"8.34 waiting for the close", waitForClose},
	{"8.34 a wait that nothing ends", waitExpires},
	{"8.34 a token stays with its run", tokenPinsRun},
	{"8.35 pages", historyPages},
	{"8.36 types of search attributes are filled in", attributeTypes},
	{"8.37 a null value deletes a key", nullDeletes},
}

func waitNewEvent(e *env) {
	run := e.idle()
	req := &historyRequest{Execution: execution(e.id, run), WaitNewEvent: true}
	page := do(e, e.api.GetWorkflowExecutionHistory, req)
	require.Equal(e, firstTask, shorts(page.History.Events), "what there is comes at once")
	require.NotEmpty(e, page.NextPageToken)
	req.NextPageToken = page.NextPageToken
	waiting := begin(e, callMax, e.api.GetWorkflowExecutionHistory, req)
	e.signal("news")
	page = waiting.result()
	require.NotEmpty(e, page.History.Events)
	require.Equal(e, "Signaled", short(page.History.Events[0]))
	require.NotEmpty(e, page.NextPageToken)
	req.NextPageToken = page.NextPageToken
	e.terminate()
	for len(req.NextPageToken) > 0 {
		page = do(e, e.api.GetWorkflowExecutionHistory, req)
		req.NextPageToken = page.NextPageToken
	}
	require.Equal(e, "Terminated", short(page.History.Events[len(page.History.Events)-1]))
}

func waitForClose(e *env) {
	run := e.idle()
	waiting := begin(e, callMax, e.api.GetWorkflowExecutionHistory, &historyRequest{
		Execution: execution(e.id, run), WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
	})
	e.signal("not the end")
	e.complete(e.poll(), completeWorkflow("done"))
	page := waiting.result()
	if len(page.History.GetEvents()) == 0 { // it was asked again, as clients do
		require.NotEmpty(e, page.NextPageToken)
	}
	require.NotNil(e, e.awaitClosed(run).GetWorkflowExecutionCompletedEventAttributes())
	closed := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{
		Execution: execution(e.id, run), HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
	})
	require.Equal(e, "Completed", shorts(closed.History.Events))
	require.Empty(e, closed.NextPageToken)
}

func waitExpires(e *env) {
	run := e.idle()
	req := &historyRequest{Execution: execution(e.id, run), WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT}
	begun := time.Now()
	page := do(e, e.api.GetWorkflowExecutionHistory, req)
	require.Greater(e, time.Since(begun), 15*time.Second)
	require.Less(e, time.Since(begun), 30*time.Second)
	require.Empty(e, page.History.GetEvents())
	require.NotEmpty(e, page.NextPageToken, "the client asks again")
}

func tokenPinsRun(e *env) {
	first := e.idle()
	page := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, ""), MaximumPageSize: 2})
	e.terminate()
	e.idle()
	rest := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, ""), NextPageToken: page.NextPageToken})
	require.Equal(e, "TaskStarted TaskCompleted Terminated", shorts(rest.History.Events))
	require.NotEqual(e, first, e.info("").Execution.RunId)
	refused[*serviceerror.InvalidArgument](e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, e.info("").Execution.RunId), NextPageToken: page.NextPageToken})
}

func historyPages(e *env) {
	run := e.idle()
	e.terminate()
	req := &historyRequest{Execution: execution(e.id, run), MaximumPageSize: 1}
	seen := int64(0)
	for {
		page := do(e, e.api.GetWorkflowExecutionHistory, req)
		require.NotEmpty(e, page.GetHistory().GetEvents(), "no page is empty")
		for _, event := range page.History.Events {
			seen++
			require.Equal(e, seen, event.EventId)
		}
		require.Empty(e, page.RawHistory, "clients of this server read events")
		if page.NextPageToken == nil {
			break
		}
		require.NotEmpty(e, page.NextPageToken)
		req.NextPageToken = page.NextPageToken
	}
	require.EqualValues(e, 5, seen)
}

func attributeTypes(e *env) {
	fields := map[string]*commonpb.Payload{"Color": payload("red"), "Size": payload(7)}
	run := e.start(func(r *startRequest) { r.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: fields} })
	e.complete(e.poll(), upsertAttributes(map[string]*commonpb.Payload{"Size": payload(8)}))
	for _, got := range []map[string]*commonpb.Payload{
		e.started(run).SearchAttributes.GetIndexedFields(),
		e.info(run).SearchAttributes.GetIndexedFields(),
		e.list("WorkflowId = '" + e.id + "'")[0].SearchAttributes.GetIndexedFields(),
		e.event(run, "UpsertWorkflowSearchAttributes").GetUpsertWorkflowSearchAttributesEventAttributes().GetSearchAttributes().GetIndexedFields(),
	} {
		require.Equal(e, "Int", string(got["Size"].GetMetadata()["type"]))
		if got["Color"] != nil {
			require.Equal(e, "Keyword", string(got["Color"].GetMetadata()["type"]))
		}
	}
	require.Len(e, e.list("Color = 'red' AND Size = 8 AND WorkflowId = '"+e.id+"'"), 1)
}

func nullDeletes(e *env) {
	run := e.start(func(r *startRequest) {
		r.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"Color": payload("red"), "Size": payload(7)}}
		r.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"keep": payload("k"), "drop": payload("d")}}
	})
	e.complete(e.poll(), upsertAttributes(map[string]*commonpb.Payload{"Color": null()}), upsertMemo(map[string]*commonpb.Payload{"drop": null(), "new": payload("n")}))
	info := e.info(run)
	require.NotContains(e, info.SearchAttributes.IndexedFields, "Color")
	require.Contains(e, info.SearchAttributes.IndexedFields, "Size")
	require.NotContains(e, info.Memo.Fields, "drop")
	require.Contains(e, info.Memo.Fields, "keep")
	require.Contains(e, info.Memo.Fields, "new")
	require.Empty(e, e.list("Color = 'red' AND WorkflowId = '"+e.id+"'"))
	e.signal("s")
	e.complete(e.poll(), upsertAttributes(map[string]*commonpb.Payload{"Size": payload([]int{})}))
	require.NotContains(e, e.info(run).SearchAttributes.GetIndexedFields(), "Size")
}
