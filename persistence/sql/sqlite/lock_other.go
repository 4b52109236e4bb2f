//go:build !unix

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// existence is a lock that is held as long as its file exists.
type existence struct{ *os.File }

// Close frees the lock.
func (l existence) Close() error { return errors.Join(l.File.Close(), os.Remove(l.Name())) }

// lockFile takes the file for this process. Without flock, the lock is a file that exists: after a crash it must be removed by hand.
func lockFile(path string) (io.Closer, error) {
	file, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("it is in use by another server; if there is none, remove %s.lock", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be locked: %w", err)
	}
	return existence{file}, nil
}
