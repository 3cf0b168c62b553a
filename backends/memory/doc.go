// Package memory keeps locks in the memory of one process: for tests of code
// that takes a [lock.Locker], and for programs of a single process. It does not
// exclude another process, and forgets everything when this one ends.
//
//	synctest.Test(t, func(t *testing.T) { // on fake time
//		store := memory.New()
//		first, second := store.Client("first"), store.Client("second") // as two processes
//		lease, err := first.TryAcquire(t.Context(), "k", time.Minute)
//		...
//		first.FailNext(-1, nil) // from now on the store is out of its reach
//		lease, err = lock.Acquire(t.Context(), second, "k", time.Minute, nil)
//	})
//
// # In tests
//
// Every deadline is counted by package time, so inside a testing/synctest
// bubble it runs on fake time with no options. Two "processes" that compete are
// two [Locker.Client] views of one locker. A test makes the store misbehave with:
//
//   - [Locker.ForceRelease], which takes a lease away from its holder;
//   - [Locker.FailNext], an outage: the next calls fail and do nothing;
//   - [Locker.LoseReplies]: the next calls are applied, and their caller is answered
//     that they failed;
//   - [Locker.Delay], a slow or a hung store.
//
// # Waiting
//
// A key has a queue, first in, first out ([Locker.Await]): whatever frees the key hands
// it over to the first request in it, and nobody gets in between, the one who just
// released it included. Those of one client who wait for one key by lock.Acquire have
// one request there ([lock.Waiters]).
//
// # What holds and what does not
//
// A grant is decided under one mutex by one clock, the process's monotonic one,
// so the only limit of the lease is the one that every lease has: a holder that
// does not look at its Expiry, or is paused after it looked, acts beyond it. A
// machine's suspension stops that clock for holder and store alike.
//
// Fencing tokens rise for each key for as long as the Locker lives, and start
// again at 1 with the next one: a resource that outlives the process must not
// compare them across its runs.
//
// A term that is over costs memory until its key is asked for again or a sweep
// finds it. Sweeps ride on grants, so what was freed or abandoned takes no more
// room than what is held plus 64 terms for each of 64 shards, give or take a
// factor of two. There is no goroutine and nothing to stop; a key has a timer
// while somebody waits for it or watches it.
package memory
