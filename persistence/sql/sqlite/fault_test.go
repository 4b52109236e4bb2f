package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

// TestFullDisk: what finds no room is not written, and the store goes on as soon as there is room again.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	for _, path := range []string{"", filepath.Join(t.TempDir(), "full.db")} {
		store := open(t, path)
		limit := func(pages int) {
			require.NoError(t, store.db.writer.use(ctx, func(ctx context.Context, c *conn) error {
				_, err := c.sql.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
				return err
			}))
		}
		limit(100)
		record := &persistence.NamespaceRecord{ID: "id", Name: "n", Data: make([]byte, 1<<20)}
		require.ErrorIs(t, store.CreateNamespace(ctx, record), persistence.ErrUnavailable)
		_, err := store.GetNamespace(ctx, "id", "")
		require.ErrorIs(t, err, persistence.ErrNotFound)
		limit(1_000_000)
		require.NoError(t, store.CreateNamespace(ctx, record))
		require.NoError(t, store.Close())
	}
}

// TestFaultOfOneMember: an error that is neither the contract's nor the database's is the member's own.
func TestFaultOfOneMember(t *testing.T) {
	ctx := context.Background()
	store := open(t, "")
	defer func() { require.NoError(t, store.Close()) }()
	err := store.write(ctx, 0, func(ctx context.Context, tx *txn) error {
		if err := tx.exec(ctx, `INSERT INTO namespaces (id, name, data, version) VALUES ('id', 'n', x'', 1)`); err != nil {
			return err
		}
		return tx.exec(ctx, `SELECT no_such_function()`)
	})
	require.ErrorContains(t, err, "no_such_function")
	require.NotErrorIs(t, err, persistence.ErrUnavailable)
	_, err = store.GetNamespace(ctx, "id", "")
	require.ErrorIs(t, err, persistence.ErrNotFound, "rolled back")
}

// TestBrokenConnectionIsReplaced closes the writer's connection under the store.
func TestBrokenConnectionIsReplaced(t *testing.T) {
	ctx := context.Background()
	store := open(t, filepath.Join(t.TempDir(), "broken.db"))
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.db.writer.use(ctx, func(_ context.Context, c *conn) error {
		c.close()
		c.broken = true
		return nil
	}))
	require.NoError(t, store.Ping(ctx, true))
}

// TestPlans: what is done for each transition or page uses an index, and sorts at most a page.
func TestPlans(t *testing.T) {
	store := open(t, "")
	defer func() { require.NoError(t, store.Close()) }()
	list, err := visibilitysql.List(visibilitysql.SQLite, "n", nil, nil, 10)
	require.NoError(t, err)
	byID, err := visibilitysql.List(visibilitysql.SQLite, "n", persistence.Compare{
		Field: persistence.Field{Name: "WorkflowId", Type: persistence.FieldKeyword}, Op: persistence.Equal, Value: "a"}, nil, 10)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		sql     string
		indexes []string
	}{
		"run":         {"SELECT snapshot FROM executions WHERE " + runCondition, []string{"sqlite_autoindex_executions_1"}},
		"current run": {"SELECT snapshot FROM executions WHERE " + keyCondition + " ORDER BY run_id DESC LIMIT 1", []string{"sqlite_autoindex_executions_1"}},
		"transitions": {`SELECT parts FROM transitions WHERE bucket = ? AND run_id = ? AND seq > ? ORDER BY seq`, []string{"sqlite_autoindex_transitions_1"}},
		"wake-ups":    {scanWakeupsText, []string{"executions_wake_at"}},
		"effects":     {scanEffectsText, []string{"executions_has_effects"}},
		"list":        {list.SQL, []string{"visibility_open", "visibility_closed"}},
		"list by id":  {byID.SQL, []string{"visibility_workflow_id"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planOf(t, store, c.sql)
			for _, index := range c.indexes {
				require.Contains(t, plan, index)
			}
			for _, line := range strings.Split(plan, "\n") {
				table, _, _ := strings.Cut(strings.TrimPrefix(line, "SCAN "), " ")
				switch table {
				case "executions", "transitions", "visibility":
					require.Contains(t, line, "INDEX", plan)
				}
			}
			if !strings.HasPrefix(name, "list") {
				require.NotContains(t, plan, "TEMP B-TREE")
			}
		})
	}
}

func planOf(t *testing.T, store *Store, sql string) string {
	var lines []string
	err := store.db.read(context.Background(), func(ctx context.Context, c *conn) error {
		args := make([]any, strings.Count(sql, "?"))
		for n := len(args); n > 0 && strings.Contains(sql, "?1"); n-- { // numbered ones occur more than once
			if strings.Contains(sql, fmt.Sprint("?", n)) {
				args = args[:n]
				break
			}
		}
		rows, err := c.sql.QueryContext(ctx, "EXPLAIN QUERY PLAN "+sql, args...)
		if err != nil {
			return err
		}
		return drain(rows, func(scan func(...any) error) (bool, error) {
			var (
				id, parent, unused int
				line               string
			)
			err := scan(&id, &parent, &unused, &line)
			lines = append(lines, line)
			return true, err
		})
	})
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}
