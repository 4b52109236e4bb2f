package frontend

import (
	"context"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
)

// The two generations of worker versioning before worker deployments are off in every namespace. Clients know that from
// PERMISSION_DENIED: UNIMPLEMENTED would mean a server from before them.

func errVersionSetsOff() error {
	return serviceerror.NewPermissionDenied("Version sets (worker versioning v0.1) are disabled on this namespace: use worker deployments.", "")
}

func errVersioningRulesOff() error {
	return serviceerror.NewPermissionDenied("Versioning rules (worker versioning v0.2) are disabled on this namespace: use worker deployments.", "")
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
