package history

import (
	"errors"
	"sync"

	"go.uber.org/zap"

	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

// effects is what is being carried out. An effect is retried until it is done or the run's state no longer asks for it; what
// does not fit waits in the state of its run and is looked at again when there is room.
type effects struct {
	max int

	mu       sync.Mutex
	inFlight map[effectKey]struct{}
	// waiting are runs that have effects for which there was no room.
	waiting map[*run]struct{}
}

// effectKey names an effect of a cached run. If the run is dropped and loaded again, the effects of what was dropped are no
// longer of interest: what they have done may have been lost with it (a task's start is in memory only), so that the loaded run
// carries out its effects anew, and takes no acknowledgement of the former ones.
type effectKey struct {
	run *run
	id  int64
}

func newEffects(maxInFlight int) *effects {
	return &effects{max: maxInFlight, inFlight: map[effectKey]struct{}{}, waiting: map[*run]struct{}{}}
}

// begin reserves a place for an effect; false: it is under way already, or must wait.
func (e *effects) begin(id effectKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, running := e.inFlight[id]; running {
		return false
	}
	if len(e.inFlight) >= e.max {
		e.waiting[id.run] = struct{}{}
		return false
	}
	e.inFlight[id] = struct{}{}
	return true
}

// end frees the place, and returns a run that waits for one; nil: none.
func (e *effects) end(id effectKey) *run {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.inFlight, id)
	for r := range e.waiting {
		delete(e.waiting, r)
		return r
	}
	return nil
}

func (e *effects) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.inFlight)
}

// target is the run that an effect belongs to.
type target struct {
	key   persistence.ExecutionKey
	runID string
	// run is the cached run that asked for it.
	run *run
	// sending, if set, is called when the effect is about to leave the host.
	sending func()
}

// resume carries out whatever a run's state still asks for.
func (x *access) resume(r *run) { x.carryOut(r, r.state.PendingEffects()) }

// carryOut starts effects of a run. It does not block, and the effects do not run under the lock.
func (x *access) carryOut(r *run, list []workflow.Effect) {
	order := turns{}
	for _, e := range list {
		id := effectKey{run: r, id: e.EffectID()}
		if !x.effects.begin(id) {
			continue
		}
		t := target{key: x.chain.key, runID: r.id, run: r}
		s := x.Service
		mine := turn{}
		if len(list) > 1 {
			mine = order.take(e)
		}
		if !s.background(func() { s.insistOn(t, e, id, mine) }) {
			mine.pass()
			x.effects.end(id)
		}
	}
}

// turns keep effects of one transition in the order of their commands where that shows: activities are sent to their queues
// one after the other, and another execution is addressed again only when it has been tried before (two signals to it, say).
// It is no more than that: retries go their own ways.
type turns map[string]chan struct{}

// turn is an effect's place in the order. The zero turn waits for nothing.
type turn struct {
	before, mine chan struct{}
	// early: the next may go on as soon as this one is sent off.
	early bool
}

func (o turns) take(e workflow.Effect) turn {
	key, early := "", false
	switch e := e.(type) {
	case workflow.DispatchActivity:
		key, early = "queue/"+e.Queue, true
	case workflow.StartChild:
		key = "workflow/" + e.Child.WorkflowId
	case workflow.ReleaseChild:
		key = "workflow/" + e.Child.WorkflowId
	case workflow.SendExternal:
		key = "workflow/" + e.External.Target.GetWorkflowId()
	default:
		return turn{}
	}
	t := turn{before: o[key], mine: make(chan struct{}), early: early}
	o[key] = t.mine
	return t
}

// await waits until it is this effect's turn.
func (t turn) await(done <-chan struct{}) {
	if t.before == nil {
		return
	}
	select {
	case <-t.before:
	case <-done:
	}
}

// pass lets the next effect go on.
func (t turn) pass() {
	if t.mine != nil {
		close(t.mine)
	}
}

// insistOn carries out one effect, with retries for as long as the state asks for it.
func (s *Service) insistOn(t target, e workflow.Effect, id effectKey, mine turn) {
	defer func() {
		if waiting := s.effects.end(id); waiting != nil {
			s.resumeRun(waiting)
		}
	}()
	mine.await(s.ctx.Done())
	for pause := (backoff{}); ; {
		if mine.early {
			t.sending = mine.pass
		}
		err := s.perform(t, e)
		if !mine.early {
			mine.pass()
		}
		mine, t.sending = turn{}, nil
		if err == nil || errors.Is(err, errNotAsked) {
			s.metrics.effectTries.WithLabelValues("done").Inc()
			return
		}
		if s.ctx.Err() != nil {
			return
		}
		s.metrics.effectTries.WithLabelValues("failed").Inc()
		s.logger.Debug("effect failed; it will be tried again", zap.String("namespace_id", t.key.NamespaceID),
			zap.String("workflow_id", t.key.BusinessID), zap.String("run_id", t.runID), zap.Int64("effect_id", e.EffectID()), zap.Error(err))
		if remote(e) && pause.tries >= remoteTriesMax && s.putOff(t, e) == nil {
			return
		}
		if !sleep(s.ctx, pause.next()) || !s.stillPending(t, e) {
			return
		}
	}
}

// stillPending looks whether the run that asked for an effect still does. One that has been dropped does not: whoever loads it
// resumes its effects. While that cannot be found out the effect is taken to be wanted.
func (s *Service) stillPending(t target, e workflow.Effect) (pending bool) {
	err := s.with(s.ctx, t.key, func(*access) error {
		pending = !t.run.dropped && asksFor(t.run.state, e)
		return nil
	})
	return pending || (err != nil && !s.notOurs(t.key))
}

// asksFor is whether an effect is among PendingEffects, without listing them where there can be thousands.
func asksFor(s *workflow.State, e workflow.Effect) bool {
	if s.Acknowledged(e.EffectID()) {
		return false
	}
	switch e := e.(type) {
	case workflow.DispatchWorkflowTask:
		task := s.Task()
		return task != nil && task.EffectId == e.ID && task.StartedEventId == 0
	case workflow.DispatchActivity:
		a := s.Activities[e.ScheduledEventID]
		return a != nil && a.EffectId == e.ID && a.StartedTime == nil
	case workflow.StartChild:
		c := s.Children[e.Child.InitiatedEventId]
		return c != nil && c.EffectId == e.ID && c.NextTry == nil
	case workflow.ReleaseChild:
		c := s.Children[e.Child.InitiatedEventId]
		return c != nil && c.EffectId == e.ID && c.NextTry == nil
	case workflow.SendExternal:
		x := s.Externals[e.External.InitiatedEventId]
		return x != nil && x.EffectId == e.ID && x.NextTry == nil
	}
	for _, c := range s.CloseEffects {
		if c.EffectId == e.EffectID() {
			return c.NextTry == nil
		}
	}
	return false
}

// acknowledge notes that an effect is done for good. It is in memory only and rides on the run's next write.
func (s *Service) acknowledge(t target, id int64) error {
	return s.with(s.ctx, t.key, func(x *access) error {
		if t.run.dropped {
			return nil
		}
		_, err := x.transition(t.run, func(tx *workflow.Tx) error {
			tx.Acknowledge(id)
			return nil
		})
		return err
	})
}

// resumeRun carries out the effects of a cached run for which there was no room before.
func (s *Service) resumeRun(r *run) {
	for pause := (backoff{}); ; {
		err := s.with(s.ctx, r.chain.key, func(x *access) error {
			if !r.dropped {
				x.resume(r)
			}
			return nil
		})
		if err == nil || s.notOurs(r.chain.key) || !sleep(s.ctx, pause.next()) {
			return
		}
	}
}

// perform carries out one effect once. An error means that it must be tried again.
func (s *Service) perform(t target, e workflow.Effect) error {
	switch e := e.(type) {
	case workflow.DispatchWorkflowTask:
		return s.dispatchWorkflowTask(t, e)
	case workflow.DispatchActivity:
		return s.dispatchActivity(t, e)
	default:
		return s.performRemote(t, e)
	}
}
