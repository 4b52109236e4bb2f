package frontend

import (
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// startRequest is what StartWorkflowExecution and SignalWithStartWorkflowExecution have in common.
type startRequest interface {
	GetWorkflowId() string
	GetWorkflowType() *commonpb.WorkflowType
	GetTaskQueue() *taskqueuepb.TaskQueue
	GetInput() *commonpb.Payloads
	GetWorkflowExecutionTimeout() *durationpb.Duration
	GetWorkflowRunTimeout() *durationpb.Duration
	GetWorkflowTaskTimeout() *durationpb.Duration
	GetWorkflowStartDelay() *durationpb.Duration
	GetRequestId() string
	GetWorkflowIdReusePolicy() enumspb.WorkflowIdReusePolicy
	GetWorkflowIdConflictPolicy() enumspb.WorkflowIdConflictPolicy
	GetRetryPolicy() *commonpb.RetryPolicy
	GetCronSchedule() string
	GetMemo() *commonpb.Memo
	GetUserMetadata() *sdkpb.UserMetadata
	GetLinks() []*commonpb.Link
	GetVersioningOverride() *workflowpb.VersioningOverride
	GetPriority() *commonpb.Priority
}

// startDefaults are the fields of a start whose value after validation can differ from what was sent.
type startDefaults struct {
	requestID        string
	taskQueue        *taskqueuepb.TaskQueue
	executionTimeout *durationpb.Duration
	runTimeout       *durationpb.Duration
	taskTimeout      *durationpb.Duration
	startDelay       *durationpb.Duration
	reuse            enumspb.WorkflowIdReusePolicy
	conflict         enumspb.WorkflowIdConflictPolicy
	retry            *commonpb.RetryPolicy
}

// checkStart validates a start but for its search attributes. conflictDefault stands for a conflict policy that is not set.
func checkStart(r startRequest, conflictDefault enumspb.WorkflowIdConflictPolicy) (*startDefaults, error) {
	err := firstError(
		requiredID("WorkflowId", r.GetWorkflowId()),
		checkLength("RequestId", r.GetRequestId(), idLengthMax),
		requiredID("WorkflowType", r.GetWorkflowType().GetName()),
		checkTaskQueue(r.GetTaskQueue()),
		checkPayload(r.GetInput()),
		checkSize("Memo", r.GetMemo(), memoSizeMax),
		checkPayload(r.GetUserMetadata()),
		checkPriority(r.GetPriority()),
		checkLinks(r.GetLinks()),
		checkVersioningOverride(r.GetVersioningOverride()),
	)
	if err != nil {
		return nil, err
	}
	d := &startDefaults{requestID: r.GetRequestId(), taskQueue: normalQueue(r.GetTaskQueue())}
	if d.requestID == "" {
		d.requestID = uuid.NewString()
	}
	if err := d.setTimeouts(r); err != nil {
		return nil, err
	}
	if d.reuse, d.conflict, err = workflowIDPolicies(r.GetWorkflowIdReusePolicy(), r.GetWorkflowIdConflictPolicy(), conflictDefault); err != nil {
		return nil, err
	}
	if d.retry, err = retryPolicy(r.GetRetryPolicy()); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *startDefaults) setTimeouts(r startRequest) error {
	execution, err := startDuration("WorkflowExecutionTimeout", r.GetWorkflowExecutionTimeout())
	if err != nil {
		return err
	}
	run, err := startDuration("WorkflowRunTimeout", r.GetWorkflowRunTimeout())
	if err != nil {
		return err
	}
	task, err := startDuration("WorkflowTaskTimeout", r.GetWorkflowTaskTimeout())
	if err != nil {
		return err
	}
	delay, err := startDuration("WorkflowStartDelay", r.GetWorkflowStartDelay())
	if err != nil {
		return err
	}
	if err := checkCron(r.GetCronSchedule(), r.GetWorkflowStartDelay() != nil); err != nil {
		return err
	}
	// 0 is no limit: it is the longest timeout, not the shortest.
	if execution > 0 && (run == 0 || run > execution) {
		run = execution
	}
	if task == 0 {
		task = workflowTaskTimeoutDefault
	}
	task = min(task, workflowTaskTimeoutMax)
	if run > 0 {
		task = min(task, run)
	}
	d.executionTimeout = sameOrNew(r.GetWorkflowExecutionTimeout(), execution)
	d.runTimeout = sameOrNew(r.GetWorkflowRunTimeout(), run)
	d.taskTimeout = sameOrNew(r.GetWorkflowTaskTimeout(), task)
	d.startDelay = sameOrNew(r.GetWorkflowStartDelay(), delay)
	return nil
}

// startDuration is duration for a field of a start. The recorded texts call these by their old names.
func startDuration(field string, d *durationpb.Duration) (time.Duration, error) {
	return duration("An invalid "+field+"Seconds is set on request. cause", d)
}

// sameOrNew returns the duration as it was sent (nil may mean zero) if it has the wanted value, else a new one.
func sameOrNew(sent *durationpb.Duration, want time.Duration) *durationpb.Duration {
	if sent.AsDuration() == want {
		return sent
	}
	return durationpb.New(want)
}

// checkCron parses a cron schedule as the history service will.
func checkCron(schedule string, delayed bool) error {
	if schedule == "" {
		return nil
	}
	if delayed {
		return serviceerror.NewInvalidArgument("CronSchedule and WorkflowStartDelay may not be used together.")
	}
	parsed, err := cron.ParseStandard(schedule)
	if err != nil {
		return serviceerror.NewInvalidArgument("invalid CronSchedule.")
	}
	if parsed.Next(time.Now().UTC()).IsZero() {
		return serviceerror.NewInvalidArgument("invalid CronSchedule, no time can be found to satisfy the schedule")
	}
	return nil
}

// workflowIDPolicies resolves the two policies that say what happens to a workflow id that is in use.
func workflowIDPolicies(
	reuse enumspb.WorkflowIdReusePolicy, conflict, conflictDefault enumspb.WorkflowIdConflictPolicy,
) (enumspb.WorkflowIdReusePolicy, enumspb.WorkflowIdConflictPolicy, error) {
	if _, known := enumspb.WorkflowIdReusePolicy_name[int32(reuse)]; !known {
		return 0, 0, serviceerror.NewInvalidArgumentf("Unknown WorkflowIdReusePolicy %d.", reuse)
	}
	if _, known := enumspb.WorkflowIdConflictPolicy_name[int32(conflict)]; !known {
		return 0, 0, serviceerror.NewInvalidArgumentf("Unknown WorkflowIdConflictPolicy %d.", conflict)
	}
	switch {
	case reuse == enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING:
		if conflict != enumspb.WORKFLOW_ID_CONFLICT_POLICY_UNSPECIFIED {
			return 0, 0, serviceerror.NewInvalidArgument(
				"Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be used together with a WorkflowIDConflictPolicy")
		}
		// The deprecated value is two policies in one.
		return enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING, nil
	case reuse == enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE &&
		conflict == enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING:
		return 0, 0, serviceerror.NewInvalidArgument(
			"Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be used together with " +
				"WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING")
	}
	if reuse == enumspb.WORKFLOW_ID_REUSE_POLICY_UNSPECIFIED {
		reuse = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	}
	if conflict == enumspb.WORKFLOW_ID_CONFLICT_POLICY_UNSPECIFIED {
		conflict = conflictDefault
	}
	return reuse, conflict, nil
}

// retryPolicy checks a retry policy and fills in what is not set. No policy stays none: a workflow is not retried.
func retryPolicy(p *commonpb.RetryPolicy) (*commonpb.RetryPolicy, error) {
	if p == nil {
		return nil, nil
	}
	out := shallowCopy(p)
	// A policy of one attempt never waits: its intervals do not matter and are not checked.
	once := p.GetMaximumAttempts() == 1
	initial, err := duration("invalid InitialInterval set on retry policy", p.GetInitialInterval())
	if err != nil && !once {
		return nil, err
	}
	if initial == 0 {
		initial = retryInitialIntervalDefault
		out.InitialInterval = durationpb.New(initial)
	}
	if p.GetBackoffCoefficient() == 0 {
		out.BackoffCoefficient = retryCoefficientDefault
	}
	maximum, err := duration("invalid MaximumInterval set on retry policy", p.GetMaximumInterval())
	if err != nil && !once {
		return nil, err
	}
	if maximum == 0 {
		maximum = retryMaximumInterval(initial)
		out.MaximumInterval = durationpb.New(maximum)
	}
	if once {
		return out, nil
	}
	// Not "less than 1": a coefficient that is not a number must not pass.
	if !(out.GetBackoffCoefficient() >= 1) {
		return nil, serviceerror.NewInvalidArgument("BackoffCoefficient cannot be less than 1 on retry policy.")
	}
	if maximum < initial {
		return nil, serviceerror.NewInvalidArgument("MaximumInterval cannot be less than InitialInterval on retry policy.")
	}
	if p.GetMaximumAttempts() < 0 {
		return nil, serviceerror.NewInvalidArgument("MaximumAttempts cannot be negative on retry policy.")
	}
	return out, checkNonRetryableTypes(p.GetNonRetryableErrorTypes())
}

func retryMaximumInterval(initial time.Duration) time.Duration {
	if initial > durationMax/retryMaximumIntervalFactor {
		return durationMax
	}
	return initial * retryMaximumIntervalFactor
}

func checkNonRetryableTypes(names []string) error {
	const timeoutPrefix = "TemporalTimeout:"
	for _, name := range names {
		if err := checkNameLength("non-retryable error type", name, idLengthMax); err != nil {
			return err
		}
		timeout, isTimeout := strings.CutPrefix(name, timeoutPrefix)
		if !isTimeout {
			continue
		}
		if _, err := enumspb.TimeoutTypeFromString(timeout); err != nil {
			return serviceerror.NewInvalidArgumentf("Invalid timeout type value: %s.", timeout)
		}
	}
	return nil
}

func checkVersioningOverride(o *workflowpb.VersioningOverride) error {
	if o == nil {
		return nil
	}
	if pinned := o.GetPinned(); pinned != nil {
		if pinned.GetVersion() == nil {
			return serviceerror.NewInvalidArgument("must provide version if override is pinned.")
		}
		if pinned.GetBehavior() == workflowpb.VersioningOverride_PINNED_OVERRIDE_BEHAVIOR_UNSPECIFIED {
			return serviceerror.NewInvalidArgument("must specify pinned override behavior if override is pinned.")
		}
		return firstError(
			requiredID("Deployment name of the versioning override", pinned.GetVersion().GetDeploymentName()),
			required("Build ID of the versioning override", pinned.GetVersion().GetBuildId()),
			checkBuildID(pinned.GetVersion().GetBuildId()),
		)
	}
	if o.GetOverride() != nil {
		return nil
	}
	return checkLegacyOverride(o)
}

// checkLegacyOverride checks the deprecated form of an override: a behavior beside a "deployment.build" string.
func checkLegacyOverride(o *workflowpb.VersioningOverride) error {
	// The deprecated fields are what is checked here.
	behavior, version, deployment := o.GetBehavior(), o.GetPinnedVersion(), o.GetDeployment()
	switch behavior {
	case enumspb.VERSIONING_BEHAVIOR_PINNED:
		if version == "" && deployment == nil {
			return serviceerror.NewInvalidArgument("must provide version if override is pinned.")
		}
		name, build, ok := strings.Cut(version, ".")
		if version != "" && (!ok || name == "" || build == "") {
			return serviceerror.NewInvalidArgumentf(
				"invalid version string %q, expected format is \"<deployment_name>.<build_id>\"", version)
		}
		return nil
	case enumspb.VERSIONING_BEHAVIOR_AUTO_UPGRADE:
		if version != "" || deployment != nil {
			return serviceerror.NewInvalidArgument("Only a pinned versioning override can name a version.")
		}
		return nil
	default:
		return serviceerror.NewInvalidArgument("A versioning override must set its behavior: pinned or auto-upgrade.")
	}
}

// checkCallbacks checks the callbacks that are to be called when a workflow completes.
func checkCallbacks(callbacks []*commonpb.Callback) error {
	if len(callbacks) > callbacksMax {
		return serviceerror.NewFailedPreconditionf("Too many completion callbacks: %d, the limit is %d.", len(callbacks), callbacksMax)
	}
	for _, callback := range callbacks {
		nexus := callback.GetNexus()
		if nexus == nil {
			return serviceerror.NewInvalidArgument("A completion callback must be a Nexus callback.")
		}
		if len(nexus.GetUrl()) > callbackURLLengthMax {
			return serviceerror.NewInvalidArgumentf("invalid url: url length longer than max length allowed of %d", callbackURLLengthMax)
		}
		u, err := url.Parse(nexus.GetUrl())
		if err != nil {
			return serviceerror.NewInvalidArgumentf("invalid url: %v", err)
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			return serviceerror.NewInvalidArgumentf("invalid url: unknown scheme: %s", nexus.GetUrl())
		}
		if u.Host == "" {
			return serviceerror.NewInvalidArgumentf("invalid url: missing host: %s", nexus.GetUrl())
		}
		size := 0
		for name, value := range nexus.GetHeader() {
			size += len(name) + len(value)
		}
		if size > callbackHeaderSizeMax {
			return serviceerror.NewInvalidArgumentf("Headers of a completion callback are too large: %d bytes, the limit is %d.", size, callbackHeaderSizeMax)
		}
	}
	return nil
}

func checkOnConflictOptions(o *workflowpb.OnConflictOptions) error {
	if o.GetAttachCompletionCallbacks() && !o.GetAttachRequestId() {
		return serviceerror.NewInvalidArgument("attaching request ID is required for attaching completion callbacks")
	}
	return nil
}
