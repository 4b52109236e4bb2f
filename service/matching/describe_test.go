package matching

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

func (f *fixture) describeQueue(address *matchingpb.Partition, request *workflowservice.DescribeTaskQueueRequest) (*workflowservice.DescribeTaskQueueResponse, error) {
	return f.service.DescribeTaskQueue(f.t.Context(), &matchingpb.DescribeTaskQueueRequest{Partition: address, Request: request})
}

// describe describes the workflow queue with everything in it.
func (f *fixture) describe() *workflowservice.DescribeTaskQueueResponse {
	response, err := f.describeQueue(workflowQueue, &workflowservice.DescribeTaskQueueRequest{
		ReportStats: true, ReportConfig: true, IncludeTaskQueueStatus: true,
	})
	require.NoError(f.t, err)
	return response
}

func TestDescribeAnUnusedQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		got := f.describe()
		require.Empty(t, got.GetPollers())
		require.Nil(t, got.GetConfig())
		require.Equal(t, "__unversioned__", got.GetVersioningInfo().GetCurrentVersion())
		require.True(t, got.GetVersioningInfo().GetUpdateTime().AsTime().IsZero())
		require.InDelta(t, 4000, got.GetEffectiveRateLimit().GetRequestsPerSecond(), 0)
		require.Equal(t, enumspb.RATE_LIMIT_SOURCE_SYSTEM, got.GetEffectiveRateLimit().GetRateLimitSource())
		require.Zero(t, got.GetStats().GetApproximateBacklogCount())
		require.Len(t, got.GetStatsByPriorityKey(), 1)
		require.Contains(t, got.GetStatsByPriorityKey(), int32(3))
		require.InDelta(t, 4000, got.GetTaskQueueStatus().GetRatePerSecond(), 0)

		sticky, err := f.describeQueue(stickyQueue, &workflowservice.DescribeTaskQueueRequest{})
		require.NoError(t, err)
		require.Nil(t, sticky.GetVersioningInfo())
		require.InDelta(t, 4000, sticky.GetEffectiveRateLimit().GetRequestsPerSecond(), 0)
	})
}

func TestDescribeStats(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.spool(0, "a", "b")
		time.Sleep(10 * time.Second)
		for _, id := range []string{"c", "d", "e"} {
			_, err := f.add(workflowQueue, newTask(id, 1))
			require.NoError(t, err)
		}
		require.Equal(t, "c", f.mustPoll(time.Minute))
		got := f.describe()
		require.EqualValues(t, 4, got.GetStats().GetApproximateBacklogCount())
		require.Equal(t, 10*time.Second+3*syncMatchWait, got.GetStats().GetApproximateBacklogAge().AsDuration())
		require.InDelta(t, 0.1, got.GetStats().GetTasksAddRate(), 0.001, "three in 30 seconds")
		require.InDelta(t, 1.0/30, got.GetStats().GetTasksDispatchRate(), 0.001)
		require.EqualValues(t, 2, got.GetStatsByPriorityKey()[3].GetApproximateBacklogCount())
		require.EqualValues(t, 2, got.GetStatsByPriorityKey()[1].GetApproximateBacklogCount())
		require.Equal(t, 2*syncMatchWait, got.GetStatsByPriorityKey()[1].GetApproximateBacklogAge().AsDuration())
		require.EqualValues(t, 4, got.GetTaskQueueStatus().GetBacklogCountHint())
		require.Positive(t, got.GetTaskQueueStatus().GetReadLevel())
		require.Positive(t, got.GetTaskQueueStatus().GetTaskIdBlock().GetStartId())
	})
}

func TestATaskThatWaitsInMemoryCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		add := f.goAdd(workflowQueue, "w")
		require.EqualValues(t, 1, f.describe().GetStats().GetApproximateBacklogCount())
		<-add
		require.EqualValues(t, 1, f.describe().GetStats().GetApproximateBacklogCount())
	})
}

func TestDescribePollers(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		rate := 5.0
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := f.pollActivity(ctx, &rate)
		require.NoError(t, err)
		got, err := f.describeQueue(activityQueue, &workflowservice.DescribeTaskQueueRequest{})
		require.NoError(t, err)
		require.Len(t, got.GetPollers(), 1)
		require.Equal(t, "worker", got.GetPollers()[0].GetIdentity())
		require.InDelta(t, 5, got.GetPollers()[0].GetRatePerSecond(), 0)
		require.InDelta(t, 5, got.GetEffectiveRateLimit().GetRequestsPerSecond(), 0)
		require.Equal(t, enumspb.RATE_LIMIT_SOURCE_WORKER, got.GetEffectiveRateLimit().GetRateLimitSource())

		require.Equal(t, "", f.mustPoll(2*time.Second))
		require.InDelta(t, 100_000, f.describe().GetPollers()[0].GetRatePerSecond(), 0, "a poller without a limit")
		time.Sleep(pollerKept)
		require.Empty(t, f.describe().GetPollers())
	})
}

func TestDescribeEnhanced(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		require.Equal(t, "", f.mustPoll(2*time.Second))
		f.spool(0, "a")
		enhanced := enumspb.DESCRIBE_TASK_QUEUE_MODE_ENHANCED
		got, err := f.describeQueue(workflowQueue, &workflowservice.DescribeTaskQueueRequest{
			ApiMode: enhanced, ReportPollers: true, ReportStats: true,
		})
		require.NoError(t, err)
		require.Len(t, got.GetVersionsInfo(), 1)
		info := got.GetVersionsInfo()[""].GetTypesInfo()[int32(enumspb.TASK_QUEUE_TYPE_WORKFLOW)]
		require.Len(t, info.GetPollers(), 1)
		require.EqualValues(t, 1, info.GetStats().GetApproximateBacklogCount())

		var invalid *serviceerror.InvalidArgument
		_, err = f.describeQueue(stickyQueue, &workflowservice.DescribeTaskQueueRequest{ApiMode: enhanced})
		require.ErrorAs(t, err, &invalid)
		child := normal(enumspb.TASK_QUEUE_TYPE_WORKFLOW)
		child.Number = 1
		_, err = f.describeQueue(child, &workflowservice.DescribeTaskQueueRequest{ReportStats: true})
		require.ErrorAs(t, err, &invalid)
	})
}

func TestListTaskQueuePartitions(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		req := &matchingpb.ListTaskQueuePartitionsRequest{
			NamespaceId: "ns",
			Request:     &workflowservice.ListTaskQueuePartitionsRequest{TaskQueue: &taskqueuepb.TaskQueue{Name: "q"}},
		}
		got, err := f.service.ListTaskQueuePartitions(t.Context(), req)
		require.NoError(t, err)
		require.Len(t, got.GetWorkflowTaskQueuePartitions(), 1)
		require.Equal(t, "q", got.GetActivityTaskQueuePartitions()[0].GetKey())
		require.Equal(t, "host-name", got.GetActivityTaskQueuePartitions()[0].GetOwnerHostName())
		f.service.ownerHost = func(p *matchingpb.Partition) string { return p.GetType().String() }
		got, err = f.service.ListTaskQueuePartitions(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, "Activity", got.GetActivityTaskQueuePartitions()[0].GetOwnerHostName())
	})
}

func TestPollHints(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		poll := f.goPoll(t.Context(), workflowQueue)
		time.Sleep(2 * time.Second)
		_, err := f.add(workflowQueue, newTask("w", 0))
		require.NoError(t, err)
		got := (<-poll).response
		require.EqualValues(t, -1, got.GetPollerScalingDecision().GetPollRequestDeltaSuggestion(), "it waited for nothing")
		require.Zero(t, got.GetBacklogCountHint())

		f.spool(0, "a", "b", "c")
		time.Sleep(time.Second)
		poll = f.goPoll(t.Context(), workflowQueue)
		got = (<-poll).response
		require.EqualValues(t, 1, got.GetPollerScalingDecision().GetPollRequestDeltaSuggestion(), "tasks wait")
		require.EqualValues(t, 2, got.GetBacklogCountHint())
	})
}

func TestScalingAdviceIsLimited(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		var ids []string
		for i := range 3 * scaleAdviceRate {
			ids = append(ids, fmt.Sprint(i))
		}
		f.spool(0, ids...)
		time.Sleep(time.Second)
		advised := 0
		for range 2 * scaleAdviceRate {
			if (<-f.goPoll(t.Context(), workflowQueue)).response.GetPollerScalingDecision() != nil {
				advised++
			}
		}
		require.Equal(t, scaleAdviceRate, advised)
	})
}

func TestPollerLogIsBounded(t *testing.T) {
	var log pollerLog
	for i := range 2 * pollersKeptMax {
		log.see(pollerSeen{identity: fmt.Sprint(i)}, epochStart.Add(time.Duration(i)*time.Millisecond))
	}
	require.Len(t, log.entries, pollersKeptMax)
	infos := log.list(epochStart.Add(time.Second * 2))
	require.Equal(t, fmt.Sprint(2*pollersKeptMax-1), infos[0].GetIdentity(), "the latest first")
	require.Empty(t, log.list(epochStart.Add(time.Hour)))
}
