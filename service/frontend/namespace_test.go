package frontend_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	replicationpb "go.temporal.io/api/replication/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/service/frontend"
)

// namespaceStore keeps namespaces in memory.
type namespaceStore struct {
	mu      sync.Mutex
	records []persistence.NamespaceRecord // by id
}

func (s *namespaceStore) find(id, name string) int {
	return slices.IndexFunc(s.records, func(r persistence.NamespaceRecord) bool { return r.ID == id || id == "" && r.Name == name })
}

func (s *namespaceStore) CreateNamespace(_ context.Context, r *persistence.NamespaceRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(r.ID, "") >= 0 || s.find("", r.Name) >= 0 {
		return persistence.ErrConflict
	}
	created := *r
	created.Version = 1
	s.records = append(s.records, created)
	slices.SortFunc(s.records, func(a, b persistence.NamespaceRecord) int { return strings.Compare(a.ID, b.ID) })
	return nil
}

func (s *namespaceStore) GetNamespace(_ context.Context, id, name string) (*persistence.NamespaceRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(id, name)
	if i < 0 {
		return nil, persistence.ErrNotFound
	}
	r := s.records[i]
	return &r, nil
}

func (s *namespaceStore) UpdateNamespace(_ context.Context, r *persistence.NamespaceRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(r.ID, "")
	if i < 0 || s.records[i].Version != r.Version {
		return persistence.ErrConflict
	}
	s.records[i] = *r
	s.records[i].Version++
	return nil
}

func (s *namespaceStore) ListNamespaces(_ context.Context, afterID string, limit int) ([]*persistence.NamespaceRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []*persistence.NamespaceRecord
	for _, r := range s.records {
		if r.ID > afterID && len(page) < limit {
			page = append(page, &r)
		}
	}
	return page, nil
}

func newNamespaces() (*frontend.Namespaces, *namespace.Registry) {
	registry := namespace.New(&namespaceStore{})
	return frontend.NewNamespaces(registry, frontend.BuildCapabilities()), registry
}

func requireCode(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, serviceerror.ToStatus(err).Code(), err)
	require.Contains(t, err.Error(), message)
}

func register(name string) *workflowservice.RegisterNamespaceRequest {
	return &workflowservice.RegisterNamespaceRequest{Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)}
}

func TestRegisterNamespace(t *testing.T) {
	ctx := context.Background()
	s, registry := newNamespaces()
	type request = workflowservice.RegisterNamespaceRequest
	for name, change := range map[string]func(*request){
		"ok":              func(*request) {},
		"with/slash":      func(*request) {},
		"UPPER":           func(*request) {},
		"1 hour":          func(r *request) { r.WorkflowExecutionRetentionPeriod = durationpb.New(time.Hour) },
		"1000 years":      func(r *request) { r.WorkflowExecutionRetentionPeriod = &durationpb.Duration{Seconds: 31536000000} },
		"data":            func(r *request) { r.Data = map[string]string{strings.Repeat("x", 1001): "v"} },
		"archival":        func(r *request) { r.HistoryArchivalState = enumspb.ARCHIVAL_STATE_ENABLED },
		"our own cluster": func(r *request) { r.ActiveClusterName = frontend.ClusterName },
	} {
		r := register(name)
		change(r)
		_, err := s.RegisterNamespace(ctx, r)
		require.NoError(t, err, name)
		n, err := registry.ByName(ctx, name)
		require.NoError(t, err)
		require.Positive(t, n.Retention())
		require.LessOrEqual(t, n.Retention(), 100*365*24*time.Hour)
		require.Equal(t, enumspb.ARCHIVAL_STATE_DISABLED, n.Record().GetConfig().GetHistoryArchivalState())
	}
	_, err := s.RegisterNamespace(ctx, register("ok"))
	var exists *serviceerror.NamespaceAlreadyExists
	require.ErrorAs(t, err, &exists)
	for _, test := range []struct {
		message string
		change  func(*request)
	}{
		{"Namespace not set on request.", func(r *request) { r.Namespace = "" }},
		{"Namespace length exceeds limit.", func(r *request) { r.Namespace = strings.Repeat("x", 1001) }},
		{"U+0000", func(r *request) { r.Namespace = "a\x00" }},
		{"A valid retention period is not set on request", func(r *request) { r.WorkflowExecutionRetentionPeriod = nil }},
		{"A valid retention period is not set on request", func(r *request) { r.WorkflowExecutionRetentionPeriod = &durationpb.Duration{} }},
		{"A valid retention period is not set on request", func(r *request) { r.WorkflowExecutionRetentionPeriod = durationpb.New(-time.Hour) }},
		{"A valid retention period is not set on request", func(r *request) { r.WorkflowExecutionRetentionPeriod = durationpb.New(59 * time.Minute) }},
		{"A valid retention period is not set on request", func(r *request) {
			r.WorkflowExecutionRetentionPeriod = &durationpb.Duration{Seconds: 7200, Nanos: -1}
		}},
		{"Cannot register global namespace when not enabled", func(r *request) { r.IsGlobalNamespace = true }},
		{"Invalid cluster name: nowhere", func(r *request) {
			r.Clusters = []*replicationpb.ClusterReplicationConfig{{ClusterName: "nowhere"}}
		}},
		{"Invalid cluster name: nowhere", func(r *request) { r.ActiveClusterName = "nowhere" }},
		{"Namespace size exceeds limit.", func(r *request) { r.Description = strings.Repeat("x", 65<<10) }},
	} {
		r := register("refused")
		test.change(r)
		_, err := s.RegisterNamespace(ctx, r)
		requireCode(t, err, codes.InvalidArgument, test.message)
	}
}

func TestDescribeNamespace(t *testing.T) {
	ctx := context.Background()
	s, registry := newNamespaces()
	_, err := s.RegisterNamespace(ctx, register("orders"))
	require.NoError(t, err)
	require.NoError(t, registry.EnsureSystem(ctx))
	byName, err := s.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "orders"})
	require.NoError(t, err)
	info := byName.GetNamespaceInfo()
	require.Equal(t, "orders", info.GetName())
	require.Equal(t, enumspb.NAMESPACE_STATE_REGISTERED, info.GetState())
	require.Equal(t, int64(2<<20), info.GetLimits().GetBlobSizeLimitError())
	require.Equal(t, int64(2<<20), info.GetLimits().GetMemoSizeLimitError())
	require.True(t, info.GetCapabilities().GetSyncUpdate())
	require.False(t, info.GetCapabilities().GetStandaloneActivities())
	require.False(t, byName.GetIsGlobalNamespace())
	require.NotNil(t, byName.GetConfig().GetBadBinaries())
	require.Equal(t, 24*time.Hour, byName.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
	require.Equal(t, frontend.ClusterName, byName.GetReplicationConfig().GetActiveClusterName())

	byID, err := s.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Id: info.GetId()})
	require.NoError(t, err)
	require.Equal(t, "orders", byID.GetNamespaceInfo().GetName())
	system, err := s.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "temporal-system"})
	require.NoError(t, err)
	require.Equal(t, 168*time.Hour, system.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())

	_, err = s.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{})
	requireCode(t, err, codes.InvalidArgument, "Namespace not set on request.")
	_, err = s.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "orders", Id: info.GetId()})
	requireCode(t, err, codes.InvalidArgument, "GetNamespace operation failed.  Both ID and Name specified in request.")
	for _, r := range []*workflowservice.DescribeNamespaceRequest{{Namespace: "ORDERS"}, {Namespace: info.GetId()}, {Id: uuid.NewString()}, {Id: "orders"}} {
		_, err = s.DescribeNamespace(ctx, r)
		var missing *serviceerror.NamespaceNotFound
		require.ErrorAs(t, err, &missing)
		require.Equal(t, r.GetNamespace()+r.GetId(), missing.Namespace)
	}
}

func TestListNamespaces(t *testing.T) {
	ctx := context.Background()
	s, _ := newNamespaces()
	names := []string{"a", "b", "c"}
	for _, name := range names {
		_, err := s.RegisterNamespace(ctx, register(name))
		require.NoError(t, err)
	}
	for _, size := range []int32{-1, 0, 1, 2, 3, 5000} {
		var listed []string
		r := &workflowservice.ListNamespacesRequest{PageSize: size}
		for {
			page, err := s.ListNamespaces(ctx, r)
			require.NoError(t, err)
			require.NotEmpty(t, page.GetNamespaces())
			for _, n := range page.GetNamespaces() {
				listed = append(listed, n.GetNamespaceInfo().GetName())
			}
			if len(page.GetNextPageToken()) == 0 {
				break
			}
			require.Len(t, page.GetNamespaces(), int(size))
			r.NextPageToken = page.GetNextPageToken()
		}
		require.ElementsMatch(t, names, listed)
	}
	_, err := s.ListNamespaces(ctx, &workflowservice.ListNamespacesRequest{NextPageToken: []byte("garbage")})
	requireCode(t, err, codes.InvalidArgument, "Invalid NextPageToken.")
}

func TestUpdateNamespace(t *testing.T) {
	ctx := context.Background()
	s, registry := newNamespaces()
	r := register("orders")
	r.Description, r.Data = "first", map[string]string{"a": "1"}
	_, err := s.RegisterNamespace(ctx, r)
	require.NoError(t, err)
	type request = workflowservice.UpdateNamespaceRequest
	update := func(change func(*request)) (*workflowservice.UpdateNamespaceResponse, error) {
		r := &request{Namespace: "orders"}
		change(r)
		return s.UpdateNamespace(ctx, r)
	}
	got, err := update(func(*request) {})
	require.NoError(t, err)
	require.Equal(t, "first", got.GetNamespaceInfo().GetDescription())
	got, err = update(func(r *request) {
		r.UpdateInfo = &namespacepb.UpdateNamespaceInfo{Description: "second", OwnerEmail: "o", Data: map[string]string{"b": "2"}}
		r.Config = &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(48 * time.Hour),
			CustomSearchAttributeAliases: map[string]string{"Nothing01": "EcAlias"}, HistoryArchivalState: enumspb.ARCHIVAL_STATE_ENABLED}
	})
	require.NoError(t, err)
	require.Equal(t, "second", got.GetNamespaceInfo().GetDescription())
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, got.GetNamespaceInfo().GetData())
	require.Equal(t, 48*time.Hour, got.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
	n, err := registry.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, 48*time.Hour, n.Retention())

	for _, test := range []struct {
		message string
		change  func(*request)
	}{
		{"Namespace not set on request.", func(r *request) { r.Namespace = "" }},
		{"A valid retention period", func(r *request) {
			r.Config = &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: &durationpb.Duration{}}
		}},
		{"A valid retention period", func(r *request) {
			r.Config = &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(10 * time.Minute)}
		}},
		{"Invalid cluster name: nowhere", func(r *request) {
			r.ReplicationConfig = &replicationpb.NamespaceReplicationConfig{ActiveClusterName: "nowhere"}
		}},
		{"Invalid namespace state update.", func(r *request) { r.UpdateInfo = &namespacepb.UpdateNamespaceInfo{State: 99} }},
		{"Invalid namespace state update.", func(r *request) {
			r.UpdateInfo = &namespacepb.UpdateNamespaceInfo{State: enumspb.NAMESPACE_STATE_DELETED}
		}},
		{"Bad binary checksum none doesn't exists.", func(r *request) { r.DeleteBadBinary = "none" }},
		{"Bad binaries are not supported", func(r *request) {
			r.Config = &namespacepb.NamespaceConfig{BadBinaries: &namespacepb.BadBinaries{Binaries: map[string]*namespacepb.BadBinaryInfo{"x": {}}}}
		}},
		{"Cannot promote", func(r *request) { r.PromoteNamespace = true }},
		{"Namespace size exceeds limit.", func(r *request) {
			r.UpdateInfo = &namespacepb.UpdateNamespaceInfo{Description: strings.Repeat("x", 65<<10)}
		}},
	} {
		_, err := update(test.change)
		requireCode(t, err, codes.InvalidArgument, test.message)
	}
	_, err = update(func(r *request) { r.Namespace = "no-such-thing" })
	requireCode(t, err, codes.NotFound, "no-such-thing")
}

func TestNamespaceStates(t *testing.T) {
	ctx := context.Background()
	s, registry := newNamespaces()
	_, err := s.RegisterNamespace(ctx, register("orders"))
	require.NoError(t, err)
	require.NoError(t, registry.EnsureSystem(ctx))
	for range 2 {
		_, err = s.DeprecateNamespace(ctx, &workflowservice.DeprecateNamespaceRequest{Namespace: "orders"})
		require.NoError(t, err)
	}
	n, err := registry.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, enumspb.NAMESPACE_STATE_DEPRECATED, n.State())
	got, err := s.UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{Namespace: "orders",
		UpdateInfo: &namespacepb.UpdateNamespaceInfo{State: enumspb.NAMESPACE_STATE_REGISTERED}})
	require.NoError(t, err)
	require.Equal(t, enumspb.NAMESPACE_STATE_REGISTERED, got.GetNamespaceInfo().GetState())

	_, err = s.DeprecateNamespace(ctx, &workflowservice.DeprecateNamespaceRequest{})
	requireCode(t, err, codes.InvalidArgument, "Namespace not set on request.")
	_, err = s.DeprecateNamespace(ctx, &workflowservice.DeprecateNamespaceRequest{Namespace: "no-such-thing"})
	requireCode(t, err, codes.NotFound, "no-such-thing")
	_, err = s.DeprecateNamespace(ctx, &workflowservice.DeprecateNamespaceRequest{Namespace: namespace.SystemName})
	requireCode(t, err, codes.FailedPrecondition, "system namespace")
}

func TestSearchAttributeAdministration(t *testing.T) {
	ctx := context.Background()
	s, registry := newNamespaces()
	_, err := s.RegisterNamespace(ctx, register("orders"))
	require.NoError(t, err)
	o := frontend.NewOperator(registry)
	type types = map[string]enumspb.IndexedValueType
	add := func(attributes types) error {
		_, err := o.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: "orders", SearchAttributes: attributes})
		return err
	}
	list := func() *operatorservice.ListSearchAttributesResponse {
		got, err := o.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: "orders"})
		require.NoError(t, err)
		return got
	}
	require.Empty(t, list().GetCustomAttributes())
	require.Len(t, list().GetSystemAttributes(), 33)
	require.NoError(t, add(types{"Color": enumspb.INDEXED_VALUE_TYPE_KEYWORD, "Size": enumspb.INDEXED_VALUE_TYPE_INT, "Odd 'Name": enumspb.INDEXED_VALUE_TYPE_BOOL}))
	require.NoError(t, add(types{"Color": enumspb.INDEXED_VALUE_TYPE_KEYWORD, strings.Repeat("x", 1001): enumspb.INDEXED_VALUE_TYPE_TEXT}))
	require.Len(t, list().GetCustomAttributes(), 4)

	requireCode(t, add(nil), codes.InvalidArgument, "SearchAttributes are not set on request.")
	requireCode(t, add(types{"WorkflowType": enumspb.INDEXED_VALUE_TYPE_KEYWORD}), codes.InvalidArgument, "Search attribute WorkflowType is reserved by system.")
	requireCode(t, add(types{"BuildIds": enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST}), codes.InvalidArgument, "reserved by system")
	requireCode(t, add(types{"TemporalNew": enumspb.INDEXED_VALUE_TYPE_KEYWORD}), codes.InvalidArgument, "reserved by system")
	requireCode(t, add(types{"New": enumspb.INDEXED_VALUE_TYPE_UNSPECIFIED}), codes.InvalidArgument, "Unknown search attribute type")
	requireCode(t, add(types{"New": 99}), codes.InvalidArgument, "Unknown search attribute type: 99.")
	requireCode(t, add(types{"": enumspb.INDEXED_VALUE_TYPE_BOOL}), codes.InvalidArgument, "cannot be the name")
	requireCode(t, add(types{strings.Repeat("x", 3000): enumspb.INDEXED_VALUE_TYPE_BOOL}), codes.InvalidArgument, "Search attribute name length exceeds limit.")
	requireCode(t, add(types{"Color": enumspb.INDEXED_VALUE_TYPE_INT}), codes.AlreadyExists, "already exists with the type Keyword")
	many := types{}
	for i := range 500 {
		many["A"+strings.Repeat("x", i)] = enumspb.INDEXED_VALUE_TYPE_BOOL
	}
	requireCode(t, add(many), codes.InvalidArgument, "cannot have more than 500")
	require.Len(t, list().GetCustomAttributes(), 4, "all or nothing")

	remove := func(names ...string) error {
		_, err := o.RemoveSearchAttributes(ctx, &operatorservice.RemoveSearchAttributesRequest{Namespace: "orders", SearchAttributes: names})
		return err
	}
	require.NoError(t, remove("Color", "Unknown"))
	require.Len(t, list().GetCustomAttributes(), 3)
	requireCode(t, remove(), codes.InvalidArgument, "SearchAttributes are not set on request.")
	requireCode(t, remove("BuildIds"), codes.InvalidArgument, "Unable to remove non-custom search attributes: BuildIds.")
	_, err = o.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: "no-such-thing"})
	requireCode(t, err, codes.NotFound, "no-such-thing")
	_, err = o.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{})
	requireCode(t, err, codes.InvalidArgument, "Namespace")
}

func TestCluster(t *testing.T) {
	ctx := context.Background()
	c := frontend.NewCluster("the-id", "sqlite", frontend.BuildCapabilities())
	system, err := c.GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	require.NoError(t, err)
	require.Equal(t, frontend.ServerVersion, system.GetServerVersion())
	require.True(t, system.GetCapabilities().GetInternalErrorDifferentiation())
	require.True(t, system.GetCapabilities().GetCountGroupByExecutionStatus())
	require.False(t, system.GetCapabilities().GetNexus())
	info, err := c.GetClusterInfo(ctx, &workflowservice.GetClusterInfoRequest{})
	require.NoError(t, err)
	require.Equal(t, "1.32.0", info.GetServerVersion())
	require.Equal(t, "the-id", info.GetClusterId())
	require.Equal(t, "active", info.GetClusterName())
	require.Equal(t, int32(4096), info.GetHistoryShardCount())
	require.Equal(t, "sqlite", info.GetVisibilityStore())
	require.Equal(t, "<2.0.0", info.GetSupportedClients()["temporal-go"])
	require.Equal(t, "<3.0.0", info.GetSupportedClients()["temporal-ui"])
}
