// Package harness builds the real binaries and runs them as a user would, for tests that talk to them from outside.
//
// It owns the processes that it starts: each ends with its test, whatever happens. It knows nothing of what a test does with a server.
package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// ReadyMax is how long a process may take until it serves, on a busy machine.
const ReadyMax = 30 * time.Second

// module is what the packages of the binaries begin with.
const module = "github.com/perdure/perdure/"

var binDir string

// Main builds the packages (patterns relative to the module's root, such as "cmd/perdure") and runs a package's tests. It returns the exit
// code.
func Main(m interface{ Run() int }, packages ...string) int {
	dir, err := os.MkdirTemp("", "perdure-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	args := []string{"build", "-o", dir + "/"}
	for _, p := range packages {
		args = append(args, module+p)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return pgtest.Main(m)
}

// Binary is the path of a binary that [Main] built. What is a path already, to a binary of another version, stays what it is.
func Binary(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(binDir, name)
}

// Ports for servers are drawn from below those that the kernel gives to outgoing connections: one of these may take a port between the
// moment at which it was found free and the moment at which the server listens.
const (
	portMin = 12_000
	portMax = 32_000
	// portTries bounds the search for a free one.
	portTries = 100
)

// portsGiven are those that have been given out.
var portsGiven sync.Map

// FreeAddr returns an address of this machine on which nobody listens.
func FreeAddr(t testing.TB) string {
	t.Helper()
	var err error
	for range portTries {
		port := portMin + rand.IntN(portMax-portMin)
		if _, given := portsGiven.LoadOrStore(port, true); given {
			continue // whoever got it may not listen yet, or be about to start again
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			require.NoError(t, l.Close())
			return l.Addr().String()
		}
	}
	require.NoError(t, err, "no free port")
	return ""
}

// FreePort returns a port of this machine on which nobody listens.
func FreePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(FreeAddr(t))
	require.NoError(t, err)
	return port
}
