package sdk

import (
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var childOptions = map[string]option{
	"Namespace":                runs(childNamespace),
	"WorkflowID":               runs(childResult),
	"TaskQueue":                runs(childTaskQueue),
	"WorkflowExecutionTimeout": runs(childExecutionTimeout),
	"WorkflowRunTimeout":       runs(childTimeout),
	"WorkflowTaskTimeout":      runs(childTaskTimeout),
	"WaitForCancellation":      runs(childCancel),
	"WorkflowIDReusePolicy":    runs(childReusePolicy),
	"RetryPolicy":              runs(childRetry),
	"CronSchedule":             runs(childCron),
	"Memo":                     runs(childMemo),
	"SearchAttributes":         runs(childAttributes),
	"TypedSearchAttributes":    runs(childTypedAttributes),
	"ParentClosePolicy": runs(func(e *env) {
		childClosePolicy(e, enumspb.PARENT_CLOSE_POLICY_ABANDON, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	}),
	"VersioningIntent":   runs(childVersioningIntent),
	"VersioningOverride": runs(childVersioningOverride),
	"StaticSummary":      runs(childStatic),
	"StaticDetails":      runs(childStatic),
	"Priority":           runs(childPriority),
}

// parent is a workflow that runs the child "child" with options and returns its error.
func parent(o workflow.ChildWorkflowOptions) func(workflow.Context) error {
	return func(ctx workflow.Context) error {
		return workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, o), "child").Get(ctx, nil)
	}
}

// runChild runs a child that returns at once, and returns its id.
func (e *env) runChild(o workflow.ChildWorkflowOptions) string {
	e.Helper()
	o.WorkflowID = e.unique()
	e.work(code{"child": func(ctx workflow.Context) error { return nil }, "main": parent(o)})
	e.done(e.start("main"))
	return o.WorkflowID
}

func childTaskQueue(e *env) {
	other := e.unique()
	e.workWith(e.c, other, worker.Options{}, code{"child": func(ctx workflow.Context) error {
		return check(workflow.GetInfo(ctx).TaskQueueName == other, "on queue %s", workflow.GetInfo(ctx).TaskQueueName)
	}})
	e.work(code{"main": parent(workflow.ChildWorkflowOptions{TaskQueue: other})})
	e.done(e.start("main"))
}

// The timeout holds over all runs of the child.
func childExecutionTimeout(e *env) {
	e.work(code{
		"child": waitEnd,
		"main": parent(workflow.ChildWorkflowOptions{
			WorkflowExecutionTimeout: time.Second, RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Millisecond},
		}),
	})
	require.ErrorAs(e, e.failure(e.start("main")), new(*temporal.TimeoutError))
}

func childTaskTimeout(e *env) {
	id := e.runChild(workflow.ChildWorkflowOptions{WorkflowTaskTimeout: 7 * time.Second})
	scheduled := e.historyOf(id, "").one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED).GetWorkflowTaskScheduledEventAttributes()
	require.Equal(e, 7*time.Second, scheduled.StartToCloseTimeout.AsDuration())
}

func childReusePolicy(e *env) {
	o := workflow.ChildWorkflowOptions{WorkflowID: e.unique(), WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE}
	e.work(code{"child": func(ctx workflow.Context) error { return nil }, "main": parent(o)})
	e.done(e.start("main"))
	var child *temporal.ChildWorkflowExecutionError
	require.ErrorAs(e, e.failure(e.start("main")), &child)
	require.ErrorContains(e, child, "already started")
}

// A child with a schedule runs again and again; its parent waits.
func childCron(e *env) {
	id := e.unique()
	e.work(code{
		"child": func(ctx workflow.Context) (n int, err error) {
			if workflow.HasLastCompletionResult(ctx) {
				err = workflow.GetLastCompletionResult(ctx, &n)
			}
			return n + 1, err
		},
		"main": parent(workflow.ChildWorkflowOptions{WorkflowID: id, CronSchedule: "@every 1s"}),
	})
	run := e.start("main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, 1)
	e.eventually("the third run", func() bool { return lastResult(e, id) >= 2 })
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, id, "", "enough"))
	require.ErrorAs(e, e.failure(run), new(*temporal.TerminatedError))
}

func childMemo(e *env) {
	id := e.runChild(workflow.ChildWorkflowOptions{Memo: map[string]any{"note": "of the child"}})
	d, err := e.c.DescribeWorkflowExecution(e.ctx, id, "")
	require.NoError(e, err)
	require.Equal(e, "of the child", memoValue(e, d.WorkflowExecutionInfo.Memo, "note"))
}

func childTypedAttributes(e *env) {
	e.withAttributes()
	id := e.runChild(workflow.ChildWorkflowOptions{TypedSearchAttributes: temporal.NewSearchAttributes(keyInt.ValueSet(42))})
	require.Equal(e, []string{id}, e.list("TestInt = 42 AND TaskQueue = '"+e.queue+"'"))
}

func childStatic(e *env) {
	id := e.runChild(workflow.ChildWorkflowOptions{StaticSummary: "the summary", StaticDetails: "the details"})
	d, err := e.c.DescribeWorkflowExecution(e.ctx, id, "")
	require.NoError(e, err)
	var summary, details string
	metadata := d.ExecutionConfig.GetUserMetadata()
	require.NoError(e, converter.GetDefaultDataConverter().FromPayload(metadata.GetSummary(), &summary))
	require.NoError(e, converter.GetDefaultDataConverter().FromPayload(metadata.GetDetails(), &details))
	require.Equal(e, []string{"the summary", "the details"}, []string{summary, details})
}

// Of the children that wait for a worker, the one with the highest priority is first.
func childPriority(e *env) {
	parents := e.unique()
	ids := map[int]string{1: e.unique(), 3: e.unique(), 5: e.unique()}
	e.workWith(e.c, parents, worker.Options{}, code{"main": func(ctx workflow.Context) error {
		for _, key := range []int{5, 1, 3} {
			o := workflow.ChildWorkflowOptions{WorkflowID: ids[key], TaskQueue: e.queue, Priority: temporal.Priority{PriorityKey: key}}
			child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, o), "child")
			if err := child.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
				return err
			}
		}
		return waitSignal(ctx)
	}})
	o := e.options()
	o.TaskQueue = parents
	run := e.startWith(o, "main")
	e.awaitBacklog(e.queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW, 1, 3, 5)
	require.Equal(e, []string{ids[1], ids[3], ids[5]}, []string{e.pollWorkflow(), e.pollWorkflow(), e.pollWorkflow()})
	e.signal(run, "end", nil)
	e.done(run)
}

// waitSignal waits until the test lets a workflow end.
func waitSignal(ctx workflow.Context) error {
	workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
	return nil
}
