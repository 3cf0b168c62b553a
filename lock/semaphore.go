package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// MaxSlots is the largest n of a [Semaphore].
const MaxSlots = 1024

// slotMark stands between the key of a semaphore and the number of a slot. It is
// printable, so that a slot can be read and typed in a store's own tools, and has
// no braces, so that a key's slots stay on their key's node of a Redis Cluster if
// the key has a hash tag, and spread if it has none.
const slotMark = ";slot="

// maxSemaphoreKey leaves room for the name of any slot, so that clients with
// another n accept the same keys.
var maxSemaphoreKey = MaxKeyLen - len(slotName("", MaxSlots))

// slotName is the lock of a slot. Slot 1 is the key itself, so that anyone who locks
// the key without a semaphore counts as one holder of it.
func slotName(key string, slot int) string {
	if slot == 1 {
		return key
	}
	return key + slotMark + strconv.Itoa(slot)
}

// SlotOf reports which slot of which semaphore's key a name is, such as that of
// [Lease.Key]: slot 3 of "prices" for "prices;slot=3". A name without a number is
// slot 1 of itself.
func SlotOf(name string) (key string, slot int) {
	if i := strings.LastIndex(name, slotMark); i > 0 {
		n, err := strconv.Atoi(name[i+len(slotMark):])
		if err == nil && n > 1 && n <= MaxSlots && slotName(name[:i], n) == name {
			return name[:i], n
		}
	}
	return name, 1
}

// Semaphore lets up to n holders have a key at once, 1 to [MaxSlots]. Each of its
// n slots is a lock of its own in l. Slot 1 is the key itself, and slot 3 of "prices"
// is the key "prices;slot=3"; [SlotOf] reads such a name.
//
// Clients that disagree on n never exceed the largest of them, and one that locks the
// key without a semaphore counts as a client with n = 1: it waits for slot 1, also
// while others are free. So a limit can be brought in, or raised, one client after
// the other. While it is lowered, the larger limit holds until the last client that has
// it is gone.
//
// Names of that form are reserved. A program that locks one of them as a key of l
// takes that slot, and excludes its holders as they exclude it: that can cost a
// slot, but never admits one holder too many. (So a semaphore of n over one of m has
// fewer than n*m slots.) Keys may have up to 502 bytes, which leaves room for the
// slot. Longer ones, and an n out of range, fail with an error that matches
// [ErrInvalid] in every call, before l is asked.
//
// TryAcquire asks for one slot after the other, from a random one on, until one is
// granted: where all are held, that is n requests, so n should be small. The
// refusal names the semaphore, and its RetryAfter is that of the slot that is the
// first to expire. One slot that can't be asked is passed over: an outage
// ([ErrUnavailable]), an error that this package does not know, or an [ErrRefused] once
// this semaphore has granted a lease. If none of the others is free, the semaphore is not
// known to be full, and the error says so and matches ErrUnavailable. A second such slot
// ends the attempt, and so does any other error of the first.
//
// The lease is the slot's: Lease.Key names the slot, and Lease.Token rises from
// each lease of that slot to the next. Tokens of two slots can't be compared. A
// resource that all holders share must remember the largest token of each slot, and
// be given the slot with each write; best is that each slot has a resource of its
// own (a partition, a connection, a device), which Lease.Key chooses and the token
// fences.
//
// It offers what l offers of these:
//
//   - [Awaiter]: where all slots are held, a request stands in the queue of each, and
//     keeps the first that it is granted. Others that it is granted in the same moment
//     it releases at once. An outage of one slot ends the wait, as one of all does.
//   - [Watcher]: any slot that gets free wakes.
//   - [Inspector]: Inspect describes a free slot, if there is one, or else the one
//     that expires first; List is that of l: every name is a slot of some key, and
//     clients may have a larger n. Info.Key names the slot, because the token is of
//     the slot.
//   - [ForceReleaser]: breaks every slot of the key whose term has the token; two
//     slots may have the same. To break one alone, ask l, with the slot's name. The
//     error matches ErrHeld if all slots are held by other terms.
//   - [HealthChecker], [MaxReleaseAfterer] and io.Closer: those of l.
//
// Those who wait for a key stand in one queue, whichever slot they will get.
func Semaphore(l Locker, n int) Locker { return &semaphore{inner: l, n: n} }

var (
	_ Locker     = (*semaphore)(nil)
	_ queuer     = (*semaphore)(nil)
	_ keyChanger = (*semaphore)(nil)
)

type semaphore struct {
	inner Locker
	n     int

	granted atomic.Bool // a lease was returned: from then on a slot's refusal is an outage
}

func (s *semaphore) check(ctx context.Context, key string, ttl time.Duration) error {
	if s.n < 1 || s.n > MaxSlots {
		return fmt.Errorf("%w: the semaphore has %d slots, want 1 to %d (key %.32q)", ErrInvalid, s.n, MaxSlots, key)
	}
	if err := Check(key, ttl); err != nil {
		return err
	}
	if err := checkArgs(ctx, s.inner); err != nil {
		return err
	}
	if len(key) > maxSemaphoreKey {
		return fmt.Errorf("%w: key %.32q... of a semaphore has %d bytes, want at most %d, which leaves room for the slot",
			ErrInvalid, key, len(key), maxSemaphoreKey)
	}
	return nil
}

func (s *semaphore) TryAcquire(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	if err := s.check(ctx, key, ttl); err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	lease, err := s.tryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, fmt.Errorf("lock: acquire a slot of %q: %w", key, err)
	}
	return lease, nil
}

func (s *semaphore) tryAcquire(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	held := HeldError{Key: key}
	var outage error
	first := rand.IntN(s.n) // clients that all began at slot 1 would meet there
	for i := range s.n {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ended after %d of %d slots: %w", i, s.n, ContextError(ctx))
		}
		slot := (first+i)%s.n + 1
		lease, err := s.inner.TryAcquire(ctx, slotName(key, slot), ttl)
		switch {
		case err == nil:
			s.granted.Store(true)
			return lease, nil
		case endedBy(ctx, err):
			return nil, err
		}
		switch err = s.slotError(ctx, err); {
		case errors.Is(err, ErrHeld):
			held.meet(err, slot)
		case errors.Is(err, ErrUnavailable) && outage == nil:
			// It may be this slot alone: a damaged record, its part of a cluster.
			outage = err
		default:
			return nil, err
		}
	}
	if outage != nil {
		return nil, fmt.Errorf("%d of %d are held, and one can't be asked: %w", s.n-1, s.n, outage)
	}
	return nil, fmt.Errorf("all %d are held: %w", s.n, &held)
}

// Slots are the names that the slots of key have in below, in their order. Leaders are found
// by it (internal/resign): a request to one of them is for its slot and no other.
func (s *semaphore) Slots(key string) (below Locker, names []string) {
	if s.n < 1 || s.n > MaxSlots {
		return s, []string{key} // all calls say that
	}
	inner, nested := As[slots](s.inner) // a semaphore of a semaphore
	below = s.inner
	for slot := range s.n {
		of := []string{slotName(key, slot+1)}
		if nested {
			below, of = inner.Slots(of[0])
		}
		names = append(names, of...)
	}
	return below, names
}

// slots is what a locker has for whose keys there are several holders. It is no interface that
// a user's locker has to know.
type slots = interface {
	Slots(key string) (below Locker, names []string)
}

// slotError is err, of an attempt for one slot, by what it says of that slot: it is held, or
// can't be asked; or else of the whole attempt.
func (s *semaphore) slotError(ctx context.Context, err error) error {
	switch {
	case isFinal(err, s.granted.Load):
		return err
	case ctx.Err() != nil, errors.Is(err, ErrHeld):
		return StoreError(ctx, err) // some drivers return ctx's cause as their own error
	}
	return outageOf(err)
}

// meet merges the refusal of one slot into that of all: the one to wait for is the holder
// whose time is over first.
func (e *HeldError) meet(refusal error, slot int) {
	of, ok := errors.AsType[*HeldError](refusal)
	if !ok {
		return
	}
	// The key's full name, with the prefixes of the lockers below. (A semaphore below has cut
	// its own slot off.)
	e.Key = strings.TrimSuffix(of.Key, slotName("", slot))
	switch {
	case e.RetryAfter == 0 && (e.Holder == "" || of.RetryAfter > 0),
		of.RetryAfter > 0 && of.RetryAfter < e.RetryAfter:
		e.Holder, e.RetryAfter, e.Unconfirmed = of.Holder, of.RetryAfter, of.Unconfirmed
	}
}

// queue is one for all slots, but one for each n: a waiter for one of 2 slots must not stand
// before a waiter for one of 5, for whom a slot may be free. No key has its name, which is
// not UTF-8. With one slot it is the queue of the key itself.
func (s *semaphore) queue(key string) (*Waiters, string) {
	w, name := queueOf(s.inner, key)
	if s.n == 1 {
		return w, name
	}
	return w, name + "\xff" + strconv.Itoa(s.n)
}

func (s *semaphore) below(key string) (Locker, string) { return s.inner, key }

// As is in place of Unwrap: what is below knows slots, not their key.
func (s *semaphore) As(target any) bool {
	switch t := target.(type) {
	case *Awaiter:
		return translated(s.inner, t, func(a Awaiter) Awaiter { return slotAwaiter{s, a} })
	case *Watcher:
		return translated(s.inner, t, func(w Watcher) Watcher { return slotWatcher{s, w} })
	case *Inspector:
		return translated(s.inner, t, func(i Inspector) Inspector { return slotInspector{s, i} })
	case *ForceReleaser:
		return translated(s.inner, t, func(f ForceReleaser) ForceReleaser { return slotForceReleaser{s, f} })
	case *HealthChecker:
		return translated(s.inner, t, func(h HealthChecker) HealthChecker { return h })
	case *MaxReleaseAfterer:
		return translated(s.inner, t, func(m MaxReleaseAfterer) MaxReleaseAfterer { return m })
	case *io.Closer:
		return translated(s.inner, t, func(c io.Closer) io.Closer { return c })
	}
	return false
}

type slotWatcher struct {
	s     *semaphore
	inner Watcher
}

func (w slotWatcher) Watch(ctx context.Context, key string, wake chan<- struct{}) (func(), error) {
	if err := w.s.check(ctx, key, MinTTL); err != nil {
		return nil, fmt.Errorf("lock: watch: %w", err)
	}
	stops := make([]func(), 0, w.s.n)
	stop := func() {
		for _, stop := range stops {
			stop()
		}
	}
	for slot := range w.s.n {
		stopSlot, err := w.inner.Watch(ctx, slotName(key, slot+1), wake)
		if err != nil {
			// A waiter that is notified of some slots only would sleep through the others.
			stop()
			return nil, fmt.Errorf("lock: watch %q: %w", key, err)
		}
		stops = append(stops, stopSlot)
	}
	return stop, nil
}

type slotInspector struct {
	s     *semaphore
	inner Inspector
}

func (i slotInspector) Inspect(ctx context.Context, key string) (Info, error) {
	if err := i.s.check(ctx, key, MinTTL); err != nil {
		return Info{}, fmt.Errorf("lock: inspect: %w", err)
	}
	var first Info
	for slot := range i.s.n {
		info, err := i.inner.Inspect(ctx, slotName(key, slot+1))
		switch {
		case err != nil:
			return Info{}, fmt.Errorf("lock: inspect %q: %w", key, err)
		case info.Holder == "":
			return info, nil
		case slot == 0, info.TTL != -1 && (first.TTL == -1 || info.TTL < first.TTL):
			first = info
		}
	}
	return first, nil
}

func (i slotInspector) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return i.inner.List(ctx, prefix)
}

type slotForceReleaser struct {
	s     *semaphore
	inner ForceReleaser
}

func (f slotForceReleaser) ForceRelease(ctx context.Context, key string, token uint64) error {
	if err := f.s.check(ctx, key, MinTTL); err != nil {
		return fmt.Errorf("lock: force release: %w", err)
	}
	held := HeldError{Key: key}
	others, failed := 0, 0
	var failure error
	for slot := range f.s.n {
		err := f.inner.ForceRelease(ctx, slotName(key, slot+1), token)
		switch {
		case err == nil:
		case errors.Is(err, ErrHeld):
			others++
			held.meet(err, slot+1)
		default:
			failed++ // the other slots may be in reach
			failure = cmp.Or(failure, err)
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("lock: force release %q (token %d): %d of %d slots failed, the first: %w", key, token, failed, f.s.n, failure)
	case others == f.s.n:
		return fmt.Errorf("lock: force release %q (token %d): no slot has this token: %w", key, token, &held)
	}
	return nil
}
