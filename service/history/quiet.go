package history

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
)

// quietLoop clears the effects flag of runs that have come to rest, in groups: the store commits them together. A run whose
// effects are still under way is looked at again after it next changes.
func (s *Service) quietLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.cache.wake:
		case <-s.ctx.Done():
			return
		}
		runs, next := s.cache.rested(s.now(), quietAfter, clearGroup)
		if err := s.clearAll(s.ctx, runs, false); err != nil && s.ctx.Err() == nil {
			s.logger.Warn("effects flags not cleared; trying again", zap.Error(err))
			sleep(s.ctx, timerRetry)
		}
		if !next.IsZero() {
			timer.Reset(max(next.Sub(s.now()), 0))
		}
	}
}

// clearAll clears the flags of runs side by side, and returns one of the errors.
func (s *Service) clearAll(ctx context.Context, runs []*run, flush bool) error {
	var (
		wait  sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	for _, r := range runs {
		wait.Go(func() {
			err := s.with(ctx, r.chain.key, func(x *access) error { return x.clear(r, flush) })
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				first = err
			}
		})
	}
	wait.Wait()
	return first
}

// clear writes that a run needs no new owner's attention, with its acknowledgements and its exact wake-up. The decision is
// taken under the lock, which is held until it is written: the next transition that has effects sets the flag again. With
// flush set, what is only in memory of any run is written as well: its acknowledgements, heartbeats, who works on its task.
func (x *access) clear(r *run, flush bool) error {
	if r.dropped || !r.flagged && !(flush && hasVolatile(r.state)) {
		return nil
	}
	quiet := r.quiet()
	if !quiet && !flush {
		return nil
	}
	x.touch(r) // also after a failure: it is tried again
	c, err := x.begin(r, false)
	if err != nil {
		return err
	}
	c.tx.FlushVolatile()
	if err := c.finish(); err != nil {
		return err
	}
	w := &persistence.RunWrite{RunID: r.id, Bucket: r.bucket}
	if c.res.Durable {
		if w, err = c.row(); err != nil {
			return err
		}
		c.write = w
	}
	if quiet {
		w.SetHasEffects, w.HasEffects = true, false
		w.SetWakeAt, w.WakeAt = true, storedTime(c.tx.After().NextDeadline())
	} else if !c.res.Durable {
		return nil
	}
	if err := x.write(&persistence.Mutation{Key: x.chain.key, Epoch: x.chain.epoch, Runs: []persistence.RunWrite{*w}}); err != nil {
		return err
	}
	if c.res.Durable {
		x.applied(c)
	} else {
		r.stored(w)
	}
	return nil
}

// flush writes what is only in memory of the active runs of shards: their next owner is not to do it all again.
func (s *Service) flush(ctx context.Context, shards []persistence.ShardID) {
	in := make(map[persistence.ShardID]bool, len(shards))
	for _, shard := range shards {
		in[shard] = true
	}
	active := s.cache.activeRuns(func(r *run) bool { return in[r.chain.key.Shard()] })
	for len(active) > 0 && ctx.Err() == nil {
		n := min(clearGroup, len(active))
		if err := s.clearAll(ctx, active[:n], true); err != nil {
			s.logger.Warn("acknowledgements not written; some tasks will be offered again", zap.Error(err))
		}
		active = active[n:]
	}
}
