// Package model checks the algorithm itself, apart from the code: every order in
// which messages, crashes and the passing of time can hit a few nodes and attempts.
// Tokens and exclusion have a model each, because tokens must be right without any
// assumption about time, and exclusion can't be. Two more are about waiters.
//
//   - [Tokens]: keys vanish at any moment, messages are late, lost or doubled, nodes
//     restart with all, stale or none of their data, and their clocks lag. Checked:
//     tokens are unique, and rise in real time.
//   - [Exclusion]: time passes in ticks; there are ttls, the restart guard, extends, keys that
//     are kept after their leases, repairs and clock drift. Checked: at most one attempt
//     holds, or has its key kept, at a time.
//   - [Standing]: requests that stand in the nodes are granted by the process that frees the lock, and
//     the reports of that are late; with time, counts and restarts together, extends,
//     confirmations and an operator's force release. Checked: at most one holds at a time,
//     and tokens rise from each lease to the next.
//   - [Liveness]: how waiters that split the votes come to hold. Checked by [Fair]: there is no
//     way to go on for ever without a lease, if all that is sent is delivered at some time.
//
// Each rule of the algorithm can be switched off, and each limit that the library
// documents can be crossed: the checker must then find a counterexample, and prints
// it ([Cases]). [Search] is breadth first, so that it finds a shortest one; [Walk]
// takes random walks where there is too much for that.
//
// The models are smaller than the world: a few nodes and attempts, bounded numbers of
// crashes and counts, time in a few ticks. What they can't show is a fault that needs more
// than that.
package model
