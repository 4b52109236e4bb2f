package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/persistencetest"
)

func TestMain(m *testing.M) {
	if runChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

func TestContractInMemory(t *testing.T) {
	t.Parallel()
	persistencetest.Run(t, func(*testing.T) persistencetest.Opener { return incarnations("") })
}

func TestContractOnFile(t *testing.T) {
	t.Parallel()
	persistencetest.Run(t, func(t *testing.T) persistencetest.Opener { return incarnations(filepath.Join(t.TempDir(), "test.db")) })
}

// incarnations opens a database once. What would be other processes of a cluster are other stores on it, since a file belongs to one
// process.
func incarnations(path string) persistencetest.Opener {
	var first *Store
	return func(t *testing.T) persistence.Store {
		if first == nil {
			first = open(t, path)
			t.Cleanup(func() { require.NoError(t, first.Close()) })
		}
		return first.incarnation()
	}
}

func open(t testing.TB, path string) *Store {
	t.Helper()
	store, err := Open(context.Background(), Options{Path: path})
	require.NoError(t, err)
	return store
}
