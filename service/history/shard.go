package history

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
)

// ownership is which shards this host owns, and under which epoch. It says what to try, not what is allowed: that is the
// store's check in each commit.
type ownership struct {
	mu     sync.RWMutex
	shards [persistence.ShardCount]shardState
	owned  int
}

type shardState struct {
	epoch persistence.Epoch // 0: not owned
	held  bool              // a commit's outcome is being found out
}

func (o *ownership) get(shard persistence.ShardID) shardState {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.shards[shard]
}

func (o *ownership) set(shard persistence.ShardID, epoch persistence.Epoch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch had := o.shards[shard].epoch != 0; {
	case epoch != 0 && !had:
		o.owned++
	case epoch == 0 && had:
		o.owned--
	}
	o.shards[shard] = shardState{epoch: epoch}
}

// hold stops the use of a shard, and tells whether it was in use under the epoch.
func (o *ownership) hold(shard persistence.ShardID, epoch persistence.Epoch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := &o.shards[shard]
	if st.epoch != epoch || st.held {
		return false
	}
	st.held = true
	return true
}

func (o *ownership) list() []persistence.ShardID {
	o.mu.RLock()
	defer o.mu.RUnlock()
	var shards []persistence.ShardID
	for i, st := range o.shards {
		if st.epoch != 0 {
			shards = append(shards, persistence.ShardID(i))
		}
	}
	return shards
}

func (o *ownership) count() int {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.owned
}

// owns returns the epoch under which this host owns a shard, or the error that its callers get.
func (s *Service) owns(shard persistence.ShardID) (persistence.Epoch, error) {
	switch st := s.ownership.get(shard); {
	case st.held:
		return 0, errHeld
	case st.epoch == 0:
		return 0, errShardMoved(shard, s.ownerOf(shard))
	default:
		return st.epoch, nil
	}
}

// take makes this host the owner of shards, and drops what it knew of them before. Runs with effects are resumed by recover.
func (s *Service) take(ctx context.Context, shards []persistence.ShardID) error {
	epochs, err := s.store.TakeShards(ctx, s.owner, shards)
	if err != nil {
		return fmt.Errorf("take %d shards: %w", len(shards), err)
	}
	for _, shard := range shards {
		s.ownership.set(shard, epochs[shard]) // 0 if it could not be taken
	}
	s.dropStale(shards)
	return nil
}

// release stops the use of shards: another host is to take them. What only this host knows (acknowledgements) is written first.
func (s *Service) release(ctx context.Context, shards []persistence.ShardID) {
	s.flush(ctx, shards)
	for _, shard := range shards {
		s.ownership.set(shard, 0)
	}
	s.dropStale(shards)
}

// lost notes that a shard has another owner.
func (s *Service) lost(shard persistence.ShardID, epoch persistence.Epoch) {
	if s.ownership.get(shard).epoch != epoch {
		return // taken again meanwhile
	}
	s.logger.Warn("shard has another owner", zap.Int32("shard", int32(shard)), zap.Int64("epoch", int64(epoch)))
	s.ownership.set(shard, 0)
	s.background(func() { s.dropStale([]persistence.ShardID{shard}) })
}

// resolve finds out what became of a commit with unknown outcome: once the shard is taken from oneself, it is stored or never
// will be. Until then nothing of the shard is read or written.
func (s *Service) resolve(shard persistence.ShardID, epoch persistence.Epoch) {
	if !s.ownership.hold(shard, epoch) {
		return
	}
	s.logger.Warn("outcome of a commit is unknown: taking the shard again", zap.Int32("shard", int32(shard)))
	s.background(func() {
		shards := []persistence.ShardID{shard}
		if s.insist("take a held shard", func(ctx context.Context) error { return s.take(ctx, shards) }) {
			s.recover(shards)
		}
	})
}

// insist tries something until it succeeds; false: the service stopped before.
func (s *Service) insist(what string, try func(context.Context) error) bool {
	for pause := (backoff{}); ; {
		ctx, cancel := context.WithTimeout(s.ctx, commitTimeout)
		err := try(ctx)
		cancel()
		if err == nil {
			return true
		}
		if s.ctx.Err() != nil {
			return false
		}
		s.logger.Warn("trying again", zap.String("operation", what), zap.Error(err))
		if !sleep(s.ctx, pause.next()) {
			return false
		}
	}
}

// dropStale drops the cached runs of shards that were loaded under another epoch than the present one, so that whoever waits on
// them hears of it.
func (s *Service) dropStale(shards []persistence.ShardID) {
	in := make(map[persistence.ShardID]bool, len(shards))
	for _, shard := range shards {
		in[shard] = true
	}
	for _, c := range s.chains.all(func(key persistence.ExecutionKey) bool { return in[key.Shard()] }) {
		if err := c.lock(s.ctx); err == nil {
			if c.epoch != s.ownership.get(c.key.Shard()).epoch {
				s.dropRuns(c)
			}
			c.unlock()
		}
		s.chains.put(c)
	}
}

func allShards() []persistence.ShardID {
	shards := make([]persistence.ShardID, persistence.ShardCount)
	for i := range shards {
		shards[i] = persistence.ShardID(i)
	}
	return shards
}
