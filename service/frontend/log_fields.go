package frontend

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	"go.uber.org/zap"

	"github.com/perdure/perdure/telemetry"
)

// logFields say which request a line of the log is about: the RPC, the client's name for the request, the trace, and the namespace,
// workflow and run, as far as the request names them. It is called only when there is something to log.
func logFields(ctx context.Context, method string, request any) []zap.Field {
	fields := []zap.Field{zap.String("rpc", method)}
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, zap.String(name, cut(value, idLengthMax)))
		}
	}
	add("request_id", requestID(ctx, request))
	add("trace_id", telemetry.TraceID(ctx))
	if n, ok := request.(namespaced); ok {
		add("namespace", n.GetNamespace())
	}
	workflowID, runID := executionOf(request)
	add("workflow_id", workflowID)
	add("run_id", runID)
	return fields
}

// requestID is the header that the client, or a proxy before it, has set for its own log; else what makes the request unique.
func requestID(ctx context.Context, request any) string {
	if id := header(ctx, headerRequestID); id != "" {
		return id
	}
	if r, ok := request.(interface{ GetRequestId() string }); ok {
		return r.GetRequestId()
	}
	return ""
}

// executionOf finds the execution that a request is about, in whichever of the API's ways it is named.
func executionOf(request any) (workflowID, runID string) {
	var execution *commonpb.WorkflowExecution
	switch r := request.(type) {
	case interface {
		GetWorkflowExecution() *commonpb.WorkflowExecution
	}:
		execution = r.GetWorkflowExecution()
	case interface {
		GetExecution() *commonpb.WorkflowExecution
	}:
		execution = r.GetExecution()
	case interface{ GetWorkflowId() string }:
		workflowID = r.GetWorkflowId()
		if r, ok := request.(interface{ GetRunId() string }); ok {
			runID = r.GetRunId()
		}
		return workflowID, runID
	case tokened:
		token, _ := decodeTaskToken(r.GetTaskToken()) // one that cannot be decoded names none
		return token.GetWorkflowId(), token.GetRunId()
	}
	return execution.GetWorkflowId(), execution.GetRunId()
}
