package workflow

import (
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"

	internalpb "github.com/perdure/perdure/api/history/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
)

// ChildRequest is the request that starts a child, made of the parent's state and of the event that initiated it.
func (s *State) ChildRequest(c *statepb.Child, initiated *historypb.HistoryEvent, namespace string) *internalpb.StartChildRequest {
	a := initiated.GetStartChildWorkflowExecutionInitiatedEventAttributes()
	reuse, conflict := a.GetWorkflowIdReusePolicy(), enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	if slices.Contains(s.Start.ReplacedChildren, c.WorkflowId) {
		reuse, conflict = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	}
	return &internalpb.StartChildRequest{
		NamespaceId: c.NamespaceId,
		Request: &workflowservice.StartWorkflowExecutionRequest{
			Namespace: c.Namespace, WorkflowId: c.WorkflowId, WorkflowType: a.GetWorkflowType(), TaskQueue: a.GetTaskQueue(), Input: a.GetInput(),
			WorkflowExecutionTimeout: a.GetWorkflowExecutionTimeout(), WorkflowRunTimeout: a.GetWorkflowRunTimeout(), WorkflowTaskTimeout: a.GetWorkflowTaskTimeout(),
			RequestId: c.CreateRequestId, WorkflowIdReusePolicy: reuse, WorkflowIdConflictPolicy: conflict,
			RetryPolicy: a.GetRetryPolicy(), CronSchedule: a.GetCronSchedule(), Memo: a.GetMemo(), SearchAttributes: a.GetSearchAttributes(), Header: a.GetHeader(),
			UserMetadata: initiated.GetUserMetadata(), Priority: a.GetPriority(), VersioningOverride: a.GetVersioningOverride(),
		},
		Parent: &internalpb.Source{
			NamespaceId: s.Start.NamespaceId, Namespace: namespace, InitiatedEventId: c.InitiatedEventId,
			Execution: s.execution(),
		},
		Root:              s.root(),
		InheritedPriority: s.Core.Priority,
	}
}

func (s *State) execution() *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: s.Start.WorkflowId, RunId: s.Start.RunId}
}

// root is the run at the top of the run's family.
func (s *State) root() *commonpb.WorkflowExecution {
	if s.Start.Root != nil {
		return s.Start.Root
	}
	return s.execution()
}

// ChildOpening describes the first run of a child. Its first workflow task is held until [Tx.ReleaseFirstTask].
func ChildOpening(r *internalpb.StartChildRequest, runID string) Opening {
	a := StartAttributes(r.Request)
	a.WorkflowRunTimeout = orZero(r.Request.WorkflowRunTimeout)
	a.ParentWorkflowNamespace, a.ParentWorkflowNamespaceId = r.Parent.GetNamespace(), r.Parent.GetNamespaceId()
	a.ParentWorkflowExecution, a.ParentInitiatedEventId = r.Parent.GetExecution(), r.Parent.GetInitiatedEventId()
	a.RootWorkflowExecution = r.Root
	a.Priority = mergePriority(r.InheritedPriority, r.Request.Priority)
	return Opening{
		NamespaceID: r.NamespaceId, RunID: runID, RequestID: r.Request.RequestId, Attributes: a, UserMetadata: r.Request.UserMetadata,
		ParentNamespaceID: r.Parent.GetNamespaceId(), HoldFirstTask: true,
	}
}

// ReleaseFirstTask lets a child work: its parent has recorded its start. It changes nothing on a run that is not held.
func (t *Tx) ReleaseFirstTask() {
	if t.open() && t.core.FirstTaskHeld {
		t.core.FirstTaskHeld = false
		t.wake = true
		t.write()
	}
}

// IsChildOf tells whether the run was started by another workflow. Runs of one workflow id are not told apart: a parent that
// was reset goes on with its children.
func (s *State) IsChildOf(source *internalpb.Source) bool {
	return s.Start.Parent != nil && s.Start.ParentNamespaceId == source.GetNamespaceId() &&
		s.Start.Parent.WorkflowId == source.GetExecution().GetWorkflowId()
}

// createRequestID is the request id under which a run starts the child of an initiation, whoever asks and how often.
func createRequestID(runID string, initiatedID int64) string {
	return fmt.Sprintf("%s:%d:0", runID, initiatedID)
}
