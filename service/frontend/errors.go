package frontend

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// internalDetailPrefix begins the types of details that services tell each other, such as who owns a shard.
const internalDetailPrefix = "type.googleapis.com/perdure."

// errorMapper turns what a handler returns into a status fit for clients.
type errorMapper struct {
	logger *zap.Logger
}

func (m errorMapper) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	response, err := next(ctx, request)
	if err != nil {
		return nil, m.status(ctx, info.FullMethod, request, err).Err()
	}
	return response, nil
}

func (m errorMapper) status(ctx context.Context, method string, request any, err error) *status.Status {
	st := statusOf(ctx, err)
	switch st.Code() {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return m.mask(ctx, method, request, st, err)
	case codes.Unimplemented:
		st = nameUnimplemented(path.Base(method), st)
	}
	return fit(st)
}

// statusOf finds the status that an error stands for. What wraps a service error is for the log, not for the caller.
func statusOf(ctx context.Context, err error) *status.Status {
	var service serviceerror.ServiceError
	if errors.As(err, &service) {
		return scoped(service).Status()
	}
	var remote interface{ GRPCStatus() *status.Status }
	if errors.As(err, &remote) {
		return remote.GRPCStatus()
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return status.New(codes.Unknown, err.Error())
	}
	switch {
	case ctx.Err() == nil:
		// It was not the caller's context that ended: the caller still waits, and may try again.
		return status.New(codes.Unavailable, "The request was interrupted in the server. Please retry.")
	case errors.Is(ctx.Err(), context.Canceled):
		return status.New(codes.Canceled, "The request was canceled by the client.")
	default:
		return status.New(codes.DeadlineExceeded, "The deadline of the request has passed.")
	}
}

// scoped says that what is exhausted is the namespace's, where a service has not said whose: a workflow that is busy, too many updates.
func scoped(err serviceerror.ServiceError) serviceerror.ServiceError {
	e, ok := err.(*serviceerror.ResourceExhausted)
	if !ok || e.Scope != enumspb.RESOURCE_EXHAUSTED_SCOPE_UNSPECIFIED || e.Cause == enumspb.RESOURCE_EXHAUSTED_CAUSE_UNSPECIFIED {
		return err
	}
	return &serviceerror.ResourceExhausted{Cause: e.Cause, Scope: enumspb.RESOURCE_EXHAUSTED_SCOPE_NAMESPACE, Message: e.Message}
}

// mask hides an error that was not made for callers: its text may tell what it must not, and they can do nothing about it.
// The hash leads to the log entry.
func (m errorMapper) mask(ctx context.Context, method string, request any, st *status.Status, err error) *status.Status {
	hash := fnv.New32a()
	hash.Write([]byte(err.Error()))
	reference := fmt.Sprintf("%08x", hash.Sum32())
	m.logger.Error("request failed", append(logFields(ctx, method, request),
		zap.String("code", st.Code().String()), zap.String("reference", reference), zap.Error(err))...)
	return status.New(st.Code(), masked(reference))
}

func masked(reference string) string {
	return fmt.Sprintf("Something went wrong in the server, please retry. Its log has more under the reference (%s).", reference)
}

// nameUnimplemented replaces the generated text for an RPC that does not exist.
func nameUnimplemented(rpc string, st *status.Status) *status.Status {
	if st.Message() != "method "+rpc+" not implemented" {
		return st
	}
	return status.Newf(codes.Unimplemented, "method %s not supported", rpc)
}

// fit shortens the message of a status and drops details that are none of a client's business.
func fit(st *status.Status) *status.Status {
	if len(st.Message()) <= errorMessageMax && !hasInternalDetails(st) {
		return st
	}
	p := st.Proto() // a copy
	if len(p.Message) > errorMessageMax {
		const mark = " … (shortened)"
		p.Message = cut(p.Message, errorMessageMax-len(mark)) + mark
	}
	var details []*anypb.Any
	for _, detail := range p.Details {
		if !strings.HasPrefix(detail.GetTypeUrl(), internalDetailPrefix) {
			details = append(details, detail)
		}
	}
	return status.FromProto(&spb.Status{Code: p.Code, Message: p.Message, Details: details})
}

func hasInternalDetails(st *status.Status) bool {
	for _, detail := range st.Proto().GetDetails() {
		if strings.HasPrefix(detail.GetTypeUrl(), internalDetailPrefix) {
			return true
		}
	}
	return false
}
