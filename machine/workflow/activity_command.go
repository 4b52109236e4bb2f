package workflow

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	statepb "github.com/perdure/perdure/api/state/v1"
)

const (
	// durationMax caps durations that clients send (CONTRACT 5): longer ones are as good as endless and would overflow.
	durationMax = 100 * 365 * 24 * time.Hour
	// fairnessKeyMax bounds the fairness key of a priority, in bytes (CONTRACT 5.2).
	fairnessKeyMax = 64
	// reservedQueuePrefix begins the names of partitions; a queue may not look like one.
	reservedQueuePrefix = "/_sys/"
	// notStarted is told of an activity that was canceled before any worker had it.
	notStarted = `"ACTIVITY_ID_NOT_STARTED"`
)

func (c *completion) scheduleActivity(cmd *commandpb.Command) error {
	a := cmd.GetScheduleActivityTaskCommandAttributes()
	if err := c.checkActivity(a); err != nil {
		return err
	}
	timeouts := completeTimeouts(activityTimeouts{
		scheduleToClose: a.ScheduleToCloseTimeout, scheduleToStart: a.ScheduleToStartTimeout,
		startToClose: a.StartToCloseTimeout, heartbeat: a.HeartbeatTimeout,
	}, c.start.RunTimeout)
	policy := completeRetryPolicy(a.RetryPolicy)
	e := c.commandEvent(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, cmd)
	e.Attributes = &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
		ActivityId: a.ActivityId, ActivityType: a.ActivityType, Header: a.Header, Input: a.Input,
		TaskQueue:              &taskqueuepb.TaskQueue{Name: a.TaskQueue.Name, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		ScheduleToCloseTimeout: timeouts.scheduleToClose, ScheduleToStartTimeout: timeouts.scheduleToStart,
		StartToCloseTimeout: timeouts.startToClose, HeartbeatTimeout: timeouts.heartbeat,
		RetryPolicy: policy, UseWorkflowBuildId: a.UseWorkflowBuildId, Priority: a.Priority,
		WorkflowTaskCompletedEventId: c.completed,
	}}
	c.add(e)
	activity := &statepb.Activity{
		ScheduledEventId: e.EventId, ActivityId: a.ActivityId, ActivityType: a.ActivityType, TaskQueue: a.TaskQueue.Name,
		ScheduleToCloseTimeout: timeouts.scheduleToClose, ScheduleToStartTimeout: timeouts.scheduleToStart,
		StartToCloseTimeout: timeouts.startToClose, HeartbeatTimeout: timeouts.heartbeat,
		RetryPolicy: policy, RetryInterval: policy.InitialInterval, OwnPriority: a.Priority, Attempt: 1,
		ScheduledTime: c.timestamp(), AttemptScheduledTime: c.timestamp(),
	}
	c.activities.put(e.EventId, activity)
	c.pendingIDs[a.ActivityId] = true
	c.handOut(activity, a.RequestEagerExecution)
	return nil
}

// handOut puts a new activity on its queue, or gives it to the worker that asked for it along with the answer.
func (c *completion) handOut(a *statepb.Activity, eager bool) {
	if !eager || !c.env.EagerActivities || len(c.out.EagerActivities) >= eagerActivitiesMax ||
		c.paused() {
		c.dispatchActivity(a)
		return
	}
	a.EffectId, a.Eager = c.nextEffect(), true
	a.Priority = mergePriority(c.core.Priority, a.OwnPriority)
	c.begin(a, c.derivedID(a.EffectId), c.req.Identity)
	c.out.EagerActivities = append(c.out.EagerActivities, a.ScheduledEventId)
}

// derivedID makes an id in the form of a UUID that is the same whenever this step is computed.
func (t *Tx) derivedID(n int64) string {
	sum := t.derived(n)
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8: made by rules of one's own
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// derived stands in for randomness where two runs, or two steps of one, should differ.
func (t *Tx) derived(n int64) [sha256.Size]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(t.start.RunId), uint64(n)))
}

// checkActivity validates the command and the limits.
func (c *completion) checkActivity(a *commandpb.ScheduleActivityTaskCommandAttributes) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES
	if a == nil {
		return reject(cause, "ScheduleActivityTaskCommandAttributes is not set on ScheduleActivityTaskCommand.")
	}
	if text := activityFault(a); text != "" {
		return reject(cause, "%s", text)
	}
	if proto.Size(a.Input) > blobSizeMax {
		return tooLarge(cause, "ScheduleActivityTaskCommandAttributes.Input exceeds size limit.")
	}
	if c.pendingIDs == nil {
		c.pendingIDs = map[string]bool{}
		for _, pending := range c.activities.all() {
			c.pendingIDs[pending.ActivityId] = true
		}
	}
	switch {
	case c.pendingIDs[a.ActivityId]:
		return impossible(enumspb.WORKFLOW_TASK_FAILED_CAUSE_SCHEDULE_ACTIVITY_DUPLICATE_ID, "activitytask-scheduled", "ActivityID", a.ActivityId)
	case len(c.pendingIDs) >= pendingActivitiesMax:
		return reject(enumspb.WORKFLOW_TASK_FAILED_CAUSE_PENDING_ACTIVITIES_LIMIT_EXCEEDED,
			"The run has %d pending activities, which is the limit.", pendingActivitiesMax)
	}
	return nil
}

// activityFault returns what is wrong with the attributes themselves; "": nothing.
func activityFault(a *commandpb.ScheduleActivityTaskCommandAttributes) string {
	timeouts := activityTimeouts{
		scheduleToClose: a.ScheduleToCloseTimeout, scheduleToStart: a.ScheduleToStartTimeout,
		startToClose: a.StartToCloseTimeout, heartbeat: a.HeartbeatTimeout,
	}
	switch {
	case a.ActivityId == "":
		return "activityId is not set"
	case len(a.ActivityId) > idLengthMax:
		return longName("activityId", a.ActivityId)
	case a.ActivityType.GetName() == "":
		return "activityType is not set"
	case len(a.ActivityType.GetName()) > idLengthMax:
		return longName("activityType", a.ActivityType.GetName())
	}
	for _, text := range []string{queueFault(a.TaskQueue), timeouts.fault(a.ActivityId, a.ActivityType.GetName()), checkRetryPolicy(a.RetryPolicy)} {
		if text != "" {
			return text
		}
	}
	if text := priorityFault(a.Priority); text != "" {
		return "invalid priorities: " + text
	}
	return ""
}

func longName(field, value string) string {
	return fmt.Sprintf("%s exceeds length limit. Length=%d Limit=%d", field, len(value), idLengthMax)
}

func queueFault(q *taskqueuepb.TaskQueue) string {
	switch name := q.GetName(); {
	case q == nil:
		return "taskQueue is not set"
	case name == "":
		return "missing task queue name"
	case len(name) > idLengthMax:
		return "taskQueue length exceeds limit"
	case strings.HasPrefix(name, reservedQueuePrefix):
		return "task queue name cannot start with reserved prefix " + reservedQueuePrefix
	}
	return ""
}

func priorityFault(p *commonpb.Priority) string {
	switch {
	case p.GetPriorityKey() < 0:
		return "priority key can't be negative"
	case len(p.GetFairnessKey()) > fairnessKeyMax:
		return "fairness key length exceeds limit"
	}
	return ""
}

// mergePriority lets each field that an activity leaves open fall back to the run's.
func mergePriority(run, own *commonpb.Priority) *commonpb.Priority {
	if run == nil || own == nil {
		if own == nil {
			own = run
		}
		return own
	}
	merged := proto.CloneOf(own)
	if merged.PriorityKey == 0 {
		merged.PriorityKey = run.PriorityKey
	}
	if merged.FairnessKey == "" {
		merged.FairnessKey = run.FairnessKey
	}
	if merged.FairnessWeight == 0 {
		merged.FairnessWeight = run.FairnessWeight
	}
	return merged
}

// activityTimeouts are the four timeouts of an activity.
type activityTimeouts struct{ scheduleToClose, scheduleToStart, startToClose, heartbeat *durationpb.Duration }

// fault returns what is wrong with the timeouts of an activity; "": nothing.
func (a activityTimeouts) fault(activityID, activityType string) string {
	for _, timeout := range []struct {
		field string
		d     *durationpb.Duration
	}{
		{"ScheduleToCloseTimeout", a.scheduleToClose}, {"ScheduleToStartTimeout", a.scheduleToStart},
		{"StartToCloseTimeout", a.startToClose}, {"HeartbeatTimeout", a.heartbeat},
	} {
		if text := durationFault(timeout.d); text != "" {
			return "invalid " + timeout.field + ": " + text
		}
	}
	if a.startToClose.AsDuration() == 0 && a.scheduleToClose.AsDuration() == 0 {
		return fmt.Sprintf("a valid StartToClose or ScheduleToCloseTimeout is not set on ScheduleActivityTaskCommand. ActivityId=%s ActivityType=%s",
			activityID, activityType)
	}
	return ""
}

// completeTimeouts fills in the timeouts that a worker left open and cuts those that cannot be reached (CONTRACT 5.3). Zero is
// no timeout.
func completeTimeouts(a activityTimeouts, run *durationpb.Duration) activityTimeouts {
	limited := func(d, limit *durationpb.Duration) *durationpb.Duration {
		if l := limit.AsDuration(); l > 0 && (d.AsDuration() == 0 || d.AsDuration() > l) {
			return durationpb.New(l)
		}
		return durationpb.New(capped(d).AsDuration())
	}
	var out activityTimeouts
	out.scheduleToClose = limited(a.scheduleToClose, run)
	out.scheduleToStart = limited(a.scheduleToStart, out.scheduleToClose)
	out.startToClose = limited(a.startToClose, out.scheduleToClose)
	out.heartbeat = durationpb.New(min(a.heartbeat.AsDuration(), out.startToClose.AsDuration()))
	return out
}

// capped is a duration of at most durationMax.
func capped(d *durationpb.Duration) *durationpb.Duration {
	if d.GetSeconds() >= int64(durationMax/time.Second) {
		return durationpb.New(durationMax)
	}
	return d
}

func (c *completion) requestCancelActivity(cmd *commandpb.Command) error {
	const cause = enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES
	a := cmd.GetRequestCancelActivityTaskCommandAttributes()
	switch {
	case a == nil:
		return reject(cause, "RequestCancelActivityTaskCommandAttributes is not set on RequestCancelActivityTaskCommand.")
	case a.ScheduledEventId <= 0:
		return reject(cause, "ScheduledEventId is not set on RequestCancelActivityTaskCommand.")
	}
	id := a.ScheduledEventId
	pending, ok := c.activities.get(id)
	if again := ok && pending.CancelRequested; again || (!ok && !c.closedUnseen(id)) {
		return impossible(cause, "activitytask-cancel-requested", "ScheduledEventID", id)
	}
	e := c.commandEvent(enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED, cmd)
	e.Attributes = &historypb.HistoryEvent_ActivityTaskCancelRequestedEventAttributes{ActivityTaskCancelRequestedEventAttributes: &historypb.ActivityTaskCancelRequestedEventAttributes{
		ScheduledEventId: id, WorkflowTaskCompletedEventId: c.completed,
	}}
	c.add(e)
	if ok {
		activity := c.editActivity(id)
		activity.CancelRequested, activity.CancelRequestedEventId = true, e.EventId
	}
	return nil
}

// closedUnseen tells whether an activity ended while the task was running: the worker could not know.
func (t *Tx) closedUnseen(id int64) bool {
	for _, b := range t.buffered.all() {
		if closesPending(b.Event.EventType) && scheduledEventID(b.Event) == id {
			return true
		}
	}
	return false
}

// scheduledEventID is the activity that an event closes; 0: it does not close an activity.
func scheduledEventID(e *historypb.HistoryEvent) int64 {
	switch a := e.Attributes.(type) {
	case *historypb.HistoryEvent_ActivityTaskCompletedEventAttributes:
		return a.ActivityTaskCompletedEventAttributes.ScheduledEventId
	case *historypb.HistoryEvent_ActivityTaskFailedEventAttributes:
		return a.ActivityTaskFailedEventAttributes.ScheduledEventId
	case *historypb.HistoryEvent_ActivityTaskTimedOutEventAttributes:
		return a.ActivityTaskTimedOutEventAttributes.ScheduledEventId
	case *historypb.HistoryEvent_ActivityTaskCanceledEventAttributes:
		return a.ActivityTaskCanceledEventAttributes.ScheduledEventId
	}
	return 0
}

// cancelUnstarted ends the activities that the completion canceled and that no worker has (CONTRACT 2.1): nobody would ever
// acknowledge it.
func (c *completion) cancelUnstarted() {
	if !c.open() {
		c.out.EagerActivities = nil
		return
	}
	var canceled []*statepb.Activity
	for _, a := range c.activities.changed {
		if a.ProtoReflect().IsValid() && a.CancelRequested && !isStarted(a) {
			canceled = append(canceled, a)
		}
	}
	slices.SortFunc(canceled, func(a, b *statepb.Activity) int { return int(a.ScheduledEventId - b.ScheduledEventId) })
	for _, a := range canceled {
		c.closeActivity(a, c.canceledEvent(a, c.req.Identity, &commonpb.Payloads{Payloads: []*commonpb.Payload{{
			Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(notStarted),
		}}}))
	}
}

func (t *Tx) canceledEvent(a *statepb.Activity, identity string, details *commonpb.Payloads) *historypb.HistoryEvent {
	e := t.newEvent(enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED)
	e.Attributes = &historypb.HistoryEvent_ActivityTaskCanceledEventAttributes{ActivityTaskCanceledEventAttributes: &historypb.ActivityTaskCanceledEventAttributes{
		Details: details, LatestCancelRequestedEventId: a.CancelRequestedEventId, ScheduledEventId: a.ScheduledEventId, Identity: identity,
	}}
	return e
}
