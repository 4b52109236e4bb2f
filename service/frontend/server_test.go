package frontend

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestHealth(t *testing.T) {
	e := newEnv(t)
	client := healthpb.NewHealthClient(e.conn)
	services := []string{"", "temporal.api.workflowservice.v1.WorkflowService", "temporal.api.operatorservice.v1.OperatorService"}
	check := func(want healthpb.HealthCheckResponse_ServingStatus) {
		for _, service := range services {
			reply, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			require.NoError(t, err)
			require.Equal(t, want, reply.GetStatus(), service)
		}
	}
	check(healthpb.HealthCheckResponse_SERVING)
	e.server.SetServing(false)
	check(healthpb.HealthCheckResponse_NOT_SERVING)
	e.server.SetServing(true)
	check(healthpb.HealthCheckResponse_SERVING)
}

func TestReflection(t *testing.T) {
	e := newEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := reflectionpb.NewServerReflectionClient(e.conn).ServerReflectionInfo(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}))
	reply, err := stream.Recv()
	require.NoError(t, err)
	var names []string
	for _, service := range reply.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	require.Contains(t, names, "temporal.api.workflowservice.v1.WorkflowService")
	require.Contains(t, names, "temporal.api.operatorservice.v1.OperatorService")
}

func TestMessagesOver4MiBAreRefused(t *testing.T) {
	e := newEnv(t)
	_, err := e.send(t.Context(), startRequestWith(func(r *startReq) { r.Input = payloads(4_300_000) }))
	// Clients take this very text for permanent.
	require.Equal(t, codes.ResourceExhausted, serviceerror.ToStatus(err).Code())
	require.ErrorContains(t, err, "grpc: received message")
	require.ErrorContains(t, err, "larger than max")
}

func TestStopEndsLongPolls(t *testing.T) {
	e := newEnv(t)
	waiting := make(chan struct{})
	e.matching.answers(func(ctx context.Context, _ string, _, _ proto.Message) error {
		close(waiting)
		<-ctx.Done()
		return ctx.Err()
	})
	polled := make(chan error, 1)
	go func() {
		_, err := e.send(context.Background(), aPoll())
		polled <- err
	}()
	<-waiting
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e.server.Stop(ctx)
	require.NoError(t, ctx.Err(), "the server waited for the poll")
	require.IsType(t, &serviceerror.Unavailable{}, <-polled)
}

func TestStopFinishesOtherCalls(t *testing.T) {
	e := newEnv(t)
	running, finish := make(chan struct{}), make(chan struct{})
	e.history.answers(func(ctx context.Context, _ string, _, _ proto.Message) error {
		close(running)
		<-finish
		return ctx.Err()
	})
	described := make(chan error, 1)
	go func() {
		_, err := e.send(context.Background(), aDescribe())
		described <- err
	}()
	<-running
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.server.Stop(context.Background())
	}()
	close(finish)
	require.NoError(t, <-described)
	<-stopped
}

func TestStopCutsOffWhatDoesNotEnd(t *testing.T) {
	e := newEnv(t)
	running := make(chan struct{})
	e.history.answers(func(ctx context.Context, _ string, _, _ proto.Message) error {
		close(running)
		<-ctx.Done()
		return ctx.Err()
	})
	described := make(chan error, 1)
	go func() {
		_, err := e.send(context.Background(), aDescribe())
		described <- err
	}()
	<-running
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.server.Stop(ctx)
	require.Error(t, <-described)
}

func TestLocalConn(t *testing.T) {
	e := newEnv(t)
	client := workflowservice.NewWorkflowServiceClient(e.local)
	e.history.answers(func(_ context.Context, _ string, _, reply proto.Message) error {
		proto.Merge(reply, &workflowservice.StartWorkflowExecutionResponse{RunId: testRunID, Started: true})
		return nil
	})
	reply, err := client.StartWorkflowExecution(t.Context(), startRequestWith(func(*startReq) {}))
	require.NoError(t, err)
	require.Equal(t, testRunID, reply.GetRunId())
	require.True(t, reply.GetStarted())

	ctx := withHeaders(t.Context(), headerClientName, clientUI, headerClientVersion, "3.0.0")
	_, err = client.StartWorkflowExecution(ctx, startRequestWith(func(*startReq) {}))
	require.IsType(t, &serviceerror.ClientVersionNotSupported{}, asServiceError(err))

	err = e.local.Invoke(t.Context(), "/no.such/Method", aDescribe(), replyTo(t, aDescribe()))
	require.Equal(t, codes.Unimplemented, status.Code(err))
	_, err = e.local.NewStream(t.Context(), nil, "/no.such/Method")
	require.Equal(t, codes.Unimplemented, status.Code(err))
}
