package frontend

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	activitypb "go.temporal.io/api/activity/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	historypb "github.com/perdure/perdure/api/history/v1"
)

func execution() *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: "w", RunId: testRunID}
}

type (
	signalReq  = workflowservice.SignalWorkflowExecutionRequest
	cancelReq  = workflowservice.RequestCancelWorkflowExecutionRequest
	termReq    = workflowservice.TerminateWorkflowExecutionRequest
	deleteReq  = workflowservice.DeleteWorkflowExecutionRequest
	resetReq   = workflowservice.ResetWorkflowExecutionRequest
	historyReq = workflowservice.GetWorkflowExecutionHistoryRequest
	queryReq   = workflowservice.QueryWorkflowRequest
	updateReq  = workflowservice.UpdateWorkflowExecutionRequest
	optionsReq = workflowservice.UpdateWorkflowExecutionOptionsRequest
)

// The valid request of each RPC.
func aSignal() *signalReq {
	return &signalReq{Namespace: testNamespace, WorkflowExecution: execution(), SignalName: "s"}
}
func aCancel() *cancelReq {
	return &cancelReq{Namespace: testNamespace, WorkflowExecution: execution()}
}
func aTerminate() *termReq {
	return &termReq{Namespace: testNamespace, WorkflowExecution: execution()}
}
func aDelete() *deleteReq {
	return &deleteReq{Namespace: testNamespace, WorkflowExecution: execution()}
}
func aReset() *resetReq {
	return &resetReq{Namespace: testNamespace, WorkflowExecution: execution(), RequestId: "r", WorkflowTaskFinishEventId: 4}
}
func aHistory() *historyReq {
	return &historyReq{Namespace: testNamespace, Execution: execution()}
}
func aReverse() *workflowservice.GetWorkflowExecutionHistoryReverseRequest {
	return &workflowservice.GetWorkflowExecutionHistoryReverseRequest{Namespace: testNamespace, Execution: execution()}
}
func aDescribe() *workflowservice.DescribeWorkflowExecutionRequest {
	return &workflowservice.DescribeWorkflowExecutionRequest{Namespace: testNamespace, Execution: execution()}
}
func aQuery() *queryReq {
	return &queryReq{Namespace: testNamespace, Execution: execution(), Query: &querypb.WorkflowQuery{QueryType: "state"}}
}
func aStickyReset() *workflowservice.ResetStickyTaskQueueRequest {
	return &workflowservice.ResetStickyTaskQueueRequest{Namespace: testNamespace, Execution: execution()}
}
func anUpdate() *updateReq {
	return &updateReq{Namespace: testNamespace, WorkflowExecution: execution(),
		Request: &updatepb.Request{Meta: &updatepb.Meta{UpdateId: "u"}, Input: &updatepb.Input{Name: "update"}}}
}
func anUpdatePoll() *workflowservice.PollWorkflowExecutionUpdateRequest {
	return &workflowservice.PollWorkflowExecutionUpdateRequest{Namespace: testNamespace,
		UpdateRef: &updatepb.UpdateRef{WorkflowExecution: execution(), UpdateId: "u"}}
}
func anOptionsUpdate() *optionsReq {
	return &optionsReq{Namespace: testNamespace, WorkflowExecution: execution(),
		WorkflowExecutionOptions: &workflowpb.WorkflowExecutionOptions{Priority: &commonpb.Priority{PriorityKey: 1}},
		UpdateMask:               &fieldmaskpb.FieldMask{Paths: []string{"priority"}}}
}
func aPause() *workflowservice.PauseWorkflowExecutionRequest {
	return &workflowservice.PauseWorkflowExecutionRequest{Namespace: testNamespace, WorkflowId: "w", RunId: testRunID}
}
func anUnpause() *workflowservice.UnpauseWorkflowExecutionRequest {
	return &workflowservice.UnpauseWorkflowExecutionRequest{Namespace: testNamespace, WorkflowId: "w", RunId: testRunID}
}

// TestAddresses checks what every RPC about an existing workflow has in common: how it is addressed.
func TestAddresses(t *testing.T) {
	e := newEnv(t)
	valid := []proto.Message{
		aSignal(), aCancel(), aTerminate(), aDelete(), aReset(), aHistory(), aReverse(), aDescribe(), aQuery(), aStickyReset(),
		anUpdate(), anUpdatePoll(), anOptionsUpdate(), aPause(), anUnpause(),
		anActivityOptionsUpdate(), anActivityPause(), anActivityUnpause(), anActivityReset(),
	}
	var refusals []refusal
	var acceptances []acceptance
	for _, request := range valid {
		acceptances = append(acceptances,
			acceptance{"valid", request},
			acceptance{"deprecated namespace", setField(request, "namespace", deprecatedNamespace)},
			acceptance{"current run", setAddress(request, "w", "")},
			acceptance{"workflow id 1001", setAddress(request, text(1001), testRunID)},
		)
		refusals = append(refusals,
			refusal{"namespace missing", setField(request, "namespace", ""), invalid},
			refusal{"namespace unknown", setField(request, "namespace", "no-such"), &serviceerror.NamespaceNotFound{}},
			refusal{"namespace deleted", setField(request, "namespace", deletedNamespace), &serviceerror.NamespaceInvalidState{}},
			refusal{"nothing but a namespace", setField(request.ProtoReflect().New().Interface(), "namespace", testNamespace), invalid},
			refusal{"workflow id missing", setAddress(request, "", testRunID), invalid},
			refusal{"run id no uuid", setAddress(request, "w", "not-a-uuid"), invalid},
			refusal{"run id in braces", setAddress(request, "w", "{"+testRunID+"}"), invalid},
		)
	}
	checkRefusals(t, e, refusals)
	checkAcceptances(t, e, acceptances)
}

// setField returns a copy of the message with a string field set.
func setField(m proto.Message, name string, value string) proto.Message {
	out := proto.Clone(m).ProtoReflect()
	fields := out.Descriptor().Fields()
	for i := range fields.Len() {
		if string(fields.Get(i).Name()) == name {
			out.Set(fields.Get(i), protoString(value))
		}
	}
	return out.Interface()
}

// setAddress returns a copy of the message that is about another workflow.
func setAddress(m proto.Message, workflowID, runID string) proto.Message {
	out := proto.Clone(m)
	target := &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID}
	switch r := out.(type) {
	case *workflowservice.PollWorkflowExecutionUpdateRequest:
		r.UpdateRef.WorkflowExecution = target
	case *workflowservice.PauseWorkflowExecutionRequest, *workflowservice.UnpauseWorkflowExecutionRequest:
		return setField(setField(out, "workflow_id", workflowID), "run_id", runID)
	default:
		fields := out.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); f.Name() == "workflow_execution" || f.Name() == "execution" {
				out.ProtoReflect().Set(f, protoMessage(target))
			}
		}
	}
	return out
}

func TestWorkflowRefusals(t *testing.T) {
	checkRefusals(t, newEnv(t), []refusal{
		{"execution missing", with(aSignal(), func(r *signalReq) { r.WorkflowExecution = nil }), invalid},
		{"name missing", with(aSignal(), func(r *signalReq) { r.SignalName = "" }), invalid},
		{"name 1001", with(aSignal(), func(r *signalReq) { r.SignalName = text(1001) }), invalid},
		{"request id 1001", with(aSignal(), func(r *signalReq) { r.RequestId = text(1001) }), invalid},
		{"input 3 MiB", with(aSignal(), func(r *signalReq) { r.Input = payloads(3 << 20) }), invalid},
		{"links 11", with(aSignal(), func(r *signalReq) { r.Links = links(11) }), invalid},
		{"links 11", with(aCancel(), func(r *cancelReq) { r.Links = links(11) }), invalid},
		{"links 11", with(aTerminate(), func(r *termReq) { r.Links = links(11) }), invalid},
		{"details 3 MiB", with(aTerminate(), func(r *termReq) { r.Details = payloads(3 << 20) }), invalid},
		{"request id missing", with(aReset(), func(r *resetReq) { r.RequestId = "" }), invalid},
		{"request id 1001", with(aReset(), func(r *resetReq) { r.RequestId = text(1001) }), invalid},
		{"event id missing", with(aReset(), func(r *resetReq) { r.WorkflowTaskFinishEventId = 0 }), invalid},
		{"event id 1", with(aReset(), func(r *resetReq) { r.WorkflowTaskFinishEventId = 1 }), invalid},
		// Clients still send the deprecated field.
		{"reapply unknown", with(aReset(), func(r *resetReq) { r.ResetReapplyType = 99 }), invalid},
		{"options without mask", with(aReset(), func(r *resetReq) {
			r.PostResetOperations = []*workflowpb.PostResetOperation{{Variant: &workflowpb.PostResetOperation_UpdateWorkflowOptions_{
				UpdateWorkflowOptions: &workflowpb.PostResetOperation_UpdateWorkflowOptions{}}}}
		}), invalid},
		{"signal after reset", with(aReset(), func(r *resetReq) {
			r.PostResetOperations = []*workflowpb.PostResetOperation{{Variant: &workflowpb.PostResetOperation_SignalWorkflow_{
				SignalWorkflow: &workflowpb.PostResetOperation_SignalWorkflow{}}}}
		}), invalid},
		{"query missing", with(aQuery(), func(r *queryReq) { r.Query = nil }), invalid},
		{"type missing", with(aQuery(), func(r *queryReq) { r.Query.QueryType = "" }), invalid},
		{"args 3 MiB", with(aQuery(), func(r *queryReq) { r.Query.QueryArgs = payloads(3 << 20) }), invalid},
		{"mask unknown", with(anOptionsUpdate(), func(r *optionsReq) { r.UpdateMask.Paths = []string{"no_such_field"} }), invalid},
		{"override in parts", with(anOptionsUpdate(), func(r *optionsReq) {
			r.UpdateMask.Paths = []string{"versioning_override.behavior"}
		}), invalid},
		{"priority negative", with(anOptionsUpdate(), func(r *optionsReq) {
			r.WorkflowExecutionOptions.Priority.PriorityKey = -1
		}), invalid},
		{"reason 1001", with(aPause(), func(r *workflowservice.PauseWorkflowExecutionRequest) { r.Reason = text(1001) }), invalid},
	})
}

func TestWorkflowAcceptances(t *testing.T) {
	checkAcceptances(t, newEnv(t), []acceptance{
		{"reserved name", with(aSignal(), func(r *signalReq) { r.SignalName = "__temporal_signal" })},
		{"request id 1001", with(aCancel(), func(r *cancelReq) { r.RequestId = text(1001) })},
		{"reason 1001", with(aCancel(), func(r *cancelReq) { r.Reason = text(1001) })},
		{"first run is no uuid", with(aCancel(), func(r *cancelReq) { r.FirstExecutionRunId = "x" })},
		{"reason 5000", with(aTerminate(), func(r *termReq) { r.Reason = text(5000) })},
		{"identity 1001", with(aTerminate(), func(r *termReq) { r.Identity = text(1001) })},
		{"excluded type unknown", with(aReset(), func(r *resetReq) { r.ResetReapplyExcludeTypes = []enumspb.ResetReapplyExcludeType{99} })},
		{"filter unknown", with(aHistory(), func(r *historyReq) { r.HistoryEventFilterType = 99 })},
		{"page size negative", with(aHistory(), func(r *historyReq) { r.MaximumPageSize = -1 })},
		{"reject condition unknown", with(aQuery(), func(r *queryReq) { r.QueryRejectCondition = 99 })},
		{"mask empty", with(anOptionsUpdate(), func(r *optionsReq) { r.UpdateMask = &fieldmaskpb.FieldMask{} })},
	})
}

func TestRequestIDsAreFilledIn(t *testing.T) {
	e := newEnv(t)
	for _, request := range []proto.Message{aSignal(), aCancel(), aPause(), anUnpause(), anActivityPause()} {
		_, err := e.send(t.Context(), request)
		require.NoError(t, err)
		calls := e.history.taken()
		require.Len(t, calls, 1)
		inner := innerRequest(calls[0].request).(interface{ GetRequestId() string })
		require.NoError(t, uuid.Validate(inner.GetRequestId()), "%T", request)
	}
}

// innerRequest returns the client's request in a request to history.
func innerRequest(m proto.Message) proto.Message {
	r := m.ProtoReflect()
	return r.Get(r.Descriptor().Fields().ByName("request")).Message().Interface()
}

func TestHistoryHidesProvisionalEventsFromPeople(t *testing.T) {
	e := newEnv(t)
	for client, hidden := range map[string]bool{clientGo: false, clientCLI: true, clientUI: true} {
		_, err := e.send(withHeaders(t.Context(), headerClientName, client, headerClientVersion, "1.0.0"), aHistory())
		require.NoError(t, err)
		require.Equal(t, hidden, onlyCall[*historypb.GetWorkflowExecutionHistoryRequest](t, e.history).GetHideProvisional(), client)
	}
}

func TestUpdates(t *testing.T) {
	e := newEnv(t)
	checkRefusals(t, e, []refusal{
		{"execution missing", with(anUpdate(), func(r *updateReq) { r.WorkflowExecution = nil }), invalid},
		{"meta missing", with(anUpdate(), func(r *updateReq) { r.Request.Meta = nil }), invalid},
		{"input missing", with(anUpdate(), func(r *updateReq) { r.Request.Input = nil }), invalid},
		{"name missing", with(anUpdate(), func(r *updateReq) { r.Request.Input.Name = "" }), invalid},
		{"update id 1001", with(anUpdate(), func(r *updateReq) { r.Request.Meta.UpdateId = text(1001) }), invalid},
		{"input 3 MiB", with(anUpdate(), func(r *updateReq) { r.Request.Input.Args = payloads(3 << 20) }), invalid},
		{"wait until admitted", with(anUpdate(), func(r *updateReq) {
			r.WaitPolicy = &updatepb.WaitPolicy{LifecycleStage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED}
		}), &serviceerror.PermissionDenied{}},
		{"ref missing", &workflowservice.PollWorkflowExecutionUpdateRequest{Namespace: testNamespace}, invalid},
	})
	checkAcceptances(t, e, []acceptance{
		{"name 1001", with(anUpdate(), func(r *updateReq) { r.Request.Input.Name = text(1001) })},
		{"stage unknown", with(anUpdate(), func(r *updateReq) { r.WaitPolicy = &updatepb.WaitPolicy{LifecycleStage: 99} })},
	})

	request := with(anUpdate(), func(r *updateReq) { r.Request.Meta.UpdateId = "" })
	_, err := send(t.Context(), t, e.local, request)
	require.NoError(t, err)
	require.Empty(t, request.GetRequest().GetMeta().GetUpdateId())
	got := onlyCall[*historypb.UpdateWorkflowExecutionRequest](t, e.history).GetRequest()
	require.NoError(t, uuid.Validate(got.GetRequest().GetMeta().GetUpdateId()))
}

type multiReq = workflowservice.ExecuteMultiOperationRequest

func multi(start func(*startReq), update func(*updateReq)) *multiReq {
	s, u := startRequestWith(start), anUpdate()
	u.WorkflowExecution.RunId = ""
	update(u)
	return &multiReq{Namespace: testNamespace, Operations: []*workflowservice.ExecuteMultiOperationRequest_Operation{
		{Operation: &workflowservice.ExecuteMultiOperationRequest_Operation_StartWorkflow{StartWorkflow: s}},
		{Operation: &workflowservice.ExecuteMultiOperationRequest_Operation_UpdateWorkflow{UpdateWorkflow: u}},
	}}
}

func TestUpdateWithStart(t *testing.T) {
	e := newEnv(t)
	sameStart, sameUpdate := func(*startReq) {}, func(*updateReq) {}
	valid := multi(sameStart, sameUpdate)
	first, second := valid.GetOperations()[0], valid.GetOperations()[1]
	type operation = workflowservice.ExecuteMultiOperationRequest_Operation
	checkRefusals(t, e, []refusal{
		{"no operations", &multiReq{Namespace: testNamespace}, invalid},
		{"one operation", &multiReq{Namespace: testNamespace, Operations: []*operation{first}}, invalid},
		{"wrong order", &multiReq{Namespace: testNamespace, Operations: []*operation{second, first}}, invalid},
		{"empty operations", &multiReq{Namespace: testNamespace, Operations: []*operation{{}, {}}}, invalid},
		{"deprecated namespace", with(multi(sameStart, sameUpdate), func(r *multiReq) { r.Namespace = deprecatedNamespace }), &serviceerror.NamespaceInvalidState{}},
	})

	aborted := &serviceerror.MultiOperationAborted{}
	for name, c := range map[string]struct {
		request *multiReq
		errs    [2]error
	}{
		"start of another namespace":  {multi(func(r *startReq) { r.Namespace = otherNamespace }, sameUpdate), [2]error{invalid, aborted}},
		"start with cron":             {multi(func(r *startReq) { r.CronSchedule = "* * * * *" }, sameUpdate), [2]error{invalid, aborted}},
		"start with delay":            {multi(func(r *startReq) { r.WorkflowStartDelay = seconds(1) }, sameUpdate), [2]error{invalid, aborted}},
		"start eager":                 {multi(func(r *startReq) { r.RequestEagerExecution = true }, sameUpdate), [2]error{invalid, aborted}},
		"start without type":          {multi(func(r *startReq) { r.WorkflowType = nil }, sameUpdate), [2]error{invalid, aborted}},
		"start request id 1001":       {multi(func(r *startReq) { r.RequestId = text(1001) }, sameUpdate), [2]error{invalid, aborted}},
		"update with run id":          {multi(sameStart, func(r *updateReq) { r.WorkflowExecution.RunId = testRunID }), [2]error{aborted, invalid}},
		"update with first run id":    {multi(sameStart, func(r *updateReq) { r.FirstExecutionRunId = testRunID }), [2]error{aborted, invalid}},
		"update without meta":         {multi(sameStart, func(r *updateReq) { r.Request.Meta = nil }), [2]error{aborted, invalid}},
		"update of another workflow":  {multi(sameStart, func(r *updateReq) { r.WorkflowExecution.WorkflowId = "other" }), [2]error{aborted, invalid}},
		"update of another namespace": {multi(sameStart, func(r *updateReq) { r.Namespace = otherNamespace }), [2]error{aborted, invalid}},
		"update waits until admitted": {multi(sameStart, func(r *updateReq) {
			r.WaitPolicy = &updatepb.WaitPolicy{LifecycleStage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED}
		}), [2]error{aborted, &serviceerror.PermissionDenied{}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.send(t.Context(), c.request)
			var failed *serviceerror.MultiOperationExecution
			require.ErrorAs(t, err, &failed)
			require.Len(t, failed.OperationErrors(), 2)
			require.IsType(t, c.errs[0], failed.OperationErrors()[0])
			require.IsType(t, c.errs[1], failed.OperationErrors()[1])
			require.Empty(t, e.history.taken())
		})
	}

	_, err := e.send(t.Context(), multi(sameStart, func(r *updateReq) { r.Namespace, r.Request.Meta.UpdateId = "", "" }))
	require.NoError(t, err)
	operations := onlyCall[*historypb.ExecuteMultiOperationRequest](t, e.history).GetRequest().GetOperations()
	require.Equal(t, testNamespace, operations[1].GetUpdateWorkflow().GetNamespace())
	require.NoError(t, uuid.Validate(operations[1].GetUpdateWorkflow().GetRequest().GetMeta().GetUpdateId()))
	require.NoError(t, uuid.Validate(operations[0].GetStartWorkflow().GetRequestId()))
}

type activityOptionsReq = workflowservice.UpdateActivityOptionsRequest

func anActivityOptionsUpdate() *activityOptionsReq {
	return &activityOptionsReq{Namespace: testNamespace, Execution: execution(),
		Activity:        &workflowservice.UpdateActivityOptionsRequest_Id{Id: "a"},
		ActivityOptions: &activitypb.ActivityOptions{HeartbeatTimeout: seconds(5)},
		UpdateMask:      &fieldmaskpb.FieldMask{Paths: []string{"heartbeat_timeout"}}}
}
func anActivityPause() *workflowservice.PauseActivityRequest {
	return &workflowservice.PauseActivityRequest{Namespace: testNamespace, Execution: execution(),
		Activity: &workflowservice.PauseActivityRequest_Id{Id: "a"}}
}
func anActivityUnpause() *workflowservice.UnpauseActivityRequest {
	return &workflowservice.UnpauseActivityRequest{Namespace: testNamespace, Execution: execution(),
		Activity: &workflowservice.UnpauseActivityRequest_Type{Type: "T"}}
}
func anActivityReset() *workflowservice.ResetActivityRequest {
	return &workflowservice.ResetActivityRequest{Namespace: testNamespace, Execution: execution(),
		Activity: &workflowservice.ResetActivityRequest_MatchAll{MatchAll: true}}
}

func TestActivityCommands(t *testing.T) {
	e := newEnv(t)
	checkRefusals(t, e, []refusal{
		{"selector missing", with(anActivityOptionsUpdate(), func(r *activityOptionsReq) { r.Activity = nil }), invalid},
		{"selector missing", with(anActivityPause(), func(r *workflowservice.PauseActivityRequest) { r.Activity = nil }), invalid},
		{"selector missing", with(anActivityUnpause(), func(r *workflowservice.UnpauseActivityRequest) { r.Activity = nil }), invalid},
		{"selector missing", with(anActivityReset(), func(r *workflowservice.ResetActivityRequest) { r.Activity = nil }), invalid},
		{"mask missing", with(anActivityOptionsUpdate(), func(r *activityOptionsReq) { r.UpdateMask = nil }), invalid},
		{"options missing", with(anActivityOptionsUpdate(), func(r *activityOptionsReq) { r.ActivityOptions = nil }), invalid},
		{"timeout negative", with(anActivityOptionsUpdate(), func(r *activityOptionsReq) {
			r.ActivityOptions.HeartbeatTimeout = seconds(-1)
		}), invalid},
		{"queue empty", with(anActivityOptionsUpdate(), func(r *activityOptionsReq) {
			r.ActivityOptions.TaskQueue = &taskqueuepb.TaskQueue{}
		}), invalid},
		{"restore with options", with(anActivityOptionsUpdate(), func(r *activityOptionsReq) { r.RestoreOriginal = true }), invalid},
	})
	checkAcceptances(t, e, []acceptance{
		{"mask unknown", with(anActivityOptionsUpdate(), func(r *activityOptionsReq) { r.UpdateMask.Paths = []string{"no_such_field"} })},
		{"restore", with(anActivityOptionsUpdate(), func(r *activityOptionsReq) {
			r.RestoreOriginal, r.ActivityOptions, r.UpdateMask = true, nil, nil
		})},
		{"reason 1001", with(anActivityPause(), func(r *workflowservice.PauseActivityRequest) { r.Reason = text(1001) })},
		{"jitter negative", with(anActivityReset(), func(r *workflowservice.ResetActivityRequest) { r.Jitter = seconds(-1) })},
		{"all", with(anActivityUnpause(), func(r *workflowservice.UnpauseActivityRequest) {
			r.Activity = &workflowservice.UnpauseActivityRequest_UnpauseAll{UnpauseAll: true}
		})},
	})
}
