// Package typescript runs a worker and a client of the TypeScript SDK, whose core is shared by the Python, .NET and Ruby SDKs, against
// the real server. The programs are in src; package-lock.json pins what they need.
package typescript

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/test/harness"
)

// testMax bounds the whole test; without a cache it downloads some 60 MB first.
const testMax = 3 * time.Minute

func TestMain(m *testing.M) { os.Exit(harness.Main(m, "cmd/perdure")) }

func TestTypeScriptSDK(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), testMax)
	t.Cleanup(cancel)
	program := build(t, ctx)
	env := append(os.Environ(), "PERDURE_ADDRESS="+harness.StartDev(t).Addr, "PERDURE_TASK_QUEUE="+uuid.NewString())

	// If the worker ends, so does the client, which would wait for it in vain.
	ctx, workerEnded := context.WithCancel(ctx)
	worker := exec.CommandContext(ctx, "node", "lib/worker.js")
	worker.Dir, worker.Env = program, env
	done := make(chan string, 1)
	go func() {
		out, err := worker.CombinedOutput()
		done <- fmt.Sprintf("%v\n%s", err, out)
		workerEnded()
	}()

	client := exec.CommandContext(ctx, "node", "lib/client.js")
	client.Dir, client.Env = program, env
	out, err := client.CombinedOutput()
	workerEnded()
	log := <-done
	require.NoError(t, err, "client:\n%s\nworker: %s", out, log)
	t.Logf("\n%s", out)
}

// build compiles the programs and returns their directory.
func build(t *testing.T, ctx context.Context) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			require.FailNow(t, "this test needs Node.js 20 or later and npm in PATH", "%s: %v", tool, err)
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "src"), os.DirFS("src")))
	copyFiles(t, dir, "package.json", "tsconfig.json")
	require.NoError(t, os.Symlink(filepath.Join(install(t, ctx), "node_modules"), filepath.Join(dir, "node_modules")))
	run(t, ctx, dir, "node", "node_modules/typescript/bin/tsc")
	return dir
}

// install returns a directory with the packages of package-lock.json. It is kept from run to run, in the user's cache.
func install(t *testing.T, ctx context.Context) string {
	t.Helper()
	lock, err := os.ReadFile("package-lock.json")
	require.NoError(t, err)
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	digest := sha256.Sum256(lock)
	root := filepath.Join(cache, "perdure-test", "typescript")
	dir := filepath.Join(root, hex.EncodeToString(digest[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	require.NoError(t, os.MkdirAll(root, 0o755))
	unfinished, err := os.MkdirTemp(root, "install-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(unfinished) })
	copyFiles(t, unfinished, "package.json", "package-lock.json")
	run(t, ctx, unfinished, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	// Another test run may have been faster; what it has installed is the same.
	if err := os.Rename(unfinished, dir); err != nil && !errors.Is(err, os.ErrExist) {
		_, statErr := os.Stat(dir)
		require.NoError(t, errors.Join(err, statErr))
	}
	return dir
}

func copyFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
}

func run(t *testing.T, ctx context.Context, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v:\n%s", name, args, out)
}
