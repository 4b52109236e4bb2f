package frontend

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	historypb "github.com/perdure/perdure/api/history/v1"
)

type startReq = workflowservice.StartWorkflowExecutionRequest

func startRequestWith(change func(*startReq)) *startReq {
	return with(&startReq{
		Namespace:    testNamespace,
		WorkflowId:   "w",
		WorkflowType: &commonpb.WorkflowType{Name: "Type"},
		TaskQueue:    &taskqueuepb.TaskQueue{Name: "q"},
	}, change)
}

type signalStartReq = workflowservice.SignalWithStartWorkflowExecutionRequest

func signalWithStart(change func(*signalStartReq)) *signalStartReq {
	return with(&signalStartReq{
		Namespace:    testNamespace,
		WorkflowId:   "w",
		WorkflowType: &commonpb.WorkflowType{Name: "Type"},
		TaskQueue:    &taskqueuepb.TaskQueue{Name: "q"},
		SignalName:   "s",
	}, change)
}

func text(n int) string { return strings.Repeat("x", n) }

func payloads(n int) *commonpb.Payloads {
	return &commonpb.Payloads{Payloads: []*commonpb.Payload{payload(text(n))}}
}

func payload(data string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(data)}
}

func attributes(name, json string) *commonpb.SearchAttributes {
	return &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{name: payload(json)}}
}

func links(n int) []*commonpb.Link {
	out := make([]*commonpb.Link, n)
	for i := range out {
		out[i] = eventLink("w")
	}
	return out
}

func eventLink(workflowID string) *commonpb.Link {
	return &commonpb.Link{Variant: &commonpb.Link_WorkflowEvent_{
		WorkflowEvent: &commonpb.Link_WorkflowEvent{Namespace: testNamespace, WorkflowId: workflowID, RunId: testRunID}}}
}

func nexusCallback(url string) []*commonpb.Callback {
	return []*commonpb.Callback{{Variant: &commonpb.Callback_Nexus_{Nexus: &commonpb.Callback_Nexus{Url: url}}}}
}

func pinned(behavior workflowpb.VersioningOverride_PinnedOverrideBehavior, v *deploymentpb.WorkerDeploymentVersion) *workflowpb.VersioningOverride {
	return &workflowpb.VersioningOverride{Override: &workflowpb.VersioningOverride_Pinned{
		Pinned: &workflowpb.VersioningOverride_PinnedOverride{Behavior: behavior, Version: v}}}
}

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

const pinnedBehavior = workflowpb.VersioningOverride_PINNED_OVERRIDE_BEHAVIOR_PINNED

func TestStartRefusals(t *testing.T) {
	e := newEnv(t)
	start := func(name string, change func(*startReq)) refusal {
		return refusal{name, startRequestWith(change), invalid}
	}
	checkRefusals(t, e, []refusal{
		start("namespace missing", func(r *startReq) { r.Namespace = "" }),
		{"namespace unknown", startRequestWith(func(r *startReq) { r.Namespace = "no-such" }), &serviceerror.NamespaceNotFound{}},
		{"namespace by id", startRequestWith(func(r *startReq) { r.Namespace = e.namespaceID(testNamespace) }), &serviceerror.NamespaceNotFound{}},
		{"namespace deprecated", startRequestWith(func(r *startReq) { r.Namespace = deprecatedNamespace }), &serviceerror.NamespaceInvalidState{}},
		{"namespace deleted", startRequestWith(func(r *startReq) { r.Namespace = deletedNamespace }), &serviceerror.NamespaceInvalidState{}},
		start("workflow id missing", func(r *startReq) { r.WorkflowId = "" }),
		start("workflow id 1001", func(r *startReq) { r.WorkflowId = text(1001) }),
		start("type missing", func(r *startReq) { r.WorkflowType = nil }),
		start("type empty", func(r *startReq) { r.WorkflowType.Name = "" }),
		start("type 1001", func(r *startReq) { r.WorkflowType.Name = text(1001) }),
		start("request id 1001", func(r *startReq) { r.RequestId = text(1001) }),
		start("queue missing", func(r *startReq) { r.TaskQueue = nil }),
		start("queue empty", func(r *startReq) { r.TaskQueue.Name = "" }),
		start("queue 1001", func(r *startReq) { r.TaskQueue.Name = text(1001) }),
		start("queue partition", func(r *startReq) { r.TaskQueue.Name = "/_sys/q/1" }),
		start("queue internal", func(r *startReq) { r.TaskQueue.Name = "temporal-sys-per-ns-tq" }),
		start("run timeout negative", func(r *startReq) { r.WorkflowRunTimeout = seconds(-1) }),
		start("execution timeout negative", func(r *startReq) { r.WorkflowExecutionTimeout = seconds(-1) }),
		start("task timeout negative", func(r *startReq) { r.WorkflowTaskTimeout = seconds(-1) }),
		start("task timeout invalid", func(r *startReq) { r.WorkflowTaskTimeout = &durationpb.Duration{Seconds: 1, Nanos: -1} }),
		start("delay negative", func(r *startReq) { r.WorkflowStartDelay = seconds(-1) }),
		start("cron and delay", func(r *startReq) { r.CronSchedule = "* * * * *"; r.WorkflowStartDelay = seconds(1) }),
		start("cron garbage", func(r *startReq) { r.CronSchedule = "every day" }),
		start("cron out of range", func(r *startReq) { r.CronSchedule = "61 * * * *" }),
		start("cron bad timezone", func(r *startReq) { r.CronSchedule = "CRON_TZ=Mars/Base 0 4 * * *" }),
		start("cron never", func(r *startReq) { r.CronSchedule = "0 0 31 2 *" }),
		start("retry initial negative", func(r *startReq) { r.RetryPolicy = &commonpb.RetryPolicy{InitialInterval: seconds(-1)} }),
		start("retry coefficient", func(r *startReq) { r.RetryPolicy = &commonpb.RetryPolicy{BackoffCoefficient: 0.5} }),
		start("retry maximum negative", func(r *startReq) { r.RetryPolicy = &commonpb.RetryPolicy{MaximumInterval: seconds(-1)} }),
		start("retry maximum under initial", func(r *startReq) {
			r.RetryPolicy = &commonpb.RetryPolicy{InitialInterval: seconds(5), MaximumInterval: seconds(4)}
		}),
		start("retry attempts negative", func(r *startReq) { r.RetryPolicy = &commonpb.RetryPolicy{MaximumAttempts: -1} }),
		start("retry timeout type", func(r *startReq) {
			r.RetryPolicy = &commonpb.RetryPolicy{NonRetryableErrorTypes: []string{"TemporalTimeout:Never"}}
		}),
		start("reuse unknown", func(r *startReq) { r.WorkflowIdReusePolicy = 99 }),
		start("conflict unknown", func(r *startReq) { r.WorkflowIdConflictPolicy = 99 }),
		start("terminate if running with conflict policy", func(r *startReq) {
			r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING
			r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
		}),
		start("reject duplicate with terminate existing", func(r *startReq) {
			r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
			r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
		}),
		start("callbacks on conflict without request id", func(r *startReq) {
			r.OnConflictOptions = &workflowpb.OnConflictOptions{AttachCompletionCallbacks: true}
		}),
		start("input 3 MiB", func(r *startReq) { r.Input = payloads(3 << 20) }),
		start("memo 3 MiB", func(r *startReq) {
			r.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": payload(text(3 << 20))}}
		}),
		start("attribute unknown", func(r *startReq) { r.SearchAttributes = attributes("Missing", `"x"`) }),
		start("attribute of the system", func(r *startReq) { r.SearchAttributes = attributes("WorkflowType", `"x"`) }),
		start("attribute of the wrong type", func(r *startReq) { r.SearchAttributes = attributes("Color", `1`) }),
		start("priority negative", func(r *startReq) { r.Priority = &commonpb.Priority{PriorityKey: -1} }),
		start("fairness key 65", func(r *startReq) { r.Priority = &commonpb.Priority{FairnessKey: text(65)} }),
		start("callback internal", func(r *startReq) {
			r.CompletionCallbacks = []*commonpb.Callback{{Variant: &commonpb.Callback_Internal_{Internal: &commonpb.Callback_Internal{}}}}
		}),
		start("callback without scheme", func(r *startReq) { r.CompletionCallbacks = nexusCallback("localhost") }),
		start("callback ftp", func(r *startReq) { r.CompletionCallbacks = nexusCallback("ftp://localhost/x") }),
		start("callback url too long", func(r *startReq) { r.CompletionCallbacks = nexusCallback("http://localhost/" + text(1000)) }),
		start("link empty", func(r *startReq) { r.Links = []*commonpb.Link{{}} }),
		start("link without run id", func(r *startReq) {
			link := eventLink("w")
			link.GetWorkflowEvent().RunId = ""
			r.Links = []*commonpb.Link{link}
		}),
		start("link to an event of no type", func(r *startReq) {
			link := eventLink("w")
			link.GetWorkflowEvent().Reference = &commonpb.Link_WorkflowEvent_EventRef{EventRef: &commonpb.Link_WorkflowEvent_EventReference{EventId: 1}}
			r.Links = []*commonpb.Link{link}
		}),
		start("link to no batch job", func(r *startReq) {
			r.Links = []*commonpb.Link{{Variant: &commonpb.Link_BatchJob_{BatchJob: &commonpb.Link_BatchJob{}}}}
		}),
		start("link too large", func(r *startReq) { r.Links = []*commonpb.Link{eventLink(text(4001))} }),
		start("links 11", func(r *startReq) { r.Links = links(11) }),
		start("override without version", func(r *startReq) { r.VersioningOverride = pinned(pinnedBehavior, nil) }),
		start("override without behavior", func(r *startReq) {
			r.VersioningOverride = pinned(0, &deploymentpb.WorkerDeploymentVersion{DeploymentName: "d", BuildId: "b"})
		}),
		start("override empty", func(r *startReq) { r.VersioningOverride = &workflowpb.VersioningOverride{} }),
		start("override of the old form", func(r *startReq) {
			// The deprecated form is what is tested.
			r.VersioningOverride = &workflowpb.VersioningOverride{Behavior: enumspb.VERSIONING_BEHAVIOR_PINNED, PinnedVersion: "no dot"}
		}),
		{"callbacks 33", startRequestWith(func(r *startReq) {
			for range 33 {
				r.CompletionCallbacks = append(r.CompletionCallbacks, nexusCallback("http://localhost/")...)
			}
		}), &serviceerror.FailedPrecondition{}},
	})
}

func TestStartAcceptances(t *testing.T) {
	start := func(name string, change func(*startReq)) acceptance {
		return acceptance{name, startRequestWith(change)}
	}
	checkAcceptances(t, newEnv(t), []acceptance{
		start("plain", func(*startReq) {}),
		start("workflow id 1000", func(r *startReq) { r.WorkflowId = text(1000) }),
		start("identity 1001", func(r *startReq) { r.Identity = text(1001) }),
		start("request id is no uuid", func(r *startReq) { r.RequestId = "not a uuid" }),
		start("sticky kind", func(r *startReq) {
			r.TaskQueue.Kind, r.TaskQueue.NormalName = enumspb.TASK_QUEUE_KIND_STICKY, "n"
		}),
		start("normal name on a normal queue", func(r *startReq) { r.TaskQueue.NormalName = "n" }),
		start("unknown kind", func(r *startReq) { r.TaskQueue.Kind = 99 }),
		start("delay of zero", func(r *startReq) { r.WorkflowStartDelay = seconds(0) }),
		start("cron every", func(r *startReq) { r.CronSchedule = "@every 1h" }),
		start("cron with timezone", func(r *startReq) { r.CronSchedule = "CRON_TZ=Europe/Paris 0 4 * * *" }),
		start("one attempt is not checked", func(r *startReq) {
			r.RetryPolicy = &commonpb.RetryPolicy{MaximumAttempts: 1, BackoffCoefficient: 0.5}
		}),
		start("known timeout type", func(r *startReq) {
			r.RetryPolicy = &commonpb.RetryPolicy{NonRetryableErrorTypes: []string{"TemporalTimeout:StartToClose"}}
		}),
		start("input and memo too large only together", func(r *startReq) {
			r.Input = payloads(1_500_000)
			r.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": payload(text(1_500_000))}}
		}),
		start("details 20001", func(r *startReq) { r.UserMetadata = &sdkpb.UserMetadata{Details: payload(text(20_001))} }),
		start("priority six", func(r *startReq) { r.Priority = &commonpb.Priority{PriorityKey: 6, FairnessWeight: 100_000} }),
		start("auto-upgrade override", func(r *startReq) {
			r.VersioningOverride = &workflowpb.VersioningOverride{Override: &workflowpb.VersioningOverride_AutoUpgrade{AutoUpgrade: true}}
		}),
		start("links 10", func(r *startReq) { r.Links = links(10) }),
		start("callback", func(r *startReq) { r.CompletionCallbacks = nexusCallback("https://localhost/x") }),
	})
}

func TestStartDefaults(t *testing.T) {
	e := newEnv(t)
	started := func(change func(*startReq)) *startReq {
		_, err := e.send(t.Context(), startRequestWith(change))
		require.NoError(t, err)
		got := onlyCall[*historypb.StartWorkflowExecutionRequest](t, e.history)
		require.Equal(t, e.namespaceID(testNamespace), got.GetNamespaceId())
		return got.GetRequest()
	}

	plain := started(func(r *startReq) { r.TaskQueue.Kind, r.TaskQueue.NormalName = enumspb.TASK_QUEUE_KIND_STICKY, "n" })
	require.NoError(t, uuid.Validate(plain.GetRequestId()))
	require.Equal(t, 10*time.Second, plain.GetWorkflowTaskTimeout().AsDuration())
	require.Zero(t, plain.GetWorkflowRunTimeout().AsDuration())
	require.Equal(t, enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, plain.GetWorkflowIdReusePolicy())
	require.Equal(t, enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL, plain.GetWorkflowIdConflictPolicy())
	require.True(t, proto.Equal(&taskqueuepb.TaskQueue{Name: "q", Kind: enumspb.TASK_QUEUE_KIND_NORMAL}, plain.GetTaskQueue()))
	require.Nil(t, plain.GetRetryPolicy())

	require.Equal(t, "mine", started(func(r *startReq) { r.RequestId = "mine" }).GetRequestId())

	capped := started(func(r *startReq) {
		r.WorkflowExecutionTimeout, r.WorkflowRunTimeout, r.WorkflowTaskTimeout = seconds(10), seconds(20), seconds(3600)
	})
	require.Equal(t, 10*time.Second, capped.GetWorkflowRunTimeout().AsDuration())
	require.Equal(t, 10*time.Second, capped.GetWorkflowTaskTimeout().AsDuration())

	long := started(func(r *startReq) {
		r.WorkflowExecutionTimeout, r.WorkflowTaskTimeout = &durationpb.Duration{Seconds: 300_000_000_000}, seconds(3600)
	})
	require.Equal(t, durationMax, long.GetWorkflowExecutionTimeout().AsDuration())
	require.Equal(t, durationMax, long.GetWorkflowRunTimeout().AsDuration())
	require.Equal(t, 120*time.Second, long.GetWorkflowTaskTimeout().AsDuration())

	legacy := started(func(r *startReq) {
		r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING
	})
	require.Equal(t, enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, legacy.GetWorkflowIdReusePolicy())
	require.Equal(t, enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING, legacy.GetWorkflowIdConflictPolicy())

	retried := started(func(r *startReq) { r.RetryPolicy = &commonpb.RetryPolicy{} }).GetRetryPolicy()
	require.True(t, proto.Equal(&commonpb.RetryPolicy{
		InitialInterval: seconds(1), BackoffCoefficient: 2, MaximumInterval: seconds(100)}, retried))

	colored := started(func(r *startReq) { r.SearchAttributes = attributes("Color", `"red"`) })
	require.Equal(t, "Keyword", string(colored.GetSearchAttributes().GetIndexedFields()["Color"].GetMetadata()["type"]))
}

func TestSignalWithStart(t *testing.T) {
	e := newEnv(t)
	refused := func(name string, change func(*signalStartReq)) refusal {
		return refusal{name, signalWithStart(change), invalid}
	}
	checkRefusals(t, e, []refusal{
		refused("workflow id missing", func(r *signalStartReq) { r.WorkflowId = "" }),
		refused("type missing", func(r *signalStartReq) { r.WorkflowType = nil }),
		refused("signal name missing", func(r *signalStartReq) { r.SignalName = "" }),
		refused("signal name 1001", func(r *signalStartReq) { r.SignalName = text(1001) }),
		refused("signal input 3 MiB", func(r *signalStartReq) { r.SignalInput = payloads(3 << 20) }),
		refused("conflict fail", func(r *signalStartReq) {
			r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
		}),
		refused("queue partition", func(r *signalStartReq) { r.TaskQueue.Name = "/_sys/q/1" }),
		refused("cron garbage", func(r *signalStartReq) { r.CronSchedule = "every day" }),
		refused("cron and delay", func(r *signalStartReq) { r.CronSchedule = "* * * * *"; r.WorkflowStartDelay = seconds(1) }),
		refused("coefficient", func(r *signalStartReq) { r.RetryPolicy = &commonpb.RetryPolicy{BackoffCoefficient: 0.5} }),
		refused("request id 1001", func(r *signalStartReq) { r.RequestId = text(1001) }),
		refused("attribute unknown", func(r *signalStartReq) { r.SearchAttributes = attributes("Missing", `"x"`) }),
		{"namespace deprecated", signalWithStart(func(r *signalStartReq) { r.Namespace = deprecatedNamespace }), &serviceerror.NamespaceInvalidState{}},
	})

	_, err := e.send(t.Context(), signalWithStart(func(*signalStartReq) {}))
	require.NoError(t, err)
	got := onlyCall[*historypb.SignalWithStartWorkflowExecutionRequest](t, e.history).GetRequest()
	require.NoError(t, uuid.Validate(got.GetRequestId()))
	require.Equal(t, enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING, got.GetWorkflowIdConflictPolicy())
	require.Equal(t, 10*time.Second, got.GetWorkflowTaskTimeout().AsDuration())
	require.Equal(t, "s", got.GetSignalName())

	_, err = e.send(t.Context(), signalWithStart(func(r *signalStartReq) {
		r.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	}))
	require.NoError(t, err)
}
