package workflow

import (
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
)

// Limits of a history (CONTRACT 5.2): from the first on workers are advised to continue as new, at the second the run ends.
const (
	suggestEvents = 4096
	suggestBytes  = 4 << 20
	eventsMax     = 51_200
	historyMax    = 50 << 20
	// stateMax bounds, in bytes, what a run keeps in memory: pending activities with their heartbeats, the memo, and so on.
	stateMax = 8 << 20
	// resetPointsMax bounds the remembered first tasks by build.
	resetPointsMax = 20
	// problemsMax is how many workflow tasks in a row may fail before list shows it (CONTRACT 5.3).
	problemsMax = 5
)

func (t *Tx) suggestReasons() (reasons []enumspb.SuggestContinueAsNewReason) {
	if t.core.HistorySizeBytes >= suggestBytes {
		reasons = append(reasons, enumspb.SUGGEST_CONTINUE_AS_NEW_REASON_HISTORY_SIZE_TOO_LARGE)
	}
	if t.core.NextEventId-1 >= suggestEvents {
		reasons = append(reasons, enumspb.SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_HISTORY_EVENTS)
	}
	if t.core.UpdateCount >= updatesMax*9/10 {
		reasons = append(reasons, enumspb.SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_UPDATES)
	}
	return reasons
}

// EnforceLimits ends a run whose history or state has grown beyond what the server keeps. It is called before other inputs.
func (t *Tx) EnforceLimits() bool {
	if !t.open() {
		return false
	}
	var reason string
	switch {
	case t.core.HistorySizeBytes > historyMax:
		reason = "Workflow history size exceeds limit."
	case t.core.NextEventId-1 > eventsMax:
		reason = "Workflow history count exceeds limit."
	case t.state.Size() > stateMax:
		reason = "Workflow mutable state size exceeds limit."
	default:
		return false
	}
	t.terminate(Termination{Reason: reason, Identity: serverIdentity})
	return true
}

// noteResetPoint remembers the first completed task of each build, for "reset to where this build began".
func (t *Tx) noteResetPoint(c *completion) {
	checksum, build := c.req.BinaryChecksum, c.req.GetWorkerVersionStamp().GetBuildId()
	if build == "" {
		build = c.req.GetDeploymentOptions().GetBuildId()
	}
	points := t.core.ResetPoints.GetPoints()
	for _, p := range points {
		if p.BinaryChecksum == checksum && p.BuildId == build {
			return
		}
	}
	points = append(points, &workflowpb.ResetPointInfo{
		BinaryChecksum: checksum, BuildId: build, RunId: t.start.RunId,
		FirstWorkflowTaskCompletedId: c.completed, CreateTime: t.timestamp(), Resettable: true,
	})
	if len(points) > resetPointsMax {
		points = points[len(points)-resetPointsMax:]
	}
	t.core.ResetPoints = &workflowpb.ResetPoints{Points: points}
	t.noteBuild(build, c.req.GetWorkerVersionStamp().GetUseVersioning())
}

func (t *Tx) noteProblem(category, cause string) {
	t.core.ConsecutiveTaskProblems++
	t.core.LastTaskProblem = category + "/" + cause
	if t.core.ConsecutiveTaskProblems == problemsMax {
		t.setKeywords(attributeProblems, []string{"category=" + category, "cause=" + category + "Cause" + cause})
	}
}

func (t *Tx) clearProblem() {
	if t.core.ConsecutiveTaskProblems >= problemsMax {
		t.setKeywords(attributeProblems, nil)
	}
	t.core.ConsecutiveTaskProblems, t.core.LastTaskProblem = 0, ""
}
