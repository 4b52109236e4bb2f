package sdk

import (
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var startOptions = map[string]option{
	"ID":                       runs(startID),
	"TaskQueue":                runs(startTaskQueue),
	"WorkflowExecutionTimeout": runs(startExecutionTimeout),
	"WorkflowRunTimeout":       runs(startRunTimeout),
	"WorkflowTaskTimeout":      runs(startTaskTimeout),
	"WorkflowIDConflictPolicy": runs(startConflictPolicy),
	"WorkflowIDReusePolicy":    runs(startReusePolicy),
	"WorkflowExecutionErrorWhenAlreadyStarted": runs(startErrorWhenStarted),
	"RetryPolicy":           runs(chainRetry),
	"CronSchedule":          runs(chainCron),
	"Memo":                  runs(startMemo),
	"SearchAttributes":      runs(attributeUntyped),
	"TypedSearchAttributes": runs(attributeStart),
	"EnableEagerStart":      runs(eagerStart),
	"StartDelay":            runs(chainStartDelay),
	"StaticSummary":         runs(startStatic),
	"StaticDetails":         runs(startStatic),
	"VersioningOverride":    runs(startVersioningOverride),
	"Priority":              runs(startPriority),
}

var nothing = code{"main": func(ctx workflow.Context) error { return nil }, "wait": waitEnd}

func startID(e *env) {
	e.work(nothing)
	o := e.options()
	o.ID = "my id/" + e.queue
	e.done(e.startWith(o, "main"))
	d, err := e.c.DescribeWorkflowExecution(e.ctx, o.ID, "")
	require.NoError(e, err)
	require.Equal(e, o.ID, d.WorkflowExecutionInfo.Execution.WorkflowId)
}

func startTaskQueue(e *env) {
	other := e.unique()
	e.workWith(e.c, other, worker.Options{}, code{"main": func(ctx workflow.Context) (string, error) { return workflow.GetInfo(ctx).TaskQueueName, nil }})
	o := e.options()
	o.TaskQueue = other
	require.Equal(e, other, result[string](e, e.startWith(o, "main")))
}

func startExecutionTimeout(e *env) {
	e.work(nothing)
	o := e.options()
	o.WorkflowExecutionTimeout = time.Second
	o.RetryPolicy = &temporal.RetryPolicy{} // it does not help: the timeout is of all runs together
	require.ErrorAs(e, e.failure(e.startWith(o, "wait")), new(*temporal.TimeoutError))
}

func startRunTimeout(e *env) {
	e.work(nothing)
	o := e.options()
	o.WorkflowRunTimeout = time.Second
	run := e.startWith(o, "wait")
	require.ErrorAs(e, e.failure(run), new(*temporal.TimeoutError))
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT, e.status(run))
}

// A worker that takes a task and vanishes is noticed after the timeout.
func startTaskTimeout(e *env) {
	o := e.options()
	o.WorkflowTaskTimeout = time.Second
	run := e.startWith(o, "main")
	e.pollWorkflow()
	e.work(nothing)
	e.done(run)
	timedOut := e.history(run).one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)
	started := e.history(run).all(enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED)[0]
	waited := timedOut.EventTime.AsTime().Sub(started.EventTime.AsTime())
	require.GreaterOrEqual(e, waited, o.WorkflowTaskTimeout)
	require.Less(e, waited, 10*time.Second, "the default")
}

// pollWorkflow takes a workflow task as a worker would and returns its workflow's id.
func (e *env) pollWorkflow() string {
	e.Helper()
	task, err := e.c.WorkflowService().PollWorkflowTaskQueue(e.ctx, &workflowservice.PollWorkflowTaskQueueRequest{
		Namespace: "default", Identity: "test", TaskQueue: &taskqueuepb.TaskQueue{Name: e.queue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
	})
	require.NoError(e, err)
	require.NotEmpty(e, task.TaskToken, "there was no task")
	return task.WorkflowExecution.WorkflowId
}

func startConflictPolicy(e *env) {
	o := e.options()
	first := e.startWith(o, "main")
	o.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	second := e.startWith(o, "main")
	require.NotEqual(e, first.GetRunID(), second.GetRunID())
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, e.status(first))
	o.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	o.WorkflowExecutionErrorWhenAlreadyStarted = true
	require.Equal(e, second.GetRunID(), e.startWith(o, "main").GetRunID())
	e.work(nothing)
	e.done(second)
}

func startReusePolicy(e *env) {
	e.work(code{"main": func(ctx workflow.Context, fail bool) error { return check(!fail, "as asked") }})
	o := e.options()
	o.WorkflowExecutionErrorWhenAlreadyStarted = true
	start := func(policy enumspb.WorkflowIdReusePolicy, fail bool) error {
		o.WorkflowIDReusePolicy = policy
		run, err := e.c.ExecuteWorkflow(e.ctx, o, "main", fail)
		if err == nil {
			require.Equal(e, fail, run.Get(e.ctx, nil) != nil)
		}
		return err
	}
	var exists *serviceerror.WorkflowExecutionAlreadyStarted
	require.NoError(e, start(enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE, true))
	require.ErrorAs(e, start(enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE, true), &exists)
	require.NoError(e, start(enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY, false))
	require.ErrorAs(e, start(enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY, false), &exists)
	require.NoError(e, start(enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, false))
}

func startErrorWhenStarted(e *env) {
	o := e.options()
	run := e.startWith(o, "main")
	require.Equal(e, run.GetRunID(), e.startWith(o, "main").GetRunID(), "without the option, the caller gets what runs")
	o.WorkflowExecutionErrorWhenAlreadyStarted = true
	_, err := e.c.ExecuteWorkflow(e.ctx, o, "main")
	var exists *serviceerror.WorkflowExecutionAlreadyStarted
	require.ErrorAs(e, err, &exists)
	require.Equal(e, run.GetRunID(), exists.RunId)
	e.work(nothing)
	e.done(run)
}

func startMemo(e *env) {
	e.work(nothing)
	o := e.options()
	o.Memo = map[string]any{"note": "remember"}
	run := e.startWith(o, "main")
	e.done(run)
	page, err := e.c.ListWorkflow(e.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowId = '" + run.GetID() + "'"})
	require.NoError(e, err)
	require.Len(e, page.Executions, 1)
	require.Equal(e, "remember", memoValue(e, page.Executions[0].Memo, "note"))
}

func startStatic(e *env) {
	e.work(nothing)
	o := e.options()
	o.StaticSummary, o.StaticDetails = "the summary", "the details"
	run := e.startWith(o, "main")
	e.done(run)
	d, err := e.c.DescribeWorkflow(e.ctx, run.GetID(), "")
	require.NoError(e, err)
	summary, err := d.GetStaticSummary()
	require.NoError(e, err)
	details, err := d.GetStaticDetails()
	require.NoError(e, err)
	require.Equal(e, []string{"the summary", "the details"}, []string{summary, details})
}

// The workflow with the higher priority gets its task first, although it came later.
func startPriority(e *env) {
	var ids []string
	for _, key := range []int{5, 3, 1} {
		o := e.options()
		o.Priority = temporal.Priority{PriorityKey: key}
		ids = append(ids, e.startWith(o, "main").GetID())
	}
	e.awaitBacklog(e.queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW, 1, 3, 5)
	require.Equal(e, []string{ids[2], ids[1], ids[0]}, []string{e.pollWorkflow(), e.pollWorkflow(), e.pollWorkflow()})
}

// settled is the age from which a task that nobody polls for is in the backlog, and no more on its way there.
const settled = time.Second

// awaitBacklog waits until a queue holds a task of each of these priorities.
func (e *env) awaitBacklog(queue string, typ enumspb.TaskQueueType, priorities ...int32) {
	e.Helper()
	e.eventually("the tasks are in the backlog", func() bool {
		d, err := e.c.WorkflowService().DescribeTaskQueue(e.ctx, &workflowservice.DescribeTaskQueueRequest{
			Namespace: "default", TaskQueue: &taskqueuepb.TaskQueue{Name: queue}, TaskQueueType: typ, ReportStats: true,
		})
		require.NoError(e, err)
		for _, priority := range priorities {
			stats := d.StatsByPriorityKey[priority]
			if stats.GetApproximateBacklogCount() != 1 || stats.GetApproximateBacklogAge().AsDuration() < settled {
				return false
			}
		}
		return true
	})
}
