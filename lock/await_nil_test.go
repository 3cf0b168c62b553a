package lock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// TestAWaitMayHaveNobodyWhoWantsToKnowOfRefusals is so wherever the wait has to wait.
func TestAWaitMayHaveNobodyWhoWantsToKnowOfRefusals(t *testing.T) {
	for name, g := range grantors {
		for _, names := range g.waitFor {
			bubble(name+"/"+names[0], t, func(t *testing.T) {
				base := memory.New()
				var held []lock.Lease
				for _, name := range names {
					lease, err := base.TryAcquire(t.Context(), name, time.Hour)
					require.NoError(t, err)
					held = append(held, lease)
				}
				awaiter, ok := lock.As[lock.Awaiter](g.decorate(base))
				require.True(t, ok)
				granted := make(chan error, 1)
				go func() {
					lease, err := awaiter.Await(context.WithoutCancel(t.Context()), "k", time.Minute, nil)
					if err == nil {
						err = lease.Release(context.Background())
					}
					granted <- err
				}()
				synctest.Wait()
				require.Empty(t, granted)
				for _, lease := range held {
					require.NoError(t, lease.Release(t.Context()))
				}
				require.NoError(t, <-granted)
			})
		}
	}
}
