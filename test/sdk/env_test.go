package sdk

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const (
	// testMax bounds one test; a test that is well takes a few seconds.
	testMax = 90 * time.Second
	// pollEvery is how often a test looks whether something has happened.
	pollEvery = 50 * time.Millisecond
	// long is a time that a test never waits for.
	long = time.Hour
)

// env is what a test works with: a client, and a task queue of its own.
type env struct {
	*testing.T
	ctx   context.Context
	c     client.Client
	addr  string
	queue string
}

func newEnv(t *testing.T, addr string, c client.Client) *env {
	ctx, cancel := context.WithTimeout(context.Background(), testMax)
	t.Cleanup(cancel)
	e := &env{T: t, ctx: ctx, c: c, addr: addr}
	e.queue = e.unique()
	return e
}

// unique makes a name that no other test uses, and that tells whose it is.
func (e *env) unique() string {
	name := e.Name()[strings.LastIndexByte(e.Name(), '/')+1:]
	return name + "-" + uuid.NewString()[:8]
}

// code is what a worker runs, by the names under which it is registered: workflows take a workflow.Context, activities anything else.
type code map[string]any

func (c code) register(w worker.Worker) {
	for name, f := range c {
		if typ := reflect.TypeOf(f); typ.NumIn() > 0 && typ.In(0) == reflect.TypeFor[workflow.Context]() {
			w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
		} else {
			w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
		}
	}
}

// work runs a worker on the test's queue until the test ends, or it is stopped.
func (e *env) work(c code) worker.Worker {
	e.Helper()
	// Heartbeats go out as they are made, so that their answers come soon.
	o := worker.Options{MaxHeartbeatThrottleInterval: pollEvery, DefaultHeartbeatThrottleInterval: pollEvery}
	return e.workWith(e.c, e.queue, o, c)
}

func (e *env) workWith(c client.Client, queue string, o worker.Options, code code) worker.Worker {
	e.Helper()
	w := worker.New(c, queue, o)
	code.register(w)
	require.NoError(e, w.Start())
	e.Cleanup(w.Stop)
	return w
}

func (e *env) options() client.StartWorkflowOptions {
	return client.StartWorkflowOptions{ID: e.unique(), TaskQueue: e.queue}
}

func (e *env) start(name string, args ...any) client.WorkflowRun {
	e.Helper()
	return e.startWith(e.options(), name, args...)
}

func (e *env) startWith(o client.StartWorkflowOptions, name string, args ...any) client.WorkflowRun {
	e.Helper()
	run, err := e.c.ExecuteWorkflow(e.ctx, o, name, args...)
	require.NoError(e, err)
	return run
}

// result waits for a workflow's result.
func result[T any](e *env, run client.WorkflowRun) T {
	e.Helper()
	var v T
	require.NoError(e, run.Get(e.ctx, &v))
	return v
}

func (e *env) done(run client.WorkflowRun) {
	e.Helper()
	require.NoError(e, run.Get(e.ctx, nil))
}

// failure waits for the error that ends a workflow.
func (e *env) failure(run client.WorkflowRun) error {
	e.Helper()
	err := run.Get(e.ctx, nil)
	require.Error(e, err)
	require.NoError(e, e.ctx.Err(), "the workflow has not ended: %v", err)
	return err
}

func (e *env) signal(run client.WorkflowRun, name string, arg any) {
	e.Helper()
	require.NoError(e, e.c.SignalWorkflow(e.ctx, run.GetID(), "", name, arg))
}

func query[T any](e *env, run client.WorkflowRun, name string, args ...any) T {
	e.Helper()
	value, err := e.c.QueryWorkflow(e.ctx, run.GetID(), run.GetRunID(), name, args...)
	require.NoError(e, err)
	var v T
	require.NoError(e, value.Get(&v))
	return v
}

func update[T any](e *env, run client.WorkflowRun, name string, args ...any) T {
	e.Helper()
	h, err := e.c.UpdateWorkflow(e.ctx, client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), UpdateName: name, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.NoError(e, err)
	var v T
	require.NoError(e, h.Get(e.ctx, &v))
	return v
}

// events is a history.
type events []*historypb.HistoryEvent

// history reads the run that was started, and checks that its event ids are dense.
func (e *env) history(run client.WorkflowRun) events {
	e.Helper()
	return e.historyOf(run.GetID(), run.GetRunID())
}

func (e *env) historyOf(id, runID string) events {
	e.Helper()
	var all events
	for it := e.c.GetWorkflowHistory(e.ctx, id, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		event, err := it.Next()
		require.NoError(e, err)
		require.EqualValues(e, len(all)+1, event.EventId, "event ids are dense")
		all = append(all, event)
	}
	return all
}

func (h events) all(typ enumspb.EventType) events {
	var found events
	for _, event := range h {
		if event.EventType == typ {
			found = append(found, event)
		}
	}
	return found
}

func (h events) count(typ enumspb.EventType) int { return len(h.all(typ)) }

// one returns the only event of a type.
func (h events) one(e *env, typ enumspb.EventType) *historypb.HistoryEvent {
	e.Helper()
	found := h.all(typ)
	require.Len(e, found, 1, "events of type %s in:\n%s", typ, h)
	return found[0]
}

func (h events) String() string {
	var b strings.Builder
	for _, event := range h {
		fmt.Fprintf(&b, "%4d %s\n", event.EventId, event.EventType)
	}
	return b.String()
}

// eventually waits until a condition holds. It looks from the test's own goroutine, so that the condition may fail the test.
func (e *env) eventually(what string, condition func() bool) {
	e.Helper()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-e.ctx.Done():
			require.FailNow(e, "it never came to this: "+what)
		}
	}
}

// awaitEvents waits until a run has so many events of a type.
func (e *env) awaitEvents(run client.WorkflowRun, typ enumspb.EventType, count int) {
	e.Helper()
	e.eventually(fmt.Sprintf("%d events of type %s", count, typ), func() bool {
		it := e.c.GetWorkflowHistory(e.ctx, run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		found := 0
		for it.HasNext() {
			event, err := it.Next()
			if err != nil {
				return false
			}
			if event.EventType == typ {
				found++
			}
		}
		return found >= count
	})
}

func (e *env) status(run client.WorkflowRun) enumspb.WorkflowExecutionStatus {
	e.Helper()
	d, err := e.c.DescribeWorkflowExecution(e.ctx, run.GetID(), run.GetRunID())
	require.NoError(e, err)
	return d.WorkflowExecutionInfo.Status
}

// closed waits for an execution that the test has no handle of, such as a child.
func (e *env) closed(id, runID string) enumspb.WorkflowExecutionStatus {
	e.Helper()
	var status enumspb.WorkflowExecutionStatus
	e.eventually("the workflow "+id+" closes", func() bool {
		d, err := e.c.DescribeWorkflowExecution(e.ctx, id, runID)
		if err == nil {
			status = d.WorkflowExecutionInfo.Status
		}
		return status > enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	})
	return status
}

// receive waits for something that a workflow or an activity tells the test.
func receive[T any](e *env, c <-chan T) T {
	e.Helper()
	select {
	case v := <-c:
		return v
	case <-e.ctx.Done():
		require.FailNow(e, "nothing was received")
		panic("not reached")
	}
}

// withActivity makes the options of most activities: a minute to run.
func withActivity(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
}

func withLocalActivity(ctx workflow.Context) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
}
