package pgtest

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestDatabasesAreEmptyAndApart(t *testing.T) {
	ctx := context.Background()
	for range 2 {
		conn, err := pgx.Connect(ctx, URL(t))
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "CREATE TABLE t (a int)")
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	}
}

func TestMigratedDatabasesAreCopies(t *testing.T) {
	ctx := context.Background()
	migrations := 0
	migrate := func(ctx context.Context, url string) error {
		migrations++
		return execute(url, "CREATE TABLE t (a int)")
	}
	for range 2 {
		conn, err := pgx.Connect(ctx, MigratedURL(t, migrate))
		require.NoError(t, err)
		var n int
		require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n))
		require.Zero(t, n)
		_, err = conn.Exec(ctx, "INSERT INTO t VALUES (1)")
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	}
	require.LessOrEqual(t, migrations, 1, "the template lives as long as the binary")
}

func TestServersStopAndStartWithTheirData(t *testing.T) {
	ctx := context.Background()
	s := NewServer(t)
	require.NoError(t, execute(s.URL(), "CREATE TABLE t (a int)"))
	for _, immediate := range []bool{false, true} {
		s.Stop(t, immediate)
		_, err := pgx.Connect(ctx, s.URL())
		require.Error(t, err)
		s.Start(t)
		require.NoError(t, execute(s.URL(), "INSERT INTO t VALUES (1)"))
	}
	s.Stop(t, true)
	dir := s.dir
	s.remove()
	require.NoDirExists(t, dir)
}

func TestStandbyHasEverything(t *testing.T) {
	ctx := context.Background()
	primary := NewServer(t)
	require.NoError(t, execute(primary.URL(), "CREATE TABLE t (a int)"))
	standby := primary.Standby(t, true)
	require.NoError(t, execute(primary.URL(), "INSERT INTO t VALUES (1)"))
	primary.AwaitStandby(t)
	require.ErrorContains(t, execute(standby.URL(), "INSERT INTO t VALUES (2)"), "25006", "it takes no writes")
	primary.Stop(t, true)
	standby.Promote(t)
	either := AnyOf(t, standby.URL(), primary.Address(), standby.Address())
	require.NoError(t, execute(either, "INSERT INTO t VALUES (2)"))
	conn, err := pgx.Connect(ctx, either)
	require.NoError(t, err)
	defer conn.Close(ctx)
	var n int
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 2, n)
}
