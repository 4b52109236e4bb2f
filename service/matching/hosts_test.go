package matching

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/taskqueue"
)

// hosts are several services on one store, each the owner of some partitions, which call each other as the processes of a cluster.
type hosts struct {
	t       *testing.T
	store   *fakeStore
	history *fakeHistory
	config  Config
	// latency, if set, is that of a call between hosts.
	latency time.Duration

	mu       sync.Mutex
	services []*Service
	// salt changes who owns what.
	salt int
}

func newHosts(t *testing.T, n int, config Config) *hosts {
	h := &hosts{t: t, store: newFakeStore(), history: newFakeHistory(), config: config}
	for range n {
		h.services = append(h.services, h.newService())
	}
	return h
}

func (h *hosts) newService() *Service {
	return New(Params{
		Store: &hostStore{fakeStore: h.store}, History: historypb.LocalHistoryServiceClient{Server: h.history}, Peers: h.client(), Config: h.config,
	})
}

func (h *hosts) stop() {
	for _, s := range h.services {
		require.NoError(h.t, s.Stop(context.Background()))
	}
}

// owner is the index of the service that owns a partition. Locked by the caller.
func (h *hosts) owner(p *matchingpb.Partition) int {
	return (int(p.GetNumber()) + h.salt) % len(h.services)
}

func (h *hosts) ownerOf(p *matchingpb.Partition) *Service {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.services[h.owner(p)]
}

// client routes calls to owners, and repeats them when they have moved.
func (h *hosts) client() matchingpb.MatchingServiceClient {
	return matchingpb.RoutedMatchingServiceClient{Route: func(
		ctx context.Context, _ string, in proto.Message, call func(context.Context, matchingpb.MatchingServiceClient) error,
	) error {
		if h.latency > 0 {
			pause(ctx, h.latency)
		}
		for {
			p := in.(interface{ GetPartition() *matchingpb.Partition }).GetPartition()
			owner := h.ownerOf(p)
			err := call(ctx, matchingpb.LocalMatchingServiceClient{Server: owner})
			if err == nil || serviceerror.ToStatus(err).Code() != codes.Unavailable || h.ownerOf(p) == owner {
				return err
			}
			if !pause(ctx, 10*time.Millisecond) {
				return err
			}
		}
	}}
}

// move gives every partition to the next host, as when a host joins: the former owners hear of it first.
func (h *hosts) move() {
	h.mu.Lock()
	h.salt++
	services := append([]*Service(nil), h.services...)
	h.mu.Unlock()
	for i, s := range services {
		s.Release(func(p *matchingpb.Partition) bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.owner(p) == i
		})
	}
}

// crash replaces a host by a new process that has none of its memory. The old one is cut off from the store.
func (h *hosts) crash(i int) {
	h.mu.Lock()
	old := h.services[i]
	h.services[i] = h.newService()
	h.mu.Unlock()
	old.store.(*hostStore).dead.Store(true)
	_ = old.Stop(context.Background()) // it cannot say goodbye
}

// tell calls a queue's partition as a frontend or history would.
func (h *hosts) add(ctx context.Context, number int32, task *statepb.Task) error {
	p := normal(enumspb.TASK_QUEUE_TYPE_ACTIVITY)
	p.Number = number
	_, err := h.client().AddTask(ctx, &matchingpb.AddTaskRequest{Partition: p, Task: task})
	return err
}

func (h *hosts) poll(ctx context.Context, number int32, rate float64) (string, error) {
	p := normal(enumspb.TASK_QUEUE_TYPE_ACTIVITY)
	p.Number = number
	request := &workflowservice.PollActivityTaskQueueRequest{Identity: "worker"}
	if rate >= 0 {
		request.TaskQueueMetadata = &taskqueuepb.TaskQueueMetadata{MaxTasksPerSecond: wrapperspb.Double(rate)}
	}
	got, err := h.client().PollActivityTaskQueue(ctx, &matchingpb.PollActivityTaskQueueRequest{Partition: p, Request: request, PollId: "poll"})
	return got.GetWorkflowExecution().GetWorkflowId(), err
}

// counts are the queue's numbers of partitions.
func (h *hosts) counts() *matchingpb.PartitionCounts {
	c, err := h.client().GetPartitionCounts(context.Background(), &matchingpb.GetPartitionCountsRequest{Partition: activityQueue})
	require.NoError(h.t, err)
	return c
}

func (h *hosts) storedTasks() int {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	n := 0
	for _, q := range h.store.queues {
		n += len(q.tasks)
	}
	return n
}

// inHosts runs a test in a bubble.
func inHosts(t *testing.T, n int, config Config, test func(t *testing.T, h *hosts)) {
	synctest.Test(t, func(t *testing.T) {
		h := newHosts(t, n, config)
		test(t, h)
		h.stop()
	})
}

// meetMax is how long the only poll and the only task of a queue may take to meet.
const meetMax = 50 * time.Millisecond

func TestTheOnlyPollGetsTheOnlyTask(t *testing.T) {
	for _, partitions := range []int32{1, 4, 16, 30} {
		for _, at := range [][2]int32{{0, 0}, {0, 1}, {1, 0}, {2, 3}, {15, 1}, {29, 28}, {1, 29}} {
			if at[0] >= partitions || at[1] >= partitions {
				continue
			}
			name := fmt.Sprintf("%d partitions, task on %d, poll on %d", partitions, at[0], at[1])
			inHostsRun(t, name+", the poll first", partitions, func(t *testing.T, h *hosts) {
				got := make(chan time.Time, 1)
				go func() {
					id, err := h.poll(t.Context(), at[1], -1)
					require.NoError(t, err)
					require.Equal(t, "w", id)
					got <- time.Now()
				}()
				time.Sleep(10 * time.Second)
				begin := time.Now()
				require.NoError(t, h.add(t.Context(), at[0], newTask("w", 0)))
				require.LessOrEqual(t, (<-got).Sub(begin), meetMax)
				require.Zero(t, h.store.count("write"), "it was not stored")
			})
			inHostsRun(t, name+", the task first", partitions, func(t *testing.T, h *hosts) {
				require.NoError(t, h.add(t.Context(), at[0], newTask("w", 0)))
				time.Sleep(25 * time.Second)
				begin := time.Now()
				id, err := h.poll(t.Context(), at[1], -1)
				require.NoError(t, err)
				require.Equal(t, "w", id)
				require.LessOrEqual(t, time.Since(begin), meetMax)
				time.Sleep(5 * time.Second)
				require.Zero(t, h.storedTasks())
			})
			inHostsRun(t, name+", the task's host has been replaced", partitions, func(t *testing.T, h *hosts) {
				require.NoError(t, h.add(t.Context(), at[0], newTask("w", 0)))
				for i := range h.services {
					h.crash(i)
				}
				begin := time.Now()
				id, err := h.poll(t.Context(), at[1], -1)
				require.NoError(t, err)
				require.Equal(t, "w", id)
				require.LessOrEqual(t, time.Since(begin), meetMax)
			})
		}
	}
}

func inHostsRun(t *testing.T, name string, partitions int32, test func(t *testing.T, h *hosts)) {
	t.Run(name, func(t *testing.T) {
		inHosts(t, 3, Config{Partitions: partitions}, func(t *testing.T, h *hosts) {
			h.latency = time.Millisecond
			test(t, h)
		})
	})
}

// TestPartitionsComeAndGo loads a queue until it has many partitions and lets it become quiet, while owners move. Every task is
// started once and delivered at most once.
func TestPartitionsComeAndGo(t *testing.T) {
	inHosts(t, 3, Config{}, func(t *testing.T, h *hosts) {
		client := taskqueue.NewClient(h.client())
		ctx, cancel := context.WithCancel(context.Background())
		var workers, adders sync.WaitGroup
		var mu sync.Mutex
		delivered := map[string]int{}
		for range 60 {
			workers.Go(func() {
				for ctx.Err() == nil {
					poll, stop := context.WithTimeout(ctx, time.Minute)
					got, err := client.PollActivityTaskQueue(poll, &matchingpb.PollActivityTaskQueueRequest{
						Partition: activityQueue, Request: &workflowservice.PollActivityTaskQueueRequest{Identity: "worker"},
					})
					stop()
					if id := got.GetWorkflowExecution().GetWorkflowId(); err == nil && id != "" {
						mu.Lock()
						delivered[id]++
						mu.Unlock()
					}
					pause(ctx, 10*time.Millisecond)
				}
			})
		}
		tasks := 0
		add := func(perSecond int, d time.Duration) {
			for begin := time.Now(); time.Since(begin) < d; time.Sleep(100 * time.Millisecond) {
				for range perSecond / 10 {
					id := fmt.Sprint(tasks)
					tasks++
					adders.Go(func() {
						for {
							_, err := client.AddTask(ctx, &matchingpb.AddTaskRequest{Partition: activityQueue, Task: newTask(id, 0)})
							if err == nil || ctx.Err() != nil {
								return
							}
							pause(ctx, time.Second)
						}
					})
				}
			}
		}
		require.EqualValues(t, 1, h.counts().GetRead())
		add(100, 5*time.Second)
		require.EqualValues(t, 1, h.counts().GetRead(), "a quiet queue stays as it is")
		add(4000, 5*time.Second)
		require.GreaterOrEqual(t, h.counts().GetWrite(), int32(4))
		h.move()
		add(4000, 2*time.Second)
		add(50, 3*time.Minute)
		h.move()
		add(10, time.Minute)
		adders.Wait()
		time.Sleep(2 * time.Minute)
		require.EqualValues(t, 1, h.counts().GetRead(), "it is one partition again")
		require.Zero(t, h.storedTasks())
		require.Len(t, h.history.starts(), tasks)
		cancel()
		workers.Wait()
		for id, n := range delivered {
			require.Equal(t, 1, n, "task %s", id)
		}
		require.Len(t, delivered, tasks)
	})
}

// hostStore is the store as one process sees it, until that is killed.
type hostStore struct {
	*fakeStore
	dead atomic.Bool
}

func (s *hostStore) alive() error {
	if s.dead.Load() {
		return persistence.ErrUnavailable
	}
	return nil
}

func (s *hostStore) WriteTasks(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, tasks []persistence.BacklogTask) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.fakeStore.WriteTasks(ctx, key, epoch, tasks)
}

func (s *hostStore) UpdateQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, metadata []byte, ranges []persistence.TaskRange) error {
	if err := s.alive(); err != nil {
		return err
	}
	return s.fakeStore.UpdateQueue(ctx, key, epoch, metadata, ranges)
}

func (s *hostStore) TakeQueue(ctx context.Context, owner string, key persistence.QueueKey) (*persistence.Queue, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	return s.fakeStore.TakeQueue(ctx, owner, key)
}
