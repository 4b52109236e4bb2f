package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/perdure/perdure/cluster/certs/certstest"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/test/harness"
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

// Services speak mutual TLS with each other: who has no certificate of theirs is not served.
func TestMutualTLSBetweenServices(t *testing.T) {
	files := certstest.NewAuthority(t).Write(t, t.TempDir(), "perdure.internal", 1)
	tls := []string{
		"--internal-tls-cert", files.Cert, "--internal-tls-key", files.Key, "--internal-tls-ca", files.CA, "--internal-tls-server-name", "perdure.internal",
	}
	f := newFleetOn(t, pgtest.URL(t), tls...)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)

	// A process of the same cluster, but without TLS.
	stranger := f.node("frontend")
	stranger.start()
	stranger.current().AwaitReady(stranger.public)
	c, err := client.NewLazyClient(client.Options{HostPort: stranger.public, Logger: harness.Quiet{}})
	require.NoError(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err = c.DescribeWorkflowExecution(ctx, journeyID(1), "")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "not found")
	stranger.kill()

	f.history[0].kill()
	l.await(parallelJourneys)
	f.history[0].start()
	f.awaitReady()
	l.finish(f)
}
