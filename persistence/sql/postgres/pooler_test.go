package postgres

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/persistencetest"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// poolerSessions are fewer than the connections of one store: they change hands all the time.
const poolerSessions = 4

// TestConformanceThroughAPooler: nothing that the store does needs a session of its own.
func TestConformanceThroughAPooler(t *testing.T) {
	pooler := pgtest.NewPooler(t, pgtest.URL(t), poolerSessions)
	persistencetest.Run(t, func(t *testing.T) persistencetest.Opener {
		url := pooler.URL(database(t))
		return func(t *testing.T) persistence.Store { return open(t, Options{URL: url}) }
	})
}

func TestMigrationThroughAPooler(t *testing.T) {
	ctx := context.Background()
	direct := pgtest.URL(t)
	u := pgtest.NewPooler(t, direct, poolerSessions).URL(direct)
	_, err := Open(ctx, Options{URL: u})
	require.ErrorIs(t, err, ErrSchema)
	for range 2 {
		status, err := Migrate(ctx, Options{URL: u})
		require.NoError(t, err)
		require.Equal(t, status.Binary, status.Database)
	}
	require.NoError(t, open(t, Options{URL: u}).Ping(ctx, true))
}

// TestAnotherServerBehindAPooler: the connections outlive a failover, and the next commit may not go on as if nothing had happened.
func TestAnotherServerBehindAPooler(t *testing.T) {
	ctx := context.Background()
	direct := database(t)
	changes := make(chan string, 10)
	s := open(t, Options{URL: pgtest.NewPooler(t, direct, poolerSessions).URL(direct), Logger: zap.NewNop(),
		OnServerChange: func(reason string) { changes <- reason }})
	key, run := keyOf("a"), newRun()
	epoch := takeAll(t, s, key)[key.Shard()]
	require.NoError(t, commit(s, key, epoch, startWrite(key, run)))
	for name, other := range map[string]func(*server){
		"system":   func(seen *server) { seen.system++ },
		"timeline": func(seen *server) { seen.timeline = "0000000A" },
		"position": func(seen *server) { seen.position += 1 << 40 },
	} {
		s.identity.mu.Lock()
		seen := s.identity.seen
		other(&s.identity.seen)
		s.identity.mu.Unlock()
		require.ErrorIs(t, commit(s, key, epoch, nextWrite(run, 2)), persistence.ErrUnavailable, name)
		s.identity.mu.Lock()
		s.identity.seen = seen
		s.identity.mu.Unlock()
	}
	require.Empty(t, changes)
	require.NoError(t, commit(s, key, epoch, nextWrite(run, 2)))
	_, err := s.LoadRun(ctx, key, run)
	require.NoError(t, err)
}

func TestAPoolerIsNoticed(t *testing.T) {
	direct := database(t)
	through := pgtest.NewPooler(t, direct, poolerSessions).URL(direct)
	_, proxied := newProxy(t, direct)
	for name, c := range map[string]struct {
		url  string
		want pgx.QueryExecMode
	}{
		"no pool":                         {direct, pgx.QueryExecModeCacheStatement},
		"a proxy that passes all through": {proxied, pgx.QueryExecModeCacheStatement},
		"a pool":                          {through, pgx.QueryExecModeCacheDescribe},
		"a pool that can more":            {through + "&default_query_exec_mode=cache_statement", pgx.QueryExecModeCacheStatement},
		"asked for":                       {direct + "&default_query_exec_mode=cache_describe", pgx.QueryExecModeCacheDescribe},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := pgx.ParseConfig(c.url)
			require.NoError(t, err)
			require.NoError(t, adaptToPooler(context.Background(), config))
			require.Equal(t, c.want, config.DefaultQueryExecMode)
		})
	}
	u, err := url.Parse(direct)
	require.NoError(t, err)
	u.Host = "127.0.0.1:1"
	config, err := pgx.ParseConfig(u.String())
	require.NoError(t, err)
	require.ErrorIs(t, adaptToPooler(context.Background(), config), persistence.ErrUnavailable)
}
