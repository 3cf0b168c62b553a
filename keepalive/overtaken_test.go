package keepalive

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// handed is a lease whose started extends a test answers by hand, also late.
type handed struct {
	lock.Lease
	done lock.ExtendDone
}

func (h *handed) StartExtend(_, _ time.Duration, done lock.ExtendDone) bool {
	h.done = done
	return true
}

func (h *handed) StopExtend() {}

// A renewal's outcome can reach the keeper after that of an Extend which followed it at the
// store, and which made the lease shorter: the context ends by what the lease has.
func TestARenewalThatIsReportedLateDoesNotMoveTheDeadlineBeyondTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		lease := &handed{Lease: s.lease(ttl)}
		k, err := Start(t.Context(), lease, ttl, &Options{Margin: -1})
		require.NoError(t, err)
		defer k.Release(context.Background())
		time.Sleep(ttl / 2)
		synctest.Wait()
		require.NotNil(t, lease.done, "a renewal is under way")

		require.NoError(t, lease.Extend(t.Context(), ttl)) // what the store made of it
		renewed := lease.Expiry()
		require.NoError(t, k.Extend(t.Context(), time.Second))
		expiry := lease.Expiry()
		require.Less(t, expiry, renewed)
		(*renewing)(k).Extended(renewed, nil)

		<-k.Context().Done()
		require.False(t, time.Now().After(expiry), "%v too late", time.Since(expiry))
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
	})
}
