package record_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestARaiseLeavesTheRecordStandingForAsLongAsTheLease(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		used(t, p, "k")
		for range 3 {
			lease := take(t, p, "k", time.Minute)
			time.Sleep(20 * time.Second)
			expiry := lease.Expiry()
			require.NoError(t, lock.RaiseToken(t.Context(), lease, lease.Token()+1_000_000))
			require.Equal(t, expiry, lease.Expiry())
			e, err := m.Get(t.Context(), name(t, "k"))
			require.NoError(t, err)
			require.Equal(t, lease.Token(), e.Record.Token)
			require.GreaterOrEqual(t, e.Record.TTL, time.Until(expiry))
			time.Sleep(time.Until(expiry) - time.Millisecond)
			_, err = other.TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrHeld)
			time.Sleep(2 * time.Second)
			next := take(t, other, "k", time.Minute)
			require.Greater(t, next.Token(), lease.Token())
			require.NoError(t, next.Release(t.Context()))
		}
	})
}

// Those who wait write into the record, too, also those of a version that knows of no
// raised tokens: what is raised is the token itself.
func TestARaisedTokenStaysWhenOthersWriteTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, &record.Options{HeadStart: time.Second}), over(t, m, &record.Options{HeadStart: time.Second})
		lease := take(t, p, "k", time.Minute)
		require.NoError(t, lock.RaiseToken(t.Context(), lease, lease.Token()+1_000_000))
		done := make(chan lock.Lease)
		go func() {
			next, err := lock.Acquire(t.Context(), other, "k", time.Minute, nil)
			if err != nil {
				t.Error(err)
			}
			done <- next
		}()
		time.Sleep(time.Second)
		require.NoError(t, lock.RaiseToken(t.Context(), lease, lease.Token()+1_000_000))
		require.NoError(t, lease.Extend(t.Context(), time.Minute))
		require.NoError(t, lease.Release(t.Context()))
		next := <-done
		require.Greater(t, next.Token(), lease.Token())
		require.NoError(t, next.Release(t.Context()))
	})
}

// A raise may have been applied without its holder knowing. What that writes next must not
// be an earlier state of the key to those who have seen the larger token.
func TestAReleaseAfterARaiseOfUnknownOutcomeLowersNoCount(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		lease := take(t, p, "k", time.Minute)
		granted := make(chan lock.Lease, 1)
		go func() {
			if next, err := lock.Acquire(t.Context(), other, "k", time.Minute, nil); err == nil {
				granted <- next
			}
		}()
		time.Sleep(time.Second)
		require.NoError(t, lease.Extend(t.Context(), time.Minute)) // over what the waiter has written
		least := lease.Token() + 1<<40
		p.faults.LoseReply(false)
		require.ErrorIs(t, lock.RaiseToken(t.Context(), lease, least), lock.ErrUnavailable)
		e, err := m.Get(t.Context(), name(t, "k"))
		require.NoError(t, err)
		require.Equal(t, least, e.Record.Token, "it was applied")
		time.Sleep(5 * time.Second)
		released := time.Now()
		require.NoError(t, lease.Release(t.Context()))
		next := <-granted
		require.Less(t, time.Since(released), 5*time.Second, "the waiter has seen the release")
		require.Greater(t, next.Token(), least)
		require.NoError(t, next.Release(t.Context()))
	})
}
