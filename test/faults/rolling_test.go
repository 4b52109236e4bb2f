package faults

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// envPrevious names the revision that TestRollingChange comes from and goes back to.
const envPrevious = "PERDURE_PREVIOUS"

// TestRollingChange replaces the processes of a cluster one by one, under load, by those of this version, and then by those of the one
// before again. In between both work side by side on one schema.
func TestRollingChange(t *testing.T) {
	revision, why := previousRevision(t)
	before := ""
	if revision == "" {
		t.Logf("this version is compared with itself: %s", why)
	} else {
		t.Logf("this version is compared with %s: %s", revision, why)
		before = buildRevision(t, revision)
	}
	f := makeFleet(t, pgtest.URL(t))
	for _, n := range f.nodes() {
		n.binaries = before
	}
	f.start()
	l := f.startLoad(parallelJourneys)
	l.await(parallelJourneys)
	roll := func(to string) {
		for _, n := range f.nodes() {
			n.stop()
			l.await(10)
			n.binaries = to
			n.start()
			n.awaitReady()
			l.await(10)
		}
	}
	roll("")
	roll(before)
	roll("")
	l.finish(f)
}

// previousRevision is what this version is to work beside, and why: what the environment says; else the last release before HEAD; before
// the first release, the newest commit whose schema lacks the newest migration; as long as there is but one, the oldest commit with
// today's schema that these tests know how to run. Without a history to look at it is HEAD; without any, nothing.
func previousRevision(t *testing.T) (revision, why string) {
	t.Helper()
	if asked := os.Getenv(envPrevious); asked != "" {
		return asked, "$" + envPrevious
	}
	if _, err := git("rev-parse", "--verify", "HEAD"); err != nil {
		return "", "this is not a clone"
	}
	if tag, err := git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^"); err == nil {
		return tag, "the last release"
	}
	if shallow, err := git("rev-parse", "--is-shallow-repository"); err != nil || shallow == "true" {
		return "HEAD", "there is no release, and this clone has no history to look for another"
	}
	migrations, err := filepath.Glob("../../schema/postgres/*.sql")
	require.NoError(t, err)
	newest := "schema/postgres/" + filepath.Base(migrations[len(migrations)-1])
	if added := commits(t, "A", newest); len(migrations) > 1 && len(added) > 0 {
		return added[0] + "^", "the commit before " + newest
	}
	schema, suite := commits(t, "AM", newest), commits(t, "A", "test/faults/fleet_test.go")
	if len(schema) == 0 || len(suite) == 0 {
		return "HEAD", "there is no release, and the newest migration or this test has not been committed"
	}
	if _, err := git("merge-base", "--is-ancestor", suite[0], schema[0]); err == nil {
		return schema[0], "the oldest commit with today's schema"
	}
	return suite[0], "the oldest commit with today's schema that these tests know"
}

// commits are those of the main line that added (A) or modified (M) a file, the latest first.
func commits(t *testing.T, filter, path string) []string {
	t.Helper()
	out, err := git("log", "--first-parent", "--diff-filter="+filter, "--format=%H", "--", ":/"+path)
	require.NoError(t, err)
	return strings.Fields(out)
}

// buildRevision builds the binaries of a revision and returns where they are.
func buildRevision(t *testing.T, revision string) string {
	t.Helper()
	source, binaries := t.TempDir(), t.TempDir()
	root, err := git("rev-parse", "--show-toplevel")
	require.NoError(t, err)
	archive := exec.Command("git", "-C", root, "archive", revision)
	var sources bytes.Buffer
	archive.Stdout = &sources
	require.NoError(t, archive.Run(), "git archive %s", revision)
	unpack := exec.Command("tar", "-x", "-C", source)
	unpack.Stdin = &sources
	require.NoError(t, unpack.Run())
	build := exec.Command("go", "build", "-o", binaries+"/", "./cmd/...")
	build.Dir = source
	out, err := build.CombinedOutput()
	require.NoError(t, err, "build %s: %s", revision, out)
	return binaries
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	return strings.TrimSpace(string(out)), err
}
