package matching

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

func TestModule(t *testing.T) {
	registry := prometheus.NewRegistry()
	var server matchingpb.MatchingServiceServer
	app := fxtest.New(t, Module, fx.Supply(Params{
		Store: newFakeStore(), History: constantHistory{}, Metrics: registry,
	}), fx.Populate(&server))
	app.RequireStart()
	_, err := server.DescribeTaskQueue(t.Context(), &matchingpb.DescribeTaskQueueRequest{Partition: workflowQueue})
	require.NoError(t, err)
	families, err := registry.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, families)
	app.RequireStop()
}
