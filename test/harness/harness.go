// Package harness builds the real binaries and runs them as a user would, for tests that talk to them from outside.
//
// It owns the processes that it starts: each ends with its test, whatever happens. It knows nothing of what a test does with a server.
package harness

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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

// Binary is the path of a binary that [Main] built.
func Binary(name string) string { return filepath.Join(binDir, name) }

// FreeAddr returns an address of this machine on which nobody listens.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// FreePort returns a port of this machine on which nobody listens.
func FreePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(FreeAddr(t))
	require.NoError(t, err)
	return port
}
