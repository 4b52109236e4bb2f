package taskqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]struct {
		queue  string
		number int32
	}{"q": {"q", 0}, "/_sys/q/1": {"q", 1}, "/_sys/a/b/12": {"a/b", 12}} {
		queue, number, err := Parse(name)
		require.NoError(t, err)
		require.Equal(t, want.queue, queue)
		require.Equal(t, want.number, number)
		require.Equal(t, name, Name(queue, number))
	}
	for _, name := range []string{"/_sys/q", "/_sys/q/0", "/_sys/q/-1", "/_sys/q/x", "/_sys//1", "/_sys/q/99999999999"} {
		_, _, err := Parse(name)
		require.Error(t, err, name)
	}
}

func TestTheTreeHasOneRoot(t *testing.T) {
	for number, parent := range map[int32]int32{0: 0, 1: 0, 20: 0, 21: 1, 40: 1, 41: 2} {
		require.Equal(t, parent, Parent(number), "partition %d", number)
	}
	for number := range int32(10_000) {
		steps := 0
		for n := number; n > 0; n = Parent(n) {
			steps++
		}
		require.LessOrEqual(t, steps, 4)
	}
}

func TestPick(t *testing.T) {
	last := func(n int) int { return n - 1 }
	require.Zero(t, Counts{}.ForTask(last))
	require.EqualValues(t, 3, Counts{Read: 8, Write: 4}.ForTask(last))
	require.Zero(t, Counts{}.ForPoll(nil, last))
	require.EqualValues(t, 3, Counts{Read: 4, Write: 2}.ForPoll(nil, last))
	require.EqualValues(t, 1, Counts{Read: 4, Write: 2}.ForPoll([]int32{5, 2, 3, 4}, last))
	require.EqualValues(t, 3, Counts{Read: 4, Write: 2}.ForPoll([]int32{1, 1, 1}, func(int) int { return 0 }), "where none waits")
}

// fakeMatching answers with counts and remembers where it was asked.
type fakeMatching struct {
	matchingpb.UnimplementedMatchingServiceServer
	mu     sync.Mutex
	counts *matchingpb.PartitionCounts
	tasks  map[int32]int
	polls  map[int32]int
	asked  int
	token  []byte
	err    error
}

func (f *fakeMatching) AddTask(_ context.Context, in *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tasks[in.GetPartition().GetNumber()]++
	return &matchingpb.AddTaskResponse{Partitions: f.counts}, nil
}

func (f *fakeMatching) PollWorkflowTaskQueue(_ context.Context, in *matchingpb.PollWorkflowTaskQueueRequest) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	f.mu.Lock()
	f.polls[in.GetPartition().GetNumber()]++
	token := f.token
	f.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	return &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: token}, nil
}

func (f *fakeMatching) GetPartitionCounts(context.Context, *matchingpb.GetPartitionCountsRequest) (*matchingpb.PartitionCounts, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.counts, f.err
}

func newFake() (*fakeMatching, *Client) {
	f := &fakeMatching{tasks: map[int32]int{}, polls: map[int32]int{}}
	return f, NewClient(matchingpb.LocalMatchingServiceClient{Server: f})
}

func address(kind enumspb.TaskQueueKind) *matchingpb.Partition {
	return &matchingpb.Partition{NamespaceId: "ns", TaskQueue: "q", Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW, Kind: kind}
}

func TestTasksSpreadOnceTheCountsAreKnown(t *testing.T) {
	f, c := newFake()
	f.counts = &matchingpb.PartitionCounts{Read: 4, Write: 4}
	for range 401 {
		_, err := c.AddTask(t.Context(), &matchingpb.AddTaskRequest{Partition: address(enumspb.TASK_QUEUE_KIND_NORMAL)})
		require.NoError(t, err)
	}
	require.Len(t, f.tasks, 4)
	for number, n := range f.tasks {
		require.Greater(t, n, 50, "partition %d", number)
	}
	f.counts = nil
	_, err := c.AddTask(t.Context(), &matchingpb.AddTaskRequest{Partition: address(enumspb.TASK_QUEUE_KIND_NORMAL)})
	require.NoError(t, err)
	clear(f.tasks)
	for range 20 {
		_, err := c.AddTask(t.Context(), &matchingpb.AddTaskRequest{Partition: address(enumspb.TASK_QUEUE_KIND_NORMAL)})
		require.NoError(t, err)
	}
	require.Equal(t, map[int32]int{0: 20}, f.tasks, "one partition again")
}

func TestWhatNamesItsPartitionGoesThere(t *testing.T) {
	f, c := newFake()
	f.counts = &matchingpb.PartitionCounts{Read: 4, Write: 4}
	sticky, third := address(enumspb.TASK_QUEUE_KIND_STICKY), address(enumspb.TASK_QUEUE_KIND_NORMAL)
	third.Number = 3
	for range 20 {
		_, err := c.AddTask(t.Context(), &matchingpb.AddTaskRequest{Partition: sticky})
		require.NoError(t, err)
		_, err = c.AddTask(t.Context(), &matchingpb.AddTaskRequest{Partition: third})
		require.NoError(t, err)
		_, err = c.AddTask(t.Context(), &matchingpb.AddTaskRequest{Partition: address(enumspb.TASK_QUEUE_KIND_NORMAL), ForwardedFrom: third})
		require.NoError(t, err)
	}
	require.Equal(t, map[int32]int{0: 40, 3: 20}, f.tasks)
	require.Equal(t, c.MatchingServiceClient, Direct(c))
	require.Equal(t, c.MatchingServiceClient, Direct(Direct(c)))
}

func TestPollsSpreadAndIdleOnesAskNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := newFake()
		poll := func() {
			_, err := c.PollWorkflowTaskQueue(t.Context(), &matchingpb.PollWorkflowTaskQueueRequest{Partition: address(enumspb.TASK_QUEUE_KIND_NORMAL)})
			require.NoError(t, err)
		}
		for range 10 {
			poll()
		}
		require.Zero(t, f.asked, "an idle queue is not asked about")
		f.token, f.counts = []byte("t"), &matchingpb.PartitionCounts{Read: 4, Write: 2}
		poll()
		synctest.Wait()
		require.Equal(t, 1, f.asked)
		clear(f.polls)
		var polls sync.WaitGroup
		for range 8 {
			polls.Go(poll)
			synctest.Wait()
		}
		polls.Wait()
		require.Equal(t, map[int32]int{0: 2, 1: 2, 2: 2, 3: 2}, f.polls)
		require.Equal(t, 1, f.asked)
		f.token, f.counts = nil, &matchingpb.PartitionCounts{Read: 1, Write: 1}
		time.Sleep(refreshAfter)
		poll()
		synctest.Wait()
		require.Equal(t, 2, f.asked, "it had several partitions")
		clear(f.polls)
		time.Sleep(refreshAfter)
		poll()
		synctest.Wait()
		require.Equal(t, map[int32]int{0: 1}, f.polls)
		require.Equal(t, 2, f.asked)
		f.token, f.err = []byte("t"), errors.New("unavailable")
		poll()
		poll()
		synctest.Wait()
		require.Equal(t, 3, f.asked, "a failure is not asked about again at once")
	})
}

func TestTheNumberOfKnownQueuesIsBounded(t *testing.T) {
	_, c := newFake()
	for i := range queuesMax + 100 {
		c.learn(queue{name: fmt.Sprint(i)}, &matchingpb.PartitionCounts{Read: 2, Write: 2})
	}
	require.LessOrEqual(t, len(c.queues), queuesMax)
}
