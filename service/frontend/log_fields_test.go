package frontend

import (
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// A line of the log names its run in whichever way the request does.
func TestLogFields(t *testing.T) {
	execution := &commonpb.WorkflowExecution{WorkflowId: "w", RunId: testRunID}
	token, err := proto.Marshal(&tokenpb.Task{NamespaceId: testRunID, WorkflowId: "w", RunId: testRunID})
	require.NoError(t, err)
	run := map[string]any{"rpc": "/s/M", "workflow_id": "w", "run_id": testRunID}
	for _, c := range []struct {
		request any
		more    map[string]any
		run     bool
	}{
		{
			&workflowservice.SignalWorkflowExecutionRequest{Namespace: "n", WorkflowExecution: execution, RequestId: "r"},
			map[string]any{"namespace": "n", "request_id": "r"}, true,
		},
		{&workflowservice.DescribeWorkflowExecutionRequest{Namespace: "n", Execution: execution}, map[string]any{"namespace": "n"}, true},
		{&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: token}, nil, true},
		{&workflowservice.RespondWorkflowTaskCompletedRequest{TaskToken: []byte("x")}, nil, false},
		{&workflowservice.RecordActivityTaskHeartbeatByIdRequest{WorkflowId: "w", RunId: testRunID}, nil, true},
		{&workflowservice.GetSystemInfoRequest{}, nil, false},
		{"no message at all", nil, false},
	} {
		want := map[string]any{"rpc": "/s/M"}
		if c.run {
			for k, v := range run {
				want[k] = v
			}
		}
		for k, v := range c.more {
			want[k] = v
		}
		require.Equal(t, want, fieldsOf(logFields(t.Context(), "/s/M", c.request)))
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(headerRequestID, "of the client"))
	fields := fieldsOf(logFields(ctx, "/s/M", &workflowservice.SignalWorkflowExecutionRequest{RequestId: "r"}))
	require.Equal(t, "of the client", fields["request_id"])
}

func fieldsOf(fields []zapcore.Field) map[string]any {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	return encoder.Fields
}
