package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDatabaseDown = errors.New("the database is down")

// database is a table of members, with a clock of its own.
type database struct {
	mu     sync.Mutex
	rows   map[string]persistence.Member
	offset time.Duration
	// down makes every call of these members fail ("": of all), hung makes it wait.
	down, hung map[string]bool
	renewals   int
}

func newDatabase() *database {
	return &database{rows: map[string]persistence.Member{}, down: map[string]bool{}, hung: map[string]bool{}}
}

func (d *database) set(change func(d *database)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// count is the number of renewals so far.
func (d *database) count() (n int) {
	d.set(func(d *database) { n = d.renewals })
	return n
}

func (d *database) fault(ctx context.Context, id string) error {
	d.mu.Lock()
	down, hung := d.down[id] || d.down[""], d.hung[id]
	d.mu.Unlock()
	if hung {
		<-ctx.Done()
		return ctx.Err()
	}
	if down {
		return errDatabaseDown
	}
	return nil
}

func (d *database) RenewMember(ctx context.Context, m persistence.Member, ttl time.Duration) ([]persistence.Member, time.Time, error) {
	if err := d.fault(ctx, m.ID); err != nil {
		return nil, time.Time{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.renewals++
	now := time.Now().Add(d.offset)
	m.Started, m.Renewed, m.Expires = now, now, now.Add(ttl)
	if before, ok := d.rows[m.ID]; ok {
		m.Started = before.Started
	}
	d.rows[m.ID] = m
	return slices.SortedFunc(maps.Values(d.rows), func(a, b persistence.Member) int { return strings.Compare(a.ID, b.ID) }), now, nil
}

func (d *database) RemoveMember(ctx context.Context, id string) error {
	if err := d.fault(ctx, id); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.rows, id)
	return nil
}
