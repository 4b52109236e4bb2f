package frontend

import (
	"strings"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// priority says which calls are refused first when there are too many: those with the highest number.
type priority int

const (
	// priorityFirst is what a client needs to begin at all.
	priorityFirst priority = iota
	// priorityProgress is what moves workflows on: starts, signals, updates, and the results of tasks. To refuse a result wastes
	// the work that it is the result of.
	priorityProgress
	// priorityChange is every other change, and what workers read to replay.
	priorityChange
	// priorityRead is what people and tools look at.
	priorityRead
	// priorityPoll asks for more work, which an overloaded server has enough of.
	priorityPoll
	// priorityWait is waiting for news.
	priorityWait
)

// callKind is what a call counts against in its namespace.
type callKind int

const (
	kindExecution callKind = iota
	// kindVisibility reads lists: a filter may cost the database a thousand times what a transition costs it.
	kindVisibility
	// kindNamespaceChange writes the registry of namespaces, which every process reads again then.
	kindNamespaceChange
	// kindDeploymentRead gathers what is known of workers' deployments.
	kindDeploymentRead
	callKinds
)

// callClass is how a call is limited.
type callClass struct {
	priority priority
	kind     callKind
}

// names are RPCs.
func names(list string) []string { return strings.Fields(list) }

// classes are the RPCs by how they are limited. What is not among them counts as a change.
var classes = func() map[string]callClass {
	m := map[string]callClass{}
	add := func(c callClass, rpcs []string) {
		for _, rpc := range rpcs {
			m[rpc] = c
		}
	}
	add(callClass{priority: priorityFirst}, names(`GetSystemInfo GetClusterInfo DescribeNamespace ListNamespaces GetSearchAttributes
		ListSearchAttributes ListClusters`))
	add(callClass{priority: priorityProgress}, names(`StartWorkflowExecution SignalWorkflowExecution SignalWithStartWorkflowExecution
		ExecuteMultiOperation UpdateWorkflowExecution RequestCancelWorkflowExecution TerminateWorkflowExecution
		StartActivityExecution StartNexusOperationExecution RespondWorkflowTaskCompleted RespondActivityTaskCompleted
		RespondActivityTaskCompletedById RespondQueryTaskCompleted RespondNexusTaskCompleted RecordActivityTaskHeartbeat
		RecordActivityTaskHeartbeatById ShutdownWorker`))
	add(callClass{priority: priorityRead}, names(`DescribeWorkflowExecution DescribeTaskQueue DescribeActivityExecution
		DescribeNexusOperationExecution DescribeSchedule DescribeBatchOperation DescribeWorker DescribeWorkflowRule QueryWorkflow
		GetWorkflowExecutionHistoryReverse ListTaskQueuePartitions ListScheduleMatchingTimes ListWorkers CountWorkers ListWorkflowRules
		ListNexusEndpoints GetNexusEndpoint FetchWorkerConfig RecordWorkerHeartbeat
		RespondWorkflowTaskFailed RespondActivityTaskFailed RespondActivityTaskFailedById RespondActivityTaskCanceled
		RespondActivityTaskCanceledById RespondNexusTaskFailed`))
	add(callClass{priority: priorityPoll}, names(`PollWorkflowTaskQueue PollActivityTaskQueue PollNexusTaskQueue`))
	add(callClass{priority: priorityWait}, names(`PollWorkflowExecutionUpdate PollActivityExecution PollNexusOperationExecution
		PollWorkflowExecutionTimeSkipping`))
	add(callClass{priority: priorityRead, kind: kindVisibility}, names(`ListWorkflowExecutions ListOpenWorkflowExecutions
		ListClosedWorkflowExecutions ListArchivedWorkflowExecutions ScanWorkflowExecutions CountWorkflowExecutions
		ListActivityExecutions CountActivityExecutions ListNexusOperationExecutions CountNexusOperationExecutions
		ListSchedules CountSchedules ListBatchOperations GetWorkerTaskReachability GetDeploymentReachability`))
	add(callClass{priority: priorityChange, kind: kindNamespaceChange}, names(`RegisterNamespace UpdateNamespace DeprecateNamespace
		DeleteNamespace AddSearchAttributes RemoveSearchAttributes`))
	add(callClass{priority: priorityRead, kind: kindDeploymentRead}, names(`DescribeWorkerDeployment DescribeWorkerDeploymentVersion
		DescribeDeployment
		ListWorkerDeployments ListDeployments GetCurrentDeployment GetWorkerBuildIdCompatibility GetWorkerVersioningRules`))
	return m
}()

// classOf tells how a call is limited; false: not at all, as health checks.
func classOf(method string, request any) (callClass, bool) {
	service, rpc, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch service {
	case workflowservice.WorkflowService_ServiceDesc.ServiceName, operatorservice.OperatorService_ServiceDesc.ServiceName:
	default:
		return callClass{}, false
	}
	if r, ok := request.(*workflowservice.GetWorkflowExecutionHistoryRequest); ok && r.GetWaitNewEvent() {
		return callClass{priority: priorityWait}, true
	}
	if c, ok := classes[rpc]; ok {
		return c, true
	}
	return callClass{priority: priorityChange}, true
}
