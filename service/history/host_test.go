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
	eventpb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/service/history/historytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testNamespace = "test"
	testQueue     = "queue"
	stickyQueue   = "sticky"
	testTimeout   = 20 * time.Second
)

// world is what outlives a host: the database, matching and the namespace.
type world struct {
	t *testing.T
	// stored is the database; db is it, too, unless the test is on another one.
	stored   store
	db       *historytest.Store
	queues   *historytest.Matching
	registry *namespace.Registry
	space    *namespace.Namespace
}

// store is what a world needs of a database.
type store interface {
	Store
	namespace.Store
}

func newWorld(t *testing.T) *world {
	db := historytest.NewStore()
	w := newWorldOn(t, db)
	w.db = db
	return w
}

func newWorldOn(t *testing.T, stored store) *world {
	w := &world{t: t, stored: stored, queues: historytest.NewMatching()}
	w.registry = namespace.New(stored)
	n, err := w.registry.Create(t.Context(), namespace.NewRecord(testNamespace, 24*time.Hour))
	require.NoError(t, err)
	w.space = n
	return w
}

// host is a started history service and a worker that plays with it.
type host struct {
	*Service
	*world
	ctx context.Context
}

func (w *world) start(config Config) *host {
	s := New(Params{Store: w.stored, Matching: w.queues.Client(), Namespaces: w.registry, Config: config})
	s.history = historypb.LocalHistoryServiceClient{Server: s}
	ctx, cancel := context.WithTimeout(w.t.Context(), testTimeout)
	require.NoError(w.t, s.Start(ctx))
	h := &host{Service: s, world: w, ctx: ctx}
	w.t.Cleanup(func() {
		cancel()
		h.stop()
	})
	return h
}

// stop ends the host in order.
func (h *host) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	require.NoError(h.t, h.Stop(ctx))
}

// crash ends the host without a last word: from now on it can write nothing.
func (h *host) crash() {
	_, err := h.db.TakeShards(context.Background(), "successor", allShards())
	require.NoError(h.t, err)
	h.stop()
}

func startHost(t *testing.T) *host { return newWorld(t).start(Config{}) }

func (h *host) id() string { return h.space.ID() }

func startRequest(id string) *workflowservice.StartWorkflowExecutionRequest {
	return &workflowservice.StartWorkflowExecutionRequest{
		Namespace: testNamespace, WorkflowId: id, RequestId: uuid.NewString(), Identity: "client",
		WorkflowType: &commonpb.WorkflowType{Name: "workflow"},
		TaskQueue:    &taskqueuepb.TaskQueue{Name: testQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		Input:        payload("input"),
	}
}

func payload(s string) *commonpb.Payloads {
	return &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte(s)}}}
}

func execution(id, runID string) *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: id, RunId: runID}
}

func (h *host) startWith(r *workflowservice.StartWorkflowExecutionRequest) (*workflowservice.StartWorkflowExecutionResponse, error) {
	return h.StartWorkflowExecution(h.ctx, &historypb.StartWorkflowExecutionRequest{NamespaceId: h.id(), Request: r})
}

// run starts a workflow and returns its run id.
func (h *host) run(id string) string {
	h.t.Helper()
	out, err := h.startWith(startRequest(id))
	require.NoError(h.t, err)
	return out.RunId
}

// task takes the next workflow task of the queue.
func (h *host) task() *workflowservice.PollWorkflowTaskQueueResponse { return h.taskOn(testQueue) }

func (h *host) taskOn(queue string) *workflowservice.PollWorkflowTaskQueueResponse {
	h.t.Helper()
	for {
		in, err := h.queues.Take(h.ctx, queue)
		require.NoError(h.t, err)
		out, err := h.startTaskOf(in, uuid.NewString())
		if code(err) == codes.NotFound {
			continue // obsolete, as matching would
		}
		require.NoError(h.t, err)
		return out
	}
}

func (h *host) startTaskOf(in *matchingpb.AddTaskRequest, requestID string) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	task := in.GetTask()
	out, err := h.RecordWorkflowTaskStarted(h.ctx, &historypb.RecordWorkflowTaskStartedRequest{
		NamespaceId: h.id(), Execution: execution(task.GetWorkflowId(), task.GetRunId()), ScheduledEventId: task.GetScheduledEventId(),
		Attempt: task.GetAttempt(), EffectId: task.GetEffectId(), RequestId: requestID,
		Poll: &workflowservice.PollWorkflowTaskQueueRequest{
			Identity:  "worker",
			TaskQueue: &taskqueuepb.TaskQueue{Name: in.GetPartition().GetTaskQueue(), Kind: in.GetPartition().GetKind()},
		},
	})
	return out.GetTask(), err
}

func (h *host) activity() *workflowservice.PollActivityTaskQueueResponse {
	h.t.Helper()
	in, err := h.queues.Take(h.ctx, testQueue)
	require.NoError(h.t, err)
	out, err := h.startActivityOf(in, uuid.NewString())
	require.NoError(h.t, err)
	return out
}

func (h *host) startActivityOf(in *matchingpb.AddTaskRequest, requestID string) (*workflowservice.PollActivityTaskQueueResponse, error) {
	task := in.GetTask()
	out, err := h.RecordActivityTaskStarted(h.ctx, &historypb.RecordActivityTaskStartedRequest{
		NamespaceId: h.id(), Execution: execution(task.GetWorkflowId(), task.GetRunId()), ScheduledEventId: task.GetScheduledEventId(),
		Attempt: task.GetAttempt(), Stamp: task.GetStamp(), EffectId: task.GetEffectId(), RequestId: requestID,
		Poll: &workflowservice.PollActivityTaskQueueRequest{Identity: "worker"},
	})
	return out.GetTask(), err
}

func decodeToken(t *testing.T, data []byte) *tokenpb.Task {
	token := &tokenpb.Task{}
	require.NoError(t, proto.Unmarshal(data, token))
	return token
}

func (h *host) respond(r *workflowservice.RespondWorkflowTaskCompletedRequest) (*workflowservice.RespondWorkflowTaskCompletedResponse, error) {
	r.Identity = "worker"
	return h.RespondWorkflowTaskCompleted(h.ctx, &historypb.RespondWorkflowTaskCompletedRequest{
		NamespaceId: h.id(), Request: r, Token: decodeToken(h.t, r.TaskToken),
	})
}

func (h *host) complete(task *workflowservice.PollWorkflowTaskQueueResponse, commands ...*commandpb.Command) *workflowservice.RespondWorkflowTaskCompletedResponse {
	h.t.Helper()
	out, err := h.respond(&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: task.TaskToken, Commands: commands})
	require.NoError(h.t, err)
	return out
}

func (h *host) completeActivity(task *workflowservice.PollActivityTaskQueueResponse) {
	h.t.Helper()
	_, err := h.RespondActivityTaskCompleted(h.ctx, &historypb.RespondActivityTaskCompletedRequest{
		NamespaceId: h.id(), Token: decodeToken(h.t, task.TaskToken),
		Request: &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: task.TaskToken, Result: payload("result"), Identity: "worker"},
	})
	require.NoError(h.t, err)
}

func (h *host) signal(id, name string) error {
	_, err := h.SignalWorkflowExecution(h.ctx, &historypb.SignalWorkflowExecutionRequest{
		NamespaceId: h.id(),
		Request: &workflowservice.SignalWorkflowExecutionRequest{
			WorkflowExecution: execution(id, ""), SignalName: name, RequestId: uuid.NewString(), Identity: "client",
		},
	})
	return err
}

func (h *host) terminateRun(id, runID string) error {
	_, err := h.TerminateWorkflowExecution(h.ctx, &historypb.TerminateWorkflowExecutionRequest{
		NamespaceId: h.id(),
		Request:     &workflowservice.TerminateWorkflowExecutionRequest{WorkflowExecution: execution(id, runID), Reason: "stop", Identity: "client"},
	})
	return err
}

func (h *host) describe(id, runID string) *workflowservice.DescribeWorkflowExecutionResponse {
	h.t.Helper()
	out, err := h.DescribeWorkflowExecution(h.ctx, &historypb.DescribeWorkflowExecutionRequest{
		NamespaceId: h.id(), Request: &workflowservice.DescribeWorkflowExecutionRequest{Execution: execution(id, runID)},
	})
	require.NoError(h.t, err)
	return out
}

func (h *host) readHistory(r *workflowservice.GetWorkflowExecutionHistoryRequest) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	return h.GetWorkflowExecutionHistory(h.ctx, &historypb.GetWorkflowExecutionHistoryRequest{NamespaceId: h.id(), Request: r})
}

// history reads all events of a run.
func (h *host) events(id, runID string) []*eventpb.HistoryEvent {
	h.t.Helper()
	out, err := h.readHistory(&workflowservice.GetWorkflowExecutionHistoryRequest{Execution: execution(id, runID)})
	require.NoError(h.t, err)
	return out.History.Events
}

// types names events: "WorkflowExecutionStarted", …
func types(events []*eventpb.HistoryEvent) []string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.GetEventType().String()
	}
	return names
}

func completeWorkflow() *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
		Attributes: &commandpb.Command_CompleteWorkflowExecutionCommandAttributes{
			CompleteWorkflowExecutionCommandAttributes: &commandpb.CompleteWorkflowExecutionCommandAttributes{Result: payload("done")},
		},
	}
}

func startTimer(id string, d time.Duration) *commandpb.Command {
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_START_TIMER,
		Attributes: &commandpb.Command_StartTimerCommandAttributes{
			StartTimerCommandAttributes: &commandpb.StartTimerCommandAttributes{TimerId: id, StartToFireTimeout: durationpb.New(d)},
		},
	}
}

func scheduleActivity(id string, change ...func(*commandpb.ScheduleActivityTaskCommandAttributes)) *commandpb.Command {
	a := &commandpb.ScheduleActivityTaskCommandAttributes{
		ActivityId: id, ActivityType: &commonpb.ActivityType{Name: "activity"}, Input: payload(id),
		TaskQueue:           &taskqueuepb.TaskQueue{Name: testQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		StartToCloseTimeout: durationpb.New(time.Minute),
	}
	for _, f := range change {
		f(a)
	}
	return &commandpb.Command{
		CommandType: enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
		Attributes:  &commandpb.Command_ScheduleActivityTaskCommandAttributes{ScheduleActivityTaskCommandAttributes: a},
	}
}
