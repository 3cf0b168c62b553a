// Package lock is the core of lockkeeper: locks that span processes and machines.
// It has the two interfaces that a backend implements, [Locker] and [Lease], and
// what is written once for all backends: waiting, errors, leases, optional
// abilities. It imports the standard library alone.
//
//	lease, err := lock.Acquire(ctx, locker, "price-feed", 10*time.Second, nil) // waits
//	if err != nil {
//		return err
//	}
//	defer lease.Release(ctx)
//	err = store.Write(ctx, price, lease.Token()) // must end before lease.Expiry()
//
// What takes longer than a ttl is run by package keepalive or leader, which renew.
//
// # What it does not do
//
//   - It does not stop a program that holds a lock. A lease is a promise about
//     time; a process that is paused (by its garbage collector, its hypervisor,
//     SIGSTOP) does not see the time pass, and may write afterwards. Without the
//     fencing token, a lock with a ttl is advice.
//   - It does not store anything. A backend does: see backends/memory,
//     backends/file and redlock.
//   - It does not renew. A lease ends at its Expiry unless somebody calls Extend:
//     package keepalive does, and package leader builds on that.
//   - It is not reentrant. Readers and writers are in package rwlock. It orders the
//     waiters of one process; what order there is between processes, the backend says.
//   - It needs no synchronised clocks, and no wall clock ever decides. It needs
//     clocks that run at nearly the same rate; the backend says how nearly.
//
// # Vocabulary
//
//   - A key names what is to be exclusive. The lock of a key has one holder at a time.
//   - A holder, or owner, is who has it now; a lease is one term of its hold. Each
//     new acquisition is a new term, also by the same holder.
//   - The ttl is how long the store keeps the lock for a holder that does not renew.
//     Validity is what the holder may count on: the ttl, less the time
//     since its request began, less the drift, which is what the store's clock may
//     run faster. Expiry is the moment at which validity ends.
//   - A node is one independent store with one vote. A quorum is as many nodes as
//     a decision takes; any two quorums share a node.
//   - The fencing token is a number that each lease of a key has, larger than that
//     of every lease of the key before it.
//   - Copies of a program that want to lead campaign for a lock; one leads for a
//     term, and the others stand by. A leader that ends its term itself resigns.
//
// # The life of a lease
//
//	            TryAcquire
//	                |
//	                v       Extend: nil (a new Expiry)
//	            +-------+ ---------+
//	            | held  |          |  Extend: any other error
//	            +-------+ <--------+  (the old Expiry stands)
//	             |     |
//	     Release |     | Expiry passes; Extend: ErrLost
//	             v     v
//	   +-----------+  +--------+
//	   | releasing |  |  lost  |   final: every call says ErrLost, and Release
//	   +-----------+  +--------+   still removes what is left in the store
//	    |    |    |       ^
//	    |    |    +-------+ Expiry passed, or the store says: another's
//	    |    +--> any other error: call Release again, or let it expire
//	    v
//	released        final: Release says nil, Extend says ErrLost
//
// From the start of Release on, Expiry is the zero time and no Extend succeeds.
// [ReleaseAfter] is a Release for this process, after which the store keeps the key
// held until a time that the caller says: for jobs that must not run again too soon.
//
// # What a lease promises
//
// Until its Expiry, on this process's monotonic clock, nobody else acquires the
// key, as long as the backend's conditions hold (its documentation lists them).
// Expiry is counted from before the request was sent, so slow answers shorten a
// lease and never lengthen it. A loss is definite and final: after an error that
// matches [ErrLost] the lease never comes back, and what it protected must stop.
// An Extend that failed otherwise has lost nothing yet.
//
// What it does not promise: that the code it protects is still within Expiry when
// its write arrives. Looking at Expiry just before the write only narrows the gap.
//
// # The fencing token
//
// Use it wherever two writers would do harm that can't be undone: send it with
// each write, and let the resource decide. The resource remembers the largest
// token it has seen for the key. It accepts a larger one, or the same one from the
// same holder, and refuses all others; and it refuses 0, which stands for no lease.
// A holder that wakes after its time is thus refused as soon as its successor has
// written once. The check and the write must be one atomic step, such as
//
//	UPDATE prices SET value = $1, token = $2 WHERE id = $3 AND token <= $2
//
// Tokens are compared within one key only. Code that runs under a lease finds its
// token with [Token]; code that has the Lease calls its Token method. Where the
// resource can't check, keep the work idempotent, or the ttl long against every
// pause you expect, and know that this lowers the odds and gives no guarantee.
//
// # Changing stores
//
// A fleet that never stops moves from one store to another, or to other nodes, in two
// rolling deployments, by [Both]: tokens rise all the while.
//
// # Errors
//
// errors.Is distinguishes them through every layer:
//
//	matches          meaning                                 what to do
//	ErrHeld          another holder has the key              wait, or leave
//	ErrLost          this lease is over, for good            stop the work
//	ErrUnavailable   the store can't decide now              try again
//	ErrRefused       the store refuses, for good             mend the store's set-up
//	ErrInvalid       bad input (a nil ctx too); nothing sent mend the program
//	ErrClosed        the locker was closed                   stop
//	ctx.Err()        the caller's own ctx ended              its cause is matched too
//
// A [*HeldError] says who holds the key and for how long at most. A loss never
// matches ErrUnavailable, and no error matches the end of a context that was not
// the caller's. Where ctx ended with a cause, the error matches that too, whatever
// it is ([ContextError]). Extend makes one exception: where that cause is the loss of
// another lease, as it may be of a Keeper's context, its error does not match ErrLost.
//
// An error that is none of these is an outage to [Acquire] and to package leader:
// they go on, and leader and keepalive log it. ErrRefused ends an Acquire only while
// the locker has never granted a lease, and ends no lease that is held.
//
// # Waiting
//
// TryAcquire asks once. [Acquire] waits: without bounds until ctx ends, or within
// [AcquireOptions]. How long to wait and the ttl have nothing to do with each
// other. Where the backend pushes notifications ([Watcher]), a release wakes the waiter,
// which asks only once in a long while meanwhile; elsewhere it asks again after a
// pause with jitter. Where the store queues by itself ([Awaiter]), the waiter's request
// stands in that queue until a release hands the key over to it. Where the backend has
// [Waiters], any number of goroutines of one process may wait for a key: they stand in a
// queue, and the first of them asks.
// [AcquireOptions].OnWait receives who holds the key meanwhile, and outages.
//
// # Writing a backend
//
// Implement TryAcquire: [Check] the input, note time.Now, ask the store, and give
// [NewLease] what it granted, with two closures: one that extends this term, and
// one that removes it. [StoreError] makes of a driver's error what callers expect.
// NewLease does the rest of the obligations of [Lease]. What
// more the store can do goes into the optional interfaces, which [As] finds. Embed
// [Waiters], so that those who wait in one process are queued. A store that can hand a
// key over by itself is an [Awaiter]; one that can notify is a [Watcher]. A store that is not
// suspended with this machine needs [Suspension]. Then run the conformance suite,
// lock/locktest.
package lock
