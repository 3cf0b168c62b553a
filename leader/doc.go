// Package leader lets one of many copies of a program work at a time. It does not
// promise that there is exactly one leader at every instant as seen from outside:
// between two terms there is none, and a copy that is paused does not see its term
// end until it runs again. What the leader writes should carry the fencing token
// ([lock.Token]), and be refused where a larger one was seen. It does not stop a
// function that ignores its context either; it reports it.
//
// [Run] campaigns for a key, runs a function for as long as it leads, and frees
// the key when that function has returned. It is built on [lock.Acquire] and
// package keepalive, works with every backend, and needs no server of its own.
//
//	err := leader.Run(ctx, locker, "pricing-oracle-keeper", func(ctx context.Context) error {
//		for ctx.Err() == nil { // ends before anyone else can lead
//			if err := updatePrice(ctx, lock.Token(ctx)); err != nil {
//				return err // resigns: another copy leads
//			}
//		}
//		return nil
//	}, &leader.Options{Logger: slog.Default()})
//
// # States
//
//	              elected
//	standing by ───────────► leading ── ctx ends, or fn returns ──► draining
//	     ▲                      │                                      │  │
//	     │                      │ lease lost              lease lost   │  │
//	     │                      ▼                                      │  │
//	     └── fn returned ──── lost ◄───────────────────────────────────┘  │
//	                            │ fn returned, and ctx ended or Once      │ fn returned,
//	                            ▼                                         ▼ lease released
//	                         stopped ◄────────────────────────────────────┘
//
// ([Elector.Resign] leads from leading to draining as well, and then, when fn has returned, to
// standing by again.)
//
// standing by: another leads, nobody does, or the store can't tell; Run goes on
// asking. leading: fn runs, its context is alive. draining: fn's context has ended,
// or fn has returned, and the lease is still held and renewed, for
// keepalive.Options.DrainTimeout at most (the ttl unless set: an fn that needs longer
// to stop loses the lease while it does, with an error that says so). lost: the term
// is over, another copy may lead, and fn has not returned yet. stopped: Run does not
// run.
//
// # What is guaranteed
//
//   - fn's context ends before anyone else can lead, by keepalive's Margin at least,
//     on a local deadline that no hung connection delays. (A definite loss, such as
//     an operator's force release, is noticed at the next renewal: then the token
//     alone protects.)
//   - The lease is released only after fn has returned, whether it returned an
//     error, panicked or exited its goroutine; and Run returns only after that.
//   - One Elector never runs two fn at the same time: after a loss it waits for fn
//     before it campaigns again.
//   - IsLeader is false from the moment that fn's context must have ended, even if
//     no goroutine has run since.
//   - fn runs on the goroutine that called Run.
//
// # What Run returns
//
//	fn returned before its context ended (it resigns)  fn's result
//	ctx ended while fn ran                             fn's result, when it has returned
//	Resign ended the term: campaign again, after        fn's result
//	  others; or, with Once
//	the lease was lost: campaign again; or, with       fn's result and lock.ErrLost
//	  Once, or if ctx ended meanwhile
//	ctx ended while standing by                        context.Cause(ctx), nothing else
//	the campaign ended by Options.Acquire, or failed   ErrNotElected and the cause
//	bad input                                          lock.ErrInvalid, before any I/O
//
// fn's result nil is nil, also after ctx ended. If the lease could not be released
// (an outage), that error is joined to fn's result: all of fn's work was done under
// the lock, but the next leader has to wait for the lease to run out.
package leader
