package matching

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowservice "go.temporal.io/api/workflowservice/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore keeps queues in memory. A fault decides about each call: an error alone means that nothing happened, with applied
// set the call took effect all the same.
type fakeStore struct {
	mu     sync.Mutex
	queues map[persistence.QueueKey]*fakeQueue
	data   map[persistence.QueueKey]*fakeData
	calls  map[string]int
	fault  func(operation string) (applied bool, err error)
}

type fakeQueue struct {
	epoch    persistence.Epoch
	metadata []byte
	tasks    map[persistence.TaskKey][]byte
	// order is the keys by level, in order.
	order map[int16][]persistence.TaskKey
}

func newFakeQueue() *fakeQueue {
	return &fakeQueue{tasks: make(map[persistence.TaskKey][]byte), order: make(map[int16][]persistence.TaskKey)}
}

// from is the place of the first key of a level that is not before another.
func (q *fakeQueue) from(level int16, key persistence.TaskKey) int {
	keys := q.order[level]
	return sort.Search(len(keys), func(i int) bool { return !before(keys[i], key) })
}

func (q *fakeQueue) put(key persistence.TaskKey, task []byte) {
	if _, exists := q.tasks[key]; exists {
		panic(fmt.Sprintf("task key %v used twice", key))
	}
	q.tasks[key] = task
	q.order[key.Level] = slices.Insert(q.order[key.Level], q.from(key.Level, key), key)
}

func (q *fakeQueue) delete(r persistence.TaskRange) {
	from := q.from(r.Level, r.From)
	to := from
	for keys := q.order[r.Level]; to < len(keys) && !before(r.To, keys[to]); to++ {
		delete(q.tasks, keys[to])
	}
	q.order[r.Level] = slices.Delete(q.order[r.Level], from, to)
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		queues: make(map[persistence.QueueKey]*fakeQueue), data: make(map[persistence.QueueKey]*fakeData), calls: make(map[string]int),
	}
}

// fakeData is what is stored for a whole queue.
type fakeData struct {
	data    []byte
	version int64
}

func (f *fakeStore) GetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16) (data []byte, version int64, err error) {
	err = f.call(ctx, "get data", func() error {
		d := f.data[persistence.QueueKey{NamespaceID: namespaceID, TaskQueue: taskQueue, Type: typ}]
		if d == nil {
			return persistence.ErrNotFound
		}
		data, version = d.data, d.version
		return nil
	})
	return data, version, err
}

func (f *fakeStore) SetQueueData(ctx context.Context, namespaceID, taskQueue string, typ int16, data []byte, version int64) error {
	return f.call(ctx, "set data", func() error {
		key := persistence.QueueKey{NamespaceID: namespaceID, TaskQueue: taskQueue, Type: typ}
		stored := f.data[key]
		if stored == nil {
			stored = &fakeData{}
		}
		if stored.version != version {
			return persistence.ErrConflict
		}
		f.data[key] = &fakeData{data, version + 1}
		return nil
	})
}

func (f *fakeStore) CountTasks(ctx context.Context, key persistence.QueueKey, belowID int64) (map[int16]int64, error) {
	counts := make(map[int16]int64)
	err := f.call(ctx, "count", func() error {
		if q := f.queues[key]; q != nil {
			for k := range q.tasks {
				if k.ID < belowID {
					counts[k.Level]++
				}
			}
		}
		return nil
	})
	return counts, err
}

func (f *fakeStore) DeleteQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch) error {
	return f.call(ctx, "drop", func() error {
		q := f.queues[key]
		if q == nil || q.epoch != epoch {
			return persistence.ErrFenced
		}
		delete(f.queues, key)
		return nil
	})
}

func (f *fakeStore) ListQueues(ctx context.Context, namespaceID, taskQueue string) (queues []*persistence.Queue, err error) {
	err = f.call(ctx, "get", func() error {
		for key, q := range f.queues {
			if key.NamespaceID == namespaceID && key.TaskQueue == taskQueue {
				queues = append(queues, &persistence.Queue{Key: key, Epoch: q.epoch, Metadata: q.metadata})
			}
		}
		return nil
	})
	return queues, err
}

// call runs an operation between the faults.
func (f *fakeStore) call(ctx context.Context, operation string, apply func() error) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(persistence.ErrUnavailable, err)
	}
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	var applied bool
	var err error
	if fault != nil {
		applied, err = fault(operation)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[operation]++
	if err == nil || applied {
		if failed := apply(); err == nil {
			err = failed
		}
	}
	return err
}

func (f *fakeStore) setFault(fault func(string) (bool, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// failNext lets one call of an operation fail.
func (f *fakeStore) failNext(operation string, applied bool, err error) {
	var once sync.Once
	f.setFault(func(op string) (a bool, e error) {
		if op == operation {
			once.Do(func() { a, e = applied, err })
		}
		return a, e
	})
}

func (f *fakeStore) count(operation string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[operation]
}

func (f *fakeStore) rows(key persistence.QueueKey) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if q := f.queues[key]; q != nil {
		return len(q.tasks)
	}
	return 0
}

func (f *fakeStore) GetQueue(ctx context.Context, key persistence.QueueKey) (q *persistence.Queue, err error) {
	err = f.call(ctx, "get", func() error {
		stored := f.queues[key]
		if stored == nil {
			return persistence.ErrNotFound
		}
		q = &persistence.Queue{Key: key, Epoch: stored.epoch, Metadata: stored.metadata}
		return nil
	})
	return q, err
}

func (f *fakeStore) TakeQueue(ctx context.Context, _ string, key persistence.QueueKey) (q *persistence.Queue, err error) {
	err = f.call(ctx, "take", func() error {
		stored := f.queues[key]
		if stored == nil {
			stored = newFakeQueue()
			f.queues[key] = stored
		}
		stored.epoch++
		q = &persistence.Queue{Key: key, Epoch: stored.epoch, Metadata: stored.metadata}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return q, nil
}

func (f *fakeStore) WriteTasks(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, tasks []persistence.BacklogTask) error {
	return f.call(ctx, "write", func() error {
		q := f.queues[key]
		if q == nil || q.epoch != epoch {
			return persistence.ErrFenced
		}
		for _, t := range tasks {
			q.put(t.Key, t.Task)
		}
		return nil
	})
}

func (f *fakeStore) ReadTasks(ctx context.Context, key persistence.QueueKey, level int16, after persistence.TaskKey, limit int) (rows []persistence.BacklogTask, err error) {
	err = f.call(ctx, "read", func() error {
		q := f.queues[key]
		if q == nil {
			return nil
		}
		keys := q.order[level]
		for i := q.from(level, after); i < len(keys) && len(rows) < limit; i++ {
			if keys[i] != after {
				rows = append(rows, persistence.BacklogTask{Key: keys[i], Task: q.tasks[keys[i]]})
			}
		}
		return nil
	})
	return rows, err
}

func (f *fakeStore) UpdateQueue(ctx context.Context, key persistence.QueueKey, epoch persistence.Epoch, metadata []byte, ranges []persistence.TaskRange) error {
	return f.call(ctx, "update", func() error {
		q := f.queues[key]
		if q == nil || q.epoch != epoch {
			return persistence.ErrFenced
		}
		q.metadata = metadata
		for _, r := range ranges {
			q.delete(r)
		}
		return nil
	})
}

// fakeHistory starts each task once: the same request id again gets the same answer, another one NOT_FOUND. It remembers
// the order of the starts.
type fakeHistory struct {
	historypb.UnimplementedHistoryServiceServer

	mu       sync.Mutex
	started  map[string]string // request id by task
	order    []string
	obsolete map[string]bool
	calls    int
	// forget: the order of the starts is not kept.
	forget bool
	// startAll: the same task is started again and again.
	startAll bool
	// fault runs at each call: committed says whether the start takes effect all the same.
	fault func(task string) (committed bool, err error)
	// latency, if set, is how long a call takes before it has an effect.
	latency func() time.Duration
	// entered, if set, is told of each call, which then waits for proceed or the end of its context.
	entered chan string
	proceed chan struct{}
}

func newFakeHistory() *fakeHistory {
	return &fakeHistory{started: make(map[string]string), obsolete: make(map[string]bool)}
}

func (h *fakeHistory) setFault(fault func(string) (bool, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = fault
}

func (h *fakeHistory) starts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.order...)
}

func (h *fakeHistory) record(ctx context.Context, task, requestID string) error {
	if h.entered != nil {
		h.entered <- task
		select {
		case <-h.proceed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if h.latency != nil && !pause(ctx, h.latency()) {
		return ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	committed, fault := true, error(nil)
	if h.fault != nil {
		if committed, fault = h.fault(task); fault == nil {
			committed = true
		}
	}
	if committed {
		if err := h.commit(task, requestID); err != nil {
			return err
		}
	}
	return fault
}

func (h *fakeHistory) commit(task, requestID string) error {
	if h.startAll {
		return nil
	}
	switch started := h.started[task]; {
	case h.obsolete[task], started != "" && started != requestID:
		return serviceerror.NewNotFound("task not found")
	case started == "":
		h.started[task] = requestID
		if !h.forget {
			h.order = append(h.order, task)
		}
	}
	return nil
}

func (h *fakeHistory) RecordWorkflowTaskStarted(ctx context.Context, req *historypb.RecordWorkflowTaskStartedRequest) (*historypb.RecordWorkflowTaskStartedResponse, error) {
	if err := h.record(ctx, req.GetExecution().GetWorkflowId(), req.GetRequestId()); err != nil {
		return nil, err
	}
	return &historypb.RecordWorkflowTaskStartedResponse{Task: &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken:         []byte(req.GetRequestId()),
		WorkflowExecution: req.GetExecution(),
	}}, nil
}

func (h *fakeHistory) RecordActivityTaskStarted(ctx context.Context, req *historypb.RecordActivityTaskStartedRequest) (*historypb.RecordActivityTaskStartedResponse, error) {
	if err := h.record(ctx, req.GetExecution().GetWorkflowId(), req.GetRequestId()); err != nil {
		return nil, err
	}
	return &historypb.RecordActivityTaskStartedResponse{Task: &workflowservice.PollActivityTaskQueueResponse{
		TaskToken:         []byte(req.GetRequestId()),
		WorkflowExecution: req.GetExecution(),
	}}, nil
}

func (h *fakeHistory) RecordQueryTaskStarted(_ context.Context, req *historypb.RecordQueryTaskStartedRequest) (*historypb.RecordQueryTaskStartedResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fault != nil {
		if _, err := h.fault(req.GetExecution().GetWorkflowId()); err != nil {
			return nil, err
		}
	}
	return &historypb.RecordQueryTaskStartedResponse{Task: &workflowservice.PollWorkflowTaskQueueResponse{
		WorkflowExecution: req.GetExecution(),
		Query:             req.GetQuery(),
	}}, nil
}

// fixture is a service with its surroundings.
type fixture struct {
	t       *testing.T
	store   *fakeStore
	history *fakeHistory
	service *Service
}

func newFixture(t *testing.T, config ...Config) *fixture {
	f := &fixture{t: t, store: newFakeStore(), history: newFakeHistory()}
	f.boot(config...)
	return f
}

// boot starts a service on the fixture's store and history, as a new process would.
func (f *fixture) boot(config ...Config) {
	params := Params{
		Store:    f.store,
		History:  historypb.LocalHistoryServiceClient{Server: f.history},
		Owner:    "host",
		HostName: "host-name",
	}
	if len(config) > 0 {
		params.Config = config[0]
	}
	f.service = New(params)
	require.NoError(f.t, f.service.Start(f.t.Context()))
}

func (f *fixture) stop() { require.NoError(f.t, f.service.Stop(context.Background())) }

// crash ends the service without its last writes: its lease is gone, as if another process had it.
func (f *fixture) crash() {
	f.store.mu.Lock()
	for _, q := range f.store.queues {
		q.epoch++
	}
	f.store.mu.Unlock()
	f.stop()
}

func normal(typ enumspb.TaskQueueType) *matchingpb.Partition {
	return &matchingpb.Partition{NamespaceId: "ns", TaskQueue: "q", Type: typ, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
}

var (
	workflowQueue = normal(enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	activityQueue = normal(enumspb.TASK_QUEUE_TYPE_ACTIVITY)
	stickyQueue   = &matchingpb.Partition{
		NamespaceId: "ns", TaskQueue: "sticky", NormalName: "q",
		Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW, Kind: enumspb.TASK_QUEUE_KIND_STICKY,
	}
	workflowKey = persistence.QueueKey{NamespaceID: "ns", TaskQueue: "q", Type: int16(enumspb.TASK_QUEUE_TYPE_WORKFLOW)}
)

func newTask(id string, priority int32) *statepb.Task {
	return &statepb.Task{
		WorkflowId: id, RunId: "run", ScheduledEventId: 2, Attempt: 1,
		CreateTime: timestamppb.Now(),
		Priority:   &commonpb.Priority{PriorityKey: priority},
	}
}

func (f *fixture) add(address *matchingpb.Partition, task *statepb.Task) (*matchingpb.AddTaskResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return f.service.AddTask(ctx, &matchingpb.AddTaskRequest{Partition: address, Task: task})
}

// spool stores tasks in the backlog, at once and in this order, as when the queue is crowded.
func (f *fixture) spool(priority int32, ids ...string) {
	ctx := context.Background()
	p, err := f.service.enter(ctx, workflowQueue, true)
	require.NoError(f.t, err)
	defer p.leave()
	for _, id := range ids {
		data := newTask(id, priority)
		p.mu.Lock()
		key := p.newKey(levelOf(priority), data)
		p.mu.Unlock()
		result, err := p.spool(ctx, &task{level: key.Level, key: key, data: data, ordered: true, outcome: make(chan outcome, 1)})
		require.NoError(f.t, err)
		require.Equal(f.t, addStored, result)
	}
}

// poll polls once for a workflow task and returns the workflow id, empty: no task.
func (f *fixture) poll(ctx context.Context, address *matchingpb.Partition) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	return f.service.PollWorkflowTaskQueue(ctx, &matchingpb.PollWorkflowTaskQueueRequest{
		Partition: address,
		PollId:    "poll",
		Request:   &workflowservice.PollWorkflowTaskQueueRequest{Identity: "worker", WorkerInstanceKey: "instance"},
	})
}

func (f *fixture) mustPoll(timeout time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	got, err := f.poll(ctx, workflowQueue)
	require.NoError(f.t, err)
	return got.GetWorkflowExecution().GetWorkflowId()
}

func (f *fixture) pollActivity(ctx context.Context, rate *float64) (string, error) {
	request := &workflowservice.PollActivityTaskQueueRequest{Identity: "worker"}
	if rate != nil {
		request.TaskQueueMetadata = &taskqueuepb.TaskQueueMetadata{MaxTasksPerSecond: wrapperspb.Double(*rate)}
	}
	got, err := f.service.PollActivityTaskQueue(ctx, &matchingpb.PollActivityTaskQueueRequest{Partition: activityQueue, Request: request})
	return got.GetWorkflowExecution().GetWorkflowId(), err
}

// constantHistory starts everything.
type constantHistory struct{ historypb.HistoryServiceClient }

func (constantHistory) RecordWorkflowTaskStarted(
	context.Context, *historypb.RecordWorkflowTaskStartedRequest, ...grpc.CallOption,
) (*historypb.RecordWorkflowTaskStartedResponse, error) {
	return &historypb.RecordWorkflowTaskStartedResponse{Task: &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: []byte("t")}}, nil
}
