package persistence

import "context"

// NamespaceRecord is a stored namespace. Data is the caller's.
type NamespaceRecord struct {
	ID      string
	Name    string
	Data    []byte
	Version int64 // counts updates, from 1
}

// Namespaces is the registry of namespaces. It is read through: a namespace is usable as soon as it is stored.
type Namespaces interface {
	// CreateNamespace stores a new namespace, or answers ErrConflict if its name or id is taken.
	CreateNamespace(ctx context.Context, r *NamespaceRecord) error
	// GetNamespace finds a namespace by id or, if the id is empty, by name.
	GetNamespace(ctx context.Context, id, name string) (*NamespaceRecord, error)
	// UpdateNamespace replaces name and data if the stored version is r.Version, and raises the version; else ErrConflict.
	UpdateNamespace(ctx context.Context, r *NamespaceRecord) error
	// ListNamespaces lists by id, after an id, at most limit.
	ListNamespaces(ctx context.Context, afterID string, limit int) ([]*NamespaceRecord, error)
	// DeleteNamespace removes the record.
	DeleteNamespace(ctx context.Context, id string) error
}
