package sdk

//lint:file-ignore SA1019 what is deprecated has to work as long as the SDK has it

import (
	"errors"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc/codes"
)

func attributeUntyped(e *env) {
	e.withAttributes()
	e.work(code{"main": func(ctx workflow.Context) error {
		return workflow.UpsertSearchAttributes(ctx, map[string]any{"TestKeyword": "upserted"})
	}})
	o := e.options()
	o.SearchAttributes = map[string]any{"TestInt": 5, "TestKeyword": "started"}
	run := e.startWith(o, "main")
	e.done(run)
	require.Equal(e, []string{run.GetID()}, e.list("TestInt = 5 AND TestKeyword = 'upserted' AND WorkflowId = '"+run.GetID()+"'"))
}

func activityVersioningIntent(e *env) {
	e.work(code{
		"act": func() error { return nil },
		"main": func(ctx workflow.Context) error {
			for _, intent := range []temporal.VersioningIntent{temporal.VersioningIntentUnspecified, temporal.VersioningIntentUseAssignmentRules} {
				ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, VersioningIntent: intent})
				if err := workflow.ExecuteActivity(ctx, "act").Get(ctx, nil); err != nil {
					return err
				}
			}
			return nil
		},
	})
	run := e.start("main")
	e.done(run)
	var got []bool
	for _, event := range e.history(run).all(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED) {
		got = append(got, event.GetActivityTaskScheduledEventAttributes().GetUseWorkflowBuildId())
	}
	require.Equal(e, []bool{true, false}, got)
}

// A child in a namespace that does not exist is refused, and with it the task.
func childNamespace(e *env) {
	c, link := e.dial(client.Options{})
	e.workWith(c, e.queue, worker.Options{}, code{"main": parent(workflow.ChildWorkflowOptions{Namespace: "no-such-namespace"})})
	run := e.start("main")
	e.eventually("the server refuses the child", func() bool { return link.errorsOf("RespondWorkflowTaskCompleted") != nil })
	require.ErrorContains(e, link.errorsOf("RespondWorkflowTaskCompleted"), "no-such-namespace")
	require.NoError(e, e.c.TerminateWorkflow(e.ctx, run.GetID(), "", "enough"))
}

func childAttributes(e *env) {
	e.withAttributes()
	id := e.runChild(workflow.ChildWorkflowOptions{SearchAttributes: map[string]any{"TestKeyword": "child " + e.queue}})
	require.Equal(e, []string{id}, e.list("TestKeyword = 'child "+e.queue+"'"))
}

func childVersioningIntent(e *env) {
	e.work(code{
		"child": func(ctx workflow.Context) error { return nil },
		"main": func(ctx workflow.Context) error {
			unspecified, rules := temporal.VersioningIntentUnspecified, temporal.VersioningIntentUseAssignmentRules
			return errors.Join(
				parent(workflow.ChildWorkflowOptions{VersioningIntent: unspecified})(ctx), parent(workflow.ChildWorkflowOptions{VersioningIntent: rules})(ctx),
			)
		},
	})
	run := e.start("main")
	e.done(run)
	var got []bool
	for _, event := range e.history(run).all(enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED) {
		got = append(got, event.GetStartChildWorkflowExecutionInitiatedEventAttributes().GetInheritBuildId())
	}
	require.Equal(e, []bool{true, false}, got)
}

// The build of a worker that does not use versioning stands in the history.
func workerBuildID(e *env) {
	e.workWith(e.c, e.queue, worker.Options{BuildID: "build-7"}, nothing)
	run := e.start("main")
	e.done(run)
	completed := e.history(run).one(e, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED).GetWorkflowTaskCompletedEventAttributes()
	require.Equal(e, "build-7", completed.GetWorkerVersion().GetBuildId())
}

// Versioning rules are off, as in the namespaces of other servers: a worker that waits for one gets nothing.
func workerBuildIDVersioning(e *env) {
	c, link := e.dial(client.Options{})
	e.workWith(c, e.queue, worker.Options{BuildID: "nobody-asked-for-it", UseBuildIDForVersioning: true}, both)
	e.requireRefused(link, codes.PermissionDenied)
}
