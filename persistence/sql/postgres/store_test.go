package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/group"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
	"github.com/perdure/perdure/schema"
)

func TestManyOpenersMigrateOnce(t *testing.T) {
	ctx := context.Background()
	url := pgtest.URL(t)
	_, err := Open(ctx, Options{URL: url})
	require.ErrorIs(t, err, ErrSchema)
	status, err := ReadSchemaStatus(ctx, Options{URL: url})
	require.NoError(t, err)
	require.Equal(t, SchemaStatus{Database: 0, Binary: len(schema.Postgres())}, status)

	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s, err := Open(ctx, Options{URL: url, Migrate: true, PoolSize: 2})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}()
	}
	wg.Wait()
	s := open(t, Options{URL: url})
	status, err = s.SchemaStatus(ctx)
	require.NoError(t, err)
	require.Equal(t, status.Binary, status.Database)
}

func TestNewerSchemaIsRefused(t *testing.T) {
	ctx := context.Background()
	url := database(t)
	_, err := connect(t, url).Exec(ctx, "INSERT INTO schema_version (version, name) VALUES (9999, 'future')")
	require.NoError(t, err)
	for _, migrate := range []bool{false, true} {
		_, err = Open(ctx, Options{URL: url, Migrate: migrate})
		require.ErrorIs(t, err, ErrSchema)
		require.ErrorContains(t, err, "newer binary")
	}
}

// During an upgrade, a process of the version before may be started again.
func TestNewerSchemaThatIsCompatible(t *testing.T) {
	ctx := context.Background()
	url := database(t)
	conn := connect(t, url)
	future := func(version, compatibleFrom int) {
		_, err := conn.Exec(ctx, "INSERT INTO schema_version (version, name, compatible_from) VALUES ($1, 'future', $2)", version, compatibleFrom)
		require.NoError(t, err)
	}
	known := len(schema.Postgres())
	future(known+1, known)
	for _, migrate := range []bool{false, true} {
		s, err := Open(ctx, Options{URL: url, Migrate: migrate})
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	future(known+2, known+1)
	future(known+3, known)
	_, err := Open(ctx, Options{URL: url, Migrate: true})
	require.ErrorContains(t, err, "newer binary", "one of the migrations is too much for it")

	_, err = conn.Exec(ctx, "DELETE FROM schema_version WHERE version > $1; ALTER TABLE schema_version DROP COLUMN compatible_from", pgx.QueryExecModeSimpleProtocol, known)
	require.NoError(t, err)
	s, err := Open(ctx, Options{URL: url})
	require.NoError(t, err, "a database from before there was the column")
	require.NoError(t, s.Close())
}

func TestUnreachableServer(t *testing.T) {
	_, err := Open(context.Background(), Options{URL: "postgres://nobody@127.0.0.1:1/x?sslmode=disable"})
	require.ErrorIs(t, err, persistence.ErrUnavailable)
	_, err = Open(context.Background(), Options{URL: "postgres://%zz"})
	require.Error(t, err)
}

// TestGroupsShareTransactions: what waits while a commit is under way becomes one transaction.
func TestGroupsShareTransactions(t *testing.T) {
	url := database(t)
	var mu sync.Mutex
	groups, members := 0, 0
	s := open(t, Options{URL: url, Committers: 1, CommitTimeout: 2 * waitMax, Group: group.Options{Observe: func(o group.Observation) {
		mu.Lock()
		defer mu.Unlock()
		groups, members = groups+1, members+o.Members
	}}})
	const runs = 200
	keys := make([]persistence.ExecutionKey, runs)
	for i := range keys {
		keys[i] = keyOf(fmt.Sprint("w", i))
	}
	epochs := takeAll(t, s, keys...)

	// A session that holds the key exclusively, like a taker, keeps the first commit waiting until all others are in the queue.
	ctx := context.Background()
	tx, err := connect(t, url).Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", s.Key())
	require.NoError(t, err)
	var wg sync.WaitGroup
	submit := func(keys []persistence.ExecutionKey) {
		for _, key := range keys {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := commit(s, key, epochs[key.Shard()], startWrite(key, newRun())); err != nil {
					t.Errorf("commit: %v", err)
				}
			}()
		}
	}
	submit(keys[:1])
	require.Eventually(t, func() bool {
		var blocked int
		err := tx.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").Scan(&blocked)
		return err == nil && blocked == 1
	}, waitMax, waitTick)
	submit(keys[1:])
	require.Eventually(t, func() bool { return s.committers[0].Waiting() == runs-1 }, waitMax, waitTick)
	require.NoError(t, tx.Rollback(ctx))
	wg.Wait()
	require.Equal(t, runs, members)
	require.Equal(t, 2, groups)
}

func TestVisibilityCannotStopATransition(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{URL: database(t), Logger: zap.NewNop()})
	for i, attributes := range []string{`{"a":"\u0000"}`, `{"a":`, `{"a":1e999999}`} {
		key, run := keyOf(fmt.Sprint("w", i)), newRun()
		epoch := takeAll(t, s, key)[key.Shard()]
		w := startWrite(key, run)
		w.Visibility.SearchAttributes, w.Visibility.Memo = []byte(attributes), []byte("memo")
		require.NoError(t, commit(s, key, epoch, w))
		filter := persistence.Compare{Field: persistence.Field{Name: "WorkflowId", Type: persistence.FieldKeyword}, Op: persistence.Equal, Value: key.BusinessID}
		rows, err := s.ListVisibility(ctx, testNamespace, filter, nil, 10)
		require.NoError(t, err)
		require.Len(t, rows, 1)
		require.Equal(t, key.BusinessID, rows[0].WorkflowID)
		require.Empty(t, rows[0].SearchAttributes)
		require.EqualValues(t, i+1, s.Stats().VisibilityCut)
	}
}

// TestTooLongForAnIndex: incompressible keys above a third of a page do not fit into an index.
func TestTooLongForAnIndex(t *testing.T) {
	s := open(t, Options{URL: database(t), Logger: zap.NewNop()})
	var long strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&long, "%x", uint32(i)*2654435761)
	}
	key := keyOf(long.String())
	epoch := takeAll(t, s, key)[key.Shard()]
	require.ErrorIs(t, commit(s, key, epoch, startWrite(key, newRun())), persistence.ErrTooLarge)

	key = keyOf("short")
	epoch = takeAll(t, s, key)[key.Shard()]
	w := startWrite(key, newRun())
	w.Visibility.WorkflowType = long.String()
	require.NoError(t, commit(s, key, epoch, w), "only the visibility row is at fault")
	w = nextWrite(newRun(), 1)
	w.Insert, w.Transition.Events = true, make([]byte, mutationBytesMax)
	require.ErrorIs(t, commit(s, key, epoch, w), persistence.ErrTooLarge)
}

func TestKeysThatCannotBeStored(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{URL: database(t)})
	bad := keyOf("a\x00b")
	_, err := s.LoadRun(ctx, bad, "")
	require.ErrorIs(t, err, persistence.ErrNotFound)
	require.ErrorIs(t, commit(s, bad, 1, startWrite(bad, newRun())), persistence.ErrUnavailable)
	_, err = s.LoadRun(ctx, keyOf("a"), "no-uuid")
	require.ErrorIs(t, err, persistence.ErrNotFound)
	require.ErrorIs(t, s.DeleteRun(ctx, keyOf("a"), 1, 0, "no-uuid"), persistence.ErrNotFound)
}

func TestReadOnlyServerIsUnavailable(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{URL: database(t) + "&default_transaction_read_only=on"})
	require.NoError(t, s.Ping(ctx, false))
	require.ErrorIs(t, s.Ping(ctx, true), persistence.ErrUnavailable)
	_, err := s.TakeShards(ctx, "me", []persistence.ShardID{1})
	require.ErrorIs(t, err, persistence.ErrUnavailable)
	require.ErrorIs(t, s.CreateNamespace(ctx, &persistence.NamespaceRecord{ID: testNamespace, Name: "n"}), persistence.ErrUnavailable)
}

// TestErrorsOfCommits: what the caller may conclude from an answer of the server.
func TestErrorsOfCommits(t *testing.T) {
	lost := errors.New("connection reset")
	for _, c := range []struct {
		err  error
		want error
	}{
		{&pgconn.PgError{Severity: "ERROR", Code: "23505"}, persistence.ErrConflict},
		{&pgconn.PgError{Severity: "ERROR", Code: stateMissingRow}, persistence.ErrConflict},
		{&pgconn.PgError{Severity: "ERROR", Code: stateStaleShard}, persistence.ErrFenced},
		{&pgconn.PgError{Severity: "ERROR", Code: "54000"}, persistence.ErrTooLarge},
		{&pgconn.PgError{Severity: "ERROR", Code: "22P02"}, errFault},
		{&pgconn.PgError{Severity: "ERROR", Code: "25006"}, persistence.ErrUnavailable}, // read-only
		{&pgconn.PgError{Severity: "ERROR", Code: "40P01"}, persistence.ErrUnavailable}, // deadlock
		{&pgconn.PgError{Severity: "ERROR", Code: "40001"}, persistence.ErrUnavailable}, // serialization
		{&pgconn.PgError{Severity: "ERROR", Code: "53100"}, persistence.ErrUnavailable}, // disk full
		{&pgconn.PgError{Severity: "ERROR", Code: "55P03"}, persistence.ErrUnavailable}, // lock timeout
		{&pgconn.PgError{Severity: "ERROR", Code: "57014"}, persistence.ErrUnavailable}, // cancelled before the commit
		{&pgconn.PgError{Severity: "FATAL", Code: "57P01"}, persistence.ErrOutcomeUnknown},
		{&pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "FATAL", Code: "57P01"}, persistence.ErrOutcomeUnknown},
		{&pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "23505"}, persistence.ErrConflict},
		{lost, persistence.ErrOutcomeUnknown},
		{context.DeadlineExceeded, persistence.ErrOutcomeUnknown},
	} {
		require.ErrorIs(t, commitError(c.err), c.want, "%v", c.err)
	}
	require.ErrorIs(t, writeError("take", lost), persistence.ErrOutcomeUnknown)
	require.ErrorIs(t, readError("load", lost), persistence.ErrUnavailable)
	require.ErrorIs(t, outward(commitError(&pgconn.PgError{Severity: "ERROR", Code: "22P02"})), persistence.ErrUnavailable)
}

// TestCommitsThatMissedTheirStandbyAreInDoubt: the server commits locally and says so in a warning, if one stops waiting for it.
func TestCommitsThatMissedTheirStandbyAreInDoubt(t *testing.T) {
	c := &commitConn{}
	for _, n := range []struct {
		notice pgconn.Notice
		doubt  bool
	}{
		{pgconn.Notice{Severity: "WARNING", Code: "01000", File: "syncrep.c"}, true},
		{pgconn.Notice{SeverityUnlocalized: "WARNING", Severity: "WARNUNG", Code: "57P01"}, true},
		{pgconn.Notice{Severity: "WARNING", Code: "01000", File: "varsup.c"}, false}, // wraparound is near
		{pgconn.Notice{Severity: "NOTICE", Code: "57P01"}, false},
	} {
		c.doubt.Store(nil)
		c.onNotice(nil, &n.notice)
		require.Equal(t, n.doubt, c.doubt.Load() != nil, "%+v", n.notice)
	}
}

func TestAnotherServerFencesEverything(t *testing.T) {
	ctx := context.Background()
	url := database(t)
	changes := make(chan string, 10)
	s := open(t, Options{URL: url, Logger: zap.NewNop(), OnServerChange: func(reason string) { changes <- reason }})
	key, run := keyOf("a"), newRun()
	epoch := takeAll(t, s, key)[key.Shard()]
	require.NoError(t, commit(s, key, epoch, startWrite(key, run)))
	old := s.Key()

	// The server has been restored from a copy that is older than what the store has seen.
	s.identity.mu.Lock()
	s.identity.seen.position += 1 << 40
	s.identity.mu.Unlock()
	_, _, err := s.RenewMember(ctx, persistence.Member{ID: "m"}, time.Minute)
	require.ErrorIs(t, err, persistence.ErrUnavailable)
	require.Contains(t, <-changes, "shorter")
	require.NotEqual(t, old, s.Key())
	require.ErrorIs(t, commit(s, key, epoch, nextWrite(run, 2)), persistence.ErrFenced)
	members, _, err := s.RenewMember(ctx, persistence.Member{ID: "m"}, time.Minute)
	require.NoError(t, err)
	require.Equal(t, s.Key(), members[0].Key)
	taken, err := s.RetakeShards(ctx, "test", []persistence.ShardID{key.Shard()})
	require.NoError(t, err)
	require.Contains(t, taken, key.Shard(), "what it had under its former key is still its own")
	require.NoError(t, commit(s, key, taken[key.Shard()], nextWrite(run, 2)))
	require.Empty(t, changes)
}

func TestServerIdentity(t *testing.T) {
	a := server{system: 1, timeline: "00000001", position: 100}
	for _, c := range []struct {
		before int64
		now    server
		want   string
	}{
		{100, a, ""}, {100, server{}, ""}, {100, server{system: 1, timeline: "00000001", position: 50}, "shorter"},
		{40, server{system: 1, timeline: "00000001", position: 50}, ""},
		{100, server{system: 2, timeline: "00000001", position: 100}, "system identifier"},
		{100, server{system: 1, timeline: "00000002", position: 200}, "timeline 2 instead of 1"},
	} {
		got := a.changed(c.before, c.now)
		require.Contains(t, got, c.want)
		require.Equal(t, c.want == "", got == "")
	}
}

func TestUUIDs(t *testing.T) {
	const text = "018f0000-abcd-7000-8000-00000000ff01"
	id, ok := parseUUID(text)
	require.True(t, ok)
	require.Equal(t, text, id.String())
	for _, bad := range []string{"", "x", text + "0", strings.ReplaceAll(text, "-", "x"), "{" + text[1:35] + "}", strings.Replace(text, "f", "g", 1)} {
		_, ok := parseUUID(bad)
		require.False(t, ok, bad)
	}
}
