package schema

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestMigrationsAreSortedAndGapless(t *testing.T) {
	for dialect, migrations := range map[string][]Migration{"postgres": Postgres(), "sqlite": SQLite()} {
		require.NotEmpty(t, migrations, dialect)
		for i, m := range migrations {
			require.Equal(t, i+1, m.Version, dialect)
			require.NotEmpty(t, m.Name)
			require.NotEmpty(t, m.SQL)
		}
	}
}

func TestCallersCannotChangeTheMigrations(t *testing.T) {
	SQLite()[0].SQL = ""
	require.NotEmpty(t, SQLite()[0].SQL)
}

func TestCompatibility(t *testing.T) {
	fsys := fstest.MapFS{
		"db/0001_a.sql": &fstest.MapFile{Data: []byte("SELECT 1;")},
		"db/0002_b.sql": &fstest.MapFile{Data: []byte("-- compatible-from: 1\nSELECT 1;")},
	}
	migrations, err := read(fsys, "db")
	require.NoError(t, err)
	require.Equal(t, 1, migrations[0].CompatibleFrom)
	require.Equal(t, 1, migrations[1].CompatibleFrom)
	for _, bad := range []string{"0", "3", "one", ""} {
		fsys["db/0002_b.sql"] = &fstest.MapFile{Data: []byte("-- compatible-from: " + bad + "\nSELECT 1;")}
		_, err := read(fsys, "db")
		require.Error(t, err, bad)
	}
}

func TestBadFileNamesAreRefused(t *testing.T) {
	for name, files := range map[string][]string{
		"gap":       {"0001_a.sql", "0003_b.sql"},
		"double":    {"0001_a.sql", "0001_b.sql"},
		"not first": {"0002_a.sql"},
		"no name":   {"0001_.sql"},
		"no number": {"initial.sql"},
		"letters":   {"000x_a.sql"},
		"width":     {"1_a.sql"},
		"suffix":    {"0001_a.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for _, file := range files {
				fsys["db/"+file] = &fstest.MapFile{Data: []byte("SELECT 1;")}
			}
			_, err := read(fsys, "db")
			require.Error(t, err)
		})
	}
}
