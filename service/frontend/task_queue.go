package frontend

import (
	"context"
	"math"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// DescribeTaskQueue implements WorkflowService.
func (h *Handler) DescribeTaskQueue(ctx context.Context, r *workflowservice.DescribeTaskQueueRequest) (*workflowservice.DescribeTaskQueueResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	partition, err := describedPartition(n.ID(), r.GetTaskQueue(), r.GetTaskQueueType())
	if err != nil {
		return nil, err
	}
	if err := checkDescribe(r, partition); err != nil {
		return nil, err
	}
	return h.matching.DescribeTaskQueue(ctx, &matchingpb.DescribeTaskQueueRequest{Partition: partition, Request: r})
}

// The enhanced mode is deprecated; clients still use it.
func checkDescribe(r *workflowservice.DescribeTaskQueueRequest, p *matchingpb.Partition) error {
	if r.GetReportStats() && p.GetNumber() > 0 {
		return serviceerror.NewInvalidArgument("DescribeTaskQueue stats are only supported for the root partition")
	}
	if r.GetApiMode() != enumspb.DESCRIBE_TASK_QUEUE_MODE_ENHANCED {
		return nil
	}
	if p.GetKind() == enumspb.TASK_QUEUE_KIND_STICKY {
		return serviceerror.NewInvalidArgument("Enhanced DescribeTaskQueue is not valid for a sticky queue, use api_mode=UNSPECIFIED or a normal queue.")
	}
	if p.GetNumber() > 0 {
		return serviceerror.NewInvalidArgument("A partition cannot be described in enhanced mode.")
	}
	if builds := len(r.GetVersions().GetBuildIds()); r.GetReportTaskReachability() && builds > reachabilityBuildIDsMax {
		return serviceerror.NewInvalidArgumentf("Too many build ids queried at once with ReportTaskReachability==true, limit: %d", reachabilityBuildIDsMax)
	}
	return nil
}

// ListTaskQueuePartitions implements WorkflowService.
func (h *Handler) ListTaskQueuePartitions(ctx context.Context, r *workflowservice.ListTaskQueuePartitionsRequest) (*workflowservice.ListTaskQueuePartitionsResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkTaskQueue(r.GetTaskQueue()); err != nil {
		return nil, err
	}
	return h.matching.ListTaskQueuePartitions(ctx, &matchingpb.ListTaskQueuePartitionsRequest{NamespaceId: n.ID(), Request: r})
}

// UpdateTaskQueueConfig implements WorkflowService.
func (h *Handler) UpdateTaskQueueConfig(ctx context.Context, r *workflowservice.UpdateTaskQueueConfigRequest) (*workflowservice.UpdateTaskQueueConfigResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkQueueConfig(r); err != nil {
		return nil, err
	}
	return h.matching.UpdateTaskQueueConfig(ctx, &matchingpb.UpdateTaskQueueConfigRequest{
		Partition: &matchingpb.Partition{
			NamespaceId: n.ID(),
			TaskQueue:   r.GetTaskQueue(),
			Type:        r.GetTaskQueueType(),
			Kind:        enumspb.TASK_QUEUE_KIND_NORMAL,
		},
		Request: r,
	})
}

func checkQueueConfig(r *workflowservice.UpdateTaskQueueConfigRequest) error {
	limit, keyLimit := r.GetUpdateQueueRateLimit(), r.GetUpdateFairnessKeyRateLimitDefault()
	if r.GetTaskQueueType() == enumspb.TASK_QUEUE_TYPE_WORKFLOW && limit != nil {
		return serviceerror.NewInvalidArgument("Setting rate limit on workflow task queues is not allowed.")
	}
	if r.GetTaskQueueType() == enumspb.TASK_QUEUE_TYPE_WORKFLOW && keyLimit != nil {
		return serviceerror.NewInvalidArgument("Setting fairness key rate limit on workflow task queues is not allowed.")
	}
	if strings.HasPrefix(r.GetTaskQueue(), partitionPrefix) {
		return serviceerror.NewInvalidArgumentf("task queue family name cannot have prefix %s %s", partitionPrefix, r.GetTaskQueue())
	}
	return firstError(
		checkQueueName(r.GetTaskQueue()),
		checkConfigText("Identity", r.GetIdentity(), idLengthMax),
		checkRateLimit("UpdateQueueRateLimit", limit),
		checkRateLimit("UpdateFairnessKeyRateLimitDefault", keyLimit),
		checkConcurrencyLimit(r.GetUpdateQueueConcurrencyLimit()),
		checkWeights(r.GetSetFairnessWeightOverrides(), r.GetUnsetFairnessWeightOverrides()),
	)
}

func checkRateLimit(field string, u *workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate) error {
	// Not "negative": a rate that is not a number must not pass.
	if rate := u.GetRateLimit().GetRequestsPerSecond(); !(rate >= 0) {
		return serviceerror.NewInvalidArgumentf("RequestsPerSecond for %s rate limit must be non-negative.", field)
	}
	return checkConfigText(field+".Reason", u.GetReason(), reasonLengthMax)
}

// checkConfigText checks the length of a text that stays with the configuration.
func checkConfigText(field, value string, maxBytes int) error {
	if len(value) > maxBytes {
		return serviceerror.NewInvalidArgumentf("%s field too long (max %d characters).", field, maxBytes)
	}
	return nil
}

func checkConcurrencyLimit(u *workflowservice.UpdateTaskQueueConfigRequest_ConcurrencyLimitUpdate) error {
	return checkConfigText("UpdateQueueConcurrencyLimit.Reason", u.GetReason(), reasonLengthMax)
}

func checkWeights(set map[string]float32, unset []string) error {
	if len(set)+len(unset) > weightOverridesMax {
		return serviceerror.NewInvalidArgumentf("Too many fairness weight overrides: %d, the limit is %d.", len(set)+len(unset), weightOverridesMax)
	}
	for key, weight := range set {
		if err := requiredFairnessKey(key); err != nil {
			return err
		}
		if !(weight > 0) || math.IsInf(float64(weight), 0) {
			return serviceerror.NewInvalidArgumentf("invalid fairness weight weight for key %q: must be greater than zero", key)
		}
	}
	for _, key := range unset {
		if err := requiredFairnessKey(key); err != nil {
			return err
		}
		if _, both := set[key]; both {
			return serviceerror.NewInvalidArgumentf("fairness weight override key %q present in both set and unset lists", key)
		}
	}
	return nil
}

func requiredFairnessKey(key string) error {
	return firstError(required("Fairness key", key), checkNameLength("fairness key", key, fairnessKeyLengthMax))
}

// ShutdownWorker implements WorkflowService: the worker's polls end, and its sticky queue takes no more tasks, so that they
// go to another worker at once.
func (h *Handler) ShutdownWorker(ctx context.Context, r *workflowservice.ShutdownWorkerRequest) (*workflowservice.ShutdownWorkerResponse, error) {
	n, err := h.namespaceOf(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, cancel := range pollsOf(r, n.ID()) {
		if _, err := h.matching.CancelPolls(ctx, cancel); err != nil {
			return nil, err
		}
	}
	return &workflowservice.ShutdownWorkerResponse{}, nil
}

// pollsOf lists what a worker polls: its sticky queue, and the queue that it serves under its instance key. Without that key
// only the identity is known, which workers of one process share.
func pollsOf(r *workflowservice.ShutdownWorkerRequest, namespaceID string) []*matchingpb.CancelPollsRequest {
	var polls []*matchingpb.CancelPollsRequest
	if validQueue(r.GetStickyTaskQueue()) {
		polls = append(polls, &matchingpb.CancelPollsRequest{
			Partition: &matchingpb.Partition{
				NamespaceId: namespaceID,
				TaskQueue:   r.GetStickyTaskQueue(),
				Type:        enumspb.TASK_QUEUE_TYPE_WORKFLOW,
				Kind:        enumspb.TASK_QUEUE_KIND_STICKY,
				NormalName:  r.GetTaskQueue(),
			},
			WorkerInstanceKey: r.GetWorkerInstanceKey(),
			Identity:          r.GetIdentity(),
			UnloadSticky:      true,
		})
	}
	if r.GetWorkerInstanceKey() == "" || !validQueue(r.GetTaskQueue()) {
		return polls
	}
	asked := make(map[enumspb.TaskQueueType]bool, len(r.GetTaskQueueTypes()))
	for _, queueType := range r.GetTaskQueueTypes() {
		if asked[queueType] {
			continue
		}
		asked[queueType] = true
		polls = append(polls, &matchingpb.CancelPollsRequest{
			Partition: &matchingpb.Partition{
				NamespaceId: namespaceID,
				TaskQueue:   r.GetTaskQueue(),
				Type:        queueType,
				Kind:        enumspb.TASK_QUEUE_KIND_NORMAL,
			},
			WorkerInstanceKey: r.GetWorkerInstanceKey(),
			Identity:          r.GetIdentity(),
		})
	}
	return polls
}

// validQueue tells whether a worker can have polled a queue of this name; a notice about any other is pointless, not wrong.
func validQueue(name string) bool {
	return name != "" && len(name) <= idLengthMax && !strings.HasPrefix(name, partitionPrefix)
}
