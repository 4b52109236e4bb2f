package cluster

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/persistence"
)

// historyRules say which calls may be made again when the first may have been applied. What certainly was not applied (the shard
// has moved, the connection was refused) is made again always.
var historyRules = map[string]rule{
	"DescribeWorkflowExecution":          reads,
	"GetWorkflowExecutionHistory":        reads,
	"GetWorkflowExecutionHistoryReverse": reads,
	"QueryWorkflow":                      reads,
	"PollWorkflowExecutionUpdate":        reads,
	"RecordQueryTaskStarted":             reads,

	"StartWorkflowExecution":           once("request.request_id"),
	"SignalWorkflowExecution":          once("request.request_id"),
	"SignalWithStartWorkflowExecution": once("request.request_id"),
	"RequestCancelWorkflowExecution":   once("request.request_id"),
	"ResetWorkflowExecution":           once("request.request_id"),
	"PauseWorkflowExecution":           once("request.request_id"),
	"UnpauseWorkflowExecution":         once("request.request_id"),
	"UpdateWorkflowExecution":          once("request.request.meta.update_id"),
	// Its update is in the same commit; the first operation is the start.
	"ExecuteMultiOperation":      once("request.operations.start_workflow.request_id"),
	"RecordWorkflowTaskStarted":  once("request_id"),
	"RecordActivityTaskStarted":  once("request_id"),
	"ResetStickyTaskQueue":       repeats, // there is nothing to reset the second time
	"ReleaseChild":               repeats, // likewise
	"StartChild":                 once("request.request_id"),
	"RecordChildClosed":          repeats, // known by (child's first run, initiated event)
	"SignalFromWorkflow":         repeats, // known by (source run, initiated event)
	"CancelFromWorkflow":         repeats, // likewise
	"TerminateFromWorkflow":      repeats, // it names the run that it is for
	"TerminateWorkflowExecution": never,   // it might hit the run that follows
	"DeleteWorkflowExecution":    never,   // likewise

	// The token names one delivery of the task. A call by id has none: by then the id may mean another activity.
	"RespondWorkflowTaskCompleted":   once("token.start_id"),
	"RespondWorkflowTaskFailed":      once("token.start_id"),
	"RecordActivityTaskHeartbeat":    once("token.start_id"),
	"RespondActivityTaskCompleted":   once("token.start_id"),
	"RespondActivityTaskFailed":      once("token.start_id"),
	"RespondActivityTaskCanceled":    once("token.start_id"),
	"UpdateWorkflowExecutionOptions": never, // somebody else may have set others in between
	"UpdateActivityOptions":          never, // likewise
	"PauseActivity":                  never, // likewise
	"UnpauseActivity":                never, // likewise
	"ResetActivity":                  never, // likewise
}

// workflowPaths are where requests have the workflow id, the first that exists counts.
var workflowPaths = []string{
	"token.workflow_id",
	"execution.workflow_id",
	"parent.workflow_id", // of RecordChildClosed; as a Source, the parent is the caller
	"child.workflow_id",
	"request.workflow_id",
	"request.workflow_execution.workflow_id",
	"request.execution.workflow_id",
	"request.update_ref.workflow_execution.workflow_id",
	"request.operations.start_workflow.workflow_id",
}

// historyMethods are the methods of the service by name.
func historyMethods() map[string]method {
	service := historypb.File_perdure_history_v1_service_proto.Services().ByName("HistoryService")
	found := methods(service, historyRules)
	for name, m := range found {
		for _, names := range workflowPaths {
			var ok bool
			if m.workflow, ok = findPath(service.Methods().ByName(protoreflect.Name(name)).Input(), names); ok {
				break
			}
			m.workflow = nil
		}
		if m.workflow == nil {
			panic(fmt.Sprintf("cluster: no workflow id in the requests of %s", name))
		}
		found[name] = m
	}
	return found
}

// NewHistoryClient makes a client that finds the owner of a request's shard and follows it. local serves what this process owns;
// nil if it does not run the service. Calls are repeated within their deadline, or retryMax, as historyRules allow.
func NewHistoryClient(m *Membership, local historypb.HistoryServiceClient) historypb.HistoryServiceClient {
	r := &router[historypb.HistoryServiceClient]{
		m: m, service: History, methods: historyMethods(), local: local, hasLocal: local != nil,
		remote: func(conn grpc.ClientConnInterface) historypb.HistoryServiceClient {
			return historypb.NewHistoryServiceClient(conn)
		},
		owner: func(v *View, method method, in proto.Message) (persistence.Member, bool) {
			return v.ShardOwner(shardOf(method, in))
		},
	}
	return historypb.RoutedHistoryServiceClient{Route: r.route}
}

func shardOf(method method, in proto.Message) persistence.ShardID {
	request, _ := in.(interface{ GetNamespaceId() string }) // every request of the service has one; a test says so
	return persistence.ExecutionKey{
		NamespaceID: request.GetNamespaceId(), Kind: persistence.KindWorkflow, BusinessID: method.workflow.get(in),
	}.Shard()
}
