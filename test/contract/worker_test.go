package contract

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// What a worker does.

type (
	task              = workflowservice.PollWorkflowTaskQueueResponse
	activityTask      = workflowservice.PollActivityTaskQueueResponse
	completeRequest   = workflowservice.RespondWorkflowTaskCompletedRequest
	completeResponse  = workflowservice.RespondWorkflowTaskCompletedResponse
	failTaskRequest   = workflowservice.RespondWorkflowTaskFailedRequest
	heartbeatResponse = workflowservice.RecordActivityTaskHeartbeatResponse
)

// emptyPoll is the deadline of a poll that should find nothing; it is answered a second before.
const emptyPoll = 4 * time.Second

func (e *env) sticky() *taskqueuepb.TaskQueue {
	return &taskqueuepb.TaskQueue{Name: e.id + "-sticky", Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: e.queue}
}

func (e *env) newPoll(queue *taskqueuepb.TaskQueue) *workflowservice.PollWorkflowTaskQueueRequest {
	return &workflowservice.PollWorkflowTaskQueueRequest{TaskQueue: queue, Identity: "worker"}
}

// poll takes the next workflow task of the queue.
func (e *env) poll() *task {
	e.Helper()
	return e.pollOn(normal(e.queue))
}

func (e *env) pollOn(queue *taskqueuepb.TaskQueue) *task {
	e.Helper()
	got := do(e, e.api.PollWorkflowTaskQueue, e.newPoll(queue))
	require.NotEmpty(e, got.TaskToken, "no workflow task came")
	return got
}

// stickyWorker waits for a task on the sticky queue.
func (e *env) stickyWorker() *pending[*task] {
	e.Helper()
	waiting := begin(e, callMax, e.api.PollWorkflowTaskQueue, e.newPoll(e.sticky()))
	e.eventually("the sticky worker waits", func() bool {
		d := do(e, e.api.DescribeTaskQueue, &workflowservice.DescribeTaskQueueRequest{TaskQueue: e.sticky(), TaskQueueType: enumspb.TASK_QUEUE_TYPE_WORKFLOW})
		return len(d.Pollers) > 0
	})
	return waiting
}

// pollNothing makes sure that there is no workflow task.
func (e *env) pollNothing() {
	e.Helper()
	got, err := try(e, emptyPoll, e.api.PollWorkflowTaskQueue, e.newPoll(normal(e.queue)))
	e.nothing(got.GetTaskToken(), err)
}

// nothing is what an empty poll finds. On a busy machine its answer may come too late.
func (e *env) nothing(token []byte, err error) {
	e.Helper()
	require.Empty(e, token, "a task came")
	if err != nil {
		asError[*serviceerror.DeadlineExceeded](e, err)
	}
}

// gonePoller polls the sticky queue once: the worker was there, and is gone.
func (e *env) gonePoller() {
	e.Helper()
	got, err := try(e, emptyPoll, e.api.PollWorkflowTaskQueue, e.newPoll(e.sticky()))
	e.nothing(got.GetTaskToken(), err)
}

// complete answers a workflow task.
func (e *env) complete(t *task, commands ...*commandpb.Command) *completeResponse {
	e.Helper()
	return e.completeWith(t, nil, commands...)
}

func (e *env) completeWith(t *task, mod func(*completeRequest), commands ...*commandpb.Command) *completeResponse {
	e.Helper()
	return do(e, e.api.RespondWorkflowTaskCompleted, completion(t, mod, commands...))
}

func completion(t *task, mod func(*completeRequest), commands ...*commandpb.Command) *completeRequest {
	req := &completeRequest{TaskToken: t.TaskToken, Identity: "worker", Commands: commands}
	req.Capabilities = &workflowservice.RespondWorkflowTaskCompletedRequest_Capabilities{DiscardSpeculativeWorkflowTaskWithEvents: true}
	if mod != nil {
		mod(req)
	}
	return req
}

func returnNew(r *completeRequest) { r.ReturnNewWorkflowTask = true }

// stick keeps the run in the worker's cache, with a long time to fetch the next task.
func (e *env) stick(r *completeRequest) { e.stickFor(time.Minute)(r) }

func (e *env) stickFor(d time.Duration) func(*completeRequest) {
	return func(r *completeRequest) {
		r.StickyAttributes = &taskqueuepb.StickyExecutionAttributes{WorkerTaskQueue: e.sticky(), ScheduleToStartTimeout: durationpb.New(d)}
	}
}

func (e *env) newFailTask(t *task) *failTaskRequest {
	return &failTaskRequest{
		TaskToken: t.TaskToken, Identity: "worker", Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR, Failure: failure("Broken"),
	}
}

func (e *env) failTask(t *task) {
	e.Helper()
	do(e, e.api.RespondWorkflowTaskFailed, e.newFailTask(t))
}

// answer answers a direct query.
func (e *env) answer(t *task, result any) {
	e.Helper()
	do(e, e.api.RespondQueryTaskCompleted, &workflowservice.RespondQueryTaskCompletedRequest{
		TaskToken: t.TaskToken, CompletedType: enumspb.QUERY_RESULT_TYPE_ANSWERED, QueryResult: payloads(result),
	})
}

// answerQueries answers the queries that came with a task.
func answerQueries(t *task, result any) func(*completeRequest) {
	return func(r *completeRequest) {
		r.QueryResults = map[string]*querypb.WorkflowQueryResult{}
		for id := range t.Queries {
			r.QueryResults[id] = &querypb.WorkflowQueryResult{ResultType: enumspb.QUERY_RESULT_TYPE_ANSWERED, Answer: payloads(result)}
		}
	}
}

func (e *env) pollActivity() *activityTask {
	e.Helper()
	got := do(e, e.api.PollActivityTaskQueue, &workflowservice.PollActivityTaskQueueRequest{TaskQueue: normal(e.queue), Identity: "worker"})
	require.NotEmpty(e, got.TaskToken, "no activity task came")
	return got
}

// pollNoActivity makes sure that there is no activity task.
func (e *env) pollNoActivity() {
	e.Helper()
	got, err := try(e, emptyPoll, e.api.PollActivityTaskQueue, &workflowservice.PollActivityTaskQueueRequest{TaskQueue: normal(e.queue)})
	e.nothing(got.GetTaskToken(), err)
}

func (e *env) completeActivity(a *activityTask, result any) {
	e.Helper()
	do(e, e.api.RespondActivityTaskCompleted, &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: a.TaskToken, Result: payloads(result), Identity: "worker"})
}

func (e *env) failActivity(a *activityTask, f *failurepb.Failure) {
	e.Helper()
	do(e, e.api.RespondActivityTaskFailed, &workflowservice.RespondActivityTaskFailedRequest{TaskToken: a.TaskToken, Failure: f, Identity: "worker"})
}

func (e *env) heartbeat(a *activityTask, details any) *heartbeatResponse {
	e.Helper()
	return do(e, e.api.RecordActivityTaskHeartbeat, newHeartbeat(a, details))
}

func newHeartbeat(a *activityTask, details any) *workflowservice.RecordActivityTaskHeartbeatRequest {
	return &workflowservice.RecordActivityTaskHeartbeatRequest{TaskToken: a.TaskToken, Details: payloads(details), Identity: "worker"}
}

// reply is a worker's answer to updates: messages, and the commands that say where they apply.
type reply struct {
	messages []*protocolpb.Message
	commands []*commandpb.Command
}

func (r *reply) accept(request *protocolpb.Message) *reply {
	body := &updatepb.Request{}
	_ = request.GetBody().UnmarshalTo(body) // the server made it
	return r.add(request.GetProtocolInstanceId(), "accept", true, &updatepb.Acceptance{
		AcceptedRequestMessageId: request.GetId(), AcceptedRequestSequencingEventId: request.GetEventId(), AcceptedRequest: body,
	})
}

func (r *reply) finish(update string, result any) *reply {
	return r.add(update, "complete", true, &updatepb.Response{
		Meta: &updatepb.Meta{UpdateId: update}, Outcome: &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: payloads(result)}},
	})
}

func (r *reply) reject(request *protocolpb.Message) *reply {
	body := &updatepb.Request{}
	_ = request.GetBody().UnmarshalTo(body) // the server made it
	return r.add(request.GetProtocolInstanceId(), "reject", false, &updatepb.Rejection{
		RejectedRequestMessageId: request.GetId(), RejectedRequestSequencingEventId: request.GetEventId(), RejectedRequest: body, Failure: failure("Rejected"),
	})
}

func (r *reply) then(commands ...*commandpb.Command) *reply {
	r.commands = append(r.commands, commands...)
	return r
}

func (r *reply) add(update, verb string, ordered bool, body proto.Message) *reply {
	packed, err := anypb.New(body)
	if err != nil {
		panic(err)
	}
	id := update + "/" + verb
	r.messages = append(r.messages, &protocolpb.Message{Id: id, ProtocolInstanceId: update, Body: packed})
	if ordered {
		r.commands = append(r.commands, messageCommand(id))
	}
	return r
}

// reply answers a task that carries updates.
func (e *env) reply(t *task, r *reply, mods ...func(*completeRequest)) *completeResponse {
	e.Helper()
	return e.completeWith(t, func(req *completeRequest) {
		req.Messages = r.messages
		with(req, mods)
	}, r.commands...)
}

func payload(v any) *commonpb.Payload {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: data}
}

func payloads(values ...any) *commonpb.Payloads {
	out := &commonpb.Payloads{}
	for _, v := range values {
		out.Payloads = append(out.Payloads, payload(v))
	}
	return out
}

// text is the first value of a list of payloads.
func text(p *commonpb.Payloads) (s string) {
	if len(p.GetPayloads()) > 0 {
		_ = json.Unmarshal(p.Payloads[0].Data, &s) // what is no string is empty
	}
	return s
}

func null() *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("binary/null")}}
}

// blob is a payload of a size.
func blob(size int) *commonpb.Payload { return payload(strings.Repeat("x", size)) }

func blobs(size int) *commonpb.Payloads {
	return &commonpb.Payloads{Payloads: []*commonpb.Payload{blob(size)}}
}

func long(n int) string { return strings.Repeat("x", n) }

func failure(kind string) *failurepb.Failure {
	return &failurepb.Failure{Message: kind + " happened", FailureInfo: &failurepb.Failure_ApplicationFailureInfo{
		ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: kind},
	}}
}

func seconds(s float64) *durationpb.Duration {
	return durationpb.New(time.Duration(s * float64(time.Second)))
}

// retry is a policy with a fixed interval.
func retry(interval float64, attempts int32) *commonpb.RetryPolicy {
	return &commonpb.RetryPolicy{InitialInterval: seconds(interval), BackoffCoefficient: 1, MaximumAttempts: attempts}
}
