package sdk

import (
	"fmt"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// This server does not route work by the versions of workers yet. What these tests hold it to until then: it never gives a versioned worker
// the tasks of others, and it keeps and shows the version that a workflow was told to run on. The refusals fail on the day when versioned
// workers are served; then they have to show which version gets what.

func (e *env) version(build string) worker.WorkerDeploymentVersion {
	return worker.WorkerDeploymentVersion{DeploymentName: e.queue, BuildID: build}
}

// versioned are the options of a worker that is a version of a deployment.
func (e *env) versioned(build string) worker.Options {
	return worker.Options{DeploymentOptions: worker.DeploymentOptions{
		UseVersioning: true, Version: e.version(build), DefaultVersioningBehavior: workflow.VersioningBehaviorPinned,
	}}
}

// both makes a worker poll for workflow and for activity tasks.
var both = code{"main": func(ctx workflow.Context) error { return nil }, "act": func() error { return nil }}

// requireRefused checks that the polls of a worker, which is behind the link, are refused, and that its queue's work goes to a worker
// without versions.
func (e *env) requireRefused(l *link, code codes.Code) {
	e.Helper()
	for _, method := range []string{"PollWorkflowTaskQueue", "PollActivityTaskQueue"} {
		e.eventually(method+" returns", func() bool { return l.returned(method) > 0 })
	}
	e.workWith(e.c, e.queue, worker.Options{Identity: "plain"}, nothing)
	for range 4 {
		run := e.start("main")
		e.done(run)
		require.Equal(e, "plain", e.history(run).one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED).GetWorkflowTaskStartedEventAttributes().Identity)
	}
	for _, method := range []string{"PollWorkflowTaskQueue", "PollActivityTaskQueue"} {
		for _, err := range l.results(method) {
			require.Equal(e, code, status.Code(err), "versioned workers get tasks now: assert which ones. %s: %v", method, err)
		}
	}
}

// A version of a deployment gets no tasks.
func workerDeployment(e *env) {
	c, link := e.dial(client.Options{})
	e.workWith(c, e.queue, e.versioned("one"), both)
	e.requireRefused(link, codes.Unimplemented)
}

// Only versioned workers may have workflows with a behavior; without it, and without a default, they do not start.
func registerVersioningBehavior(e *env) {
	c, link := e.dial(client.Options{})
	o := e.versioned("one")
	o.DeploymentOptions.DefaultVersioningBehavior = workflow.VersioningBehaviorUnspecified
	require.Panics(e, func() {
		worker.New(c, e.queue, o).RegisterWorkflowWithOptions(waitEnd, workflow.RegisterOptions{Name: "main"})
	})
	w := worker.New(c, e.queue, o)
	w.RegisterActivity(func() error { return nil })
	w.RegisterWorkflowWithOptions(waitEnd, workflow.RegisterOptions{Name: "main", VersioningBehavior: workflow.VersioningBehaviorPinned})
	require.NoError(e, w.Start())
	e.Cleanup(w.Stop)
	e.requireRefused(link, codes.Unimplemented)
}

// overrides are the ways to say on which version a workflow runs, and what they are for the server.
func (e *env) overrides() map[string]client.VersioningOverride {
	return map[string]client.VersioningOverride{
		fmt.Sprintf("pinned %s.other", e.queue): &client.PinnedVersioningOverride{Version: e.version("other")},
		"auto-upgrade":                          &client.AutoUpgradeVersioningOverride{},
		"none":                                  nil,
	}
}

// overrideName renders an override as the keys of overrides do.
func overrideName(o *workflowpb.VersioningOverride) string {
	switch {
	case o == nil:
		return "none"
	case o.GetAutoUpgrade():
		return "auto-upgrade"
	case o.GetPinned().GetBehavior() == workflowpb.VersioningOverride_PINNED_OVERRIDE_BEHAVIOR_PINNED:
		version := o.GetPinned().GetVersion()
		return fmt.Sprintf("pinned %s.%s", version.GetDeploymentName(), version.GetBuildId())
	default:
		return o.String()
	}
}

// requireOverride checks what a run's first event and its description say of its override.
func (e *env) requireOverride(want, id string) {
	e.Helper()
	require.Equal(e, want, overrideName(e.historyOf(id, "")[0].GetWorkflowExecutionStartedEventAttributes().GetVersioningOverride()))
	d, err := e.c.DescribeWorkflowExecution(e.ctx, id, "")
	require.NoError(e, err)
	require.Equal(e, want, overrideName(d.WorkflowExecutionInfo.GetVersioningInfo().GetVersioningOverride()))
}

// The override stays with the run.
func startVersioningOverride(e *env) {
	for name, override := range e.overrides() {
		o := e.options()
		o.VersioningOverride = override
		run := e.startWith(o, "main")
		e.requireOverride(name, run.GetID())
		require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough"))
		e.requireOverride(name, run.GetID())
	}
}

// The override stands in the event that announces the child, and stays with the child.
func childVersioningOverride(e *env) {
	for name, override := range e.overrides() {
		o := workflow.ChildWorkflowOptions{WorkflowID: e.unique(), TaskQueue: e.unique(), VersioningOverride: override}
		w := e.work(code{"main": parent(o)})
		run := e.start("main")
		e.awaitEvents(run, enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, 1)
		initiated := e.history(run).one(e, enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED).GetStartChildWorkflowExecutionInitiatedEventAttributes()
		require.Equal(e, name, overrideName(initiated.GetVersioningOverride()))
		e.requireOverride(name, o.WorkflowID)
		require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough"))
		w.Stop()
	}
}
