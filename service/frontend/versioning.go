package frontend

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
)

// The two generations of worker versioning before worker deployments are off in every namespace. Clients know that from
// PERMISSION_DENIED: UNIMPLEMENTED would mean a server from before them.

func errVersionSetsOff() error {
	return serviceerror.NewPermissionDenied("Worker versioning v0.1 (Version Set-based, deprecated) is disabled on this namespace.", "")
}

func errVersioningRulesOff() error {
	return serviceerror.NewPermissionDenied("Worker versioning v0.2 (Rules-based, deprecated) is disabled on this namespace.", "")
}

func errDeploymentsMissing() error {
	return serviceerror.NewUnimplemented("This server has no worker deployments: it cannot tell which tasks are for the worker's version. Run the worker unversioned.")
}

// checkUnversioned refuses the poll of a worker that wants nothing but the tasks of its own version. Tasks are not routed by version, so
// that it would be given those of others; a worker that is refused says so in its log and tries again.
func checkUnversioned(capabilities *commonpb.WorkerVersionCapabilities, options *deploymentpb.WorkerDeploymentOptions) error {
	// A worker of a deployment sets both, for older servers.
	if options.GetWorkerVersioningMode() == enumspb.WORKER_VERSIONING_MODE_VERSIONED {
		return errDeploymentsMissing()
	}
	if capabilities.GetUseVersioning() {
		return errVersioningRulesOff()
	}
	return nil
}

// UpdateWorkerBuildIdCompatibility implements WorkflowService: it is always refused.
func (h *Handler) UpdateWorkerBuildIdCompatibility(context.Context, *workflowservice.UpdateWorkerBuildIdCompatibilityRequest) (*workflowservice.UpdateWorkerBuildIdCompatibilityResponse, error) {
	return nil, errVersionSetsOff()
}

// GetWorkerBuildIdCompatibility implements WorkflowService: it is always refused.
func (h *Handler) GetWorkerBuildIdCompatibility(context.Context, *workflowservice.GetWorkerBuildIdCompatibilityRequest) (*workflowservice.GetWorkerBuildIdCompatibilityResponse, error) {
	return nil, errVersionSetsOff()
}

// UpdateWorkerVersioningRules implements WorkflowService: it is always refused.
func (h *Handler) UpdateWorkerVersioningRules(context.Context, *workflowservice.UpdateWorkerVersioningRulesRequest) (*workflowservice.UpdateWorkerVersioningRulesResponse, error) {
	return nil, errVersioningRulesOff()
}

// GetWorkerVersioningRules implements WorkflowService: it is always refused.
func (h *Handler) GetWorkerVersioningRules(context.Context, *workflowservice.GetWorkerVersioningRulesRequest) (*workflowservice.GetWorkerVersioningRulesResponse, error) {
	return nil, errVersioningRulesOff()
}

// GetWorkerTaskReachability implements WorkflowService: it is always refused.
func (h *Handler) GetWorkerTaskReachability(context.Context, *workflowservice.GetWorkerTaskReachabilityRequest) (*workflowservice.GetWorkerTaskReachabilityResponse, error) {
	return nil, errVersioningRulesOff()
}
