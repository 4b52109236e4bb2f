package workflow

import (
	"maps"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
)

// An update goes through these states. Up to its acceptance it is volatile: the caller waits and would ask again.
//
//	admitted --a workflow task starts--> sent --accepted--> accepted (durable) --completed--> completed (durable)
//	sent --rejected, ignored--> gone     sent --the task fails, times out--> admitted
//	admitted, sent --the run closes--> gone     accepted --the run closes--> completed with a failure, in effect
//
// An update that a reset has applied again is admitted durably, by an event, and is sent in no message: the worker finds it in
// the history. Waiting for an outcome is the caller's business; each transition lists the updates that it has answered.

const (
	// updatesMax bounds the updates of one run, updatesInFlightMax those that wait for their outcome at the same time, and
	// updatesInFlightBytesMax the size of their requests (CONTRACT 5.2).
	updatesMax              = 2000
	updatesInFlightMax      = 10
	updatesInFlightBytesMax = 20 << 20
	// updateAttemptMax is the attempt of a workflow task from which on updates are refused: the worker cannot run the workflow.
	updateAttemptMax = 3
)

var (
	errUpdateAborted = serviceerror.NewNotFound("workflow update was aborted by closing workflow")
	errUpdateMoved   = serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW,
		"Another run has taken over before the update was answered; try again in a moment.")
	errUpdateTaskFailed  = serviceerror.NewWorkflowNotReady("Unable to perform workflow execution update due to unexpected workflow task failure.")
	errUpdateTaskFailing = serviceerror.NewWorkflowNotReady("Unable to perform workflow execution update due to Workflow Task in failed state.")
	errUpdatePaused      = serviceerror.NewFailedPrecondition("Workflow is paused. Cannot update the workflow.")
)

// PendingUpdate is an update that has not been accepted. It is never changed, only replaced.
type PendingUpdate struct {
	Request *updatepb.Request
	// order counts admissions: updates are sent in that order.
	order int64
	// sentIn is the started event id of the workflow task that carried it (0: not sent), sequence that of the event before:
	// the worker applies the update behind everything that it was given with the task.
	sentIn, sequence int64
}

// UpdateOutcome is the answer to those who wait for an update.
type UpdateOutcome struct {
	ID string
	// Stage is what has been reached: ACCEPTED, or COMPLETED with the Outcome.
	Stage   enumspb.UpdateWorkflowExecutionLifecycleStage
	Outcome *updatepb.Outcome
	// Err, if set, is all there is: the update was given up before it was accepted.
	Err error
}

// UpdateStatus is how far an update has come.
type UpdateStatus struct {
	Stage enumspb.UpdateWorkflowExecutionLifecycleStage
	// Outcome of a completed update; nil: it is in the event CompletedEventID.
	Outcome          *updatepb.Outcome
	CompletedEventID int64
}

// UpdateStatus finds an update. One that was rejected, or aborted by the run's end, is not known any more.
func (s *State) UpdateStatus(id string) (UpdateStatus, bool) {
	if s.Volatile.Updates[id] != nil {
		return UpdateStatus{Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED}, true
	}
	u := s.Updates[id]
	switch {
	case u == nil:
		return UpdateStatus{}, false
	case u.CompletedEventId != 0:
		return UpdateStatus{Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, CompletedEventID: u.CompletedEventId}, true
	case u.AcceptedEventId != 0 && s.Open():
		return UpdateStatus{Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED}, true
	case u.AcceptedEventId != 0:
		return UpdateStatus{Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, Outcome: closedOutcome()}, true
	}
	return UpdateStatus{Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED}, s.Open()
}

// AdmitUpdate takes in an update; the request carries its id. If the run knows the id already, this is the same update. What
// becomes of it is told by the [Result.Updates] of later transitions. Admission is volatile.
func (t *Tx) AdmitUpdate(req *updatepb.Request) (UpdateStatus, error) {
	id := req.GetMeta().GetUpdateId()
	if status, known := t.state.UpdateStatus(id); known {
		return status, nil
	}
	if err := t.checkUpdate(req); err != nil {
		return UpdateStatus{}, err
	}
	updates := t.editUpdates()
	t.volatile.LastUpdate++
	updates[id] = &PendingUpdate{Request: req, order: t.volatile.LastUpdate}
	return UpdateStatus{Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED}, nil
}

func (t *Tx) checkUpdate(req *updatepb.Request) error {
	switch {
	case !t.open():
		return errCompleted
	case t.core.Status == enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED:
		return errUpdatePaused
	case t.closing():
		return errClosing
	case t.task() != nil && t.task().Attempt >= updateAttemptMax:
		return errUpdateTaskFailing
	case int(t.core.UpdateCount)+len(t.volatile.Updates) >= updatesMax:
		return serviceerror.NewFailedPreconditionf("The run has received %d updates, which is the limit; let the workflow continue as new.", updatesMax)
	}
	inFlight, bytes := len(t.volatile.Updates), proto.Size(req)
	for _, u := range t.updates.all() {
		if u.CompletedEventId == 0 {
			inFlight++
		}
	}
	for _, u := range t.volatile.Updates {
		bytes += proto.Size(u.Request)
	}
	if inFlight >= updatesInFlightMax {
		return serviceerror.NewResourceExhaustedf(enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT,
			"The run has %d updates in flight, which is the limit.", updatesInFlightMax)
	}
	if bytes > updatesInFlightBytesMax {
		return serviceerror.NewResourceExhaustedf(enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT,
			"The run's updates in flight would take more than %d bytes, which is the limit.", updatesInFlightBytesMax)
	}
	return nil
}

// editUpdates returns the volatile updates for changing.
func (t *Tx) editUpdates() map[string]*PendingUpdate {
	if !t.ownUpdates {
		t.volatile.Updates = maps.Clone(t.volatile.Updates)
		if t.volatile.Updates == nil {
			t.volatile.Updates = map[string]*PendingUpdate{}
		}
		t.ownUpdates = true
	}
	t.touched = true
	return t.volatile.Updates
}

// updatesInOrder are the ids of the volatile updates as they came.
func updatesInOrder(updates map[string]*PendingUpdate) []string {
	ids := sortedKeys(updates)
	slices.SortFunc(ids, func(a, b string) int { return int(updates[a].order - updates[b].order) })
	return ids
}

// hasUnsentUpdates tells whether an update waits for a workflow task.
func (t *Tx) hasUnsentUpdates() bool {
	for _, u := range t.volatile.Updates {
		if u.sentIn == 0 {
			return true
		}
	}
	return false
}

// sendUpdates notes that the waiting updates go out with a workflow task that has just started.
func (t *Tx) sendUpdates(task *statepb.WorkflowTask) {
	if !t.hasUnsentUpdates() {
		return
	}
	updates := t.editUpdates()
	for id, u := range updates {
		if u.sentIn == 0 {
			updates[id] = &PendingUpdate{Request: u.Request, order: u.order, sentIn: task.StartedEventId, sequence: task.StartedEventId - 1}
		}
	}
}

// unsendUpdates lets the updates of a workflow task that has failed go out again with the next one.
func (t *Tx) unsendUpdates() {
	for id, u := range t.volatile.Updates {
		if u.sentIn != 0 {
			t.editUpdates()[id] = &PendingUpdate{Request: u.Request, order: u.order}
		}
	}
}

// sentUpdates are the ids of the updates that a worker has got and not answered.
func (t *Tx) sentUpdates() (ids []string) {
	for _, id := range updatesInOrder(t.volatile.Updates) {
		if t.volatile.Updates[id].sentIn != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// abortUpdates gives volatile updates up.
func (t *Tx) abortUpdates(ids []string, err error) {
	for _, id := range ids {
		delete(t.editUpdates(), id)
		t.answer(UpdateOutcome{ID: id, Err: err})
	}
}

// ignoreUpdates rejects the updates that the worker got but left unanswered: it does not know updates.
func (t *Tx) ignoreUpdates() {
	for _, id := range t.sentUpdates() {
		delete(t.editUpdates(), id)
		t.answerFailure(id, serverFailure("UnprocessedUpdate", "Workflow Update is rejected because it wasn't processed by worker. Probably, Workflow Update is not supported by the worker."))
	}
}

// closeUpdates answers the updates that the run leaves open at its end.
func (t *Tx) closeUpdates() {
	err := errUpdateAborted
	if t.core.NewRunId != "" || t.core.ResetRun != nil {
		err = errUpdateMoved
	}
	t.abortUpdates(updatesInOrder(t.volatile.Updates), err)
	open := map[string]*statepb.Update{}
	for id, u := range t.updates.all() {
		if u.CompletedEventId == 0 {
			open[id] = u
		}
	}
	for _, id := range sortedKeys(open) {
		switch {
		case t.core.ResetRun != nil, open[id].AcceptedEventId == 0:
			t.answer(UpdateOutcome{ID: id, Err: err})
		default:
			t.answer(UpdateOutcome{ID: id, Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, Outcome: closedOutcome()})
		}
	}
}

// answer notes an update's answer. Of several in one transition only the last counts: an update that is accepted and completed
// at once is completed, also for those who wait for its acceptance only.
func (t *Tx) answer(o UpdateOutcome) {
	t.answers = append(slices.DeleteFunc(t.answers, func(earlier UpdateOutcome) bool { return earlier.ID == o.ID }), o)
}

func (t *Tx) answerFailure(id string, failure *failurepb.Failure) {
	t.answer(UpdateOutcome{ID: id, Stage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED,
		Outcome: &updatepb.Outcome{Value: &updatepb.Outcome_Failure{Failure: failure}}})
}

// closedOutcome is the outcome of an accepted update whose run closed first.
func closedOutcome() *updatepb.Outcome {
	return &updatepb.Outcome{Value: &updatepb.Outcome_Failure{Failure: serverFailure("AcceptedUpdateCompletedWorkflow",
		"Workflow Update failed because the Workflow completed before the Update completed.")}}
}

// serverFailure is a failure of the server's own making that is not worth a retry.
func serverFailure(typ, text string) *failurepb.Failure {
	return &failurepb.Failure{Message: text, Source: "Server", FailureInfo: &failurepb.Failure_ApplicationFailureInfo{
		ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: typ, NonRetryable: true},
	}}
}
