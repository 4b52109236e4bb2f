package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

// childVariable makes the test binary a process that commits until it is killed. It holds the path of the database.
const childVariable = "PERDURE_SQLITE_TEST_CHILD"

// childWorkflows commit side by side in the child, so that groups have several members.
const childWorkflows = 8

// runChild tells whether this process is such a child.
func runChild() bool {
	path := os.Getenv(childVariable)
	if path == "" {
		return false
	}
	if err := commitForever(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// commitForever prints "workflow run seq" after each commit that was acknowledged.
func commitForever(path string) error {
	store, err := Open(context.Background(), Options{Path: path})
	if err != nil {
		return err
	}
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		errs  []error
	)
	for i := range childWorkflows {
		group.Go(func() {
			err := commitWorkflow(store, i, &mu)
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func childKey(workflow int) persistence.ExecutionKey {
	return persistence.ExecutionKey{NamespaceID: "n", Kind: persistence.KindWorkflow, BusinessID: fmt.Sprint("workflow-", workflow)}
}

func commitWorkflow(store *Store, workflow int, out *sync.Mutex) error {
	ctx, key, run := context.Background(), childKey(workflow), uuid.Must(uuid.NewV7()).String()
	epochs, err := store.TakeShards(ctx, "child", []persistence.ShardID{key.Shard()})
	if err != nil {
		return err
	}
	for seq := int64(1); ; seq++ {
		w := persistence.RunWrite{RunID: run, Insert: seq == 1, Status: 1,
			Transition: &persistence.Transition{Seq: seq, FirstEventID: seq, Events: []byte("events"), Parts: []byte("parts")},
			Visibility: &persistence.VisibilityRow{NamespaceID: "n", RunID: run, HistoryLength: seq}}
		if err := store.Commit(ctx, &persistence.Mutation{Key: key, Epoch: epochs[key.Shard()], Runs: []persistence.RunWrite{w}}); err != nil {
			return err
		}
		out.Lock()
		_, err := fmt.Printf("%d %s %d\n", workflow, run, seq)
		out.Unlock()
		if err != nil {
			return err
		}
	}
}

type acknowledgement struct {
	workflow int
	run      string
}

// TestKilledProcessLosesNothing kills a committing process again and again, each time at another point.
func TestKilledProcessLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "killed.db")
	acknowledged := map[acknowledgement]int64{}
	for round := range 5 {
		runUntilKilled(t, path, 200+37*round, acknowledged)
		checkAcknowledged(t, path, acknowledged)
	}
}

// runUntilKilled kills the child after it has acknowledged a number of commits.
func runUntilKilled(t *testing.T, path string, commits int, acknowledged map[acknowledgement]int64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ { // what it wrote before it died was acknowledged, too
		if n == commits {
			require.NoError(t, child.Process.Signal(syscall.SIGKILL))
		}
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			break // cut by the kill
		}
		workflow, err := strconv.Atoi(fields[0])
		require.NoError(t, err)
		seq, err := strconv.ParseInt(fields[2], 10, 64)
		require.NoError(t, err)
		acknowledged[acknowledgement{workflow, fields[1]}] = seq
	}
	require.Error(t, child.Wait(), "it must have been killed")
	require.Equal(t, "signal: killed", child.ProcessState.String())
}

func checkAcknowledged(t *testing.T, path string, acknowledged map[acknowledgement]int64) {
	ctx := context.Background()
	store := open(t, path)
	defer func() { require.NoError(t, store.Close()) }()
	rows, err := store.ListVisibility(ctx, "n", nil, nil, 10_000)
	require.NoError(t, err)
	listed := map[string]int64{}
	for _, row := range rows {
		listed[row.RunID] = row.HistoryLength
	}
	for ack, seq := range acknowledged {
		run, err := store.LoadRun(ctx, childKey(ack.workflow), ack.run)
		require.NoError(t, err)
		require.GreaterOrEqual(t, int64(len(run.Transitions)), seq, "acknowledged transitions are there, without gaps")
		require.LessOrEqual(t, int64(len(run.Transitions)), seq+1, "at most the one under way is more")
		require.Equal(t, int64(len(run.Transitions)), listed[ack.run], "listed is what is")
	}
}
