package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/perdure/perdure/persistence"
)

// The states of the checks that statements make by perdure_raise. Class PD is free for applications.
const (
	stateStaleShard  = "PD001" // detail: the positions in the arrays of the fence, from 1, separated by commas
	stateStaleQueue  = "PD002" // the same
	stateMissingRow  = "PD003" // fewer rows were updated than the group named
	stateKeyExists   = "PD004" // detail: positions, as of stateStaleShard
	stateOtherServer = "PD005" // the database has become another one
)

// The states of PostgreSQL that mean something else than "the database cannot do it now".
const (
	stateUniqueViolation   = "23505"
	stateProgramLimit      = "54000" // such as a text that does not fit into an index
	stateLockNotAvailable  = "55P03"
	stateReadOnly          = "25006"
	stateInsufficientRight = "42501"
	stateQueryCanceled     = "57014"
)

// errFault is what the database says about the data of a commit. It never leaves the package: it makes a group be taken apart.
var errFault = errors.New("postgres: the database refuses the data")

// severityError is a failure that leaves the connection alive; FATAL and PANIC do not.
const severityError = "ERROR"

// readError translates the error of a read, or of anything else whose repetition is harmless.
func readError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return persistence.ErrNotFound
	case isTranslated(err):
		return err
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == stateUniqueViolation {
		return fmt.Errorf("%w: %s: %w", persistence.ErrConflict, op, err)
	}
	return fmt.Errorf("%w: %s: %w", persistence.ErrUnavailable, op, err)
}

// writeError translates the error of a transaction that is not a group commit. Its outcome is unknown if the connection was lost
// after something was sent.
func writeError(op string, err error) error {
	if err == nil || isTranslated(err) || isDefinite(err) || pgconn.SafeToRetry(err) {
		return readError(op, err)
	}
	var connectErr *pgconn.ConnectError
	if errors.As(err, &connectErr) || errors.Is(err, pgx.ErrNoRows) {
		return readError(op, err)
	}
	return fmt.Errorf("%w: %s: %w", persistence.ErrOutcomeUnknown, op, err)
}

// isTranslated tells an error of this package's own checks.
func isTranslated(err error) bool {
	for _, known := range []error{persistence.ErrNotFound, persistence.ErrConflict, persistence.ErrClosed, persistence.ErrUnavailable,
		persistence.ErrFenced, persistence.ErrOutcomeUnknown} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// isDefinite tells an answer of the server after which nothing of the transaction was written. A FATAL error is none: it may come
// between the commit and its acknowledgement.
func isDefinite(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && severity(pgErr) == severityError
}

func severity(e *pgconn.PgError) string {
	if e.SeverityUnlocalized != "" {
		return e.SeverityUnlocalized
	}
	return e.Severity
}

// commitError translates the error of a pipeline that ended in a commit.
func commitError(err error) error {
	if err == nil {
		return nil
	}
	var pgErr *pgconn.PgError
	if !isDefinite(err) {
		if pgconn.SafeToRetry(err) {
			return fmt.Errorf("%w: commit: %w", persistence.ErrUnavailable, err)
		}
		return fmt.Errorf("%w: %w", persistence.ErrOutcomeUnknown, err)
	}
	errors.As(err, &pgErr)
	switch pgErr.Code {
	case stateStaleShard, stateStaleQueue:
		return fmt.Errorf("%w: %w", persistence.ErrFenced, err)
	case stateKeyExists:
		return fmt.Errorf("%w: %w", persistence.ErrExists, err)
	case stateUniqueViolation, stateMissingRow:
		return fmt.Errorf("%w: %w", persistence.ErrConflict, err)
	case stateProgramLimit:
		return fmt.Errorf("%w: %w: %w", persistence.ErrTooLarge, errFault, err)
	}
	switch class(pgErr) {
	case "21", "22", "23", "44": // about the data: cardinality, data exceptions, constraints
		return fmt.Errorf("%w: %w", errFault, err)
	}
	return fmt.Errorf("%w: commit: %w", persistence.ErrUnavailable, err)
}

// namesMembers tells the failure of a check that says whose fault it was.
func namesMembers(err error) bool {
	return hasState(err, stateStaleShard) || hasState(err, stateStaleQueue) || hasState(err, stateKeyExists)
}

// class is the first two characters of a state.
func class(e *pgconn.PgError) string {
	if len(e.Code) < 2 {
		return ""
	}
	return e.Code[:2]
}

func hasState(err error, state string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == state
}

// refused is for keys that PostgreSQL cannot store.
func refused(what string) error {
	return fmt.Errorf("%w: %s is not a text or id that can be stored", errFault, what)
}

// contextError is why a call did not even start.
func contextError(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", persistence.ErrUnavailable, err)
	}
	return nil
}
