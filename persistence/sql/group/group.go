// Package group is group commit: it collects what many callers want to make durable while one transaction is under way, and
// hands it over as one.
//
// Invariants:
//
//   - Members are committed in the order in which Submit was called. At most one commit is under way per Committer.
//   - A caller learns the result of its own member only. A group that fails is taken apart until the fault is alone.
//   - A caller's context bounds its wait, never a commit that is under way.
//   - The queue is bounded, in members and in bytes. A full queue answers at once.
//   - An idle committer has no goroutine.
package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/telemetry"
)

// The limits of a committer whose options name none.
const (
	// DefaultMembersMax is where the cost of a member stops falling: 0.13 ms at 64, 0.10 ms at 256.
	DefaultMembersMax = 256
	// DefaultBytesMax keeps one transaction short enough for those that wait behind it.
	DefaultBytesMax = 1 << 20
	// DefaultQueueMembersMax is some 64 full groups: what a healthy database commits in about a second.
	DefaultQueueMembersMax = 64 * DefaultMembersMax
	// DefaultQueueBytesMax bounds the memory of one queue.
	DefaultQueueBytesMax = 64 << 20
)

// paceMembers is the size of a group from which on the next one is paced: below it hardly anybody would come to share a transaction.
const paceMembers = 4

// Member is what can be committed in a group.
type Member interface {
	// Size is an estimate in bytes of what the member writes. It must not change.
	Size() int
}

// Options are a committer's limits and hooks. Zero values mean the defaults.
type Options struct {
	// MembersMax and BytesMax bound a group. A member that is larger than BytesMax goes alone.
	MembersMax int
	BytesMax   int
	// QueueMembersMax and QueueBytesMax bound what waits for the next groups. A member that is larger than the whole queue is
	// accepted when the queue is empty.
	QueueMembersMax int
	QueueBytesMax   int
	// Pace is the least time from the begin of a group of several members to the begin of the next, unless that one is full earlier;
	// zero: none. A fast database otherwise commits so often that hardly two members meet in a transaction, and each transaction costs
	// it several times what a member costs. A lone caller never waits for it.
	Pace time.Duration
	// Observe, if set, is called after each commit, from the goroutine that commits.
	Observe func(Observation)
}

// Observation is what one commit was like.
type Observation struct {
	Members  int
	Bytes    int
	Duration time.Duration
	Err      error
}

// Loner is a member that may ask not to share its transaction, such as one that has made a group fail before.
type Loner interface {
	Alone() bool
}

// BlameError is for a commit function that knows whose fault the failure is. Those members get their error, and the others are
// committed again without them. Nothing of the group may have been written.
type BlameError struct {
	// Members is the error by index into the group. It must not be empty.
	Members map[int]error
}

// Error implements error.
func (e *BlameError) Error() string {
	for i, err := range e.Members {
		return fmt.Sprintf("group: %d members failed, one of them number %d: %v", len(e.Members), i, err)
	}
	return "group: failure without a cause"
}

// Committer collects members and commits them in groups.
type Committer[M Member] struct {
	commit func(ctx context.Context, members []M) error
	opts   Options

	mu      sync.Mutex
	queue   []*entry[M]
	bytes   int // of the queue
	running bool
	closed  bool
	idle    *sync.Cond    // running became false
	full    chan struct{} // tells a paced committer that there is no reason to wait any longer
}

// entry is a member on its way. done has room for the one result, so that nobody waits for a caller that went away.
type entry[M Member] struct {
	member M
	size   int
	done   chan error
	span   telemetry.Span // of its caller's wait
}

// New makes a committer. commit writes a group in one transaction: it returns nil only if all is durable,
// persistence.ErrOutcomeUnknown if it cannot know, and any other error only if nothing was written. Its context is never a caller's.
func New[M Member](commit func(ctx context.Context, members []M) error, opts Options) *Committer[M] {
	setDefault(&opts.MembersMax, DefaultMembersMax)
	setDefault(&opts.BytesMax, DefaultBytesMax)
	setDefault(&opts.QueueMembersMax, DefaultQueueMembersMax)
	setDefault(&opts.QueueBytesMax, DefaultQueueBytesMax)
	c := &Committer[M]{commit: commit, opts: opts, full: make(chan struct{}, 1)}
	c.idle = sync.NewCond(&c.mu)
	return c
}

func setDefault(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

// Submit makes a member durable and returns its result. It answers persistence.ErrUnavailable at once if the queue is full, and
// persistence.ErrClosed after Close. If ctx ends while the member waits in the queue, it is taken out and nothing is written
// (persistence.ErrUnavailable); if it ends during the commit, the caller gets persistence.ErrOutcomeUnknown. Both wrap ctx's error.
func (c *Committer[M]) Submit(ctx context.Context, m M) (err error) {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: not submitted: %w", persistence.ErrUnavailable, err)
	}
	e := &entry[M]{member: m, size: m.Size(), done: make(chan error, 1)}
	_, e.span = telemetry.Start(ctx, "store.commit")
	defer func() { e.span.End(err) }()
	if err := c.enqueue(e); err != nil {
		return err
	}
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return c.abandon(ctx, e)
	}
}

// Waiting is the number of members in the queue.
func (c *Committer[M]) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// Close commits what is in the queue, waits for it, and refuses everything later. Once the database does not answer any more, the rest of
// the queue gets persistence.ErrClosed.
func (c *Committer[M]) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.hurry()
	for c.running {
		c.idle.Wait()
	}
}

func (c *Committer[M]) enqueue(e *entry[M]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return persistence.ErrClosed
	}
	if n := len(c.queue); n > 0 && (n >= c.opts.QueueMembersMax || c.bytes+e.size > c.opts.QueueBytesMax) {
		return fmt.Errorf("%w: %d members of %d bytes wait for a commit", persistence.ErrUnavailable, n, c.bytes)
	}
	c.queue = append(c.queue, e)
	c.bytes += e.size
	if len(c.queue) >= c.opts.MembersMax || c.bytes >= c.opts.BytesMax {
		c.hurry()
	}
	if !c.running {
		c.running = true
		go c.run()
	}
	return nil
}

// hurry ends the pause between two groups. The caller holds the lock.
func (c *Committer[M]) hurry() {
	select {
	case c.full <- struct{}{}:
	default:
	}
}

// abandon is for a caller whose context has ended.
func (c *Committer[M]) abandon(ctx context.Context, e *entry[M]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range c.queue {
		if q == e {
			c.queue = append(c.queue[:i], c.queue[i+1:]...)
			c.bytes -= e.size
			return fmt.Errorf("%w: not committed in time: %w", persistence.ErrUnavailable, ctx.Err())
		}
	}
	select {
	case err := <-e.done: // it came at the same moment
		return err
	default:
		return fmt.Errorf("%w: the caller did not wait for it: %w", persistence.ErrOutcomeUnknown, ctx.Err())
	}
}

// run commits groups until there is nothing left. It runs only while there is something to do.
func (c *Committer[M]) run() {
	for {
		entries := c.next()
		if entries == nil {
			return
		}
		begun := time.Now()
		if err := c.settle(entries); errors.Is(err, persistence.ErrUnavailable) {
			c.dropIfClosed()
		}
		if len(entries) >= paceMembers {
			c.pause(c.opts.Pace - time.Since(begun))
		}
	}
}

// pause waits until the next group may begin, or is full.
func (c *Committer[M]) pause(d time.Duration) {
	if d <= 0 || !c.hasRoom() {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.full:
	}
}

// hasRoom tells whether the next group can take more than what waits already, and whether somebody may still come.
func (c *Committer[M]) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.full: // it was said of an earlier group
	default:
	}
	return !c.closed && len(c.queue) < c.opts.MembersMax && c.bytes < c.opts.BytesMax
}

// dropIfClosed empties the queue of a closed committer, so that Close does not wait for one timeout after the other.
func (c *Committer[M]) dropIfClosed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		return
	}
	deliver(c.queue, persistence.ErrClosed)
	c.queue, c.bytes = nil, 0
}

// next takes the longest prefix of the queue that may be one group.
func (c *Committer[M]) next() []*entry[M] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue = nil // gives the memory of a burst back
		c.running = false
		c.idle.Broadcast()
		return nil
	}
	n, size := 1, c.queue[0].size
	if !alone(c.queue[0].member) {
		for n < len(c.queue) && n < c.opts.MembersMax {
			e := c.queue[n]
			if size+e.size > c.opts.BytesMax || alone(e.member) {
				break
			}
			size += e.size
			n++
		}
	}
	entries := make([]*entry[M], n)
	copy(entries, c.queue)
	clear(c.queue[:n])
	c.queue = c.queue[n:]
	c.bytes -= size
	return entries
}

func alone[M Member](m M) bool {
	l, ok := any(m).(Loner)
	return ok && l.Alone()
}

// settle commits a group and tells every member its result. A failed group is committed again in parts, in order, until each fault
// is alone. What says nothing about the members (the database does not answer) or what may have been written is not tried again. It returns the last error.
func (c *Committer[M]) settle(entries []*entry[M]) error {
	err := c.commitOnce(entries)
	var blame *BlameError
	switch {
	case err == nil:
		deliver(entries, nil)
	case errors.Is(err, persistence.ErrOutcomeUnknown), errors.Is(err, persistence.ErrUnavailable), errors.Is(err, persistence.ErrClosed):
		deliver(entries, err)
	case errors.As(err, &blame) && len(blame.Members) > 0:
		if rest := acquit(entries, blame); len(rest) > 0 {
			return c.settle(rest)
		}
	case len(entries) == 1:
		deliver(entries, err)
	default:
		half := len(entries) / 2
		_ = c.settle(entries[:half]) // each has told its own members
		return c.settle(entries[half:])
	}
	return err
}

// acquit delivers the errors of the guilty and returns the others.
func acquit[M Member](entries []*entry[M], blame *BlameError) []*entry[M] {
	var rest []*entry[M]
	for i, e := range entries {
		if err := blame.Members[i]; err != nil {
			e.done <- err
			continue
		}
		rest = append(rest, e)
	}
	if len(rest) == len(entries) { // the indexes were wrong: never try the same group again
		deliver(entries, blame)
		return nil
	}
	return rest
}

func (c *Committer[M]) commitOnce(entries []*entry[M]) error {
	members := make([]M, len(entries))
	size := 0
	for i, e := range entries {
		members[i] = e.member
		size += e.size
	}
	begin := time.Now()
	ctx, span := telemetry.Join(context.Background(), "store.group", len(entries), func(i int) telemetry.Span { return entries[i].span })
	span.SetInt("perdure.members", int64(len(members)))
	span.SetInt("perdure.bytes", int64(size))
	err := c.commit(ctx, members)
	span.End(err)
	if c.opts.Observe != nil {
		c.opts.Observe(Observation{Members: len(members), Bytes: size, Duration: time.Since(begin), Err: err})
	}
	return err
}

func deliver[M Member](entries []*entry[M], err error) {
	for _, e := range entries {
		e.done <- err
	}
}
