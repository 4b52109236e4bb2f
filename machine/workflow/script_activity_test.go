package workflow

import (
	"strings"

	activitypb "go.temporal.io/api/activity/v1"
	commonpb "go.temporal.io/api/common/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"

	statepb "github.com/perdure/perdure/api/state/v1"
	tokenpb "github.com/perdure/perdure/api/token/v1"
)

func init() {
	for verb, run := range map[string]func(*script, input){
		"poll-activity":     scriptPollActivity,
		"complete-activity": scriptCompleteActivity,
		"fail-activity":     scriptFailActivity,
		"cancel-activity":   scriptCancelActivity,
		"heartbeat":         scriptHeartbeat,
		"pause-activity":    scriptPauseActivity,
		"unpause-activity":  scriptUnpauseActivity,
		"reset-activity":    scriptResetActivity,
		"update-activity":   scriptUpdateActivity,
	} {
		scriptVerbs[verb] = run
	}
}

func (s *script) pendingActivity(id string) *statepb.Activity {
	for _, a := range s.state.Activities {
		if a.ActivityId == id {
			return a
		}
	}
	return &statepb.Activity{}
}

// poll-activity ID [as=] [id=] [identity=] [effect=] [attempt=] [stamp=]: starts it; the token is kept under its id or as another name.
func scriptPollActivity(s *script, in input) {
	pending := s.pendingActivity(in.word(0))
	s.apply(func(tx *Tx) error {
		a, err := tx.StartActivity(ActivityStart{
			ScheduledEventID: pending.ScheduledEventId,
			EffectID:         in.number("effect", pending.EffectId),
			Attempt:          int32(in.number("attempt", int64(pending.Attempt))),
			Stamp:            int32(in.number("stamp", int64(pending.Stamp))),
			StartID:          in.or("id", "start-"+in.or("as", in.word(0))),
			Identity:         in.or("identity", "worker"),
		})
		if err != nil {
			return err
		}
		s.tokens[in.or("as", in.word(0))] = &tokenpb.Task{ScheduledEventId: a.ScheduledEventId, Attempt: a.Attempt, ActivityId: a.ActivityId, StartId: a.StartId}
		s.printf("activity %s attempt=%d heartbeat=%s", a.ActivityId, a.Attempt, renderPayloads(a.HeartbeatDetails.GetPayloads()))
		return nil
	})
}

// activityToken is that of a start, or, with "by-id", one that holds only the id.
func (s *script) activityToken(in input) *tokenpb.Task {
	if in.is("by-id") {
		return &tokenpb.Task{ActivityId: in.word(0)}
	}
	return s.token(in.word(0))
}

// complete-activity TOKEN [RESULT=] [size=] [by-id]
func scriptCompleteActivity(s *script, in input) {
	result := payloads(in.or("result", "result"))
	if n := in.number("size", 0); n > 0 {
		result = ofSize(n)
	}
	s.apply(func(tx *Tx) error {
		return tx.CompleteActivity(s.activityToken(in), &workflowservice.RespondActivityTaskCompletedRequest{Result: result, Identity: "worker"})
	})
}

// fail-activity TOKEN [type=] [final] [delay=] [details=] [size=] [details-size=] [bare] [by-id]
func scriptFailActivity(s *script, in input) {
	req := &workflowservice.RespondActivityTaskFailedRequest{Identity: "worker", LastHeartbeatDetails: payloads(in.or("details", ""))}
	if n := in.number("heartbeat-size", 0); n > 0 {
		req.LastHeartbeatDetails = ofSize(n)
	}
	if !in.is("bare") {
		req.Failure = applicationFailure(in, in.or("type", "Oops"))
	}
	s.apply(func(tx *Tx) error {
		cut, err := tx.FailActivity(s.activityToken(in), req)
		for _, failure := range cut {
			s.printf("cut: %s", failure.Message)
		}
		return err
	})
}

// cancel-activity TOKEN [details=] [size=] [by-id]
func scriptCancelActivity(s *script, in input) {
	details := payloads(in.or("details", ""))
	if n := in.number("size", 0); n > 0 {
		details = ofSize(n)
	}
	s.apply(func(tx *Tx) error {
		return tx.CancelActivity(s.activityToken(in), &workflowservice.RespondActivityTaskCanceledRequest{Details: details, Identity: "worker"})
	})
}

// heartbeat TOKEN [details=] [size=] [by-id]
func scriptHeartbeat(s *script, in input) {
	details := payloads(in.or("details", ""))
	if n := in.number("size", 0); n > 0 {
		details = ofSize(n)
	}
	s.apply(func(tx *Tx) error {
		reply, err := tx.HeartbeatActivity(s.activityToken(in), details)
		if reply != (HeartbeatReply{}) {
			s.printf("reply %+v", reply)
		}
		return err
	})
}

// selector: [ID] [type=] [all]
func (in input) selector() ActivitySelector {
	if in.is("all") {
		return ActivitySelector{All: true}
	}
	if typ := in.named["type"]; typ != "" {
		return ActivitySelector{Type: typ}
	}
	return ActivitySelector{ID: in.word(0)}
}

func scriptPauseActivity(s *script, in input) {
	s.apply(func(tx *Tx) error {
		return tx.PauseActivity(ActivityPause{Activities: in.selector(), Identity: "client", Reason: in.or("reason", "maintenance")})
	})
}

// unpause-activity SELECTOR [attempts] [heartbeat] [jitter=]
func scriptUnpauseActivity(s *script, in input) {
	s.apply(func(tx *Tx) error {
		return tx.UnpauseActivity(ActivityUnpause{
			Activities: in.selector(), ResetAttempts: in.is("attempts"), ResetHeartbeat: in.is("heartbeat"), Jitter: in.duration("jitter"),
		})
	})
}

// reset-activity SELECTOR [heartbeat] [keep-paused] [restore] [jitter=]
func scriptResetActivity(s *script, in input) {
	s.apply(func(tx *Tx) error {
		return tx.ResetActivity(ActivityReset{
			Activities: in.selector(), ResetHeartbeat: in.is("heartbeat"), KeepPaused: in.is("keep-paused"), RestoreOptions: in.is("restore"), Jitter: in.duration("jitter"),
		})
	})
}

// update-activity SELECTOR [restore] [paths=a,b] [queue=] [run=] [close=] [heartbeat=] [interval=] [attempts=] [coefficient=] [priority=]
func scriptUpdateActivity(s *script, in input) {
	options := &activitypb.ActivityOptions{
		TaskQueue:              &taskqueuepb.TaskQueue{Name: in.or("queue", "")},
		StartToCloseTimeout:    optional(in.duration("run")),
		ScheduleToCloseTimeout: optional(in.duration("close")),
		HeartbeatTimeout:       optional(in.duration("heartbeat")),
		RetryPolicy: &commonpb.RetryPolicy{
			InitialInterval: optional(in.duration("interval")), MaximumAttempts: int32(in.number("attempts", 0)), BackoffCoefficient: float64(in.number("coefficient", 0)),
		},
		Priority: &commonpb.Priority{PriorityKey: int32(in.number("priority", 0))},
	}
	s.apply(func(tx *Tx) error {
		got, err := tx.UpdateActivityOptions(ActivityOptionsUpdate{
			Activities: in.selector(), Options: options, Paths: strings.FieldsFunc(in.or("paths", ""), func(r rune) bool { return r == ',' }), Restore: in.is("restore"),
		})
		if err == nil {
			s.printf("options %s", renderMessage(got))
		}
		return err
	})
}
