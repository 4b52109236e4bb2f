// Package faults injects real faults into real processes on a real PostgreSQL while SDK workers load them, and then counts: every
// started workflow has completed with the right result, every activity with one attempt ran at most once, histories have no gaps, what
// is listed is what is, and the stored state is sound (perdure admin fsck).
//
// The cluster of a test is a fleet: two processes of each service. The processes reach each other and the database through proxies of
// the test, which can be cut. docs/robustness.md says which faults are injected and what they have found.
package faults
