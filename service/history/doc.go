// Package history owns the state of executions: it is the only writer of the shards that it has taken.
//
// A call goes like this: lock the execution's key, load the run (from the cache, else from the store), apply one pure transition
// of machine/workflow, commit what it wrote, apply it to the cached run, unlock, reply. Effects on others (dispatching tasks,
// starting children) run beside it, after the commit.
//
// Invariants:
//
//   - One commit per transition; nobody hears of a transition before its commit. A transition that changes only volatile state
//     has no commit.
//   - A cached run equals its rows plus its volatile state. If that is in doubt (a commit of unknown outcome, a lost race, a lost
//     shard), the cached run is dropped.
//   - Stored has_effects is true, or stored wake_at is not after the run's next deadline and no effect waits for
//     acknowledgement. Runs with the flag stay in memory; all others can be forgotten at any time.
//   - The lock of an execution is never held while another execution or service is called.
//   - Nothing runs for an idle execution: no goroutine, no timer, no poll.
//
// Where to find what: service.go composes; shard.go is ownership; engine.go, load.go and commit.go are the path of a transition;
// cache.go, timer.go, quiet.go, effect.go and recovery.go are what happens beside it; each other file holds the RPCs it is named for.
package history
