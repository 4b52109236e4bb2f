package sdk

import (
	"context"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var eagerFeatures = group{"eager", map[string]func(*env){
	"start":           eagerStart,
	"activity":        eagerActivity,
	"start-no-worker": eagerStartWithoutWorker,
}}

// The first task comes with the answer to the start.
func eagerStart(e *env) {
	c, link := e.dial(client.Options{})
	e.workWith(c, e.queue, worker.Options{}, code{"main": func(ctx workflow.Context) (string, error) { return "eager", nil }})
	o := e.options()
	o.EnableEagerStart = true
	run, err := c.ExecuteWorkflow(e.ctx, o, "main")
	require.NoError(e, err)
	require.Equal(e, "eager", result[string](e, run))
	_, replies := seen[*workflowservice.StartWorkflowExecutionRequest, *workflowservice.StartWorkflowExecutionResponse](link)
	require.Len(e, replies, 1)
	require.NotNil(e, replies[0].EagerWorkflowTask, "the server gave no task")
	require.True(e, e.history(run)[0].GetWorkflowExecutionStartedEventAttributes().EagerExecutionAccepted)
}

func eagerStartWithoutWorker(e *env) {
	o := e.options()
	o.EnableEagerStart = true
	run := e.startWith(o, "main")
	e.work(code{"main": func(ctx workflow.Context) error { return nil }})
	e.done(run)
}

// requestedEager counts the activities that a worker asked to get at once, and those that it got.
func requestedEager(l *link) (asked, got int) {
	requests, replies := seen[*workflowservice.RespondWorkflowTaskCompletedRequest, *workflowservice.RespondWorkflowTaskCompletedResponse](l)
	for i, request := range requests {
		for _, command := range request.Commands {
			if command.GetScheduleActivityTaskCommandAttributes().GetRequestEagerExecution() {
				asked++
			}
		}
		got += len(replies[i].ActivityTasks)
	}
	return asked, got
}

// eagerRun runs a workflow with so many activities at once and counts them.
func (e *env) eagerRun(o worker.Options, activities int, ao workflow.ActivityOptions) (asked, got int) {
	c, link := e.dial(client.Options{})
	ao.StartToCloseTimeout = long
	e.workWith(c, e.queue, o, code{
		"act": func(ctx context.Context) error { return nil },
		"main": func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, ao)
			var futures []workflow.Future
			for range activities {
				futures = append(futures, workflow.ExecuteActivity(ctx, "act"))
			}
			for _, f := range futures {
				if err := f.Get(ctx, nil); err != nil {
					return err
				}
			}
			return nil
		},
	})
	e.done(e.start("main"))
	return requestedEager(link)
}

// Activities come with the answer to the task that schedules them.
func eagerActivity(e *env) {
	asked, got := e.eagerRun(worker.Options{}, 2, workflow.ActivityOptions{})
	require.Equal(e, 2, asked)
	require.Equal(e, 2, got)
}
