package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/cluster"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/postgres"
	"github.com/perdure/perdure/service/history"
	"github.com/perdure/perdure/service/matching"
)

const (
	// deepTimeout bounds a deep check. Its parts are looked at together.
	deepTimeout = 5 * time.Second
	// deepFresh is how long a deep check is told again: it writes to the database and calls every member.
	deepFresh = time.Second
)

// part is something that a deep check looks at.
type part struct {
	name  string
	check func(ctx context.Context) (detail map[string]any, err error)
}

// Describe adds a part to deep checks. An error says why it is not well; the detail is told in any case. All parts must be known before
// Started.
func (h *Health) Describe(name string, check func(ctx context.Context) (detail map[string]any, err error)) {
	h.parts = append(h.parts, part{name, check})
}

// partReport is what a deep check says of a part.
type partReport struct {
	OK     bool           `json:"ok"`
	Why    string         `json:"why,omitempty"`
	TookMS float64        `json:"took_ms"`
	Detail map[string]any `json:"detail,omitempty"`
}

// deepReport is the answer to a deep check.
type deepReport struct {
	Status  string                `json:"status"` // ok, or degraded
	Version string                `json:"version"`
	Checked time.Time             `json:"checked"`
	Parts   map[string]partReport `json:"parts"`
}

// deep looks at every part, or tells what was found a moment ago.
func (h *Health) deep(ctx context.Context) deepReport {
	h.deepMu.Lock()
	defer h.deepMu.Unlock()
	if time.Since(h.deepLast.Checked) < deepFresh {
		return h.deepLast
	}
	// Others may be told the same: the caller's leaving is no reason to find a database dead.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deepTimeout)
	defer cancel()
	report := deepReport{Status: "ok", Version: Version, Parts: map[string]partReport{}}
	parts := append([]part{{"process", h.processPart}}, h.parts...)
	found := make([]partReport, len(parts))
	var all sync.WaitGroup
	for i, p := range parts {
		all.Go(func() { found[i] = p.report(ctx) })
	}
	all.Wait()
	for i, p := range parts {
		report.Parts[p.name] = found[i]
		if !found[i].OK {
			report.Status = "degraded"
		}
	}
	report.Checked = time.Now().UTC()
	h.deepLast = report
	return report
}

func (p part) report(ctx context.Context) partReport {
	begun := time.Now()
	detail, err := p.check(ctx)
	r := partReport{OK: err == nil, TookMS: inMilliseconds(time.Since(begun)), Detail: detail}
	if err != nil {
		r.Why = err.Error()
	}
	return r
}

func (h *Health) serveDeep(w http.ResponseWriter, r *http.Request) {
	report := h.deep(r.Context())
	w.Header().Set("Content-Type", "application/json")
	if report.Status != "ok" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(report) // the client is gone: nobody to tell
}

// processPart is whether the process is starting or stopping.
func (h *Health) processPart(context.Context) (map[string]any, error) {
	return nil, h.running()
}

// inMilliseconds is a duration as a number that people read, to a microsecond.
func inMilliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// databasePart is whether the database takes a write, and how soon.
func databasePart(store persistence.Store) func(context.Context) (map[string]any, error) {
	return func(ctx context.Context) (map[string]any, error) {
		begun := time.Now()
		err := store.Ping(ctx, true)
		detail := map[string]any{"store": store.Name(), "write_ms": inMilliseconds(time.Since(begun))}
		if err != nil {
			return detail, err
		}
		if store, ok := store.(*postgres.Store); ok {
			status, err := store.SchemaStatus(ctx)
			if err != nil {
				return detail, err
			}
			detail["schema_version"], detail["schema_version_of_binary"] = status.Database, status.Binary
			if status.Database < status.Binary {
				return detail, errors.New("the schema of the database is older than this binary")
			}
		}
		return detail, nil
	}
}

// poolPart is whether reads wait for connections.
func poolPart(store *postgres.Store) func(context.Context) (map[string]any, error) {
	return func(context.Context) (map[string]any, error) {
		s := store.Stats()
		detail := map[string]any{"in_use": s.PoolInUse, "size": s.PoolSize, "waits_so_far": s.PoolWaits,
			"lists_in_use": s.ListsInUse, "commits_waiting": s.Waiting}
		if s.PoolSize > 0 && s.PoolInUse >= s.PoolSize {
			return detail, errors.New("all connections for reads are in use")
		}
		return detail, nil
	}
}

// leasePart is whether this process has its lease.
func leasePart(m *cluster.Membership) func(context.Context) (map[string]any, error) {
	return func(context.Context) (map[string]any, error) {
		left := m.LeaseLeft()
		detail := map[string]any{"member": m.Self().ID, "address": m.Self().Address,
			"renewed_ms_ago": inMilliseconds(m.LeaseTTL() - left), "left_ms": inMilliseconds(left)}
		return detail, leaseError(m)
	}
}

// clockPart is how far this machine's clock is from the database's.
func clockPart(m *cluster.Membership) func(context.Context) (map[string]any, error) {
	return func(context.Context) (map[string]any, error) {
		return map[string]any{"database_ahead_ms": inMilliseconds(m.ClockOffset()), "max_ms": inMilliseconds(clockOffsetMax)}, clockError(m)
	}
}

// peersPart is whether this process reaches the others.
func peersPart(m *cluster.Membership) func(context.Context) (map[string]any, error) {
	return func(ctx context.Context) (map[string]any, error) {
		detail, unreachable := map[string]any{}, []string(nil)
		for _, peer := range m.Reach(ctx) {
			if peer.Err != nil {
				unreachable = append(unreachable, fmt.Sprintf("%s at %s: %v", peer.Member.Service, peer.Member.Address, peer.Err))
			}
			detail[peer.Member.ID] = map[string]any{"service": peer.Member.Service, "address": peer.Member.Address, "reachable": peer.Err == nil,
				"draining": peer.Member.Draining, "took_ms": inMilliseconds(peer.Took)}
		}
		if len(unreachable) > 0 {
			return detail, errors.New("not reachable: " + strings.Join(unreachable, "; "))
		}
		return detail, nil
	}
}

// shardsPart is whether this process owns what it is to own. Without a membership it owns everything.
func shardsPart(s *history.Service, m *cluster.Membership, shards *cluster.Shards) func(context.Context) (map[string]any, error) {
	return func(context.Context) (map[string]any, error) {
		owned, expected := len(s.Owned()), persistence.ShardCount
		if m != nil {
			expected = m.ShardsExpected()
		}
		detail := map[string]any{"owned": owned, "expected": expected}
		switch {
		case shards != nil && !shards.Ready():
			return detail, errors.New("this process has not got its shards yet")
		case owned < expected:
			return detail, fmt.Errorf("%d shards of this process are still elsewhere", expected-owned)
		}
		return detail, nil
	}
}

// partitionsPart is what matching has in memory.
func partitionsPart(s *matching.Service) func(context.Context) (map[string]any, error) {
	return func(context.Context) (map[string]any, error) { return map[string]any{"loaded": s.Loaded()}, nil }
}
