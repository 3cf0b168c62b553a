package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ReleaseAfter ends lease now, and lets its hold end by itself d after the lease
// began: until then the store refuses the key to everybody, whatever becomes of
// this process. It is for work that must not run again too soon, such as a job that
// several machines start at the same minute by clocks that differ: the one that
// comes late finds the key held, though the job was over in a moment.
//
//	lease, err := lock.Acquire(ctx, locker, "nightly-report", ttl, nil)
//	...
//	err = lock.ReleaseAfter(ctx, lease, time.Minute) // in place of Release
//
// For this process the lease is over at once, as after Release: Expiry is the zero
// time, and Extend fails with [ErrLost]. A d that has passed already makes it a
// plain Release. What it returns, and what a Release after it does, is said at
// [AfterReleaser].
//
// A d that the store can't keep is [ErrInvalid]; the error of a store that can't do
// it at all matches [errors.ErrUnsupported]. Both leave the lease as it was. To
// know before the work begins, call [CheckReleaseAfter].
//
// Where the store reports no ages (etcd, NATS, Kubernetes) a process that has just started
// can't know that such a hold is over: it is refused, with [HeldError].Unconfirmed set, until
// it has seen it stand for d. A program that runs once and leaves needs record.Options.Grace
// there, or ClockSkew on Kubernetes.
func ReleaseAfter(ctx context.Context, lease Lease, d time.Duration) error {
	if lease == nil {
		return fmt.Errorf("lock: release after %v: %w: lease is nil", d, ErrInvalid)
	}
	a, ok := lease.(AfterReleaser)
	if !ok {
		return fmt.Errorf("lock: release %q (token %d) after %v: %w", lease.Key(), lease.Token(), d, errNoReleaseAfter)
	}
	return a.ReleaseAfter(ctx, d)
}

// CheckReleaseAfter reports whether leases of l can be released by [ReleaseAfter]
// with this d: nil, [ErrInvalid] with the store's limit, or an error that matches
// [errors.ErrUnsupported]. It sends nothing.
func CheckReleaseAfter(l Locker, d time.Duration) error {
	var most time.Duration
	if m, ok := As[MaxReleaseAfterer](l); ok {
		most = m.MaxReleaseAfter()
	}
	if err := checkReleaseAfter(d, most); err != nil {
		return fmt.Errorf("lock: release after %v: %w", d, err)
	}
	return nil
}

var errNoReleaseAfter = fmt.Errorf("this store can't keep a key held after the release: %w", errors.ErrUnsupported)

func checkReleaseAfter(d, most time.Duration) error {
	switch {
	case most <= 0:
		return errNoReleaseAfter
	case d < 0:
		return fmt.Errorf("%w: the hold is to end %v after its start, want 0 or more", ErrInvalid, d)
	case d > most:
		return fmt.Errorf("%w: the hold is to end %v after its start, and this store keeps it for at most %v", ErrInvalid, d, most)
	}
	return nil
}

// maxAfter is how long a key of lease can be kept; 0: not at all.
func maxAfter(lease Lease) time.Duration {
	if a, ok := lease.(AfterReleaser); ok {
		return a.MaxReleaseAfter()
	}
	return 0
}
