package history

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/machine/workflow"
	"github.com/perdure/perdure/persistence"
)

// find returns a run, or with an empty id the current one, or the NOT_FOUND that clients know.
func (x *access) find(runID string) (*run, error) {
	r, err := x.load(runID)
	if err != nil || r != nil {
		return r, err
	}
	if runID == "" {
		return nil, errWorkflowNotFound(x.chain.key.BusinessID)
	}
	return nil, errRunNotFound(x.chain.key.BusinessID, runID)
}

// load returns a run, or with an empty id the current one; nil if there is none.
func (x *access) load(runID string) (*run, error) {
	if runID == "" {
		runID = x.chain.current
	}
	if r := x.chain.runs[runID]; r != nil {
		x.metrics.cacheHits.Inc()
		x.touch(r)
		return r, nil
	}
	x.metrics.cacheMisses.Inc()
	stored, err := x.Service.store.LoadRun(x.ctx, x.chain.key, runID)
	if errors.Is(err, persistence.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, readError("load the run", err)
	}
	if r := x.chain.runs[stored.RunID]; r != nil { // the current run was cached under its id
		x.chain.current = r.id
		x.touch(r)
		return r, nil
	}
	r, err := x.decode(stored)
	if err != nil {
		return nil, fmt.Errorf("load run %s: %w", stored.RunID, err)
	}
	if runID == "" {
		x.chain.current = r.id
	}
	x.cacheRun(r)
	if r.flagged {
		x.resume(r)
		x.resumeDelete(r)
	}
	return r, nil
}

// resumeDelete goes on with the deletion that a former owner has begun.
func (x *access) resumeDelete(r *run) {
	if s, t := x.Service, (target{key: x.chain.key, runID: r.id}); r.state.Deleting() {
		s.background(func() { s.deleteWhenDone(t) })
	}
}

func (x *access) decode(stored *persistence.Run) (*run, error) {
	r := &run{chain: x.chain, id: stored.RunID, bucket: stored.Bucket, wakeAt: stored.WakeAt, flagged: stored.HasEffects}
	var snapshot []byte
	if stored.Snapshot != nil {
		snapshot = stored.Snapshot.Parts
		r.seq, r.snapshotBytes = stored.Snapshot.Seq, len(snapshot)
	}
	rows := make([][]byte, 0, len(stored.Transitions))
	for _, t := range stored.Transitions {
		if t.Seq <= r.seq {
			return nil, fmt.Errorf("row %d follows row %d", t.Seq, r.seq)
		}
		r.seq = t.Seq
		r.rows++
		r.partsBytes += len(t.Parts)
		rows = append(rows, t.Parts)
	}
	var err error
	if r.state, err = workflow.Load(snapshot, rows); err != nil {
		return nil, err
	}
	if r.state.Start.RunId != r.id {
		return nil, fmt.Errorf("its rows are those of run %s", r.state.Start.RunId)
	}
	return r, nil
}

func (x *access) cacheRun(r *run) {
	if x.chain.runs == nil {
		x.chain.runs = map[string]*run{}
	}
	x.chain.runs[r.id] = r
	x.touch(r)
}

// findFirst returns the run that a request names. With the id of a chain's first run that is the current run, whatever run id
// comes with it; checkFirst follows.
func (x *access) findFirst(execution *commonpb.WorkflowExecution, firstRunID string) (*run, error) {
	if firstRunID != "" {
		return x.find("")
	}
	return x.find(execution.GetRunId())
}

// checkFirst makes sure that a run belongs to the chain that a request names; "": it names none.
func checkFirst(r *run, firstRunID string) error {
	if firstRunID != "" && r.state.Start.FirstRunId != firstRunID {
		return serviceerror.NewNotFound("workflow execution not found")
	}
	return nil
}

// newRunID makes the id of a run that is to be the newest of its key: a UUIDv7 of now, or the one after the last run's.
func (x *access) newRunID() (string, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("make a run id: %w", err)
	}
	ms := x.now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[6] = 0x70 | id[6]&0x0f
	last, err := uuid.Parse(x.chain.current)
	if err != nil || id.String() > last.String() {
		return id.String(), nil
	}
	return successor(last).String(), nil
}

// successor is the next greater UUID of the same version and variant.
func successor(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		mask := byte(0xff)
		switch i {
		case 6:
			mask = 0x0f
		case 8:
			mask = 0x3f
		}
		next := (id[i] + 1) & mask
		id[i] = id[i]&^mask | next
		if next != 0 {
			break
		}
	}
	return id
}

// env is what a transition of a run may need to know.
func (x *access) env(newRunID string) workflow.Env {
	n, err := x.namespaces.ByID(x.ctx, x.chain.key.NamespaceID)
	env := workflow.Env{
		NewRunID:        newRunID,
		NamespaceID:     x.namespaceID,
		EagerActivities: true,
	}
	if err != nil {
		// The namespace has been deleted, or the database does not answer: only commands that need the name will fail.
		env.CheckSearchAttributes = func(*commonpb.SearchAttributes) (*commonpb.SearchAttributes, error) { return nil, err }
		return env
	}
	env.Namespace, env.Retention = n.Name(), n.Retention()
	env.CheckSearchAttributes = func(sa *commonpb.SearchAttributes) (*commonpb.SearchAttributes, error) {
		return x.checkSearchAttributes(x.ctx, n, sa)
	}
	return env
}

func (x *access) namespaceID(name string) (string, error) {
	n, err := x.namespaces.ByName(x.ctx, name)
	if err != nil {
		return "", err
	}
	return n.ID(), nil
}

// peek returns a run without loading it; nil if it is not cached.
func (x *access) peek(runID string) *run { return x.chain.runs[runID] }

// namespaceName is the name of a namespace, or its id if the name cannot be found.
func (s *Service) namespaceName(ctx context.Context, id string) string {
	n, err := s.namespaces.ByID(ctx, id)
	if err != nil {
		return id
	}
	return n.Name()
}
