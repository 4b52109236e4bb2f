package historytest

import (
	"context"
	"slices"
	"strings"

	"github.com/perdure/perdure/persistence"
)

// CreateNamespace implements persistence.Namespaces.
func (s *Store) CreateNamespace(_ context.Context, r *persistence.NamespaceRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.namespace(r.ID, "") != nil || s.namespace("", r.Name) != nil {
		return persistence.ErrConflict
	}
	stored := *r
	s.spaces[r.ID] = &stored
	return nil
}

func (s *Store) namespace(id, name string) *persistence.NamespaceRecord {
	if id != "" {
		return s.spaces[id]
	}
	for _, r := range s.spaces {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// GetNamespace implements persistence.Namespaces.
func (s *Store) GetNamespace(_ context.Context, id, name string) (*persistence.NamespaceRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.namespace(id, name)
	if r == nil {
		return nil, persistence.ErrNotFound
	}
	copied := *r
	return &copied, nil
}

// UpdateNamespace implements persistence.Namespaces.
func (s *Store) UpdateNamespace(_ context.Context, r *persistence.NamespaceRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := s.spaces[r.ID]
	switch {
	case stored == nil:
		return persistence.ErrNotFound
	case stored.Version != r.Version:
		return persistence.ErrConflict
	}
	updated := *r
	updated.Version++
	s.spaces[r.ID] = &updated
	return nil
}

// ListNamespaces implements persistence.Namespaces.
func (s *Store) ListNamespaces(_ context.Context, afterID string, limit int) (list []*persistence.NamespaceRecord, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.spaces {
		if id > afterID {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b *persistence.NamespaceRecord) int { return strings.Compare(a.ID, b.ID) })
	return list[:min(limit, len(list))], nil
}

// DeleteNamespace implements persistence.Namespaces.
func (s *Store) DeleteNamespace(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.spaces, id)
	return nil
}
