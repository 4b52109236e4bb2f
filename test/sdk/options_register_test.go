package sdk

import (
	"context"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var registerActivityOptions = map[string]option{
	"Name":                          runs(registerActivityName),
	"DisableAlreadyRegisteredCheck": clientSide("the worker's registry does not panic when a name is registered twice"),
	"SkipInvalidStructFunctions":    clientSide("the worker's registry leaves out what is no activity"),
}

func registerActivityName(e *env) {
	w := worker.New(e.c, e.queue, worker.Options{})
	w.RegisterActivityWithOptions(func(ctx context.Context) (string, error) { return activity.GetInfo(ctx).ActivityType.Name, nil }, activity.RegisterOptions{Name: "named"})
	code{"main": func(ctx workflow.Context) (name string, err error) {
		err = workflow.ExecuteActivity(withActivity(ctx), "named").Get(ctx, &name)
		return name, err
	}}.register(w)
	require.NoError(e, w.Start())
	e.Cleanup(w.Stop)
	run := e.start("main")
	require.Equal(e, "named", result[string](e, run))
	scheduled := e.history(run).one(e, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED).GetActivityTaskScheduledEventAttributes()
	require.Equal(e, "named", scheduled.ActivityType.Name)
}

var registerWorkflowOptions = map[string]option{
	"Name":                          runs(registerWorkflowName),
	"DisableAlreadyRegisteredCheck": clientSide("the worker's registry does not panic when a name is registered twice"),
	"VersioningBehavior":            runs(registerVersioningBehavior),
}

func registerWorkflowName(e *env) {
	w := worker.New(e.c, e.queue, worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (string, error) { return workflow.GetInfo(ctx).WorkflowType.Name, nil }, workflow.RegisterOptions{Name: "named"})
	require.NoError(e, w.Start())
	e.Cleanup(w.Stop)
	run := e.start("named")
	require.Equal(e, "named", result[string](e, run))
	require.Equal(e, []string{run.GetID()}, e.list("WorkflowType = 'named' AND TaskQueue = '"+e.queue+"'"))
}
