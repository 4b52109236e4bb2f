package server

import (
	"errors"
	"fmt"
	"syscall"
)

// portError turns a failed listen into one line that says what to do.
func portError(flag, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use by another process; stop that one or choose another with %s", address, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s may not be used without more rights; choose another with %s", address, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this machine; choose another with %s", address, flag)
	}
	return fmt.Errorf("cannot listen on %s (%s): %w", address, flag, err)
}
