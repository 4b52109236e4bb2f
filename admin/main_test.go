package admin

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // to damage files

	"github.com/perdure/perdure/persistence/sql/postgres"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/persistence/sql/sqlite"
	"github.com/perdure/perdure/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, "cmd/perdure")) }

// flavour is a kind of database that a server leaves behind.
type flavour struct {
	name string
	// make starts a server on a new database.
	make func(t *testing.T) *fixture
}

var flavours = []flavour{{"sqlite", onSQLite}, {"postgres", onPostgres}}

// fixture is a database with a server on it.
type fixture struct {
	addr   string
	server *harness.Process
	// live opens the store beside the running server; nil: the database takes one process only.
	live func(t *testing.T) *postgres.Store
	// copy makes a copy of the database, after the server has ended.
	copy func(t *testing.T) *copied
}

// copied is a copy of a database that a test may damage.
type copied struct {
	// use opens the store for as long as f runs.
	use  func(t *testing.T, f func(Store))
	exec func(t *testing.T, statement string, args ...any)
}

func onSQLite(t *testing.T) *fixture {
	dir := t.TempDir()
	file := filepath.Join(dir, "state.db")
	f := &fixture{addr: harness.FreeAddr(t)}
	_, port, _ := strings.Cut(f.addr, ":")
	f.server = harness.Start(t, nil, "perdure", "server", "start-dev", "--headless", "--port", port, "--db-filename", file)
	f.copy = func(t *testing.T) *copied {
		to := filepath.Join(t.TempDir(), "state.db")
		for _, suffix := range []string{"", "-wal"} { // after kill -9 much of it is in the journal
			content, err := os.ReadFile(file + suffix)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(to+suffix, content, 0o600))
		}
		return &copied{
			use: func(t *testing.T, f func(Store)) {
				store, err := sqlite.Open(context.Background(), sqlite.Options{Path: to, Existing: true})
				require.NoError(t, err)
				defer func() { require.NoError(t, store.Close()) }()
				f(store)
			},
			exec: func(t *testing.T, statement string, args ...any) {
				db, err := sql.Open("sqlite", to)
				require.NoError(t, err)
				defer db.Close()
				result, err := db.Exec(statement, args...)
				require.NoError(t, err, statement)
				if !strings.HasPrefix(statement, "DROP") {
					n, err := result.RowsAffected()
					require.NoError(t, err)
					require.Positive(t, n, "no row is damaged by %s", statement)
				}
			},
		}
	}
	return f
}

func onPostgres(t *testing.T) *fixture {
	database, maintenance := pgtest.URL(t), pgtest.URL(t)
	f := &fixture{addr: harness.FreeAddr(t)}
	f.server = harness.Start(t, []string{"PERDURE_POSTGRES=" + database}, "perdure", "server", "start", "--grpc-address", f.addr, "--http-address", "")
	f.live = func(t *testing.T) *postgres.Store {
		store, err := postgres.Open(context.Background(), postgres.Options{URL: database})
		require.NoError(t, err)
		return store
	}
	f.copy = func(t *testing.T) *copied {
		to := copyDatabase(t, maintenance, database)
		return &copied{
			use: func(t *testing.T, f func(Store)) {
				store, err := postgres.Open(context.Background(), postgres.Options{URL: to})
				require.NoError(t, err)
				defer func() { require.NoError(t, store.Close()) }()
				f(store)
			},
			exec: func(t *testing.T, statement string, args ...any) {
				for i := range args {
					statement = strings.Replace(statement, "?", fmt.Sprintf("$%d", i+1), 1)
				}
				tag := execute(t, to, statement, args...)
				require.True(t, strings.HasPrefix(statement, "DROP") || tag > 0, "no row is damaged by %s", statement)
			},
		}
	}
	return f
}

// copyDatabase copies a database that no server uses any more.
func copyDatabase(t *testing.T, maintenance, from string) string {
	t.Helper()
	u, err := url.Parse(from)
	require.NoError(t, err)
	template := strings.TrimPrefix(u.Path, "/")
	name := "copy_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	// The sessions of a server that was killed may take a moment to end.
	execute(t, maintenance, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '"+template+"'")
	execute(t, maintenance, "CREATE DATABASE "+name+" TEMPLATE "+template)
	t.Cleanup(func() { execute(t, maintenance, "DROP DATABASE "+name+" WITH (FORCE)") })
	u.Path = "/" + name
	return u.String()
}

func execute(t *testing.T, database, statement string, args ...any) int64 {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, database)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	tag, err := conn.Exec(ctx, statement, args...)
	require.NoError(t, err, statement)
	return tag.RowsAffected()
}
