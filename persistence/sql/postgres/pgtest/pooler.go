package pgtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Pooler is a PgBouncer in transaction mode.
type Pooler struct {
	dir      string
	port     int
	binary   string
	server   string // the URL behind it
	account  *account
	cmd      *exec.Cmd
	exited   chan struct{}
	lifeline io.WriteCloser
}

// NewPooler starts a PgBouncer before the server of a URL, with so many sessions for each database of that server. It ends with the test.
// If there is none, the test fails.
func NewPooler(t testing.TB, server string, sessions int) *Pooler {
	t.Helper()
	p, err := startPooler(server, sessions)
	if p != nil {
		t.Cleanup(p.stop)
	}
	if err != nil {
		t.Fatalf("pgtest: PgBouncer: %v", err)
	}
	return p
}

func startPooler(server string, sessions int) (*Pooler, error) {
	p := &Pooler{server: server}
	var err error
	if p.binary, err = findPooler(); err != nil {
		return nil, err
	}
	if p.account, err = findAccount(); err != nil {
		return nil, err
	}
	if p.dir, err = p.account.tempDir(); err != nil {
		return nil, err
	}
	if err := p.configure(sessions); err != nil {
		return p, err
	}
	return p, p.start()
}

func (p *Pooler) start() error {
	p.cmd = p.account.command(p.dir, p.binary, filepath.Join(p.dir, "pgbouncer.ini"))
	if err := p.cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	p.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // its state is seen by those who wait for exited
		close(exited)
	}(p.cmd)
	var err error
	if p.lifeline, err = guard(p.cmd.Process.Pid, p.dir); err != nil {
		return err
	}
	return p.waitReady()
}

// Restart kills the pool, and with it all connections, and starts it again.
func (p *Pooler) Restart(t testing.TB) {
	t.Helper()
	p.kill()
	if err := p.start(); err != nil {
		t.Fatalf("pgtest: PgBouncer: %v", err)
	}
}

func findPooler() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	const packaged = "/usr/sbin/pgbouncer"
	if _, err := os.Stat(packaged); err != nil {
		return "", errors.New("no pgbouncer in PATH or /usr/sbin; install it (make postgres does so on Debian)")
	}
	return packaged, nil
}

func (p *Pooler) configure(sessions int) error {
	u, err := url.Parse(p.server)
	if err != nil {
		return err
	}
	if p.port, err = freePort(); err != nil {
		return err
	}
	database := "* = host=" + u.Hostname() + " port=" + u.Port()
	password, _ := u.User.Password()
	lines := []string{"[databases]", database, "[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + strconv.Itoa(p.port),
		"unix_socket_dir =", "auth_type = trust", "auth_file = " + filepath.Join(p.dir, "users"), "logfile = " + filepath.Join(p.dir, "log"),
		"pool_mode = transaction", "default_pool_size = " + strconv.Itoa(sessions), "max_client_conn = 1000",
		"server_login_retry = 1", ""}
	users := fmt.Sprintf("%q %q\n", u.User.Username(), password)
	if err := os.WriteFile(filepath.Join(p.dir, "users"), []byte(users), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, "pgbouncer.ini"), []byte(strings.Join(lines, "\n")), 0o644)
}

func (p *Pooler) waitReady() error { return awaitReady(p.URL(p.server), p.exited, p.log) }

func (p *Pooler) log() string {
	log, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// URL is a URL of a database of the server, through the pool.
func (p *Pooler) URL(direct string) string {
	u, err := url.Parse(direct)
	if err != nil {
		return direct // it could be connected to, so it is no other form than a URL
	}
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port))
	return u.String()
}

func (p *Pooler) stop() {
	p.kill()
	_ = os.RemoveAll(p.dir)
}

func (p *Pooler) kill() {
	if p.exited != nil {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.exited
		p.exited = nil
	}
	if p.lifeline != nil {
		dismiss(p.lifeline)
		p.lifeline = nil
	}
}
