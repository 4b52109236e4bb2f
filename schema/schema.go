// Package schema owns the tables: versioned migrations for both databases, embedded in the binary. A migration that has been released
// is never edited; a change is a new file. The stores apply what is missing, each migration in one transaction with the row of
// schema_version that records it.
//
// Expand, then contract: during an upgrade, binaries of the version before run on the schema of this one, and may be started on it. A
// migration that leaves them all that they use says so in its first line, "-- compatible-from: N", N being the oldest schema version
// whose binaries still work. What they use is removed by a migration of a later release.
package schema

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// Migration brings a database from version Version-1 to Version.
type Migration struct {
	Version int    // from 1, without gaps
	Name    string // of the file, without number and suffix
	SQL     string // one or more statements
	// CompatibleFrom is the oldest version whose binaries still work on this one. Without the line in the file it is Version itself.
	CompatibleFrom int
}

// Postgres returns the migrations of PostgreSQL in order.
func Postgres() []Migration { return slices.Clone(postgres()) }

// SQLite returns the migrations of SQLite in order.
func SQLite() []Migration { return slices.Clone(sqlite()) }

var (
	postgres = sync.OnceValue(func() []Migration { return mustRead("postgres") })
	sqlite   = sync.OnceValue(func() []Migration { return mustRead("sqlite") })
)

// mustRead panics only if the binary was built with misnamed files, which the tests of this package rule out.
func mustRead(dialect string) []Migration {
	migrations, err := read(files, dialect)
	if err != nil {
		panic(err)
	}
	return migrations
}

func read(fsys fs.FS, dialect string) ([]Migration, error) {
	entries, err := fs.ReadDir(fsys, dialect)
	if err != nil {
		return nil, fmt.Errorf("read the migrations of %s: %w", dialect, err)
	}
	migrations := make([]Migration, 0, len(entries))
	for _, entry := range entries { // ReadDir sorts by name, and the numbers have a fixed width
		migration, err := parseName(entry.Name())
		if err != nil {
			return nil, fmt.Errorf("migration %s/%s: %w", dialect, entry.Name(), err)
		}
		if migration.Version != len(migrations)+1 {
			return nil, fmt.Errorf("migration %s/%s: expected version %d", dialect, entry.Name(), len(migrations)+1)
		}
		text, err := fs.ReadFile(fsys, dialect+"/"+entry.Name())
		if err != nil {
			return nil, fmt.Errorf("migration %s/%s: %w", dialect, entry.Name(), err)
		}
		migration.SQL = string(text)
		if migration.CompatibleFrom, err = compatibleFrom(migration); err != nil {
			return nil, fmt.Errorf("migration %s/%s: %w", dialect, entry.Name(), err)
		}
		migrations = append(migrations, migration)
	}
	return migrations, nil
}

func compatibleFrom(m Migration) (int, error) {
	first, _, _ := strings.Cut(m.SQL, "\n")
	value, ok := strings.CutPrefix(first, "-- compatible-from: ")
	if !ok {
		return m.Version, nil
	}
	from, err := strconv.Atoi(value)
	if err != nil || from < 1 || from > m.Version {
		return 0, fmt.Errorf("it cannot be compatible from version %q on", value)
	}
	return from, nil
}

// parseName takes names of the form 0001_initial.sql.
func parseName(file string) (Migration, error) {
	const digits = 4
	number, name, ok := strings.Cut(strings.TrimSuffix(file, ".sql"), "_")
	if !ok || len(number) != digits || name == "" || !strings.HasSuffix(file, ".sql") {
		return Migration{}, fmt.Errorf("the name is not of the form 0001_name.sql")
	}
	version, err := strconv.Atoi(number)
	if err != nil {
		return Migration{}, fmt.Errorf("the name does not start with a number: %w", err)
	}
	return Migration{Version: version, Name: name}, nil
}
