package lock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// asked is how often the store was asked to extend, also by a lease itself.
func (s *store) asked() int {
	synctest.Wait()
	return s.extends
}

// short makes a lease that was asked for ttl and starts with a second.
func short(g *lock.Grant) {
	g.Expiry = time.Now().Add(time.Second)
	g.GrowTo = ttl
}

func TestALeaseThatStartsShort(t *testing.T) {
	const quarter = time.Second / 4
	bubble("GrowsByItselfWhenAQuarterOfItHasGone", t, func(t *testing.T) {
		s := &store{}
		l := s.lease(short)
		first := l.Expiry()
		require.Equal(t, time.Now().Add(time.Second), first)
		time.Sleep(quarter - 1)
		synctest.Wait()
		require.Zero(t, s.asked())
		require.Equal(t, first, l.Expiry())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, time.Now().Add(ttl), l.Expiry())
		time.Sleep(ttl - 1)
		require.Equal(t, 1, s.asked())
		require.NoError(t, l.Extend(t.Context(), ttl))
		require.NoError(t, l.Release(t.Context()))
	})
	bubble("AsksNothingIfItIsReleasedBefore", t, func(t *testing.T) {
		s := &store{}
		l := s.lease(short)
		time.Sleep(quarter - 1)
		require.NoError(t, l.Release(t.Context()))
		time.Sleep(time.Minute)
		require.Zero(t, s.asked())
		require.Equal(t, 1, s.releases)
	})
	bubble("DoesNotGrowAfterAnExtendOfItsUser", t, func(t *testing.T) {
		for _, to := range []time.Duration{500 * time.Millisecond, 2 * ttl} {
			s := &store{}
			l := s.lease(short)
			time.Sleep(quarter / 2)
			require.NoError(t, l.Extend(t.Context(), to))
			until := l.Expiry()
			time.Sleep(400 * time.Millisecond)
			require.Equal(t, until, l.Expiry())
			require.Equal(t, 1, s.asked())
		}
	})
	bubble("DoesNotGrowAfterAnExtendThatIsUnderWay", t, func(t *testing.T) {
		s := &store{extend: func(_ context.Context, ttl time.Duration) (time.Time, error) {
			start := time.Now()
			time.Sleep(quarter)
			return start.Add(ttl), nil
		}}
		l := s.lease(short)
		time.Sleep(quarter / 2)
		require.NoError(t, l.Extend(t.Context(), 2*ttl)) // the quarter is over in the middle of it
		until := l.Expiry()
		time.Sleep(ttl)
		require.Equal(t, until, l.Expiry())
		require.Equal(t, 1, s.asked())
	})
	bubble("TriesAgainWhileItIsHeld", t, func(t *testing.T) {
		s := &store{}
		s.extend = func(_ context.Context, ttl time.Duration) (time.Time, error) {
			if s.extends < 4 {
				return time.Time{}, lock.ErrUnavailable
			}
			return time.Now().Add(ttl), nil
		}
		l := s.lease(short)
		time.Sleep(time.Second)
		require.Equal(t, 4, s.asked())
		require.Greater(t, time.Until(l.Expiry()), ttl/2)
	})
	bubble("TriesAgainWhenTheStoreHangs", t, func(t *testing.T) {
		s := &store{}
		s.extend = func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			if s.extends == 1 {
				<-ctx.Done()
				return time.Time{}, ctx.Err()
			}
			return time.Now().Add(ttl), nil
		}
		l := s.lease(short)
		time.Sleep(time.Second)
		require.Equal(t, 2, s.asked())
		require.Greater(t, time.Until(l.Expiry()), ttl/2)
	})
	bubble("RunsOutWhereItCanNotGrow", t, func(t *testing.T) {
		s := &store{extend: func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, lock.ErrUnavailable }}
		l := s.lease(short)
		until := l.Expiry()
		time.Sleep(time.Second - 1)
		require.Equal(t, until, l.Expiry())
		require.Less(t, s.asked(), 30, "a spin")
		time.Sleep(time.Nanosecond)
		requireLoss(t, l.Extend(t.Context(), ttl))
		asked := s.asked()
		time.Sleep(time.Minute)
		require.Equal(t, asked, s.asked())
	})
	bubble("IsLostAtOnceIfTheStoreSaysSoWhenItGrows", t, func(t *testing.T) {
		s := &store{extend: func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, lock.ErrLost }}
		l := s.lease(short)
		time.Sleep(quarter)
		synctest.Wait()
		require.Zero(t, l.Expiry())
		requireLoss(t, l.Extend(t.Context(), ttl))
		require.Equal(t, 1, s.asked())
	})
	bubble("IsReleasedAlsoWhileItGrows", t, func(t *testing.T) {
		s := &store{extend: func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			<-ctx.Done()
			return time.Now().Add(ttl), nil // it was applied all the same
		}}
		l := s.lease(short)
		time.Sleep(quarter)
		synctest.Wait()
		require.Equal(t, 1, s.asked())
		start := time.Now()
		require.NoError(t, l.Release(t.Context()))
		require.Equal(t, start, time.Now())
		require.Zero(t, l.Expiry())
		time.Sleep(time.Minute)
		require.Equal(t, 1, s.asked())
	})
	bubble("AsksNothingForTheDriftAlone", t, func(t *testing.T) {
		s := &store{}
		s.lease(func(g *lock.Grant) { g.Expiry, g.GrowTo = time.Now().Add(ttl-ttl/50), ttl })
		time.Sleep(ttl)
		require.Zero(t, s.asked())
	})
}

// An observer goes by what the lease has when it is lost, and not by what it began with.
func TestObserveTellsALossOfAGrownLeaseRightly(t *testing.T) {
	for name, c := range map[string]struct {
		after   time.Duration
		expired bool
		held    time.Duration
	}{
		"taken away":  {5 * time.Second, false, 5 * time.Second},
		"not renewed": {time.Hour, true, time.Second/4 + ttl},
	} {
		bubble(name, t, func(t *testing.T) {
			var e events
			s := &store{}
			s.extend = func(_ context.Context, ttl time.Duration) (time.Time, error) {
				if s.extends > 1 { // the first was its growth
					return time.Time{}, lock.ErrLost
				}
				return time.Now().Add(ttl), nil
			}
			l, err := lock.Observe(grantsOf(func() lock.Lease { return s.lease(short) }), e.receive).TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
			time.Sleep(c.after)
			requireLoss(t, l.Extend(t.Context(), ttl))
			for _, event := range e.take() {
				if event.Kind == lock.EventLost {
					require.Equal(t, c.expired, event.Expired)
					require.Equal(t, c.held, event.Held)
					return
				}
			}
			require.Fail(t, "no loss was reported")
		})
	}
}

type grantsOf func() lock.Lease

func (g grantsOf) TryAcquire(context.Context, string, time.Duration) (lock.Lease, error) {
	return g(), nil
}

func TestASetOfLeasesThatStartShort(t *testing.T) {
	bubble("IsExtendedWhileTheOthersAreAcquired", t, func(t *testing.T) {
		var stores stores
		set, err := lock.AcquireAll(t.Context(), grantsOf(func() lock.Lease { return stores.add().lease(short) }), []string{"a", "b", "c"}, ttl, nil)
		require.NoError(t, err)
		require.Equal(t, time.Now().Add(ttl), set.Expiry())
		require.Equal(t, 3, stores.extends())
		time.Sleep(ttl - 1)
		require.Equal(t, 3, stores.extends(), "a member grew although it was extended")
		require.NoError(t, set.Extend(t.Context(), ttl))
		require.NoError(t, set.Release(t.Context()))
	})
	bubble("NeverHoldsForLongerThanAMember", t, func(t *testing.T) {
		var stores stores
		most := func() lock.Lease {
			s := stores.add()
			n := time.Duration(len(stores))
			return s.lease(func(g *lock.Grant) { g.Expiry, g.GrowTo = time.Now().Add(6*time.Second+n*time.Second/10), ttl })
		}
		set, err := lock.AcquireAll(t.Context(), grantsOf(most), []string{"a", "b", "c"}, ttl, nil)
		require.NoError(t, err)
		require.Zero(t, stores.extends())
		before := set.Expiry()
		for range 100 {
			time.Sleep(20 * time.Millisecond)
			expiry := set.Expiry()
			require.False(t, expiry.Before(before))
			before = expiry
			for _, m := range set.Leases() {
				require.False(t, expiry.After(m.Expiry()))
			}
		}
		require.Equal(t, 3, stores.extends(), "they grow one by one")
		require.NoError(t, set.Extend(t.Context(), ttl))
		require.Equal(t, time.Now().Add(ttl), set.Expiry())
		require.NoError(t, set.Release(t.Context()))
	})
}

// stores are one for each lease: those of a Set are asked at once.
type stores []*store

func (s *stores) add() *store {
	*s = append(*s, &store{})
	return (*s)[len(*s)-1]
}

func (s stores) extends() (n int) {
	for _, one := range s {
		n += one.asked()
	}
	return n
}
