package cluster

import (
	"context"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
)

// matchingRules are as historyRules.
var matchingRules = map[string]rule{
	"AddTask":                 repeats, // of two tasks with one effect id the second to start is obsolete
	"PollWorkflowTaskQueue":   repeats, // a task that is lost with its response times out and is offered again, whoever polls
	"PollActivityTaskQueue":   repeats, // likewise
	"Query":                   reads,
	"DescribeTaskQueue":       reads,
	"ListTaskQueuePartitions": reads,
	// The asker takes one answer.
	"RespondQueryTaskCompleted": repeats,
	"UpdateTaskQueueConfig":     never,   // somebody else may have set another in between
	"CancelPolls":               repeats, // it ends what waits then
	"GetPartitionCounts":        reads,
	"SyncPartition":             repeats, // it says what holds, not what changes
	"TakeTokens":                never,   // tokens that are lost with their answer are lost
}

// pollAgainMin is the least time left for which a poll that ended because its partition moved is made again.
const pollAgainMin = 2 * time.Second

func matchingMethods() map[string]method {
	return methods(matchingpb.File_perdure_matching_v1_service_proto.Services().ByName("MatchingService"), matchingRules)
}

// partitioned are the requests for one partition.
type partitioned interface {
	GetPartition() *matchingpb.Partition
}

// matchingClient is the routed client, but for what does not go to one partition's owner.
type matchingClient struct {
	matchingpb.RoutedMatchingServiceClient
	router *router[matchingpb.MatchingServiceClient]
}

// NewMatchingClient makes a client that finds the owner of a request's partition and follows it. local serves what this process
// owns; nil if it does not run the service. Calls are repeated within their deadline, or retryMax, as matchingRules allow.
func NewMatchingClient(m *Membership, local matchingpb.MatchingServiceClient) matchingpb.MatchingServiceClient {
	r := &router[matchingpb.MatchingServiceClient]{
		m: m, service: Matching, methods: matchingMethods(), local: local, hasLocal: local != nil,
		remote: func(conn grpc.ClientConnInterface) matchingpb.MatchingServiceClient {
			return matchingpb.NewMatchingServiceClient(conn)
		},
		owner: func(v *View, _ method, in proto.Message) (persistence.Member, bool) {
			return v.PartitionOwner(partitionOf(in))
		},
	}
	return &matchingClient{matchingpb.RoutedMatchingServiceClient{Route: r.route}, r}
}

// partitionOf is the partition that a request is for, or the root of the queue that it is about.
func partitionOf(in proto.Message) *matchingpb.Partition {
	if p, ok := in.(partitioned); ok {
		return p.GetPartition()
	}
	root := &matchingpb.Partition{Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW}
	switch r := in.(type) {
	case *matchingpb.ListTaskQueuePartitionsRequest:
		root.NamespaceId, root.TaskQueue = r.GetNamespaceId(), r.GetRequest().GetTaskQueue().GetName()
	case *matchingpb.RespondQueryTaskCompletedRequest:
		root.NamespaceId, root.TaskQueue = r.GetNamespaceId(), r.GetTaskQueue()
	}
	return root
}

// PollWorkflowTaskQueue waits at the partition's owner, and goes on at the next one if the partition moves. A poll that is to end at
// once if there is nothing for it does not.
func (c *matchingClient) PollWorkflowTaskQueue(
	ctx context.Context, in *matchingpb.PollWorkflowTaskQueueRequest, opts ...grpc.CallOption,
) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	for {
		before := c.ownerID(in)
		out, err := c.RoutedMatchingServiceClient.PollWorkflowTaskQueue(ctx, in, opts...)
		if err != nil || len(out.GetTaskToken()) > 0 || in.GetBefore() != nil || !c.movedOn(ctx, in, before) {
			return out, err
		}
	}
}

// PollActivityTaskQueue waits at the partition's owner, and goes on at the next one if the partition moves.
func (c *matchingClient) PollActivityTaskQueue(
	ctx context.Context, in *matchingpb.PollActivityTaskQueueRequest, opts ...grpc.CallOption,
) (*workflowservice.PollActivityTaskQueueResponse, error) {
	for {
		before := c.ownerID(in)
		out, err := c.RoutedMatchingServiceClient.PollActivityTaskQueue(ctx, in, opts...)
		if err != nil || len(out.GetTaskToken()) > 0 || in.GetBefore() != nil || !c.movedOn(ctx, in, before) {
			return out, err
		}
	}
}

func (c *matchingClient) ownerID(in proto.Message) string {
	owner, _ := c.router.m.View().PartitionOwner(partitionOf(in))
	return owner.ID
}

// movedOn tells whether a poll that ended empty should be made again: it ended early, because its partition has another owner.
func (c *matchingClient) movedOn(ctx context.Context, in proto.Message, before string) bool {
	deadline, ok := ctx.Deadline()
	if !ok || time.Until(deadline) < pollAgainMin {
		return false
	}
	if c.ownerID(in) == before && c.router.m.Refresh(ctx) != nil {
		return false
	}
	return ctx.Err() == nil && c.ownerID(in) != before
}

// RespondQueryTaskCompleted goes to the member that holds the waiting query.
func (c *matchingClient) RespondQueryTaskCompleted(
	ctx context.Context, in *matchingpb.RespondQueryTaskCompletedRequest, opts ...grpc.CallOption,
) (*workflowservice.RespondQueryTaskCompletedResponse, error) {
	if in.GetOwner() == "" {
		return c.RoutedMatchingServiceClient.RespondQueryTaskCompleted(ctx, in, opts...)
	}
	holder := *c.router
	holder.owner = func(v *View, _ method, _ proto.Message) (persistence.Member, bool) { return v.Member(in.GetOwner()) }
	// Without its holder the query has ended.
	holder.noOwner = serviceerror.NewNotFound("query task not found, or already expired")
	return matchingpb.RoutedMatchingServiceClient{Route: holder.route}.RespondQueryTaskCompleted(ctx, in, opts...)
}

// CancelPolls goes to every matching member: a worker's polls may wait at several partitions, and at a former owner too.
func (c *matchingClient) CancelPolls(
	ctx context.Context, in *matchingpb.CancelPollsRequest, opts ...grpc.CallOption,
) (*matchingpb.CancelPollsResponse, error) {
	live := c.router.m.View().Live(Matching)
	failed := make([]error, len(live))
	var asked sync.WaitGroup
	for i, member := range live {
		asked.Go(func() {
			failed[i] = c.router.try(ctx, member, false, func(ctx context.Context, to matchingpb.MatchingServiceClient) error {
				_, err := to.CancelPolls(ctx, in, opts...)
				return err
			}).err
		})
	}
	asked.Wait()
	for _, err := range failed {
		// The polls of a member that is gone, or going, end without this.
		if err != nil && serviceerror.ToStatus(err).Code() != codes.Unavailable {
			return nil, err
		}
	}
	return &matchingpb.CancelPollsResponse{}, nil
}
