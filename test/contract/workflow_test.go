package contract

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// What a client does to workflows.

type (
	startRequest           = workflowservice.StartWorkflowExecutionRequest
	signalRequest          = workflowservice.SignalWorkflowExecutionRequest
	signalWithStartRequest = workflowservice.SignalWithStartWorkflowExecutionRequest
	cancelRequest          = workflowservice.RequestCancelWorkflowExecutionRequest
	terminateRequest       = workflowservice.TerminateWorkflowExecutionRequest
	describeRequest        = workflowservice.DescribeWorkflowExecutionRequest
	describeResponse       = workflowservice.DescribeWorkflowExecutionResponse
	historyRequest         = workflowservice.GetWorkflowExecutionHistoryRequest
	queryRequest           = workflowservice.QueryWorkflowRequest
	queryResponse          = workflowservice.QueryWorkflowResponse
	updateRequest          = workflowservice.UpdateWorkflowExecutionRequest
	updateResponse         = workflowservice.UpdateWorkflowExecutionResponse
	resetRequest           = workflowservice.ResetWorkflowExecutionRequest
)

func with[R any](req *R, mods []func(*R)) *R {
	for _, mod := range mods {
		mod(req)
	}
	return req
}

func typeNamed(name string) *commonpb.WorkflowType { return &commonpb.WorkflowType{Name: name} }

func normal(name string) *taskqueuepb.TaskQueue {
	return &taskqueuepb.TaskQueue{Name: name, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
}

func execution(id, run string) *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: id, RunId: run}
}

func (e *env) newStart(mods ...func(*startRequest)) *startRequest {
	return with(&startRequest{
		Namespace: namespace, WorkflowId: e.id, WorkflowType: typeNamed("workflow"), TaskQueue: normal(e.queue), Identity: "client",
		WorkflowTaskTimeout: seconds(60), // a busy machine must not let tasks time out
	}, mods)
}

// start starts the workflow and returns its run.
func (e *env) start(mods ...func(*startRequest)) string {
	e.Helper()
	return do(e, e.api.StartWorkflowExecution, e.newStart(mods...)).RunId
}

// idle starts the workflow and completes its first task, so that it waits for something to happen.
func (e *env) idle(mods ...func(*startRequest)) string {
	e.Helper()
	run := e.start(mods...)
	e.complete(e.poll())
	return run
}

func (e *env) newSignal(name string, mods ...func(*signalRequest)) *signalRequest {
	return with(&signalRequest{WorkflowExecution: execution(e.id, ""), SignalName: name, Input: payloads(name), Identity: "client"}, mods)
}

func (e *env) signal(name string, mods ...func(*signalRequest)) {
	e.Helper()
	do(e, e.api.SignalWorkflowExecution, e.newSignal(name, mods...))
}

func (e *env) newSignalWithStart(name string, mods ...func(*signalWithStartRequest)) *signalWithStartRequest {
	return with(&signalWithStartRequest{
		WorkflowTaskTimeout: seconds(60), WorkflowId: e.id, WorkflowType: typeNamed("workflow"), TaskQueue: normal(e.queue), SignalName: name, SignalInput: payloads(name),
	}, mods)
}

func (e *env) newCancel(mods ...func(*cancelRequest)) *cancelRequest {
	return with(&cancelRequest{WorkflowExecution: execution(e.id, ""), Reason: "enough"}, mods)
}

func (e *env) cancel(mods ...func(*cancelRequest)) {
	e.Helper()
	do(e, e.api.RequestCancelWorkflowExecution, e.newCancel(mods...))
}

func (e *env) newTerminate(mods ...func(*terminateRequest)) *terminateRequest {
	return with(&terminateRequest{WorkflowExecution: execution(e.id, ""), Reason: "stop"}, mods)
}

func (e *env) terminate(mods ...func(*terminateRequest)) {
	e.Helper()
	do(e, e.api.TerminateWorkflowExecution, e.newTerminate(mods...))
}

func (e *env) describe(run string) *describeResponse {
	e.Helper()
	return do(e, e.api.DescribeWorkflowExecution, &describeRequest{Execution: execution(e.id, run)})
}

func (e *env) info(run string) *workflowpb.WorkflowExecutionInfo {
	e.Helper()
	return e.describe(run).GetWorkflowExecutionInfo()
}

// wantStatus says how a run stands.
func (e *env) wantStatus(run string, want enumspb.WorkflowExecutionStatus) {
	e.Helper()
	require.Equal(e, want, e.info(run).GetStatus())
}

// awaitStatus waits until a run is in a status.
func (e *env) awaitStatus(run string, want enumspb.WorkflowExecutionStatus) {
	e.Helper()
	e.eventually("status "+want.String(), func() bool { return e.info(run).GetStatus() == want })
}

// awaitClosed waits for the end of a run and returns its closing event.
func (e *env) awaitClosed(run string) *historypb.HistoryEvent {
	e.Helper()
	for deadline := time.Now().Add(callMax); time.Now().Before(deadline); {
		page := do(e, e.api.GetWorkflowExecutionHistory, &historyRequest{
			Execution: execution(e.id, run), WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
		})
		if events := page.GetHistory().GetEvents(); len(events) > 0 {
			return events[0]
		}
	}
	require.FailNow(e, "the run does not close")
	return nil
}

// events is a run's history, as a worker sees it.
func (e *env) events(run string) (events []*historypb.HistoryEvent) {
	e.Helper()
	return e.eventsAs("", run)
}

// stored is a run's history as people see it: without the events of transient and speculative workflow tasks, which are not stored.
func (e *env) stored(run string) []*historypb.HistoryEvent {
	e.Helper()
	return e.eventsAs("temporal-cli", run)
}

func (e *env) eventsAs(client, run string) (events []*historypb.HistoryEvent) {
	e.Helper()
	req := &historyRequest{Execution: execution(e.id, run)}
	for {
		page := doAs(e, "client-name", client, e.api.GetWorkflowExecutionHistory, req)
		events = append(events, page.GetHistory().GetEvents()...)
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			return events
		}
	}
}

// short is the name of an event's type in these tests: WorkflowTaskStarted is TaskStarted, ActivityTaskStarted ActivityStarted, and
// WorkflowExecutionStarted Started.
func short(e *historypb.HistoryEvent) string {
	return strings.NewReplacer("ExternalWorkflowExecution", "External", "ChildWorkflowExecution", "Child", "WorkflowExecutionUpdate", "Update",
		"WorkflowExecution", "", "WorkflowTask", "Task", "ActivityTask", "Activity").Replace(e.GetEventType().String())
}

func shorts(events []*historypb.HistoryEvent) string {
	var names []string
	for _, e := range events {
		names = append(names, short(e))
	}
	return strings.Join(names, " ")
}

// firstTask are the events of a run whose first workflow task is completed.
const firstTask = "Started TaskScheduled TaskStarted TaskCompleted"

// wantHistory compares the types of a run's stored events, in their [short] names.
func (e *env) wantHistory(run string, want ...string) {
	e.Helper()
	events := e.stored(run)
	require.Equal(e, strings.Join(strings.Fields(strings.Join(want, " ")), " "), shorts(events))
	for i, event := range events {
		require.EqualValues(e, i+1, event.EventId, "event ids are dense")
	}
}

// event is the last event of a type in a run's history.
func (e *env) event(run, name string) *historypb.HistoryEvent {
	e.Helper()
	events := e.stored(run)
	i := slices.IndexFunc(events, func(event *historypb.HistoryEvent) bool { return short(event) == name })
	require.GreaterOrEqual(e, i, 0, "no %s in %s", name, shorts(events))
	for j := i; j < len(events); j++ {
		if short(events[j]) == name {
			i = j
		}
	}
	return events[i]
}

// count is how many events of a type a run has.
func (e *env) count(run, name string) (n int) {
	e.Helper()
	for _, event := range e.stored(run) {
		if short(event) == name {
			n++
		}
	}
	return n
}

func (e *env) newQuery(name string) *queryRequest {
	return &queryRequest{Execution: execution(e.id, ""), Query: &querypb.WorkflowQuery{QueryType: name}}
}

// query begins a query.
func (e *env) query(name string, mods ...func(*queryRequest)) *pending[*queryResponse] {
	return begin(e, callMax, e.api.QueryWorkflow, with(e.newQuery(name), mods))
}

func (e *env) newUpdate(id string, mods ...func(*updateRequest)) *updateRequest {
	return with(&updateRequest{
		Namespace: namespace, WorkflowExecution: execution(e.id, ""),
		WaitPolicy: &updatepb.WaitPolicy{LifecycleStage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED},
		Request: &updatepb.Request{
			Meta: &updatepb.Meta{UpdateId: id, Identity: "client"}, Input: &updatepb.Input{Name: "change", Args: payloads(id)},
		},
	}, mods)
}

// update begins an update.
func (e *env) update(id string, mods ...func(*updateRequest)) *pending[*updateResponse] {
	return begin(e, callMax, e.api.UpdateWorkflowExecution, e.newUpdate(id, mods...))
}

func untilAccepted(r *updateRequest) {
	r.WaitPolicy.LifecycleStage = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
}

// reset makes a new run from before the end of a workflow task and returns it.
func (e *env) reset(finish int64, mods ...func(*resetRequest)) string {
	e.Helper()
	return do(e, e.api.ResetWorkflowExecution, e.newReset(finish, mods...)).RunId
}

func (e *env) newReset(finish int64, mods ...func(*resetRequest)) *resetRequest {
	return with(&resetRequest{
		WorkflowExecution: execution(e.id, ""), Reason: "again", WorkflowTaskFinishEventId: finish, RequestId: fmt.Sprint(e.id, "-reset-", finish),
	}, mods)
}

// list is the workflow ids and runs that a filter finds.
func (e *env) list(filter string) []*workflowpb.WorkflowExecutionInfo {
	e.Helper()
	return do(e, e.api.ListWorkflowExecutions, &workflowservice.ListWorkflowExecutionsRequest{Query: filter}).GetExecutions()
}
