// Package rwlock lets several readers or one writer have a key, over any store of locks.
//
//	rw, err := rwlock.New(locker, 8)
//	...
//	err = keepalive.Do(ctx, rw.Readers(), "catalogue", ttl, read, nil)  // up to 8 at once
//	err = keepalive.Do(ctx, rw.Writer(), "catalogue", ttl, rebuild, nil) // alone
//
// Readers and Writer are lock.Lockers: what works with one works with them, such as
// lock.Acquire, keepalive and leader.
//
// # How
//
// The key itself is a gate. A writer holds it for its whole term, and besides it all 16
// places of readers, whatever number it was made with; so those that disagree on the number
// of readers exclude each other all the same. A reader holds the gate while it takes one of
// the first n places, a semaphore named after the key ("catalogue;readers"), and not after
// that.
//
// # What is guaranteed
//
//   - While a writer's lease is valid, nobody else has one of the key; at most n readers
//     have one at a time, where all clients say the same n, and else the largest of them.
//   - A writer's token is larger than that of every writer and reader that came before it.
//     A reader's token is larger than that of every writer before it: it says which writes
//     the reader can have seen. It is the gate's, and not that of the place, which
//     Lease.Key names.
//   - A client that dies holds nothing for longer than its ttl.
//
// # Waiting
//
// All wait for the gate, in its one queue. A writer that has the gate waits for the readers
// that have a place, and for nobody who comes after it; a reader waits for the writers
// before it in the queue and, where all places are taken, until one is free. So neither
// starves the other: in stores that queue first in, first out (see the store's page) a
// writer is overtaken by no reader and a reader by no writer that came later. Where a store
// has no queue, it is as fair as the store.
//
// # What is not
//
// A program that locks the key without this package holds the gate alone: from then on no
// reader and no writer acquires the key, but readers that have a place keep it, and the
// program does not wait for them. Make every program that writes use Writer.
//
// A reader is three requests to the store and a release, a writer 17 leases to acquire, to
// renew and to release, which travel together where the store can send several at once. It
// is for work that takes much longer than that; where many write, a plain lock is quicker.
// It is not reentrant, and a reader can't become a writer.
package rwlock
