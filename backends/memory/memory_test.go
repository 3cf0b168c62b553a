package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

const ttl = 10 * time.Second

func acquire(t *testing.T, l lock.Locker, key string) lock.Lease {
	t.Helper()
	lease, err := l.TryAcquire(t.Context(), key, ttl)
	require.NoError(t, err)
	return lease
}

func requireFree(t *testing.T, l *memory.Locker, key string) {
	t.Helper()
	info, err := l.Inspect(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, lock.Info{Key: key}, info)
}

func TestInspectAndListTellForHowLongAKeyIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		lease := acquire(t, l, "k")
		time.Sleep(5 * time.Second)
		require.NoError(t, lease.Extend(t.Context(), time.Minute))
		time.Sleep(10 * time.Second)
		info, err := l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, 15*time.Second, info.Held)
		for info, err := range l.List(t.Context(), "") {
			require.NoError(t, err)
			require.Equal(t, 15*time.Second, info.Held)
		}
		require.NoError(t, lease.Release(t.Context()))
		acquire(t, l, "k")
		time.Sleep(time.Second)
		info, err = l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, time.Second, info.Held, "the next term's own")
	})
}

func TestHolderNameAndExactTimeLeftAreInTheRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		anna := memory.New().Client("anna")
		ben := anna.Client("ben")
		acquire(t, anna, "k")
		time.Sleep(3 * time.Second)

		_, err := ben.TryAcquire(t.Context(), "k", ttl)
		held, ok := errors.AsType[*lock.HeldError](err)
		require.True(t, ok)
		require.Equal(t, lock.HeldError{Key: "k", Holder: "anna", RetryAfter: 7 * time.Second}, *held)

		time.Sleep(held.RetryAfter - 1)
		_, err = ben.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld, "before RetryAfter has passed")
		time.Sleep(time.Nanosecond)
		acquire(t, ben, "k")
	})
}

func TestUnnamedClientsAreStillHolders(t *testing.T) {
	l := memory.New()
	acquire(t, l.Client(""), "k")
	info, err := l.Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.NotEmpty(t, info.Holder)
}

func TestTheNextTermMayStartAtTheInstantThatTheLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		lease := acquire(t, l, "k")
		time.Sleep(time.Until(lease.Expiry()) - 1)
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		time.Sleep(time.Nanosecond)
		require.False(t, time.Now().Before(lease.Expiry()))
		acquire(t, l, "k")
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
	})
}

func TestALockerMadeOutsideABubbleWorksInsideOne(t *testing.T) {
	l := memory.New()
	synctest.Test(t, func(t *testing.T) {
		lease := acquire(t, l, "k")
		require.Equal(t, ttl, time.Until(lease.Expiry()))
		time.Sleep(ttl - 1)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.Equal(t, ttl, time.Until(lease.Expiry()))
		time.Sleep(ttl)
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
		acquire(t, l, "k")
	})
}

func TestTokensAreTheSameInEveryRun(t *testing.T) {
	for range 3 {
		l := memory.New()
		for want := uint64(1); want <= 3; want++ {
			lease := acquire(t, l, "pricing-oracle-keeper")
			require.Equal(t, want, lease.Token())
			require.NoError(t, lease.Release(t.Context()))
		}
	}
}

func TestTokensRiseAcrossReleaseExpiryLossAndSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		last := map[string]uint64{}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 5_000 {
			key := fmt.Sprint("k", rng.IntN(500))
			lease, err := l.TryAcquire(t.Context(), key, time.Second)
			if err == nil {
				require.Greater(t, lease.Token(), last[key])
				last[key] = lease.Token()
				switch rng.IntN(3) {
				case 0:
					require.NoError(t, lease.Release(t.Context()))
				case 1:
					require.NoError(t, l.ForceRelease(t.Context(), key, lease.Token()))
				}
			}
			time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
		}
	})
}

func TestBreakingATermSparesTheNext(t *testing.T) {
	l := memory.New()
	old := acquire(t, l, "k")
	require.NoError(t, l.ForceRelease(t.Context(), "k", old.Token()))
	requireFree(t, l, "k")
	next := acquire(t, l.Client("ben"), "k")

	err := l.ForceRelease(t.Context(), "k", old.Token())
	held, ok := errors.AsType[*lock.HeldError](err)
	require.True(t, ok)
	require.Equal(t, "ben", held.Holder)
	require.ErrorIs(t, old.Release(t.Context()), lock.ErrLost)
	require.NoError(t, next.Extend(t.Context(), ttl))
}

func TestALeaseTakenAwayIsLostForExtendAndReleaseAlike(t *testing.T) {
	for name, call := range map[string]func(lock.Lease) error{
		"extend":  func(lease lock.Lease) error { return lease.Extend(context.Background(), ttl) },
		"release": func(lease lock.Lease) error { return lease.Release(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			l := memory.New()
			lease := acquire(t, l, "k")
			require.NoError(t, l.ForceRelease(t.Context(), "k", 0))
			require.ErrorIs(t, call(lease), lock.ErrLost)
			require.Zero(t, lease.Expiry())
		})
	}
}

func TestListStaysWithinThePrefixAndBreaksOffCleanly(t *testing.T) {
	l := memory.New()
	want := map[string]bool{}
	for i := range 200 {
		key := fmt.Sprint("tenant:", i)
		want[key] = true
		acquire(t, l, key)
		acquire(t, l, fmt.Sprint("other:", i))
	}
	got := map[string]bool{}
	for info, err := range l.List(t.Context(), "tenant:") {
		require.NoError(t, err)
		require.False(t, got[info.Key], "%s seen twice", info.Key)
		got[info.Key] = true
		// The loop's body may use the locker.
		require.NoError(t, l.ForceRelease(t.Context(), info.Key, info.Token))
	}
	require.Equal(t, want, got)

	n := 0
	for range l.List(t.Context(), "other:") {
		if n++; n == 7 {
			break
		}
	}
	require.Equal(t, 7, n)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.List(ctx, "other:") {
		require.ErrorIs(t, err, context.Canceled)
	}
}

func TestExpiredTermsAreNotListedOrShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		acquire(t, l, "k")
		time.Sleep(ttl)
		requireFree(t, l, "k")
		for info := range l.List(t.Context(), "") {
			t.Errorf("listed: %v", info)
		}
		require.NoError(t, l.ForceRelease(t.Context(), "k", 99), "nobody holds it")
	})
}

func TestCloseConcernsOneClientAndSparesItsLeases(t *testing.T) {
	anna := memory.New().Client("anna")
	ben := anna.Client("ben")
	lease := acquire(t, anna, "k")
	require.NoError(t, anna.Close())
	require.NoError(t, anna.Close())

	_, err := anna.TryAcquire(t.Context(), "other", ttl)
	require.ErrorIs(t, err, lock.ErrClosed)
	_, err = anna.Inspect(t.Context(), "k")
	require.ErrorIs(t, err, lock.ErrClosed)
	_, err = anna.Health(t.Context())
	require.ErrorIs(t, err, lock.ErrClosed)
	require.ErrorIs(t, anna.ForceRelease(t.Context(), "k", 0), lock.ErrClosed)
	for _, err := range anna.List(t.Context(), "") {
		require.ErrorIs(t, err, lock.ErrClosed)
	}

	require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrClosed)
	require.True(t, time.Now().Before(lease.Expiry()), "the hold stands")
	_, err = ben.TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, lease.Release(t.Context()))
	acquire(t, ben, "k")
}

func TestNothingIsGrantedOnceCloseHasReturned(t *testing.T) {
	for range 30 {
		l := memory.New()
		other := l.Client("other")
		var wg sync.WaitGroup
		begun := make(chan struct{})
		for i := range 4 {
			wg.Go(func() {
				<-begun
				for j := range 1_000_000 {
					if _, err := l.TryAcquire(context.Background(), fmt.Sprint(i, j), ttl); err != nil {
						return
					}
				}
			})
		}
		close(begun)
		require.NoError(t, l.Close())
		count := func() (n int) {
			for range other.List(context.Background(), "") {
				n++
			}
			return n
		}
		before := count()
		wg.Wait()
		require.Equal(t, before, count())
	}
}

func TestMalformedKeysAreRefusedByInspectAndForceReleaseToo(t *testing.T) {
	l := memory.New()
	_, err := l.Inspect(t.Context(), "")
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorIs(t, l.ForceRelease(t.Context(), "\xff", 0), lock.ErrInvalid)
}

func TestACustomCauseComesWithTheContextError(t *testing.T) {
	shutdown := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(shutdown)
	_, err := memory.New().TryAcquire(ctx, "k", ttl)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, shutdown)
}

func TestAnExtendThatTookAllOfItsTTLDoesNotReturnTheExpiryOfTheNextHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		slow := l.Client("slow")
		lease, err := slow.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		got := make(chan lock.Lease, 1)
		go func() {
			next, err := lock.Acquire(t.Context(), l, "k", time.Hour, nil)
			if err != nil {
				t.Error(err)
			}
			got <- next
		}()
		synctest.Wait()
		slow.Delay(2 * time.Second)
		require.ErrorIs(t, lease.Extend(t.Context(), time.Second), lock.ErrLost)
		require.Zero(t, lease.Expiry())
		require.NoError(t, (<-got).Release(t.Context()))
	})
}
