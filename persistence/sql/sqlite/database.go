package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence/sql/group"
)

// readersMax is the number of read connections of a file: enough that a few long lists do not hold up the loading of runs.
const readersMax = 8

// database is an open file, or memory, and its connections. Several stores may use it.
type database struct {
	path      string // empty: in memory
	existing  bool   // neither made nor migrated
	logger    *zap.Logger
	lock      io.Closer
	writer    *pool
	readers   *pool // in memory: the writer's
	committer *group.Committer[*write]
	users     atomic.Int32
}

func openDatabase(ctx context.Context, path string, existing bool, logger *zap.Logger) (*database, error) {
	db := &database{path: path, existing: existing, logger: logger}
	db.users.Store(1)
	if err := db.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", db, err), db.closeFiles())
	}
	return db, nil
}

// String names the database in messages.
func (db *database) String() string {
	if db.path == "" {
		return "in memory"
	}
	return db.path
}

func (db *database) open(ctx context.Context) error {
	if db.path == "" {
		db.writer = newPool(1, connector{dsn: ":memory:", pragmas: memoryPragmas})
		db.readers = db.writer
	} else {
		if err := db.openFile(); err != nil {
			return err
		}
	}
	prepare := migrate
	if db.existing {
		prepare = checkSchema
	}
	if err := db.writer.use(ctx, prepare); err != nil {
		return describe(err)
	}
	db.committer = group.New(db.commit, group.Options{})
	return nil
}

func (db *database) openFile() error {
	path, err := checkPath(db.path, db.existing)
	if err != nil {
		return err
	}
	db.path = path
	if db.lock, err = lockFile(path); err != nil {
		return err
	}
	db.writer = newPool(1, connector{dsn: fileDSN(path), pragmas: writerPragmas})
	db.readers = newPool(readersMax, connector{dsn: fileDSN(path), pragmas: readerPragmas})
	return nil
}

// checkPath finds out what SQLite would only call "unable to open database file". It returns the path that all names of the file
// share, so that they share a lock.
func checkPath(path string, existing bool) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(absolute); err == nil {
		absolute = real
	}
	if stat, err := os.Stat(absolute); err == nil && stat.IsDir() {
		return "", errors.New("it is a directory, not a file")
	}
	flags := os.O_RDWR
	if !existing {
		flags |= os.O_CREATE
	}
	file, err := os.OpenFile(absolute, flags, 0o600)
	if err != nil {
		var pathError *os.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err
		}
		if errors.Is(err, syscall.ENOENT) && existing {
			return "", errors.New("there is no such file")
		}
		if errors.Is(err, syscall.ENOENT) {
			return "", fmt.Errorf("the directory %s does not exist", filepath.Dir(absolute))
		}
		return "", fmt.Errorf("cannot be written: %w", err)
	}
	return absolute, file.Close()
}

func (db *database) read(ctx context.Context, f func(context.Context, *conn) error) error {
	if err := db.readers.use(ctx, f); err != nil {
		return classify(ctx, err)
	}
	return nil
}

// close waits for writes and reads that are under way.
func (db *database) close() error {
	db.committer.Close()
	if err := db.closeFiles(); err != nil {
		return fmt.Errorf("close the database %s: %w", db, err)
	}
	return nil
}

func (db *database) closeFiles() error {
	var errs []error
	if db.readers != nil && db.readers != db.writer {
		errs = append(errs, db.readers.close())
	}
	if db.writer != nil { // last: it moves the WAL into the file
		errs = append(errs, db.writer.close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}
