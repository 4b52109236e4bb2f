package history

import (
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
)

// The main path: start, workflow task, activity, workflow task, close. It costs five commits, and reads nothing back.
func TestSimpleWorkflow(t *testing.T) {
	h := startHost(t)
	reads, commits := h.db.Reads(), h.db.Commits()
	run := h.run("w")

	task := h.task()
	require.Equal(t, run, task.WorkflowExecution.RunId)
	require.EqualValues(t, 3, task.StartedEventId)
	require.Equal(t, []string{"WorkflowExecutionStarted", "WorkflowTaskScheduled", "WorkflowTaskStarted"}, types(task.History.Events))
	h.complete(task, scheduleActivity("a"))

	activity := h.activity()
	require.Equal(t, "a", activity.ActivityId)
	require.Equal(t, testNamespace, activity.WorkflowNamespace)
	require.Equal(t, payload("a").String(), activity.Input.String())
	h.completeActivity(activity)

	task = h.task()
	require.EqualValues(t, 9, task.StartedEventId)
	require.EqualValues(t, 3, task.PreviousStartedEventId)
	require.Len(t, task.History.Events, 9)
	h.complete(task, completeWorkflow())

	require.Equal(t, 5, h.db.Commits()-commits)
	require.Zero(t, h.db.Reads()-reads) // whether the id is free, the commit finds out
	require.Len(t, h.events("w", ""), 11)
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, h.describe("w", run).WorkflowExecutionInfo.Status)
	row := h.db.Row(run)
	require.False(t, row.Open)
	require.False(t, row.HasEffects)
	require.True(t, row.WakeAt.IsZero())
	require.NotNil(t, row.Snapshot)
	require.EqualValues(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, h.db.Visibility(run).Status)
}
