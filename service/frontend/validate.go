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

func required(field, value string) error {
	if value == "" {
		return serviceerror.NewInvalidArgumentf("%s is not set on the request.", field)
	}
	return nil
}

func checkLength(field, value string, maxBytes int) error {
	if len(value) > maxBytes {
		return serviceerror.NewInvalidArgumentf("%s is too long: %d bytes, the limit is %d.", field, len(value), maxBytes)
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

// checkRunID accepts an empty run id: the current run.
func checkRunID(runID string) error {
	if runID == "" {
		return nil
	}
	// uuid.Validate also accepts forms with braces, with a prefix or without hyphens, which name no run.
	const canonicalLength = 36
	if len(runID) != canonicalLength || uuid.Validate(runID) != nil {
		return serviceerror.NewInvalidArgument("RunId is not a valid UUID.")
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

func checkExecution(execution *commonpb.WorkflowExecution) error {
	if execution == nil {
		return serviceerror.NewInvalidArgument("Execution is not set on the request.")
	}
	return checkWorkflow(execution.GetWorkflowId(), execution.GetRunId())
}

func checkSize(field string, m proto.Message, maxBytes int) error {
	if size := proto.Size(m); size > maxBytes {
		return serviceerror.NewInvalidArgumentf("%s is too large: %d bytes, the limit is %d.", field, size, maxBytes)
	}
	return nil
}

func oversized(m proto.Message) bool { return proto.Size(m) > payloadSizeMax }

// duration returns the value of an optional duration field, cut to durationMax.
func duration(field string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, serviceerror.NewInvalidArgumentf("%s is not a valid duration: %v.", field, err)
	}
	if d.GetSeconds() < 0 || d.GetNanos() < 0 {
		return 0, serviceerror.NewInvalidArgumentf("%s is negative.", field)
	}
	return min(d.AsDuration(), durationMax), nil
}

func checkPriority(p *commonpb.Priority) error {
	if p.GetPriorityKey() < 0 {
		return serviceerror.NewInvalidArgument("Priority key is negative.")
	}
	return checkLength("Fairness key", p.GetFairnessKey(), fairnessKeyLengthMax)
}

func checkLinks(links []*commonpb.Link) error {
	if len(links) > linksMax {
		return serviceerror.NewInvalidArgumentf("Too many links: %d, the limit is %d per request.", len(links), linksMax)
	}
	for _, link := range links {
		if err := checkSize("Link", link, linkSizeMax); err != nil {
			return err
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
		return "A link is empty or of an unknown kind."
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
	return checkLength("Build ID", buildID, buildIDLengthMax)
}

// workerVersion is what a worker's version stamp and its version capabilities have in common.
type workerVersion interface {
	GetBuildId() string
	GetUseVersioning() bool
}

func checkWorkerVersion(v workerVersion) error {
	if v.GetUseVersioning() && v.GetBuildId() == "" {
		return serviceerror.NewInvalidArgument("Build ID must be set when a worker uses versioning.")
	}
	return checkBuildID(v.GetBuildId())
}

func checkDeploymentOptions(o *deploymentpb.WorkerDeploymentOptions) error {
	if o.GetWorkerVersioningMode() == enumspb.WORKER_VERSIONING_MODE_VERSIONED &&
		(o.GetDeploymentName() == "" || o.GetBuildId() == "") {
		return serviceerror.NewInvalidArgument("Deployment name and build ID must both be set when a worker uses versioning.")
	}
	if strings.Contains(o.GetDeploymentName(), ".") {
		return serviceerror.NewInvalidArgument("Worker deployment name cannot contain '.'.")
	}
	if err := checkLength("Worker deployment name", o.GetDeploymentName(), idLengthMax); err != nil {
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
