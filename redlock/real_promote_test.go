package redlock_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/redlock"
)

// endpoint is a name that leads to one server after another; connections that stand stay
// where they are.
type endpoint struct {
	name   string
	server atomic.Pointer[redistest.Server]
}

func (e *endpoint) dial(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	return d.DialContext(ctx, "tcp", e.server.Load().Addr())
}

func byEndpoints(t *testing.T, endpoints []*endpoint, o *redlock.Options) *redlock.Locker {
	t.Helper()
	var clients []rueidis.Client
	for _, e := range endpoints {
		c, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{e.name}, DialCtxFn: e.dial, ForceSingleClient: true, DisableCache: true, DisableRetry: true, ConnWriteTimeout: 5 * time.Second,
			PipelineMultiplex: -1, // one connection: of several, one may be made when the name leads elsewhere
		})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		clients = append(clients, c)
	}
	l, err := redlock.New(clients, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// Two of three endpoints have failed over, and a process that was started before still has
// its connections to the demoted servers. Health used to advise to promote these: that
// makes a second holder, unless all clients have been stopped for the longest ttl, which
// is the condition that it names now.
func TestRealReplicaIsPromotedOnlyAfterAPause(t *testing.T) {
	t.Parallel()
	for name, guard := range map[string]time.Duration{"at the wrong moment": time.Minute, "after the pause": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			demoted, promoted, third := redistest.StartN(t, 2), redistest.StartN(t, 2), redistest.Start(t)
			endpoints := make([]*endpoint, 3)
			for i, s := range append(demoted[:2:2], third) {
				endpoints[i] = &endpoint{name: fmt.Sprintf("endpoint%d:6379", i+1)}
				endpoints[i].server.Store(s)
			}
			o := &redlock.Options{RestartGuard: guard, AssumeDurable: true, NodeTimeout: nodeTimeout}
			old := byEndpoints(t, endpoints, o)
			warm := acquire(t, old, "k", guard) // so that all are connected
			standsOn(t, append(demoted[:2:2], third), "k", 3)
			release(t, warm)
			for i, s := range demoted {
				host, port, _ := strings.Cut(promoted[i].Addr(), ":")
				s.Do("REPLICAOF", host, port)
				eventually(t, "the replica's link", func() bool { return infoField(s, "master_link_status") == "up" })
				endpoints[i].server.Store(promoted[i])
			}
			h, err := dial(t, demoted[:1], o).Health(within(t, testTimeout))
			require.NoError(t, err)
			advice := strings.Join(h.Nodes[0].Warnings, "\n")
			require.Contains(t, advice, "is a replica of "+promoted[0].Addr()+" and can't vote: list its primary in its place")
			require.Contains(t, advice, "only once every client of the locks has been stopped for the longest ttl (Options.RestartGuard)")

			if name == "after the pause" {
				require.NoError(t, old.Close())
				time.Sleep(guard)
				old = byEndpoints(t, endpoints, o) // started again
			}
			for _, s := range demoted {
				s.Do("REPLICAOF", "NO", "ONE")
			}
			first := acquire(t, byEndpoints(t, endpoints, o), "k", guard)
			if name == "after the pause" {
				for time.Until(first.Expiry()) > 0 {
					lease, err := old.TryAcquire(within(t, testTimeout), "k", guard)
					require.True(t, err != nil || !time.Now().Before(first.Expiry()), "a second holder: %v", lease)
				}
				return
			}
			second := acquire(t, old, "k", guard)
			require.True(t, time.Now().Before(first.Expiry()), "two holders at once: what the condition is for")
			require.True(t, time.Now().Before(second.Expiry()))
		})
	}
}
