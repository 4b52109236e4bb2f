package contract

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
)

// Children.
var children = []point{
	{"8.26 a parent hears of the end of the chain only", childChain},
	{"8.26 a parent does not hear of a child's retries", childRetries},
	{"8.26 a child's first task waits for the parent's event", childTwoPhase},
	{"8.27 the close policy reaches the child's later runs", closePolicyReachesChain},
	{"8.27 the close policy spares other workflows of that id", closePolicySparesOthers},
	{"8.27 the close policies, for many children", closePolicies},
	{"8.27 continue-as-new of the parent applies the close policy", closePolicyOnContinueAsNew},
	{"8.28 a cancel request of a child", cancelChild},
	{"8.28 a cancel request for children only spares others", cancelChildOnly},
	{"8.28 start and cancel of a child in one task", startAndCancelChild},
}

// startedChild starts a child and takes its first task; the parent is idle and has a task for the child's start, which is completed.
func (e *env) startedChild(mods ...func(*childAttributes)) (child *env, first *task) {
	e.Helper()
	e.start()
	e.complete(e.poll(), e.startChild(mods...))
	child = e.child()
	first = child.poll()
	e.complete(e.poll()) // the child's start
	return child, first
}

func childChain(e *env) {
	child, first := e.startedChild()
	parent := e.info("").Execution.RunId
	started := e.event(parent, "ChildStarted").GetChildWorkflowExecutionStartedEventAttributes()
	require.Equal(e, first.WorkflowExecution.RunId, started.WorkflowExecution.RunId)
	child.complete(first, continueAsNew())
	second := child.poll()
	require.Zero(e, e.count(parent, "ChildCompleted"))
	child.complete(second, completeWorkflow("from the second run"))
	e.complete(e.poll())
	closed := e.event(parent, "ChildCompleted").GetChildWorkflowExecutionCompletedEventAttributes()
	require.Equal(e, "from the second run", text(closed.Result))
	require.EqualValues(e, 5, closed.InitiatedEventId)
	require.Equal(e, e.event(parent, "ChildStarted").EventId, closed.StartedEventId)
}

func childTwoPhase(e *env) {
	parent := e.start()
	e.complete(e.poll(), e.startChild())
	child := e.child()
	first := child.poll()
	e.wantHistory(parent, firstTask, "StartChildInitiated ChildStarted TaskScheduled")
	recorded := e.event(parent, "ChildStarted").EventTime.AsTime()
	require.False(e, first.History.Events[1].EventTime.AsTime().Before(recorded))
}

func closePolicyReachesChain(e *env) {
	child, first := e.startedChild()
	child.complete(first, continueAsNew())
	second := child.poll().WorkflowExecution.RunId
	e.terminate()
	child.awaitStatus(second, terminated)
}

func closePolicySparesOthers(e *env) {
	child, first := e.startedChild()
	child.complete(first, completeWorkflow("done"))
	e.complete(e.poll()) // the child's close
	stranger := child.start()
	e.terminate()
	e.pass(time.Second) // the policy would have been applied by now
	child.wantStatus(stranger, running)
}

func closePolicyOnContinueAsNew(e *env) {
	child, first := e.startedChild()
	e.signal("go on")
	e.complete(e.poll(), continueAsNew())
	child.awaitStatus(first.WorkflowExecution.RunId, terminated)
}

func cancelChild(e *env) {
	child, first := e.startedChild()
	parent := e.info("").Execution.RunId
	e.signal("cancel it")
	e.complete(e.poll(), cancelExternal(child.id, func(a *cancelAttributes) { a.ChildWorkflowOnly = true }))
	e.eventually("the child is asked to cancel", func() bool { return e.count(parent, "ExternalCancelRequested") == 1 })
	child.complete(first)
	canceling := child.poll()
	require.Equal(e, 1, child.count("", "CancelRequested"))
	child.complete(canceling, cancelWorkflow())
	child.awaitStatus("", canceled)
	e.eventually("the parent hears of it", func() bool { return e.count(parent, "ChildCanceled") == 1 })
}

func cancelChildOnly(e *env) {
	stranger := e.sub("stranger")
	run := stranger.start()
	parent := e.start()
	e.complete(e.poll(), cancelExternal(stranger.id, func(a *cancelAttributes) { a.ChildWorkflowOnly = true }))
	e.eventually("the cancel request fails", func() bool { return e.count(parent, "RequestCancelExternalFailed") == 1 })
	require.Zero(e, stranger.count(run, "CancelRequested"))
}

func startAndCancelChild(e *env) {
	run := e.start()
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(e.poll(), nil, e.startChild(), cancelExternal(e.child().id)))
	e.wantHistory(run, "Started TaskScheduled TaskStarted TaskFailed")
	require.Equal(e, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_ATTRIBUTES,
		e.event(run, "TaskFailed").GetWorkflowTaskFailedEventAttributes().Cause)
}

func childRetries(e *env) {
	child, first := e.startedChild(func(a *childAttributes) { a.RetryPolicy = retry(1, 2) })
	parent := e.info("").Execution.RunId
	child.complete(first, failWorkflow(failure("Bad")))
	again := child.poll()
	require.EqualValues(e, 2, startedOf(again.History.Events[0]).Attempt)
	require.Zero(e, e.count(parent, "ChildFailed"))
	child.complete(again, failWorkflow(failure("Worse")))
	e.complete(e.poll())
	require.Equal(e, "Worse happened", e.event(parent, "ChildFailed").GetChildWorkflowExecutionFailedEventAttributes().Failure.GetMessage())
}

func closePolicies(e *env) {
	policies := []enumspb.ParentClosePolicy{enumspb.PARENT_CLOSE_POLICY_TERMINATE, enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL, enumspb.PARENT_CLOSE_POLICY_ABANDON}
	child := func(i int) *env {
		c := e.child()
		return &env{T: e.T, suite: e.suite, id: fmt.Sprint(c.id, "-", i), queue: c.queue}
	}
	run := e.start()
	var commands []*command
	for i := range 12 {
		commands = append(commands, e.startChild(policy(policies[i%3]), func(a *childAttributes) { a.WorkflowId = child(i).id }))
	}
	e.complete(e.poll(), commands...)
	e.eventually("the children are there", func() bool { return e.count(run, "ChildStarted") == 12 })
	e.terminate()
	for i := range 12 {
		c := child(i)
		switch policies[i%3] {
		case enumspb.PARENT_CLOSE_POLICY_TERMINATE:
			c.awaitStatus("", terminated)
		case enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL:
			e.eventually("the child is asked to cancel", func() bool { return c.count("", "CancelRequested") == 1 })
			c.wantStatus("", running)
		}
	}
	for i := 2; i < 12; i += 3 {
		c := child(i)
		c.wantStatus("", running)
		require.Zero(e, c.count("", "CancelRequested"))
		c.terminate()
	}
}
