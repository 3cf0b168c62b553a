//go:build unix

package cli

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// A paused lockkeeper can end nothing: its guard does.
func TestRunAPausedLockkeeperDoesNotLetTheCommandOutliveTheLease(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, args([]string{"run", "k", "--ttl=2s"}, family(file))...)
	all := pids(t, file, 2)
	require.NoError(t, p.Process.Signal(syscall.SIGSTOP))
	require.Eventually(t, func() bool { return !alive(all[0]) && !alive(all[1]) }, testTimeout, 5*time.Millisecond)
	require.NoError(t, p.Process.Signal(syscall.SIGCONT))
	require.Equal(t, exitLost, p.Exits(t), &p.Out)
}

func TestRunTheGuardKillsAfterLockkeeperWouldHaveAndBeforeTheLeaseEnds(t *testing.T) {
	expiry := time.Now().Add(time.Hour)
	for _, grace := range []time.Duration{time.Millisecond, 200 * time.Millisecond, 6 * time.Second, time.Hour} {
		lease := lock.NewLease(lock.Grant{
			Key: "k", Token: 1, Expiry: expiry,
			Extend:  func(context.Context, time.Duration) (time.Time, error) { return expiry, nil },
			Release: func(context.Context) error { return nil },
		})
		r := &runner{grace: grace}
		before := expiry.Sub(r.guardTime(lease))
		require.Positive(t, before)
		require.Less(t, before, killTime(grace), grace)
	}
}

// The renewals of more than a ttl move the time that the guard knows.
func TestRunTheGuardLeavesARenewedLeaseAlone(t *testing.T) {
	out, code := do(t, fileURL(t), nil, "run", "k", "--ttl=4s", "--", "sh", "-c", "sleep 6; echo done")
	require.Zero(t, code, out)
	require.Contains(t, out, "done\n")
}

func TestRunASignalThatComesWithTheLeaseIsNotForgotten(t *testing.T) {
	r := &runner{signals: make(chan os.Signal, 1)}
	err := r.untilSignal(t.Context(), func(ctx context.Context) error {
		r.signals <- syscall.SIGTERM
		<-ctx.Done()
		return nil // it was granted all the same
	})
	require.Equal(t, exitSignal+15, codeOf(err))
}

// --wait 30s is 30s for opening the store and for the lock together.
func TestRunWaitBoundsTheWholeCampaign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{wait: 30 * time.Second, began: time.Now()}
		time.Sleep(20 * time.Second) // the store was away
		require.Equal(t, 10*time.Second, r.bounds().Timeout)
		time.Sleep(time.Hour)
		require.Positive(t, r.bounds().Timeout, "none would be for ever")
		require.LessOrEqual(t, r.bounds().Timeout, time.Millisecond)
		r.wait = 0
		require.Zero(t, r.bounds().Timeout)
	})
}
