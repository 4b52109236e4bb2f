package postgres

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

const (
	waitMax  = 30 * time.Second
	waitTick = 5 * time.Millisecond
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// database is the URL of a new database with the schema.
func database(t testing.TB) string {
	return pgtest.MigratedURL(t, MigrateURL)
}

func open(t testing.TB, opts Options) *Store {
	t.Helper()
	if tt, ok := t.(*testing.T); ok && opts.Logger == nil {
		opts.Logger = zaptest.NewLogger(tt, zaptest.Level(zap.WarnLevel))
	}
	s, err := Open(context.Background(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// connect is a session of the test's own.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return conn
}

func newRun() string { return uuid.Must(uuid.NewV7()).String() }

var testNamespace = uuid.NewString()

func keyOf(id string) persistence.ExecutionKey {
	return persistence.ExecutionKey{NamespaceID: testNamespace, Kind: persistence.KindWorkflow, BusinessID: id}
}

func takeAll(t testing.TB, s *Store, keys ...persistence.ExecutionKey) map[persistence.ShardID]persistence.Epoch {
	t.Helper()
	shards := make([]persistence.ShardID, len(keys))
	for i, k := range keys {
		shards[i] = k.Shard()
	}
	epochs, err := s.TakeShards(context.Background(), "test", shards)
	require.NoError(t, err)
	return epochs
}

// startWrite creates a run, with everything that a start writes.
func startWrite(key persistence.ExecutionKey, run string) persistence.RunWrite {
	return persistence.RunWrite{RunID: run, Insert: true, Open: true, Status: 1, StartRequestID: "request-" + run, HasEffects: true,
		WakeAt:     time.Now().Add(time.Hour),
		Transition: &persistence.Transition{Seq: 1, FirstEventID: 1, Events: make([]byte, 400), Parts: make([]byte, 200)},
		Visibility: &persistence.VisibilityRow{NamespaceID: key.NamespaceID, RunID: run, WorkflowID: key.BusinessID, WorkflowType: "type",
			TaskQueue: "queue", Status: 1, StartTime: time.Now(), ExecutionTime: time.Now(), RootWorkflowID: key.BusinessID, RootRunID: run}}
}

func nextWrite(run string, seq int64) persistence.RunWrite {
	return persistence.RunWrite{RunID: run, Transition: &persistence.Transition{Seq: seq, FirstEventID: 3*seq - 2, Events: make([]byte, 300),
		Parts: make([]byte, 100)}}
}

func commit(s *Store, key persistence.ExecutionKey, epoch persistence.Epoch, runs ...persistence.RunWrite) error {
	return s.Commit(context.Background(), &persistence.Mutation{Key: key, Epoch: epoch, Runs: runs})
}
