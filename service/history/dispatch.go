package history

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// dispatchWorkflowTask puts a workflow task on its queue. A sticky queue without a worker is not waited for.
func (s *Service) dispatchWorkflowTask(t target, e workflow.DispatchWorkflowTask) error {
	task := &statepb.Task{
		WorkflowId: t.key.BusinessID, RunId: t.runID, ScheduledEventId: e.ScheduledEventID, Attempt: e.Attempt,
		CreateTime: timestamppb.New(e.ScheduledTime), Priority: e.Priority, EffectId: e.ID,
	}
	if e.Sticky {
		gone, err := s.addTask(t, e.ID, workflowPartition(t.key.NamespaceID, e.Queue, e.NormalQueue), task)
		if err != nil || !gone {
			return err
		}
	}
	_, err := s.addTask(t, e.ID, workflowPartition(t.key.NamespaceID, e.NormalQueue, ""), task)
	return err
}

// workflowPartition names a queue of workflow tasks; normal is set for a sticky one.
func workflowPartition(namespaceID, queue, normal string) *matchingpb.Partition {
	p := &matchingpb.Partition{
		NamespaceId: namespaceID, TaskQueue: queue, Type: enumspb.TASK_QUEUE_TYPE_WORKFLOW, Kind: enumspb.TASK_QUEUE_KIND_NORMAL,
	}
	if normal != "" {
		p.Kind, p.NormalName = enumspb.TASK_QUEUE_KIND_STICKY, normal
	}
	return p
}

func (s *Service) dispatchActivity(t target, e workflow.DispatchActivity) error {
	_, err := s.addTask(t, e.ID, &matchingpb.Partition{
		NamespaceId: t.key.NamespaceID, TaskQueue: e.Queue,
		Type: enumspb.TASK_QUEUE_TYPE_ACTIVITY, Kind: enumspb.TASK_QUEUE_KIND_NORMAL,
	}, &statepb.Task{
		WorkflowId: t.key.BusinessID, RunId: t.runID, ScheduledEventId: e.ScheduledEventID, Attempt: e.Attempt, Stamp: e.Stamp,
		CreateTime: timestamppb.New(e.ScheduledTime), Expiry: expiry(e.Expiry), Priority: e.Priority, EffectId: e.ID,
	})
	return err
}

func expiry(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// addTask offers a task to matching. A task that was given to a poller has been started, which the state knows; one that is
// in the backlog is acknowledged. Gone: the sticky queue has no worker.
func (s *Service) addTask(t target, effect int64, partition *matchingpb.Partition, task *statepb.Task) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, dispatchTimeout)
	defer cancel()
	if t.sending != nil {
		t.sending()
	}
	response, err := s.matching.AddTask(ctx, &matchingpb.AddTaskRequest{Partition: partition, Task: task})
	switch {
	case err != nil:
		return false, err
	case response.GetStickyWorkerUnavailable():
		return true, nil
	case response.GetMatched():
		return false, nil
	}
	return false, s.acknowledge(t, effect)
}
