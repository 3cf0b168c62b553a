// Package simulation runs the real redlock, keepalive, leader and lock.Acquire
// against simulated nodes on fake time, under random faults, and checks what they
// promise. It must run in a testing/synctest bubble.
//
// Simulated: the servers (a Go version of each script, over a store that expires by
// the node's own clock), the network, the programs that use the locks, and the
// resource that they write to. Not simulated: anything of the library. A differential
// test holds the scripts' Go versions against the Lua on a real server.
//
// All times of a run scale with its ttl, which is drawn from 10 seconds to an hour:
// what counts is not the hours but the faults for each ttl, and both are reported.
//
// A paused process can't be simulated in full: its timers run on. What is: its
// messages stop in both directions, and its work stops between the look at the
// context and the write, however long.
package simulation
