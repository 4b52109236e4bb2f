// Package sdk runs workflows and activities of the real Go SDK against the real server, feature by feature, and option by option.
//
// Invariants: a test has a task queue and workflow ids of its own, so that all of them share one server; it waits for what can be
// observed, never for time to pass; the same features run on SQLite and on PostgreSQL, with the worker's cache of workflows and without it.
package sdk

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/worker"

	"github.com/perdure/perdure/test/harness"
)

const (
	// envAddress is the address of a running server, to be used instead of servers that the tests start.
	envAddress = "PERDURE_SDK_TEST_ADDRESS"
	// envUncached, if set, turns the worker's cache off. The SDK has one cache per process, so a test binary runs itself again for it.
	envUncached = "PERDURE_SDK_TEST_UNCACHED"
	// parallelMax is how many tests run at once. They mostly wait, so it is not the number of cores.
	parallelMax = "24"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !isSet("test.parallel") {
		if err := flag.Set("test.parallel", parallelMax); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if !cached() {
		worker.SetStickyWorkflowCacheSize(0)
	}
	if os.Getenv(envAddress) != "" {
		os.Exit(m.Run())
	}
	os.Exit(harness.Main(m, "cmd/..."))
}

func isSet(name string) bool {
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// cached tells whether the workers of this process keep workflows in memory between tasks.
func cached() bool { return os.Getenv(envUncached) == "" }

// group is a set of tests of one part of the SDK.
type group struct {
	name  string
	tests map[string]func(*env)
}

var features = []group{
	activityFeatures, asyncFeatures, localActivityFeatures, timerFeatures, signalFeatures, queryFeatures, updateFeatures, childFeatures,
	externalFeatures, chainFeatures, recordFeatures, attributeFeatures, sessionFeatures, cancelFeatures, failureFeatures, eagerFeatures,
	scaleFeatures,
}

func TestFeatures(t *testing.T) {
	if addr := os.Getenv(envAddress); addr != "" {
		t.Run("features", func(t *testing.T) { runGroups(t, addr, features) })
		if cached() {
			t.Run("options", func(t *testing.T) { runGroups(t, addr, optionGroups()) })
		}
		return
	}
	for _, flavour := range harness.Flavours {
		t.Run(flavour.Name, func(t *testing.T) {
			addr := flavour.Start(t).Addr
			t.Run("all", func(t *testing.T) { // returns when all are done, so that the server ends after them
				t.Run("cached", func(t *testing.T) {
					t.Parallel()
					runGroups(t, addr, features)
				})
				t.Run("uncached", func(t *testing.T) {
					t.Parallel()
					runUncached(t, addr)
				})
				t.Run("options", func(t *testing.T) {
					t.Parallel()
					runGroups(t, addr, optionGroups())
				})
			})
		})
	}
}

func runGroups(t *testing.T, addr string, groups []group) {
	c := (&harness.Server{Addr: addr}).Dial(t)
	t.Run("on", func(t *testing.T) { // returns when all are done, so that the client is closed after them
		for _, g := range groups {
			for name, test := range g.tests {
				t.Run(g.name+"/"+name, func(t *testing.T) {
					t.Parallel()
					test(newEnv(t, addr, c))
				})
			}
		}
	})
}

// runUncached runs the features in a process whose SDK has no cache.
func runUncached(t *testing.T, addr string) {
	binary, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestFeatures$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), envAddress+"="+addr, envUncached+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
