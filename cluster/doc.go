// Package cluster is how the processes of a cluster know and reach each other: who is alive, who owns which shard and which
// partition, connections between members, and the clients that find an owner and follow it when ownership moves.
//
// Membership is a lease per process in the database's table of members. Nothing else is shared and nothing is gossiped: a member
// renews its lease with one statement that returns the table, and pings the members that it may have to call. From the table and
// the pings each member makes its own view. Views differ for moments, and nothing unsafe follows from that: who owns a shard is
// decided by the epochs in the database, views only say whom to ask.
//
// Invariants:
//
//   - A lease is judged by the observer's own clock: a member is dead when its row has not changed for a full lease while the
//     observer renewed without a gap. The database's clock may jump.
//   - A member that cannot be reached is passed over before its lease ends only if it gives no sign of life at all: its address
//     refuses connections or belongs to another process, or it answers no ping and has missed a renewal; or if it says itself that it
//     is to be: it drains when it reaches nobody, or hears from most of the others that they do not reach it.
//   - A member whose own lease has run out, or that finds that it has been frozen, answers nothing until it has renewed and has
//     given up everything that it owned before.
//   - A member that was passed over hears of it with the first ping that reaches it again, and counts as reachable only after it has
//     begun to give up what it owned.
//   - Shards of a live member are asked for, never taken. Both sides must agree by their own views.
//   - A call is repeated only if it cannot have been applied or if it is harmless to apply it again.
package cluster
