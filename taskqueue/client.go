package taskqueue

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

const (
	// refreshAfter is how old the counts of a busy queue get before they are asked for again. refreshTimeout bounds that.
	refreshAfter   = 5 * time.Second
	refreshTimeout = 2 * time.Second
	// queuesMax bounds the queues whose counts are known. More are forgotten and begin again at the root.
	queuesMax = 10_000
)

// Client is a matching client that spreads the tasks and polls of normal queues over their partitions. It learns their numbers from
// the answers to tasks and, for queues whose polls get tasks, by asking the root now and then: a queue at rest costs nothing.
type Client struct {
	matchingpb.MatchingServiceClient
	now func() time.Time

	mu     sync.Mutex
	queues map[queue]*known
}

type queue struct {
	namespaceID, name string
	typ               enumspb.TaskQueueType
}

// known is what is known of a queue.
type known struct {
	counts      Counts
	at          time.Time
	asking      bool
	outstanding []int32
	polls       int
}

// NewClient wraps a client that goes to the partition which a request names.
func NewClient(direct matchingpb.MatchingServiceClient) *Client {
	return &Client{MatchingServiceClient: direct, now: time.Now, queues: make(map[queue]*known)}
}

// Direct is the client without the choice of a partition: what matching itself calls others with.
func Direct(c matchingpb.MatchingServiceClient) matchingpb.MatchingServiceClient {
	if picking, ok := c.(*Client); ok {
		return picking.MatchingServiceClient
	}
	return c
}

// spread is true if the partition is to be chosen: the request names a whole queue.
func spread(p *matchingpb.Partition) bool {
	return p.GetNumber() == 0 && p.GetKind() != enumspb.TASK_QUEUE_KIND_STICKY
}

func queueOf(p *matchingpb.Partition) queue {
	return queue{p.GetNamespaceId(), p.GetTaskQueue(), p.GetType()}
}

// with is the address of another partition of the same queue.
func with(p *matchingpb.Partition, number int32) *matchingpb.Partition {
	return &matchingpb.Partition{
		NamespaceId: p.GetNamespaceId(), TaskQueue: p.GetTaskQueue(), Type: p.GetType(), Kind: p.GetKind(), Number: number,
	}
}

// AddTask sends the task to one of the queue's partitions.
func (c *Client) AddTask(ctx context.Context, in *matchingpb.AddTaskRequest, opts ...grpc.CallOption) (*matchingpb.AddTaskResponse, error) {
	if in.GetForwardedFrom() != nil || !spread(in.GetPartition()) {
		return c.MatchingServiceClient.AddTask(ctx, in, opts...)
	}
	q := queueOf(in.GetPartition())
	c.mu.Lock()
	number := int32(0)
	if k := c.queues[q]; k != nil {
		number = k.counts.ForTask(rand.IntN)
	}
	c.mu.Unlock()
	if number > 0 {
		in = &matchingpb.AddTaskRequest{Partition: with(in.GetPartition(), number), Task: in.GetTask()}
	}
	out, err := c.MatchingServiceClient.AddTask(ctx, in, opts...)
	if err == nil {
		c.learn(q, out.GetPartitions())
	}
	return out, err
}

// PollWorkflowTaskQueue polls one of the queue's partitions.
func (c *Client) PollWorkflowTaskQueue(
	ctx context.Context, in *matchingpb.PollWorkflowTaskQueueRequest, opts ...grpc.CallOption,
) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	if in.GetForwardedFrom() != nil || !spread(in.GetPartition()) {
		return c.MatchingServiceClient.PollWorkflowTaskQueue(ctx, in, opts...)
	}
	q := queueOf(in.GetPartition())
	number := c.beginPoll(q)
	if number > 0 {
		in = &matchingpb.PollWorkflowTaskQueueRequest{
			Partition: with(in.GetPartition(), number), Request: in.GetRequest(), PollId: in.GetPollId(),
		}
	}
	out, err := c.MatchingServiceClient.PollWorkflowTaskQueue(ctx, in, opts...)
	c.endPoll(q, number, len(out.GetTaskToken()) > 0)
	return out, err
}

// PollActivityTaskQueue polls one of the queue's partitions.
func (c *Client) PollActivityTaskQueue(
	ctx context.Context, in *matchingpb.PollActivityTaskQueueRequest, opts ...grpc.CallOption,
) (*workflowservice.PollActivityTaskQueueResponse, error) {
	if in.GetForwardedFrom() != nil || !spread(in.GetPartition()) {
		return c.MatchingServiceClient.PollActivityTaskQueue(ctx, in, opts...)
	}
	q := queueOf(in.GetPartition())
	number := c.beginPoll(q)
	if number > 0 {
		in = &matchingpb.PollActivityTaskQueueRequest{
			Partition: with(in.GetPartition(), number), Request: in.GetRequest(), PollId: in.GetPollId(),
		}
	}
	out, err := c.MatchingServiceClient.PollActivityTaskQueue(ctx, in, opts...)
	c.endPoll(q, number, len(out.GetTaskToken()) > 0)
	return out, err
}

func (c *Client) beginPoll(q queue) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.queues[q]
	if k == nil {
		return 0
	}
	number := k.counts.ForPoll(k.outstanding, rand.IntN)
	for int(number) >= len(k.outstanding) {
		k.outstanding = append(k.outstanding, 0)
	}
	k.outstanding[number]++
	k.polls++
	return number
}

// endPoll notes the end of a poll, and asks for the counts if the queue is busy, or was, and they are old.
func (c *Client) endPoll(q queue, number int32, gotTask bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.queues[q]
	if k != nil && int(number) < len(k.outstanding) && k.outstanding[number] > 0 {
		k.outstanding[number]--
		k.polls--
	}
	if !gotTask && (k == nil || k.counts.Read <= 1) {
		return
	}
	if k == nil {
		k = c.add(q)
	}
	if k.asking || c.now().Sub(k.at) < refreshAfter {
		return
	}
	k.asking = true
	go c.ask(q)
}

func (c *Client) ask(q queue) {
	ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
	defer cancel()
	counts, err := c.GetPartitionCounts(ctx, &matchingpb.GetPartitionCountsRequest{Partition: &matchingpb.Partition{
		NamespaceId: q.namespaceID, TaskQueue: q.name, Type: q.typ, Kind: enumspb.TASK_QUEUE_KIND_NORMAL,
	}})
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.queues[q]
	if k == nil {
		return
	}
	k.asking, k.at = false, c.now()
	if err == nil {
		k.counts = countsOf(counts)
	}
}

// learn takes over what the answer to a task says; nil: one partition.
func (c *Client) learn(q queue, counts *matchingpb.PartitionCounts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.queues[q]
	if k == nil {
		if counts == nil {
			return
		}
		k = c.add(q)
	}
	k.counts, k.at = countsOf(counts), c.now()
}

// add makes room for a queue and adds it. Locked by the caller.
func (c *Client) add(q queue) *known {
	if len(c.queues) >= queuesMax {
		for old, k := range c.queues {
			if k.polls == 0 && !k.asking && (k.counts.Read <= 1 || c.now().Sub(k.at) > time.Minute) {
				delete(c.queues, old)
			}
		}
		for old := range c.queues {
			if len(c.queues) < queuesMax {
				break
			}
			delete(c.queues, old)
		}
	}
	k := &known{}
	c.queues[q] = k
	return k
}
