package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/visibility"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore keeps namespaces in memory. before, if set, runs ahead of each call with its name.
type fakeStore struct {
	mu      sync.Mutex
	records map[string]persistence.NamespaceRecord
	reads   int
	before  func(operation string) error
}

func newFakeStore() *fakeStore {
	return &fakeStore{records: make(map[string]persistence.NamespaceRecord)}
}

func (s *fakeStore) hook(operation string) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(operation)
}

func (s *fakeStore) setBefore(f func(string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func (s *fakeStore) CreateNamespace(_ context.Context, r *persistence.NamespaceRecord) error {
	if err := s.hook("create"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.records {
		if old.ID == r.ID || old.Name == r.Name {
			return persistence.ErrConflict
		}
	}
	created := *r
	created.Version = 1
	s.records[r.ID] = created
	return nil
}

func (s *fakeStore) GetNamespace(_ context.Context, id, name string) (*persistence.NamespaceRecord, error) {
	if err := s.hook("get"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for _, r := range s.records {
		if id != "" && r.ID == id || id == "" && r.Name == name {
			return &r, nil
		}
	}
	return nil, persistence.ErrNotFound
}

func (s *fakeStore) UpdateNamespace(_ context.Context, r *persistence.NamespaceRecord) error {
	if err := s.hook("update"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.records[r.ID]
	if !ok {
		return persistence.ErrNotFound
	}
	if old.Version != r.Version {
		return persistence.ErrConflict
	}
	updated := *r
	updated.Version++
	s.records[r.ID] = updated
	return nil
}

func (s *fakeStore) ListNamespaces(_ context.Context, afterID string, limit int) ([]*persistence.NamespaceRecord, error) {
	if err := s.hook("list"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*persistence.NamespaceRecord
	for _, r := range s.records {
		if r.ID > afterID {
			list = append(list, &r)
		}
	}
	slices.SortFunc(list, func(a, b *persistence.NamespaceRecord) int { return strings.Compare(a.ID, b.ID) })
	return list[:min(limit, len(list))], nil
}

func (s *fakeStore) delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, id)
}

func (s *fakeStore) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// fakeClock moves only when it is told to.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newFakeClock() *fakeClock { return &fakeClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestCreateIsUsableAtOnceHereAndElsewhere(t *testing.T) {
	ctx := context.Background()
	store, clock := newFakeStore(), newFakeClock()
	here, elsewhere := newRegistry(store, clock.Now), newRegistry(store, clock.Now)
	_, err := elsewhere.ByName(ctx, "orders")
	var missing *serviceerror.NamespaceNotFound
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "orders", missing.Namespace)

	created, err := here.Create(ctx, NewRecord("orders", 24*time.Hour))
	require.NoError(t, err)
	require.NoError(t, uuid.Validate(created.ID()))
	reads := store.readCount()
	found, err := here.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Same(t, created, found)
	byID, err := here.ByID(ctx, created.ID())
	require.NoError(t, err)
	require.Same(t, created, byID)
	require.Equal(t, reads, store.readCount())

	found, err = elsewhere.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, created.ID(), found.ID())
	require.Equal(t, "orders", found.Name())
	require.Equal(t, 24*time.Hour, found.Retention())
	require.Equal(t, enumspb.NAMESPACE_STATE_REGISTERED, found.State())
	require.Equal(t, int64(1), found.Version())

	_, err = elsewhere.Create(ctx, NewRecord("orders", time.Hour))
	var exists *serviceerror.NamespaceAlreadyExists
	require.ErrorAs(t, err, &exists)
}

func TestImpossibleNamesAreNotLookedUp(t *testing.T) {
	ctx := context.Background()
	store := newFakeStore()
	r := New(store)
	var missing *serviceerror.NamespaceNotFound
	_, err := r.ByID(ctx, "not-a-uuid")
	require.ErrorAs(t, err, &missing)
	_, err = r.ByName(ctx, "a\x00b")
	require.ErrorAs(t, err, &missing)
	require.Zero(t, store.readCount())
}

func TestCacheIsReadAgainAfterItsTime(t *testing.T) {
	ctx := context.Background()
	store, clock := newFakeStore(), newFakeClock()
	here, elsewhere := newRegistry(store, clock.Now), newRegistry(store, clock.Now)
	_, err := here.Create(ctx, NewRecord("orders", time.Hour))
	require.NoError(t, err)
	_, err = elsewhere.ByName(ctx, "orders")
	require.NoError(t, err)
	clock.advance(time.Millisecond)
	_, err = here.Update(ctx, "orders", func(record *statepb.Namespace) error {
		record.Config.WorkflowExecutionRetentionTtl = durationpb.New(2 * time.Hour)
		return nil
	})
	require.NoError(t, err)

	n, err := elsewhere.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, time.Hour, n.Retention())
	clock.advance(cacheTTL)
	n, err = elsewhere.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, 2*time.Hour, n.Retention())
	n, err = here.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, 2*time.Hour, n.Retention())

	clock.advance(cacheTTL)
	store.delete(n.ID())
	var missing *serviceerror.NamespaceNotFound
	_, err = elsewhere.ByName(ctx, "orders")
	require.ErrorAs(t, err, &missing)
	_, err = elsewhere.ByID(ctx, n.ID())
	require.ErrorAs(t, err, &missing)
}

func TestANameCanBelongToAnotherNamespace(t *testing.T) {
	ctx := context.Background()
	store, clock := newFakeStore(), newFakeClock()
	r := newRegistry(store, clock.Now)
	first, err := r.Create(ctx, NewRecord("orders", time.Hour))
	require.NoError(t, err)
	store.delete(first.ID())
	second, err := r.Create(ctx, NewRecord("orders", time.Hour))
	require.NoError(t, err)
	clock.advance(cacheTTL)
	var missing *serviceerror.NamespaceNotFound
	_, err = r.ByID(ctx, first.ID())
	require.ErrorAs(t, err, &missing)
	found, err := r.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, second.ID(), found.ID())
}

func TestTheCacheAnswersWhileTheDatabaseDoesNot(t *testing.T) {
	ctx := context.Background()
	store, clock := newFakeStore(), newFakeClock()
	r := newRegistry(store, clock.Now)
	created, err := r.Create(ctx, NewRecord("orders", time.Hour))
	require.NoError(t, err)
	store.setBefore(func(string) error { return fmt.Errorf("get: %w", persistence.ErrUnavailable) })
	clock.advance(staleMax - time.Second)
	found, err := r.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Same(t, created, found)
	clock.advance(time.Second)
	var unavailable *serviceerror.Unavailable
	_, err = r.ByName(ctx, "orders")
	require.ErrorAs(t, err, &unavailable)
	_, err = r.ByName(ctx, "unknown")
	require.ErrorAs(t, err, &unavailable)
	_, err = r.List(ctx, "", 1)
	require.ErrorAs(t, err, &unavailable)
	_, err = r.Create(ctx, NewRecord("more", time.Hour))
	require.ErrorAs(t, err, &unavailable)

	store.setBefore(func(string) error { return errors.New("broken") })
	_, err = r.ByName(ctx, "unknown")
	require.EqualError(t, err, "read namespace: broken")
}

func TestANewAttributeIsUsableAtOnceElsewhere(t *testing.T) {
	ctx := context.Background()
	store, clock := newFakeStore(), newFakeClock()
	here, elsewhere := newRegistry(store, clock.Now), newRegistry(store, clock.Now)
	_, err := here.Create(ctx, NewRecord("orders", time.Hour))
	require.NoError(t, err)
	old, err := elsewhere.ByName(ctx, "orders")
	require.NoError(t, err)
	clock.advance(time.Millisecond)

	sa := &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{
		"Color": {Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"red"`)},
	}}
	calls := 0
	validate := func(a *visibility.Attributes) error {
		calls++
		_, err := a.Validate(sa)
		return err
	}
	var unknown *visibility.UnknownAttributeError
	require.ErrorAs(t, elsewhere.WithAttributes(ctx, old, validate), &unknown)
	require.Equal(t, 1, calls, "nothing new: no second call")

	clock.advance(time.Millisecond)
	_, err = here.Update(ctx, "orders", func(record *statepb.Namespace) error {
		record.SearchAttributes = map[string]enumspb.IndexedValueType{"Color": enumspb.INDEXED_VALUE_TYPE_KEYWORD}
		return nil
	})
	require.NoError(t, err)
	clock.advance(time.Millisecond)
	require.NoError(t, elsewhere.WithAttributes(ctx, old, validate))
	require.Equal(t, 3, calls)
	fresh, err := elsewhere.ByName(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, map[string]enumspb.IndexedValueType{"Color": enumspb.INDEXED_VALUE_TYPE_KEYWORD}, fresh.Attributes().Custom())
	require.Empty(t, old.Attributes().Custom())

	reads := store.readCount()
	other := errors.New("other")
	require.Equal(t, other, elsewhere.WithAttributes(ctx, old, func(*visibility.Attributes) error { return other }))
	require.Equal(t, reads, store.readCount())
}

func TestUpdateRetriesWhenOvertaken(t *testing.T) {
	ctx := context.Background()
	store := newFakeStore()
	here, elsewhere := New(store), New(store)
	_, err := here.Create(ctx, NewRecord("orders", time.Hour))
	require.NoError(t, err)
	overtaken := false
	store.setBefore(func(operation string) error {
		if operation == "update" && !overtaken {
			overtaken = true
			_, err := elsewhere.Update(ctx, "orders", func(record *statepb.Namespace) error {
				record.Info.OwnerEmail = "owner"
				return nil
			})
			return err
		}
		return nil
	})
	n, err := here.Update(ctx, "orders", func(record *statepb.Namespace) error {
		record.Info.Description = "text"
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, int64(3), n.Version())
	require.Equal(t, "owner", n.Record().GetInfo().GetOwnerEmail())
	require.Equal(t, "text", n.Record().GetInfo().GetDescription())

	store.setBefore(func(operation string) error {
		if operation == "update" {
			return persistence.ErrConflict
		}
		return nil
	})
	_, err = here.Update(ctx, "orders", func(*statepb.Namespace) error { return nil })
	var unavailable *serviceerror.Unavailable
	require.ErrorAs(t, err, &unavailable)

	refused := serviceerror.NewInvalidArgument("no")
	_, err = here.Update(ctx, "orders", func(*statepb.Namespace) error { return refused })
	require.Equal(t, refused, err)
	_, err = here.Update(ctx, "unknown", func(*statepb.Namespace) error { return nil })
	var missing *serviceerror.NamespaceNotFound
	require.ErrorAs(t, err, &missing)
}

func TestSnapshotsDoNotChange(t *testing.T) {
	ctx := context.Background()
	r := New(newFakeStore())
	before, err := r.Create(ctx, NewRecord("orders", time.Hour))
	require.NoError(t, err)
	before.Record().Info.Description = "changed by a caller"
	_, err = r.Update(ctx, "orders", func(record *statepb.Namespace) error {
		record.Info.State = enumspb.NAMESPACE_STATE_DEPRECATED
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, enumspb.NAMESPACE_STATE_REGISTERED, before.State())
	require.Empty(t, before.Record().GetInfo().GetDescription())
	after, err := r.ByName(ctx, "orders")
	require.NoError(t, err)
	require.NoError(t, before.RequireState(enumspb.NAMESPACE_STATE_REGISTERED))
	err = after.RequireState(enumspb.NAMESPACE_STATE_REGISTERED)
	var state *serviceerror.NamespaceInvalidState
	require.ErrorAs(t, err, &state)
	require.Equal(t, enumspb.NAMESPACE_STATE_DEPRECATED, state.State)
	require.NoError(t, after.RequireState(enumspb.NAMESPACE_STATE_REGISTERED, enumspb.NAMESPACE_STATE_DEPRECATED))
}

func TestReadsAreBounded(t *testing.T) {
	ctx := context.Background()
	store := newFakeStore()
	_, err := New(store).Create(ctx, NewRecord("orders", time.Hour))
	require.NoError(t, err)
	r := New(store)
	arrived, release := make(chan struct{}, 1000), make(chan struct{})
	store.setBefore(func(string) error {
		arrived <- struct{}{}
		<-release
		return nil
	})
	const callers = 100
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			n, err := r.ByName(ctx, "orders")
			if err != nil || n.Name() != "orders" {
				t.Errorf("got %v, %v", n, err)
			}
		})
	}
	for range unknownReadsMax {
		<-arrived
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = r.ByName(canceled, "orders")
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, arrived, "no more than unknownReadsMax at a time")
	close(release)
	wait.Wait()
	require.Len(t, arrived, store.readCount()-unknownReadsMax)
}

func TestTheCacheIsBoundedAndNeverGoesBack(t *testing.T) {
	clock := newFakeClock()
	r := newRegistry(newFakeStore(), clock.Now)
	record := NewRecord("orders", time.Hour)
	record.Info.Id = uuid.NewString()
	newer := r.remember(snapshot(record, 2), clock.Now())
	require.Same(t, newer, r.remember(snapshot(record, 1), clock.Now().Add(time.Second)))
	require.Same(t, newer, r.remember(snapshot(record, 2), clock.Now().Add(-time.Second)))
	for i := range cacheEntriesMax + 10 {
		record := NewRecord(fmt.Sprint("n", i), time.Hour)
		record.Info.Id = uuid.NewString()
		r.remember(snapshot(record, 1), clock.Now())
	}
	require.Len(t, r.byID, cacheEntriesMax)
	require.Len(t, r.byName, cacheEntriesMax)
}

func TestEnsure(t *testing.T) {
	ctx := context.Background()
	store := newFakeStore()
	r := New(store)
	for range 2 {
		require.NoError(t, r.EnsureSystem(ctx))
		require.NoError(t, r.Ensure(ctx, 24*time.Hour, "default", "other"))
	}
	system, err := r.ByID(ctx, SystemID)
	require.NoError(t, err)
	require.Equal(t, "temporal-system", system.Name())
	require.Equal(t, 168*time.Hour, system.Retention())
	other, err := r.ByName(ctx, "other")
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, other.Retention())

	var names []string
	for after := ""; ; {
		page, err := r.List(ctx, after, 2)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, n := range page {
			names, after = append(names, n.Name()), n.ID()
		}
	}
	require.ElementsMatch(t, []string{"temporal-system", "default", "other"}, names)
	all, err := r.List(ctx, "", 0)
	require.NoError(t, err)
	require.Len(t, all, 3)

	store.setBefore(func(string) error { return persistence.ErrOutcomeUnknown })
	var unavailable *serviceerror.Unavailable
	require.ErrorAs(t, r.EnsureSystem(ctx), &unavailable)
}
