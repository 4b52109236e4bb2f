package history

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	historypb "github.com/perdure/perdure/api/history/v1"
	"github.com/perdure/perdure/persistence"
)

// errReload says that what the call knew of the execution is not what is stored: it is dropped, and the call starts over.
var errReload = errors.New("history: the cached execution is out of date")

var (
	errCompleted = serviceerror.NewNotFound("workflow execution already completed")
	errStopped   = serviceerror.NewUnavailable("The history service is stopping; try again.")
	errHeld      = serviceerror.NewUnavailable("The outcome of a write to the database is being found out; try again.")
)

func errWorkflowNotFound(workflowID string) error {
	return serviceerror.NewNotFoundf("workflow not found for ID: %s", workflowID)
}

func errRunNotFound(workflowID, runID string) error {
	return serviceerror.NewNotFoundf("workflow execution not found for workflow ID %q and run ID %q", workflowID, runID)
}

// errShardMoved sends a caller to the shard's owner, where it is known.
func errShardMoved(shard persistence.ShardID, owner string) error {
	st, err := status.New(codes.Unavailable, "The shard of this workflow has another owner; try again.").
		WithDetails(&historypb.ShardMoved{ShardId: int32(shard), OwnerAddress: owner})
	if err != nil {
		return serviceerror.NewUnavailable("The shard of this workflow has another owner; try again.")
	}
	return st.Err()
}

// readError turns a fault of a read into what a caller may hear.
func readError(operation string, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, persistence.ErrUnavailable), errors.Is(err, persistence.ErrClosed), errors.Is(err, persistence.ErrOutcomeUnknown):
		return serviceerror.NewUnavailablef("%s: %v", operation, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// code is the gRPC code of any error.
func code(err error) codes.Code { return serviceerror.ToStatus(err).Code() }

// transient tells whether the same call may soon have another outcome.
func transient(err error) bool {
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Aborted, codes.Unknown, codes.Internal:
		return true
	default:
		return false
	}
}
