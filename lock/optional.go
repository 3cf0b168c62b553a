package lock

import (
	"context"
	"iter"
	"time"
)

// This file has what a backend may offer beyond Locker. Find each with [As];
// io.Closer is one of them too.

// Watcher pushes notifications about a key, so that a waiter need not poll: [Acquire] relies
// on it, and asks without notifications only every [DefaultPoll].
type Watcher interface {
	// Watch returns once notifications of key are flowing. From then on, wake is sent on
	//
	//   - when the key is released, by whatever means;
	//   - when it expires, also where the store reports no expiry: wake is sent on when
	//     the holder's time is over as far as this process knows it, and an attempt then
	//     shows whether it was renewed;
	//   - when a notification may have been missed, because a connection was lost, and when
	//     they flow again.
	//
	// A release between the call and its return may or may not wake: ask once more
	// after it. A renewal need not wake, and a holder's own requests should not.
	// Where several wait, a backend may wake them one after another, as long as a waiter
	// that makes no use of its wake delays the next by a short, bounded time at most.
	//
	// A send never blocks (give wake a buffer of one), wakes may be spurious, and
	// keys may share a channel, as in os/signal.Notify. After stop has returned
	// nothing is sent any more; it may be called again, and does not wait for the
	// store. ctx bounds the setting up only, which takes no longer than an attempt may.
	Watch(ctx context.Context, key string, wake chan<- struct{}) (stop func(), err error)
}

// Inspector reports who holds what.
type Inspector interface {
	// Inspect describes key's present holder; a zero Holder means that it is free.
	Inspect(ctx context.Context, key string) (Info, error)
	// List yields the held keys that start with prefix, in no order. An error ends the
	// listing; it matches errors.ErrUnsupported if the store can't list. Keys that change
	// hands meanwhile may be missed or seen twice.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// Info is what a store knows of one key at one moment.
type Info struct {
	Key    string
	Holder string        // readable name of the holder; "" means free
	Token  uint64        // of the present term; 0 where the store can't tell
	TTL    time.Duration // until the store frees it unless renewed; -1 means never
	Held   time.Duration // since the present term began; 0 where the store can't tell

	// Waiting is how many requests stand in the store's queue for the key, also while it is
	// free: a process may have one request there, however many of its goroutines wait. A
	// store that queues ([Awaiter]) fills it in; of another, 0 says nothing. A request whose
	// process died may be counted until the lock is passed on.
	Waiting int
}

// ForceReleaser breaks somebody else's hold: an operator's tool.
type ForceReleaser interface {
	// ForceRelease ends the term of key that has this token, and no other; token
	// 0 means any. It returns nil if that term no longer holds the key, and an
	// error matching ErrHeld if another term does. The broken holder learns of it
	// at its next Extend: until then only the fencing token protects a resource.
	ForceRelease(ctx context.Context, key string, token uint64) error
}

// HealthChecker reports whether the store can decide.
type HealthChecker interface {
	// Health asks every node. It returns an error only if it could not ask; a
	// node that is down is part of the answer.
	Health(ctx context.Context) (Health, error)
}

// Health is a store's state at one moment.
type Health struct {
	Nodes  []NodeHealth
	Quorum int // how many nodes must vote for a decision
}

// NodeHealth is one node's part of it.
type NodeHealth struct {
	Name     string        // address, without credentials
	Err      error         // why it can't vote; nil: it votes
	Latency  time.Duration // of the question
	Warnings []string      // what an operator should change
	Facts    []Fact        // what else it reports about itself, in the order to show it
}

// Fact is one thing that a node reports about itself, as text for people: ("role",
// "primary"). Name is lower case, and has the same meaning on all nodes of a store. A
// Value that can't be known says so. Nothing is decided by facts.
type Fact struct {
	Name, Value string

	// Measures are what is measured of it, for programs; none where it is not known.
	Measures []Measure
}

// Measure is a number whose Name ends in its unit, as in "uptime_seconds", in lower case;
// without one it counts things, as in "replicas".
type Measure struct {
	Name  string
	Value float64
}

// Voting counts the nodes that would vote now.
func (h Health) Voting() int {
	n := 0
	for _, node := range h.Nodes {
		if node.Err == nil {
			n++
		}
	}
	return n
}

// HasQuorum reports whether the store can decide now. The zero Health can't.
func (h Health) HasQuorum() bool { return h.Quorum > 0 && h.Voting() >= h.Quorum }

// AfterReleaser is what a lease may offer beyond [Lease]: a hold that outlasts it.
// Use it by [ReleaseAfter].
type AfterReleaser interface {
	// ReleaseAfter ends the lease as Release does, but the key stays held until d
	// after the lease began, by the store itself, whatever becomes of this process.
	// It begins where the request began that was granted. A d that has passed already
	// makes it a plain Release.
	//
	// What Lease says of Release holds for it. Once it has been called on a lease that
	// was held, Release finishes it and no longer frees the key earlier, so that a
	// Release in a defer does no harm; if it failed, it may be called again with
	// another d. On a lease that is over it removes what is left, and returns
	// ErrLost: then nothing is kept held. Where the store finds only then that the lease
	// was lost, the error is ErrLost as well, and nothing is promised: what is left may
	// stay until d, and keeps nobody out for longer.
	//
	// A d below 0 or above MaxReleaseAfter is ErrInvalid, and changes nothing.
	ReleaseAfter(ctx context.Context, d time.Duration) error

	MaxReleaseAfterer
}

// MaxReleaseAfterer reports, of a lease and of the locker that it comes from, how
// long a key can be kept held by [ReleaseAfter].
type MaxReleaseAfterer interface {
	// MaxReleaseAfter is the longest d that ReleaseAfter takes. 0 means that it is
	// not supported.
	MaxReleaseAfter() time.Duration
}

// As finds an optional interface of l: l itself, else what l's own method
// As(target any) bool gives, else what the locker below it (Unwrap() Locker)
// has.
//
// A decorator that changes keys must not have Unwrap, because its caller would
// watch or inspect another key than it locks: it implements As and returns
// versions that translate, of what its inner locker has.
//
// An [Awaiter] is not looked for below a locker that has only Unwrap: it grants leases,
// and they would not pass through that locker.
func As[T any](l Locker) (T, bool) {
	_, grants := any((*T)(nil)).(*Awaiter)
	for l != nil {
		if t, ok := l.(T); ok {
			return t, true
		}
		if a, ok := l.(interface{ As(target any) bool }); ok {
			var t T
			if a.As(&t) {
				return t, true
			}
		}
		u, ok := l.(interface{ Unwrap() Locker })
		if !ok || grants {
			break
		}
		l = u.Unwrap()
	}
	var none T
	return none, false
}
