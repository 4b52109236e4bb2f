package namespace

import (
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"

	statepb "github.com/perdure/perdure/api/state/v1"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/visibility"
)

// The internal namespace that exists in every cluster.
const (
	SystemName      = "temporal-system"
	SystemID        = "32049b68-7872-4094-8e63-d0dd59896a83"
	systemRetention = 7 * 24 * time.Hour
)

// Namespace is a snapshot of a namespace. It never changes.
type Namespace struct {
	record     *statepb.Namespace
	version    int64
	retention  time.Duration
	attributes *visibility.Attributes
}

func decode(r *persistence.NamespaceRecord) (*Namespace, error) {
	record := &statepb.Namespace{}
	if err := proto.Unmarshal(r.Data, record); err != nil {
		return nil, fmt.Errorf("decode namespace %s: %w", r.ID, err)
	}
	return snapshot(record, r.Version), nil
}

func snapshot(record *statepb.Namespace, version int64) *Namespace {
	return &Namespace{
		record:     record,
		version:    version,
		retention:  record.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(),
		attributes: visibility.NewAttributes(record.GetInfo().GetName(), record.GetSearchAttributes()),
	}
}

// ID is the namespace's UUID.
func (n *Namespace) ID() string { return n.record.GetInfo().GetId() }

// Name is the name that clients use.
func (n *Namespace) Name() string { return n.record.GetInfo().GetName() }

// State is REGISTERED, DEPRECATED or DELETED.
func (n *Namespace) State() enumspb.NamespaceState { return n.record.GetInfo().GetState() }

// Retention is how long closed executions are kept.
func (n *Namespace) Retention() time.Duration { return n.retention }

// Attributes are the search attributes of the namespace. To answer that one is unknown, go through
// Registry.WithAttributes, which looks again first.
func (n *Namespace) Attributes() *visibility.Attributes { return n.attributes }

// Version counts the updates of the namespace, from 1.
func (n *Namespace) Version() int64 { return n.version }

// Record returns a copy of the stored record.
func (n *Namespace) Record() *statepb.Namespace { return proto.CloneOf(n.record) }

// RequireState answers FAILED_PRECONDITION NamespaceInvalidState unless the namespace is in one of the states. Whatever
// starts a workflow requires REGISTERED.
func (n *Namespace) RequireState(allowed ...enumspb.NamespaceState) error {
	for _, state := range allowed {
		if n.State() == state {
			return nil
		}
	}
	return serviceerror.NewNamespaceInvalidState(n.Name(), n.State(), allowed)
}
