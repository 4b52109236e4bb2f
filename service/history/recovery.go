package history

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
)

// recoverSoon is recover in the background.
func (s *Service) recoverSoon(shards []persistence.ShardID) {
	count := int64(len(shards))
	s.recovering.Add(count)
	recovers := s.background(func() {
		defer s.recovering.Add(-count)
		s.recover(shards)
	})
	if !recovers {
		s.recovering.Add(-count)
	}
}

// recover resumes what the former owner of shards left under way: the effects of runs that carry the flag, and the wake-ups
// within the horizon. Sleeping runs are not loaded.
func (s *Service) recover(shards []persistence.ShardID) {
	s.insist("read wake-ups", func(ctx context.Context) error { return s.readWakeups(ctx, shards, s.timers.current()) })
	s.insist("resume effects", func(ctx context.Context) error { return s.resumeShards(ctx, shards) })
}

func (s *Service) resumeShards(ctx context.Context, shards []persistence.ShardID) error {
	if len(shards) == 0 {
		return nil
	}
	total := 0
	for cursor := (persistence.ScanCursor{}); !cursor.Done; {
		var refs []persistence.RunRef
		var err error
		if refs, cursor, err = s.store.ScanEffects(ctx, shards, cursor, scanPage); err != nil {
			return err
		}
		total += len(refs)
		if err := s.loadAll(ctx, refs); err != nil {
			return err
		}
	}
	if total > 0 {
		s.logger.Info("runs with effects under way resumed", zap.Int("runs", total))
	}
	return nil
}

// loadAll loads runs, a few at a time: loading one that carries the flag resumes its effects.
func (s *Service) loadAll(ctx context.Context, refs []persistence.RunRef) error {
	var (
		wait  sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	slots := make(chan struct{}, recoverParallel)
	for _, ref := range refs {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			err := s.with(ctx, ref.Key, func(x *access) error {
				_, err := x.load(ref.RunID)
				return err
			})
			if err != nil && !s.notOurs(ref.Key) {
				mu.Lock()
				defer mu.Unlock()
				first = err
			}
		})
	}
	wait.Wait()
	return first
}

// notOurs tells whether a key's shard has been lost meanwhile.
func (s *Service) notOurs(key persistence.ExecutionKey) bool {
	return s.ownership.get(key.Shard()).epoch == 0
}
