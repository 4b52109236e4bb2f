package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/group"
)

// Limits of one member of a group.
const (
	// mutationBytesMax is far above what a service accepts for one request and far below PostgreSQL's 1 GB per message.
	mutationBytesMax = 64 << 20
	// rowOverhead is the estimated cost of a row besides its payload.
	rowOverhead = 100
)

// isolation is how long a run or queue that failed a group commits alone: long enough for a bug that fails each transition of a run not
// to slow down everybody else.
const isolation = time.Minute

// isolatedMax bounds the memory for that. A full set forgets all: the price is some groups that are taken apart.
const isolatedMax = 10_000

// member is what one call wants to commit: a mutation, the deletion of a run, or a write to a queue.
type member struct {
	mutation  *persistence.Mutation
	namespace uuidBytes   // of the mutation
	runs      []uuidBytes // of the mutation
	shard     persistence.ShardID
	deleteRun *runDelete
	queue     *queueWrite

	size  int
	owner any // what is isolated when the member fails: a runKey or a queueID
	set   *isolatedSet
	cut   bool // visibility rows are cut to system attributes
}

type runDelete struct {
	key    runKey
	shard  persistence.ShardID
	epoch  persistence.Epoch
	bucket int32
}

type queueWrite struct {
	id          queueID
	epoch       persistence.Epoch
	tasks       []persistence.BacklogTask
	setMetadata bool
	metadata    []byte
	ranges      []persistence.TaskRange
	deleteQueue bool
}

// Size implements group.Member.
func (m *member) Size() int { return m.size }

// Alone implements group.Loner.
func (m *member) Alone() bool { return m.set.contains(m.owner) }

func (m *member) hasVisibility() bool {
	if m.mutation == nil {
		return false
	}
	for i := range m.mutation.Runs {
		if m.mutation.Runs[i].Visibility != nil {
			return true
		}
	}
	return false
}

// Commit implements persistence.Executions.
func (s *Store) Commit(ctx context.Context, mutation *persistence.Mutation) error {
	m, err := s.newMutation(mutation)
	if err != nil {
		return outward(err)
	}
	return s.submit(ctx, int(m.shard), m)
}

func (s *Store) newMutation(mutation *persistence.Mutation) (*member, error) {
	m := &member{mutation: mutation, shard: mutation.Key.Shard(), set: &s.isolated}
	var ok bool
	if m.namespace, ok = parseUUID(mutation.Key.NamespaceID); !ok {
		return nil, refused("the namespace id " + quote(mutation.Key.NamespaceID))
	}
	if !validText(mutation.Key.BusinessID) {
		return nil, refused("the business id " + quote(mutation.Key.BusinessID))
	}
	m.runs = make([]uuidBytes, len(mutation.Runs))
	for i := range mutation.Runs {
		w := &mutation.Runs[i]
		if m.runs[i], ok = parseUUID(w.RunID); !ok {
			return nil, refused("the run id " + quote(w.RunID))
		}
		if !validText(w.StartRequestID) {
			return nil, refused("the request id " + quote(w.StartRequestID))
		}
		m.size += runSize(w)
	}
	if len(m.runs) > 0 {
		m.owner = runKey{m.namespace, mutation.Key.Kind, mutation.Key.BusinessID, m.runs[0]}
	}
	if m.size > mutationBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", persistence.ErrTooLarge, m.size, mutationBytesMax)
	}
	return m, nil
}

func runSize(w *persistence.RunWrite) int {
	size := rowOverhead + len(w.StartRequestID)
	if w.Transition != nil {
		size += rowOverhead + len(w.Transition.Events) + len(w.Transition.Parts)
	}
	if w.Snapshot != nil {
		size += len(w.Snapshot.Parts)
	}
	if v := w.Visibility; v != nil {
		size += 3*rowOverhead + len(v.SearchAttributes) + len(v.Memo) + len(v.WorkflowID) + len(v.WorkflowType)
	}
	return size
}

// DeleteRun implements persistence.Executions.
func (s *Store) DeleteRun(ctx context.Context, key persistence.ExecutionKey, epoch persistence.Epoch, bucket int32, runID string) error {
	namespace, ok := parseUUID(key.NamespaceID)
	run, okRun := parseUUID(runID)
	if !ok || !okRun || !validText(key.BusinessID) {
		return persistence.ErrNotFound
	}
	k := runKey{namespace, key.Kind, key.BusinessID, run}
	d := &runDelete{key: k, shard: key.Shard(), epoch: epoch, bucket: bucket}
	return s.submit(ctx, int(d.shard), &member{deleteRun: d, shard: d.shard, size: rowOverhead, owner: k, set: &s.isolated})
}

// submitQueue has a write to a queue committed. All writes to one queue go through one committer, in order.
func (s *Store) submitQueue(ctx context.Context, w *queueWrite, size int) error {
	if size > mutationBytesMax {
		return fmt.Errorf("%w: %d bytes, the limit is %d", persistence.ErrTooLarge, size, mutationBytesMax)
	}
	h := fnv.New32a()
	h.Write(w.id.namespace[:])
	h.Write([]byte(w.id.name))
	h.Write([]byte{byte(w.id.typ), byte(w.id.partition)})
	return s.submit(ctx, int(h.Sum32()&0x7FFFFFFF), &member{queue: w, size: size, owner: w.id, set: &s.isolated})
}

func (s *Store) submit(ctx context.Context, affinity int, m *member) error {
	if s.closed.Load() {
		return persistence.ErrClosed
	}
	return outward(s.committers[affinity%len(s.committers)].Submit(ctx, m))
}

// outward hides what only this package distinguishes: nothing was written, and the caller can do no more about it than about a
// database that does not work.
func outward(err error) error {
	if err == nil || !errors.Is(err, errFault) || errors.Is(err, persistence.ErrTooLarge) || errors.Is(err, persistence.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", persistence.ErrUnavailable, err)
}

// committer is one connection with the state of the group that is under way.
type committer struct {
	store *Store
	conn  *commitConn
	batch *groupBatch
}

// commit is the group's commit function.
func (c *committer) commit(ctx context.Context, members []*member) error {
	ctx, cancel := context.WithTimeout(ctx, c.store.opts.CommitTimeout)
	defer cancel()
	err := c.once(ctx, members)
	if len(members) > 1 || err == nil {
		return err
	}
	var blame *group.BlameError
	if errors.As(err, &blame) || errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrOutcomeUnknown) {
		return err
	}
	m := members[0]
	c.store.isolated.add(m.owner)
	if !errors.Is(err, errFault) || !m.hasVisibility() {
		return err
	}
	// An attribute must never be able to stop a workflow: if the transition passes with the row cut, the row was the cause.
	m.cut = true
	if cutErr := c.once(ctx, members); cutErr != nil {
		return cutErr
	}
	c.store.visibilityCut.Add(1)
	c.store.logger.Warn("The database refused a visibility row; it was stored with system attributes only.",
		zap.String("workflow_id", m.mutation.Key.BusinessID), zap.String("namespace_id", m.mutation.Key.NamespaceID), zap.Error(err))
	return nil
}

func (c *committer) once(ctx context.Context, members []*member) error {
	c.batch.reset()
	for i, m := range members {
		if err := c.batch.add(i, m); err != nil {
			return &group.BlameError{Members: map[int]error{i: err}}
		}
	}
	c.batch.finish()
	err := c.conn.run(ctx, c.batch)
	var pgErr *pgconn.PgError
	if namesMembers(err) && errors.As(err, &pgErr) {
		if blame := c.batch.blame(pgErr); len(blame.Members) > 0 {
			return blame
		}
	}
	return err
}

// isolatedSet remembers who made a group fail.
type isolatedSet struct {
	mu    sync.Mutex
	until map[any]time.Time
}

func (s *isolatedSet) add(owner any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil || len(s.until) >= isolatedMax {
		s.until = map[any]time.Time{}
	}
	s.until[owner] = time.Now().Add(isolation)
}

func (s *isolatedSet) contains(owner any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.until) == 0 {
		return false
	}
	until, ok := s.until[owner]
	if ok && time.Now().After(until) {
		delete(s.until, owner)
		return false
	}
	return ok
}

// validText tells what PostgreSQL's text can hold unchanged.
func validText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func quote(s string) string { return fmt.Sprintf("%.100q", s) }
