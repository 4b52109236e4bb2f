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

// Standby starts a streaming standby of a running server, and has the server wait for it with every commit. It ends with the test.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	standby, err := s.newStandby()
	if standby != nil {
		t.Cleanup(standby.remove)
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
	if err := standby.start(); err != nil {
		return standby, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return standby, err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return standby, err
		}
	}
	return standby, waitFor(ctx, conn, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')")
}

// Promote makes a standby the primary, and returns when it takes writes.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		t.Fatalf("pgtest: promote: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := waitFor(ctx, conn, "SELECT pg_promote() AND NOT pg_is_in_recovery()"); err != nil {
		t.Fatalf("pgtest: promote: %v", err)
	}
}

// waitFor repeats a question until the answer is true.
func waitFor(ctx context.Context, conn *pgx.Conn, sql string) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		var yes bool
		if err := conn.QueryRow(ctx, sql).Scan(&yes); err != nil || yes {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("it does not come true: " + sql)
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
