package frontend

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Programs and people look for these sentences. Each stands for all fields that the same check is made for.
func TestRecordedTexts(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	execution := func(workflowID, runID string) error {
		return checkExecution(&commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID})
	}
	_, negative := startDuration("WorkflowRunTimeout", durationpb.New(-1))
	_, interval := retryPolicy(&commonpb.RetryPolicy{InitialInterval: durationpb.New(-1)})
	_, _, policies := workflowIDPolicies(enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING, enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL, 0)
	_, _, partition := parsePartition("/_sys/q/0")
	for want, err := range map[string]error{
		"WorkflowId is not set on request.":                                                requiredID("WorkflowId", ""),
		"SignalName length exceeds limit.":                                                 requiredID("SignalName", text(1001)),
		"RequestId length exceeds limit.":                                                  checkLength("RequestId", text(1001), idLengthMax),
		"Execution is not set on request.":                                                 checkExecution(nil),
		"Invalid RunId.":                                                                   execution("w", "not-a-uuid"),
		"RunId is not valid UUID.":                                                         checkWorkflow("w", "not-a-uuid"),
		"Blob data size exceeds limit.":                                                    checkPayload(&commonpb.Payload{Data: make([]byte, payloadSizeMax)}),
		"taskQueue is not set":                                                             checkTaskQueue(nil),
		"missing task queue name":                                                          checkTaskQueue(&taskqueuepb.TaskQueue{}),
		"taskQueue length exceeds limit":                                                   checkQueueName(text(1001)),
		"task queue name cannot start with reserved prefix /_sys/":                         checkQueueName("/_sys/q/1"),
		"invalid task queue partition name /_sys/q/0":                                      partition,
		"priority key can't be negative":                                                   checkPriority(&commonpb.Priority{PriorityKey: -1}),
		"fairness key length exceeds limit":                                                checkPriority(&commonpb.Priority{FairnessKey: text(65)}),
		"cannot attach more than 10 links per request, got 11":                             checkLinks(make([]*commonpb.Link, 11)),
		"CronSchedule and WorkflowStartDelay may not be used together.":                    checkCron("@daily", true),
		"invalid CronSchedule.":                                                            checkCron("often", false),
		"invalid CronSchedule, no time can be found to satisfy the schedule":               checkCron("0 0 30 2 *", false),
		"An invalid WorkflowRunTimeoutSeconds is set on request. cause: negative duration": negative,
		"invalid InitialInterval set on retry policy: negative duration":                   interval,
		"Invalid timeout type value: Never.":                                               checkNonRetryableTypes([]string{"TemporalTimeout:Never"}),
		"Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be used together with a WorkflowIDConflictPolicy": policies,
	} {
		require.EqualError(t, err, want)
	}
}
