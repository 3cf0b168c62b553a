package lock

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// EventKind says what an [Event] describes. Its values are the names to use in
// metrics and logs.
type EventKind string

const (
	// EventAttempt: a TryAcquire ended. Err is nil if it was granted; a refusal
	// matches ErrHeld, and its *HeldError names the holder where known. A request that
	// stood in the store's own queue ([Awaiter]) has two events, both reported when it
	// ends: the refusal after which it stood there, and the end itself. The second is
	// left out where its ctx ended it.
	EventAttempt EventKind = "attempt"
	// EventWait: an [Acquire] ended, whose attempts were reported one by one before.
	EventWait EventKind = "wait"
	// EventExtend: an Extend ended.
	EventExtend EventKind = "extend"
	// EventRelease: a Release ended. Of those with a final result, nil or
	// ErrLost, the first one only is reported: it is the last event of a lease.
	EventRelease EventKind = "release"
	// EventLost: the lease was found lost. It comes once, just before the event of
	// the Extend or Release that found it. No timer watches a lease: the loss of one that
	// has expired is reported when the next of these calls is made, and never if none is.
	EventLost EventKind = "lost"
)

// Event is one thing that happened to a key or a lease, reported after it happened.
type Event struct {
	Kind EventKind

	// Context is that of the call: for its values, such as the span that a trace
	// belongs to. It may have ended.
	Context context.Context

	// Key is the full name in the store, as in Lease.Key and HeldError.Key.
	Key string

	// Token is that of the lease; 0 where an attempt or a wait ended without one.
	Token uint64

	// Duration is how long the call took: in EventWait that of the whole Acquire.
	// 0 in EventLost.
	Duration time.Duration

	// Queued is how long the request of EventAttempt stood in the store's own queue,
	// which is part of Duration. 0 where it did not, and in all other events.
	Queued time.Duration

	// Held is how long the lease was held, from its grant to the beginning of its
	// first Release; of a lost one, until the loss was found or, if that was
	// earlier, its Expiry. Each lease has one such time, in EventLost or in the
	// EventRelease with a nil Err; it is 0 in all other events.
	Held time.Duration

	// After is the d of a [ReleaseAfter] in its EventRelease: the store keeps the key
	// held until that long after the lease began. 0 in all other events.
	After time.Duration

	// Attempts is how often the store answered in the wait of EventWait; 0 in all other
	// events.
	Attempts int

	// Expired says in EventLost that the lease's time was up when the loss was
	// found: nobody had renewed it. False means that the store took it away
	// earlier, as an operator or an eviction does.
	Expired bool

	// Err is what the call returned; in EventLost, why the lease is lost.
	Err error
}

// LogValue is what there is to log of e: its kind, and those of the other fields that
// are not zero.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("kind", string(e.Kind)), slog.String("key", e.Key)}
	if e.Token > 0 {
		attrs = append(attrs, slog.Uint64("token", e.Token))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"duration", e.Duration}, {"held", e.Held}, {"after", e.After}} {
		if d.d > 0 {
			attrs = append(attrs, slog.Duration(d.name, d.d))
		}
	}
	if e.Attempts > 0 {
		attrs = append(attrs, slog.Int("attempts", e.Attempts))
	}
	if e.Expired {
		attrs = append(attrs, slog.Bool("expired", true))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("err", e.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}

// keyChanger is a decorator that changes keys: below gives the locker under it,
// and key's name there.
type keyChanger interface {
	below(key string) (Locker, string)
}

// below goes one decorator down: it returns the locker under l, and key's name there.
// Below a store, or a decorator without a way down, is nil.
func below(l Locker, key string) (Locker, string) {
	switch d := l.(type) {
	case keyChanger:
		return d.below(key)
	case interface{ Unwrap() Locker }:
		return d.Unwrap(), key
	}
	return nil, key
}

// store is what is below all decorators of l, and key's name there.
func store(l Locker, key string) (Locker, string) {
	for {
		inner, name := below(l, key)
		if inner == nil {
			return l, key
		}
		l, key = inner, name
	}
}

// has reports whether l, or what it decorates, is such a locker.
func has(l Locker, is func(Locker) bool) bool {
	for ; l != nil; l, _ = below(l, "") {
		if is(l) {
			return true
		}
	}
	return false
}

// fullKey is key's name in the store below l, for an attempt that failed with err: the
// name that err has, and else what the decorators make of key.
func fullKey(l Locker, key string, err error) string {
	if held, ok := errors.AsType[*HeldError](err); ok && held.Key != "" {
		return held.Key
	}
	_, key = store(l, key)
	return key
}

// reportWait reports to every observer in l, outermost first, how an Acquire ended.
func reportWait(ctx context.Context, l Locker, key string, start time.Time, attempts int, lease Lease, err error) {
	if errors.Is(err, ErrInvalid) {
		return
	}
	var e Event
	for at, name := l, key; at != nil; at, name = below(at, name) {
		o, ok := at.(*observed)
		if !ok {
			continue
		}
		if e.Kind == "" {
			e = Event{Kind: EventWait, Context: ctx, Duration: time.Since(start), Attempts: attempts, Err: err}
			if err == nil {
				e.Key, e.Token = lease.Key(), lease.Token()
			} else {
				e.Key = fullKey(l, key, err)
			}
		}
		o.report(e)
	}
}
