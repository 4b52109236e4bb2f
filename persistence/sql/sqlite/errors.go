package sqlite

import (
	"errors"
	"fmt"

	moderncsqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The primary result codes that the store tells apart.
const (
	codeError      = sqlite3.SQLITE_ERROR // also "no transaction is active"
	codeConstraint = sqlite3.SQLITE_CONSTRAINT
	codeTooBig     = sqlite3.SQLITE_TOOBIG
	codeNotADB     = sqlite3.SQLITE_NOTADB
	codeCorrupt    = sqlite3.SQLITE_CORRUPT
	codeReadonly   = sqlite3.SQLITE_READONLY
	codeCantOpen   = sqlite3.SQLITE_CANTOPEN
	codeBusy       = sqlite3.SQLITE_BUSY
)

// isCode compares the primary code: the low byte of an extended one.
func isCode(err error, code int) bool {
	var e *moderncsqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == code
}

// describe says in a user's words why a database could not be opened.
func describe(err error) error {
	switch {
	case isCode(err, codeNotADB):
		return fmt.Errorf("it is not an SQLite database: %w", err)
	case isCode(err, codeCorrupt):
		return fmt.Errorf("it is damaged: %w", err)
	case isCode(err, codeReadonly), isCode(err, codeCantOpen):
		return fmt.Errorf("it or its directory cannot be written: %w", err)
	case isCode(err, codeBusy):
		return fmt.Errorf("another program has it locked: %w", err)
	default:
		return err
	}
}
