package history

import (
	"context"
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
	waiting map[string]persistence.ExecutionKey
}

type effectKey struct {
	runID string
	id    int64
}

func newEffects(maxInFlight int) *effects {
	return &effects{max: maxInFlight, inFlight: map[effectKey]struct{}{}, waiting: map[string]persistence.ExecutionKey{}}
}

// begin reserves a place for an effect; false: it is under way already, or must wait.
func (e *effects) begin(key persistence.ExecutionKey, id effectKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, running := e.inFlight[id]; running {
		return false
	}
	if len(e.inFlight) >= e.max {
		e.waiting[id.runID] = key
		return false
	}
	e.inFlight[id] = struct{}{}
	return true
}

// end frees the place, and returns a run that waits for one.
func (e *effects) end(id effectKey) (key persistence.ExecutionKey, runID string, waiting bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.inFlight, id)
	for runID, key = range e.waiting {
		delete(e.waiting, runID)
		return key, runID, true
	}
	return key, "", false
}

func (e *effects) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.inFlight)
}

// target is the run that an effect belongs to, without a pointer to it: the cached run may be replaced meanwhile.
type target struct {
	key   persistence.ExecutionKey
	runID string
}

// resume carries out whatever a run's state still asks for.
func (x *access) resume(r *run) { x.carryOut(r, r.state.PendingEffects()) }

// carryOut starts effects of a run. It does not block, and the effects do not run under the lock.
func (x *access) carryOut(r *run, list []workflow.Effect) {
	for _, e := range list {
		id := effectKey{runID: r.id, id: e.EffectID()}
		if !x.effects.begin(x.chain.key, id) {
			continue
		}
		t := target{key: x.chain.key, runID: r.id}
		s := x.Service
		if !s.background(func() { s.insistOn(t, e, id) }) {
			x.effects.end(id)
		}
	}
}

// insistOn carries out one effect, with retries for as long as the state asks for it.
func (s *Service) insistOn(t target, e workflow.Effect, id effectKey) {
	defer func() {
		if key, runID, waiting := s.effects.end(id); waiting {
			s.resumeRun(s.ctx, key, runID)
		}
	}()
	for pause := (backoff{}); ; {
		err := s.perform(t, e)
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

// stillPending looks whether a run still asks for an effect. A run that is not in memory is not asked: it is resumed when it
// is loaded.
func (s *Service) stillPending(t target, e workflow.Effect) (pending bool) {
	err := s.with(s.ctx, t.key, func(x *access) error {
		r := x.peek(t.runID)
		pending = r != nil && asksFor(r.state, e)
		return nil
	})
	return err == nil && pending
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
		r := x.peek(t.runID)
		if r == nil {
			return nil // dropped: the effect is carried out once more when the run is loaded, which is harmless
		}
		_, err := x.transition(r, func(tx *workflow.Tx) error {
			tx.Acknowledge(id)
			return nil
		})
		return err
	})
}

// resumeRun carries out the effects of a run that is in memory.
func (s *Service) resumeRun(ctx context.Context, key persistence.ExecutionKey, runID string) {
	err := s.with(ctx, key, func(x *access) error {
		if r := x.peek(runID); r != nil {
			x.resume(r)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.logger.Debug("effects not resumed", zap.String("run_id", runID), zap.Error(err))
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
