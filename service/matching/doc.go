// Package matching brings tasks and pollers together. It owns the partitions of task queues: the polls that wait, the tasks and
// queries that wait, and the backlog of tasks that found no poller.
//
// How a task travels: AddTask offers it in memory (sync match, no write). If no poller comes within syncMatchWait, or the
// queue is behind anyway, it is stored in the partition's backlog, read back in pages and dispatched by priority level, then
// id. A task that meets a poll is started by the history service; only then does the poll get it.
//
// Invariants:
//
//   - AddTask answers without an error only when the history service has committed the start of the task, or has called the
//     task obsolete, or when the task's backlog row is committed.
//   - A task has at most one unresolved start. Its request id stays with it until the outcome is known, whichever poll it
//     meets next, so that a start whose outcome was lost is repeated and not doubled.
//   - A backlog row is deleted only after its task was started or found obsolete.
//   - One writer per partition, fenced by the epoch of its lease. Ids grow in the order of commits and the reader never passes an
//     id that may still be committed.
//   - A sticky queue is never stored. When its worker is gone, callers are told at once.
//   - A partition at rest has no goroutine and no timer of its own. A waiting poll costs its caller's goroutine only.
//
// The decisions (who gets what, when) are in matcher.go, backlog.go, acks.go and rate.go: plain structures without IO, locks or
// clock. The rest is the shell that feeds them.
package matching
