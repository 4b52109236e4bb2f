package frontend

import (
	"strings"

	failurepb "go.temporal.io/api/failure/v1"
)

// Messages of failures that stand for something too large. Clients and tests know these texts.
const (
	failureTooLarge   = "Failure exceeds size limit."
	heartbeatTooLarge = "Heartbeat details exceed size limit."
	resultTooLarge    = "Complete result exceeds size limit."
	cancelTooLarge    = "Cancel details exceed size limit."
)

// sizeFailure is a failure that the server makes: what the worker sent is too large, and would be again.
func sizeFailure(message string) *failurepb.Failure {
	return &failurepb.Failure{
		Message:     message,
		FailureInfo: &failurepb.Failure_ServerFailureInfo{ServerFailureInfo: &failurepb.ServerFailureInfo{NonRetryable: true}},
	}
}

// fitFailure returns the failure or, if it is too large, one that says so and keeps the beginning of its texts as the cause.
func fitFailure(f *failurepb.Failure) *failurepb.Failure {
	if !oversized(f) {
		return f
	}
	fit := sizeFailure(failureTooLarge)
	fit.Cause = &failurepb.Failure{
		Message:    cut(f.GetMessage(), failureTextMax),
		Source:     cut(f.GetSource(), failureTextMax),
		StackTrace: cut(f.GetStackTrace(), failureTextMax),
	}
	if info := f.GetApplicationFailureInfo(); info != nil {
		fit.Cause.FailureInfo = &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{
			Type:         cut(info.GetType(), failureTextMax),
			NonRetryable: info.GetNonRetryable(),
		}}
	}
	return fit
}

// cut returns at most the first maxBytes of s, in whole characters.
func cut(s string, maxBytes int) string {
	if len(s) <= maxBytes {
		return s
	}
	// A copy, so that the part does not keep the whole alive.
	return strings.Clone(strings.ToValidUTF8(s[:maxBytes], ""))
}
