package workflow

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// idleRun is a run of a test that drives the machine by hand.
func idleRun(t *testing.T) *script {
	s := newScript(t)
	s.step("start")
	s.step("poll")
	s.step("complete")
	return s
}

func TestSignalsOfARunAreLimited(t *testing.T) {
	s := idleRun(t)
	s.state.Core.SignalCount = signalsMax - 1
	require.NoError(t, Begin(s.state, s.now, s.env).Signal(Signal{Name: "last"}))
	s.step("signal last request=r")
	var invalid *serviceerror.InvalidArgument
	require.ErrorAs(t, Begin(s.state, s.now, s.env).Signal(Signal{Name: "one too many"}), &invalid)
	require.NoError(t, Begin(s.state, s.now, s.env).Signal(Signal{Name: "last", RequestID: "r"}), "what has been taken may come again")
}

func TestUpdatesSuggestAndEndAtTheirLimit(t *testing.T) {
	s := idleRun(t)
	s.state.Core.UpdateCount = updatesMax*9/10 - 1
	require.Empty(t, Begin(s.state, s.now, s.env).suggestReasons())
	s.state.Core.UpdateCount++
	require.Equal(t, []enumspb.SuggestContinueAsNewReason{enumspb.SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_UPDATES}, Begin(s.state, s.now, s.env).suggestReasons())
	s.state.Core.UpdateCount = updatesMax
	require.Contains(t, s.step("update u"), "error FailedPrecondition")
}

func TestResetPointsAreLimited(t *testing.T) {
	s := idleRun(t)
	for i := range resetPointsMax + 5 {
		tx := Begin(s.state, s.now, s.env)
		tx.noteResetPoint(&completion{Tx: tx, req: &workflowservice.RespondWorkflowTaskCompletedRequest{BinaryChecksum: fmt.Sprint(i)}})
		tx.write()
		s.commit(tx)
	}
	points := s.state.Core.ResetPoints.Points
	require.Len(t, points, resetPointsMax)
	require.Equal(t, fmt.Sprint(resetPointsMax+4), points[resetPointsMax-1].BinaryChecksum, "the oldest are forgotten")
}

func TestTheSizeOfTheStateFollowsItsParts(t *testing.T) {
	s := idleRun(t)
	empty := s.state.Size()
	tx := Begin(s.state, s.now, s.env)
	tx.timers.put("t", &statepb.Timer{TimerId: "t"})
	tx.write()
	s.commit(tx)
	require.Greater(t, s.state.Size(), empty)
	loaded, err := Load(nil, s.rows)
	require.NoError(t, err)
	require.Equal(t, loaded.Size(), s.state.Size())
}
