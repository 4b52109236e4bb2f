// Package contract holds the server to its contract, point by point, in raw gRPC as a client would speak it.
//
// Each point is a line of a table: the section and number of the contract first, so that a point's tests are found by grep and run with
// `go test -run 'TestContract/start-dev/8.07'`. All points run at once against one server of each flavour, with workflow ids and task queues
// of their own. What needs a crash is in crash_test.go, with servers of its own.
package contract

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/test/harness"
)

// inParallel is how many points run at a time: nearly all of them mostly wait.
const inParallel = "40"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", inParallel); err != nil {
		panic(err)
	}
	os.Exit(harness.Main(m, "cmd/perdure", "cmd/frontend", "cmd/history", "cmd/matching"))
}

// point is one thing that the contract promises.
type point struct {
	// name begins with the section and number.
	name string
	test func(*env)
}

// points are all tables.
func points() (all []point) {
	for _, table := range [][]point{
		workflowTasks, attempts, queries, dedup, chains, children, activities, reading, resets, updates, misc,
		commands, badCommands(), buffering, sizes, counts, conditions, recorded,
	} {
		all = append(all, table...)
	}
	return all
}

func TestContract(t *testing.T) {
	t.Parallel()
	for _, f := range harness.Flavours {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s := connect(t, f.Start(t))
			for _, p := range points() {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					p.test(s.env(t))
				})
			}
		})
	}
}

// The contract's checklist has 46 points; none may be forgotten.
func TestEveryPointOfTheChecklistHasATest(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for _, p := range points() {
		number, _, _ := strings.Cut(p.name, " ")
		tested[number] = true
	}
	for n := 1; n <= 46; n++ {
		require.True(t, tested[fmt.Sprintf("8.%02d", n)], "no test for point 8.%02d", n)
	}
}
