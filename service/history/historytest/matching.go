package historytest

import (
	"context"
	"sync"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// Matching is a matching service without pollers: a test takes the tasks from it. By default every task goes to the backlog at
// once.
type Matching struct {
	matchingpb.UnimplementedMatchingServiceServer

	mu      sync.Mutex
	tasks   []*matchingpb.AddTaskRequest
	arrived chan struct{} // closed when a task arrives
	// add decides what AddTask answers; nil: stored.
	add   func(context.Context, *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error)
	query func(context.Context, *matchingpb.QueryRequest) (*workflowservice.QueryWorkflowResponse, error)
}

// NewMatching makes a service without tasks.
func NewMatching() *Matching { return &Matching{arrived: make(chan struct{})} }

// Client is how the history service calls it.
func (m *Matching) Client() matchingpb.MatchingServiceClient {
	return matchingpb.LocalMatchingServiceClient{Server: m}
}

// OnAdd sets what AddTask does with a task; nil: it is stored.
func (m *Matching) OnAdd(f func(context.Context, *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add = f
}

// OnQuery sets what Query answers; nil: that no worker polls.
func (m *Matching) OnQuery(f func(context.Context, *matchingpb.QueryRequest) (*workflowservice.QueryWorkflowResponse, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.query = f
}

// Stored is the answer to a task that went to the backlog.
func Stored() (*matchingpb.AddTaskResponse, error) { return &matchingpb.AddTaskResponse{}, nil }

// AddTask implements MatchingService.
func (m *Matching) AddTask(ctx context.Context, in *matchingpb.AddTaskRequest) (*matchingpb.AddTaskResponse, error) {
	m.mu.Lock()
	add := m.add
	m.mu.Unlock()
	response, err := Stored()
	if add != nil {
		response, err = add(ctx, in)
	}
	if err != nil || response.GetStickyWorkerUnavailable() || response.GetMatched() {
		return response, err
	}
	m.Put(in)
	return response, nil
}

// Put lets Take find a task.
func (m *Matching) Put(in *matchingpb.AddTaskRequest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tasks = append(m.tasks, in)
	close(m.arrived)
	m.arrived = make(chan struct{})
}

// Take waits for a task of a queue and removes it.
func (m *Matching) Take(ctx context.Context, queue string) (*matchingpb.AddTaskRequest, error) {
	for {
		m.mu.Lock()
		for i, in := range m.tasks {
			if in.GetPartition().GetTaskQueue() == queue {
				m.tasks = append(m.tasks[:i:i], m.tasks[i+1:]...)
				m.mu.Unlock()
				return in, nil
			}
		}
		arrived := m.arrived
		m.mu.Unlock()
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Waiting is how many tasks nobody has taken.
func (m *Matching) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.tasks)
}

// Query implements MatchingService.
func (m *Matching) Query(ctx context.Context, in *matchingpb.QueryRequest) (*workflowservice.QueryWorkflowResponse, error) {
	m.mu.Lock()
	query := m.query
	m.mu.Unlock()
	if query == nil {
		return nil, serviceerror.NewDeadlineExceeded("no worker polls")
	}
	return query(ctx, in)
}
