package history

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	historypb "github.com/perdure/perdure/api/history/v1"
)

const childQueue = "children"

func startChildCommand(id string, policy enumspb.ParentClosePolicy) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION,
		Attributes: &commandpb.Command_StartChildWorkflowExecutionCommandAttributes{StartChildWorkflowExecutionCommandAttributes: &commandpb.StartChildWorkflowExecutionCommandAttributes{
			WorkflowId: id, WorkflowType: &commonpb.WorkflowType{Name: "child"}, Input: payload("child input"),
			TaskQueue: &taskqueuepb.TaskQueue{Name: childQueue}, ParentClosePolicy: policy,
		}},
	}
}

func (h *host) startParent(policy enumspb.ParentClosePolicy) (parent string) {
	parent = h.run("parent")
	h.complete(h.task(), startChildCommand("child", policy))
	task := h.task() // the child has started
	require.Contains(h.t, types(task.History.Events), "ChildWorkflowExecutionStarted")
	h.complete(task)
	return parent
}

func TestChild(t *testing.T) {
	h := startHost(t)
	parent := h.startParent(enumspb.PARENT_CLOSE_POLICY_UNSPECIFIED)
	child := h.taskOn(childQueue)
	started := child.History.Events[0].GetWorkflowExecutionStartedEventAttributes()
	require.Equal(t, parent, started.ParentWorkflowExecution.RunId)
	require.Equal(t, "child input", string(started.Input.Payloads[0].Data))
	row := h.db.Visibility(child.WorkflowExecution.RunId)
	require.Equal(t, "parent", row.ParentWorkflowID)
	require.Equal(t, parent, row.RootRunID)
	h.complete(child, completeWorkflow())
	task := h.task()
	names := types(task.History.Events)
	require.Equal(t, "ChildWorkflowExecutionCompleted", names[len(names)-3])
	require.Empty(t, h.describe("parent", "").PendingChildren)
	h.complete(task, completeWorkflow())
}

func TestChildThatExists(t *testing.T) {
	h := startHost(t)
	h.run("child")
	h.task()
	h.run("parent")
	h.complete(h.task(), startChildCommand("child", enumspb.PARENT_CLOSE_POLICY_UNSPECIFIED))
	task := h.task()
	names := types(task.History.Events)
	require.Equal(t, "StartChildWorkflowExecutionFailed", names[len(names)-3])
}

func TestParentClosePolicies(t *testing.T) {
	for policy, want := range map[enumspb.ParentClosePolicy]func(*testing.T, *host){
		enumspb.PARENT_CLOSE_POLICY_UNSPECIFIED: func(t *testing.T, h *host) { // terminate
			h.becomes("child", enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED)
		},
		enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL: func(t *testing.T, h *host) {
			task := h.taskOn(childQueue)
			require.Contains(t, types(task.History.Events), "WorkflowExecutionCancelRequested")
		},
		enumspb.PARENT_CLOSE_POLICY_ABANDON: func(t *testing.T, h *host) {
			h.complete(h.taskOn(childQueue), completeWorkflow())
		},
	} {
		t.Run(policy.String(), func(t *testing.T) {
			h := startHost(t)
			parent := h.startParent(policy)
			h.complete(h.taskOn(childQueue))
			require.NoError(t, h.signal("child", "wake"))
			require.NoError(t, h.terminateRun("parent", ""))
			h.acknowledged("parent", parent)
			want(t, h)
		})
	}
}

// becomes waits until the current run has a status.
func (h *host) becomes(id string, status enumspb.WorkflowExecutionStatus) {
	h.t.Helper()
	for h.describe(id, "").WorkflowExecutionInfo.Status != status {
		require.True(h.t, sleep(h.ctx, time.Millisecond))
	}
}

func TestSignalAndCancelOfOtherWorkflows(t *testing.T) {
	h := startHost(t)
	h.run("target")
	h.complete(h.task())
	h.run("w")
	signalOther := func(id string, childOnly bool) *commandpb.Command {
		return &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_SignalExternalWorkflowExecutionCommandAttributes{
			SignalExternalWorkflowExecutionCommandAttributes: &commandpb.SignalExternalWorkflowExecutionCommandAttributes{
				Execution: execution(id, ""), SignalName: "hello", ChildWorkflowOnly: childOnly,
			},
		}}
	}
	cancelOther := func(id string) *commandpb.Command {
		return &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_RequestCancelExternalWorkflowExecutionCommandAttributes{
			RequestCancelExternalWorkflowExecutionCommandAttributes: &commandpb.RequestCancelExternalWorkflowExecutionCommandAttributes{WorkflowId: id},
		}}
	}
	next := func(command *commandpb.Command) string {
		task := h.task()
		for task.WorkflowExecution.WorkflowId != "w" {
			task = h.task() // the target's
		}
		h.complete(task, command)
		for {
			events := h.events("w", "")
			if last := events[len(events)-1]; last.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED {
				return events[len(events)-2].EventType.String()
			}
			require.True(t, sleep(h.ctx, time.Millisecond))
		}
	}
	require.Equal(t, "ExternalWorkflowExecutionSignaled", next(signalOther("target", false)))
	require.Equal(t, "SignalExternalWorkflowExecutionFailed", next(signalOther("target", true)))
	require.Equal(t, "SignalExternalWorkflowExecutionFailed", next(signalOther("nobody", false)))
	require.Equal(t, "SignalExternalWorkflowExecutionFailed", next(signalOther("w", false)))
	require.Equal(t, "ExternalWorkflowExecutionCancelRequested", next(cancelOther("target")))
	require.Equal(t, "RequestCancelExternalWorkflowExecutionFailed", next(cancelOther("nobody")))
	events := h.events("target", "")
	signaled := events[4].GetWorkflowExecutionSignaledEventAttributes()
	require.Equal(t, "hello", signaled.SignalName)
	require.Equal(t, "w", signaled.ExternalWorkflowExecution.WorkflowId)
}

// A parent that is reset to before the start of its child leaves the child alone until it starts it again: then the new child takes
// the place of the old one, whose end is no news for the parent.
func TestResetParentReplacesItsChild(t *testing.T) {
	for _, policy := range []enumspb.ParentClosePolicy{enumspb.PARENT_CLOSE_POLICY_TERMINATE, enumspb.PARENT_CLOSE_POLICY_ABANDON} {
		t.Run(policy.String(), func(t *testing.T) {
			h := startHost(t)
			parent := h.startParent(policy)
			first := h.taskOn(childQueue).WorkflowExecution.RunId
			out, err := h.ResetWorkflowExecution(h.ctx, &historypb.ResetWorkflowExecutionRequest{NamespaceId: h.id(), Request: &workflowservice.ResetWorkflowExecutionRequest{
				WorkflowExecution: execution("parent", ""), WorkflowTaskFinishEventId: 4, RequestId: "reset",
			}})
			require.NoError(t, err)
			h.acknowledged("parent", parent)
			require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, h.describe("child", "").WorkflowExecutionInfo.Status)

			h.complete(h.task(), startChildCommand("child", policy))
			names := types(h.task().History.Events)
			require.Equal(t, "ChildWorkflowExecutionStarted", names[len(names)-3])
			second := h.taskOn(childQueue).WorkflowExecution.RunId
			require.NotEqual(t, first, second)
			require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, h.describe("child", first).WorkflowExecutionInfo.Status)
			h.acknowledged("child", first)
			require.NotContains(t, types(h.events("parent", out.RunId)), "ChildWorkflowExecutionTerminated")
			require.Equal(t, second, h.describe("parent", "").PendingChildren[0].RunId)
		})
	}
}

func TestSignalsToOneWorkflowKeepTheirOrder(t *testing.T) {
	const count = 20
	h := startHost(t)
	h.run("target")
	h.complete(h.task())
	h.run("w")
	var commands []*commandpb.Command
	var want []string
	for i := range count {
		want = append(want, fmt.Sprint("signal ", i))
		commands = append(commands, &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION, Attributes: &commandpb.Command_SignalExternalWorkflowExecutionCommandAttributes{
			SignalExternalWorkflowExecutionCommandAttributes: &commandpb.SignalExternalWorkflowExecutionCommandAttributes{
				Execution: execution("target", ""), SignalName: want[i],
			},
		}})
	}
	h.complete(h.task(), commands...)
	var got []string
	for len(got) < count {
		got = nil
		for _, e := range h.events("target", "") {
			if a := e.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
				got = append(got, a.SignalName)
			}
		}
		require.True(t, sleep(h.ctx, time.Millisecond))
	}
	require.Equal(t, want, got)
}

// unreachable is a history service that cannot be reached until it is let through.
type unreachable struct {
	historypb.HistoryServiceClient
	down atomic.Bool
}

func (u *unreachable) StartChild(ctx context.Context, in *historypb.StartChildRequest, opts ...grpc.CallOption) (*historypb.StartChildResponse, error) {
	if u.down.Load() {
		return nil, serviceerror.NewUnavailable("no route")
	}
	return u.HistoryServiceClient.StartChild(ctx, in, opts...)
}

func unreachableFrom(h *host) *unreachable {
	u := &unreachable{HistoryServiceClient: h.history}
	u.down.Store(true)
	h.history = u
	return u
}

// An effect on another execution that keeps failing is put off: it is then a deadline of its run, not a goroutine.
func TestFailingEffectIsPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.ctx = t.Context()
		remote := unreachableFrom(h)
		h.run("parent")
		h.complete(h.task(), startChildCommand("child", enumspb.PARENT_CLOSE_POLICY_UNSPECIFIED))
		for h.effects.count() > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		remote.down.Store(false)
		require.Contains(t, types(h.task().History.Events), "ChildWorkflowExecutionStarted")
	})
}

// A host dies with a child's start under way: the next one finds the child, or starts it.
func TestChildSurvivesACrash(t *testing.T) {
	w := newWorld(t)
	h := w.start(Config{})
	unreachableFrom(h)
	h.run("parent")
	h.complete(h.task(), startChildCommand("child", enumspb.PARENT_CLOSE_POLICY_UNSPECIFIED))
	h.crash()
	h = w.start(Config{})
	require.Contains(t, types(h.task().History.Events), "ChildWorkflowExecutionStarted")
	h.complete(h.taskOn(childQueue), completeWorkflow())
}
