// Package admin looks at a database from outside, for operators and tests: [Fsck] verifies the invariants of what is stored,
// [Show] makes one run readable, [Owners] says who owns which shards.
//
// Invariants: nothing here writes or owns anything, so all of it may run beside a server; a run is judged by what one moment of
// the database shows, so a server that works meanwhile causes no false report; memory is bounded by the largest run's state,
// not by the database.
package admin
