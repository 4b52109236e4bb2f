package faults

import (
	"context"
	"strings"
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

// Nobody reaches a process any more, while it itself reaches everybody, and the database. The others tell it, and it steps back: its work
// is done elsewhere until the network is whole again.
func TestNobodyReachesAProcess(t *testing.T) {
	for name, c := range map[string]struct {
		of    func(*fleet) *node
		state linkState
	}{
		"history, in silence":     {func(f *fleet) *node { return f.history[0] }, silent},
		"history, refusing calls": {func(f *fleet) *node { return f.history[0] }, refusing},
		"matching, in silence":    {func(f *fleet) *node { return f.matching[0] }, silent},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			ids := sleepers(t, f.dial(), 64)
			l := f.startLoad(parallelJourneys)
			l.await(parallelJourneys)
			unreachable := c.of(f)
			unreachable.internal.set(c.state)
			took := signalAll(t, f.dial(), ids)
			t.Logf("the work of an unreachable process was done again after %v", took)
			l.await(3 * parallelJourneys)
			require.Eventually(t, func() bool { return strings.Contains(unreachable.output(), `"isolated":true`) }, recoverMax, 50*time.Millisecond)
			unreachable.internal.set(open)
			f.awaitWell(l)
			l.finish(f)
		})
	}
}

// Of two processes, neither can know which of them is cut off. What the unreachable one owns stays its own; when the network is back, so
// is everything.
func TestNetworkBetweenTwoIsSilent(t *testing.T) {
	f := newPair(t)
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	unreachable := f.frontends[0]
	unreachable.internal.set(silent)
	awaitLease(t)
	require.True(t, unreachable.ready(), "it is well itself")
	unreachable.internal.set(open)
	f.awaitWell(l)
	l.finish(f)
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
