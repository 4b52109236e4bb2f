package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/schema"
)

// openError opens what must not open, and checks that a user gets one line that names the file.
func openError(t *testing.T, path string) string {
	t.Helper()
	_, err := Open(context.Background(), Options{Path: path})
	require.Error(t, err)
	require.Contains(t, err.Error(), filepath.Base(path))
	require.NotContains(t, err.Error(), "\n")
	return err.Error()
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	require.NoError(t, os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 1000)), 0o600))
	blocked := filepath.Join(dir, "blocked.db")
	require.NoError(t, os.Mkdir(blocked+".lock", 0o700))
	for name, c := range map[string]struct{ path, want string }{
		"directory":            {dir, "it is a directory"},
		"no directory":         {filepath.Join(dir, "no", "x.db"), "does not exist"},
		"not a database":       {garbage, "not an SQLite database"},
		"file as directory":    {filepath.Join(garbage, "x.db"), "cannot be written"},
		"lock cannot be taken": {blocked, "cannot be locked"},
	} {
		t.Run(name, func(t *testing.T) { require.Contains(t, openError(t, c.path), c.want) })
	}
}

func TestUnwritableFile(t *testing.T) {
	path := "/sys/kernel/readonly.db" // where not even root creates files
	if os.Geteuid() != 0 {
		path = filepath.Join(t.TempDir(), "readonly.db")
		require.NoError(t, os.WriteFile(path, nil, 0o400))
	}
	require.Contains(t, openError(t, path), "cannot be written")
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "damaged.db")
	require.NoError(t, open(t, path).Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := 100; i < len(content); i++ {
		content[i] = 0xA5
	}
	require.NoError(t, os.WriteFile(path, content, 0o600))
	require.Contains(t, openError(t, path), "it is damaged")
}

func TestOneProcessPerFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "one.db")
	store := open(t, path)
	message := openError(t, path)
	require.Contains(t, message, "in use by another server")
	require.Contains(t, message, fmt.Sprint(os.Getpid()))

	link := filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(path, link))
	_, err := Open(context.Background(), Options{Path: link})
	require.ErrorContains(t, err, "in use by another server")

	require.NoError(t, store.Close())
	require.NoError(t, open(t, path).Close(), "free again")
}

func TestFailedOpenFreesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "later.db")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x", 5000)), 0o600))
	openError(t, path)
	require.NoError(t, os.Remove(path))
	require.NoError(t, open(t, path).Close())
}

func TestOddPaths(t *testing.T) {
	for _, name := range []string{"a?b.db", "a#b.db", "a%20b.db", "a b.db", "ä'\".db", "a&mode=memory.db"} {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, open(t, path).Close())
		stat, err := os.Stat(path)
		require.NoError(t, err)
		require.Positive(t, stat.Size(), name)
	}
}

func TestDataSurvivesReopening(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "kept.db")
	store := open(t, path)
	require.NoError(t, store.CreateNamespace(ctx, &persistence.NamespaceRecord{ID: "id", Name: "default"}))
	epochs, err := store.TakeShards(ctx, "a", []persistence.ShardID{1})
	require.NoError(t, err)
	require.NoError(t, store.Close())
	_, err = os.Stat(path + "-wal")
	require.ErrorIs(t, err, os.ErrNotExist, "all is in the file")

	store = open(t, path)
	defer func() { require.NoError(t, store.Close()) }()
	_, err = store.GetNamespace(ctx, "", "default")
	require.NoError(t, err)
	again, err := store.TakeShards(ctx, "a", []persistence.ShardID{1})
	require.NoError(t, err)
	require.Greater(t, again[1], epochs[1])
}

// TestCloseUnderLoad: what was acknowledged before and while the store was closed is in the file, and nothing else.
func TestCloseUnderLoad(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "closed.db")
	store := open(t, path)
	const writers = 8
	var (
		group   sync.WaitGroup
		created [writers]int
	)
	begun := make(chan struct{}, writers)
	for i := range writers {
		group.Go(func() {
			for {
				name := fmt.Sprintf("%d-%d", i, created[i])
				if err := store.CreateNamespace(ctx, &persistence.NamespaceRecord{ID: name, Name: name}); err != nil {
					assert.ErrorIs(t, err, persistence.ErrClosed)
					return
				}
				if created[i]++; created[i] == 10 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range writers {
		<-begun
	}
	require.NoError(t, store.Close())
	group.Wait()
	total := 0
	for _, n := range created {
		total += n
	}
	store = open(t, path)
	defer func() { require.NoError(t, store.Close()) }()
	records, err := store.ListNamespaces(ctx, "", total+1)
	require.NoError(t, err)
	require.Len(t, records, total)
}

func TestMemoryIsPrivate(t *testing.T) {
	ctx := context.Background()
	a, b := open(t, ""), open(t, "")
	require.NoError(t, a.CreateNamespace(ctx, &persistence.NamespaceRecord{ID: "id", Name: "n"}))
	_, err := b.GetNamespace(ctx, "", "n")
	require.ErrorIs(t, err, persistence.ErrNotFound)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

// raw opens a file as another program would.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db := sql.OpenDB(connector{dsn: fileDSN(path)})
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "newer.db")
	require.NoError(t, open(t, path).Close())
	_, err := raw(t, path).Exec(`INSERT INTO schema_version (version) VALUES (9999)`)
	require.NoError(t, err)
	require.Contains(t, openError(t, path), "version 9999")
}

func TestForeignDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "foreign.db")
	_, err := raw(t, path).Exec(`CREATE TABLE shards (x)`)
	require.NoError(t, err)
	require.Contains(t, openError(t, path), "another program's")
}

// TestUpgrade applies migrations to a file with an older schema, and none of them if one fails.
func TestUpgrade(t *testing.T) {
	ctx := context.Background()
	store := open(t, "")
	defer func() { require.NoError(t, store.Close()) }()
	next := len(schema.SQLite()) + 1
	good := schema.Migration{Version: next, Name: "good", SQL: `CREATE TABLE first (x INTEGER); CREATE TABLE second (x INTEGER);`}
	bad := schema.Migration{Version: next + 1, Name: "bad", SQL: `CREATE TABLE third (x INTEGER); CREATE TABLE first (x INTEGER);`}
	tables := func() (names string, version int) {
		err := store.db.writer.use(ctx, func(ctx context.Context, c *conn) error {
			return c.row(ctx, `SELECT (SELECT COALESCE(GROUP_CONCAT(name), '') FROM sqlite_schema WHERE name IN ('first', 'second', 'third')), (SELECT MAX(version) FROM schema_version)`,
				nil, &names, &version)
		})
		require.NoError(t, err)
		return names, version
	}
	run := func(migrations ...schema.Migration) error {
		return store.db.writer.use(ctx, func(ctx context.Context, c *conn) error { return upgrade(ctx, c, migrations) })
	}
	require.ErrorContains(t, run(good, bad), "bad")
	names, version := tables()
	require.Empty(t, names)
	require.Equal(t, next-1, version)
	require.NoError(t, run(good))
	names, version = tables()
	require.Equal(t, "first,second", names)
	require.Equal(t, next, version)
}

func TestRepeatedCloseOfIncarnations(t *testing.T) {
	ctx := context.Background()
	first := open(t, "")
	second := first.incarnation()
	require.NoError(t, first.Close())
	require.ErrorIs(t, first.Ping(ctx, false), persistence.ErrClosed)
	require.NoError(t, second.Ping(ctx, true))
	require.NoError(t, second.Close())
}
