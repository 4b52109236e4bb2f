package cluster

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/persistence"
)

// shardStore is who owns the shards, and what has been committed to their workflows.
type shardStore struct {
	mu        sync.Mutex
	epochs    map[persistence.ShardID]persistence.Epoch
	signals   map[string]map[string]int // workflow id → request id → how often it was applied
	taken     int
	refuseAll bool
}

func newShardStore() *shardStore {
	return &shardStore{epochs: map[persistence.ShardID]persistence.Epoch{}, signals: map[string]map[string]int{}}
}

func (s *shardStore) take(shards []persistence.ShardID) (map[persistence.ShardID]persistence.Epoch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuseAll {
		return nil, errDatabaseDown
	}
	got := map[persistence.ShardID]persistence.Epoch{}
	for _, shard := range shards {
		s.epochs[shard]++
		s.taken++
		got[shard] = s.epochs[shard]
	}
	return got, nil
}

// commit applies a signal unless it has been applied; false: the epoch is stale.
func (s *shardStore) commit(shard persistence.ShardID, epoch persistence.Epoch, workflow, request string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epochs[shard] != epoch {
		return false
	}
	if s.signals[workflow] == nil {
		s.signals[workflow] = map[string]int{}
	}
	if s.signals[workflow][request] == 0 || request == "" {
		s.signals[workflow][request]++
	}
	return true
}

func (s *shardStore) count(workflow string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, times := range s.signals[workflow] {
		n += times
	}
	return n
}

func (s *shardStore) epoch(shard persistence.ShardID) persistence.Epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epochs[shard]
}

// fakeHistory is a history service whose only state is how many signals a workflow has had, which it caches.
type fakeHistory struct {
	historypb.UnimplementedHistoryServiceServer
	store  *shardStore
	shards *Shards

	mu     sync.Mutex
	owned  map[persistence.ShardID]persistence.Epoch
	cached map[string]int64
	calls  map[string]int
	// hold, if set, is called within each call of Terminate.
	hold func(ctx context.Context)
}

func newFakeHistory(store *shardStore) *fakeHistory {
	return &fakeHistory{
		store: store, owned: map[persistence.ShardID]persistence.Epoch{}, cached: map[string]int64{}, calls: map[string]int{},
	}
}

func (h *fakeHistory) Take(_ context.Context, shards []persistence.ShardID) error {
	epochs, err := h.store.take(shards)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for shard, epoch := range epochs {
		h.owned[shard] = epoch
	}
	clear(h.cached)
	return nil
}

func (h *fakeHistory) Release(_ context.Context, shards []persistence.ShardID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, shard := range shards {
		delete(h.owned, shard)
	}
	clear(h.cached)
}

func (h *fakeHistory) Owned() (list []persistence.ShardID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for shard := range h.owned {
		list = append(list, shard)
	}
	return list
}

// Verify drops what the store knows to be another's.
func (h *fakeHistory) Verify(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for shard, epoch := range h.owned {
		if h.store.epoch(shard) != epoch {
			delete(h.owned, shard)
			clear(h.cached)
		}
	}
	return nil
}

func (h *fakeHistory) count(call string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[call]
}

const testNamespace = "0b4f1a1e-0000-4000-8000-000000000001"

func shardOfWorkflow(id string) persistence.ShardID {
	return persistence.ExecutionKey{NamespaceID: testNamespace, Kind: persistence.KindWorkflow, BusinessID: id}.Shard()
}

func (h *fakeHistory) moved(shard persistence.ShardID) error {
	st, err := status.New(codes.Unavailable, "moved").WithDetails(
		&historypb.ShardMoved{ShardId: int32(shard), OwnerAddress: h.shards.OwnerAddress(shard)})
	if err != nil {
		return err
	}
	return st.Err()
}

func (h *fakeHistory) apply(call, workflow, request string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[call]++
	shard := shardOfWorkflow(workflow)
	epoch, ok := h.owned[shard]
	if !ok {
		return h.moved(shard)
	}
	if !h.store.commit(shard, epoch, workflow, request) {
		delete(h.owned, shard)
		h.shards.Check()
		return h.moved(shard)
	}
	h.cached[workflow] = int64(h.store.count(workflow))
	return nil
}

func (h *fakeHistory) SignalWorkflowExecution(_ context.Context, in *historypb.SignalWorkflowExecutionRequest) (*workflowservice.SignalWorkflowExecutionResponse, error) {
	r := in.GetRequest()
	if err := h.apply("signal", r.GetWorkflowExecution().GetWorkflowId(), r.GetRequestId()); err != nil {
		return nil, err
	}
	return &workflowservice.SignalWorkflowExecutionResponse{}, nil
}

func (h *fakeHistory) TerminateWorkflowExecution(ctx context.Context, in *historypb.TerminateWorkflowExecutionRequest) (*workflowservice.TerminateWorkflowExecutionResponse, error) {
	if err := h.apply("terminate", in.GetRequest().GetWorkflowExecution().GetWorkflowId(), in.GetRequest().GetReason()); err != nil {
		return nil, err
	}
	if h.hold != nil {
		h.hold(ctx)
	}
	return &workflowservice.TerminateWorkflowExecutionResponse{}, nil
}

// ResetWorkflowExecution fails as a service does that stops.
func (h *fakeHistory) ResetWorkflowExecution(context.Context, *historypb.ResetWorkflowExecutionRequest) (*workflowservice.ResetWorkflowExecutionResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls["reset"]++
	return nil, serviceerror.NewUnavailable("not now")
}

func (h *fakeHistory) DescribeWorkflowExecution(_ context.Context, in *historypb.DescribeWorkflowExecutionRequest) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	workflow := in.GetRequest().GetExecution().GetWorkflowId()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls["describe"]++
	if _, ok := h.owned[shardOfWorkflow(workflow)]; !ok {
		return nil, h.moved(shardOfWorkflow(workflow))
	}
	n, ok := h.cached[workflow]
	if !ok {
		n = int64(h.store.count(workflow))
		h.cached[workflow] = n
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{HistoryLength: n},
	}, nil
}

// machine is a process with real sockets.
type machine struct {
	*Membership
	server   *grpc.Server
	history  *fakeHistory
	matching *fakeMatching
	shards   *Shards
	parts    *Partitions
}

// site is what machines share.
type site struct {
	t        *testing.T
	database *database
	store    *shardStore
	// params may change those of a machine before it is made.
	params func(*Params)
	all    []*machine
}

func newSite(t *testing.T) *site {
	s := &site{t: t, database: newDatabase(), store: newShardStore()}
	t.Cleanup(func() {
		for _, m := range s.all {
			m.end()
		}
	})
	return s
}

func (s *site) membership(id, service, address string) *Membership {
	p := Params{
		Store: s.database, Self: persistence.Member{ID: id, Service: service, Address: address}, Logger: zaptest.NewLogger(s.t),
	}
	if s.params != nil {
		s.params(&p)
	}
	m, err := New(p)
	require.NoError(s.t, err)
	return m
}

// machine starts a process with history and matching.
func (s *site) machine(id string) *machine {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	m := &machine{Membership: s.membership(id, "history,matching", listener.Addr().String())}
	m.history, m.matching = newFakeHistory(s.store), newFakeMatching(id)
	m.shards, m.parts = NewShards(m.Membership, m.history), NewPartitions(m.Membership, m.matching)
	m.history.shards = m.shards
	m.server = m.NewServer()
	historypb.RegisterHistoryServiceServer(m.server, m.history)
	matchingpb.RegisterMatchingServiceServer(m.server, m.matching)
	go func() { _ = m.server.Serve(listener) }()
	require.NoError(s.t, m.Join(s.t.Context()))
	m.shards.Start()
	m.parts.Start()
	s.all = append(s.all, m)
	return m
}

// frontend starts a process that only calls.
func (s *site) frontend() *machine {
	m := &machine{Membership: s.membership("frontend", Frontend, "")}
	require.NoError(s.t, m.Join(s.t.Context()))
	s.all = append(s.all, m)
	return m
}

// stop ends a machine in order.
func (m *machine) stop(ctx context.Context) error {
	if err := m.shards.Drain(ctx); err != nil {
		return err
	}
	if err := m.parts.Drain(ctx); err != nil {
		return err
	}
	m.server.GracefulStop()
	return m.Leave(ctx)
}

// kill ends a machine without a word to anybody.
func (m *machine) kill(s *site) {
	s.database.set(func(d *database) { d.down[m.self.ID] = true })
	m.server.Stop()
	m.end()
}

func (m *machine) end() {
	if m.shards != nil {
		m.shards.Stop()
		m.parts.Stop()
		m.server.Stop()
	}
	_ = m.Leave(context.Background()) // it may have left
}

// owns waits until a machine owns as many shards as a condition says.
func (s *site) owns(m *machine, condition func(n int) bool) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return condition(len(m.history.Owned())) }, 20*time.Second, 5*time.Millisecond)
}

func all(n int) bool  { return n == persistence.ShardCount }
func some(n int) bool { return n > 0 && n < persistence.ShardCount }

func signal(workflow, request string) *historypb.SignalWorkflowExecutionRequest {
	return &historypb.SignalWorkflowExecutionRequest{NamespaceId: testNamespace, Request: &workflowservice.SignalWorkflowExecutionRequest{
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflow}, RequestId: request,
	}}
}

func terminate(workflow, reason string) *historypb.TerminateWorkflowExecutionRequest {
	return &historypb.TerminateWorkflowExecutionRequest{NamespaceId: testNamespace, Request: &workflowservice.TerminateWorkflowExecutionRequest{
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflow}, Reason: reason,
	}}
}

func describe(workflow string) *historypb.DescribeWorkflowExecutionRequest {
	return &historypb.DescribeWorkflowExecutionRequest{NamespaceId: testNamespace, Request: &workflowservice.DescribeWorkflowExecutionRequest{
		Execution: &commonpb.WorkflowExecution{WorkflowId: workflow},
	}}
}

// fakeMatching pairs tasks and polls, and keeps nothing.
type fakeMatching struct {
	matchingpb.UnimplementedMatchingServiceServer
	id string

	mu      sync.Mutex
	queues  map[string]*fakeQueue
	answers []string
	cancels int
	polls   int
}

type fakeQueue struct {
	address *matchingpb.Partition
	tasks   chan string
	gone    chan struct{}
}

func newFakeMatching(id string) *fakeMatching {
	return &fakeMatching{id: id, queues: map[string]*fakeQueue{}}
}

func (f *fakeMatching) queue(p *matchingpb.Partition) *fakeQueue {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.queues[p.GetTaskQueue()]
	if q == nil {
		q = &fakeQueue{address: p, tasks: make(chan string), gone: make(chan struct{})}
		f.queues[p.GetTaskQueue()] = q
	}
	return q
}

func (f *fakeMatching) Release(keep func(*matchingpb.Partition) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, q := range f.queues {
		if !keep(q.address) {
			delete(f.queues, name)
			close(q.gone)
		}
	}
}

func (f *fakeMatching) AddTask(ctx context.Context, in *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
	q := f.queue(in.GetPartition())
	select {
	case q.tasks <- in.GetTask().GetWorkflowId():
		return &matchingpb.AddTaskResponse{Matched: true}, nil
	case <-q.gone:
		return nil, serviceerror.NewUnavailable("the partition is moving")
	case <-ctx.Done():
		return nil, serviceerror.NewDeadlineExceeded("no poller")
	}
}

func (f *fakeMatching) PollWorkflowTaskQueue(ctx context.Context, in *matchingpb.PollWorkflowTaskQueueRequest) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	q := f.queue(in.GetPartition())
	f.mu.Lock()
	f.polls++
	f.mu.Unlock()
	select {
	case task := <-q.tasks:
		return &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: []byte(task)}, nil
	case <-q.gone:
	case <-ctx.Done():
	}
	return &workflowservice.PollWorkflowTaskQueueResponse{}, nil
}

func (f *fakeMatching) RespondQueryTaskCompleted(_ context.Context, in *matchingpb.RespondQueryTaskCompletedRequest) (*workflowservice.RespondQueryTaskCompletedResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers = append(f.answers, in.GetQueryId())
	return &workflowservice.RespondQueryTaskCompletedResponse{}, nil
}

func (f *fakeMatching) CancelPolls(context.Context, *matchingpb.CancelPollsRequest) (*matchingpb.CancelPollsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancels++
	return &matchingpb.CancelPollsResponse{}, nil
}

func (f *fakeMatching) DescribeTaskQueue(context.Context, *matchingpb.DescribeTaskQueueRequest) (*workflowservice.DescribeTaskQueueResponse, error) {
	return &workflowservice.DescribeTaskQueueResponse{}, nil
}

func (f *fakeMatching) read(get func(*fakeMatching) int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return get(f)
}
