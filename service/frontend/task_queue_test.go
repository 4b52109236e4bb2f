package frontend

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

type (
	describeQueueReq = workflowservice.DescribeTaskQueueRequest
	configReq        = workflowservice.UpdateTaskQueueConfigRequest
	rateUpdate       = workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate
	shutdownReq      = workflowservice.ShutdownWorkerRequest
)

func describeQueue(change func(*describeQueueReq)) *describeQueueReq {
	return with(&describeQueueReq{Namespace: testNamespace, TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}}, change)
}

func rate(perSecond float32) *rateUpdate {
	return &rateUpdate{RateLimit: &taskqueuepb.RateLimit{RequestsPerSecond: perSecond}}
}

func queueConfig(change func(*configReq)) *configReq {
	return with(&configReq{Namespace: testNamespace, TaskQueue: "q", TaskQueueType: enumspb.TASK_QUEUE_TYPE_ACTIVITY,
		UpdateQueueRateLimit: rate(10)}, change)
}

// The enhanced mode is deprecated; clients still use it.
func TestTaskQueueRefusals(t *testing.T) {
	describe := func(name string, change func(*describeQueueReq)) refusal {
		return refusal{name, describeQueue(change), invalid}
	}
	config := func(name string, change func(*configReq)) refusal { return refusal{name, queueConfig(change), invalid} }
	list := func(name string, q *taskqueuepb.TaskQueue) refusal {
		return refusal{name, &workflowservice.ListTaskQueuePartitionsRequest{Namespace: testNamespace, TaskQueue: q}, invalid}
	}
	const enhanced = enumspb.DESCRIBE_TASK_QUEUE_MODE_ENHANCED
	checkRefusals(t, newEnv(t), []refusal{
		describe("queue missing", func(r *describeQueueReq) { r.TaskQueue = nil }),
		describe("queue empty", func(r *describeQueueReq) { r.TaskQueue.Name = "" }),
		describe("partition zero", func(r *describeQueueReq) { r.TaskQueue.Name = "/_sys/q/0" }),
		describe("partition negative", func(r *describeQueueReq) { r.TaskQueue.Name = "/_sys/q/-1" }),
		describe("partition text", func(r *describeQueueReq) { r.TaskQueue.Name = "/_sys/q/x" }),
		describe("partition without number", func(r *describeQueueReq) { r.TaskQueue.Name = "/_sys/q" }),
		describe("partition without name", func(r *describeQueueReq) { r.TaskQueue.Name = "/_sys//1" }),
		describe("statistics of a partition", func(r *describeQueueReq) { r.TaskQueue.Name = "/_sys/q/1"; r.ReportStats = true }),
		describe("enhanced partition", func(r *describeQueueReq) { r.TaskQueue.Name = "/_sys/q/1"; r.ApiMode = enhanced }),
		describe("enhanced sticky", func(r *describeQueueReq) {
			r.TaskQueue.Kind, r.TaskQueue.NormalName, r.ApiMode = enumspb.TASK_QUEUE_KIND_STICKY, "n", enhanced
		}),
		describe("reachability of many", func(r *describeQueueReq) {
			r.ApiMode, r.ReportTaskReachability = enhanced, true
			r.Versions = &taskqueuepb.TaskQueueVersionSelection{BuildIds: []string{"1", "2", "3", "4", "5", "6"}}
		}),
		list("queue missing", nil),
		list("partition", &taskqueuepb.TaskQueue{Name: "/_sys/q/1"}),
		list("queue 1001", &taskqueuepb.TaskQueue{Name: text(1001)}),
		config("queue missing", func(r *configReq) { r.TaskQueue = "" }),
		config("partition", func(r *configReq) { r.TaskQueue = "/_sys/q/1" }),
		config("identity 1001", func(r *configReq) { r.Identity = text(1001) }),
		config("reason 1001", func(r *configReq) { r.UpdateQueueRateLimit.Reason = text(1001) }),
		config("rate negative", func(r *configReq) { r.UpdateQueueRateLimit = rate(-1) }),
		config("rate not a number", func(r *configReq) { r.UpdateQueueRateLimit = rate(float32(math.NaN())) }),
		config("key rate negative", func(r *configReq) { r.UpdateFairnessKeyRateLimitDefault = rate(-1) }),
		config("workflow queue", func(r *configReq) { r.TaskQueueType = enumspb.TASK_QUEUE_TYPE_WORKFLOW }),
		config("key rate of a workflow queue", func(r *configReq) {
			r.TaskQueueType, r.UpdateQueueRateLimit, r.UpdateFairnessKeyRateLimitDefault = enumspb.TASK_QUEUE_TYPE_WORKFLOW, nil, rate(5)
		}),
		config("weight zero", func(r *configReq) { r.SetFairnessWeightOverrides = map[string]float32{"a": 0} }),
		config("weight negative", func(r *configReq) { r.SetFairnessWeightOverrides = map[string]float32{"a": -1} }),
		config("weight infinite", func(r *configReq) {
			r.SetFairnessWeightOverrides = map[string]float32{"a": float32(math.Inf(1))}
		}),
		config("weight of a key of 65", func(r *configReq) { r.SetFairnessWeightOverrides = map[string]float32{text(65): 1} }),
		config("weight of no key", func(r *configReq) { r.SetFairnessWeightOverrides = map[string]float32{"": 1} }),
		config("weight set and unset", func(r *configReq) {
			r.SetFairnessWeightOverrides, r.UnsetFairnessWeightOverrides = map[string]float32{"a": 1}, []string{"a"}
		}),
		config("1001 weights", func(r *configReq) { r.UnsetFairnessWeightOverrides = make([]string, 1001) }),
		{"namespace unknown", describeQueue(func(r *describeQueueReq) { r.Namespace = "no-such" }), &serviceerror.NamespaceNotFound{}},
	})
}

func TestTaskQueueAcceptances(t *testing.T) {
	e := newEnv(t)
	checkAcceptances(t, e, []acceptance{
		{"plain", describeQueue(func(*describeQueueReq) {})},
		{"statistics", describeQueue(func(r *describeQueueReq) { r.ReportStats = true })},
		{"mode unknown", describeQueue(func(r *describeQueueReq) { r.ApiMode = 99 })},
		{"sticky", describeQueue(func(r *describeQueueReq) { r.TaskQueue.Kind = enumspb.TASK_QUEUE_KIND_STICKY })},
		{"plain", &workflowservice.ListTaskQueuePartitionsRequest{Namespace: testNamespace, TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}}},
		{"plain", queueConfig(func(*configReq) {})},
		{"unset", queueConfig(func(r *configReq) { r.UpdateQueueRateLimit = &rateUpdate{} })},
		{"infinite", queueConfig(func(r *configReq) { r.UpdateQueueRateLimit = rate(float32(math.Inf(1))) })},
		{"weights of a workflow queue", queueConfig(func(r *configReq) {
			r.TaskQueueType, r.UpdateQueueRateLimit = enumspb.TASK_QUEUE_TYPE_WORKFLOW, nil
			r.SetFairnessWeightOverrides = map[string]float32{"a": 2}
		})},
	})

	_, err := e.send(t.Context(), describeQueue(func(r *describeQueueReq) { r.TaskQueue.Name = "/_sys/a/b/99" }))
	require.NoError(t, err)
	require.True(t, proto.Equal(&matchingpb.Partition{
		NamespaceId: e.namespaceID(testNamespace), TaskQueue: "a/b", Number: 99,
		Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW, Kind: enumspb.TASK_QUEUE_KIND_NORMAL,
	}, onlyCall[*matchingpb.DescribeTaskQueueRequest](t, e.matching).GetPartition()))
}

func TestShutdownWorker(t *testing.T) {
	e := newEnv(t)
	cancels := func(r *shutdownReq) []*matchingpb.CancelPollsRequest {
		r.Namespace = testNamespace
		_, err := e.send(t.Context(), r)
		require.NoError(t, err)
		var out []*matchingpb.CancelPollsRequest
		for _, c := range e.matching.taken() {
			out = append(out, c.request.(*matchingpb.CancelPollsRequest))
		}
		return out
	}
	require.Empty(t, cancels(&shutdownReq{}))
	require.Empty(t, cancels(&shutdownReq{TaskQueue: "q", TaskQueueTypes: []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_ACTIVITY}}))

	sticky := cancels(&shutdownReq{StickyTaskQueue: "s", Identity: "me"})
	require.Len(t, sticky, 1)
	require.True(t, sticky[0].GetUnloadSticky())
	require.Equal(t, "s", sticky[0].GetPartition().GetTaskQueue())
	require.Equal(t, enumspb.TASK_QUEUE_KIND_STICKY, sticky[0].GetPartition().GetKind())

	all := cancels(&shutdownReq{StickyTaskQueue: "s", TaskQueue: "q", WorkerInstanceKey: "k", TaskQueueTypes: []enumspb.TaskQueueType{
		enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY, enumspb.TASK_QUEUE_TYPE_ACTIVITY}})
	require.Len(t, all, 3)
	require.Equal(t, "q", all[0].GetPartition().GetNormalName())
	for i, queueType := range []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY} {
		require.Equal(t, queueType, all[i+1].GetPartition().GetType())
		require.Equal(t, "k", all[i+1].GetWorkerInstanceKey())
		require.False(t, all[i+1].GetUnloadSticky())
	}
}
