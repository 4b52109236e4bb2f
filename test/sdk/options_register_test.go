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

// A pinned workflow stays on the version on which it began, an auto-upgrading one moves to the current version.
func registerVersioningBehavior(e *env) {
	for _, build := range []string{"one", "two"} {
		w := worker.New(e.c, e.queue, worker.Options{DeploymentOptions: worker.DeploymentOptions{UseVersioning: true, Version: e.version(build)}})
		w.RegisterWorkflowWithOptions(untilEnd(build), workflow.RegisterOptions{Name: "pinned", VersioningBehavior: workflow.VersioningBehaviorPinned})
		w.RegisterWorkflowWithOptions(untilEnd(build), workflow.RegisterOptions{Name: "upgrading", VersioningBehavior: workflow.VersioningBehaviorAutoUpgrade})
		require.NoError(e, w.Start())
		e.Cleanup(w.Stop)
	}
	e.setCurrent("one")
	pinned, upgrading := e.start("pinned"), e.start("upgrading")
	e.awaitIdle(pinned, 1)
	e.awaitIdle(upgrading, 1)
	e.setCurrent("two")
	e.signal(pinned, "end", nil)
	e.signal(upgrading, "end", nil)
	require.Equal(e, "one", result[string](e, pinned))
	require.Equal(e, "two", result[string](e, upgrading))
}

// untilEnd is a workflow that waits for its end and returns the build that it ends on.
func untilEnd(build string) func(workflow.Context) (string, error) {
	return func(ctx workflow.Context) (string, error) {
		workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
		return build, nil
	}
}
