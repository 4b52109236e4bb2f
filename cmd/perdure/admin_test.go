package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/perdure/perdure/admin"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/persistence/sql/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// run runs the program as a user would.
func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := root()
	var out, errOut bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

// newFile makes a database with the namespace "default" and a member, and lets fill write to it.
func newFile(t *testing.T, fill func(ctx context.Context, s *sqlite.Store, namespaceID string)) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: file})
	require.NoError(t, err)
	namespace := uuid.NewString()
	require.NoError(t, s.CreateNamespace(t.Context(), &persistence.NamespaceRecord{ID: namespace, Name: "default", Data: []byte("n")}))
	_, _, err = s.RenewMember(t.Context(), persistence.Member{ID: "m-1", Service: "history", Address: "h:7234"}, time.Minute)
	require.NoError(t, err)
	if fill != nil {
		fill(t.Context(), s, namespace)
	}
	require.NoError(t, s.Close())
	return file
}

func TestFsckOfHealthyFile(t *testing.T) {
	out, errOut, err := run(t, "admin", "fsck", "--db-filename", newFile(t, nil))
	require.NoError(t, err)
	require.Empty(t, out)
	require.Contains(t, errOut, "checked 0 runs, 0 transitions, 0 events: 0 violations")
}

func TestFsckOfDamagedFile(t *testing.T) {
	var key persistence.ExecutionKey
	runID := uuid.Must(uuid.NewV7()).String()
	file := newFile(t, func(ctx context.Context, s *sqlite.Store, namespaceID string) {
		key = persistence.ExecutionKey{NamespaceID: namespaceID, Kind: persistence.KindWorkflow, BusinessID: "w"}
		epochs, err := s.TakeShards(ctx, "me", []persistence.ShardID{key.Shard()})
		require.NoError(t, err)
		require.NoError(t, s.Commit(ctx, &persistence.Mutation{Key: key, Epoch: epochs[key.Shard()], Runs: []persistence.RunWrite{{
			RunID: runID, Insert: true, Open: true, Status: 1, Transition: &persistence.Transition{Seq: 1, FirstEventID: 1, Parts: []byte("\xff")},
		}}}))
	})
	out, errOut, err := run(t, "admin", "fsck", "--db-filename", file)
	require.ErrorContains(t, err, "2 violations")
	require.Contains(t, errOut, "checked 1 runs")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], "undecodable: namespace "+key.NamespaceID+`, workflow "w", run `+runID)
	require.Contains(t, lines[1], "visibility_missing")

	out, _, err = run(t, "admin", "fsck", "--json", "--db-filename", file)
	require.Error(t, err)
	var v admin.Violation
	require.NoError(t, json.NewDecoder(strings.NewReader(out)).Decode(&v))
	require.Equal(t, admin.Undecodable, v.Check)
	require.Equal(t, runID, v.RunID)

	out, _, err = run(t, "admin", "workflow", "show", "--db-filename", file, "--workflow-id", "w")
	require.NoError(t, err, "a damaged run is shown as well as it can be")
	var shown admin.Stored
	require.NoError(t, json.Unmarshal([]byte(out), &shown))
	require.Equal(t, runID, shown.Execution.RunID)
	require.Len(t, shown.Violations, 2)
}

func TestAdminRefusals(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.db")
	file := newFile(t, nil)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"there is no such file", []string{"fsck", "--db-filename", missing}},
		{"say which database", []string{"fsck"}},
		{"say which database", []string{"fsck", "--db-filename", file, "--postgres", "postgres://localhost/x"}},
		{"--workflow-id is missing", []string{"workflow", "show", "--db-filename", file}},
		{`no namespace "nowhere"`, []string{"workflow", "show", "--db-filename", file, "-w", "w", "-n", "nowhere"}},
		{`no such run of workflow "w"`, []string{"workflow", "show", "--db-filename", file, "-w", "w"}},
	} {
		_, _, err := run(t, append([]string{"admin"}, c.args...)...)
		require.ErrorContains(t, err, c.want, c.args)
	}
	_, err := os.Stat(missing)
	require.ErrorIs(t, err, os.ErrNotExist, "a tool that looks makes no file")
}

func TestMembersAndShards(t *testing.T) {
	file := newFile(t, func(ctx context.Context, s *sqlite.Store, _ string) {
		_, err := s.TakeShards(ctx, "host-1", []persistence.ShardID{1, 2, 3})
		require.NoError(t, err)
	})
	out, _, err := run(t, "admin", "members", "--db-filename", file)
	require.NoError(t, err)
	require.Regexp(t, `history +h:7234 +live +\S+ +for another \S+ +m-1`, out)
	out, _, err = run(t, "admin", "shards", "--db-filename", file)
	require.NoError(t, err)
	require.Regexp(t, `3 +host-1 +h:7234 +live\n4093 +- +- +never owned`, out)
}

func TestPartitions(t *testing.T) {
	file := newFile(t, func(ctx context.Context, s *sqlite.Store, namespaceID string) {
		key := persistence.QueueKey{NamespaceID: namespaceID, TaskQueue: "orders", Type: int16(enumspb.TASK_QUEUE_TYPE_ACTIVITY), Partition: 2}
		q, err := s.TakeQueue(ctx, "host-1", key)
		require.NoError(t, err)
		require.NoError(t, s.WriteTasks(ctx, key, q.Epoch, []persistence.BacklogTask{
			{Key: persistence.TaskKey{Level: 3, ID: 1}, Task: []byte("t")}, {Key: persistence.TaskKey{Level: 3, ID: 2}, Task: []byte("t")},
		}))
		key.NamespaceID = uuid.NewString() // of a namespace that has gone
		_, err = s.TakeQueue(ctx, "host-1", key)
		require.NoError(t, err)
	})
	out, _, err := run(t, "admin", "partitions", "--db-filename", file)
	require.NoError(t, err)
	require.Regexp(t, `(?m)^default +orders +activity +2 +2 +host-1 +h:7234 +live$`, out)
	require.Regexp(t, `(?m)^[0-9a-f-]{36} +orders +activity +2 +0 +host-1 +h:7234 +live$`, out)
}

func TestMemberState(t *testing.T) {
	now := time.Now()
	require.Equal(t, "not registered", memberState(nil, now))
	require.Equal(t, "gone", memberState(&persistence.Member{Expires: now}, now))
	require.Equal(t, "draining", memberState(&persistence.Member{Expires: now.Add(1), Draining: true}, now))
}

func TestMigrateDryRun(t *testing.T) {
	url := pgtest.URL(t)
	out, _, err := run(t, "schema", "migrate", "--dry-run", "--postgres", url)
	require.NoError(t, err)
	require.Contains(t, out, "CREATE TABLE executions")
	require.Contains(t, out, "schema version 0 would become")
	out, _, err = run(t, "schema", "status", "--postgres", url)
	require.NoError(t, err)
	require.Contains(t, out, "schema version 0,", "nothing was changed")
	_, _, err = run(t, "schema", "migrate", "--postgres", url)
	require.NoError(t, err)
	out, _, err = run(t, "schema", "migrate", "--dry-run", "--postgres", url)
	require.NoError(t, err)
	require.Contains(t, out, "nothing to do")
}

func TestHealthcheck(t *testing.T) {
	failure := error(nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz/ready" || failure != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(map[string]string{"status": "unavailable", "reason": failure.Error()})
		}
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	out, _, err := run(t, "healthcheck", "--address", address)
	require.NoError(t, err)
	require.Equal(t, "ready: "+address+"\n", out)

	t.Setenv("PERDURE_HTTP_ADDRESS", strings.Replace(address, "127.0.0.1", "0.0.0.0", 1))
	out, _, err = run(t, "healthcheck")
	require.NoError(t, err, "the server's own setting says where to ask")
	require.Equal(t, "ready: "+address+"\n", out)

	failure = errors.New("the process is stopping")
	_, _, err = run(t, "healthcheck", "--address", address)
	require.EqualError(t, err, "not ready: the process is stopping")
	server.Close()
	_, _, err = run(t, "healthcheck", "--address", address)
	require.ErrorContains(t, err, "does not answer")
	_, _, err = run(t, "healthcheck", "--grpc", address)
	require.ErrorContains(t, err, "does not answer")
}
