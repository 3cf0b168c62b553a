package keepalive

import (
	"context"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// onceTTL is the ttl of Once's lease, if the period is not shorter: when it is over, another
// starter may run in place of one that crashed.
const onceTTL = 30 * time.Second

// onceWait divides the period: Once waits for that part of it, a tenth, where the key is
// held. So a starter whose clock is a little early, and which finds the key held since the
// last run, does not skip a period.
const onceWait = 10

// Once runs fn if no run of key was asked for in the last period, in whatever process;
// otherwise it does nothing: ran is false, and err nil. It is for jobs that several
// machines start by clocks of their own, each once a period: however much these
// differ, one run begins in each period.
//
// It keeps the key held for the whole period, counted from when it was asked for, as
// [lock.ReleaseAfter] does, whatever fn returned: a job that failed is tried again in the
// next period. fn may take longer than the period; the key is renewed until it has
// returned. A process that dies while fn runs loses the key within 30s, or the period if
// that is shorter, and another starter may then begin: make fn idempotent.
//
// Where the key is held, Once waits up to a tenth of the period for its end. period is at
// least 10ms, and at most what the store can keep held without its holder
// ([lock.CheckReleaseAfter]; redlock's limit is its Options.RestartGuard); an error that
// matches [lock.ErrInvalid] or [errors.ErrUnsupported] says so before anything is asked.
// For the rest see [Do], whose errors it has.
//
// It is for programs that go on. One that starts, calls Once and leaves does not run fn again
// where the store reports no ages (etcd, NATS, Kubernetes): each process that has just started
// finds the last period's hold and can't know that it is over. There it needs
// record.Options.Grace, or ClockSkew on Kubernetes.
func Once(ctx context.Context, locker lock.Locker, key string, period time.Duration, fn func(context.Context) error) (ran bool, err error) {
	if period < 10*lock.MinTTL {
		return false, notRun{fmt.Errorf("keepalive: once: %w: the period is %v, want at least %v%s", lock.ErrInvalid, period, 10*lock.MinTTL, unitHint(period))}
	}
	if fn == nil {
		return false, notRun{fmt.Errorf("keepalive: once: %w: fn is nil", lock.ErrInvalid)}
	}
	opts := &Options{AtLeast: period, Acquire: &lock.AcquireOptions{Timeout: period / onceWait}}
	return doUnlessHeld(ctx, locker, key, min(period, onceTTL), fn, opts)
}
