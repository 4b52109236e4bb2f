package frontend

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	replicationpb "go.temporal.io/api/replication/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/namespace"
)

const (
	// retentionMin leaves a person time to look at what has just closed.
	retentionMin = time.Hour
	// retentionMax is durationMax: for ever, as far as anybody can tell, and safe to add to a date.
	retentionMax = durationMax
	// namespaceBytesMax bounds a record, which every process caches: description, owner and data together.
	namespaceBytesMax = 64 << 10
	// namespacePageDefault is the size of a page of namespaces when the client does not say.
	namespacePageDefault = 100
)

// NamespaceRegistry is what the handlers of namespaces need of the registry, namespace.Registry.
type NamespaceRegistry interface {
	Registry
	// Create stores a new namespace, or answers NamespaceAlreadyExists.
	Create(ctx context.Context, record *statepb.Namespace) (*namespace.Namespace, error)
	// Update changes a namespace; change may be called more than once.
	Update(ctx context.Context, name string, change func(*statepb.Namespace) error) (*namespace.Namespace, error)
	// List returns namespaces by id, after an id.
	List(ctx context.Context, afterID string, limit int) ([]*namespace.Namespace, error)
}

// Namespaces is the RPCs about namespaces.
type Namespaces struct {
	registry     NamespaceRegistry
	capabilities Capabilities
}

// NewNamespaces makes the handlers.
func NewNamespaces(registry NamespaceRegistry, capabilities Capabilities) *Namespaces {
	return &Namespaces{registry: registry, capabilities: capabilities}
}

// RegisterNamespace creates a namespace, which can be used at once. There is no archive: the archival states are accepted and
// stay disabled.
func (s *Namespaces) RegisterNamespace(
	ctx context.Context, r *workflowservice.RegisterNamespaceRequest,
) (*workflowservice.RegisterNamespaceResponse, error) {
	if err := checkNamespaceName(r.GetNamespace()); err != nil {
		return nil, err
	}
	retention, err := retention(r.GetWorkflowExecutionRetentionPeriod())
	if err != nil {
		return nil, err
	}
	if r.GetIsGlobalNamespace() {
		return nil, serviceerror.NewInvalidArgument("Cannot register global namespace when not enabled")
	}
	if err := checkClusters(r.GetActiveClusterName(), r.GetClusters()); err != nil {
		return nil, err
	}
	record := namespace.NewRecord(r.GetNamespace(), retention)
	record.Info.Description = r.GetDescription()
	record.Info.OwnerEmail = r.GetOwnerEmail()
	record.Info.Data = maps.Clone(r.GetData())
	if err := checkSize("Namespace", record.Info, namespaceBytesMax); err != nil {
		return nil, err
	}
	if _, err := s.registry.Create(ctx, record); err != nil {
		return nil, err
	}
	return &workflowservice.RegisterNamespaceResponse{}, nil
}

// DescribeNamespace finds a namespace by name or by id. Workers call it when they start.
func (s *Namespaces) DescribeNamespace(
	ctx context.Context, r *workflowservice.DescribeNamespaceRequest,
) (*workflowservice.DescribeNamespaceResponse, error) {
	var n *namespace.Namespace
	var err error
	switch name, id := r.GetNamespace(), r.GetId(); {
	case name == "" && id == "":
		return nil, errNamespaceNotSet()
	case name != "" && id != "":
		return nil, serviceerror.NewInvalidArgument("GetNamespace operation failed.  Both ID and Name specified in request.")
	case name != "":
		n, err = s.registry.ByName(ctx, name)
	default:
		n, err = s.registry.ByID(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	return s.describe(n), nil
}

// ListNamespaces lists namespaces in pages. The token is the last id of the page before.
func (s *Namespaces) ListNamespaces(
	ctx context.Context, r *workflowservice.ListNamespacesRequest,
) (*workflowservice.ListNamespacesResponse, error) {
	limit := int(r.GetPageSize())
	if limit <= 0 {
		limit = namespacePageDefault
	}
	limit = min(limit, namespace.ListPageMax-1)
	after := string(r.GetNextPageToken())
	if after != "" && uuid.Validate(after) != nil {
		return nil, serviceerror.NewInvalidArgument("Invalid NextPageToken.")
	}
	// One more than the page tells whether there is a next one.
	namespaces, err := s.registry.List(ctx, after, limit+1)
	if err != nil {
		return nil, err
	}
	response := &workflowservice.ListNamespacesResponse{}
	if len(namespaces) > limit {
		namespaces = namespaces[:limit]
		response.NextPageToken = []byte(namespaces[limit-1].ID())
	}
	for _, n := range namespaces {
		response.Namespaces = append(response.Namespaces, s.describe(n))
	}
	return response, nil
}

func (s *Namespaces) describe(n *namespace.Namespace) *workflowservice.DescribeNamespaceResponse {
	record := n.Record()
	info := record.GetInfo()
	info.Capabilities = s.capabilities.Namespace
	info.SupportsSchedules = s.capabilities.Schedules
	info.Limits = &namespacepb.NamespaceInfo_Limits{BlobSizeLimitError: payloadSizeMax, MemoSizeLimitError: memoSizeMax}
	config := record.GetConfig()
	if config.GetBadBinaries() == nil {
		config.BadBinaries = &namespacepb.BadBinaries{}
	}
	return &workflowservice.DescribeNamespaceResponse{
		NamespaceInfo:     info,
		Config:            config,
		ReplicationConfig: onlyCluster(),
	}
}

// onlyCluster is the replication of a namespace of a single cluster.
func onlyCluster() *replicationpb.NamespaceReplicationConfig {
	return &replicationpb.NamespaceReplicationConfig{
		ActiveClusterName: ClusterName,
		Clusters:          []*replicationpb.ClusterReplicationConfig{{ClusterName: ClusterName}},
	}
}

func errNamespaceNotSet() error {
	return serviceerror.NewInvalidArgument("Namespace not set on request.")
}

func checkNamespaceName(name string) error {
	if name == "" {
		return errNamespaceNotSet()
	}
	if strings.ContainsRune(name, 0) {
		return serviceerror.NewInvalidArgument("A namespace's name cannot contain the character U+0000.")
	}
	return checkLength("Namespace", name, idLengthMax)
}

func retention(d *durationpb.Duration) (time.Duration, error) {
	if d.CheckValid() != nil || d.AsDuration() < retentionMin {
		return 0, serviceerror.NewInvalidArgument("A valid retention period is not set on request.")
	}
	return min(d.AsDuration(), retentionMax), nil
}

func checkClusters(active string, clusters []*replicationpb.ClusterReplicationConfig) error {
	names := []string{active}
	for _, c := range clusters {
		names = append(names, c.GetClusterName())
	}
	for _, name := range names {
		if name != "" && name != ClusterName {
			return serviceerror.NewInvalidArgumentf("Invalid cluster name: %s", name)
		}
	}
	return nil
}

// UpdateNamespace changes what is set in the request and leaves the rest alone.
func (s *Namespaces) UpdateNamespace(
	ctx context.Context, r *workflowservice.UpdateNamespaceRequest,
) (*workflowservice.UpdateNamespaceResponse, error) {
	if r.GetNamespace() == "" {
		return nil, errNamespaceNotSet()
	}
	n, err := s.registry.Update(ctx, r.GetNamespace(), func(record *statepb.Namespace) error {
		return updateNamespace(record, r)
	})
	if err != nil {
		return nil, err
	}
	d := s.describe(n)
	return &workflowservice.UpdateNamespaceResponse{
		NamespaceInfo:     d.GetNamespaceInfo(),
		Config:            d.GetConfig(),
		ReplicationConfig: d.GetReplicationConfig(),
	}, nil
}

func updateNamespace(record *statepb.Namespace, r *workflowservice.UpdateNamespaceRequest) error {
	if checksum := r.GetDeleteBadBinary(); checksum != "" {
		return serviceerror.NewInvalidArgumentf("Bad binary checksum %s doesn't exists.", checksum)
	}
	if len(r.GetConfig().GetBadBinaries().GetBinaries()) > 0 {
		return serviceerror.NewInvalidArgument("Bad binaries are not supported: reset the workflows of a bad build instead.")
	}
	if r.GetPromoteNamespace() {
		return serviceerror.NewInvalidArgument("Cannot promote to a global namespace when not enabled")
	}
	replication := r.GetReplicationConfig()
	if err := checkClusters(replication.GetActiveClusterName(), replication.GetClusters()); err != nil {
		return err
	}
	if d := r.GetConfig().GetWorkflowExecutionRetentionTtl(); d != nil {
		retention, err := retention(d)
		if err != nil {
			return err
		}
		record.Config.WorkflowExecutionRetentionTtl = durationpb.New(retention)
	}
	return updateInfo(record.GetInfo(), r.GetUpdateInfo())
}

func updateInfo(info *namespacepb.NamespaceInfo, update *namespacepb.UpdateNamespaceInfo) error {
	if d := update.GetDescription(); d != "" {
		info.Description = d
	}
	if email := update.GetOwnerEmail(); email != "" {
		info.OwnerEmail = email
	}
	if len(update.GetData()) > 0 && info.Data == nil {
		info.Data = make(map[string]string, len(update.GetData()))
	}
	maps.Copy(info.Data, update.GetData())
	if state := update.GetState(); state != enumspb.NAMESPACE_STATE_UNSPECIFIED && state != info.GetState() {
		if err := setState(info, state); err != nil {
			return err
		}
	}
	return checkSize("Namespace", info, namespaceBytesMax)
}

// setState allows what can be taken back; a namespace is deleted by its own RPC.
func setState(info *namespacepb.NamespaceInfo, state enumspb.NamespaceState) error {
	switch {
	case state != enumspb.NAMESPACE_STATE_REGISTERED && state != enumspb.NAMESPACE_STATE_DEPRECATED,
		info.GetState() == enumspb.NAMESPACE_STATE_DELETED:
		return serviceerror.NewInvalidArgument("Invalid namespace state update.")
	case info.GetId() == namespace.SystemID:
		return serviceerror.NewFailedPrecondition("The state of the system namespace cannot be changed.")
	}
	info.State = state
	return nil
}

// DeprecateNamespace makes a namespace refuse new workflows. What runs goes on.
func (s *Namespaces) DeprecateNamespace(
	ctx context.Context, r *workflowservice.DeprecateNamespaceRequest,
) (*workflowservice.DeprecateNamespaceResponse, error) {
	if r.GetNamespace() == "" {
		return nil, errNamespaceNotSet()
	}
	_, err := s.registry.Update(ctx, r.GetNamespace(), func(record *statepb.Namespace) error {
		return setState(record.GetInfo(), enumspb.NAMESPACE_STATE_DEPRECATED)
	})
	if err != nil {
		return nil, err
	}
	return &workflowservice.DeprecateNamespaceResponse{}, nil
}
