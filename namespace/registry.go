package namespace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/visibility"
)

// Store is what the registry needs of a database; persistence.Store has it.
type Store interface {
	CreateNamespace(ctx context.Context, r *persistence.NamespaceRecord) error
	GetNamespace(ctx context.Context, id, name string) (*persistence.NamespaceRecord, error)
	UpdateNamespace(ctx context.Context, r *persistence.NamespaceRecord) error
	ListNamespaces(ctx context.Context, afterID string, limit int) ([]*persistence.NamespaceRecord, error)
}

const (
	// cacheTTL is how long a change of a known namespace (retention, state) may stay unseen in other processes.
	cacheTTL = 2 * time.Second
	// staleMax is how long the cache answers while the database does not: longer than a failover.
	staleMax = time.Minute
	// cacheEntriesMax bounds memory; a snapshot is about 2 KB.
	cacheEntriesMax = 10_000
	// readsMax bounds the concurrent reads of known namespaces, and unknownReadsMax those of unknown names: a flood of these must not
	// take all connections for reads.
	readsMax        = 8
	unknownReadsMax = 2
)

// Registry is the namespaces as one process sees them. Its methods answer serviceerror types; a database that does not answer
// is UNAVAILABLE.
type Registry struct {
	store Store
	now   func() time.Time

	// Slots of concurrent reads.
	knownReads, unknownReads chan struct{}

	mu     sync.RWMutex
	byID   map[string]*entry
	byName map[string]*entry
}

// entry is a cached snapshot and the time at which the read of it began.
type entry struct {
	namespace *Namespace
	readAt    time.Time
}

// New makes a registry on a store.
func New(store Store) *Registry { return newRegistry(store, time.Now) }

func newRegistry(store Store, now func() time.Time) *Registry {
	return &Registry{
		store:        store,
		now:          now,
		knownReads:   make(chan struct{}, readsMax),
		unknownReads: make(chan struct{}, unknownReadsMax),
		byID:         make(map[string]*entry),
		byName:       make(map[string]*entry),
	}
}

// ByName finds a namespace, or answers NamespaceNotFound.
func (r *Registry) ByName(ctx context.Context, name string) (*Namespace, error) {
	return r.find(ctx, "", name)
}

// ByID finds a namespace, or answers NamespaceNotFound with the id in place of the name.
func (r *Registry) ByID(ctx context.Context, id string) (*Namespace, error) {
	return r.find(ctx, id, "")
}

// WithAttributes calls f with the search attributes of a namespace and, if f meets one that is unknown, once more with what
// the database says now. It returns f's error.
func (r *Registry) WithAttributes(ctx context.Context, n *Namespace, f func(*visibility.Attributes) error) error {
	err := f(n.Attributes())
	var unknown *visibility.UnknownAttributeError
	if !errors.As(err, &unknown) {
		return err
	}
	fresh, readErr := r.read(ctx, n.ID(), "", r.now(), r.knownReads)
	if readErr != nil {
		return readErr
	}
	if fresh.Version() == n.Version() {
		return err
	}
	return f(fresh.Attributes())
}

func (r *Registry) find(ctx context.Context, id, name string) (*Namespace, error) {
	now := r.now()
	e := r.cached(id, name)
	if e == nil {
		return r.read(ctx, id, name, now, r.unknownReads)
	}
	if now.Sub(e.readAt) < cacheTTL {
		return e.namespace, nil
	}
	n, err := r.read(ctx, id, name, now.Add(-cacheTTL), r.knownReads)
	var unavailable *serviceerror.Unavailable
	if errors.As(err, &unavailable) && now.Sub(e.readAt) < staleMax {
		return e.namespace, nil
	}
	return n, err
}

func (r *Registry) cached(id, name string) *entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if id != "" {
		return r.byID[id]
	}
	return r.byName[name]
}

// read returns a snapshot that was read after a time. Callers that had to wait for a slot share the reads of those who had
// one before.
func (r *Registry) read(ctx context.Context, id, name string, after time.Time, slots chan struct{}) (*Namespace, error) {
	if id != "" && uuid.Validate(id) != nil || strings.ContainsRune(name, 0) {
		return nil, serviceerror.NewNamespaceNotFound(id + name) // no database could be asked
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if e := r.cached(id, name); e != nil && e.readAt.After(after) {
		return e.namespace, nil
	}
	readAt := r.now()
	record, err := r.store.GetNamespace(ctx, id, name)
	if errors.Is(err, persistence.ErrNotFound) {
		r.forget(id, name)
		return nil, serviceerror.NewNamespaceNotFound(id + name)
	}
	if err != nil {
		return nil, storeError("read namespace", err)
	}
	n, err := decode(record)
	if err != nil {
		return nil, err
	}
	return r.remember(n, readAt), nil
}

// remember puts a snapshot into the cache and returns the newest that is known.
func (r *Registry) remember(n *Namespace, readAt time.Time) *Namespace {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.byID[n.ID()]; old != nil {
		if old.namespace.Version() > n.Version() || old.namespace.Version() == n.Version() && old.readAt.After(readAt) {
			return old.namespace
		}
		r.drop(old)
	}
	if len(r.byID) >= cacheEntriesMax {
		for _, e := range r.byID { // any one: so many live namespaces are rare, and a miss costs one read
			r.drop(e)
			break
		}
	}
	e := &entry{namespace: n, readAt: readAt}
	r.byID[n.ID()] = e
	r.byName[n.Name()] = e
	return n
}

// drop removes an entry; the name may meanwhile be another namespace's.
func (r *Registry) drop(e *entry) {
	delete(r.byID, e.namespace.ID())
	if r.byName[e.namespace.Name()] == e {
		delete(r.byName, e.namespace.Name())
	}
}

func (r *Registry) forget(id, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byID[id]
	if id == "" {
		e = r.byName[name]
	}
	if e != nil {
		r.drop(e)
	}
}

// storeError turns a fault of the database into UNAVAILABLE, which clients retry. A context's own error passes.
func storeError(operation string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrOutcomeUnknown) || errors.Is(err, persistence.ErrClosed) {
		return serviceerror.NewUnavailablef("%s: %v", operation, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}
