package contract

import (
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	stageAdmitted  = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED
	stageAccepted  = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
	stageCompleted = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
)

// updateRequestMessage is how a worker sees an update that it read in the history.
func updateRequestMessage(id string, event int64) *protocolpb.Message {
	body, err := anypb.New(&updatepb.Request{Meta: &updatepb.Meta{UpdateId: id}})
	if err != nil {
		panic(err)
	}
	return &protocolpb.Message{Id: id + "/request", ProtocolInstanceId: id, SequencingId: &protocolpb.Message_EventId{EventId: event}, Body: body}
}

// Updates.
var updates = []point{
	{"8.39 the messages of an update", updateMessages},
	{"8.39 messages apply where their commands stand", updateOrder},
	{"8.39 a wait that ends before the stage", updateWaitExpires},
	{"8.39 a caller's deadline before that", updateDeadline},
	{"8.39 polling for the outcome", pollUpdate},
	{"8.40 an update without an id gets one", updateWithoutID},
	{"2.1 an update that the worker ignores is rejected", updateIgnored},
	{"2.1 a message that no command names applies behind the commands", unorderedMessage},
	{"6.3 an update of a run that closes", updateAtClose},
	{"6.3 an update of a run that continues as new", updateAtContinueAsNew},
	{"6.3 an update of a run whose task fails again and again", updateOfFailingRun},
	{"6.3 an update whose answer was refused", updateOfRefusedAnswer},
	{"6.3 an update of a paused run", updateOfPausedRun},
	{"6.3 update with start", updateWithStart},
	{"6.3 update with start, refused", updateWithStartRefused},
}

func updateMessages(e *env) {
	run := e.idle()
	update := e.update("u", untilAccepted)
	got := e.poll()
	require.Len(e, got.Messages, 1)
	m := got.Messages[0]
	require.Equal(e, "u", m.ProtocolInstanceId)
	require.Equal(e, got.StartedEventId-1, m.GetEventId())
	body := &updatepb.Request{}
	require.NoError(e, m.Body.UnmarshalTo(body))
	require.Equal(e, "change", body.Input.Name)
	e.reply(got, new(reply).accept(m))
	response := update.result()
	require.Equal(e, stageAccepted, response.Stage)
	require.Nil(e, response.Outcome)
	a := e.event(run, "UpdateAccepted").GetWorkflowExecutionUpdateAcceptedEventAttributes()
	require.Equal(e, "u", a.ProtocolInstanceId)
	require.Equal(e, m.Id, a.AcceptedRequestMessageId)
	require.Equal(e, m.GetEventId(), a.AcceptedRequestSequencingEventId)
	require.Equal(e, "change", a.AcceptedRequest.GetInput().GetName())
	e.signal("s")
	e.reply(e.poll(), new(reply).finish("u", "yes"))
	c := e.event(run, "UpdateCompleted").GetWorkflowExecutionUpdateCompletedEventAttributes()
	require.Equal(e, e.event(run, "UpdateAccepted").EventId, c.AcceptedEventId)
	require.Equal(e, "yes", text(c.Outcome.GetSuccess()))
	require.Equal(e, "u", c.Meta.UpdateId)
}

func updateOrder(e *env) {
	run := e.idle()
	update := e.update("u")
	got := e.poll()
	r := new(reply).then(marker("before")).accept(got.Messages[0]).then(marker("between")).finish("u", "yes").then(marker("after"))
	e.reply(got, r)
	update.result()
	e.wantHistory(run, firstTask, "TaskScheduled TaskStarted TaskCompleted MarkerRecorded UpdateAccepted MarkerRecorded UpdateCompleted MarkerRecorded")
}

func updateWaitExpires(e *env) {
	e.idle()
	begun := time.Now()
	response := e.update("u").result() // nobody polls
	require.Greater(e, time.Since(begun), 15*time.Second)
	require.Nil(e, response.Outcome)
	require.Equal(e, stageAdmitted, response.Stage)
	require.Equal(e, "u", response.UpdateRef.GetUpdateId())
	got := e.poll()
	require.Len(e, got.Messages, 1, "it is still there")
}

func updateDeadline(e *env) {
	e.idle()
	asError[*serviceerror.DeadlineExceeded](e, begin(e, 3*time.Second, e.api.UpdateWorkflowExecution, e.newUpdate("u")).failure())
}

func newPollUpdate(ref *updatepb.UpdateRef, until enumspb.UpdateWorkflowExecutionLifecycleStage) *workflowservice.PollWorkflowExecutionUpdateRequest {
	return &workflowservice.PollWorkflowExecutionUpdateRequest{UpdateRef: ref, WaitPolicy: &updatepb.WaitPolicy{LifecycleStage: until}}
}

func pollUpdate(e *env) {
	e.idle()
	update := e.update("u", untilAccepted)
	got := e.poll()
	e.reply(got, new(reply).accept(got.Messages[0]))
	ref := update.result().UpdateRef
	at := do(e, e.api.PollWorkflowExecutionUpdate, newPollUpdate(ref, stageAccepted))
	require.Equal(e, stageAccepted, at.Stage)
	waiting := begin(e, callMax, e.api.PollWorkflowExecutionUpdate, newPollUpdate(ref, stageCompleted))
	e.signal("s")
	e.reply(e.poll(), new(reply).finish("u", "yes"))
	require.Equal(e, "yes", text(waiting.result().GetOutcome().GetSuccess()))
	e.terminate()
	require.Equal(e, "yes", text(do(e, e.api.PollWorkflowExecutionUpdate, newPollUpdate(ref, stageCompleted)).GetOutcome().GetSuccess()), "also after the close")
	ref.UpdateId = "another"
	refused[*serviceerror.NotFound](e, e.api.PollWorkflowExecutionUpdate, newPollUpdate(ref, stageCompleted))
}

func updateWithoutID(e *env) {
	e.idle()
	update := e.update("")
	got := e.poll()
	id := got.Messages[0].ProtocolInstanceId
	require.NotEmpty(e, id)
	e.reply(got, new(reply).accept(got.Messages[0]).finish(id, "yes"))
	require.Equal(e, id, update.result().GetUpdateRef().GetUpdateId())
}

func updateIgnored(e *env) {
	run := e.idle()
	update := e.update("u")
	got := e.poll()
	require.EqualValues(e, 3, e.complete(got).ResetHistoryEventId)
	response := update.result()
	require.Equal(e, stageCompleted, response.Stage)
	require.True(e, response.Outcome.GetFailure().GetApplicationFailureInfo().GetNonRetryable())
	e.wantHistory(run, firstTask)
}

func unorderedMessage(e *env) {
	run := e.idle()
	update := e.update("u")
	got := e.poll()
	r := new(reply).accept(got.Messages[0]).finish("u", "yes")
	r.commands = nil
	e.reply(got, r.then(marker("first")))
	update.result()
	e.wantHistory(run, firstTask, "TaskScheduled TaskStarted TaskCompleted MarkerRecorded UpdateAccepted UpdateCompleted")
}

func updateAtClose(e *env) {
	e.idle()
	refusedUpdate, accepted := e.sub("unaccepted"), e
	refusedUpdate.idle()
	update := refusedUpdate.update("u")
	refusedUpdate.complete(refusedUpdate.poll(), completeWorkflow("done"))
	asError[*serviceerror.NotFound](e, update.failure())
	refused[*serviceerror.NotFound](e, e.api.UpdateWorkflowExecution, refusedUpdate.newUpdate("late"))

	update = accepted.update("u")
	got := accepted.poll()
	accepted.reply(got, new(reply).accept(got.Messages[0]).then(completeWorkflow("done")))
	f := update.result().GetOutcome().GetFailure().GetApplicationFailureInfo()
	require.Equal(e, "AcceptedUpdateCompletedWorkflow", f.GetType())
	require.True(e, f.GetNonRetryable())
}

func updateAtContinueAsNew(e *env) {
	e.idle()
	update := e.update("u")
	e.complete(e.poll(), continueAsNew())
	require.Equal(e, enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, asError[*serviceerror.ResourceExhausted](e, update.failure()).Cause)
	again := e.update("u")
	got := e.poll()
	if len(got.Messages) == 0 { // the new run's first task was earlier
		e.complete(got)
		got = e.poll()
	}
	e.reply(got, new(reply).accept(got.Messages[0]).finish("u", "in the new run"))
	require.Equal(e, "in the new run", text(again.result().GetOutcome().GetSuccess()))
}

func updateOfFailingRun(e *env) {
	e.start()
	for range 3 {
		e.failTask(e.poll())
	}
	refused[*serviceerror.WorkflowNotReady](e, e.api.UpdateWorkflowExecution, e.newUpdate("u"))
	refused[*serviceerror.WorkflowNotReady](e, e.api.QueryWorkflow, e.newQuery("state"))
}

func updateOfRefusedAnswer(e *env) {
	e.idle()
	update := e.update("u")
	got := e.poll()
	r := new(reply).accept(got.Messages[0]).then(startTimer("", 1))
	refused[*serviceerror.InvalidArgument](e, e.api.RespondWorkflowTaskCompleted, completion(got, func(c *completeRequest) { c.Messages = r.messages }, r.commands...))
	asError[*serviceerror.WorkflowNotReady](e, update.failure())
}

func updateOfPausedRun(e *env) {
	run := e.idle()
	do(e, e.api.PauseWorkflowExecution, &workflowservice.PauseWorkflowExecutionRequest{WorkflowId: e.id, RunId: run, Identity: "client", Reason: "wait"})
	refused[*serviceerror.FailedPrecondition](e, e.api.UpdateWorkflowExecution, e.newUpdate("u"))
	require.Equal(e, enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED, e.query("state").result().GetQueryRejected().GetStatus())
}

type multiRequest = workflowservice.ExecuteMultiOperationRequest

func (e *env) newUpdateWithStart(mods ...func(*startRequest)) *multiRequest {
	start := e.newStart(func(r *startRequest) { r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING })
	return &multiRequest{Operations: []*workflowservice.ExecuteMultiOperationRequest_Operation{
		{Operation: &workflowservice.ExecuteMultiOperationRequest_Operation_StartWorkflow{StartWorkflow: with(start, mods)}},
		{Operation: &workflowservice.ExecuteMultiOperationRequest_Operation_UpdateWorkflow{UpdateWorkflow: e.newUpdate("u")}},
	}}
}

func updateWithStart(e *env) {
	call := begin(e, callMax, e.api.ExecuteMultiOperation, e.newUpdateWithStart())
	got := e.poll()
	require.Len(e, got.Messages, 1, "nobody sees the run without its update")
	require.Equal(e, "Started TaskScheduled TaskStarted", shorts(got.History.Events))
	e.reply(got, new(reply).accept(got.Messages[0]).finish("u", "yes"))
	responses := call.result().Responses
	require.Len(e, responses, 2)
	require.True(e, responses[0].GetStartWorkflow().GetStarted())
	require.Equal(e, got.WorkflowExecution.RunId, responses[0].GetStartWorkflow().GetRunId())
	require.Equal(e, "yes", text(responses[1].GetUpdateWorkflow().GetOutcome().GetSuccess()))

	again := do(e, e.api.ExecuteMultiOperation, e.newUpdateWithStart()).Responses
	require.False(e, again[0].GetStartWorkflow().GetStarted())
	require.Equal(e, "yes", text(again[1].GetUpdateWorkflow().GetOutcome().GetSuccess()))
}

func updateWithStartRefused(e *env) {
	for _, mod := range []func(*startRequest){
		func(r *startRequest) { r.CronSchedule = "0 0 * * *" },
		func(r *startRequest) { r.WorkflowStartDelay = seconds(5) },
		func(r *startRequest) { r.RequestEagerExecution = true },
		func(r *startRequest) { r.WorkflowId = "another" },
	} {
		failed := refused[*serviceerror.MultiOperationExecution](e, e.api.ExecuteMultiOperation, e.newUpdateWithStart(mod))
		require.Equal(e, codes.InvalidArgument, failed.Status().Code(), "the code of the operation that was refused")
	}
	refused[*serviceerror.NotFound](e, e.api.DescribeWorkflowExecution, &describeRequest{Execution: execution(e.id, "")})
	e.idle()
	failed := refused[*serviceerror.MultiOperationExecution](e, e.api.ExecuteMultiOperation, e.newUpdateWithStart(func(r *startRequest) {
		r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	}))
	require.Len(e, failed.OperationErrors(), 2)
	require.IsType(e, &serviceerror.WorkflowExecutionAlreadyStarted{}, failed.OperationErrors()[0])
	require.IsType(e, &serviceerror.MultiOperationAborted{}, failed.OperationErrors()[1])
}
