package history

import (
	"context"
	"errors"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/telemetry"
)

// access is a locked execution in the hands of one call.
type access struct {
	*Service
	ctx   context.Context
	chain *chain
	now   time.Time
	// touched are the runs that the cache must look at again.
	touched []*run
}

func workflowKey(namespaceID, workflowID string) persistence.ExecutionKey {
	return persistence.ExecutionKey{NamespaceID: namespaceID, Kind: persistence.KindWorkflow, BusinessID: workflowID}
}

// with calls f with the execution locked. If what is cached turns out to be out of date, it is dropped and f is called once
// more, so f must keep nothing of a try that returned an error.
func (s *Service) with(ctx context.Context, key persistence.ExecutionKey, f func(*access) error) (err error) {
	ctx, span := telemetry.Start(ctx, "history.transition")
	span.SetString("perdure.workflow_id", key.BusinessID)
	defer func() { span.End(err) }()
	err = s.once(ctx, key, f)
	if errors.Is(err, errReload) {
		err = s.once(ctx, key, f)
	}
	if errors.Is(err, errReload) {
		return serviceerror.NewUnavailable("The workflow is being changed from elsewhere; try again.")
	}
	return err
}

func (s *Service) once(ctx context.Context, key persistence.ExecutionKey, f func(*access) error) error {
	c, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	x := &access{Service: s, ctx: ctx, chain: c, now: s.now()}
	defer s.unlock(x)
	return f(x)
}

// lock locks a key's chain and makes sure that what it caches was loaded under the shard's present epoch.
func (s *Service) lock(ctx context.Context, key persistence.ExecutionKey) (*chain, error) {
	shard := key.Shard()
	if _, err := s.owns(shard); err != nil {
		return nil, err
	}
	c, waiting := s.chains.get(key)
	if waiting > lockWaitersMax {
		s.chains.put(c)
		s.metrics.busy.Inc()
		return nil, serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW,
			"Too many calls wait for this workflow; try again in a moment.")
	}
	if err := c.lock(ctx); err != nil {
		s.chains.put(c)
		return nil, err
	}
	epoch, err := s.owns(shard)
	if err != nil {
		c.unlock()
		s.chains.put(c)
		return nil, err
	}
	if c.epoch != epoch {
		s.dropRuns(c)
		c.epoch = epoch
	}
	return c, nil
}

func (s *Service) unlock(x *access) {
	for _, r := range x.touched {
		if !r.dropped {
			s.cache.settle(r, x.now)
			s.timers.set(r.chain.key, r.id, r.wake())
		}
	}
	x.chain.unlock()
	s.chains.put(x.chain)
	s.evict()
}

// touch has the cache and the timers look at a run again when the lock is given back.
func (x *access) touch(r *run) {
	if !slices.Contains(x.touched, r) {
		x.touched = append(x.touched, r)
	}
}

// drop forgets a cached run. Whoever waits on it is woken.
func (s *Service) drop(r *run) {
	r.dropped = true
	delete(r.chain.runs, r.id)
	s.cache.remove(r)
	s.timers.forget(r.id)
	r.notify()
	if len(r.queries)+len(r.updates) > 0 {
		cause := s.whyDropped(r.chain.key.Shard())
		r.failQueries(cause)
		r.failUpdates(cause)
	}
}

// whyDropped is what those hear who waited on a run that is dropped: where its shard is now, or to try again.
func (s *Service) whyDropped(shard persistence.ShardID) error {
	if _, err := s.owns(shard); err != nil {
		return err
	}
	return errHeld
}

// dropRuns forgets everything about a key.
func (s *Service) dropRuns(c *chain) {
	for _, r := range c.runs {
		s.drop(r)
	}
	c.current = ""
}

// onRun calls f with a run's lock held, whoever owns its shard: to end a wait, which must always succeed.
func (s *Service) onRun(r *run, f func()) {
	s.chains.keep(r.chain)
	_ = r.chain.lock(context.Background()) // succeeds in time: whoever holds the lock waits for a commit at most
	f()
	if !r.dropped {
		s.cache.settle(r, s.now())
	}
	r.chain.unlock()
	s.chains.put(r.chain)
}

// evictionsMax bounds the runs that one call forgets.
const evictionsMax = 16

// evict forgets idle runs while memory is short.
func (s *Service) evict() {
	for range evictionsMax {
		r := s.cache.victim()
		if r == nil {
			break
		}
		c := r.chain
		s.chains.keep(c)
		if !c.tryLock() {
			s.cache.requeue(r)
			s.chains.put(c)
			continue
		}
		switch {
		case r.dropped:
		case r.pinned():
			s.cache.settle(r, s.now())
		default:
			s.drop(r)
			s.metrics.evictions.Inc()
		}
		c.unlock()
		s.chains.put(c)
	}
}
