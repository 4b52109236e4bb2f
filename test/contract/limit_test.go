package contract

import (
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
)

const mib = 1 << 20

// Sizes. What is refused leaves nothing behind.
var sizes = []point{
	{"5.1 payloads of requests", requestSizes},
	{"5.1 memo of a start", memoSize},
	{"5.1 payloads of commands end the run", commandSizes},
	{"5.1 a large activity result fails the activity", activityResultSize},
	{"5.1 a large failure is cut", failureSize},
	{"5.1 a large heartbeat fails the activity", heartbeatSize},
	{"5.1 a large query result fails the query", queryResultSize},
	{"5.1 search attributes of a start", attributeSizes},
	{"5.1 lengths of ids", idLengths},
	{"5.1 build ids", buildIDLength},
	{"5.1 links and callbacks", linksAndCallbacks},
	{"5.1 the state of a run", stateSize},
	{"5.1 large histories are read in pages", largeHistory},
	{"2.6 a completion that no message can hold ends the run", messageTooLarge},
	{"5.1 the message of an error", errorMessageSize},
	{"5.1 the last failure of an activity is cut", lastFailureSize},
}

// refusedStarts makes sure that starts are refused as a whole.
func (e *env) refusedStarts(mods ...func(*startRequest)) {
	e.Helper()
	for _, mod := range mods {
		refused[*serviceerror.InvalidArgument](e, e.api.StartWorkflowExecution, e.newStart(mod))
	}
	refused[*serviceerror.NotFound](e, e.api.DescribeWorkflowExecution, &describeRequest{Execution: execution(e.id, "")})
}

func requestSizes(e *env) {
	e.refusedStarts(func(r *startRequest) { r.Input = blobs(2*mib + 1) })
	refused[*serviceerror.InvalidArgument](e, e.api.SignalWithStartWorkflowExecution, e.newSignalWithStart("s", func(r *signalWithStartRequest) { r.SignalInput = blobs(2*mib + 1) }))
	run := e.start(func(r *startRequest) { r.Input = blobs(2*mib - 100) })
	e.complete(e.poll())
	refused[*serviceerror.InvalidArgument](e, e.api.SignalWorkflowExecution, e.newSignal("s", func(r *signalRequest) { r.Input = blobs(2*mib + 1) }))
	refused[*serviceerror.InvalidArgument](e, e.api.UpdateWorkflowExecution, e.newUpdate("u", func(r *updateRequest) { r.Request.Input.Args = blobs(2*mib + 1) }))
	query := e.newQuery("q")
	query.Query.QueryArgs = blobs(2*mib + 1)
	refused[*serviceerror.InvalidArgument](e, e.api.QueryWorkflow, query)
	refused[*serviceerror.InvalidArgument](e, e.api.TerminateWorkflowExecution, e.newTerminate(func(r *terminateRequest) { r.Details = blobs(2*mib + 1) }))
	e.wantHistory(run, firstTask)
}

func memoSize(e *env) {
	e.refusedStarts(func(r *startRequest) {
		r.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": blob(2*mib + 1)}}
	})
}

func commandSizes(e *env) {
	big := blobs(2*mib + 1)
	bigMap := map[string]*commonpb.Payload{"m": big.Payloads[0]}
	for i, c := range []*command{
		e.activity("a", func(a *activityAttributes) { a.Input = big }),
		completeWithPayloads(big),
		markerWith("m", big),
		continueAsNew(func(a *newRunAttributes) { a.Input = big }),
		continueAsNew(func(a *newRunAttributes) { a.Memo = &commonpb.Memo{Fields: bigMap} }),
		e.startChild(func(a *childAttributes) { a.Input = big }),
		e.startChild(func(a *childAttributes) { a.Memo = &commonpb.Memo{Fields: bigMap} }),
		signalExternal("w", func(a *signalAttributes) { a.Input = big }),
		upsertMemo(bigMap),
	} {
		w := e.sub(fmt.Sprint(i))
		run := w.start()
		refused[*serviceerror.InvalidArgument](w, w.api.RespondWorkflowTaskCompleted, completion(w.poll(), nil, c))
		w.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Terminated")
		require.Contains(e, w.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause.String(), "Bad")
	}
}

func activityResultSize(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 0)))
	do(e, e.api.RespondActivityTaskCompleted, &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: a.TaskToken, Result: blobs(2*mib + 1)})
	closed := e.event(run, "ActivityFailed").GetActivityTaskFailedEventAttributes()
	require.True(e, closed.Failure.GetServerFailureInfo().GetNonRetryable())
	require.Equal(e, enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE, closed.RetryState)
}

func failureSize(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 1)))
	f := failure("Bad")
	f.StackTrace = long(2*mib + 1)
	done := do(e, e.api.RespondActivityTaskFailed, &workflowservice.RespondActivityTaskFailedRequest{TaskToken: a.TaskToken, Failure: f})
	closed := e.event(run, "ActivityFailed").GetActivityTaskFailedEventAttributes()
	require.True(e, closed.Failure.GetServerFailureInfo().GetNonRetryable(), "%v", done)
	require.NotNil(e, closed.Failure.Cause)
	require.Less(e, len(closed.Failure.Cause.StackTrace), mib)
	require.Equal(e, "Bad happened", closed.Failure.Cause.Message)
}

func heartbeatSize(e *env) {
	run, a := e.runningActivity(withRetry(retry(1, 0)))
	req := newHeartbeat(a, nil)
	req.Details = blobs(2*mib + 1)
	require.True(e, do(e, e.api.RecordActivityTaskHeartbeat, req).CancelRequested)
	require.True(e, e.event(run, "ActivityFailed").GetActivityTaskFailedEventAttributes().Failure.GetServerFailureInfo().GetNonRetryable())
}

func queryResultSize(e *env) {
	e.idle()
	query := e.query("state")
	got := e.poll()
	do(e, e.api.RespondQueryTaskCompleted, &workflowservice.RespondQueryTaskCompletedRequest{
		TaskToken: got.TaskToken, CompletedType: enumspb.QUERY_RESULT_TYPE_ANSWERED, QueryResult: blobs(2*mib + 1),
	})
	asError[*serviceerror.QueryFailed](e, query.failure())
	e.signal("s")
	inTask := e.poll()
	attached := e.query("state")
	next := e.complete(inTask)
	require.Nil(e, next.WorkflowTask)
	direct := e.poll()
	e.answer(direct, "small")
	require.Equal(e, "small", text(attached.result().QueryResult))
}

func attributeSizes(e *env) {
	many := map[string]*commonpb.Payload{}
	for i := range 101 {
		many[fmt.Sprint("Attribute", i)] = payload(i)
	}
	e.refusedStarts(
		func(r *startRequest) { r.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: many} },
		func(r *startRequest) {
			r.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"Color": blob(3 << 10)}}
		},
		func(r *startRequest) {
			r.SearchAttributes = &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{"NoSuch": payload(1)}}
		},
	)
	run := e.start()
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted,
		completion(e.poll(), nil, upsertAttributes(map[string]*commonpb.Payload{"Color": blob(3 << 10)})))
	require.Equal(e, badAttributes, e.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause)
	require.Empty(e, e.info(run).SearchAttributes.GetIndexedFields()["Color"])
}

func idLengths(e *env) {
	tooLong := long(1001)
	e.refusedStarts(
		func(r *startRequest) { r.WorkflowId = tooLong },
		func(r *startRequest) { r.WorkflowType = typeNamed(tooLong) },
		func(r *startRequest) { r.TaskQueue = normal(tooLong) },
		func(r *startRequest) { r.RequestId = tooLong },
	)
	e.idle()
	refused[*serviceerror.InvalidArgument](e, e.api.SignalWorkflowExecution, e.newSignal(tooLong))
	refused[*serviceerror.InvalidArgument](e, e.api.SignalWorkflowExecution, e.newSignal("s", func(r *signalRequest) { r.RequestId = tooLong }))
	refused[*serviceerror.InvalidArgument](e, e.api.UpdateWorkflowExecution, e.newUpdate(tooLong))
	refused[*serviceerror.NotFound](e, e.api.DescribeWorkflowExecution, &describeRequest{Execution: execution(tooLong, "")})
	poll := e.newPoll(normal(e.queue))
	poll.Identity = tooLong
	refused[*serviceerror.InvalidArgument](e, e.api.PollWorkflowTaskQueue, poll)
	exact := e.sub("exact")
	exact.id = exact.id + long(1000-len(exact.id))
	exact.start()
	exact.terminate()
}

func buildIDLength(e *env) {
	run := e.start()
	got := e.poll()
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, func(r *completeRequest) {
		r.WorkerVersionStamp = &commonpb.WorkerVersionStamp{BuildId: long(256)}
	}))
	e.complete(got)
	e.wantHistory(run, firstTask)
}

func linksAndCallbacks(e *env) {
	link := func(id string) *commonpb.Link {
		return &commonpb.Link{Variant: &commonpb.Link_WorkflowEvent_{WorkflowEvent: &commonpb.Link_WorkflowEvent{Namespace: namespace, WorkflowId: id, RunId: "0198a9b4-0000-7000-8000-000000000000"}}}
	}
	var eleven []*commonpb.Link
	for range 11 {
		eleven = append(eleven, link("w"))
	}
	callback := func(url string, header map[string]string) []*commonpb.Callback {
		return []*commonpb.Callback{{Variant: &commonpb.Callback_Nexus_{Nexus: &commonpb.Callback_Nexus{Url: url, Header: header}}}}
	}
	e.refusedStarts(
		func(r *startRequest) { r.Links = eleven },
		func(r *startRequest) { r.Links = []*commonpb.Link{link(long(4000))} },
		func(r *startRequest) { r.CompletionCallbacks = callback("http://x/"+long(1000), nil) },
		func(r *startRequest) {
			r.CompletionCallbacks = callback("http://x/", map[string]string{"h": long(8 << 10)})
		},
		func(r *startRequest) { r.CompletionCallbacks = callback("no url", nil) },
	)
	refused[*serviceerror.FailedPrecondition](e, e.api.StartWorkflowExecution, e.newStart(func(r *startRequest) {
		for range 33 {
			r.CompletionCallbacks = append(r.CompletionCallbacks, callback("http://x/", nil)...)
		}
	}))
}

func stateSize(e *env) {
	run := e.start()
	var five []*command
	for i := range 5 {
		five = append(five, e.activity(fmt.Sprint(i), func(a *activityAttributes) { a.HeartbeatTimeout = seconds(60) }))
	}
	e.complete(e.poll(), five...)
	for range 5 { // of 1.9 MiB: more than 8 MiB together
		req := newHeartbeat(e.pollActivity(), nil)
		req.Details = blobs(19 * mib / 10)
		do(e, e.api.RecordActivityTaskHeartbeat, req)
	}
	e.signal("writes the heartbeats")
	refused[*serviceerror.NotFound](e, e.api.SignalWorkflowExecution, e.newSignal("one too many"))
	closed := e.awaitClosed(run).GetWorkflowExecutionTerminatedEventAttributes()
	require.Contains(e, closed.GetReason(), "mutable state size exceeds")
}

func errorMessageSize(e *env) {
	err := refused[*serviceerror.NotFound](e, e.api.DescribeWorkflowExecution, &describeRequest{Execution: execution(long(10_000), "")})
	require.LessOrEqual(e, len(err.Error()), 4000)
}

func lastFailureSize(e *env) {
	run, a := e.runningActivity(withRetry(retry(3600, 0)))
	f := failure("Bad")
	f.StackTrace = long(100 << 10)
	e.failActivity(a, f)
	last := e.pendingActivity(run).LastFailure
	require.Contains(e, last.Message, "Bad happened")
	require.LessOrEqual(e, len(last.StackTrace), 4<<10)
}

// Counts.
var counts = []point{
	{"5.2 pending activities, children, signals and cancels", pendingCounts},
	{"5.2 updates in flight", updatesInFlight},
	{"5.2 attached request ids", attachedRequests},
	{"5.2 pages", pageSizes},
	{"5.2 buffered queries", bufferedQueries},
	{"5.2 suggestion to continue as new", suggestContinueAsNew},
	{"5.2 a history of too many events", historyTooLong},
	{"5.3 reported problems", reportedProblems},
	{"5.3 timeouts that are not given", defaultTimeouts},
	{"5.3 bad durations", badDurations},
}

func pendingCounts(e *env) {
	for _, c := range []struct {
		name  string
		cause enumspb.WorkflowTaskFailedCause
		one   func(i int) *command
	}{
		{"activities", enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_ACTIVITIES_LIMIT_EXCEEDED, func(i int) *command { return e.activity(fmt.Sprint(i)) }},
		{"children", enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED, func(i int) *command {
			return e.startChild(func(a *childAttributes) { a.WorkflowId = fmt.Sprint(e.id, "-", i) })
		}},
		{"signals", enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_SIGNALS_LIMIT_EXCEEDED, func(int) *command { return signalExternal("nobody") }},
		{"cancels", enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_REQUEST_CANCEL_LIMIT_EXCEEDED, func(int) *command { return cancelExternal("nobody") }},
	} {
		w := e.sub(c.name)
		run := w.start()
		var commands []*commandpb.Command
		for i := range 2001 {
			commands = append(commands, c.one(i))
		}
		refused[*serviceerror.InvalidArgument](w, w.api.RespondWorkflowTaskCompleted, completion(w.poll(), nil, commands...))
		w.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed")
		require.Equal(e, c.cause, w.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause)
	}
}

func updatesInFlight(e *env) {
	e.idle()
	var all []*pending[*updateResponse]
	for i := range 11 {
		all = append(all, e.update(fmt.Sprint("u", i), untilAccepted))
	}
	answered := func() (answered []*pending[*updateResponse]) {
		for _, u := range all {
			if !u.waiting() {
				answered = append(answered, u)
			}
		}
		return answered
	}
	e.eventually("one is refused", func() bool { return len(answered()) > 0 })
	e.terminate()
	var busy, aborted int
	for _, u := range all {
		switch err := serviceerrorOf(u.failure()).(type) {
		case *serviceerror.ResourceExhausted:
			require.Equal(e, enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT, err.Cause)
			busy++
		case *serviceerror.NotFound:
			aborted++
		}
	}
	require.Equal(e, 1, busy)
	require.Equal(e, 10, aborted)
}

func attachedRequests(e *env) {
	e.idle()
	attach := func(i int) *startRequest {
		return e.newStart(func(r *startRequest) {
			r.RequestId, r.WorkflowIdConflictPolicy = fmt.Sprint("attach-", i), enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
			r.OnConflictOptions = attachRequest
		})
	}
	for i := range 30 {
		do(e, e.api.StartWorkflowExecution, attach(i))
	}
	n := 0
	for id := range e.describe("").GetWorkflowExtendedInfo().GetRequestIdInfos() {
		if strings.HasPrefix(id, "attach-") {
			n++
		}
	}
	require.Equal(e, 25, n, "the oldest are forgotten")
}

func pageSizes(e *env) {
	run := e.start()
	e.complete(e.poll(), markers(300)...)
	page := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, run), MaximumPageSize: 100_000})
	require.Len(e, page.History.Events, 256)
	page = do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, run), NextPageToken: page.NextPageToken})
	require.Len(e, page.History.Events, 304-256)
	do(e, e.api.ListWorkflowExecutions, &workflowservice.ListWorkflowExecutionsRequest{PageSize: 100_000})
}

func bufferedQueries(e *env) {
	e.idle()
	e.signal("s")
	got := e.poll()
	var busy, answered int
	first, next := e.query("one"), e.query("two")
	e.eventually("one of them is refused", func() bool { return !first.waiting() || !next.waiting() })
	e.completeWith(got, nil)
	direct := e.poll()
	e.answer(direct, "yes")
	for _, q := range []*pending[*queryResponse]{first, next} {
		if err := q.failure(); err != nil {
			require.Equal(e, enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, asError[*serviceerror.ResourceExhausted](e, err).Cause)
			busy++
		} else {
			answered++
		}
	}
	require.Equal(e, 1, busy)
	require.Equal(e, 1, answered)
}

func suggestContinueAsNew(e *env) {
	e.start()
	first := e.poll()
	require.False(e, first.History.Events[2].GetWorkflowTaskStartedEventAttributes().SuggestContinueAsNew)
	e.complete(first, markers(4096)...)
	e.signal("s")
	got := e.poll()
	for len(got.NextPageToken) > 0 {
		page := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, ""), NextPageToken: got.NextPageToken})
		got.History, got.NextPageToken = page.History, page.NextPageToken
	}
	events := got.History.Events
	sent := events[len(events)-1].GetWorkflowTaskStartedEventAttributes()
	require.True(e, sent.SuggestContinueAsNew)
	require.NotZero(e, sent.HistorySizeBytes)
	e.complete(got)
	stored := e.event("", "TaskStarted").GetWorkflowTaskStartedEventAttributes()
	require.Equal(e, sent.String(), stored.String(), "a replay must see the same")
}

func historyTooLong(e *env) {
	run := e.start()
	for range 5 {
		e.complete(e.poll(), markers(10_000)...)
		e.signal("more")
	}
	e.complete(e.poll(), markers(2000)...)
	refused[*serviceerror.NotFound](e, e.api.SignalWorkflowExecution, e.newSignal("one too many"))
	e.awaitStatus(run, terminated)
	closed := e.awaitClosed(run).GetWorkflowExecutionTerminatedEventAttributes()
	require.Contains(e, closed.Reason, "exceeds limit")
}

func reportedProblems(e *env) {
	run := e.start()
	for range 5 {
		require.NotContains(e, e.info(run).SearchAttributes.GetIndexedFields(), "TemporalReportedProblems")
		e.failTask(e.poll())
	}
	require.Contains(e, e.info(run).SearchAttributes.GetIndexedFields(), "TemporalReportedProblems")
	filter := "TemporalReportedProblems IN ('category=WorkflowTaskFailed') AND WorkflowId = '" + e.id + "'"
	require.Len(e, e.list(filter), 1)
	e.complete(e.poll())
	require.NotContains(e, e.info(run).SearchAttributes.GetIndexedFields(), "TemporalReportedProblems")
	require.Empty(e, e.list(filter))
}

func defaultTimeouts(e *env) {
	run := e.start(func(r *startRequest) { r.WorkflowExecutionTimeout, r.WorkflowTaskTimeout = seconds(100), seconds(3600) })
	a := e.started(run)
	require.EqualValues(e, 100, a.WorkflowRunTimeout.GetSeconds())
	require.EqualValues(e, 100, a.WorkflowTaskTimeout.GetSeconds(), "no longer than the run")
	e.complete(e.poll(), e.activity("a", func(a *activityAttributes) { a.HeartbeatTimeout = seconds(500) }))
	s := e.event(run, "ActivityScheduled").GetActivityTaskScheduledEventAttributes()
	require.EqualValues(e, 100, s.ScheduleToCloseTimeout.GetSeconds())
	require.EqualValues(e, 100, s.ScheduleToStartTimeout.GetSeconds())
	require.EqualValues(e, 60, s.HeartbeatTimeout.GetSeconds())
	require.EqualValues(e, 1, s.RetryPolicy.InitialInterval.GetSeconds())
	require.EqualValues(e, 100, s.RetryPolicy.MaximumInterval.GetSeconds())
	require.EqualValues(e, 2, s.RetryPolicy.BackoffCoefficient)
}

func badDurations(e *env) {
	e.refusedStarts(
		func(r *startRequest) { r.WorkflowExecutionTimeout = seconds(-1) },
		func(r *startRequest) { r.WorkflowRunTimeout = seconds(-1) },
		func(r *startRequest) { r.WorkflowTaskTimeout = seconds(-1) },
		func(r *startRequest) { r.WorkflowStartDelay = seconds(-1) },
		func(r *startRequest) { r.RetryPolicy = retry(-1, 0) },
		func(r *startRequest) { r.RetryPolicy = &commonpb.RetryPolicy{BackoffCoefficient: 0.5} },
		func(r *startRequest) { r.RetryPolicy = retry(1, -1) },
		func(r *startRequest) {
			r.RetryPolicy = &commonpb.RetryPolicy{InitialInterval: seconds(10), MaximumInterval: seconds(1)}
		},
		func(r *startRequest) {
			r.RetryPolicy = &commonpb.RetryPolicy{NonRetryableErrorTypes: []string{"TemporalTimeout:Never"}}
		},
	)
}

// largeHistory reads, in each way, events that do not fit one message.
func largeHistory(e *env) {
	run := e.idle()
	for range 4 {
		e.signal("large", func(r *signalRequest) { r.Input = blobs(19 * mib / 10) })
	}
	got := e.poll()
	n := len(got.History.Events)
	require.NotEmpty(e, got.NextPageToken)
	for token := got.NextPageToken; len(token) > 0; {
		page := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{Execution: execution(e.id, run), NextPageToken: token})
		n, token = n+len(page.History.Events), page.NextPageToken
	}
	require.EqualValues(e, got.StartedEventId, n)
	e.complete(got, markerWith("a", blobs(19*mib/10)), markerWith("b", blobs(19*mib/10)))
	events := e.stored(run)
	require.Len(e, events, 4+4+3+2)
	reverse := &workflowservice.GetWorkflowExecutionHistoryReverseRequest{Execution: execution(e.id, run)}
	for last := int64(len(events)); last > 0; {
		page := do(e, e.api.GetWorkflowExecutionHistoryReverse, reverse)
		for _, event := range page.History.Events {
			require.Equal(e, last, event.EventId)
			last--
		}
		reverse.NextPageToken = page.NextPageToken
	}
	require.Empty(e, reverse.NextPageToken)
}

func messageTooLarge(e *env) {
	run := e.start()
	req := e.newFailTask(e.poll())
	req.Cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_GRPC_MESSAGE_TOO_LARGE
	do(e, e.api.RespondWorkflowTaskFailed, req)
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed Terminated")
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_GRPC_MESSAGE_TOO_LARGE, e.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause)
}
