package matching

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/durationpb"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
	statepb "github.com/perdure/perdure/api/state/v1"
)

// fetchRetryDelay is the pause after a request for tokens that failed: their giver is moving.
const fetchRetryDelay = 100 * time.Millisecond

// keyWeights are the weights, by fairness key, that tasks name, if not 1: their limits go by them. Safe for concurrent use.
type keyWeights struct {
	mu     sync.Mutex
	byName map[string]float32
}

func (w *keyWeights) get(key string) float32 {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byName[key]
}

// note remembers a weight. If there are too many it forgets some: the keys' tasks name them again.
func (w *keyWeights) note(key string, weight float32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byName[key] == weight {
		return
	}
	if weight == 0 || weight == 1 {
		delete(w.byName, key)
		return
	}
	if w.byName == nil {
		w.byName = make(map[string]float32)
	}
	for name := range w.byName {
		if len(w.byName) < fairKeysMax {
			break
		}
		delete(w.byName, name)
	}
	w.byName[key] = weight
}

// fetchTokens asks for tokens that tasks wait for, unless that is under way. Locked by the caller.
func (p *partition) fetchTokens() {
	if p.fetching || p.closed || p.key.sticky {
		return
	}
	p.fetching = true
	ctx := p.life()
	p.service.spawn(func() { p.fetchLoop(ctx) })
}

// fetchLoop ends when no task waits for tokens.
func (p *partition) fetchLoop(ctx context.Context) {
	for {
		p.mu.Lock()
		if !p.closed {
			p.dispatch() // it is the current want that counts
		}
		request := p.tokenRequest()
		if request == nil {
			p.fetching = false
			p.mu.Unlock()
			return
		}
		p.reportDue = false
		p.mu.Unlock()
		response, err := p.takeTokens(ctx, request)
		if err != nil {
			p.service.logger.Debug("no tokens", zap.String("task_queue", p.key.TaskQueue), zap.Error(err))
			p.mu.Lock()
			p.reportDue = true
			p.mu.Unlock()
			pause(ctx, fetchRetryDelay)
			continue
		}
		p.gotTokens(response)
	}
}

// tokenRequest is what to ask for; nil: nothing. Locked by the caller.
func (p *partition) tokenRequest() *matchingpb.TakeTokensRequest {
	if p.closed {
		return nil
	}
	now := p.service.now()
	p.matcher.purse.expire(now)
	var returned map[string]int32
	if p.matcher.polls.Len() == 0 {
		// Whoever dispatches next may be elsewhere. The root need not even send them, so it keeps none.
		returned = p.matcher.purse.giveUp(p.isRoot(), now)
	}
	if len(p.wanted) == 0 && len(returned) == 0 && !p.reportDue {
		return nil
	}
	request := &matchingpb.TakeTokensRequest{
		Partition:   p.key.root().proto(),
		Asker:       p.key.Partition,
		Wanted:      make(map[string]int32, len(p.wanted)),
		Returned:    returned,
		WorkerLimit: p.worker.proto(now),
	}
	for name, n := range p.wanted {
		request.Wanted[name] = int32(n)
		if name == queueLimit {
			continue
		}
		if weight := p.keyWeights.get(name[len(keyLimit):]); weight != 0 {
			if request.KeyWeights == nil {
				request.KeyWeights = make(map[string]float64)
			}
			request.KeyWeights[name[len(keyLimit):]] = float64(weight)
		}
	}
	return request
}

func (p *partition) takeTokens(ctx context.Context, request *matchingpb.TakeTokensRequest) (*matchingpb.TakeTokensResponse, error) {
	if p.isRoot() {
		return p.giveTokens(ctx, request)
	}
	return p.service.peers.TakeTokens(ctx, request)
}

func (p *partition) gotTokens(response *matchingpb.TakeTokensResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.service.now()
	purse := &p.matcher.purse
	for name, g := range response.GetGranted() {
		switch {
		case !g.GetUnlimited():
			purse.put(name, int(g.GetTokens()), g.GetValid().AsDuration(), now)
		case name == queueLimit:
			p.told = true
			purse.setLimits(false, purse.keys)
		default:
			purse.setLimits(purse.queue, false)
		}
	}
}

// TakeTokens gives tokens of the queue's limits to one of its partitions.
func (s *Service) TakeTokens(ctx context.Context, req *matchingpb.TakeTokensRequest) (*matchingpb.TakeTokensResponse, error) {
	key, err := keyOf(req.GetPartition())
	if err != nil {
		return nil, err
	}
	if key.sticky || key.Partition != 0 {
		return nil, serviceerror.NewInvalidArgument("only the root of a normal task queue has tokens")
	}
	p, err := s.enter(ctx, req.GetPartition(), true)
	if err != nil {
		return nil, err
	}
	defer p.leave()
	return p.giveTokens(ctx, req)
}

// giveTokens answers a request at the root.
func (p *partition) giveTokens(ctx context.Context, req *matchingpb.TakeTokensRequest) (*matchingpb.TakeTokensResponse, error) {
	p.mu.Lock()
	p.noteTold(req.GetWorkerLimit(), p.service.now())
	l, closed := p.limiter, p.closed
	p.mu.Unlock()
	if closed {
		return nil, errMoved()
	}
	for key, weight := range req.GetKeyWeights() {
		p.keyWeights.note(key, float32(weight))
	}
	response := &matchingpb.TakeTokensResponse{Granted: make(map[string]*matchingpb.Grant)}
	if l == nil {
		for name := range req.GetWanted() {
			response.Granted[name] = &matchingpb.Grant{Unlimited: true}
		}
		return response, nil
	}
	granted, err := l.take(ctx, counts(req.GetWanted()), counts(req.GetReturned()))
	for name, g := range granted {
		response.Granted[name] = &matchingpb.Grant{Tokens: int32(g.n), Valid: durationpb.New(g.valid), Unlimited: g.unlimited}
		p.service.metrics.tokens.Add(float64(g.n))
	}
	return response, err
}

func counts(numbers map[string]int32) map[string]int {
	m := make(map[string]int, len(numbers))
	for name, n := range numbers {
		m[name] = int(n)
	}
	return m
}

// renewTokens has the row of the root written, which proves that no other host gives out tokens. It may be called under any lock.
func (p *partition) renewTokens() {
	if p.renewing.Swap(true) {
		return
	}
	p.service.spawn(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			return
		}
		if p.backlog == nil {
			p.backlog = &backlog{}
		}
		p.wantWrite()
	})
}

// admitTokens lets a new limiter begin, as far as the row's earlier owner allows. Locked by the caller.
func (p *partition) admitTokens() {
	if p.limiter == nil || p.earlier == nil {
		return
	}
	var from time.Time
	if p.earlier.GetGivingTokens() {
		from = p.takenAt.Add(tokenLease)
	}
	p.limiter.restore(p.earlier.GetTokensLeft())
	p.limiter.allow(from, time.Time{})
	p.earlier = &statepb.TaskQueue{}
}

// tokensProven notes that a fenced write of the row, begun at a time, was committed, with the metadata saying that tokens are given
// out. Locked by the caller.
func (p *partition) tokensProven(begun time.Time) {
	p.renewing.Store(false)
	if p.limiter != nil && !p.closed {
		p.limiter.allow(time.Time{}, begun.Add(tokenLease))
	}
}
