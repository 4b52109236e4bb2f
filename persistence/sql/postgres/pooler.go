package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/persistence"
)

// execModeOption of a URL says whether statements are prepared by name ("cache_statement") or not ("cache_describe"). Without it the
// store finds out what the database can do.
const execModeOption = "default_query_exec_mode"

// unnamed is how statements are sent where a connection leads to another session with each transaction: by text, in the round trip that
// executes them. Only the types of their parameters are remembered.
const unnamed = pgx.QueryExecModeCacheDescribe

// adaptToPooler has statements sent unnamed if a pool stands between this process and the server: what one transaction prepares, the
// next one may not find (PgBouncer before 1.21, and later ones with max_prepared_statements = 0).
//
// A pool gives its clients process ids and cancel keys of its own, since none of them has a session for long. The server's own is the
// one that it introduced itself with.
func adaptToPooler(ctx context.Context, config *pgx.ConnConfig) error {
	if strings.Contains(config.ConnString(), execModeOption) {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("%w: connect: %w", persistence.ErrUnavailable, err)
	}
	defer closeConn(conn)
	result := conn.PgConn().ExecParams(ctx, "SELECT pg_backend_pid()", nil, nil, nil, nil).Read()
	if result.Err != nil {
		return fmt.Errorf("%w: look for a pool: %w", persistence.ErrUnavailable, result.Err)
	}
	if string(result.Rows[0][0]) != strconv.FormatUint(uint64(conn.PgConn().PID()), 10) {
		config.DefaultQueryExecMode = unnamed
	}
	return nil
}

// closeConn ends a connection. Nothing depends on a polite end.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}
