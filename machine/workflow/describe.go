package workflow

import (
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// Describe is the run as DescribeWorkflowExecution shows it, with what is not durable yet: the started workflow task and the
// newest heartbeats. It shares messages with the state and is for reading only.
func (s *State) Describe(now time.Time) *workflowservice.DescribeWorkflowExecutionResponse {
	r := &workflowservice.DescribeWorkflowExecutionResponse{
		ExecutionConfig: &workflowpb.WorkflowExecutionConfig{
			TaskQueue:                  &taskqueuepb.TaskQueue{Name: s.Core.TaskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
			WorkflowExecutionTimeout:   s.Start.ExecutionTimeout,
			WorkflowRunTimeout:         s.Start.RunTimeout,
			DefaultWorkflowTaskTimeout: s.Start.TaskTimeout,
			UserMetadata:               s.Start.UserMetadata,
		},
		WorkflowExecutionInfo: s.describeRun(),
		WorkflowExtendedInfo:  s.describeExtended(),
	}
	if !s.Open() {
		return r
	}
	for _, id := range sortedKeys(s.Activities) {
		a := s.Activities[id]
		if h := s.Volatile.Heartbeats[id]; isNewest(h, a) {
			a = h.Activity
		}
		r.PendingActivities = append(r.PendingActivities, describeActivity(a, now))
	}
	for _, id := range sortedKeys(s.Children) {
		c := s.Children[id]
		r.PendingChildren = append(r.PendingChildren, &workflowpb.PendingChildExecutionInfo{
			WorkflowId: c.WorkflowId, RunId: c.RunId, WorkflowTypeName: c.WorkflowType.GetName(),
			InitiatedId: c.InitiatedEventId, ParentClosePolicy: c.ParentClosePolicy,
		})
	}
	if task := s.Task(); task != nil {
		r.PendingWorkflowTask = describeTask(task)
	}
	return r
}

func (s *State) describeRun() *workflowpb.WorkflowExecutionInfo {
	execution := &commonpb.WorkflowExecution{WorkflowId: s.Start.WorkflowId, RunId: s.Start.RunId}
	info := &workflowpb.WorkflowExecutionInfo{
		Execution:            execution,
		Type:                 s.Start.WorkflowType,
		StartTime:            s.Start.StartTime,
		ExecutionTime:        s.Start.ExecutionTime,
		CloseTime:            s.Core.CloseTime,
		Status:               s.Core.Status,
		HistoryLength:        s.historyLength(),
		HistorySizeBytes:     s.Core.HistorySizeBytes,
		StateTransitionCount: s.Core.StateTransitionCount,
		ParentNamespaceId:    s.Start.ParentNamespaceId,
		ParentExecution:      s.Start.Parent,
		RootExecution:        s.Start.Root,
		FirstRunId:           s.Start.FirstRunId,
		TaskQueue:            s.Core.TaskQueue,
		Memo:                 s.Attributes.Memo,
		SearchAttributes:     s.Attributes.SearchAttributes,
		AutoResetPoints:      s.Core.ResetPoints,
		Priority:             s.Core.Priority,

		MostRecentWorkerVersionStamp: s.Attributes.WorkerVersion,
	}
	if info.RootExecution == nil {
		info.RootExecution = execution
	}
	if info.Memo == nil {
		info.Memo = &commonpb.Memo{}
	}
	if info.SearchAttributes == nil {
		info.SearchAttributes = &commonpb.SearchAttributes{}
	}
	if info.AutoResetPoints == nil {
		info.AutoResetPoints = &workflowpb.ResetPoints{}
	}
	if info.CloseTime != nil {
		info.ExecutionDuration = durationpb.New(info.CloseTime.AsTime().Sub(info.ExecutionTime.AsTime()))
	}
	if s.Core.VersioningOverride != nil {
		info.VersioningInfo = &workflowpb.WorkflowExecutionVersioningInfo{VersioningOverride: s.Core.VersioningOverride}
	}
	return info
}

// historyLength counts the events that a reader sees, with the provisional start of a normal workflow task.
func (s *State) historyLength() int64 {
	length := s.Core.NextEventId - 1
	if provisional, hidden := s.ProvisionalEvents(false); !hidden {
		length += int64(len(provisional))
	}
	return length
}

func (s *State) describeExtended() *workflowpb.WorkflowExecutionExtendedInfo {
	info := &workflowpb.WorkflowExecutionExtendedInfo{
		ExecutionExpirationTime: s.Start.ExecutionDeadline,
		RunExpirationTime:       s.Start.RunDeadline,
		CancelRequested:         s.Core.CancelRequested,
		OriginalStartTime:       s.Start.OriginalStartTime,
		ResetRunId:              s.Core.ResetRun.GetRunId(),
		LastResetTime:           s.Core.LastResetTime,
		RequestIdInfos:          s.describeRequests(),
	}
	if info.RunExpirationTime == nil {
		info.RunExpirationTime = timestamppb.New(time.Time{}) // shown as the zero time
	}
	if p := s.Core.Pause; p != nil {
		info.PauseInfo = &workflowpb.WorkflowExecutionPauseInfo{Identity: p.Identity, PausedTime: p.PauseTime, Reason: p.Reason}
	}
	return info
}

// describeRequests shows the requests that started the run or attached to it; those of signals are remembered, not shown.
func (s *State) describeRequests() map[string]*workflowpb.RequestIdInfo {
	infos := map[string]*workflowpb.RequestIdInfo{}
	for id, r := range s.Requests {
		switch {
		case r.RunId != "" && r.RunId != s.Start.RunId: // carried over from an earlier run of the chain
		case r.EventType == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, r.EventType == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED:
			infos[id] = &workflowpb.RequestIdInfo{EventType: r.EventType, EventId: r.EventId, Buffered: r.EventId == 0}
		}
	}
	return infos
}

func describeTask(task *statepb.WorkflowTask) *workflowpb.PendingWorkflowTaskInfo {
	info := &workflowpb.PendingWorkflowTaskInfo{
		State:         enumspb.PENDING_WORKFLOW_TASK_STATE_SCHEDULED,
		ScheduledTime: task.ScheduledTime, OriginalScheduledTime: task.OriginalScheduledTime, Attempt: task.Attempt,
	}
	if task.StartedEventId != 0 {
		info.State, info.StartedTime = enumspb.PENDING_WORKFLOW_TASK_STATE_STARTED, task.StartedTime
	}
	return info
}

func describeActivity(a *statepb.Activity, now time.Time) *workflowpb.PendingActivityInfo {
	info := &workflowpb.PendingActivityInfo{
		ActivityId:              a.ActivityId,
		ActivityType:            a.ActivityType,
		State:                   activityState(a),
		HeartbeatDetails:        a.HeartbeatDetails,
		LastHeartbeatTime:       a.LastHeartbeatTime,
		LastStartedTime:         a.StartedTime,
		Attempt:                 a.Attempt,
		MaximumAttempts:         a.RetryPolicy.GetMaximumAttempts(),
		ScheduledTime:           a.ScheduledTime,
		LastFailure:             a.LastFailure,
		LastWorkerIdentity:      a.LastWorkerIdentity,
		LastAttemptCompleteTime: a.LastAttemptCompleteTime,
		Paused:                  a.Paused,
		Priority:                a.OwnPriority,
		ActivityOptions:         activityOptions(a),
	}
	if end := timeoutAt(a.ScheduledTime, a.ScheduleToCloseTimeout); !end.IsZero() {
		info.ExpirationTime = timestamppb.New(end)
	}
	if !isStarted(a) {
		info.CurrentRetryInterval = a.RetryInterval
	}
	if a.Backoff && !a.Paused && now.Before(a.AttemptScheduledTime.AsTime()) {
		info.NextAttemptScheduleTime = a.AttemptScheduledTime
	}
	if a.Paused {
		info.PauseInfo = &workflowpb.PendingActivityInfo_PauseInfo{
			PauseTime: a.PauseTime,
			PausedBy: &workflowpb.PendingActivityInfo_PauseInfo_Manual_{Manual: &workflowpb.PendingActivityInfo_PauseInfo_Manual{
				Identity: a.PauseIdentity, Reason: a.PauseReason,
			}},
		}
	}
	return info
}

func activityState(a *statepb.Activity) enumspb.PendingActivityState {
	switch {
	case a.CancelRequested:
		return enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
	case a.Paused && isStarted(a):
		return enumspb.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED
	case a.Paused:
		return enumspb.PENDING_ACTIVITY_STATE_PAUSED
	case isStarted(a):
		return enumspb.PENDING_ACTIVITY_STATE_STARTED
	}
	return enumspb.PENDING_ACTIVITY_STATE_SCHEDULED
}
