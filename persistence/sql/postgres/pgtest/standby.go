package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby starts a streaming standby of a running server. With synchronous, the server waits for it with every commit from now on. It ends
// with the test.
func (s *Server) Standby(t testing.TB, synchronous bool) *Server {
	t.Helper()
	standby, err := s.newStandby()
	if standby != nil {
		t.Cleanup(standby.remove)
	}
	if err == nil && synchronous {
		err = s.ask("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()",
			"SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')")
	}
	if err != nil {
		t.Fatalf("pgtest: standby: %v", err)
	}
	return standby
}

func (s *Server) newStandby() (*Server, error) {
	standby := &Server{binaries: s.binaries, account: s.account, settings: s.settings}
	var err error
	if standby.port, err = freePort(); err != nil {
		return nil, err
	}
	if standby.dir, err = s.account.tempDir(); err != nil {
		return nil, err
	}
	copied := standby.command("pg_basebackup", "-D", standby.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", superuser,
		"--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	if out, err := copied.CombinedOutput(); err != nil {
		return standby, fmt.Errorf("pg_basebackup: %w: %s", err, out)
	}
	return standby, standby.start()
}

// AwaitStandby waits until a standby has everything that the server has written by now.
func (s *Server) AwaitStandby(t testing.TB) {
	t.Helper()
	if err := s.ask("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_flush_lsn())"); err != nil {
		t.Fatalf("pgtest: standby: %v", err)
	}
}

// Promote makes a standby the primary, and returns when it takes writes.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	if err := s.ask("SELECT pg_promote()", "SELECT NOT pg_is_in_recovery()"); err != nil {
		t.Fatalf("pgtest: promote: %v", err)
	}
}

// ask runs statements, the last of which is a question, and repeats that until the answer is true.
func (s *Server) ask(statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	last := len(statements) - 1
	for _, sql := range statements[:last] {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		var yes bool
		if err := conn.QueryRow(ctx, statements[last]).Scan(&yes); err != nil || yes {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("it does not come true: " + statements[last])
		case <-ticker.C:
		}
	}
}

// Address is where the server listens.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// AnyOf is the URL of a database that several servers have: it leads to the one that takes writes. The addresses are host:port.
func AnyOf(t testing.TB, database string, addresses ...string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	u.Host = strings.Join(addresses, ",")
	query := u.Query()
	query.Set("target_session_attrs", "read-write")
	u.RawQuery = query.Encode()
	return u.String()
}
