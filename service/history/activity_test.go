package history

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	historypb "github.com/perdure/perdure/api/history/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

func noRetry() *commonpb.RetryPolicy { return &commonpb.RetryPolicy{MaximumAttempts: 1} }

func TestActivityStartIsIdempotent(t *testing.T) {
	h := startHost(t)
	h.run("w")
	h.complete(h.task(), scheduleActivity("a"))
	in, err := h.queues.Take(h.ctx, testQueue)
	require.NoError(t, err)
	id := uuid.NewString()
	first, err := h.startActivityOf(in, id)
	require.NoError(t, err)
	commits := h.db.Commits()
	again, err := h.startActivityOf(in, id)
	require.NoError(t, err)
	require.Equal(t, first.TaskToken, again.TaskToken)
	require.Equal(t, commits, h.db.Commits())
	_, err = h.startActivityOf(in, uuid.NewString())
	require.Equal(t, codes.NotFound, code(err))
}

func (h *host) failActivity(token []byte) error {
	_, err := h.RespondActivityTaskFailed(h.ctx, &historypb.RespondActivityTaskFailedRequest{
		NamespaceId: h.id(), Token: decodeToken(h.t, token),
		Request: &workflowservice.RespondActivityTaskFailedRequest{Identity: "worker", Failure: &failurepb.Failure{
			Message: "oops", FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{}},
		}},
	})
	return err
}

func (h *host) heartbeat(token []byte) (*workflowservice.RecordActivityTaskHeartbeatResponse, error) {
	return h.RecordActivityTaskHeartbeat(h.ctx, &historypb.RecordActivityTaskHeartbeatRequest{
		NamespaceId: h.id(), Token: decodeToken(h.t, token), Request: &workflowservice.RecordActivityTaskHeartbeatRequest{Details: payload("alive")},
	})
}

// A failed attempt comes again after its backoff, with what was heartbeaten; the old token is of no use.
func TestActivityRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		h.complete(h.task(), scheduleActivity("a"))
		first := h.activity()
		commits := h.db.Commits()
		_, err := h.heartbeat(first.TaskToken)
		require.NoError(t, err)
		require.Equal(t, commits, h.db.Commits()) // in memory only
		require.NoError(t, h.failActivity(first.TaskToken))
		begun := time.Now()
		second := h.activity()
		require.Equal(t, time.Second, time.Since(begun))
		require.EqualValues(t, 2, second.Attempt)
		require.Equal(t, payload("alive").String(), second.HeartbeatDetails.String())
		require.Equal(t, codes.NotFound, code(h.failActivity(first.TaskToken)))
		h.completeActivity(second)
		require.Len(t, h.events("w", ""), 8)
	})
}

func TestHeartbeatTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		h.complete(h.task(), scheduleActivity("a", func(a *commandpb.ScheduleActivityTaskCommandAttributes) {
			a.HeartbeatTimeout = durationpb.New(4 * time.Second)
			a.RetryPolicy = noRetry()
		}))
		activity := h.activity()
		for range 5 {
			time.Sleep(3 * time.Second)
			_, err := h.heartbeat(activity.TaskToken)
			require.NoError(t, err)
		}
		begun := time.Now()
		task := h.task()
		require.Equal(t, 4*time.Second, time.Since(begun))
		require.Contains(t, types(task.History.Events), "ActivityTaskTimedOut")
		_, err := h.heartbeat(activity.TaskToken)
		require.Equal(t, codes.NotFound, code(err))
	})
}

func TestActivityByID(t *testing.T) {
	h := startHost(t)
	run := h.run("w")
	h.complete(h.task(), scheduleActivity("a"))
	byID := func(id string) error {
		_, err := h.RespondActivityTaskCompleted(h.ctx, &historypb.RespondActivityTaskCompletedRequest{
			NamespaceId: h.id(), Token: &tokenpb.Task{NamespaceId: h.id(), WorkflowId: "w", RunId: run, ActivityId: id},
			Request: &workflowservice.RespondActivityTaskCompletedRequest{Result: payload("result")},
		})
		return err
	}
	require.Equal(t, codes.NotFound, code(byID("b")))
	require.NoError(t, byID("a")) // though nobody has started it
	require.Equal(t, codes.NotFound, code(byID("a")))
	in, err := h.queues.Take(h.ctx, testQueue)
	require.NoError(t, err)
	if in.GetTask().GetScheduledEventId() == 5 {
		_, err = h.startActivityOf(in, uuid.NewString())
		require.Equal(t, codes.NotFound, code(err))
	}
}

func TestActivityCancellation(t *testing.T) {
	h := startHost(t)
	h.run("w")
	h.complete(h.task(), scheduleActivity("a"))
	activity := h.activity()
	cancel := func() error {
		_, err := h.RespondActivityTaskCanceled(h.ctx, &historypb.RespondActivityTaskCanceledRequest{
			NamespaceId: h.id(), Token: decodeToken(t, activity.TaskToken), Request: &workflowservice.RespondActivityTaskCanceledRequest{},
		})
		return err
	}
	require.Equal(t, codes.InvalidArgument, code(cancel()))
	require.NoError(t, h.signal("w", "s"))
	h.complete(h.task(), &commandpb.Command{CommandType: enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK, Attributes: &commandpb.Command_RequestCancelActivityTaskCommandAttributes{
		RequestCancelActivityTaskCommandAttributes: &commandpb.RequestCancelActivityTaskCommandAttributes{ScheduledEventId: 5},
	}})
	out, err := h.heartbeat(activity.TaskToken)
	require.NoError(t, err)
	require.True(t, out.CancelRequested)
	require.NoError(t, cancel())
	require.Contains(t, types(h.task().History.Events), "ActivityTaskCanceled")
}

func TestActivityOperatorCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t)
		h.run("w")
		h.complete(h.task(), scheduleActivity("a"))
		in, err := h.queues.Take(h.ctx, testQueue)
		require.NoError(t, err)
		_, err = h.PauseActivity(h.ctx, &historypb.PauseActivityRequest{NamespaceId: h.id(), Request: &workflowservice.PauseActivityRequest{
			Execution: execution("w", ""), Activity: &workflowservice.PauseActivityRequest_Id{Id: "a"},
		}})
		require.NoError(t, err)
		_, err = h.startActivityOf(in, uuid.NewString())
		require.Equal(t, codes.NotFound, code(err))
		require.True(t, h.describe("w", "").PendingActivities[0].Paused)

		_, err = h.UpdateActivityOptions(h.ctx, &historypb.UpdateActivityOptionsRequest{NamespaceId: h.id(), Request: &workflowservice.UpdateActivityOptionsRequest{
			Execution: execution("w", ""), Activity: &workflowservice.UpdateActivityOptionsRequest_Id{Id: "unknown"},
		}})
		require.Equal(t, codes.NotFound, code(err))
		_, err = h.UnpauseActivity(h.ctx, &historypb.UnpauseActivityRequest{NamespaceId: h.id(), Request: &workflowservice.UnpauseActivityRequest{
			Execution: execution("w", ""), Activity: &workflowservice.UnpauseActivityRequest_Id{Id: "a"},
		}})
		require.NoError(t, err)
		require.NoError(t, h.failActivity(h.activity().TaskToken))
		_, err = h.ResetActivity(h.ctx, &historypb.ResetActivityRequest{NamespaceId: h.id(), Request: &workflowservice.ResetActivityRequest{
			Execution: execution("w", ""), Activity: &workflowservice.ResetActivityRequest_Id{Id: "a"},
		}})
		require.NoError(t, err)
		begun := time.Now()
		require.EqualValues(t, 1, h.activity().Attempt)
		require.Zero(t, time.Since(begun)) // without a backoff
	})
}
