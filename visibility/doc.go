// Package visibility is what list and count know of executions: search attributes, the filter language, and the conversion
// between stored rows and the API's messages. It is pure: no IO, no clock, no state.
//
// Invariants:
//
//   - A payload that [Attributes.Validate] has passed carries its type ("type" in the metadata) and decodes as that type, so
//     [EncodeSearchAttributes] always finds a value for it.
//   - A filter that the parser returns is fully resolved: every field exists, every value has the Go type that
//     persistence.Filter promises, and its size is bounded, so that no store can refuse it.
//   - Every error is an INVALID_ARGUMENT for the caller.
package visibility
