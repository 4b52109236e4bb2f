package history

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	historypb "github.com/perdure/perdure/api/history/v1"
)

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		_, err := h.PauseWorkflowExecution(h.ctx, &historypb.PauseWorkflowExecutionRequest{NamespaceId: h.id(), Request: &workflowservice.PauseWorkflowExecutionRequest{WorkflowId: "w", Reason: "wait"}})
		require.NoError(t, err)
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED, h.describe("w", "").WorkflowExecutionInfo.Status)
		out, err := h.query("w")
		require.NoError(t, err)
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED, out.QueryRejected.Status)
		in, err := h.queues.Take(h.ctx, testQueue)
		require.NoError(t, err)
		_, err = h.startTaskOf(in, uuid.NewString())
		require.Equal(t, codes.NotFound, code(err))
		_, err = h.UnpauseWorkflowExecution(h.ctx, &historypb.UnpauseWorkflowExecutionRequest{NamespaceId: h.id(), Request: &workflowservice.UnpauseWorkflowExecutionRequest{WorkflowId: "w"}})
		require.NoError(t, err)
		h.complete(h.task(), completeWorkflow())
	})
}

func TestUpdateOptions(t *testing.T) {
	h := startHost(t)
	run := h.run("w")
	out, err := h.UpdateWorkflowExecutionOptions(h.ctx, &historypb.UpdateWorkflowExecutionOptionsRequest{NamespaceId: h.id(), Request: &workflowservice.UpdateWorkflowExecutionOptionsRequest{
		WorkflowExecution:        execution("w", run),
		WorkflowExecutionOptions: &workflowpb.WorkflowExecutionOptions{Priority: &commonpb.Priority{PriorityKey: 1}},
		UpdateMask:               &fieldmaskpb.FieldMask{Paths: []string{"priority"}},
	}})
	require.NoError(t, err)
	require.EqualValues(t, 1, out.WorkflowExecutionOptions.Priority.PriorityKey)
	require.Contains(t, types(h.events("w", "")), "WorkflowExecutionOptionsUpdated")
}

func (h *host) reset(runID string, event int64) (string, error) {
	out, err := h.ResetWorkflowExecution(h.ctx, &historypb.ResetWorkflowExecutionRequest{NamespaceId: h.id(), Request: &workflowservice.ResetWorkflowExecutionRequest{
		WorkflowExecution: execution("w", runID), WorkflowTaskFinishEventId: event, Reason: "try again", RequestId: "reset-" + runID,
	}})
	return out.GetRunId(), err
}

func TestReset(t *testing.T) {
	w := newWorld(t)
	h := w.start(Config{})
	base := h.run("w")
	for _, bad := range []int64{-1, 0, 1, 2, 3, 99} {
		_, err := h.reset("", bad)
		require.Equal(t, codes.InvalidArgument, code(err), bad)
	}
	h.complete(h.task(), scheduleActivity("a"))
	h.completeActivity(h.activity())
	task := h.task() // 9
	require.NoError(t, h.signal("w", "while it runs"))
	require.NoError(t, h.signal("w", "and again"))

	run, err := h.reset(base, 4)
	require.NoError(t, err)
	require.Greater(t, run, base)
	again, err := h.reset(base, 4)
	require.NoError(t, err)
	require.Equal(t, run, again)
	_, err = h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken})
	require.EqualError(t, err, "Workflow task not found.")
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, h.describe("w", base).WorkflowExecutionInfo.Status)

	want := []string{
		"WorkflowExecutionStarted", "WorkflowTaskScheduled", "WorkflowTaskStarted", "WorkflowTaskFailed",
		"WorkflowExecutionSignaled", "WorkflowExecutionSignaled", "WorkflowTaskScheduled",
	}
	require.Equal(t, want, types(h.events("w", run)))
	h.stop()
	h = w.start(Config{}) // from its rows alone
	require.Equal(t, want, types(h.events("w", run)))
	task = h.task()
	require.Equal(t, run, task.WorkflowExecution.RunId)
	h.complete(task, scheduleActivity("a"))
	h.completeActivity(h.activity())
	h.complete(h.task(), completeWorkflow())

	closed, err := h.reset(run, 15) // of a closed run
	require.NoError(t, err)
	h.complete(h.task(), completeWorkflow())
	requireDense(t, h.events("w", closed))
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, h.describe("w", run).WorkflowExecutionInfo.Status)
}

// The start of a running task is a reset point like any other, though it is only in memory.
func TestResetToARunningTask(t *testing.T) {
	h := startHost(t)
	base := h.run("w")
	h.task()
	run, err := h.reset("", 3)
	require.NoError(t, err)
	require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowTaskScheduled", "WorkflowTaskStarted", "WorkflowTaskFailed", "WorkflowExecutionTerminated"},
		types(h.events("w", base)))
	require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowTaskScheduled", "WorkflowTaskStarted", "WorkflowTaskFailed", "WorkflowTaskScheduled"},
		types(h.events("w", run)))
	h.complete(h.task(), completeWorkflow())
}

// A snapshot deletes the rows in which a timer fired while a task was running. A reset behind must not let it fire again.
func TestResetAfterASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.ctx = t.Context()
		base := h.run("w")
		h.complete(h.task(), startTimer("t", time.Second))
		require.NoError(t, h.signal("w", "s"))
		task := h.task()
		time.Sleep(2 * time.Second) // the timer fires meanwhile, into the buffer
		h.complete(task)
		for range snapshotRows {
			h.complete(h.task())
			require.NoError(t, h.signal("w", "s"))
		}
		require.NotNil(t, h.db.Row(base).Snapshot)
		h.complete(h.task())
		events := h.readAll(100)
		last := events[len(events)-1]
		require.Equal(t, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, last.EventType)
		run, err := h.reset("", last.EventId)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		fired := 0
		for _, e := range h.events("w", run) {
			if e.EventType == enumspb.EVENT_TYPE_TIMER_FIRED {
				fired++
			}
		}
		require.Equal(t, 1, fired)
		require.Empty(t, h.describe("w", run).PendingActivities)
	})
}

func (h *host) delete(id, runID string) error {
	_, err := h.DeleteWorkflowExecution(h.ctx, &historypb.DeleteWorkflowExecutionRequest{
		NamespaceId: h.id(), Request: &workflowservice.DeleteWorkflowExecutionRequest{WorkflowExecution: execution(id, runID)},
	})
	return err
}

func TestDelete(t *testing.T) {
	h := startHost(t)
	require.Equal(t, codes.NotFound, code(h.delete("w", "")))
	run := h.run("w")
	h.complete(h.task(), completeWorkflow())
	require.NoError(t, h.delete("w", run))
	require.Nil(t, h.db.Row(run))
	require.EqualError(t, h.signal("w", "too late"), "workflow not found for ID: w")
	h.run("w") // the id is free
	require.NoError(t, h.delete("w", ""))
	require.Equal(t, codes.NotFound, code(h.signal("w", "too late")))
}

// A deletion that waits for the children is not forgotten when the host dies.
func TestDeleteOfAParentSurvivesCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.start(Config{})
		h.ctx = t.Context()
		parent := h.startParent(enumspb.PARENT_CLOSE_POLICY_TERMINATE)
		require.NoError(t, h.delete("parent", ""))
		require.NotNil(t, h.db.Row(parent), "the run owes its child an end")
		h.crash()

		h = w.start(Config{})
		h.ctx = t.Context()
		time.Sleep(10 * time.Second)
		require.Nil(t, h.db.Row(parent))
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, h.describe("child", "").WorkflowExecutionInfo.Status)
	})
}

// A run is deleted once its children have been ended.
func TestDeleteOfAParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		parent := h.startParent(enumspb.PARENT_CLOSE_POLICY_TERMINATE)
		require.NoError(t, h.delete("parent", ""))
		time.Sleep(10 * time.Second)
		require.Nil(t, h.db.Row(parent))
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, h.describe("child", "").WorkflowExecutionInfo.Status)
	})
}
