package namespace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
)

const (
	// updateAttemptsMax bounds the retries of an update that others overtake; more writers at once than this are a mistake.
	updateAttemptsMax = 10
	// ListPageMax is the largest page of List.
	ListPageMax = 1000
)

// Create stores a new namespace, with a new id if the record has none, or answers NamespaceAlreadyExists. The record is the
// registry's from then on.
func (r *Registry) Create(ctx context.Context, record *statepb.Namespace) (*Namespace, error) {
	info := record.GetInfo()
	if info.GetId() == "" {
		info.Id = uuid.NewString()
	}
	data, err := proto.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode namespace %s: %w", info.GetName(), err)
	}
	begun := r.now()
	err = r.store.CreateNamespace(ctx, &persistence.NamespaceRecord{ID: info.GetId(), Name: info.GetName(), Data: data, Version: 1})
	if errors.Is(err, persistence.ErrConflict) {
		return nil, serviceerror.NewNamespaceAlreadyExistsf("Namespace %q already exists", info.GetName())
	}
	if err != nil {
		return nil, storeError("create namespace", err)
	}
	return r.remember(snapshot(record, 1), begun), nil
}

// Update changes a namespace by name: change gets a copy of what is stored, and its error ends the update. It may be called
// again if somebody else was faster.
func (r *Registry) Update(ctx context.Context, name string, change func(*statepb.Namespace) error) (*Namespace, error) {
	for range updateAttemptsMax {
		n, err := r.updateOnce(ctx, name, change)
		if !errors.Is(err, persistence.ErrConflict) {
			return n, err
		}
	}
	return nil, serviceerror.NewUnavailablef("Namespace %s is being updated by others, please retry.", name)
}

func (r *Registry) updateOnce(ctx context.Context, name string, change func(*statepb.Namespace) error) (*Namespace, error) {
	current, err := r.read(ctx, "", name, r.now(), r.unknownReads)
	if err != nil {
		return nil, err
	}
	record := current.Record()
	if err := change(record); err != nil {
		return nil, err
	}
	data, err := proto.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode namespace %s: %w", name, err)
	}
	begun := r.now()
	err = r.store.UpdateNamespace(ctx, &persistence.NamespaceRecord{
		ID: current.ID(), Name: record.GetInfo().GetName(), Data: data, Version: current.Version(),
	})
	if errors.Is(err, persistence.ErrNotFound) {
		return nil, serviceerror.NewNamespaceNotFound(name)
	}
	if err != nil {
		if errors.Is(err, persistence.ErrConflict) {
			return nil, err
		}
		return nil, storeError("update namespace", err)
	}
	return r.remember(snapshot(record, current.Version()+1), begun), nil
}

// List returns namespaces by id, after an id ("" for the first page), at most limit (1 … ListPageMax).
func (r *Registry) List(ctx context.Context, afterID string, limit int) ([]*Namespace, error) {
	if limit < 1 || limit > ListPageMax {
		limit = ListPageMax
	}
	records, err := r.store.ListNamespaces(ctx, afterID, limit)
	if err != nil {
		return nil, storeError("list namespaces", err)
	}
	namespaces := make([]*Namespace, len(records))
	for i, record := range records {
		if namespaces[i], err = decode(record); err != nil {
			return nil, err
		}
	}
	return namespaces, nil
}

// EnsureSystem creates the internal namespace if this is the cluster's first start.
func (r *Registry) EnsureSystem(ctx context.Context) error {
	record := NewRecord(SystemName, systemRetention)
	record.Info.Id = SystemID
	record.Info.Description = "Internal system namespace"
	return r.ensure(ctx, record)
}

// Ensure creates those of the names that do not exist yet, with a retention.
func (r *Registry) Ensure(ctx context.Context, retention time.Duration, names ...string) error {
	for _, name := range names {
		if err := r.ensure(ctx, NewRecord(name, retention)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) ensure(ctx context.Context, record *statepb.Namespace) error {
	_, err := r.Create(ctx, record)
	var exists *serviceerror.NamespaceAlreadyExists
	if errors.As(err, &exists) {
		return nil
	}
	return err
}

// NewRecord makes the record of a registered namespace, still without an id.
func NewRecord(name string, retention time.Duration) *statepb.Namespace {
	return &statepb.Namespace{
		Info: &namespacepb.NamespaceInfo{Name: name, State: enumspb.NAMESPACE_STATE_REGISTERED},
		Config: &namespacepb.NamespaceConfig{
			WorkflowExecutionRetentionTtl: durationpb.New(retention),
			HistoryArchivalState:          enumspb.ARCHIVAL_STATE_DISABLED,
			VisibilityArchivalState:       enumspb.ARCHIVAL_STATE_DISABLED,
		},
	}
}
