package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/schema"
)

// applicationID marks files of this project ("PRDR"), so that another program's database is not taken for an empty one.
const applicationID = 0x50524452

// migrate brings the schema up to date, in one transaction.
func migrate(ctx context.Context, c *conn) error {
	if err := claim(ctx, c); err != nil {
		return err
	}
	if _, err := c.sql.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT`); err != nil {
		return err
	}
	var version int
	if err := c.row(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_version`, nil, &version); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	migrations := schema.SQLite()
	if version > len(migrations) {
		return fmt.Errorf("its schema has version %d, and this program knows only versions up to %d: use a newer one", version, len(migrations))
	}
	if version == len(migrations) {
		return nil
	}
	return upgrade(ctx, c, migrations[version:])
}

// checkSchema refuses a database that this program did not make, or not with this schema.
func checkSchema(ctx context.Context, c *conn) error {
	var id, version int
	if err := c.row(ctx, `PRAGMA application_id`, nil, &id); err != nil {
		return err
	}
	if id != applicationID {
		return errors.New("it is not a database of this program")
	}
	if err := c.row(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_version`, nil, &version); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if want := len(schema.SQLite()); version != want {
		return fmt.Errorf("its schema has version %d, and this program works with version %d", version, want)
	}
	return nil
}

// claim refuses a file with tables that another program made.
func claim(ctx context.Context, c *conn) error {
	var id, tables int
	if err := c.row(ctx, `PRAGMA application_id`, nil, &id); err != nil {
		return err
	}
	if id == applicationID {
		return nil
	}
	if err := c.row(ctx, `SELECT COUNT(*) FROM sqlite_schema`, nil, &tables); err != nil {
		return err
	}
	if tables > 0 {
		return errors.New("it is another program's SQLite database")
	}
	_, err := c.sql.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	return err
}

func upgrade(ctx context.Context, c *conn, migrations []schema.Migration) error {
	if _, err := c.sql.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, m := range migrations {
		_, err := c.sql.ExecContext(ctx, m.SQL)
		if err == nil {
			_, err = c.sql.ExecContext(ctx, `INSERT INTO schema_version (version) VALUES (?)`, m.Version)
		}
		if err != nil {
			_, rollbackErr := c.sql.ExecContext(ctx, "ROLLBACK")
			return errors.Join(fmt.Errorf("migration %d (%s): %w", m.Version, m.Name, err), rollbackErr)
		}
	}
	_, err := c.sql.ExecContext(ctx, "COMMIT")
	return err
}
