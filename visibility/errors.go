package visibility

import (
	"go.temporal.io/api/serviceerror"
)

// UnknownAttributeError says that a search attribute is not registered in the namespace. It is an INVALID_ARGUMENT; it has a
// type of its own because the caller's view of the namespace may be older than the attribute.
type UnknownAttributeError struct {
	*serviceerror.InvalidArgument
	Name string // of the attribute
}

// Unwrap makes it an InvalidArgument also for errors.As.
func (e *UnknownAttributeError) Unwrap() error { return e.InvalidArgument }

func newUnknownAttribute(name, message string) error {
	return &UnknownAttributeError{InvalidArgument: &serviceerror.InvalidArgument{Message: message}, Name: name}
}
