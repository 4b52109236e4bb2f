package cluster

import (
	"context"
	"sync"

	matchingpb "github.com/perdure/perdure/api/matching/v1"
)

// PartitionHolder is what holds partitions: the matching service of this process. It loads them when it is asked for them.
type PartitionHolder interface {
	// Release gives up the partitions that it is not to keep: what waits there is sent away.
	Release(keep func(*matchingpb.Partition) bool)
}

// Partitions keeps the partitions that a matching service has loaded in step with the view.
type Partitions struct {
	m      *Membership
	holder PartitionHolder
	stop   chan struct{}
	once   sync.Once
	work   sync.WaitGroup
}

// NewPartitions makes the driver.
func NewPartitions(m *Membership, holder PartitionHolder) *Partitions {
	p := &Partitions{m: m, holder: holder, stop: make(chan struct{})}
	m.OnYield(func(context.Context) { holder.Release(func(*matchingpb.Partition) bool { return false }) })
	return p
}

// Start begins to release what moves, in the background. The membership must have joined.
func (p *Partitions) Start() {
	changed, unwatch := p.m.Watch()
	p.work.Go(func() {
		defer unwatch()
		for {
			select {
			case <-changed:
				p.release()
			case <-p.stop:
				return
			}
		}
	})
}

// Stop ends that.
func (p *Partitions) Stop() {
	p.once.Do(func() { close(p.stop) })
	p.work.Wait()
}

// Drain sends everything away to the other members, if there are any, which from now on own the partitions.
func (p *Partitions) Drain(ctx context.Context) error {
	p.Stop()
	if err := p.m.Drain(ctx); err != nil {
		return err
	}
	p.release()
	return nil
}

func (p *Partitions) release() {
	view := p.m.View()
	p.holder.Release(func(partition *matchingpb.Partition) bool {
		owner, _ := view.PartitionOwner(partition)
		return owner.ID == p.m.self.ID
	})
}
