package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

func ExampleReleaseAfter() {
	ctx, locker := context.Background(), memory.New()
	// Two machines start the same job by clocks that differ.
	for _, machine := range []string{"first", "second"} {
		lease, err := locker.TryAcquire(ctx, "nightly-report", 30*time.Second)
		if errors.Is(err, lock.ErrHeld) {
			fmt.Println(machine, "leaves it to the other")
			continue
		} else if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(machine, "does it") // in a moment
		if err := lock.ReleaseAfter(ctx, lease, time.Minute); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// first does it
	// second leaves it to the other
}

func TestReleaseAfterWorksThroughEveryComposition(t *testing.T) {
	for _, order := range orders(2) {
		c := compose(order)
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := compose(order)
				require.NoError(t, lock.CheckReleaseAfter(c.locker, time.Minute))
				require.ErrorIs(t, lock.CheckReleaseAfter(c.locker, -1), lock.ErrInvalid)
				lease, err := c.locker.TryAcquire(t.Context(), "k", time.Second)
				require.NoError(t, err)
				name := lease.Key()
				require.NoError(t, lock.ReleaseAfter(t.Context(), lease, time.Minute))
				require.NoError(t, lease.Release(t.Context()))
				time.Sleep(time.Minute - time.Nanosecond)
				info, err := c.base.Inspect(t.Context(), name)
				require.NoError(t, err)
				require.NotEmpty(t, info.Holder, "free before the time")
				time.Sleep(time.Nanosecond)
				info, err = c.base.Inspect(t.Context(), name)
				require.NoError(t, err)
				require.Empty(t, info.Holder, "held after the time")
				for _, o := range c.observers {
					all := o.take()
					last := all[len(all)-1]
					require.Equal(t, lock.EventRelease, last.Kind)
					require.Equal(t, time.Minute, last.After)
				}
			})
		})
	}
}

func TestASetKeepsEachOfItsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		set, err := lock.AcquireAll(t.Context(), l, []string{"a", "b"}, time.Second, nil)
		require.NoError(t, err)
		require.NoError(t, lock.ReleaseAfter(t.Context(), set, time.Minute))
		require.NoError(t, set.Release(t.Context()))
		require.Zero(t, set.Expiry())
		time.Sleep(time.Minute - time.Nanosecond)
		for _, key := range []string{"a", "b"} {
			_, err := l.TryAcquire(t.Context(), key, time.Second)
			require.ErrorIs(t, err, lock.ErrHeld)
		}
		time.Sleep(time.Nanosecond)
		_, err = lock.AcquireAll(t.Context(), l, []string{"a", "b"}, time.Second, &lock.AcquireOptions{Attempts: 1})
		require.NoError(t, err)
	})
}

// limited is a lease of a store that can't do it, or that has a limit.
func limited(most time.Duration, suspended func() time.Duration, ask func(until time.Time)) lock.Lease {
	g := lock.Grant{
		Key: "k", Token: 1, Start: time.Now(), Expiry: time.Now().Add(time.Minute), MaxReleaseAfter: most, Suspended: suspended,
		Extend:  func(context.Context, time.Duration) (time.Time, error) { return time.Now().Add(time.Minute), nil },
		Release: func(context.Context) error { return nil },
	}
	if ask != nil {
		g.ReleaseAfter = func(_ context.Context, until time.Time) error { ask(until); return nil }
	}
	return lock.NewLease(g)
}

type lockerOf struct{ lease lock.Lease }

func (l lockerOf) TryAcquire(context.Context, string, time.Duration) (lock.Lease, error) {
	return l.lease, nil
}

func (l lockerOf) MaxReleaseAfter() time.Duration {
	return l.lease.(lock.AfterReleaser).MaxReleaseAfter()
}

func TestWhatAStoreCanNotKeepIsRefusedAndLeavesTheLease(t *testing.T) {
	ask := func(time.Time) { t.Error("the store was asked") }
	for name, c := range map[string]struct {
		lease lock.Lease
		d     time.Duration
		want  error
		says  []string
	}{
		"unsupported":     {limited(0, nil, nil), time.Minute, errors.ErrUnsupported, []string{"can't keep a key held"}},
		"above the limit": {limited(time.Minute, nil, ask), 61 * time.Second, lock.ErrInvalid, []string{"1m1s", "1m0s"}},
		"above MaxTTL":    {limited(0, nil, ask), lock.MaxTTL + 1, lock.ErrInvalid, []string{"8760h0m0s"}},
		"negative":        {limited(0, nil, ask), -time.Second, lock.ErrInvalid, []string{"-1s"}},
	} {
		for _, l := range []lock.Locker{lockerOf{c.lease}, lock.Observe(lockerOf{c.lease}, func(lock.Event) {}), lock.Prefix(lockerOf{c.lease}, "p")} {
			t.Run(fmt.Sprintf("%s/%T", name, l), func(t *testing.T) {
				lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
				require.NoError(t, err)
				for _, err := range []error{lock.ReleaseAfter(t.Context(), lease, c.d), lock.CheckReleaseAfter(l, c.d)} {
					require.ErrorIs(t, err, c.want)
					for _, says := range c.says {
						require.ErrorContains(t, err, says)
					}
				}
				require.False(t, lease.Expiry().IsZero(), "the lease is over")
				require.NoError(t, lease.Extend(t.Context(), time.Minute))
			})
		}
	}
	require.ErrorIs(t, lock.CheckReleaseAfter(plainLocker{}, time.Minute), errors.ErrUnsupported)
	require.ErrorIs(t, lock.ReleaseAfter(t.Context(), plainLease{limited(0, nil, ask)}, time.Minute), errors.ErrUnsupported)
}

type (
	plainLocker struct{ lock.Locker }
	plainLease  struct{ lock.Lease }
)

func TestReleaseAfterCountsASuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var suspended time.Duration
		var until time.Time
		start := time.Now()
		lease := limited(0, func() time.Duration { return suspended }, func(u time.Time) { until = u })
		require.NoError(t, lease.Extend(t.Context(), time.Minute))
		suspended = 10 * time.Second
		require.NoError(t, lock.ReleaseAfter(t.Context(), lease, time.Minute))
		require.Equal(t, 50*time.Second, until.Sub(start))
	})
}

func TestAnotherTimeReplacesThatOfAFailedReleaseAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		l.LoseReplies(1, nil)
		require.ErrorIs(t, lock.ReleaseAfter(t.Context(), lease, time.Hour), lock.ErrUnavailable)
		require.NoError(t, lock.ReleaseAfter(t.Context(), lease, 0))
		_, err = l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
	})
}

// The store has applied the first call, whose reply was lost.
func TestARepeatedReleaseAfterPastExpiryFreesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		lease, err := l.TryAcquire(t.Context(), "k", time.Second)
		require.NoError(t, err)
		l.LoseReplies(1, nil)
		require.ErrorIs(t, lock.ReleaseAfter(t.Context(), lease, time.Minute), lock.ErrUnavailable)
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
		_, err = l.TryAcquire(t.Context(), "k", time.Second)
		require.ErrorIs(t, err, lock.ErrHeld)
	})
}
