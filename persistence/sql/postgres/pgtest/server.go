package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// startTimeout is generous: a machine that runs many tests at once is slow.
	startTimeout = 60 * time.Second
	pollInterval = 20 * time.Millisecond
	superuser    = "perdure"
	// killSignalWait is how long a server may take to stop before it is killed.
	killSignalWait = 20 * time.Second
)

// Server is a PostgreSQL of a test's own, which it may stop, kill and start again.
type Server struct {
	binaries string
	dir      string
	port     int
	settings []string
	account  *account // nil: the current user
	cmd      *exec.Cmd
	exited   chan struct{}
	lifeline io.WriteCloser // closes with this process, and then the guard stops the server
}

// account is whom the server runs as: it refuses to run as root.
type account struct{ uid, gid uint32 }

// NewServer starts a server that ends with the test. The settings are lines of postgresql.conf. If there are no binaries of PostgreSQL,
// the test fails: set PATH, or install one under /usr/lib/postgresql.
func NewServer(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := newServer(settings)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(s.remove)
	if err := s.start(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return s
}

func newServer(settings []string) (*Server, error) {
	binaries, err := findBinaries()
	if err != nil {
		return nil, err
	}
	s := &Server{binaries: binaries, settings: settings}
	if s.account, err = findAccount(); err != nil {
		return nil, err
	}
	if s.dir, err = s.account.tempDir(); err != nil {
		return nil, err
	}
	if err := s.initialize(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// findBinaries returns the directory of initdb and postgres: that of PATH, or the newest one that is installed.
func findBinaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("no initdb in PATH or /usr/lib/postgresql/*/bin; install PostgreSQL or set " + EnvURL)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// tempDir makes a directory of the account's.
func (a *account) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "perdure-pg-")
	if err != nil || a == nil {
		return dir, err
	}
	return dir, os.Chown(dir, int(a.uid), int(a.gid))
}

// findAccount is whom servers run as that refuse to run as root; nil: the current user will do.
func findAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &account{uint32(uid), uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	return s.account.command(s.dir, filepath.Join(s.binaries, name), args...)
}

// command makes a command that runs as the account, or as the current user without one.
func (a *account) command(dir, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return cmd
}

func (s *Server) initialize() error {
	// Bytes in the order of bytes, but letters as in Unicode. Systems without that locale still do for all tests but those of case.
	if err := s.initdb("--locale=C.UTF-8"); err != nil {
		if err := s.initdb("--no-locale"); err != nil {
			return err
		}
	}
	var err error
	s.port, err = freePort()
	return err
}

func (s *Server) initdb(locale string) error {
	out, err := s.command("initdb", "-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", locale, "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// defaults make a small server that is fast and forgets nothing but a crash of the machine.
func (s *Server) defaults() []string {
	return []string{"port=" + strconv.Itoa(s.port), "listen_addresses=127.0.0.1", "unix_socket_directories=" + s.dir, "fsync=off",
		"shared_buffers=64MB", "max_connections=300", "max_wal_size=4GB", "autovacuum_naptime=5s", "log_min_messages=warning", "timezone=UTC"}
}

// Start starts a server that has been stopped, with its data and on its port, and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

func (s *Server) start() error {
	args := []string{"-D", s.data()}
	for _, setting := range append(s.defaults(), s.settings...) {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = s.command("postgres", args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // its state is seen by those who wait for exited
		close(exited)
	}(s.cmd)
	if s.lifeline, err = guard(s.cmd.Process.Pid, s.dir); err != nil {
		return err
	}
	return s.waitReady()
}

// guard starts a shell that stops a process and removes its directory when this process ends in whatever way: it reads a pipe that only
// this process keeps open.
func guard(pid int, dir string) (lifeline io.WriteCloser, err error) {
	script := fmt.Sprintf("read -r line; [ \"$line\" = done ] || { kill -QUIT %d; sleep 1; rm -rf '%s'; }", pid, dir)
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("guard process %d: %w", pid, err)
	}
	go func() { _ = cmd.Wait() }() // only so that it does not stay a zombie
	return pipe, nil
}

// dismiss ends the guard of a process that has ended.
func dismiss(lifeline io.WriteCloser) {
	_, _ = io.WriteString(lifeline, "done\n") // without it the guard does what has been done
	_ = lifeline.Close()
}

func (s *Server) waitReady() error { return awaitReady(s.URL(), s.exited, s.Log) }

// awaitReady waits until a database answers, or the process that is to serve it has ended.
func awaitReady(url string, exited <-chan struct{}, log func() string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-exited:
			return fmt.Errorf("the server ended: %s", log())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w: %s", err, log())
		case <-ticker.C:
		}
	}
}

// URL is the server's database "postgres", as superuser.
func (s *Server) URL() string { return s.databaseURL("postgres") }

func (s *Server) databaseURL(name string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + name,
		RawQuery: "sslmode=disable"}
	return u.String()
}

// Log is what the server has written.
func (s *Server) Log() string {
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// Stop ends the server: politely, or immediately like a crash of it. It waits for the end.
func (s *Server) Stop(t testing.TB, immediate bool) {
	t.Helper()
	if err := s.stop(immediate); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

func (s *Server) stop(immediate bool) error {
	if s.exited == nil {
		return nil
	}
	sig := syscall.SIGINT // fast shutdown: ends the sessions, then writes a checkpoint
	if immediate {
		sig = syscall.SIGQUIT
	}
	_ = s.cmd.Process.Signal(sig) // it may have ended
	timer := time.NewTimer(killSignalWait)
	defer timer.Stop()
	var err error
	select {
	case <-s.exited:
	case <-timer.C:
		err = fmt.Errorf("postgres did not stop: %s", strings.TrimSpace(s.Log()))
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	if s.lifeline != nil {
		dismiss(s.lifeline)
		s.lifeline = nil
	}
	s.exited = nil
	return err
}

func (s *Server) remove() {
	_ = s.stop(true) // the data are of no worth any more
	_ = os.RemoveAll(s.dir)
}

// Backup copies the data of a stopped server. The function that it returns puts them back, once, while the server is stopped again.
func (s *Server) Backup(t testing.TB) (restore func()) {
	t.Helper()
	copied := filepath.Join(s.dir, "backup")
	if out, err := exec.Command("cp", "-a", s.data(), copied).CombinedOutput(); err != nil {
		t.Fatalf("pgtest: back up: %v: %s", err, out)
	}
	return func() {
		t.Helper()
		if err := os.RemoveAll(s.data()); err != nil {
			t.Fatalf("pgtest: restore: %v", err)
		}
		if err := os.Rename(copied, s.data()); err != nil {
			t.Fatalf("pgtest: restore: %v", err)
		}
	}
}
