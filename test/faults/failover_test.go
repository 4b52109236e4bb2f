package faults

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// The primary dies and its synchronous standby takes its place, twice: once at an address that everybody knows, and once where the first
// primary was. Nothing that anybody was told of is lost: every commit was on both.
func TestFailover(t *testing.T) {
	first := pgtest.NewServer(t)
	database := databaseOf(t, first)
	second := first.Standby(t, true)
	f := newFleetOn(t, pgtest.AnyOf(t, database, first.Address(), second.Address()))
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)

	first.Stop(t, true)
	second.Promote(t)
	f.awaitWell(l)
	require.Contains(t, f.history[0].output(), "timeline 2 instead of 1", "it does not trust what it remembers")

	third := second.Standby(t, true)
	for _, n := range f.nodes() {
		n.databases[0].lead(third.Address())
	}
	l.await(parallelJourneys)
	second.Stop(t, true)
	f.awaitNotReady() // nobody took over for a while
	awaitLease(t)
	f.requireAlive()
	third.Promote(t)
	f.awaitWell(l)
	f.database = pgtest.AnyOf(t, database, third.Address())
	f.requireBoundedPools()
	l.finish(f)
}

// The primary dies and what takes its place lacks the last of its commits, since it was no synchronous standby. That is lost; and nobody
// goes on as if it were not, also where the connections to the database are those of a pool, which outlive the change.
func TestFailoverToAStandbyThatLags(t *testing.T) {
	for name, through := range map[string]func(t *testing.T, database string, primary, standby *pgtest.Server) (string, func()){
		"one of two servers": func(t *testing.T, database string, primary, standby *pgtest.Server) (string, func()) {
			return pgtest.AnyOf(t, database, primary.Address(), standby.Address()), func() {}
		},
		"a pool": func(t *testing.T, database string, primary, standby *pgtest.Server) (string, func()) {
			u, err := url.Parse(database)
			require.NoError(t, err)
			way := newLink(t, primary.Address())
			u.Host = way.address
			return pgtest.NewPooler(t, u.String(), 10).URL(database), func() { way.lead(standby.Address()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			primary := pgtest.NewServer(t)
			database := databaseOf(t, primary)
			standby := primary.Standby(t, false)
			reach, change := through(t, database, primary, standby)
			testLaggingStandby(t, newFleetOn(t, reach), primary, standby, change)
		})
	}
}

func testLaggingStandby(t *testing.T, f *fleet, primary, standby *pgtest.Server, change func()) {
	c := f.dial()
	ids := sleepers(t, c, 64)
	primary.AwaitStandby(t)
	standby.Stop(t, true)
	signalAll(t, c, ids[:32]) // the standby knows nothing of that
	late := make([]string, 32)
	for i := range late {
		late[i] = fmt.Sprint("late-", i)
		_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: late[i], TaskQueue: "sleepers"}, "sleeper")
		require.NoError(t, err)
	}
	primary.Stop(t, true)
	change()
	standby.Start(t)
	standby.Promote(t)
	for _, id := range late {
		require.Eventually(t, func() bool {
			_, err := c.DescribeWorkflowExecution(t.Context(), id, "")
			return errors.As(err, new(*serviceerror.NotFound))
		}, recoverMax, 50*time.Millisecond, "%s is remembered, but it is not stored", id)
	}
	f.awaitReady()
	signalAll(t, c, ids) // all of them are open again
	ctx, cancel := context.WithTimeout(t.Context(), recoverMax)
	defer cancel()
	for status, want := range map[string]int64{"Running": 0, "Completed": int64(len(ids))} {
		answer, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: "ExecutionStatus = '" + status + "'"})
		require.NoError(t, err)
		require.Equal(t, want, answer.GetCount(), status)
	}
	f.requireNoPanics()
	f.requireSound()
}
