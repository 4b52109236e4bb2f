// Package historytest has what tests of the history service need of the world outside: a store in memory whose commits can
// fail in every way that a database's can, and a matching service that does what a test says.
package historytest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/persistence"
)

// Store keeps executions and namespaces in memory. It checks what the history service promises the store: rows without gaps,
// one open run per key, commits under the present epoch only.
type Store struct {
	mu     sync.Mutex
	epochs map[persistence.ShardID]persistence.Epoch
	owners map[persistence.ShardID]string
	runs   map[string]*row                     // by run id
	logs   map[string][]persistence.Transition // by run id; a log may come before its run
	spaces map[string]*persistence.NamespaceRecord

	commits int
	reads   int
	// fault decides the fate of a commit; nil: all succeed. It is called without the store's lock.
	fault func(*persistence.Mutation) Fault
}

// Fault is how a commit ends.
type Fault struct {
	// Err is what the caller is told.
	Err error
	// Applied: the mutation is stored all the same.
	Applied bool
	// Hold, if set, is waited for before the commit goes on.
	Hold <-chan struct{}
}

type row struct {
	persistence.Run
	visibility *persistence.VisibilityRow
}

// NewStore makes an empty store.
func NewStore() *Store {
	return &Store{
		epochs: map[persistence.ShardID]persistence.Epoch{},
		owners: map[persistence.ShardID]string{},
		runs:   map[string]*row{},
		logs:   map[string][]persistence.Transition{},
		spaces: map[string]*persistence.NamespaceRecord{},
	}
}

// SetFault sets what decides the fate of commits from now on; nil: they succeed.
func (s *Store) SetFault(fault func(*persistence.Mutation) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Commits is how many commits have been applied, Reads how many calls read executions or events.
func (s *Store) Commits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

// Reads is how many calls have read executions or events.
func (s *Store) Reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// Visibility returns a run's visibility row; nil: none.
func (s *Store) Visibility(runID string) *persistence.VisibilityRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[runID]; r != nil {
		return r.visibility
	}
	return nil
}

// Row returns a run's executions row; nil: none.
func (s *Store) Row(runID string) *persistence.Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[runID]
	if r == nil {
		return nil
	}
	copied := r.Run
	return &copied
}

// Log returns all rows of a run.
func (s *Store) Log(runID string) []persistence.Transition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logs[runID])
}

// Now implements persistence.Store.
func (s *Store) Now(context.Context) (time.Time, error) { return time.Now(), nil }

// TakeShards implements persistence.Shards.
func (s *Store) TakeShards(_ context.Context, owner string, shards []persistence.ShardID) (map[persistence.ShardID]persistence.Epoch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := make(map[persistence.ShardID]persistence.Epoch, len(shards))
	for _, shard := range shards {
		s.epochs[shard]++
		s.owners[shard] = owner
		taken[shard] = s.epochs[shard]
	}
	return taken, nil
}

// RetakeShards implements persistence.Shards. Here an owner is known by its name.
func (s *Store) RetakeShards(ctx context.Context, owner string, shards []persistence.ShardID) (map[persistence.ShardID]persistence.Epoch, error) {
	s.mu.Lock()
	var own []persistence.ShardID
	for _, shard := range shards {
		if s.owners[shard] == owner {
			own = append(own, shard)
		}
	}
	s.mu.Unlock()
	return s.TakeShards(ctx, owner, own)
}

// ShardOwners lists the shards that have ever had an owner.
func (s *Store) ShardOwners(context.Context) (list []persistence.ShardOwner, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for shard, owner := range s.owners {
		list = append(list, persistence.ShardOwner{Shard: shard, Owner: owner, Epoch: s.epochs[shard]})
	}
	return list, nil
}

// Commit implements persistence.Executions.
func (s *Store) Commit(_ context.Context, m *persistence.Mutation) error {
	s.mu.Lock()
	decide := s.fault
	s.mu.Unlock()
	var fault Fault
	if decide != nil {
		fault = decide(m)
	}
	if fault.Hold != nil {
		<-fault.Hold
	}
	if fault.Err != nil && !fault.Applied {
		return fault.Err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epochs[m.Key.Shard()] != m.Epoch {
		return persistence.ErrFenced
	}
	if err := s.check(m); err != nil {
		return err
	}
	for _, w := range m.Runs {
		s.apply(m.Key, w)
	}
	s.commits++
	return fault.Err
}

func (s *Store) check(m *persistence.Mutation) error {
	open := ""
	for id, r := range s.runs {
		if r.Key == m.Key && m.First {
			return persistence.ErrExists
		}
		if r.Key == m.Key && r.Open {
			open = id
		}
	}
	for _, w := range m.Runs {
		r := s.runs[w.RunID]
		switch {
		case w.Insert && (r != nil || (w.Open && open != "")):
			return fmt.Errorf("%w: insert %s while %s is open", persistence.ErrConflict, w.RunID, open)
		case !w.Insert && r == nil && (w.SetStatus || w.SetWakeAt || w.SetHasEffects || w.Snapshot != nil):
			return fmt.Errorf("%w: no run %s", persistence.ErrConflict, w.RunID)
		}
		if w.Snapshot != nil && w.Snapshot.Dense && slices.ContainsFunc(s.logs[w.RunID], func(t persistence.Transition) bool { return len(t.Events) == 0 }) {
			return fmt.Errorf("run %s has rows without events, but is said to have none", w.RunID)
		}
		if w.Insert && w.Open {
			open = w.RunID
		}
		if w.SetStatus && !w.Open && open == w.RunID {
			open = ""
		}
		if t := w.Transition; t != nil {
			if last := s.lastSeq(w.RunID); t.Seq <= last || (r != nil && t.Seq != last+1) {
				return fmt.Errorf("row %d of run %s follows row %d", t.Seq, w.RunID, last)
			}
		}
	}
	return nil
}

func (s *Store) lastSeq(runID string) int64 {
	last := int64(0)
	if r := s.runs[runID]; r != nil && r.Snapshot != nil {
		last = r.Snapshot.Seq
	}
	if log := s.logs[runID]; len(log) > 0 {
		last = max(last, log[len(log)-1].Seq)
	}
	return last
}

func (s *Store) apply(key persistence.ExecutionKey, w persistence.RunWrite) {
	if w.Snapshot != nil && !w.Snapshot.Dense {
		s.logs[w.RunID] = slices.DeleteFunc(s.logs[w.RunID], func(t persistence.Transition) bool { return len(t.Events) == 0 })
	}
	if w.Transition != nil {
		s.logs[w.RunID] = append(s.logs[w.RunID], *w.Transition)
	}
	r := s.runs[w.RunID]
	if w.Insert {
		r = &row{Run: persistence.Run{Key: key, RunID: w.RunID, Bucket: w.Bucket, StartRequestID: w.StartRequestID}}
		s.runs[w.RunID] = r
	}
	if r == nil {
		return
	}
	if w.Insert || w.SetStatus {
		r.Open, r.Status = w.Open, w.Status
	}
	if w.Insert || w.SetWakeAt {
		r.WakeAt = w.WakeAt
	}
	if w.Insert || w.SetHasEffects {
		r.HasEffects = w.HasEffects
	}
	if w.Snapshot != nil {
		r.Snapshot = w.Snapshot
	}
	if w.Visibility != nil {
		r.visibility = w.Visibility
	}
}

// LoadRun implements persistence.Executions.
func (s *Store) LoadRun(_ context.Context, key persistence.ExecutionKey, runID string) (*persistence.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	r := s.runs[runID]
	if runID == "" {
		if rows := s.ofKey(key); len(rows) > 0 {
			r = rows[0]
		}
	}
	if r == nil || r.Key != key {
		return nil, persistence.ErrNotFound
	}
	loaded := r.Run
	for _, t := range s.logs[r.RunID] {
		if r.Snapshot == nil || t.Seq > r.Snapshot.Seq {
			t.Events = nil
			loaded.Transitions = append(loaded.Transitions, t)
		}
	}
	return &loaded, nil
}

// ofKey returns the rows of a key, newest first.
func (s *Store) ofKey(key persistence.ExecutionKey) (rows []*row) {
	for _, r := range s.runs {
		if r.Key == key {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Compare(b.RunID, a.RunID) })
	return rows
}

// ListRuns implements persistence.Executions.
func (s *Store) ListRuns(_ context.Context, key persistence.ExecutionKey, limit int) (runs []*persistence.Run, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for _, r := range s.ofKey(key) {
		if len(runs) < limit {
			listed := r.Run
			listed.Snapshot = nil
			runs = append(runs, &listed)
		}
	}
	return runs, nil
}

// ReadHistory implements persistence.Executions.
func (s *Store) ReadHistory(_ context.Context, h persistence.HistoryRange) ([]persistence.Transition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	log := s.logs[h.RunID]
	var rows []persistence.Transition
	size := 0
	for i, t := range log {
		next := int64(1 << 62)
		for _, later := range log[i+1:] {
			if len(later.Events) > 0 {
				next = later.FirstEventID
				break
			}
		}
		if len(t.Events) == 0 || next <= h.From || t.FirstEventID > h.To {
			continue
		}
		if len(rows) > 0 && (len(rows) == h.RowsMax || size+len(t.Events) > h.BytesMax) {
			break
		}
		size += len(t.Events)
		t.Parts = nil
		rows = append(rows, t)
	}
	if h.Reverse {
		return nil, errors.New("historytest: reading in reverse is not supported")
	}
	return rows, nil
}

// ReadTransitions implements persistence.Executions.
func (s *Store) ReadTransitions(_ context.Context, _ int32, runID string, fromSeq int64, limit int) (rows []persistence.Transition, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for _, t := range s.logs[runID] {
		if t.Seq >= fromSeq && len(rows) < limit {
			rows = append(rows, t)
		}
	}
	return rows, nil
}

// ScanWakeups implements persistence.Executions.
func (s *Store) ScanWakeups(_ context.Context, shards []persistence.ShardID, before time.Time, after persistence.ScanCursor, limit int) ([]persistence.RunRef, persistence.ScanCursor, error) {
	return s.scan(shards, after, limit, func(r *row) bool { return !r.WakeAt.IsZero() && r.WakeAt.Before(before) })
}

// ScanEffects implements persistence.Executions.
func (s *Store) ScanEffects(_ context.Context, shards []persistence.ShardID, after persistence.ScanCursor, limit int) ([]persistence.RunRef, persistence.ScanCursor, error) {
	return s.scan(shards, after, limit, func(r *row) bool { return r.HasEffects })
}

// scan pages in order of run id.
func (s *Store) scan(shards []persistence.ShardID, after persistence.ScanCursor, limit int, match func(*row) bool) ([]persistence.RunRef, persistence.ScanCursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var refs []persistence.RunRef
	in := map[persistence.ShardID]bool{}
	for _, shard := range shards {
		in[shard] = true
	}
	for id, r := range s.runs {
		if id > after.RunID && in[r.Key.Shard()] && match(r) {
			refs = append(refs, persistence.RunRef{Key: r.Key, RunID: id, WakeAt: r.WakeAt})
		}
	}
	slices.SortFunc(refs, func(a, b persistence.RunRef) int { return cmp.Compare(a.RunID, b.RunID) })
	if len(refs) <= limit {
		return refs, persistence.ScanCursor{Done: true}, nil
	}
	refs = refs[:limit]
	return refs, persistence.ScanCursor{RunID: refs[limit-1].RunID}, nil
}

// DeleteRun implements persistence.Executions.
func (s *Store) DeleteRun(_ context.Context, key persistence.ExecutionKey, epoch persistence.Epoch, _ int32, runID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epochs[key.Shard()] != epoch {
		return persistence.ErrFenced
	}
	delete(s.runs, runID)
	delete(s.logs, runID)
	return nil
}
