package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"

	moderncsqlite "modernc.org/sqlite"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/visibilitysql"
)

// Settings of connections. A file's pages are 4 KiB; caches are in KiB when negative.
var (
	// The WAL is moved into the file after 16 MiB instead of 4: its two syncs are then rare even under load. busy_timeout matters
	// only if another program, such as the sqlite3 shell, has the file open.
	writerPragmas = []string{
		"journal_mode = WAL", "synchronous = FULL", "fullfsync = ON", "checkpoint_fullfsync = ON", "wal_autocheckpoint = 4096", "journal_size_limit = 67108864",
		"busy_timeout = 10000", "foreign_keys = OFF", "cache_size = -32768", "temp_store = MEMORY",
	}
	readerPragmas = []string{
		"query_only = ON", "busy_timeout = 10000", "cache_size = -8192", "temp_store = MEMORY",
	}
	// Nothing in memory outlives the process, so nothing is synced; the journal is needed for rollbacks.
	memoryPragmas = []string{"journal_mode = MEMORY", "synchronous = OFF", "foreign_keys = OFF", "temp_store = MEMORY"}
)

// sqliteDriver is a driver of this package's own, with the function that filters on words need.
var sqliteDriver = func() *moderncsqlite.Driver {
	d := &moderncsqlite.Driver{}
	d.MustRegisterDeterministicScalarFunction(visibilitysql.SQLiteHasWord, 2,
		func(_ *moderncsqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
			text, ok := args[0].(string)
			words, wordsOK := args[1].(string)
			return ok && wordsOK && visibilitysql.HasWord(text, words), nil
		})
	return d
}()

// fileDSN is a file's URI. Only what has a meaning in a URI is escaped.
func fileDSN(path string) string {
	return "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

// connector opens connections with settings. It implements driver.Connector.
type connector struct {
	dsn     string
	pragmas []string
}

func (c connector) Driver() driver.Driver { return sqliteDriver }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := sqliteDriver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	for _, pragma := range c.pragmas {
		if _, err := opened.(driver.ExecerContext).ExecContext(ctx, "PRAGMA "+pragma, nil); err != nil {
			return nil, errors.Join(err, opened.Close())
		}
	}
	return opened, nil
}

// pool lends a fixed number of connections, which are opened when they are first needed.
type pool struct {
	db    *sql.DB
	slots chan *conn // nil: not open
	done  chan struct{}
	once  sync.Once
}

func newPool(size int, c connector) *pool {
	p := &pool{db: sql.OpenDB(c), slots: make(chan *conn, size), done: make(chan struct{})}
	for range size {
		p.slots <- nil
	}
	return p
}

// use lends a connection. ctx bounds the wait for it and, for a file, interrupts statements; a connection to memory is the database,
// so it is never interrupted.
func (p *pool) use(ctx context.Context, f func(context.Context, *conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var c *conn
	select {
	case <-p.done:
		return persistence.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case c = <-p.slots:
	}
	if cap(p.slots) == 1 {
		ctx = context.WithoutCancel(ctx)
	}
	if c == nil {
		opened, err := p.db.Conn(ctx)
		if err != nil {
			p.slots <- nil
			return err
		}
		c = &conn{sql: opened, statements: map[string]*sql.Stmt{}}
	}
	err := f(ctx, c)
	if ctx.Err() != nil || c.broken { // an interrupted connection is not used again
		c.close()
		c = nil
	}
	p.slots <- c
	return err
}

// close waits until all connections are back.
func (p *pool) close() error {
	p.once.Do(func() {
		close(p.done)
		for range cap(p.slots) {
			if c := <-p.slots; c != nil {
				c.close()
			}
		}
	})
	return p.db.Close()
}

// conn is a connection with its prepared statements.
type conn struct {
	sql        *sql.Conn
	statements map[string]*sql.Stmt
	// broken says that it is in a state that nobody knows: the pool opens another one in its place.
	broken bool
}

// close frees the connection; what is wrong with it then is no longer of interest.
func (c *conn) close() {
	for _, s := range c.statements {
		_ = s.Close()
	}
	_ = c.sql.Close()
}

// prepared returns the statement for a text of this package's own. Texts that depend on a user's filter are not kept.
func (c *conn) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if s, ok := c.statements[text]; ok {
		return s, nil
	}
	s, err := c.sql.PrepareContext(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	c.statements[text] = s
	return s, nil
}

// exec runs a statement and returns the number of rows it changed.
func (c *conn) exec(ctx context.Context, text string, args ...any) (int64, error) {
	s, err := c.prepared(ctx, text)
	if err != nil {
		return 0, err
	}
	result, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row reads one row, or fails with ErrNotFound.
func (c *conn) row(ctx context.Context, text string, args []any, into ...any) error {
	found := false
	err := c.rows(ctx, text, args, func(scan func(...any) error) (bool, error) {
		found = true
		return false, scan(into...)
	})
	if err == nil && !found {
		return persistence.ErrNotFound
	}
	return err
}

// rows calls each for every row until it returns false.
func (c *conn) rows(ctx context.Context, text string, args []any, each func(scan func(...any) error) (bool, error)) error {
	s, err := c.prepared(ctx, text)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	return drain(rows, each)
}

func drain(rows *sql.Rows, each func(scan func(...any) error) (bool, error)) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if more, err := each(rows.Scan); err != nil || !more {
			return err
		}
	}
	return rows.Err()
}
