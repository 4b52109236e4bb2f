package history

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	eventpb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

func TestTaskStartIsIdempotent(t *testing.T) {
	h := startHost(t)
	h.run("w")
	in, err := h.queues.Take(h.ctx, testQueue)
	require.NoError(t, err)
	id := uuid.NewString()
	first, err := h.startTaskOf(in, id)
	require.NoError(t, err)
	again, err := h.startTaskOf(in, id)
	require.NoError(t, err)
	require.Equal(t, first.TaskToken, again.TaskToken)
	require.Len(t, again.History.Events, 3)
	_, err = h.startTaskOf(in, uuid.NewString())
	require.Equal(t, codes.NotFound, code(err))
	h.complete(first)
	_, err = h.startTaskOf(in, id)
	require.Equal(t, codes.NotFound, code(err))
}

func TestStaleTaskTokens(t *testing.T) {
	h := startHost(t)
	h.run("w")
	task := h.task()
	fail := func() error {
		_, err := h.RespondWorkflowTaskFailed(h.ctx, &historypb.RespondWorkflowTaskFailedRequest{
			NamespaceId: h.id(), Token: decodeToken(t, task.TaskToken),
			Request: &workflowservice.RespondWorkflowTaskFailedRequest{Identity: "worker", Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR,
				Failure: &failurepb.Failure{Message: "oops"}},
		})
		return err
	}
	require.NoError(t, fail())
	require.EqualError(t, fail(), "Workflow task not found.")
	_, err := h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken})
	require.EqualError(t, err, "Workflow task not found.")

	second := h.task()
	require.EqualValues(t, 2, second.Attempt)
	require.EqualValues(t, 6, second.StartedEventId)
	require.Len(t, second.History.Events, 6) // two of them provisional
	require.Len(t, h.events("w", ""), 6)
	require.NoError(t, h.terminateRun("w", ""))
	_, err = h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: second.TaskToken})
	require.EqualError(t, err, "Workflow task not found.")
	require.EqualError(t, fail(), "workflow execution already completed")
}

func sticky() *taskqueuepb.StickyExecutionAttributes {
	return &taskqueuepb.StickyExecutionAttributes{
		WorkerTaskQueue:        &taskqueuepb.TaskQueue{Name: stickyQueue, Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: testQueue},
		ScheduleToStartTimeout: durationpb.New(5 * time.Second),
	}
}

func (h *host) completeSticky(task *workflowservice.PollWorkflowTaskQueueResponse, commands ...*commandpb.Command) *workflowservice.RespondWorkflowTaskCompletedResponse {
	h.t.Helper()
	out, err := h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{
		TaskToken: task.TaskToken, Commands: commands, StickyAttributes: sticky(), ReturnNewWorkflowTask: true,
	})
	require.NoError(h.t, err)
	return out
}

// A sticky worker gets what it has not seen, from its queue or in the reply to its completion.
func TestStickyTasks(t *testing.T) {
	h := startHost(t)
	h.run("w")
	h.completeSticky(h.task())
	require.NoError(t, h.signal("w", "one"))
	task := h.taskOn(stickyQueue)
	require.Equal(t, []string{"WorkflowTaskCompleted", "WorkflowExecutionSignaled", "WorkflowTaskScheduled", "WorkflowTaskStarted"}, types(task.History.Events))
	require.EqualValues(t, 3, task.PreviousStartedEventId)
	require.EqualValues(t, 7, task.StartedEventId)

	require.NoError(t, h.signal("w", "two"))
	next := h.completeSticky(task, startTimer("t", time.Hour)).WorkflowTask
	require.EqualValues(t, 12, next.StartedEventId)
	require.Equal(t, []string{"WorkflowTaskCompleted", "TimerStarted", "WorkflowExecutionSignaled", "WorkflowTaskScheduled", "WorkflowTaskStarted"}, types(next.History.Events))
	require.Nil(t, h.completeSticky(next).WorkflowTask)

	_, err := h.ResetStickyTaskQueue(h.ctx, &historypb.ResetStickyTaskQueueRequest{
		NamespaceId: h.id(), Request: &workflowservice.ResetStickyTaskQueueRequest{Execution: execution("w", "")},
	})
	require.NoError(t, err)
	require.NoError(t, h.signal("w", "three"))
	require.EqualValues(t, 1, h.task().History.Events[0].EventId)
}

// A sticky queue that nobody serves is not waited for: the same task goes to the normal queue, with the whole history.
func TestStickyQueueWithoutWorker(t *testing.T) {
	h := startHost(t)
	h.queues.OnAdd(func(_ context.Context, in *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
		return &matchingpb.AddTaskResponse{StickyWorkerUnavailable: in.GetPartition().GetKind() == enumspb.TASK_QUEUE_KIND_STICKY}, nil
	})
	h.run("w")
	h.completeSticky(h.task())
	require.NoError(t, h.signal("w", "one"))
	task := h.task()
	require.Len(t, task.History.Events, 7)
	require.Equal(t, stickyQueue, task.History.Events[5].GetWorkflowTaskScheduledEventAttributes().TaskQueue.Name)
}

func TestEagerActivities(t *testing.T) {
	h := startHost(t)
	h.run("w")
	out := h.complete(h.task(), scheduleActivity("a", func(a *commandpb.ScheduleActivityTaskCommandAttributes) { a.RequestEagerExecution = true }))
	require.Len(t, out.ActivityTasks, 1)
	require.Equal(t, "a", out.ActivityTasks[0].ActivityId)
	require.Nil(t, out.ActivityTasks[0].RetryPolicy)
	require.Zero(t, h.queues.Waiting())
	h.completeActivity(out.ActivityTasks[0])
	h.complete(h.task(), completeWorkflow())
}

// A history that is longer than a page goes out in pages, the last of which ends with the task's start.
func TestTaskWithLongHistory(t *testing.T) {
	h := startHost(t)
	h.run("w")
	h.complete(h.task())
	for range 300 {
		require.NoError(t, h.signal("w", "s"))
	}
	task := h.task()
	events := task.History.Events
	require.Len(t, events, historyPageMax)
	for token := task.NextPageToken; len(token) > 0; {
		out, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution("w", ""), NextPageToken: token, MaximumPageSize: 20})
		require.NoError(t, err)
		events = append(events, out.History.Events...)
		token = out.NextPageToken
	}
	requireDense(t, events)
	require.EqualValues(t, task.StartedEventId, events[len(events)-1].EventId)
	require.Equal(t, enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, events[len(events)-1].EventType)
}

func requireDense(t *testing.T, events []*eventpb.HistoryEvent) {
	t.Helper()
	for i, e := range events {
		require.EqualValues(t, events[0].EventId+int64(i), e.EventId)
	}
}

func TestRefusedCommandsAreRecorded(t *testing.T) {
	h := startHost(t)
	h.run("w")
	task := h.task()
	_, err := h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken, Commands: []*commandpb.Command{startTimer("", time.Second)}})
	require.Equal(t, codes.InvalidArgument, code(err))
	require.Contains(t, types(h.events("w", "")), "WorkflowTaskFailed")
	require.EqualValues(t, 2, h.task().Attempt)
}

// Describe shows what the worker that completed the last task said it is.
func TestWorkerVersionIsShown(t *testing.T) {
	h := startHost(t)
	h.run("w")
	for _, stamp := range []*commonpb.WorkerVersionStamp{{BuildId: "one"}, {BuildId: "two"}, nil} {
		_, err := h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{
			TaskToken: h.task().TaskToken, WorkerVersionStamp: stamp,
		})
		require.NoError(t, err)
		require.True(t, proto.Equal(stamp, h.describe("w", "").WorkflowExecutionInfo.MostRecentWorkerVersionStamp))
		require.NoError(t, h.signal("w", "next"))
	}
}
