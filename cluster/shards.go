package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	clusterpb "github.com/perdure/perdure/api/cluster/v1"
	"github.com/perdure/perdure/persistence"
)

const (
	// takeBatch is how many shards change hands at once: each is without an owner only for as long as its batch takes.
	takeBatch = 256
	// takeTimeout bounds the taking of a batch, releaseTimeout the asking for it.
	takeTimeout    = 30 * time.Second
	releaseTimeout = 5 * time.Second
	// A member that could not get all of its shards tries again after a time that doubles from takeRetryMin to takeRetryMax.
	takeRetryMin = 50 * time.Millisecond
	takeRetryMax = 2 * time.Second
	// checkEvery is how often a member compares what it owns with what it is to own, even if nothing has happened that it knows of.
	checkEvery = 10 * time.Second
	// verifyEvery is how often it asks the database whether it really owns that. An idle member makes one transaction for it.
	verifyEvery = 20 * time.Second
)

// ShardHolder is what holds shards: the history service of this process. Calls of Take and Release do not overlap.
type ShardHolder interface {
	// Take makes this process the owner of shards, and begins to serve them. What it did not get it does not list as Owned.
	Take(ctx context.Context, shards []persistence.ShardID) error
	// Release stops the use of shards; when it returns no call can use them any more, and what only this process knew of them is
	// written. It cannot fail: a shard that cannot be flushed is given up all the same.
	Release(ctx context.Context, shards []persistence.ShardID)
	// Owned lists what is in use.
	Owned() []persistence.ShardID
	// Verify asks the database who owns what is in use, and stops the use of what is another's.
	Verify(ctx context.Context) error
}

// Shards keeps the shards that a history service owns in step with the view: it takes what belongs to nobody alive, asks the
// former owner for the rest, and gives away what others ask for. A shard that is to move stays in use until its new owner comes
// for it.
type Shards struct {
	m      *Membership
	holder ShardHolder
	logger *zap.Logger

	// moving is held while shards change hands: whoever is asked for a shard must not be about to take it.
	moving chan struct{}

	mu    sync.Mutex
	hints map[persistence.ShardID]string // where shards are that the view would look for here
	ready bool

	// verifyAt is when to verify next.
	verifyAt time.Time

	// surplus is what was owned at surplusAt although it is to be another's; only the driver's goroutine uses it.
	surplus   map[persistence.ShardID]bool
	surplusAt time.Time

	kick   chan struct{} // something may have changed
	given  chan struct{} // shards were given away
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// NewShards makes the driver for a holder that owns nothing yet. There is one per membership.
func NewShards(m *Membership, holder ShardHolder) *Shards {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Shards{
		m:      m,
		holder: holder,
		logger: m.logger,
		moving: make(chan struct{}, 1),
		hints:  map[persistence.ShardID]string{},
		kick:   make(chan struct{}, 1),
		given:  make(chan struct{}, 1),
		ctx:    ctx,
		cancel: cancel,
	}
	m.shards.Store(s)
	m.OnYield(s.yield)
	return s
}

// Start begins to take shards, in the background. The membership must have joined, and the holder be able to serve.
func (s *Shards) Start() {
	changed, stop := s.m.Watch()
	s.work.Go(func() {
		defer stop()
		s.run(changed)
	})
}

// Stop ends the taking of shards. What is owned stays owned, and is still given to those who ask.
func (s *Shards) Stop() {
	s.cancel()
	s.work.Wait()
}

// Drain has the others take over, and returns when this process owns nothing any more, there is nobody to give it to, or ctx ends
// (with its error). It ends the taking of shards.
func (s *Shards) Drain(ctx context.Context) error {
	s.Stop()
	if err := s.m.Drain(ctx); err != nil {
		return err
	}
	changed, stop := s.m.Watch()
	defer stop()
	for {
		left := len(s.holder.Owned())
		if left == 0 || !s.successors() {
			return nil
		}
		select {
		case <-s.given:
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("give away %d shards: %w", left, ctx.Err())
		}
	}
}

// successors tells whether there is a member that can take over.
func (s *Shards) successors() bool {
	return slices.ContainsFunc(s.m.View().Live(History), func(m persistence.Member) bool {
		return m.ID != s.m.self.ID && !m.Draining
	})
}

// Check has what is owned compared with what is to be owned: a shard was lost, say.
func (s *Shards) Check() { notify(s.kick) }

// Ready tells whether this member has once got all the shards that it was to have.
func (s *Shards) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// OwnerAddress is where a shard is served that this process does not own; "" if that is not known.
func (s *Shards) OwnerAddress(shard persistence.ShardID) string {
	view := s.m.View()
	s.mu.Lock()
	hint := s.hints[shard]
	s.mu.Unlock()
	if _, live := view.at(hint); hint != "" && live {
		return hint
	}
	if owner, ok := view.ShardOwner(shard); ok && owner.ID != s.m.self.ID {
		return owner.Address
	}
	return ""
}

func (s *Shards) run(changed <-chan struct{}) {
	retry := takeRetryMin
	for {
		wait := checkEvery
		if s.balance() {
			retry = takeRetryMin
		} else {
			wait = retry/2 + rand.N(retry)
			retry = min(2*retry, takeRetryMax)
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-s.kick:
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// balance gets the shards that this member is to own and does not; false if it did not get them all.
func (s *Shards) balance() bool {
	if !s.m.Valid() {
		return false
	}
	s.verify(s.ctx)
	s.dropSurplus(s.ctx)
	missing := s.missing()
	for batch := range slices.Chunk(missing, takeBatch) {
		if err := s.get(batch); err != nil {
			if s.ctx.Err() == nil {
				s.logger.Warn("cannot take shards; trying again", zap.Int("shards", len(batch)), zap.Error(err))
			}
			return false
		}
		if s.ctx.Err() != nil {
			return false
		}
	}
	if len(missing) > 0 && len(s.missing()) > 0 {
		return false
	}
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
	return true
}

// verify finds shards that were taken from this member without its knowledge: whoever did so may be gone by now, and as long as this
// member has nothing to write there nobody would carry on.
func (s *Shards) verify(ctx context.Context) {
	now := time.Now()
	if now.Before(s.verifyAt) || s.lock(ctx) != nil {
		return
	}
	defer s.unlock()
	asked, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if err := s.holder.Verify(asked); err != nil {
		s.logger.Warn("cannot verify who owns which shard; trying again", zap.Error(err))
		return
	}
	s.verifyAt = now.Add(verifyEvery)
}

// dropSurplus gives up what has been another's for checkEvery without being asked for: the other may believe that it has it already,
// until it verifies that.
func (s *Shards) dropSurplus(ctx context.Context) {
	now := time.Now()
	if now.Sub(s.surplusAt) < checkEvery {
		return
	}
	s.surplusAt = now
	if err := s.lock(ctx); err != nil {
		return
	}
	defer s.unlock()
	before := s.surplus
	s.surplus = map[persistence.ShardID]bool{}
	view := s.m.View()
	var overdue []persistence.ShardID
	for _, shard := range s.holder.Owned() {
		if owner, known := view.ShardOwner(shard); known && owner.ID != s.m.self.ID {
			s.surplus[shard] = true
			if before[shard] {
				overdue = append(overdue, shard)
			}
		}
	}
	if len(overdue) > 0 {
		release, cancel := context.WithTimeout(ctx, releaseTimeout)
		defer cancel()
		s.logger.Warn("nobody asked for shards that are to be others'; giving them up", zap.Int("shards", len(overdue)))
		s.holder.Release(release, overdue)
	}
}

// missing lists what this member is to own and does not.
func (s *Shards) missing() []persistence.ShardID {
	var owned [persistence.ShardCount]bool
	for _, shard := range s.holder.Owned() {
		owned[shard] = true
	}
	view := s.m.View()
	var missing []persistence.ShardID
	for shard := persistence.ShardID(0); shard < persistence.ShardCount; shard++ {
		if owner, _ := view.ShardOwner(shard); !owned[shard] && owner.ID == s.m.self.ID {
			missing = append(missing, shard)
		}
	}
	return missing
}

// get asks every live member for shards, since any may have them, and takes what nobody keeps.
func (s *Shards) get(shards []persistence.ShardID) error {
	kept, err := s.ask(shards)
	if err != nil {
		return err
	}
	free := make([]persistence.ShardID, 0, len(shards))
	s.mu.Lock()
	for _, shard := range shards {
		if address := kept[shard]; address != "" {
			s.hints[shard] = address
		} else {
			free = append(free, shard)
		}
	}
	s.mu.Unlock()
	if len(free) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, takeTimeout)
	defer cancel()
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	// What was asked for is not this member's any more if the view has changed: by now it may have been promised to another.
	view := s.m.View()
	free = slices.DeleteFunc(free, func(shard persistence.ShardID) bool {
		owner, _ := view.ShardOwner(shard)
		return owner.ID != s.m.self.ID
	})
	if len(free) == 0 || !s.m.Valid() {
		return nil
	}
	if err := s.holder.Take(ctx, free); err != nil {
		return fmt.Errorf("take shards: %w", err)
	}
	s.m.metrics.shardsTaken.Add(float64(len(free)))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range free {
		delete(s.hints, shard)
	}
	return nil
}

// ask asks the live members for shards. It returns who keeps which, and fails if a live member did not answer.
func (s *Shards) ask(shards []persistence.ShardID) (kept map[persistence.ShardID]string, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, releaseTimeout)
	defer cancel()
	ids := make([]int32, len(shards))
	for i, shard := range shards {
		ids[i] = int32(shard)
	}
	var (
		mu    sync.Mutex
		asked sync.WaitGroup
	)
	kept = map[persistence.ShardID]string{}
	for _, member := range s.m.View().Live(History) {
		if member.ID == s.m.self.ID {
			continue
		}
		asked.Go(func() {
			response, askErr := s.askMember(ctx, member, ids)
			mu.Lock()
			defer mu.Unlock()
			for _, shard := range response.GetKeptShardIds() {
				kept[persistence.ShardID(shard)] = member.Address
			}
			if _, live := s.m.View().Member(member.ID); askErr != nil && live {
				err = fmt.Errorf("ask %s for shards: %w", member.Address, askErr)
			}
		})
	}
	asked.Wait()
	return kept, err
}

func (s *Shards) askMember(ctx context.Context, member persistence.Member, ids []int32) (*clusterpb.ReleaseShardsResponse, error) {
	link, err := s.m.links.get(member)
	if err != nil {
		return nil, err
	}
	response, err := clusterpb.NewClusterServiceClient(link.conn).ReleaseShards(ctx, &clusterpb.ReleaseShardsRequest{
		MemberId: member.ID, NewOwnerId: s.m.self.ID, NewOwnerAddress: s.m.self.Address, ShardIds: ids,
	})
	if err != nil {
		s.m.ReportUnreachable(member.ID)
	}
	return response, err
}

// give releases what another member is to own, and returns what this one keeps: it disagrees about who is to own that. It agrees
// to anything while it is not Valid.
func (s *Shards) give(ctx context.Context, asker, address string, asked []persistence.ShardID) (kept []persistence.ShardID, err error) {
	if _, known := s.m.View().Member(asker); !known {
		_ = s.m.Refresh(ctx) // the asker is new; without an answer it stays unknown
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	var owned [persistence.ShardCount]bool
	for _, shard := range s.holder.Owned() {
		owned[shard] = true
	}
	view, valid := s.m.View(), s.m.Valid()
	var given []persistence.ShardID
	for _, shard := range asked {
		if !owned[shard] {
			continue
		}
		if owner, _ := view.ShardOwner(shard); valid && owner.ID == s.m.self.ID {
			kept = append(kept, shard)
		} else {
			given = append(given, shard)
		}
	}
	if len(given) == 0 {
		return kept, nil
	}
	s.mu.Lock()
	for _, shard := range given {
		s.hints[shard] = address
	}
	s.mu.Unlock()
	// Not the caller's context: half a release helps nobody.
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	s.holder.Release(release, given)
	s.m.metrics.shardsGiven.Add(float64(len(given)))
	notify(s.given)
	return kept, nil
}

// yield gives up everything: others may have taken it.
func (s *Shards) yield(ctx context.Context) {
	if err := s.lock(ctx); err != nil {
		return // the membership ends, and with it all ownership
	}
	release, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	s.holder.Release(release, s.holder.Owned())
	s.unlock()
	s.Check()
}

func (s *Shards) lock(ctx context.Context) error {
	select {
	case s.moving <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Shards) unlock() { <-s.moving }
