package workflow

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"

	tokenpb "github.com/perdure/perdure/api/token/v1"
)

func TestCronWait(t *testing.T) {
	last := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		spec string
		now  time.Duration // since last
		want time.Duration
		ok   bool
	}{
		{"@every 10s", 0, 10 * time.Second, true},
		{"@every 10s", 3 * time.Second, 7 * time.Second, true},
		{"@every 10s", 10 * time.Second, 10 * time.Second, true},
		{"@every 10s", 25 * time.Hour, 10 * time.Second, true},
		{"@every 10s", 3500 * time.Millisecond, 7 * time.Second, true}, // rounded up
		{"30 12 * * *", 0, 30 * time.Minute, true},
		{"30 12 * * *", 30 * time.Minute, 24 * time.Hour, true},
		{"CRON_TZ=Asia/Tokyo 0 22 * * *", 0, time.Hour, true},
		{"0 0 30 2 *", 0, 0, false}, // never
		{"nonsense", 0, 0, false},
		{"", 0, 0, false},
	} {
		wait, ok := cronWait(c.spec, last, last.Add(c.now))
		require.Equal(t, c.ok, ok, c.spec)
		require.Equal(t, c.want, wait, "%s after %s", c.spec, c.now)
	}
	require.NoError(t, CheckCron(""))
	require.NoError(t, CheckCron("@daily"))
	require.Error(t, CheckCron("* * *"))
}

func TestEffectBackoff(t *testing.T) {
	require.Equal(t, effectBackoffInitial, effectBackoff(0))
	require.Equal(t, 8*effectBackoffInitial, effectBackoff(3))
	require.Equal(t, effectBackoffMax, effectBackoff(1_000_000))
}

// Request ids are bounded by count, the oldest go first; a next run gets the newest, bounded by count and age.
func TestRequestsAreBounded(t *testing.T) {
	tx := Open(Opening{RunID: "run", RequestID: "start", Attributes: StartAttributes(&workflowservice.StartWorkflowExecutionRequest{WorkflowId: "w"})}, scriptEpoch, Env{})
	s, env, now := applied(t, tx), Env{NewRunID: "next"}, scriptEpoch
	apply := func(input func(tx *Tx) error) {
		tx := Begin(s, now, env)
		require.NoError(t, input(tx))
		s = applied(t, tx)
	}
	for i := range requestsMax + 10 {
		now = now.Add(time.Millisecond)
		apply(func(tx *Tx) error { return tx.Signal(Signal{Name: "s", RequestID: fmt.Sprint("r", i)}) })
		require.LessOrEqual(t, len(s.Requests), requestsMax)
	}
	require.NotNil(t, s.Requests["start"])
	require.NotNil(t, s.Requests[fmt.Sprint("r", requestsMax+9)])
	require.Nil(t, s.Requests["r0"])

	var token *tokenpb.Task
	apply(func(tx *Tx) error {
		task, err := tx.StartTask(TaskStart{EffectID: s.Task().EffectId, StartID: "again"})
		token = tokenOf(task.ScheduledEventId, task.StartedEventId, task.Attempt, task.StartId)
		return err
	})
	next := func(now time.Time) *State {
		tx := Begin(s, now, env)
		_, err := tx.CompleteTask(token, &workflowservice.RespondWorkflowTaskCompletedRequest{Commands: []*commandpb.Command{continueCommand(input{})}})
		require.NoError(t, err)
		r, err := tx.Finish()
		require.NoError(t, err)
		return applied(t, r.Successor)
	}
	soon := next(now)
	require.Equal(t, requestsCarried+1, len(soon.Requests), "besides its own")
	require.Equal(t, "run", soon.Requests[fmt.Sprint("r", requestsMax+9)].RunId)
	require.Equal(t, 1, len(next(now.Add(requestAgeMax+time.Second)).Requests))
}

// What a run waits for of other executions is bounded.
func TestPendingLimits(t *testing.T) {
	for _, c := range []struct {
		line  string
		limit int
		cause enumspb.WorkflowTaskFailedCause
	}{
		{"child c%d", pendingChildrenMax, enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED},
		{"signal-external w%d s", pendingSignalsMax, enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_SIGNALS_LIMIT_EXCEEDED},
		{"cancel-external w%d", pendingCancelsMax, enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_REQUEST_CANCEL_LIMIT_EXCEEDED},
	} {
		for _, extra := range []int{0, 1} {
			s, token := startedTask(t)
			req := &workflowservice.RespondWorkflowTaskCompletedRequest{}
			for i := range c.limit + extra {
				in := parseInput(fmt.Sprintf(c.line, i))
				req.Commands = append(req.Commands, scriptCommands[in.verb](in))
			}
			tx := Begin(s, scriptEpoch, Env{})
			out, err := tx.CompleteTask(token, req)
			require.NoError(t, err)
			r, err := tx.Finish()
			require.NoError(t, err)
			if extra == 0 {
				require.NoError(t, out.Err, c.line)
				continue
			}
			require.Error(t, out.Err, c.line)
			require.Equal(t, c.cause, r.Events[1].GetWorkflowTaskFailedEventAttributes().GetCause(), c.line)
		}
	}
}

func TestUpdatesPerRunAreBounded(t *testing.T) {
	s, _ := startedTask(t)
	s.Core.UpdateCount = updatesMax - 1
	admit := func(id string) error {
		tx := Begin(s, scriptEpoch, Env{})
		_, err := tx.AdmitUpdate(&updatepb.Request{Meta: &updatepb.Meta{UpdateId: id}})
		if err == nil {
			_, err = tx.Finish()
			s = tx.Apply()
		}
		return err
	}
	require.NoError(t, admit("last"))
	require.NoError(t, admit("last"), "it is known")
	var refused *serviceerror.FailedPrecondition
	require.ErrorAs(t, admit("one more"), &refused)
}

func TestResetExclusions(t *testing.T) {
	signal := enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL
	require.Len(t, ResetExclusions(enumspb.RESET_REAPPLY_TYPE_NONE, nil), 4)
	require.Equal(t, []enumspb.ResetReapplyExcludeType{signal},
		ResetExclusions(enumspb.RESET_REAPPLY_TYPE_ALL_ELIGIBLE, []enumspb.ResetReapplyExcludeType{signal}))
	require.NotContains(t, ResetExclusions(enumspb.RESET_REAPPLY_TYPE_SIGNAL, nil), signal)
	require.Empty(t, ResetExclusions(enumspb.RESET_REAPPLY_TYPE_UNSPECIFIED, nil))
}
