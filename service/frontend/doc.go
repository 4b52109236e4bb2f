// Package frontend owns the public API: WorkflowService and OperatorService over gRPC and over HTTP/JSON.
//
// It is stateless. A request is checked as far as it can be without the state of an execution or a queue, its namespace
// is resolved, and it goes to the service that owns the state: history for executions, matching for task queues.
//
// Invariants:
//
//   - No state lives here: any frontend can serve any request, and a frontend that stops loses nothing.
//   - Every answer that leaves is OK or a status with one of the API's codes and details. Errors that are not made for
//     callers are logged and masked.
//   - A request message is never changed: both sides of an in-process call share it. What must change is changed in a
//     shallow copy.
//   - No panic ends the process: it ends the request.
//   - Defaults that a client relies on (request ids, timeouts, policies) are filled in before history sees the request.
package frontend
