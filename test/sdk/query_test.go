package sdk

import (
	"context"
	"errors"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var queryFeatures = group{"query", map[string]func(*env){
	"direct":  queryDirect,
	"during":  queryDuring,
	"closed":  queryClosed,
	"failing": queryFailing,
	"reject":  queryReject,
	"stack":   queryStack,
	"polled":  queryPolled,
}}

// counter is a workflow that adds up signals until it gets 0, and answers queries.
func counter(ctx workflow.Context) (sum int, err error) {
	if err := workflow.SetQueryHandler(ctx, "sum", func(factor int) (int, error) { return factor * sum, nil }); err != nil {
		return 0, err
	}
	if err := workflow.SetQueryHandler(ctx, "broken", func() (int, error) { return 0, errors.New("no answer") }); err != nil {
		return 0, err
	}
	for {
		var n int
		workflow.GetSignalChannel(ctx, "add").Receive(ctx, &n)
		if n == 0 {
			return sum, nil
		}
		sum += n
	}
}

// A query sees what was signalled before it, and leaves no trace.
func queryDirect(e *env) {
	e.work(code{"main": counter})
	run := e.start("main")
	want := 0
	for n := 1; n <= 5; n++ {
		e.signal(run, "add", n)
		want += n
		require.Equal(e, 2*want, query[int](e, run, "sum", 2))
	}
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 1)
	before := e.history(run)
	require.Equal(e, want, query[int](e, run, "sum", 1))
	require.Len(e, e.history(run), len(before))
	e.signal(run, "add", 0)
	require.Equal(e, want, result[int](e, run))
}

// A query that comes while a task runs is answered with that task, or after it, but not before.
func queryDuring(e *env) {
	running, release := make(chan bool, 10), make(chan bool)
	e.work(code{
		"block": func(ctx context.Context) error {
			running <- true
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		},
		"main": func(ctx workflow.Context) error {
			state := "new"
			if err := workflow.SetQueryHandler(ctx, "state", func() (string, error) { return state, nil }); err != nil {
				return err
			}
			workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
			err := workflow.ExecuteLocalActivity(withLocalActivity(ctx), "block").Get(ctx, nil)
			state = "after"
			workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
			return err
		},
	})
	run := e.start("main")
	require.Equal(e, "new", query[string](e, run, "state"))
	e.signal(run, "go", nil)
	receive(e, running)
	asked, answer := make(chan bool), make(chan string, 1)
	go func() {
		close(asked)
		value, err := e.c.QueryWorkflow(e.ctx, run.GetID(), run.GetRunID(), "state")
		var state string
		if err == nil {
			err = value.Get(&state)
		}
		if err != nil {
			state = err.Error()
		}
		answer <- state
	}()
	receive(e, asked)
	close(release)
	require.Equal(e, "after", receive(e, answer))
	e.signal(run, "end", nil)
	e.done(run)
}

func queryClosed(e *env) {
	w := e.work(code{"main": counter})
	run := e.start("main")
	e.signal(run, "add", 3)
	e.signal(run, "add", 0)
	require.Equal(e, 3, result[int](e, run))
	require.Equal(e, 30, query[int](e, run, "sum", 10))
	// Another worker, which has never seen the workflow, replays it.
	w.Stop()
	e.work(code{"main": counter})
	require.Equal(e, 33, query[int](e, run, "sum", 11))
}

func queryFailing(e *env) {
	e.work(code{"main": counter})
	run := e.start("main")
	var failed *serviceerror.QueryFailed
	_, err := e.c.QueryWorkflow(e.ctx, run.GetID(), "", "broken")
	require.ErrorAs(e, err, &failed)
	require.ErrorContains(e, err, "no answer")
	_, err = e.c.QueryWorkflow(e.ctx, run.GetID(), "", "unknown")
	require.ErrorAs(e, err, &failed)
	require.ErrorContains(e, err, "unknown")
	_, err = e.c.QueryWorkflow(e.ctx, e.unique(), "", "sum", 1)
	require.ErrorAs(e, err, new(*serviceerror.NotFound))
	e.signal(run, "add", 0)
	e.done(run)
}

func queryReject(e *env) {
	e.work(code{"main": counter})
	run := e.start("main")
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough"))
	answer, err := e.c.QueryWorkflowWithOptions(e.ctx, &client.QueryWorkflowWithOptionsRequest{
		WorkflowID: run.GetID(), QueryType: "sum", Args: []any{1}, QueryRejectCondition: enumspb.QUERY_REJECT_CONDITION_NOT_OPEN,
	})
	require.NoError(e, err)
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, answer.QueryRejected.GetStatus())
}

func queryStack(e *env) {
	e.work(code{"main": counter})
	run := e.start("main")
	require.Contains(e, query[string](e, run, client.QueryTypeStackTrace), "counter")
	e.signal(run, "add", 0)
	e.done(run)
}

// Each query that a worker is given is one that it can answer: it comes to the worker once.
func queryPolled(e *env) {
	const count = 5
	c, link := e.dial(client.Options{})
	e.workWith(c, e.queue, worker.Options{}, code{"main": counter})
	run := e.start("main")
	e.awaitIdle(run, 1)
	for range count {
		require.Zero(e, query[int](e, run, "sum", 1))
	}
	polls, tasks := seen[*workflowservice.PollWorkflowTaskQueueRequest, *workflowservice.PollWorkflowTaskQueueResponse](link)
	given := 0
	for i, task := range tasks {
		if task.Query != nil {
			given++
			require.NotNil(e, task.History, "the SDK panics over a task without a history")
			require.Equal(e, cached(), polls[i].TaskQueue.Kind == enumspb.TASK_QUEUE_KIND_STICKY)
		}
	}
	require.Equal(e, count, given)
	e.signal(run, "add", 0)
	e.done(run)
}
