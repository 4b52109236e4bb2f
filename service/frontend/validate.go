package frontend

import (
	"strings"
	"time"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

func errNotSet(field string) error {
	return serviceerror.NewInvalidArgumentf("%s is not set on request.", field)
}

func required(field, value string) error {
	if value == "" {
		return errNotSet(field)
	}
	return nil
}

// checkLength checks a field of a request.
func checkLength(field, value string, maxBytes int) error {
	if len(value) > maxBytes {
		return serviceerror.NewInvalidArgumentf("%s length exceeds limit.", field)
	}
	return nil
}

// checkNameLength checks a name of something that lives beyond the request. Recorded texts about those have no period.
func checkNameLength(what, value string, maxBytes int) error {
	if len(value) > maxBytes {
		return serviceerror.NewInvalidArgumentf("%s length exceeds limit", what)
	}
	return nil
}

// requiredID checks an id that names something new.
func requiredID(field, value string) error {
	if err := required(field, value); err != nil {
		return err
	}
	return checkLength(field, value, idLengthMax)
}

// validRunID accepts an empty run id: the current run.
func validRunID(runID string) bool {
	// uuid.Validate also accepts forms with braces, with a prefix or without hyphens, which name no run.
	const canonicalLength = 36
	return runID == "" || (len(runID) == canonicalLength && uuid.Validate(runID) == nil)
}

func checkRunID(runID string) error {
	if !validRunID(runID) {
		return serviceerror.NewInvalidArgument("RunId is not valid UUID.")
	}
	return nil
}

// checkWorkflow checks the address of an existing workflow. An over-long id is not refused: it is simply not found.
func checkWorkflow(workflowID, runID string) error {
	if err := required("WorkflowId", workflowID); err != nil {
		return err
	}
	return checkRunID(runID)
}

// checkExecution checks the address of an existing workflow where it is a message of its own. The recorded text differs from
// that of checkWorkflow.
func checkExecution(execution *commonpb.WorkflowExecution) error {
	if execution == nil {
		return errNotSet("Execution")
	}
	if err := required("WorkflowId", execution.GetWorkflowId()); err != nil {
		return err
	}
	if !validRunID(execution.GetRunId()) {
		return serviceerror.NewInvalidArgument("Invalid RunId.")
	}
	return nil
}

// errWorkflowMissing is the recorded text for requests in which nothing but the workflow id says what they are about.
func errWorkflowMissing() error {
	return serviceerror.NewInvalidArgument("Can't load workflow execution.  WorkflowId not set.")
}

// checkPayload checks the size of what users pass through the server.
func checkPayload(m proto.Message) error { return checkSize("Blob data", m, payloadSizeMax) }

func checkSize(field string, m proto.Message, maxBytes int) error {
	if proto.Size(m) > maxBytes {
		return serviceerror.NewInvalidArgumentf("%s size exceeds limit.", field)
	}
	return nil
}

func oversized(m proto.Message) bool { return proto.Size(m) > payloadSizeMax }

// duration returns the value of an optional duration field, cut to durationMax. The text of its error is fault, then the cause.
func duration(fault string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, serviceerror.NewInvalidArgumentf("%s: %v", fault, err)
	}
	if d.GetSeconds() < 0 || d.GetNanos() < 0 {
		return 0, serviceerror.NewInvalidArgumentf("%s: negative duration", fault)
	}
	return min(d.AsDuration(), durationMax), nil
}

func checkPriority(p *commonpb.Priority) error {
	if p.GetPriorityKey() < 0 {
		return serviceerror.NewInvalidArgument("priority key can't be negative")
	}
	return checkNameLength("fairness key", p.GetFairnessKey(), fairnessKeyLengthMax)
}

func checkLinks(links []*commonpb.Link) error {
	if len(links) > linksMax {
		return serviceerror.NewInvalidArgumentf("cannot attach more than %d links per request, got %d", linksMax, len(links))
	}
	for _, link := range links {
		if size := proto.Size(link); size > linkSizeMax {
			return serviceerror.NewInvalidArgumentf("link exceeds allowed size of %d, got %d", linkSizeMax, size)
		}
		if text := linkFault(link); text != "" {
			return serviceerror.NewInvalidArgument(text)
		}
	}
	return nil
}

// linkFault says what a link lacks of what it needs to lead anywhere; "": nothing.
func linkFault(link *commonpb.Link) string {
	switch variant := link.GetVariant().(type) {
	case nil:
		return "unsupported link variant"
	case *commonpb.Link_WorkflowEvent_:
		event := variant.WorkflowEvent
		if event.GetNamespace() == "" || event.GetWorkflowId() == "" || event.GetRunId() == "" {
			return "A link to a workflow event must have a namespace, a workflow id and a run id."
		}
		if ref := event.GetEventRef(); ref.GetEventId() != 0 && ref.GetEventType() == enumspb.EVENT_TYPE_UNSPECIFIED {
			return "A link to a workflow event that has an event id must have the event's type."
		}
	case *commonpb.Link_BatchJob_:
		if variant.BatchJob.GetJobId() == "" {
			return "A link to a batch job must have a job id."
		}
	}
	return ""
}

func checkIdentity(identity string) error {
	return checkLength("Identity", identity, idLengthMax)
}

func checkBuildID(buildID string) error {
	if len(buildID) > buildIDLengthMax {
		return serviceerror.NewInvalidArgument("Build ID exceeds configured limit.workerBuildIdSize, use a shorter build ID.")
	}
	return nil
}

// workerVersion is what a worker's version stamp and its version capabilities have in common.
type workerVersion interface {
	GetBuildId() string
	GetUseVersioning() bool
}

func checkWorkerVersion(v workerVersion) error {
	if v.GetUseVersioning() && v.GetBuildId() == "" {
		return serviceerror.NewInvalidArgument("WorkerVersionStamp must be present if UseVersioning is true.")
	}
	return checkBuildID(v.GetBuildId())
}

func checkDeploymentOptions(o *deploymentpb.WorkerDeploymentOptions) error {
	if o.GetWorkerVersioningMode() == enumspb.WORKER_VERSIONING_MODE_VERSIONED &&
		(o.GetDeploymentName() == "" || o.GetBuildId() == "") {
		return serviceerror.NewInvalidArgument("Both deployment name and build id must be set when versioning is enabled.")
	}
	if strings.Contains(o.GetDeploymentName(), ".") {
		return serviceerror.NewInvalidArgument("worker deployment name cannot contain '.'")
	}
	if err := checkNameLength("worker deployment name", o.GetDeploymentName(), idLengthMax); err != nil {
		return err
	}
	return checkBuildID(o.GetBuildId())
}

// firstError returns the first error, so that checks of independent fields read as a list.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// shallowCopy returns a copy of m that shares everything below its own fields: these, and only these, may be set in it.
func shallowCopy[M proto.Message](m M) M {
	src := m.ProtoReflect()
	dst := src.New()
	copyFields(dst, src)
	return dst.Interface().(M)
}

// copyFields sets the fields of an empty message to those of another. What is below them is shared.
func copyFields(dst, src protoreflect.Message) {
	for fd, v := range src.Range {
		dst.Set(fd, v)
	}
	dst.SetUnknown(src.GetUnknown())
}
