package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	moderncsqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/perdure/perdure/persistence"
)

// databaseCodes are the primary result codes that are the database's fault. Others are about the statement or its values.
var databaseCodes = []int{
	sqlite3.SQLITE_INTERNAL, sqlite3.SQLITE_PERM, sqlite3.SQLITE_ABORT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
	sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL,
	sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOTADB,
}

// primaryCode is the low byte of an extended result code; 0 if the error is not SQLite's.
func primaryCode(err error) int {
	var e *moderncsqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// contractErrors are what callers look for.
var contractErrors = []error{persistence.ErrFenced, persistence.ErrConflict, persistence.ErrExists, persistence.ErrNotFound, persistence.ErrTooLarge,
	persistence.ErrOutcomeUnknown, persistence.ErrUnavailable, persistence.ErrClosed}

// classify turns a driver's error into one of the contract's, if there is one for it.
func classify(ctx context.Context, err error) error {
	if slices.ContainsFunc(contractErrors, func(known error) bool { return errors.Is(err, known) }) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", persistence.ErrUnavailable, ctx.Err())
	}
	switch code := primaryCode(err); {
	case code == sqlite3.SQLITE_CONSTRAINT:
		return fmt.Errorf("%w: %w", persistence.ErrConflict, err)
	case code == sqlite3.SQLITE_TOOBIG:
		return fmt.Errorf("%w: %w", persistence.ErrTooLarge, err)
	case slices.Contains(databaseCodes, code), errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn):
		return fmt.Errorf("%w: %w", persistence.ErrUnavailable, err)
	default:
		return err
	}
}

// describe says in a user's words why a database could not be opened.
func describe(err error) error {
	switch primaryCode(err) {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("it is not an SQLite database: %w", err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("it is damaged: %w", err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("it or its directory cannot be written: %w", err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("another program has it locked: %w", err)
	default:
		return err
	}
}
