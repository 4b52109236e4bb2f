package sdk

import (
	"errors"
	"sync/atomic"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

var recordFeatures = group{"record", map[string]func(*env){
	"side-effect":         recordSideEffect,
	"mutable-side-effect": recordMutableSideEffect,
	"version":             recordVersion,
	"version-upgrade":     recordVersionUpgrade,
	"memo":                recordMemo,
	"details":             recordDetails,
}}

// A side effect happens once, however often the workflow is replayed.
func recordSideEffect(e *env) {
	var effects atomic.Int32
	code := code{"main": func(ctx workflow.Context) (int32, error) {
		var before, after int32
		effect := func(workflow.Context) any { return effects.Add(1) }
		if err := workflow.SideEffect(ctx, effect).Get(&before); err != nil {
			return 0, err
		}
		workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
		err := workflow.SideEffect(ctx, effect).Get(&after)
		return 10*before + after, err
	}}
	w := e.work(code)
	run := e.start("main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 1)
	w.Stop()
	worker.PurgeStickyWorkflowCache() // the next worker of this process would find the workflow there
	e.work(code)
	e.signal(run, "go", nil)
	require.EqualValues(e, 12, result[int32](e, run))
	require.Equal(e, 2, e.history(run).count(enumspb.EVENT_TYPE_MARKER_RECORDED))
}

// A value that does not change is recorded once.
func recordMutableSideEffect(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (got []int, err error) {
		for _, value := range []int{1, 1, 2, 2, 1} {
			var n int
			equal := func(a, b any) bool { return a.(int) == b.(int) }
			if err := workflow.MutableSideEffect(ctx, "config", func(workflow.Context) any { return value }, equal).Get(&n); err != nil {
				return nil, err
			}
			got = append(got, n)
		}
		return got, nil
	}})
	run := e.start("main")
	require.Equal(e, []int{1, 1, 2, 2, 1}, result[[]int](e, run))
	require.Equal(e, 3, e.history(run).count(enumspb.EVENT_TYPE_MARKER_RECORDED))
}

// A version shows as a search attribute, too.
func recordVersion(e *env) {
	e.work(code{"main": func(ctx workflow.Context) (workflow.Version, error) {
		workflow.GetVersion(ctx, "first", workflow.DefaultVersion, 1)
		return workflow.GetVersion(ctx, "second", workflow.DefaultVersion, 3), nil
	}})
	run := e.start("main")
	require.EqualValues(e, 3, result[workflow.Version](e, run))
	require.Equal(e, 2, e.history(run).count(enumspb.EVENT_TYPE_MARKER_RECORDED))
	require.Equal(e, []string{run.GetID()}, e.list("TemporalChangeVersion = 'second-3' AND TaskQueue = '"+e.queue+"'"))
}

// A workflow that began with the old code goes on with it; one that begins later has the new.
func recordVersionUpgrade(e *env) {
	before := code{"main": func(ctx workflow.Context) (string, error) {
		workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
		return "old", nil
	}}
	after := code{"main": func(ctx workflow.Context) (string, error) {
		path := "new"
		if workflow.GetVersion(ctx, "change", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
			path = "old"
		}
		workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
		return path, nil
	}}
	w := e.work(before)
	old := e.start("main")
	e.awaitEvents(old, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 1)
	w.Stop()
	worker.PurgeStickyWorkflowCache()
	e.work(after)
	young := e.start("main")
	e.signal(old, "go", nil)
	e.signal(young, "go", nil)
	require.Equal(e, "old", result[string](e, old))
	require.Equal(e, "new", result[string](e, young))
}

func memoValue(e *env, memo *commonpb.Memo, key string) (s string) {
	e.Helper()
	require.NoError(e, converter.GetDefaultDataConverter().FromPayload(memo.GetFields()[key], &s))
	return s
}

func recordMemo(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error {
		if err := workflow.UpsertMemo(ctx, map[string]any{"b": "new", "c": "added", "gone": nil}); err != nil {
			return err
		}
		fields := workflow.GetInfo(ctx).Memo.Fields
		if len(fields) != 3 {
			return errors.New("the workflow does not see its memo")
		}
		return nil
	}})
	o := e.options()
	o.Memo = map[string]any{"a": "kept", "b": "old", "gone": "x"}
	run := e.startWith(o, "main")
	e.done(run)
	d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), "")
	require.NoError(e, err)
	memo := d.WorkflowExecutionInfo.Memo
	require.Len(e, memo.Fields, 3)
	require.Equal(e, []string{"kept", "new", "added"}, []string{memoValue(e, memo, "a"), memoValue(e, memo, "b"), memoValue(e, memo, "c")})
	e.history(run).one(e, enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED)
}

// What a workflow says of itself is there for people to see.
func recordDetails(e *env) {
	e.work(code{"main": func(ctx workflow.Context) error {
		workflow.SetCurrentDetails(ctx, "half way")
		workflow.NewTimerWithOptions(ctx, long, workflow.TimerOptions{Summary: "the long wait"})
		workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
		return nil
	}})
	run := e.start("main")
	e.awaitEvents(run, enumspb.EVENT_TYPE_TIMER_STARTED, 1)
	timer := e.history(run).one(e, enumspb.EVENT_TYPE_TIMER_STARTED)
	require.JSONEq(e, `"the long wait"`, string(timer.GetUserMetadata().GetSummary().GetData()))
	value, err := e.c.QueryWorkflow(e.ctx, run.GetID(), "", "__temporal_workflow_metadata")
	require.NoError(e, err)
	var metadata sdkpb.WorkflowMetadata
	require.NoError(e, value.Get(&metadata))
	require.Equal(e, "half way", metadata.CurrentDetails)
	e.signal(run, "end", nil)
	e.done(run)
}
