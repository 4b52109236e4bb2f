// Package matching brings tasks and pollers together. It owns the partitions of task queues: the polls that wait, the tasks and
// queries that wait, and the backlog of tasks that found no poller.
//
// How a task travels: AddTask offers it in memory (sync match, no write). If no poller comes within syncMatchWait, or the
// queue is behind anyway, it is stored in the partition's backlog, read back in pages and dispatched by priority level, then
// fairness (fair.go), id. A task that meets a poll is started by the history service; only then does the poll get it.
//
// A queue has one partition while it is quiet and more when it is busy (scale.go); they may be on different hosts. What finds no
// match on one is forwarded to its parent (forward.go). The root, partition 0, keeps what holds for the whole queue (settings.go)
// and gives out the tokens of its rate limits (limiter.go); every partition dispatches with tokens from there (purse.go, tokens.go).
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
//   - Up to the key to which a level has been read, every stored task is known. New tasks get keys above the ack level, and
//     nothing beyond the key that has been read is deleted.
//   - A forwarded task is never stored by the partition that it is forwarded to.
//   - A partition above the write count stores nothing; the read count falls only when it has been seen to be empty.
//   - Tokens are given out only within tokenLease of a fenced write of the root's row.
//   - A sticky queue is never stored. When its worker is gone, callers are told at once.
//   - A partition at rest has no goroutine and no timer of its own. A waiting poll costs its caller's goroutine only.
//
// The decisions (who gets what, when) are in matcher.go, purse.go, fair.go, backlog.go, acks.go, rate.go and sizing: plain structures
// without IO, locks or clock. The rest is the shell that feeds them.
package matching
