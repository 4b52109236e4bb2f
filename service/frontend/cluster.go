package frontend

import (
	"context"
	"strconv"

	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/perdure/perdure/persistence"
)

const (
	// ServerVersion is the version that clients are told. Clients switch features by it, so it is the version of the
	// reference whose contract this server keeps, not this program's own.
	ServerVersion = "1.32.0"
	// ClusterName is the name of the only cluster there is.
	ClusterName = "active"
)

// Capabilities is what this build can do, as clients are told: they turn features on by it, so a bit is set only if what it
// stands for works.
type Capabilities struct {
	System    *workflowservice.GetSystemInfoResponse_Capabilities
	Namespace *namespacepb.NamespaceInfo_Capabilities
	Schedules bool
}

// BuildCapabilities returns the capabilities of this build.
func BuildCapabilities() Capabilities {
	return Capabilities{
		System: &workflowservice.GetSystemInfoResponse_Capabilities{
			SignalAndQueryHeader:            true,
			InternalErrorDifferentiation:    true,
			ActivityFailureIncludeHeartbeat: true,
			EncodedFailureAttributes:        true,
			BuildIdBasedVersioning:          true,
			UpsertMemo:                      true,
			EagerWorkflowStart:              true,
			SdkMetadata:                     true,
			CountGroupByExecutionStatus:     true,
		},
		Namespace: &namespacepb.NamespaceInfo_Capabilities{
			EagerWorkflowStart:              true,
			SyncUpdate:                      true,
			AsyncUpdate:                     true,
			ReportedProblemsSearchAttribute: true,
			WorkflowPause:                   true,
			PollerAutoscaling:               true,
		},
	}
}

// Cluster is the RPCs about the server as a whole.
type Cluster struct {
	clusterID    string
	storeName    string
	capabilities Capabilities
}

// NewCluster makes the handlers. The cluster's id is the same in all its processes; storeName is persistence.Store's Name.
func NewCluster(clusterID, storeName string, capabilities Capabilities) *Cluster {
	return &Cluster{clusterID: clusterID, storeName: storeName, capabilities: capabilities}
}

// GetSystemInfo is the first call of every SDK's connection.
func (c *Cluster) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{ServerVersion: ServerVersion, Capabilities: c.capabilities.System}, nil
}

// GetClusterInfo describes the cluster to people and to the Web UI.
func (c *Cluster) GetClusterInfo(context.Context, *workflowservice.GetClusterInfoRequest) (*workflowservice.GetClusterInfoResponse, error) {
	clients := make(map[string]string, len(clientMajorsEnd))
	for name, end := range clientMajorsEnd {
		clients[name] = "<" + strconv.FormatUint(end, 10) + ".0.0"
	}
	return &workflowservice.GetClusterInfoResponse{
		SupportedClients:  clients,
		ServerVersion:     ServerVersion,
		ClusterId:         c.clusterID,
		ClusterName:       ClusterName,
		HistoryShardCount: persistence.ShardCount,
		PersistenceStore:  c.storeName,
		VisibilityStore:   c.storeName,
	}, nil
}
