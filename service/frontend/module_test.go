package frontend

import (
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	historypb "github.com/perdure/perdure/api/history/v1"
	matchingpb "github.com/perdure/perdure/api/matching/v1"
	"github.com/perdure/perdure/namespace"
	"github.com/perdure/perdure/persistence"
)

// namedStore is a store of which only the name is asked for.
type namedStore struct{ persistence.Store }

func (namedStore) Name() string { return "memory" }

func TestModule(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var local *LocalConn
	app := fxtest.New(t,
		Module,
		fx.Supply(Config{Listeners: []net.Listener{listener}, ClusterID: "c"}, zap.NewNop(),
			namespace.New(&memoryNamespaces{records: make(map[string]persistence.NamespaceRecord)})),
		fx.Provide(
			func() persistence.Store { return namedStore{} },
			func() historypb.HistoryServiceClient { return historypb.NewHistoryServiceClient(&fakeService{}) },
			func() matchingpb.MatchingServiceClient { return matchingpb.NewMatchingServiceClient(&fakeService{}) },
			func() prometheus.Registerer { return prometheus.NewRegistry() },
		),
		fx.Populate(&local),
	)
	app.RequireStart()

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	for _, c := range []grpc.ClientConnInterface{conn, local} {
		reply, err := workflowservice.NewWorkflowServiceClient(c).GetSystemInfo(t.Context(), &workflowservice.GetSystemInfoRequest{})
		require.NoError(t, err)
		require.Equal(t, ServerVersion, reply.GetServerVersion())
	}
	require.NoError(t, conn.Close())
	app.RequireStop()
}
