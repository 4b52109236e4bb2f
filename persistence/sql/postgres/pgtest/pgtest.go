// Package pgtest gives tests a PostgreSQL: a private server that the test binary starts once, or the one of $PERDURE_TEST_POSTGRES.
//
// Each call of [URL] is a fresh, empty database; each call of [MigratedURL] is a copy of one with the schema. A private server ends with the test
// binary: a package whose tests use it calls [Main] from its TestMain, and even a binary that is killed leaves no server behind.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// EnvURL names the variable with the URL of a server where tests may create databases.
const EnvURL = "PERDURE_TEST_POSTGRES"

const adminTimeout = 60 * time.Second

var shared struct {
	mu       sync.Mutex
	server   *Server
	admin    string // URL of a database from which others are created
	template string // a migrated database
	users    int
	keep     bool // Main ends the server, not the last test
}

var databases atomic.Int64

// Main runs a package's tests and ends the private server, if there is one. It returns the exit code.
func Main(m interface{ Run() int }) int {
	shared.mu.Lock()
	shared.keep = true
	shared.mu.Unlock()
	defer func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		stopShared()
	}()
	return m.Run()
}

// URL returns the URL of a new, empty database. It is dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	return create(t, "")
}

// MigratedURL returns the URL of a new database with the schema that migrate makes: postgres.MigrateURL (this package cannot import it,
// since its tests import this one). The first call in a test binary migrates a template, the
// others copy it, which takes some 30 ms; so all must give the same migration.
func MigratedURL(t testing.TB, migrate func(ctx context.Context, url string) error) string {
	t.Helper()
	admin := acquire(t)
	template, err := migratedTemplate(admin, migrate)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return createFrom(t, admin, template)
}

func create(t testing.TB, template string) string {
	t.Helper()
	return createFrom(t, acquire(t), template)
}

func createFrom(t testing.TB, admin, template string) string {
	t.Helper()
	name := newName()
	sql := "CREATE DATABASE " + name
	if template != "" {
		sql += " TEMPLATE " + template
	}
	if err := execute(admin, sql); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return withDatabase(admin, name)
}

func newName() string {
	return fmt.Sprintf("perdure_test_%d_%d_%d", os.Getpid(), time.Now().UnixNano(), databases.Add(1))
}

// acquire returns the URL of the server, and starts one if need be. It is released when the test ends.
func acquire(t testing.TB) string {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.admin == "" {
		if err := startShared(); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	shared.users++
	t.Cleanup(func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if shared.users--; shared.users == 0 && !shared.keep {
			stopShared()
		}
	})
	return shared.admin
}

func startShared() error {
	if env := os.Getenv(EnvURL); env != "" {
		shared.admin = env
		return nil
	}
	server, err := newServer(nil)
	if err != nil {
		return err
	}
	if err := server.start(); err != nil {
		server.remove()
		return err
	}
	shared.server, shared.admin = server, server.URL()
	return nil
}

func stopShared() {
	if shared.template != "" && shared.server == nil {
		_ = execute(shared.admin, "DROP DATABASE IF EXISTS "+shared.template) // the server is not ours, so what we made must go
	}
	if shared.server != nil {
		shared.server.remove()
	}
	shared.server, shared.admin, shared.template = nil, "", ""
}

func migratedTemplate(admin string, migrate func(ctx context.Context, url string) error) (string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.template != "" {
		return shared.template, nil
	}
	name := newName()
	if err := execute(admin, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	if err := migrate(ctx, withDatabase(admin, name)); err != nil {
		return "", fmt.Errorf("migrate the template: %w", err)
	}
	shared.template = name
	return name, nil
}

func execute(admin, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func withDatabase(admin, name string) string {
	u, err := url.Parse(admin)
	if err != nil {
		return admin // it could be connected to, so it is no other form than a URL
	}
	u.Path = "/" + name
	return u.String()
}
