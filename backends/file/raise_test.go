//go:build linux || darwin || freebsd

package file

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// A raise whose write failed leaves it open which token the record has. Whatever it is, the
// term is its own, and that of another is not.
func TestARaiseOfUnknownOutcomeLosesNothingAndTakesNothing(t *testing.T) {
	for name, written := range map[string]bool{"ItWasWritten": true, "ItWasNot": false} {
		t.Run(name, func(t *testing.T) {
			l := newLocker(t, t.TempDir(), nil)
			lease := acquire(t, l, "k", time.Minute)
			f, r, err := (&term{l: l}).own(t.Context(), "k", lease.Token())
			require.NoError(t, err)
			mine := &term{l: l, since: r.Since, raised: r.Token + 100}
			if written {
				r.Token = mine.raised
				require.NoError(t, f.write(&r))
			}
			f.close()
			_, err = mine.ExtendTerm(t.Context(), "k", lease.Token(), time.Minute)
			require.NoError(t, err)
			require.NoError(t, mine.ReleaseTerm(t.Context(), "k", lease.Token()))
			require.NoError(t, mine.ReleaseTerm(t.Context(), "k", lease.Token()), "as one that is repeated")

			// Another's term with the very token that was asked for.
			other := acquire(t, newLocker(t, l.dir, nil), "k", time.Minute)
			if other.Token() < mine.raised {
				require.NoError(t, lock.RaiseToken(t.Context(), other, mine.raised))
			}
			mine.raised = other.Token()
			_, err = mine.ExtendTerm(t.Context(), "k", lease.Token(), time.Minute)
			require.ErrorIs(t, err, lock.ErrLost)
			require.ErrorIs(t, mine.ReleaseTerm(t.Context(), "k", lease.Token()), lock.ErrLost)
			_, err = mine.RaiseTermToken(t.Context(), "k", lease.Token(), mine.raised+1)
			require.ErrorIs(t, err, lock.ErrLost)
			require.NoError(t, other.Extend(t.Context(), time.Minute))
			require.NoError(t, other.Release(t.Context()))
		})
	}
}

// After a crash of the machine counting goes on above what was reserved on the disk.
func TestARaisedTokenIsReservedOnTheDisk(t *testing.T) {
	for _, by := range []uint64{1, reserve - 1, reserve, 10 * reserve} {
		dir := t.TempDir()
		l := newLocker(t, dir, nil)
		lease := acquire(t, l, "k", time.Minute)
		require.NoError(t, lock.RaiseToken(context.Background(), lease, lease.Token()+by))
		next := newLocker(t, dir, nil)
		next.boot = "another"
		later := acquire(t, next, "k", time.Minute)
		require.Greater(t, later.Token(), lease.Token(), by)
	}
}
