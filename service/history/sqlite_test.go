package history

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/perdure/perdure/persistence/sql/sqlite"
)

// The whole path on a real database: processes come and go, the file stays.
func TestOnSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "perdure.db")
	var w *world
	open := func() (*host, func()) {
		db, err := sqlite.Open(t.Context(), sqlite.Options{Path: path})
		require.NoError(t, err)
		if w == nil {
			w = newWorldOn(t, db)
		} else {
			w.stored = db
		}
		h := w.start(Config{})
		return h, func() {
			h.stop()
			require.NoError(t, db.Close())
		}
	}
	h, end := open()
	base := h.run("w")
	h.complete(h.task(), scheduleActivity("a"), startTimer("t", time.Hour))
	activity := h.activity()
	end()

	h, end = open() // the worker answers another process
	h.completeActivity(activity)
	for range snapshotRows {
		require.NoError(t, h.signal("w", "s"))
	}
	h.complete(h.task(), completeWorkflow())
	requireDense(t, h.readAll(10))
	end()

	h, end = open()
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, h.describe("w", base).WorkflowExecutionInfo.Status)
	requireDense(t, h.readAll(7))
	reset, err := h.reset(base, 4)
	require.NoError(t, err)
	end()

	h, end = open()
	task := h.task()
	require.Equal(t, reset, task.WorkflowExecution.RunId)
	h.complete(task, completeWorkflow())
	require.NoError(t, h.delete("w", base))
	require.NoError(t, h.delete("w", reset))
	require.EqualError(t, h.signal("w", "too late"), "workflow not found for ID: w")
	end()
}
