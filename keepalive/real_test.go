package keepalive_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// A keeper over three real servers, of which its connections get no answers any
// more: its context ends while the servers still have the keys, and nobody else
// gets the lock before.
func TestRealContextOfACutOffKeeperEndsBeforeTheKeys(t *testing.T) {
	for name, cut := range map[string]func(p *redistest.Proxy){
		"requests lost": func(p *redistest.Proxy) { p.Blackhole(true) },
		"replies lost":  func(p *redistest.Proxy) { p.DropReplies(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const (
				testTimeout = 2 * time.Minute
				ttl         = 12 * time.Second
				margin      = 8 * time.Second // without it, the keys would be about to expire
			)
			servers := redistest.StartN(t, 3)
			proxies, near, far := make([]*redistest.Proxy, 3), make([]string, 3), make([]string, 3)
			for i, s := range servers {
				proxies[i] = redistest.NewProxy(t, s.Addr())
				near[i], far[i] = "redis://"+s.Addr(), "redis://"+proxies[i].Addr()
			}
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			dial := func(urls []string) *redlock.Locker {
				l, err := redlock.Dial(ctx, urls, &redlock.Options{RestartGuard: -1, NodeTimeout: time.Second})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, l.Close()) })
				return l
			}
			cutOff, other := dial(far), dial(near)

			lease, err := lock.Acquire(ctx, cutOff, "k", ttl, nil)
			require.NoError(t, err)
			first := lease.Expiry()
			k, err := keepalive.Start(ctx, lease, ttl, &keepalive.Options{Interval: ttl / 8, Margin: margin})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return k.Expiry().After(first) }, testTimeout, time.Millisecond, "a renewal")

			next := make(chan error, 1)
			go func() {
				after, err := lock.Acquire(ctx, other, "k", ttl, nil)
				if err == nil {
					// By the clock, however late a timer is: no test of a busy machine.
					if k.Context().Err() == nil {
						t.Error("the next holder has the lock, and the keeper's context stands")
					}
					if after.Token() <= k.Token() {
						t.Errorf("the next token is %d after %d", after.Token(), k.Token())
					}
					err = after.Release(ctx)
				}
				next <- err
			}()
			for _, p := range proxies {
				cut(p)
			}

			<-k.Context().Done() // that the next holder does not come first is seen above
			for _, s := range servers {
				left, err := strconv.Atoi(s.Do("PTTL", "redlock:k"))
				require.NoError(t, err)
				require.Greater(t, left, int((margin / 6).Milliseconds()))
			}
			require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
			require.NoError(t, ctx.Err())
			require.NoError(t, <-next)
			require.ErrorIs(t, k.Release(ctx), lock.ErrLost)
		})
	}
}
