package workflow

import (
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	tokenpb "github.com/perdure/perdure/api/token/v1"
)

// scriptVerbs are the inputs of scripts. Files of other topics add theirs in an init function.
var scriptVerbs = map[string]func(*script, input){}

func init() {
	for verb, run := range map[string]func(*script, input){
		"start":          scriptStart,
		"wait":           func(s *script, in input) { s.now = s.now.Add(parseDuration(in.word(0))) },
		"fire":           scriptFire,
		"next":           func(s *script, _ input) { s.printNext() },
		"poll":           scriptPoll,
		"complete":       scriptComplete,
		"fail":           scriptFail,
		"signal":         scriptSignal,
		"cancel":         scriptCancel,
		"terminate":      scriptTerminate,
		"reset-sticky":   func(s *script, _ input) { s.apply((*Tx).ResetSticky) },
		"enforce-limits": scriptEnforceLimits,
		"ack":            scriptAck,
		"flush":          func(s *script, _ input) { s.apply(func(tx *Tx) error { tx.FlushVolatile(); return nil }) },
		"effects":        scriptEffects,
		"crash":          scriptCrash,
		"describe":       scriptDescribe,
		"part":           func(s *script, in input) { s.printf("%s", s.renderPart(in.word(0))) },
		"provisional":    scriptProvisional,
		"follow":         func(s *script, _ input) { s.follow() },
	} {
		scriptVerbs[verb] = run
	}
}

// start [queue=] [id=] [request=] [task-timeout=] [run-timeout=] [execution-timeout=] [delay=] [cron=] [attempts=] [priority=]
func scriptStart(s *script, in input) {
	req := &workflowservice.StartWorkflowExecutionRequest{
		WorkflowId:               in.or("id", "w"),
		WorkflowType:             &commonpb.WorkflowType{Name: "workflow"},
		TaskQueue:                &taskqueuepb.TaskQueue{Name: in.or("queue", "q"), Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		Identity:                 "client",
		WorkflowTaskTimeout:      optional(in.duration("task-timeout")),
		WorkflowRunTimeout:       optional(in.duration("run-timeout")),
		WorkflowExecutionTimeout: optional(in.duration("execution-timeout")),
		WorkflowStartDelay:       optional(in.duration("delay")),
		CronSchedule:             strings.ReplaceAll(in.or("cron", ""), "_", " "),
	}
	if n := in.number("priority", 0); n != 0 {
		req.Priority = &commonpb.Priority{PriorityKey: int32(n), FairnessKey: in.or("fairness", "")}
	}
	if n, ok := in.named["attempts"]; ok {
		req.RetryPolicy = &commonpb.RetryPolicy{
			InitialInterval: durationpb.New(time.Second), BackoffCoefficient: 2, MaximumInterval: durationpb.New(100 * time.Second),
			MaximumAttempts: int32(in.number("attempts", 0)),
		}
		_ = n
	}
	s.runs++
	tx := Open(Opening{
		NamespaceID: "default-id", RunID: "run-1", RequestID: in.or("request", "start-1"), Attributes: StartAttributes(req),
	}, s.now, s.env)
	s.commit(tx)
}

func optional(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// fire [+5s]: applies what is due at a later time, or at the next deadline.
func scriptFire(s *script, in input) {
	if len(in.words) > 0 {
		s.now = s.now.Add(parseDuration(in.words[0]))
	} else if next := s.state.NextDeadline(); next.After(s.now) {
		s.now = next
		s.printf("at %s", since(s.now))
	}
	s.apply((*Tx).Fire)
	if next := s.state.NextDeadline(); !next.IsZero() {
		require.True(s.t, next.After(s.now), "after Fire something is still due")
	}
}

// poll [id=] [identity=] [effect=] [sticky] [as=]: takes the workflow task; the token is kept under the name.
func scriptPoll(s *script, in input) {
	effect := in.number("effect", 0)
	if task := s.state.Task(); effect == 0 && task != nil {
		effect = task.EffectId
	}
	s.apply(func(tx *Tx) error {
		task, err := tx.StartTask(TaskStart{
			EffectID: effect, StartID: in.or("id", "start-"+in.or("as", "task")), Identity: in.or("identity", "worker"), Sticky: in.is("sticky"),
		})
		if err != nil {
			return err
		}
		s.tokens[in.or("as", "task")] = &tokenpb.Task{
			ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId, Attempt: task.Attempt, StartId: task.StartId,
		}
		s.printf("task scheduled=%d started=%d attempt=%d previous=%d", task.ScheduledEventId, task.StartedEventId, task.Attempt, s.state.Core.LastCompletedTaskStartedEventId)
		return nil
	})
}

// describe [pending]: all that describe shows, or only what is pending.
func scriptDescribe(s *script, in input) {
	r := s.state.Describe(s.now)
	if !in.is("pending") {
		s.printf("config %s", renderMessage(r.ExecutionConfig))
		s.printf("info %s", renderMessage(r.WorkflowExecutionInfo))
		s.printf("extended %s", renderMessage(r.WorkflowExtendedInfo))
	}
	for _, a := range r.PendingActivities {
		s.printf("activity %s", renderMessage(a))
	}
	for _, c := range r.PendingChildren {
		s.printf("child %s", renderMessage(c))
	}
	if r.PendingWorkflowTask != nil {
		s.printf("task %s", renderMessage(r.PendingWorkflowTask))
	}
}

// provisional [worker]: the events of the open task that are not in the history.
func scriptProvisional(s *script, in input) {
	events, hidden := s.state.ProvisionalEvents(in.is("worker"))
	for _, e := range events {
		s.printf("%s", s.renderEvent(e))
	}
	if hidden {
		s.printf("hidden")
	}
}

func (s *script) token(name string) *tokenpb.Task {
	token, ok := s.tokens[name]
	if !ok {
		s.printf("no token %s", name)
		return &tokenpb.Task{ScheduledEventId: -1}
	}
	return token
}

// complete [as=] [sticky=5s] [force] [new]: answers the workflow task with the commands in the lines below.
func scriptComplete(s *script, in input) {
	req := &workflowservice.RespondWorkflowTaskCompletedRequest{
		Identity: "worker", ForceCreateNewWorkflowTask: in.is("force"), ReturnNewWorkflowTask: in.is("new"), BinaryChecksum: in.or("checksum", ""),
	}
	if d, ok := in.named["sticky"]; ok {
		req.StickyAttributes = &taskqueuepb.StickyExecutionAttributes{
			WorkerTaskQueue:        &taskqueuepb.TaskQueue{Name: "sticky-q", Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: "q"},
			ScheduleToStartTimeout: durationpb.New(parseDuration(d)),
		}
	}
	for _, line := range in.lines {
		req.Commands = append(req.Commands, s.command(parseInput(line)))
	}
	s.apply(func(tx *Tx) error {
		c, err := tx.CompleteTask(s.token(in.or("as", "task")), req)
		if err != nil {
			return err
		}
		if c.Err != nil {
			s.printf("refused %s", describeError(c.Err))
		}
		for _, id := range c.EagerActivities {
			a, _ := tx.activity(id)
			s.tokens[a.ActivityId] = &tokenpb.Task{ScheduledEventId: id, Attempt: a.Attempt, ActivityId: a.ActivityId, StartId: a.StartId}
			s.printf("eager activity %d", id)
		}
		if c.ResetHistoryEventID != 0 {
			s.printf("reset to event %d", c.ResetHistoryEventID)
		}
		return nil
	})
	if task := s.state.Task(); in.is("new") && task != nil && task.StartedEventId != 0 {
		s.tokens["task"] = &tokenpb.Task{ScheduledEventId: task.ScheduledEventId, StartedEventId: task.StartedEventId, Attempt: task.Attempt, StartId: task.StartId}
	}
}

// fail [as=] [message=] [cause=]: reports the workflow task as failed.
func scriptFail(s *script, in input) {
	s.apply(func(tx *Tx) error {
		return tx.FailTask(s.token(in.or("as", "task")), TaskFailure{
			Cause:    enumspb.WorkflowTaskFailedCause(enumspb.WorkflowTaskFailedCause_value["WORKFLOW_TASK_FAILED_CAUSE_"+in.or("cause", "NON_DETERMINISTIC_ERROR")]),
			Identity: "worker", Failure: &failurepb.Failure{Message: in.or("message", "oops")},
		})
	})
}

// signal NAME [request=] [times=] [size=]
func scriptSignal(s *script, in input) {
	for range in.number("times", 1) {
		s.apply(func(tx *Tx) error {
			return tx.Signal(Signal{Name: in.word(0), Identity: "client", RequestID: in.or("request", ""), Input: ofSize(in.number("size", 0))})
		})
	}
}

func ofSize(n int64) *commonpb.Payloads {
	if n == 0 {
		return nil
	}
	return &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte(strings.Repeat("x", int(n)))}}}
}

func payloads(text string) *commonpb.Payloads {
	if text == "" {
		return nil
	}
	return &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte(text)}}}
}

// cancel [request=]
func scriptCancel(s *script, in input) {
	s.apply(func(tx *Tx) error {
		return tx.RequestCancel(Cancellation{Reason: in.or("reason", ""), Identity: "client", RequestID: in.or("request", "")})
	})
}

// terminate [reason=]
func scriptTerminate(s *script, in input) {
	s.apply(func(tx *Tx) error { return tx.Terminate(Termination{Reason: in.or("reason", ""), Identity: "client"}) })
}

// enforce-limits [bytes=]: as if the history were so long.
func scriptEnforceLimits(s *script, in input) {
	s.apply(func(tx *Tx) error {
		if n := in.number("bytes", 0); n > 0 {
			tx.core.HistorySizeBytes = n
		}
		s.printf("enforced: %t", tx.EnforceLimits())
		return nil
	})
}

// ack EFFECT …
func scriptAck(s *script, in input) {
	s.apply(func(tx *Tx) error {
		for i := range in.words {
			id := input{named: map[string]string{"n": in.words[i]}}
			tx.Acknowledge(id.number("n", 0))
		}
		return nil
	})
}

// effects: those that a new owner would carry out.
func scriptEffects(s *script, _ input) {
	for _, e := range s.state.PendingEffects() {
		s.printf("effect %s", s.renderEffect(e))
	}
	if s.out.Len() == 0 {
		s.printf("none")
	}
}

// crash: the host is lost, and with it all that was volatile; another one loads the run.
func scriptCrash(s *script, in input) {
	state, err := Load(nil, s.rows)
	require.NoError(s.t, err)
	s.state = state
	scriptEffects(s, in)
	s.printNext()
}
