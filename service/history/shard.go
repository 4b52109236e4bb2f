package history

import (
	"context"
	"fmt"
	"slices"
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
	// doubtful are held shards that nobody resolves yet; resolving: somebody does, and will look for more.
	doubtful  []persistence.ShardID
	resolving bool
	// lost are shards of which something may still be cached.
	lost []persistence.ShardID
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

// settle ends the doubt about shards: those with an epoch are used under it, the others are not used any more. What is no longer in
// doubt stays as it is: it has been given away meanwhile.
func (o *ownership) settle(shards []persistence.ShardID, epochs map[persistence.ShardID]persistence.Epoch) (kept, lost []persistence.ShardID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, shard := range shards {
		if !o.shards[shard].held {
			continue
		}
		epoch := epochs[shard]
		o.shards[shard] = shardState{epoch: epoch}
		if epoch != 0 {
			kept = append(kept, shard)
		} else {
			o.owned--
			lost = append(lost, shard)
		}
	}
	return kept, lost
}

// lose notes that a shard has another owner; false: it was not owned under the epoch.
func (o *ownership) lose(shard persistence.ShardID, epoch persistence.Epoch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if epoch == 0 || o.shards[shard].epoch != epoch {
		return false
	}
	o.shards[shard] = shardState{}
	o.owned--
	o.lost = append(o.lost, shard)
	return true
}

// nextLost takes the shards that were lost and of which something may still be cached.
func (o *ownership) nextLost() []persistence.ShardID {
	o.mu.Lock()
	defer o.mu.Unlock()
	shards := o.lost
	o.lost = nil
	return shards
}

// hold stops the use of a shard, and tells whether it was in use under the epoch, and whether it is the first to be resolved.
func (o *ownership) hold(shard persistence.ShardID, epoch persistence.Epoch) (held, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if st := o.shards[shard]; epoch == 0 || st.epoch != epoch || st.held {
		return false, false
	}
	return true, o.holdLocked(shard)
}

// holdAll is hold for everything that is owned.
func (o *ownership) holdAll() (shards []persistence.ShardID, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, st := range o.shards {
		if st.epoch != 0 && !st.held {
			shard := persistence.ShardID(i)
			first = o.holdLocked(shard) || first
			shards = append(shards, shard)
		}
	}
	return shards, first
}

func (o *ownership) holdLocked(shard persistence.ShardID) (first bool) {
	o.shards[shard].held = true
	o.doubtful = append(o.doubtful, shard)
	first = !o.resolving
	o.resolving = true
	return first
}

// nextHeld takes the shards that wait to be resolved; none: whoever resolves them is done.
func (o *ownership) nextHeld() []persistence.ShardID {
	o.mu.Lock()
	defer o.mu.Unlock()
	shards := o.doubtful
	o.doubtful = nil
	o.resolving = len(shards) > 0
	return shards
}

// stillHeld leaves out the shards that are not in doubt any more.
func (o *ownership) stillHeld(shards []persistence.ShardID) []persistence.ShardID {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(shards), func(shard persistence.ShardID) bool { return !o.shards[shard].held })
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

// Take makes this host the owner of shards and begins to serve them. Runs with effects under way are resumed in the background:
// their callers, and everybody else, are served meanwhile.
func (s *Service) Take(ctx context.Context, shards []persistence.ShardID) error {
	if err := s.take(ctx, shards); err != nil {
		return err
	}
	s.recoverSoon(shards)
	return nil
}

// Release stops the use of shards: another host is to take them. What only this host knows (acknowledgements, heartbeats, who works
// on a task) is written first, for as long as ctx lasts.
func (s *Service) Release(ctx context.Context, shards []persistence.ShardID) {
	s.flush(ctx, shards) // most of it, while calls still come in
	for _, shard := range shards {
		s.ownership.set(shard, 0)
	}
	s.dropStale(ctx, shards)
}

// Verify asks the database who owns the shards in use, and stops the use of those that are another's.
func (s *Service) Verify(ctx context.Context) error {
	owners, err := s.store.ShardOwners(ctx)
	if err != nil {
		return fmt.Errorf("read who owns the shards: %w", err)
	}
	for _, stored := range owners {
		if st := s.ownership.get(stored.Shard); st.epoch != 0 && stored.Owner != s.owner && stored.Epoch > st.epoch {
			s.lost(stored.Shard, st.epoch)
		}
	}
	return nil
}

// Owned lists the shards in use.
func (s *Service) Owned() []persistence.ShardID { return s.ownership.list() }

// take makes this host the owner of shards, and drops what it knew of them before. Runs with effects are resumed by recover.
func (s *Service) take(ctx context.Context, shards []persistence.ShardID) error {
	epochs, err := s.store.TakeShards(ctx, s.owner, shards)
	if err != nil {
		return fmt.Errorf("take %d shards: %w", len(shards), err)
	}
	for _, shard := range shards {
		s.ownership.set(shard, epochs[shard]) // 0 if it could not be taken
	}
	s.dropStale(s.ctx, shards)
	return nil
}

// lost notes that a shard has another owner.
func (s *Service) lost(shard persistence.ShardID, epoch persistence.Epoch) {
	if s.ownership.lose(shard, epoch) { // else it was taken again meanwhile, or this was noticed before
		s.background(s.dropLost)
	}
}

// dropLost drops what is cached of shards that were lost. Many are lost together: only the first call finds them.
func (s *Service) dropLost() {
	shards := s.ownership.nextLost()
	if len(shards) == 0 {
		return
	}
	s.dropStale(s.ctx, shards)
	s.shardsLost(shards)
}

// shardsLost says that shards have another owner, who may not keep them.
func (s *Service) shardsLost(shards []persistence.ShardID) {
	s.logger.Warn("shards have another owner", zap.Int("count", len(shards)), zap.Int32("first", int32(shards[0])))
	if s.placement != nil {
		s.placement.Check()
	}
}

// resolve finds out what became of a commit with unknown outcome: once the shard is taken from oneself, it is stored or never
// will be. Until then nothing of the shard is read or written. Shards that fall into doubt together are taken together. What has
// become another's meanwhile (this host may have been frozen) is left to it.
func (s *Service) resolve(shard persistence.ShardID, epoch persistence.Epoch) {
	held, first := s.ownership.hold(shard, epoch)
	if !held {
		return
	}
	if first {
		s.background(s.takeHeld)
	}
}

// DatabaseChanged tells the service that the database is another server, or has gone back in time: what this host remembers may
// not be what is stored, and all its commits are fenced. It takes its shards again.
func (s *Service) DatabaseChanged(reason string) {
	shards, first := s.ownership.holdAll()
	if len(shards) == 0 {
		return
	}
	s.logger.Warn("the database has changed", zap.String("reason", reason))
	if first {
		s.background(s.takeHeld)
	}
}

// takeHeld takes the shards in doubt, until there are none.
func (s *Service) takeHeld() {
	for {
		shards := s.ownership.nextHeld()
		if len(shards) == 0 {
			return
		}
		s.logger.Warn("it is in doubt what is stored: taking shards again", zap.Int("count", len(shards)), zap.Int32("first", int32(shards[0])))
		var kept, lost []persistence.ShardID
		taken := s.insist("take held shards", func(ctx context.Context) error {
			shards = s.ownership.stillHeld(shards) // the others have been released meanwhile
			if len(shards) == 0 {
				return nil
			}
			epochs, err := s.store.RetakeShards(ctx, s.owner, shards)
			if err == nil {
				kept, lost = s.ownership.settle(shards, epochs)
			}
			return err
		})
		if !taken {
			return // the service stops
		}
		s.dropStale(s.ctx, slices.Concat(kept, lost))
		if len(lost) > 0 {
			s.shardsLost(lost)
		}
		if len(kept) > 0 {
			s.recoverSoon(kept)
		}
	}
}

// insist tries something until it succeeds; false: the service stopped before.
func (s *Service) insist(what string, try func(context.Context) error) bool {
	for pause := (backoff{max: takeRetryMax}); ; {
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
// them goes on elsewhere. If the shards are being given away, what only memory knows of them is written first, for as long as ctx
// lasts: the epoch under which a run was loaded holds until the next owner comes.
func (s *Service) dropStale(ctx context.Context, shards []persistence.ShardID) {
	in := make(map[persistence.ShardID]bool, len(shards))
	for _, shard := range shards {
		in[shard] = true
	}
	found := s.chains.all(func(key persistence.ExecutionKey) bool { return in[key.Shard()] })
	for group := range slices.Chunk(found, clearGroup) {
		var wait sync.WaitGroup
		for _, c := range group {
			wait.Go(func() {
				s.dropChain(ctx, c)
				s.chains.put(c)
			})
		}
		wait.Wait()
	}
}

func (s *Service) dropChain(ctx context.Context, c *chain) {
	_ = c.lock(context.Background()) // succeeds in time: whoever holds the lock waits for a commit at most
	defer c.unlock()
	epoch := s.ownership.get(c.key.Shard()).epoch
	if c.epoch == epoch {
		return
	}
	if epoch == 0 {
		x := &access{Service: s, ctx: ctx, chain: c, now: s.now()}
		for _, r := range c.runs {
			if ctx.Err() != nil || x.clear(r, true) != nil {
				break // its next owner will offer some tasks again
			}
		}
	}
	s.dropRuns(c)
}

func allShards() []persistence.ShardID {
	shards := make([]persistence.ShardID, persistence.ShardCount)
	for i := range shards {
		shards[i] = persistence.ShardID(i)
	}
	return shards
}
