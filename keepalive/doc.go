// Package keepalive renews a lease and reports in time when it is lost. It does not
// stop anybody's work: a function that ignores its context runs on without the
// lock, and a process that is paused sees its loss only when it runs again. For
// these a resource must check the fencing token ([lock.Token]).
//
// [Do] is the easiest way in: acquire, run a function, release.
//
//	err := keepalive.Do(ctx, locker, "nightly-report", 30*time.Second,
//		func(ctx context.Context) error { // ctx ends before the lease can
//			return report(ctx, lock.Token(ctx))
//		}, nil)
//	if errors.Is(err, lock.ErrLost) {
//		// The lease was lost while report ran.
//	}
//
// [DoAll] does so under several locks at once, [TryDo] only if nobody holds the key, and
// [Once] at most once a period, for a job that several machines start. Where the function
// was not called the error matches [ErrNotRun], besides its reason.
//
// [Start] keeps a lease that the caller has already, of any backend, composed ones
// included.
//
// # States
//
//	            ctx ends                    Release
//	kept ─────────────────► draining ──────────────► released
//	 │ │                       │                        ▲
//	 │ └───────── Release ─────┼────────────────────────┤
//	 │ deadline, or definite   │ the same               │ Release
//	 └───────────► lost ◄──────┘                        │
//	                 └──────────────────────────────────┘
//
// kept: the context is alive and renewal goes on. draining: the context has ended
// because its parent did; renewal goes on so that work can wind down under the
// lock, for DrainTimeout at most. lost: final, nothing is renewed. Release is due
// in every state.
//
// # What is guaranteed
//
//   - The context ends Margin before the lease's Expiry at the latest (until the first
//     renewal has succeeded, half of what the lease began with, if that is less). This is
//     a local deadline: a hung connection does not delay it, and an answer that comes
//     after it does not undo it.
//   - The deadline is looked at, not only waited for: after it, Err is not nil and
//     Done is closed even if no timer has run since, as in a process that was
//     stopped and wakes. (Contexts derived from it wait for the timer.)
//   - A definite loss ends the context at once; any other failed renewal changes
//     nothing while time remains, and is tried again, each try bounded to half of
//     the time that remains, so that one hung connection can't use it all up.
//   - Release returns only when no renewal runs, and none starts after it.
//
// # What is not
//
//   - While the machine is suspended timers stand still. A call of Err or Done sees
//     the loss at once after that, if the lease knows of the suspension; a goroutine
//     that waited on Done before is woken when the next renewal is due.
//   - The context's end says that work must stop, not that it has: Margin is the
//     time for it.
//
// # Cost
//
// A kept lease is one timer and no goroutine. Nor has a renewal one, where the lease is a
// [lock.ExtendStarter], as those of package redlock are; with others it runs in a goroutine
// of its own for as long as it takes. A parent context of a type that is not from the
// standard library costs one goroutine, and two where it is below a context of values or
// the like.
package keepalive
