//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// lockFile takes the file for this process until it is closed or the process ends, however it ends. The lock is on a file beside it:
// closing a second descriptor of the database itself would drop SQLite's own locks.
func lockFile(path string) (io.Closer, error) {
	file, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot be locked: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		const pidBytesMax = 32
		pid, readErr := io.ReadAll(io.LimitReader(file, pidBytesMax))
		return nil, errors.Join(fmt.Errorf("it is in use by another server (process %s)", strings.TrimSpace(string(pid))), readErr, file.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot be locked: %w", err), file.Close())
	}
	if err = file.Truncate(0); err == nil {
		_, err = fmt.Fprintln(file, os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot be locked: %w", err), file.Close())
	}
	return file, nil
}
