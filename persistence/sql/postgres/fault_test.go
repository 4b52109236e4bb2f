package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/postgres/pgtest"
)

// TestUnknownOutcomeIsResolvedByTaking: after the take, the row is there or will never be. With a pool in between, too.
func TestUnknownOutcomeIsResolvedByTaking(t *testing.T) {
	for _, c := range []struct {
		name    string
		fault   fault
		written bool
	}{{"request lost", loseRequest, false}, {"answer lost", loseAnswer, true}, {"frozen in half", freezeInHalf, false}} {
		direct := database(t)
		t.Run(c.name, func(t *testing.T) { testUnknownOutcome(t, direct, direct, c.fault, c.written) })
		direct = database(t)
		pooled := pgtest.NewPooler(t, direct, poolerSessions).URL(direct)
		t.Run(c.name+", through a pool", func(t *testing.T) { testUnknownOutcome(t, direct, pooled, c.fault, c.written) })
	}
}

func testUnknownOutcome(t *testing.T, direct, way string, fault fault, written bool) {
	ctx := context.Background()
	p, url := newProxy(t, way)
	s := open(t, Options{URL: url, CommitTimeout: 2 * time.Second, LockTimeout: 300 * time.Millisecond, Logger: zap.NewNop()})
	key, run := keyOf("a"), newRun()
	epoch := takeAll(t, s, key)[key.Shard()]
	require.NoError(t, commit(s, key, epoch, startWrite(key, run)))

	p.next.Store(int32(fault))
	err := commit(s, key, epoch, nextWrite(run, 2))
	require.ErrorIs(t, err, persistence.ErrOutcomeUnknown)
	require.Zero(t, p.next.Load(), "the fault did not happen")

	taken, err := s.RetakeShards(ctx, "test", []persistence.ShardID{key.Shard()})
	require.NoError(t, err)
	newer := taken[key.Shard()]
	require.Equal(t, epoch+1, newer)
	loaded, err := s.LoadRun(ctx, key, run)
	require.NoError(t, err)
	want := 1
	if written {
		want = 2
	}
	require.Len(t, loaded.Transitions, want)
	var sessions int
	require.NoError(t, connect(t, direct).QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").Scan(&sessions))
	require.Zero(t, sessions, "nobody can commit any more under the old ownership")
	require.ErrorIs(t, commit(s, key, epoch, nextWrite(run, 9)), persistence.ErrFenced)
	require.NoError(t, commit(s, key, newer, nextWrite(run, int64(want+1))))
}

func TestFrozenOwnerIsFencedWhenItsLeaseIsOver(t *testing.T) {
	ctx := context.Background()
	url := database(t)
	opts := Options{URL: url, LockTimeout: 200 * time.Millisecond, Logger: zap.NewNop()}
	frozen, heir := open(t, opts), open(t, opts)
	key := keyOf("a")
	epoch := takeAll(t, frozen, key)[key.Shard()]
	_, _, err := frozen.RenewMember(ctx, persistence.Member{ID: "frozen"}, time.Hour)
	require.NoError(t, err)

	// A session of the owner that has sent its lock and stopped there.
	session := connect(t, url)
	tx, err := session.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1)", frozen.Key())
	require.NoError(t, err)

	_, err = heir.TakeShards(ctx, "heir", []persistence.ShardID{key.Shard()})
	require.ErrorIs(t, err, persistence.ErrUnavailable, "its lease is alive")
	require.NoError(t, tx.QueryRow(ctx, "SELECT 1").Scan(new(int)), "so its session is left alone")

	_, _, err = frozen.RenewMember(ctx, persistence.Member{ID: "frozen"}, time.Microsecond)
	require.NoError(t, err)
	taken, err := heir.TakeShards(ctx, "heir", []persistence.ShardID{key.Shard()})
	require.NoError(t, err)
	require.Equal(t, epoch+1, taken[key.Shard()])
	require.Error(t, tx.Commit(ctx), "the session was ended")
	require.ErrorIs(t, commit(frozen, key, epoch, startWrite(key, newRun())), persistence.ErrFenced)
}

// ledger is what a test knows about a run: which transitions it was told are durable, and by whom they were written.
type ledger struct {
	mu    sync.Mutex
	acked map[string]map[int64]string // by run, by seq: the mark in the row
}

func (l *ledger) ack(run string, seq int64, mark string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked == nil {
		l.acked = map[string]map[int64]string{}
	}
	if l.acked[run] == nil {
		l.acked[run] = map[int64]string{}
	}
	l.acked[run][seq] = mark
}

// verify checks that all that was acknowledged is there, once, and nothing is missing in between.
func (l *ledger) verify(t *testing.T, s *Store) int {
	t.Helper()
	total := 0
	for run, acked := range l.acked {
		rows, err := s.ReadTransitions(context.Background(), 0, run, 0, 1_000_000)
		require.NoError(t, err)
		stored := map[int64]string{}
		for i, row := range rows {
			require.EqualValues(t, i+1, row.Seq, "a gap")
			stored[row.Seq] = string(row.Events)
		}
		for seq, mark := range acked {
			require.Equal(t, mark, stored[seq], "run %s seq %d", run, seq)
			total++
		}
	}
	return total
}

// writer appends transitions to one run, through whichever store it is told to, as an engine would: after an error it takes the shard,
// reloads and goes on.
type writer struct {
	key   persistence.ExecutionKey
	run   string
	seq   int64
	epoch persistence.Epoch
}

// sync makes a store the owner and reads what is durable.
func (w *writer) sync(ctx context.Context, s *Store) error {
	epochs, err := s.TakeShards(ctx, "writer", []persistence.ShardID{w.key.Shard()})
	if err != nil {
		return err
	}
	epoch, ok := epochs[w.key.Shard()]
	if !ok {
		return persistence.ErrConflict
	}
	w.epoch, w.seq = epoch, 0
	run, err := s.LoadRun(ctx, w.key, w.run)
	if errors.Is(err, persistence.ErrNotFound) {
		return nil
	}
	if err == nil {
		w.seq = int64(len(run.Transitions))
	}
	return err
}

func (w *writer) append(ctx context.Context, s *Store, mark string) error {
	write := persistence.RunWrite{RunID: w.run, Transition: &persistence.Transition{Seq: w.seq + 1, FirstEventID: w.seq + 1, Events: []byte(mark)}}
	if w.seq == 0 {
		write.Insert, write.Open, write.Status = true, true, 1
	}
	err := s.Commit(ctx, &persistence.Mutation{Key: w.key, Epoch: w.epoch, Runs: []persistence.RunWrite{write}})
	if err == nil {
		w.seq++
	}
	return err
}

func TestIncarnationsRacingForShards(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	url := database(t)
	const writers, appends = 24, 60
	var l ledger
	stores := []*Store{open(t, Options{URL: url}), open(t, Options{URL: url})}
	runs := make([]string, writers/2)
	for i := range runs {
		runs[i] = newRun()
	}
	var wg sync.WaitGroup
	for i := range writers {
		wg.Add(1)
		go func() { // two writers, one on each store, fight for each run
			defer wg.Done()
			s := stores[i%2]
			w := &writer{key: keyOf(fmt.Sprint("w", i/2)), run: runs[i/2]}
			for n := 0; n < appends; {
				mark := fmt.Sprintf("%d/%d", i, n)
				err := persistence.ErrFenced
				if w.epoch > 0 {
					err = w.append(ctx, s, mark)
				}
				switch {
				case err == nil:
					l.ack(w.run, w.seq, mark)
					n++
				case errors.Is(err, persistence.ErrFenced), errors.Is(err, persistence.ErrConflict):
					if err := w.sync(ctx, s); err != nil && !errors.Is(err, persistence.ErrConflict) && !errors.Is(err, persistence.ErrUnavailable) {
						t.Errorf("take: %v", err)
						return
					}
				default:
					t.Errorf("append: %v", err)
					return
				}
			}
		}()
	}
	wg.Wait()
	require.Equal(t, writers*appends, l.verify(t, stores[0]))
}

func TestNothingIsLostWhenTheServerRestarts(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	server := pgtest.NewServer(t)
	s := open(t, Options{URL: server.URL(), Migrate: true, Logger: zap.NewNop(),
		OnServerChange: func(reason string) { t.Errorf("it is the same server: %s", reason) }})
	const writers, appends = 16, 80
	var l ledger
	var wg sync.WaitGroup
	restart := make(chan struct{}, writers*appends)
	for i := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := &writer{key: keyOf(fmt.Sprint("w", i)), run: newRun()}
			for n := 0; n < appends && ctx.Err() == nil; {
				mark := fmt.Sprintf("%d/%d", i, n)
				err := persistence.ErrFenced
				if w.epoch > 0 {
					err = w.append(ctx, s, mark)
				}
				if err == nil {
					l.ack(w.run, w.seq, mark)
					n++
					restart <- struct{}{}
				} else if w.sync(ctx, s) != nil {
					w.epoch = 0 // the server is away
				}
			}
		}()
	}
	for _, immediate := range []bool{true, false} {
		for range 100 {
			<-restart
		}
		server.Stop(t, immediate)
		server.Start(t)
	}
	wg.Wait()
	require.NoError(t, ctx.Err())
	require.Equal(t, writers*appends, l.verify(t, s))
}

// TestCommitWithoutItsStandbyIsUnknown: the server is told to wait for a standby, and then no more. It has committed, but only itself.
func TestCommitWithoutItsStandbyIsUnknown(t *testing.T) {
	ctx := context.Background()
	server := pgtest.NewServer(t)
	s := open(t, Options{URL: server.URL(), Migrate: true, CommitTimeout: time.Minute, Logger: zap.NewNop()})
	key, run := keyOf("a"), newRun()
	epoch := takeAll(t, s, key)[key.Shard()]
	require.NoError(t, commit(s, key, epoch, startWrite(key, run)))

	admin := connect(t, server.URL()+"&synchronous_commit=local")
	setStandby := func(name string) {
		execute(t, admin, "ALTER SYSTEM SET synchronous_standby_names = '"+name+"'", "SELECT pg_reload_conf()")
	}
	waiting := func() (n int) {
		require.NoError(t, admin.QueryRow(ctx, "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&n))
		return n
	}
	setStandby("nobody")
	result := make(chan error, 1)
	// The sessions learn of the standby a moment later, so some commits may still pass.
	go func() {
		for seq := int64(2); ; seq++ {
			if err := commit(s, key, epoch, nextWrite(run, seq)); err != nil {
				result <- err
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return waiting() > 0 }, waitMax, waitTick)
	require.ErrorIs(t, <-result, persistence.ErrOutcomeUnknown)
	setStandby("")
	newer := takeAll(t, s, key)[key.Shard()]
	loaded, err := s.LoadRun(ctx, key, run)
	require.NoError(t, err)
	require.NoError(t, commit(s, key, newer, nextWrite(run, int64(len(loaded.Transitions))+1)))
}

// TestRestoredBackupFencesTheStore: the server has forgotten what this process remembers, so it may not go on as if nothing had happened,
// although its epoch is the one in the database.
func TestRestoredBackupFencesTheStore(t *testing.T) {
	ctx := context.Background()
	server := pgtest.NewServer(t)
	changes := make(chan string, 10)
	s := open(t, Options{URL: server.URL(), Migrate: true, Logger: zap.NewNop(), OnServerChange: func(reason string) { changes <- reason }})
	w := &writer{key: keyOf("a"), run: newRun()}
	require.NoError(t, w.sync(ctx, s))
	require.NoError(t, w.append(ctx, s, "before the backup"))
	server.Stop(t, false)
	restore := server.Backup(t)
	server.Start(t)
	// Connections that broke are found one by one.
	healthy := func() bool { return w.sync(ctx, s) == nil }
	require.Eventually(t, healthy, waitMax, waitTick)
	mark := strings.Repeat("after the backup ", 100)
	for w.seq < 50 {
		if w.append(ctx, s, mark) != nil {
			require.Eventually(t, healthy, waitMax, waitTick)
		}
	}
	_, _, err := s.RenewMember(ctx, persistence.Member{ID: "m"}, time.Minute)
	require.NoError(t, err)
	require.Empty(t, changes)

	server.Stop(t, true)
	restore()
	server.Start(t)
	require.Eventually(t, func() bool { return errors.Is(w.append(ctx, s, mark), persistence.ErrFenced) }, waitMax, waitTick)
	require.Contains(t, <-changes, "shorter")
	require.Eventually(t, healthy, waitMax, waitTick)
	require.EqualValues(t, 1, w.seq, "what the backup has")
	require.NoError(t, w.append(ctx, s, "after the restore"))
}
