// Package record makes a lock backend of any store that keeps one record per key and
// changes it by compare-and-swap: a row of SQL, a key of etcd, an object of S3. The
// author of a store writes two methods, [Store]; waiting, renewal, fencing tokens,
// inspection and the clean-up after lost replies are written here, once.
//
//	type rows struct{ db *sql.DB } // has Get and Put
//
//	l, err := record.New(rows{db}, nil)
//	...
//	defer l.Close()
//	err = leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
//
// What it does not do: it does not run anything in the store. Nothing is granted on
// release; a waiter is notified, or polls, and asks. A store that can queue and grant
// by itself does better with a backend of its own.
//
// # The rule
//
// Reads are hints, a compare-and-swap decides. If it is not known whether a write was
// applied, another write follows that replaces the version which the first one expected,
// so that the first one can't be applied later.
//
// # How a hold ends
//
// A release writes a free record. A hold that nobody releases is over when the record
// has stood unchanged for its ttl and 1 % more: by the store's clock where the store
// reports ages ([Entry.Age]), and by this process's monotonic clock since it received
// the record, whichever is longer. No wall clock of a client decides, unless
// [Options.Grace] asks for it. Where the store reports no ages, a process that has just
// started can't know whether a holder still lives: its refusal says so
// ([lock.HeldError].Unconfirmed) and when asking again would show it.
//
// What the store's clock ([Entry.Time]) gains on this process's while that reads it, if more
// than 2 %, is taken off its ages: so a clock that is set forward ends no hold for those
// who stand by. A process that starts after that can't notice.
//
// A lease's Expiry is counted from before the write that took or renewed it was sent,
// less 1 % of the ttl. So two holders never overlap while each clock that takes part is
// within 1 % of the true rate.
//
//	        Get            Put (version still the same)
//	free ───────► free ───────────────────────────────► held ── Put ─► free
//	                                                     │  ▲
//	                                                     └──┘ Put: extend
//
// # Requests
//
//	acquire                 Get and Put; one more Put when the key is used for the first time
//	acquire when notified   Put
//	refused                 Get
//	extend, release         Put
//
// # Fencing tokens
//
// A term's token is larger than the last one by at least 1, and at least the time in
// microseconds, by the larger of this process's clock and the store's: a record that was
// deleted by hand thus starts above its past unless clocks were set back. Pruning keeps
// the largest token that it removed.
//
// # The queue
//
// Those who wait where the store pushes notifications write themselves into the record.
// After a release the first of the queue may ask at once, each later one after one
// [Options.HeadStart] more, and newcomers last. A process that died in the queue costs
// those behind it one head start, once. The order is no part of exclusion.
package record
