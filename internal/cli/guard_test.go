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
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// A paused lockkeeper can end nothing: its guard does.
func TestRunAPausedLockkeeperDoesNotLetTheCommandOutliveTheLease(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, args([]string{"run", "k", "--ttl=6s"}, family(file))...)
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
	out, code := do(t, fileURL(t), nil, "run", "k", "--ttl=8s", "--", "sh", "-c", "sleep 10; echo done")
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

// A wait that is shorter than the store's answer ends as another one: by who has the lock.
func TestRunWaitIsNeverTooShortForTheStoresAnswer(t *testing.T) {
	const key = "k"
	for name, set := range map[string]func(r *runner){
		"Plain":     func(r *runner) { r.slots = 1 },
		"Slots":     func(r *runner) { r.slots = 2 },
		"Shared":    func(r *runner) { r.shared, r.slots = true, 16 },
		"Exclusive": func(r *runner) { r.exclusive, r.slots = true, 1 },
	} {
		take := func(l lock.Locker) (*runner, lock.Locker) {
			r := &runner{a: &app{}, quiet: true, key: key, ttl: time.Minute, wait: 5 * time.Millisecond, began: time.Now()}
			set(r)
			l, err := r.sharing(l)
			require.NoError(t, err)
			return r, l
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				slow := store.Client("slow")
				slow.Delay(20 * time.Millisecond)

				r, l := take(slow)
				lease, err := r.stand(t.Context(), l)
				require.NoError(t, err, "it is free")
				require.NoError(t, lease.Release(t.Context()))

				var held []lock.Lease
				for _, name := range []string{key, key + ";slot=2"} {
					lease, err := store.TryAcquire(t.Context(), name, time.Hour)
					require.NoError(t, err)
					held = append(held, lease)
				}
				for _, wait := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 2 * time.Second} {
					r, l = take(slow)
					r.wait = wait
					_, err = r.stand(t.Context(), l)
					require.ErrorIs(t, err, lock.ErrHeld, wait)
					require.Equal(t, exitHeld, codeOf(r.bounded(err)), wait)
					require.Less(t, time.Since(r.began), wait+answerTime)
				}

				// It is freed while the rest of the wait goes on.
				slow.Delay(time.Millisecond)
				r, l = take(slow)
				r.wait = 500 * time.Millisecond
				time.AfterFunc(300*time.Millisecond, func() {
					for _, lease := range held {
						_ = lease.Release(context.Background())
					}
				})
				lease, err = r.stand(t.Context(), l)
				require.NoError(t, err)
				require.NoError(t, lease.Release(t.Context()))

				slow.Delay(time.Hour)
				r, l = take(slow)
				_, err = r.stand(t.Context(), l)
				require.Equal(t, exitUnavailable, codeOf(r.bounded(err)), "%v", err)
				require.LessOrEqual(t, time.Since(r.began), answerTime)
				slow.Delay(0)
				slow.FailNext(-1, nil)
				r, l = take(slow)
				_, err = r.stand(t.Context(), l)
				require.Equal(t, exitUnavailable, codeOf(r.bounded(err)), "%v", err)
			})
		})
	}
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
