// Package namespace is the registry of namespaces: what the database holds, as immutable snapshots, with a short cache.
//
// Invariants:
//
//   - A namespace or search attribute is usable at once in the process that made it (write-through) and in every other:
//     before "not found" is answered, the database has been read by a read that began after the question came.
//   - A snapshot is never older than its time to live, except while the database does not answer.
//   - The cache never goes back to an older version of a namespace.
//   - The number of concurrent reads is bounded, and unknown names cannot displace the reads of known ones.
package namespace
