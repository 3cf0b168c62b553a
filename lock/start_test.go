package lock

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// startable is a Term whose extends a test answers by hand.
type startable struct {
	mu       sync.Mutex
	done     ExtendDone // of the extend under way
	stopped  int
	released int
}

func (s *startable) ExtendTerm(context.Context, string, uint64, time.Duration) (time.Time, error) {
	return time.Time{}, errors.New("nobody waits here")
}

func (s *startable) ReleaseTerm(context.Context, string, uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released++
	return nil
}

func (s *startable) StartExtendTerm(_ string, _ uint64, _ time.Duration, done ExtendDone) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = done
}

func (s *startable) StopExtendTerm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped++
	if done := s.done; done != nil {
		s.done = nil
		go done.Extended(time.Time{}, errors.New("stopped"))
	}
}

func (s *startable) answer(expiry time.Time, err error) {
	s.mu.Lock()
	done := s.done
	s.done = nil
	s.mu.Unlock()
	done.Extended(expiry, err)
}

// outcomes are what an extend's caller was notified of.
type outcomes struct {
	mu     sync.Mutex
	expiry []time.Time
	errs   []error
}

func (o *outcomes) Extended(expiry time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expiry, o.errs = append(o.expiry, expiry), append(o.errs, err)
}

func (o *outcomes) one(t *testing.T) (time.Time, error) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	require.Len(t, o.errs, 1)
	return o.expiry[0], o.errs[0]
}

func TestStartExtend(t *testing.T) {
	const ttl = 10 * time.Second
	var slept time.Duration
	bubble := func(name string, f func(t *testing.T, s *startable, l ExtendStarter, o *outcomes)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slept = 0
				s := &startable{}
				l := NewLease(Grant{Key: "k", Token: 7, Expiry: time.Now().Add(ttl), Term: s, Suspended: func() time.Duration { return slept }})
				f(t, s, l.(ExtendStarter), &outcomes{})
			})
		})
	}

	bubble("ReportsTheNewExpiry", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		time.Sleep(4 * time.Second)
		require.True(t, l.StartExtend(ttl, time.Second, o))
		require.False(t, l.StartExtend(ttl, 0, &outcomes{}), "one is under way")
		want := time.Now().Add(ttl)
		s.answer(want, nil)
		expiry, err := o.one(t)
		require.NoError(t, err)
		require.Equal(t, want, expiry)
		require.Equal(t, want, l.Expiry())
		require.True(t, l.StartExtend(ttl, time.Second, o))
		s.answer(want, nil)
	})

	bubble("IsRefusedWithNoMoreThanTheMarginLeft", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		time.Sleep(9 * time.Second)
		require.False(t, l.StartExtend(ttl, time.Second, o))
		slept = 500 * time.Millisecond // which the lease's end is nearer by
		require.False(t, l.StartExtend(ttl, 500*time.Millisecond, o))
		require.True(t, l.StartExtend(ttl, 499*time.Millisecond, o))
		s.answer(time.Now().Add(ttl), nil)
	})

	bubble("AnAnswerAfterTheOldExpiryIsALoss", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		require.True(t, l.StartExtend(ttl, 0, o))
		time.Sleep(ttl)
		s.answer(time.Now().Add(ttl), nil)
		_, err := o.one(t)
		require.ErrorIs(t, err, ErrLost)
		require.Zero(t, l.Expiry())
	})

	bubble("ASuspensionMeanwhileIsALoss", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		require.True(t, l.StartExtend(ttl, 0, o))
		slept = ttl
		s.answer(time.Now().Add(ttl), nil)
		_, err := o.one(t)
		require.ErrorIs(t, err, ErrLost)
	})

	bubble("ASuspensionMeanwhileShortensTheNewExpiry", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		require.True(t, l.StartExtend(ttl, 0, o))
		slept = time.Second
		until := time.Now().Add(ttl)
		s.answer(until, nil)
		expiry, err := o.one(t)
		require.NoError(t, err)
		require.Equal(t, until.Add(-time.Second), expiry)
		require.Equal(t, expiry, l.Expiry())
	})

	bubble("AFailureSaysNothing", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		old := l.Expiry()
		require.True(t, l.StartExtend(ttl, 0, o))
		s.answer(time.Time{}, errors.New("connection reset"))
		_, err := o.one(t)
		require.ErrorContains(t, err, "connection reset")
		require.NotErrorIs(t, err, ErrLost)
		require.Equal(t, old, l.Expiry())
	})

	bubble("ALossIsFinal", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		require.True(t, l.StartExtend(ttl, 0, o))
		s.answer(time.Time{}, ErrLost)
		_, err := o.one(t)
		require.ErrorIs(t, err, ErrLost)
		require.Zero(t, l.Expiry())
		require.False(t, l.StartExtend(ttl, 0, o))
	})

	bubble("ReleaseStopsItAndComesAfterIt", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		require.True(t, l.StartExtend(ttl, 0, o))
		require.NoError(t, l.Release(t.Context()))
		synctest.Wait() // the outcome is reported beside the release
		_, err := o.one(t)
		require.ErrorIs(t, err, ErrLost)
		require.Equal(t, 1, s.stopped)
		require.Equal(t, 1, s.released)
		require.False(t, l.StartExtend(ttl, 0, o))
	})

	bubble("ALateSuccessIsNoneForAReleasedLease", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		require.True(t, l.StartExtend(ttl, 0, o))
		s.mu.Lock()
		done := s.done
		s.done = nil // it does not stop
		s.mu.Unlock()
		released := make(chan error, 1)
		go func() { released <- l.Release(t.Context()) }()
		synctest.Wait()
		require.Zero(t, s.released, "the store could take the extend after the release")
		done.Extended(time.Now().Add(ttl), nil)
		require.NoError(t, <-released)
		synctest.Wait()
		_, err := o.one(t)
		require.ErrorIs(t, err, ErrLost)
	})

	bubble("StopEndsItWithoutALoss", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		l.StopExtend()
		require.True(t, l.StartExtend(ttl, 0, o))
		l.StopExtend()
		synctest.Wait()
		_, err := o.one(t)
		require.ErrorContains(t, err, "stopped")
		require.NotZero(t, l.Expiry())
	})

	bubble("BadTTLsAreRefused", func(t *testing.T, s *startable, l ExtendStarter, o *outcomes) {
		require.False(t, l.StartExtend(0, 0, o))
		require.False(t, l.StartExtend(MaxTTL+1, 0, o))
	})
}

func TestALeaseOfATermThatCanNotStartIsExtendedByWaiting(t *testing.T) {
	l := NewLease(Grant{
		Key: "k", Token: 7, Expiry: time.Now().Add(time.Minute),
		Extend:  func(context.Context, time.Duration) (time.Time, error) { return time.Now().Add(time.Minute), nil },
		Release: func(context.Context) error { return nil },
	})
	require.False(t, l.(ExtendStarter).StartExtend(time.Minute, 0, &outcomes{}))
	require.NoError(t, l.Extend(t.Context(), time.Minute))
}
