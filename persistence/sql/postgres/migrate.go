package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/perdure/perdure/schema"
)

// migrationLock is the advisory lock under which the schema changes: "perdure" in ASCII. It is held by transactions, not by a session,
// so that it works through a pool, and nothing is left behind by a process that dies.
const migrationLock = 0x70657264757265

// ErrSchema says that the schema of the database is not the one that this binary works with.
var ErrSchema = errors.New("postgres: schema version")

// SchemaStatus is the version of a database's schema (0: none) and the one that this binary works with.
type SchemaStatus struct {
	Database, Binary int
	// CompatibleFrom is the oldest version whose binaries work with the database's: during an upgrade, an older one may be started again.
	CompatibleFrom int
}

// Migrate brings the schema of a database up to date. It is safe to run at the same time in many processes. A schema that is too
// new for the binary is ErrSchema.
func Migrate(ctx context.Context, opts Options) (SchemaStatus, error) {
	return withConn(ctx, opts, migrate)
}

// MigrateURL is Migrate for callers that have a URL and care for nothing else.
func MigrateURL(ctx context.Context, url string) error {
	_, err := Migrate(ctx, Options{URL: url})
	return err
}

// ReadSchemaStatus reads the version of a database's schema.
func ReadSchemaStatus(ctx context.Context, opts Options) (SchemaStatus, error) {
	return withConn(ctx, opts, readStatus)
}

func withConn(ctx context.Context, opts Options, f func(context.Context, *pgx.Conn) (SchemaStatus, error)) (SchemaStatus, error) {
	config, err := pgxpool.ParseConfig(opts.URL) // of the pool, since URLs may have its parameters
	if err != nil {
		return SchemaStatus{}, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	setUpConfig(config.ConnConfig)
	config.ConnConfig.DefaultQueryExecMode = unnamed // a few statements, perhaps through a pool
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return SchemaStatus{}, readError("connect to PostgreSQL", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return f(ctx, conn)
}

// SchemaStatus reads the version of the schema.
func (s *Store) SchemaStatus(ctx context.Context) (SchemaStatus, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return SchemaStatus{}, readError("read the schema version", err)
	}
	defer conn.Release()
	return readStatus(ctx, conn.Conn())
}

// Migrate brings the schema up to date.
func (s *Store) Migrate(ctx context.Context) (SchemaStatus, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return SchemaStatus{}, readError("migrate", err)
	}
	defer conn.Release()
	return migrate(ctx, conn.Conn())
}

func (s *Store) checkSchema(ctx context.Context) error {
	if !s.opts.Migrate {
		status, err := s.SchemaStatus(ctx)
		if err != nil {
			return err
		}
		return status.check()
	}
	status, err := s.Migrate(ctx)
	if err != nil {
		return err
	}
	s.logger.Info("The database schema is up to date.", zap.Int("version", status.Database))
	return nil
}

func (s SchemaStatus) check() error {
	switch {
	case s.Database > s.Binary && s.Binary >= s.CompatibleFrom:
		return nil
	case s.Database > s.Binary:
		return fmt.Errorf("%w: the database has version %d, this binary knows versions up to %d; use a newer binary", ErrSchema, s.Database, s.Binary)
	case s.Database < s.Binary:
		return fmt.Errorf("%w: the database has version %d, this binary needs version %d; migrate the schema first", ErrSchema, s.Database, s.Binary)
	}
	return nil
}

func migrate(ctx context.Context, conn *pgx.Conn) (SchemaStatus, error) {
	status, err := readStatus(ctx, conn) // without a lock: most starts find nothing to do
	if err != nil {
		return status, err
	}
	for status.Database < status.Binary {
		if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return applyNext(ctx, tx) }); err != nil {
			return status, fmt.Errorf("migrate the schema: %w", err)
		}
		if status, err = readStatus(ctx, conn); err != nil {
			return status, err
		}
	}
	return status, status.check()
}

// applyNext applies the first missing migration. Another process may have done so while this one waited for the lock.
func applyNext(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return err
	}
	const createVersions = `CREATE TABLE IF NOT EXISTS schema_version
(version int4 PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())`
	if _, err := tx.Exec(ctx, createVersions); err != nil {
		return err
	}
	var version int
	if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&version); err != nil {
		return err
	}
	migrations := schema.Postgres()
	if version >= len(migrations) {
		return nil
	}
	if _, err := tx.Exec(ctx, "ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS compatible_from int4"); err != nil {
		return err
	}
	next := migrations[version]
	if _, err := tx.Conn().PgConn().Exec(ctx, next.SQL).ReadAll(); err != nil {
		return fmt.Errorf("version %d (%s): %w", next.Version, next.Name, err)
	}
	_, err := tx.Exec(ctx, "INSERT INTO schema_version (version, name, compatible_from) VALUES ($1, $2, $3)",
		next.Version, next.Name, next.CompatibleFrom)
	return err
}

func readStatus(ctx context.Context, conn *pgx.Conn) (SchemaStatus, error) {
	status := SchemaStatus{Binary: len(schema.Postgres())}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('schema_version') IS NOT NULL").Scan(&exists); err != nil {
		return status, readError("read the schema version", err)
	}
	if !exists {
		return status, nil
	}
	// As JSON, because the first databases lack the column.
	const sqlStatus = `SELECT coalesce(max(version), 0), coalesce(max(coalesce((to_jsonb(s) ->> 'compatible_from')::int4, version)), 0) FROM schema_version AS s`
	err := conn.QueryRow(ctx, sqlStatus).Scan(&status.Database, &status.CompatibleFrom)
	return status, readError("read the schema version", err)
}
