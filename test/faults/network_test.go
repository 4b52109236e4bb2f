package faults

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The connections between processes break again and again.
func TestConnectionsBetweenProcessesAreCut(t *testing.T) {
	f := newFleet(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	for range 20 {
		for _, n := range f.nodes() {
			if n.internal != nil {
				n.internal.cut()
			}
		}
		l.await(2)
	}
	l.finish(f)
}

// Nobody reaches a host any more, and nobody is told, while it itself is well: the network between is broken. Its shards stay its
// own; when the network is back, so is everything.
func TestNetworkIsSilent(t *testing.T) {
	for service, of := range map[string]func(*fleet) *node{
		"history":  func(f *fleet) *node { return f.history[0] },
		"matching": func(f *fleet) *node { return f.matching[0] },
	} {
		t.Run(service, func(t *testing.T) {
			f := newFleet(t)
			l := f.startLoad(parallelJourneys)
			l.await(parallelJourneys)
			unreachable := of(f)
			unreachable.internal.set(silent)
			awaitLease(t)
			require.True(t, unreachable.ready(), "it is well itself")
			unreachable.internal.set(open)
			f.awaitWell(l)
			l.finish(f)
		})
	}
}

// A process comes back with another address.
func TestAddressChanges(t *testing.T) {
	f := newFleet(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	for _, n := range []*node{f.history[0], f.matching[0]} {
		n.kill()
		n.move()
		n.start()
		n.awaitReady()
		l.await(parallelJourneys)
	}
	l.finish(f)
}
