package workflow

import (
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// Opening describes a run to be made.
type Opening struct {
	NamespaceID string
	RunID       string
	RequestID   string
	// Attributes become the first event. Open fills in the run's ids where they are empty, and the expiration time.
	Attributes   *historypb.WorkflowExecutionStartedEventAttributes
	UserMetadata *sdkpb.UserMetadata
	Links        []*commonpb.Link
	// ParentNamespaceID goes with Attributes.ParentWorkflowNamespace. The first task of a child is held until its parent has
	// recorded the start.
	ParentNamespaceID string
	HoldFirstTask     bool
	// OriginalStartTime is when the chain began; zero: with this run.
	OriginalStartTime time.Time
}

// StartAttributes are the first event's attributes for a client's request, which has been validated.
func StartAttributes(r *workflowservice.StartWorkflowExecutionRequest) *historypb.WorkflowExecutionStartedEventAttributes {
	return &historypb.WorkflowExecutionStartedEventAttributes{
		WorkflowId:               r.WorkflowId,
		WorkflowType:             r.WorkflowType,
		TaskQueue:                r.TaskQueue,
		Input:                    r.Input,
		WorkflowExecutionTimeout: positive(r.WorkflowExecutionTimeout),
		WorkflowRunTimeout:       positive(r.WorkflowRunTimeout),
		WorkflowTaskTimeout:      positive(r.WorkflowTaskTimeout),
		ContinuedFailure:         r.ContinuedFailure,
		LastCompletionResult:     r.LastCompletionResult,
		Identity:                 r.Identity,
		Attempt:                  1,
		RetryPolicy:              r.RetryPolicy,
		CronSchedule:             r.CronSchedule,
		Memo:                     r.Memo,
		SearchAttributes:         r.SearchAttributes,
		Header:                   r.Header,
		CompletionCallbacks:      r.CompletionCallbacks,
		Priority:                 r.Priority,
		VersioningOverride:       r.VersioningOverride,
		FirstWorkflowTaskBackoff: orZero(r.WorkflowStartDelay),
	}
}

// Open makes a run: the first transition of a new state.
func Open(o Opening, now time.Time, env Env) *Tx {
	s := newState()
	s.Start = &statepb.Start{}
	s.Core = &statepb.Core{NextEventId: firstEventID, Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING}
	s.Attributes = &statepb.Attributes{}
	t := Begin(s, now, env)
	a := completeStart(proto.CloneOf(o.Attributes), o, t.now)
	t.start = startPart(a, o, t.now)
	t.core.TaskQueue = a.TaskQueue.GetName()
	t.core.Priority = a.Priority
	t.core.VersioningOverride = a.VersioningOverride
	t.core.FirstTaskHeld = o.HoldFirstTask
	if a.FirstWorkflowTaskBackoff.AsDuration() > 0 {
		t.core.FirstTaskDue = t.start.ExecutionTime
	}
	if len(a.Memo.GetFields()) > 0 || len(a.SearchAttributes.GetIndexedFields()) > 0 {
		attributes := t.editAttributes()
		attributes.Memo, attributes.SearchAttributes = a.Memo, a.SearchAttributes
	}
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: a}
	e.UserMetadata, e.Links = o.UserMetadata, o.Links
	t.add(e)
	t.remember(o.RequestID, e)
	t.wake = true
	return t
}

// completeStart fills in what the run itself decides.
func completeStart(a *historypb.WorkflowExecutionStartedEventAttributes, o Opening, now time.Time) *historypb.WorkflowExecutionStartedEventAttributes {
	if a.OriginalExecutionRunId == "" {
		a.OriginalExecutionRunId = o.RunID
	}
	if a.FirstExecutionRunId == "" {
		a.FirstExecutionRunId = o.RunID
	}
	completeRunTimeouts(a)
	if a.Initiator == enumspb.CONTINUE_AS_NEW_INITIATOR_UNSPECIFIED && a.CronSchedule != "" {
		a.Initiator = enumspb.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE
		if wait, ok := cronWait(a.CronSchedule, now, now); ok {
			a.FirstWorkflowTaskBackoff = durationpb.New(wait)
		}
	}
	if a.Attempt == 0 {
		a.Attempt = 1
	}
	if execution := a.WorkflowExecutionTimeout.AsDuration(); execution > 0 && a.WorkflowExecutionExpirationTime == nil {
		a.WorkflowExecutionExpirationTime = timestamppb.New(now.Add(a.FirstWorkflowTaskBackoff.AsDuration() + execution))
	}
	return a
}

// completeRunTimeouts fills in the timeouts of a run that are not set, and caps them by one another (CONTRACT 5.3).
func completeRunTimeouts(a *historypb.WorkflowExecutionStartedEventAttributes) {
	if a.WorkflowTaskTimeout.AsDuration() <= 0 {
		a.WorkflowTaskTimeout = durationpb.New(taskTimeoutDefault)
	}
	if a.WorkflowTaskTimeout.AsDuration() > taskTimeoutMax {
		a.WorkflowTaskTimeout = durationpb.New(taskTimeoutMax)
	}
	execution, run := a.WorkflowExecutionTimeout.AsDuration(), a.WorkflowRunTimeout.AsDuration()
	if execution > 0 && (run <= 0 || run > execution) {
		a.WorkflowRunTimeout = a.WorkflowExecutionTimeout
	}
	if run = a.WorkflowRunTimeout.AsDuration(); run > 0 && a.WorkflowTaskTimeout.AsDuration() > run {
		a.WorkflowTaskTimeout = a.WorkflowRunTimeout
	}
}

// startPart keeps of the first event what transitions need: everything but payloads.
func startPart(a *historypb.WorkflowExecutionStartedEventAttributes, o Opening, now time.Time) *statepb.Start {
	due := now.Add(a.FirstWorkflowTaskBackoff.AsDuration())
	p := &statepb.Start{
		NamespaceId: o.NamespaceID, WorkflowId: a.WorkflowId, RunId: o.RunID, WorkflowType: a.WorkflowType,
		FirstRunId: a.FirstExecutionRunId, OriginalRunId: a.OriginalExecutionRunId, ContinuedRunId: a.ContinuedExecutionRunId,
		RequestId: o.RequestID, StartTime: timestamppb.New(now), ExecutionTime: timestamppb.New(due),
		ExecutionTimeout: a.WorkflowExecutionTimeout, RunTimeout: a.WorkflowRunTimeout, TaskTimeout: a.WorkflowTaskTimeout,
		ExecutionDeadline: a.WorkflowExecutionExpirationTime,
		RetryPolicy:       a.RetryPolicy, Attempt: a.Attempt, CronSchedule: a.CronSchedule, Initiator: a.Initiator,
		ParentNamespaceId: o.ParentNamespaceID, ParentNamespace: a.ParentWorkflowNamespace, Parent: a.ParentWorkflowExecution,
		ParentInitiatedEventId: a.ParentInitiatedEventId,
		Root:                   a.RootWorkflowExecution, UserMetadata: o.UserMetadata,
		FirstTaskBackoff: a.FirstWorkflowTaskBackoff, Identity: a.Identity,
		OriginalStartTime: timestamppb.New(now),
	}
	if !o.OriginalStartTime.IsZero() {
		p.OriginalStartTime = timestamppb.New(o.OriginalStartTime)
	}
	if run := a.WorkflowRunTimeout.AsDuration(); run > 0 {
		p.RunDeadline = timestamppb.New(due.Add(run))
		if x := p.ExecutionDeadline; x != nil && x.AsTime().Before(p.RunDeadline.AsTime()) {
			p.RunDeadline = x
		}
	}
	return p
}

// positive drops a duration that says nothing: 0 means the default.
func positive(d *durationpb.Duration) *durationpb.Duration {
	if d.AsDuration() <= 0 {
		return nil
	}
	return d
}

func orZero(d *durationpb.Duration) *durationpb.Duration {
	if d == nil {
		return durationpb.New(0)
	}
	return d
}
