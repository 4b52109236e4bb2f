package workflow

import (
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"google.golang.org/protobuf/proto"
)

// attachedRequestsMax bounds the remembered requests that attached themselves to a run that was started before (CONTRACT 5.2).
const attachedRequestsMax = 25

// Attachment is a start that found the run open and attaches to it what it brought (USE_EXISTING with on_conflict_options).
type Attachment struct {
	// RequestID, Callbacks and Links are what is attached; empty: not.
	RequestID string
	Callbacks []*commonpb.Callback
	Links     []*commonpb.Link
}

// Attach records an attachment, once per request id.
func (t *Tx) Attach(in Attachment) error {
	switch {
	case !t.open():
		return errCompleted
	case in.RequestID != "" && t.requests.has(in.RequestID):
		return nil
	case in.RequestID == "" && len(in.Callbacks) == 0 && len(in.Links) == 0:
		return nil
	}
	e := t.optionsEvent(&historypb.WorkflowExecutionOptionsUpdatedEventAttributes{
		AttachedRequestId: in.RequestID, AttachedCompletionCallbacks: in.Callbacks,
	})
	e.Links = in.Links
	t.recordRequest(e, in.RequestID)
	t.forgetAttached()
	return nil
}

// forgetAttached forgets the oldest attached requests when there are too many.
func (t *Tx) forgetAttached() {
	known := t.knownRequests()
	attached := slices.DeleteFunc(oldest(known), func(id string) bool {
		return known[id].EventType != enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED
	})
	for _, id := range attached[:max(len(attached)-attachedRequestsMax, 0)] {
		t.requests.delete(id)
	}
}

func (t *Tx) optionsEvent(a *historypb.WorkflowExecutionOptionsUpdatedEventAttributes) *historypb.HistoryEvent {
	e := t.newEvent(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED)
	e.WorkerMayIgnore = true
	e.Attributes = &historypb.HistoryEvent_WorkflowExecutionOptionsUpdatedEventAttributes{WorkflowExecutionOptionsUpdatedEventAttributes: a}
	return e
}

// Options are the run's options as they can be changed while it runs.
func (s *State) Options() *workflowpb.WorkflowExecutionOptions {
	return &workflowpb.WorkflowExecutionOptions{Priority: s.Core.Priority, VersioningOverride: s.Core.VersioningOverride}
}

// UpdateOptions sets the options that the paths name (in proto or in JSON spelling) and returns all options. An event tells
// what has changed; if nothing has, there is none.
func (t *Tx) UpdateOptions(options *workflowpb.WorkflowExecutionOptions, paths []string, identity string) (*workflowpb.WorkflowExecutionOptions, error) {
	if !t.open() {
		return nil, errCompleted
	}
	priority, override, err := t.mergeOptions(options, paths)
	if err != nil {
		return nil, err
	}
	a := &historypb.WorkflowExecutionOptionsUpdatedEventAttributes{Identity: identity}
	changed := false
	if !proto.Equal(priority, t.core.Priority) {
		a.Priority, changed = priority, true
		if priority == nil {
			a.Priority = &commonpb.Priority{} // unset: all fields at their defaults
		}
	}
	if !proto.Equal(override, t.core.VersioningOverride) {
		a.VersioningOverride, a.UnsetVersioningOverride, changed = override, override == nil, true
	}
	if changed {
		t.core.Priority, t.core.VersioningOverride = priority, override
		t.record(t.optionsEvent(a))
		t.visibility = true
	}
	return &workflowpb.WorkflowExecutionOptions{Priority: priority, VersioningOverride: override}, nil
}

// mergeOptions applies the named fields to the present options.
func (t *Tx) mergeOptions(options *workflowpb.WorkflowExecutionOptions, paths []string) (*commonpb.Priority, *workflowpb.VersioningOverride, error) {
	if text := priorityFault(options.GetPriority()); text != "" {
		return nil, nil, serviceerror.NewInvalidArgument(text)
	}
	override, given := t.core.VersioningOverride, options.GetPriority()
	priority := &commonpb.Priority{}
	if t.core.Priority != nil {
		priority = proto.CloneOf(t.core.Priority)
	}
	for _, path := range paths {
		switch snakeCase(path) {
		case "versioning_override":
			override = options.GetVersioningOverride()
		case "priority":
			priority = &commonpb.Priority{}
			if given != nil {
				priority = proto.CloneOf(given)
			}
		case "priority.priority_key":
			priority.PriorityKey = given.GetPriorityKey()
		case "priority.fairness_key":
			priority.FairnessKey = given.GetFairnessKey()
		case "priority.fairness_weight":
			priority.FairnessWeight = given.GetFairnessWeight()
		default:
			return nil, nil, serviceerror.NewInvalidArgumentf("The option %q cannot be updated.", path)
		}
	}
	if proto.Size(priority) == 0 {
		priority = nil
	}
	return priority, override, nil
}

// snakeCase turns a JSON spelling ("versioningOverride") into the proto's.
func snakeCase(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
