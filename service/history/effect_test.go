package history

import (
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/machine/workflow"
)

// Effects that go to the same place wait for one another, others do not.
func TestTurns(t *testing.T) {
	order := turns{}
	signal := func(id string) workflow.Effect {
		return workflow.SendExternal{External: &statepb.External{Target: &commonpb.WorkflowExecution{WorkflowId: id}}}
	}
	free := func(turn turn) bool {
		select {
		case <-turn.before:
			return true
		default:
			return turn.before == nil
		}
	}
	first, second, other := order.take(signal("w")), order.take(signal("w")), order.take(signal("v"))
	require.True(t, free(first) && free(other))
	require.False(t, free(second))
	first.pass()
	require.True(t, free(second))

	child := order.take(workflow.StartChild{Child: &statepb.Child{WorkflowId: "w"}})
	require.False(t, free(child), "a child that is signaled in the same task is started in its turn")

	a, b := order.take(workflow.DispatchActivity{Queue: "q"}), order.take(workflow.DispatchActivity{Queue: "q"})
	require.True(t, free(a) && a.early && b.early)
	require.False(t, free(b))
	require.True(t, free(order.take(workflow.DispatchActivity{Queue: "other"})))
	require.True(t, free(order.take(workflow.DispatchWorkflowTask{})))

	b.await(closed()) // the host stops: nobody waits for his turn
	turn{}.pass()
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
