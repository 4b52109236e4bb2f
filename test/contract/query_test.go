package contract

import (
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
)

// Queries.
var queries = []point{
	{"8.15 a query of an idle run goes to a worker at once", directQuery},
	{"8.16 a query waits for the open task", attachedQuery},
	{"8.16 a query that a task left open is asked directly", releasedQuery},
	{"8.16 a query outlives a failed task", queryOutlivesFailure},
	{"8.16 a query makes no task", queryMakesNoTask},
	{"8.17 a sticky query falls back to the normal queue", stickyQueryFallsBack},
	{"8.17 a sticky worker gets a query without history", stickyQuery},
	{"8.18 a query of a closed run gets the whole history", closedQuery},
	{"8.19 the built-in queries are ordinary ones", builtInQueries},
}

func directQuery(e *env) {
	run := e.idle()
	query := e.query("state")
	got := e.poll()
	require.Equal(e, "state", got.Query.GetQueryType())
	require.EqualValues(e, 1, got.Attempt)
	require.Zero(e, got.StartedEventId)
	require.Equal(e, firstTask, shorts(got.History.Events))
	e.answer(got, "fine")
	require.Equal(e, "fine", text(query.result().QueryResult))
	e.wantHistory(run, firstTask)
	refused[*serviceerror.NotFound](e, e.api.RespondQueryTaskCompleted, &workflowservice.RespondQueryTaskCompletedRequest{TaskToken: got.TaskToken, CompletedType: enumspb.QUERY_RESULT_TYPE_ANSWERED})
}

func attachedQuery(e *env) {
	run := e.idle()
	e.signal("s")
	query := e.query("state")
	var got *task
	e.eventually("the query has come", func() bool { // it travels with a task that starts after it
		if got == nil {
			got = e.poll()
			if len(got.Queries) == 0 {
				e.signal("again")
				got = e.completeWith(got, returnNew).WorkflowTask
			}
		}
		return len(got.GetQueries()) == 1
	})
	for _, q := range got.Queries {
		require.Equal(e, "state", q.QueryType)
	}
	require.Nil(e, got.Query)
	e.completeWith(got, answerQueries(got, "seen"), completeWorkflow("done"))
	require.Equal(e, "seen", text(query.result().QueryResult))
	e.wantStatus(run, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
}

func releasedQuery(e *env) {
	e.idle()
	e.signal("s")
	got := e.poll()
	query := e.query("state")
	e.completeWith(got, nil)
	direct := e.poll()
	require.Equal(e, "state", direct.Query.GetQueryType())
	e.answer(direct, "late")
	require.Equal(e, "late", text(query.result().QueryResult))
}

func queryMakesNoTask(e *env) {
	run := e.start()
	query := begin(e, 3*time.Second, e.api.QueryWorkflow, e.newQuery("state"))
	require.Error(e, query.failure(), "nobody polls")
	e.wantHistory(run, "Started TaskScheduled")
	e.complete(e.poll())
	e.pollNothing()
	e.wantHistory(run, firstTask)
}

func stickyQuery(e *env) {
	e.start()
	e.completeWith(e.poll(), e.stick)
	awake := e.stickyWorker()
	query := e.query("state")
	got := awake.result()
	require.Equal(e, "state", got.Query.GetQueryType())
	require.Empty(e, got.History.GetEvents())
	e.answer(got, "from the cache")
	require.Equal(e, "from the cache", text(query.result().QueryResult))
}

func stickyQueryFallsBack(e *env) {
	run := e.start()
	e.completeWith(e.poll(), e.stickFor(time.Second))
	e.gonePoller()
	query := e.query("state")
	got := e.poll()
	require.Equal(e, firstTask, shorts(got.History.Events))
	e.answer(got, "slow")
	require.Equal(e, "slow", text(query.result().QueryResult))
	e.signal("s")
	e.poll()
	require.Equal(e, e.queue, e.event(run, "TaskScheduled").GetWorkflowTaskScheduledEventAttributes().TaskQueue.Name, "stickiness is gone")
}

func closedQuery(e *env) {
	e.start()
	e.completeWith(e.poll(), e.stick, completeWorkflow("done"))
	query := e.query("state")
	got := e.poll()
	require.Equal(e, firstTask+" Completed", shorts(got.History.Events))
	e.answer(got, "as it was")
	require.Equal(e, "as it was", text(query.result().QueryResult))
	rejected := e.query("state", func(r *queryRequest) { r.QueryRejectCondition = enumspb.QUERY_REJECT_CONDITION_NOT_OPEN })
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, rejected.result().GetQueryRejected().GetStatus())
}

func builtInQueries(e *env) {
	e.idle()
	for _, name := range []string{"__temporal_workflow_metadata", "__stack_trace", "__enhanced_stack_trace"} {
		query := e.query(name)
		got := e.poll()
		require.Equal(e, name, got.Query.GetQueryType())
		e.answer(got, "answer")
		require.Equal(e, "answer", text(query.result().QueryResult))
	}
	query := e.query("unknown")
	got := e.poll()
	do(e, e.api.RespondQueryTaskCompleted, &workflowservice.RespondQueryTaskCompletedRequest{
		TaskToken: got.TaskToken, CompletedType: enumspb.QUERY_RESULT_TYPE_FAILED, ErrorMessage: "unknown query",
		Failure: &failurepb.Failure{Message: "unknown query"},
	})
	require.Equal(e, "unknown query", asError[*serviceerror.QueryFailed](e, query.failure()).Failure.GetMessage())
}

func queryOutlivesFailure(e *env) {
	e.idle()
	e.signal("s")
	got := e.poll()
	query := e.query("state")
	e.failTask(got)
	again := e.poll()
	for again.Query == nil && len(again.Queries) == 0 { // it had not arrived yet
		again = e.completeWith(again, func(r *completeRequest) { r.ForceCreateNewWorkflowTask, r.ReturnNewWorkflowTask = true, true }).WorkflowTask
	}
	e.completeWith(again, answerQueries(again, "at last"))
	require.Equal(e, "at last", text(query.result().QueryResult))
}
