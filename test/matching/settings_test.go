package matching

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
)

// effectMax is how long a change of a queue's configuration may take until it holds everywhere.
const effectMax = time.Second

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := f.start(t, 4)
			t.Run("a pause holds within a second, and so does its end", func(t *testing.T) { checkPause(newEnv(t, p)) })
			t.Run("survive kill -9", func(t *testing.T) { checkSettingsSurvive(newEnv(t, p)) })
		})
	}
}

func checkPause(e *env) {
	e.add(job{name: "work", n: 20_000, spread: true})
	c := e.work(8, -1, 5*time.Millisecond)
	c.await(50, callMax)
	e.limit(0, "a pause")
	begun := time.Now()
	<-time.After(2 * effectMax) // nothing is to happen in this time
	for _, d := range c.taken() {
		require.Less(e, d.at.Sub(begun), effectMax+stampedLate, "%s was started although the queue is paused", d.id)
	}
	paused := c.count()
	require.True(e, e.describe().GetStats().GetRateLimitingActive())
	e.limit(-1, "go on")
	begun = time.Now()
	c.await(paused+50, callMax)
	c.stop()
	c.requireOnce()
	require.Less(e, c.taken()[paused].at.Sub(begun), effectMax+stampedLate, "the end of the pause")
	e.terminate()
}

func checkSettingsSurvive(e *env) {
	set := do(e, e.api.UpdateTaskQueueConfig, &workflowservice.UpdateTaskQueueConfigRequest{
		Namespace: namespace, TaskQueue: e.queue, TaskQueueType: enumspb.TASK_QUEUE_TYPE_ACTIVITY, Identity: "operator",
		UpdateQueueRateLimit: &workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate{
			RateLimit: &taskqueuepb.RateLimit{RequestsPerSecond: 0.25}, Reason: "downstream is slow",
		},
		UpdateFairnessKeyRateLimitDefault: &workflowservice.UpdateTaskQueueConfigRequest_RateLimitUpdate{
			RateLimit: &taskqueuepb.RateLimit{RequestsPerSecond: 7}, Reason: "tenants",
		},
		SetFairnessWeightOverrides: map[string]float32{"gold": 5, "tin": 0.5},
	}).GetConfig()
	require.Equal(e, "downstream is slow", set.GetQueueRateLimit().GetMetadata().GetReason())
	require.Equal(e, "operator", set.GetQueueRateLimit().GetMetadata().GetUpdateIdentity())
	check := func(when string) {
		e.Helper()
		got := e.describe()
		require.True(e, proto.Equal(set, got.GetConfig()), "%s: %v", when, got.GetConfig())
		require.InDelta(e, 0.25, got.GetEffectiveRateLimit().GetRequestsPerSecond(), 1e-6, when)
		require.Equal(e, enumspb.RATE_LIMIT_SOURCE_API, got.GetEffectiveRateLimit().GetRateLimitSource(), when)
	}
	check("at once")
	e.crash()
	check("after kill -9")
	// The API's limit wins over a worker's, and unset it is the worker's again.
	e.work(1, 33, 0)
	e.limit(-1, "done")
	require.Eventually(e, func() bool {
		got := e.describe().GetEffectiveRateLimit()
		return got.GetRateLimitSource() == enumspb.RATE_LIMIT_SOURCE_WORKER && got.GetRequestsPerSecond() == 33
	}, callMax, 50*time.Millisecond)
}
