package history

import (
	"context"

	"go.temporal.io/api/workflowservice/v1"

	historypb "github.com/perdure/perdure/api/history/v1"
)

// DescribeWorkflowExecution implements HistoryService.
func (s *Service) DescribeWorkflowExecution(ctx context.Context, in *historypb.DescribeWorkflowExecutionRequest) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	execution := in.GetRequest().GetExecution()
	var out *workflowservice.DescribeWorkflowExecutionResponse
	err := s.with(ctx, workflowKey(in.GetNamespaceId(), execution.GetWorkflowId()), func(x *access) error {
		r, err := x.find(execution.GetRunId())
		if err != nil {
			return err
		}
		out = r.state.Describe(x.now)
		return nil
	})
	return out, err
}
