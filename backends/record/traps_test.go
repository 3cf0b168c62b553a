package record_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// Each test here is a mistake that adapters or engines of this kind make.

func TestACreateThatArrivesLateHoldsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		a, b := over(t, m, &record.Options{Timeout: time.Minute}), over(t, m, nil)
		a.faults.Delay(20*time.Second, true)
		_, err := a.TryAcquire(within(t, 30*time.Second), "k", time.Hour) // its Get is answered at 20s, its create is given up at 30s
		require.ErrorIs(t, err, context.DeadlineExceeded)
		first := take(t, b, "k", time.Minute)
		require.NoError(t, first.Release(t.Context()))
		m.Remove(name(t, "k"))
		time.Sleep(time.Minute) // the create arrives
		later := take(t, b, "k", time.Minute)
		require.Greater(t, later.Token(), first.Token())
	})
}

func TestAWriteThatIsAppliedAfterItWasGivenUpHoldsNothing(t *testing.T) {
	for _, seen := range []string{"free", "expired"} {
		t.Run(seen, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *recordtest.Memory) {
				p := over(t, m, nil)
				used(t, p, "k")
				if seen == "expired" {
					take(t, p, "k", time.Second)
					time.Sleep(2 * time.Second)
				}
				slow := &recordtest.Faults{Store: m}
				l, err := record.New(holdsLate{slow.Client(), slow, 20 * time.Second}, nil)
				require.NoError(t, err)
				defer slow.Drain()
				defer l.Close()
				_, err = l.TryAcquire(within(t, 100*time.Millisecond), "k", 24*time.Hour)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				time.Sleep(30 * time.Second)
				require.NoError(t, take(t, p, "k", time.Second).Release(t.Context()), "a late write holds the key")
			})
		})
	}
}

// holdsLate delays each Put that holds.
type holdsLate struct {
	record.Store
	f     *recordtest.Faults
	delay time.Duration
}

func (s holdsLate) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if r.TTL > 0 {
		s.f.Delay(s.delay, true)
		defer s.f.Delay(0, false)
	}
	return s.Store.Put(ctx, name, r, version)
}

func TestARefusalByItsOwnWriteIsASuccess(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		p.faults.Double(true) // each write is refused by its own copy
		lease := take(t, p, "k", time.Minute)
		before := lease.Expiry()
		time.Sleep(time.Second)
		require.NoError(t, lease.Extend(t.Context(), time.Minute))
		require.WithinDuration(t, before.Add(time.Second), lease.Expiry(), 100*time.Millisecond)
		_, err := other.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NoError(t, lease.Release(t.Context()))
		take(t, other, "k", time.Minute)
	})
}

func TestAReleaseWhoseReplyIsLostIsNoLossThoughAnotherHasTheKey(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		lease := take(t, p, "k", time.Minute)
		p.faults.LoseReply(false)
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrUnavailable)
		take(t, other, "k", time.Minute)
		require.NoError(t, lease.Release(t.Context()), "nobody could have had the key but for this release")
	})
}

// The holder of a lease whose shorter extend failed counts on its old Expiry.
func TestAShorterExtendOfUnknownOutcomeLetsNobodyInBeforeTheExpiry(t *testing.T) {
	for name, fault := range map[string]func(f *recordtest.Faults){
		"the reply is lost":     func(f *recordtest.Faults) { f.LoseReply(false) },
		"it never comes":        func(f *recordtest.Faults) { f.LoseReply(true) },
		"it is applied later":   func(f *recordtest.Faults) { f.Delay(5*time.Second, true) },
		"each write goes twice": func(f *recordtest.Faults) { f.Double(true) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *recordtest.Memory) {
				p, other := over(t, m, nil), over(t, m, nil)
				lease := take(t, p, "k", time.Minute)
				time.Sleep(time.Second)
				fault(p.faults)
				_ = lease.Extend(within(t, 2*time.Second), time.Second)
				for {
					_, err := other.TryAcquire(t.Context(), "k", time.Minute)
					if !time.Now().Before(lease.Expiry()) {
						break
					}
					require.ErrorIs(t, err, lock.ErrHeld, "%v before the Expiry", time.Until(lease.Expiry()))
					time.Sleep(100 * time.Millisecond)
				}
			})
		})
	}
}

// A second one may: the lease has ended earlier by then.
func TestTwoShorterExtendsShortenTheHoldInTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		lease := take(t, p, "k", time.Hour)
		for range 2 {
			require.NoError(t, lease.Extend(t.Context(), time.Minute))
			require.WithinDuration(t, time.Now().Add(time.Minute), lease.Expiry(), time.Second)
		}
		time.Sleep(2 * time.Minute)
		take(t, other, "k", time.Minute)
	})
}

func TestAConflictThatIsNoneIsAnOutageAndNoHolder(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		used(t, over(t, m, nil), "k")
		for _, key := range []string{"k", "new"} {
			stuck, err := record.New(refusing{m}, nil)
			require.NoError(t, err)
			defer stuck.Close()
			_, err = stuck.TryAcquire(t.Context(), key, time.Minute)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, lock.ErrHeld)
		}
	})
}

// refusing is a store whose writes always conflict.
type refusing struct{ record.Store }

func (s refusing) Put(context.Context, string, record.Record, string) (string, error) {
	return "", fmt.Errorf("409: %w", record.ErrChanged)
}

func TestAStaleReadEndsNoLease(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p := over(t, m, nil)
		used(t, over(t, m, nil), "k")
		time.Sleep(time.Second)
		lease := take(t, p, "k", time.Minute)
		time.Sleep(time.Second)
		for _, lag := range []time.Duration{1500 * time.Millisecond, time.Hour} { // shows the free record, and none
			p.faults.LoseReply(false)
			require.ErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrUnavailable) // so that it has to look
			p.faults.Stale(lag)
			for range 3 {
				require.NotErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrLost, "with reads %v old", lag)
			}
			p.faults.Stale(0)
			require.NoError(t, lease.Extend(t.Context(), time.Minute))
		}
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestADeletedRecordEndsItsLease(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p := over(t, m, nil)
		lease := take(t, p, "k", time.Minute)
		m.Remove(name(t, "k"))
		require.ErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrLost)
		next := take(t, p, "k", time.Minute)
		require.Greater(t, next.Token(), lease.Token())
	})
}

func TestTokensRiseThoughTheStoresClockWasSetBack(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		m.Skew(24 * time.Hour)
		first := take(t, over(t, m, nil), "k", time.Second)
		m.Skew(0)
		time.Sleep(2 * time.Second)
		require.Greater(t, take(t, over(t, m, nil), "k", time.Second).Token(), first.Token())
	})
}

func TestAnExtendThatWasGivenUpDoesNotReviveAReleasedHold(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		lease := take(t, p, "k", time.Hour)
		p.faults.Delay(time.Second, true)
		require.ErrorIs(t, lease.Extend(within(t, 100*time.Millisecond), time.Hour), context.DeadlineExceeded)
		p.faults.Delay(0, false)
		require.NoError(t, lease.Release(t.Context()))
		time.Sleep(2 * time.Second) // the extend arrives
		take(t, other, "k", time.Minute)
	})
}

func TestEachRequestOfAnAttemptCanBeCut(t *testing.T) {
	for _, usedBefore := range []bool{false, true} {
		for _, applied := range []bool{false, true} {
			for n := 1; n <= 5; n++ {
				bubble(t, func(t *testing.T, m *recordtest.Memory) {
					p, other := over(t, m, nil), over(t, m, nil)
					if usedBefore {
						used(t, other, "k")
					}
					hit := p.faults.CutAt(n, applied)
					lease, err := p.TryAcquire(t.Context(), "k", time.Hour)
					hit()
					if err == nil { // it has fewer requests
						require.NoError(t, lease.Release(t.Context()))
					} else {
						require.ErrorIs(t, err, lock.ErrUnavailable)
					}
					time.Sleep(lock.DefaultReleaseTimeout)
					take(t, other, "k", time.Minute)
				})
			}
		}
	}
}

func TestACleanUpGoesOnWhileTheStoreIsAwayAsLongAsTheHoldCouldLast(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		used(t, other, "k")
		p.faults.LoseReply(true)
		_, err := p.TryAcquire(within(t, time.Second), "k", time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		p.faults.Outage(true)
		time.Sleep(10 * lock.DefaultReleaseTimeout)
		p.faults.Outage(false)
		time.Sleep(time.Second)
		take(t, other, "k", time.Minute)
	})
}

func TestRefusalsAreFinalBeforeTheFirstSuccessAndAnOutageAfterIt(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		forbidden := fmt.Errorf("%w: permission denied for table lockkeeper; grant it", lock.ErrRefused)
		p := over(t, m, nil)
		p.faults.Fail(forbidden)
		_, err := p.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused)
		require.ErrorContains(t, err, "grant it")
		p.faults.Fail(nil)
		lease := take(t, p, "k", time.Minute)
		p.faults.Fail(forbidden)
		err = lease.Extend(t.Context(), time.Minute)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, lock.ErrRefused)
		require.ErrorContains(t, err, "grant it")
		p.faults.Fail(nil)
		require.NoError(t, lease.Extend(t.Context(), time.Minute))
	})
}

func TestAForeignRecordIsNotTakenForFree(t *testing.T) {
	for _, text := range []string{"", "x", `{"v":1}`, `{"v":2,"key":"k"}`, `[]`, `{"v":1,"key":"k","ttl_us":-1}`} {
		_, err := record.Decode([]byte(text))
		require.ErrorIs(t, err, lock.ErrUnavailable, "%q", text)
	}
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		_, err := m.Put(t.Context(), name(t, "k"), record.Record{Key: "other", Token: 1, Term: "x", Seq: 1}, "")
		require.NoError(t, err)
		_, err = over(t, m, nil).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, `"other"`)
	})
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	r := record.Record{
		Key: "é \"k\"", Token: 1<<53 - 1, Term: "t", Holder: "h", TTL: 1500 * time.Microsecond,
		Seq: 7, Beat: 6, Until: time.UnixMilli(1_700_000_000_123), Queue: []string{"a", "b"},
	}
	got, err := record.Decode(r.Encode())
	require.NoError(t, err)
	require.Equal(t, r, got)
	r.TTL = 1 // rounded up: never to 0, which means free
	got, err = record.Decode(r.Encode())
	require.NoError(t, err)
	require.Equal(t, time.Microsecond, got.TTL)
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p := over(t, m, nil)
		held := take(t, p, "held", time.Minute)
		errs := make(chan error)
		go func() {
			_, err := lock.Acquire(context.Background(), p, "held", time.Minute, nil)
			errs <- err
		}()
		time.Sleep(time.Second)
		p.faults.Delay(time.Hour, true)
		go func() { _, err := p.TryAcquire(context.Background(), "k", 2*time.Hour); errs <- err }()
		time.Sleep(time.Second)
		began := time.Now()
		require.NoError(t, p.Close())
		require.LessOrEqual(t, time.Since(began), lock.DefaultReleaseTimeout)
		require.ErrorIs(t, <-errs, lock.ErrClosed)
		require.ErrorIs(t, <-errs, lock.ErrClosed)
		p.faults.Delay(0, false)
		require.ErrorIs(t, held.Extend(t.Context(), time.Minute), lock.ErrClosed)
		require.NoError(t, held.Release(t.Context()))
	})
}

func TestAStoreThatDoesNotAnswerIsUnavailableAlsoWhereCtxHasNoEnd(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p := over(t, m, nil)
		p.faults.Delay(time.Hour, true)
		began := time.Now()
		_, err := p.TryAcquire(context.Background(), "k", time.Minute)
		require.Equal(t, `record: acquire "k": lock: store unavailable: no answer within 5s`, err.Error())
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.Equal(t, 5*time.Second, time.Since(began))
		p.faults.Delay(0, true)
	})
}

func TestErrorsShowWhatTheStoreSaidOnce(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p := over(t, m, nil)
		p.faults.Fail(errors.New("connection refused"))
		_, err := p.TryAcquire(t.Context(), "k", time.Minute)
		require.Equal(t, `record: acquire "k": lock: store unavailable: connection refused`, err.Error())
		require.Equal(t, 1, strings.Count(err.Error(), "refused"))
	})
}
