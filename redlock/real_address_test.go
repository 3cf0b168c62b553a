package redlock_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/redlock"
)

// A lease is taken, renewed, waited for and handed over on three servers that listen
// where no test's own connection goes.
func handOver(t *testing.T, servers []*redistest.Server, urls []string) {
	t.Helper()
	held := acquire(t, dialURLs(t, urls, throwaway()), "k", longTTL)
	require.NoError(t, extend(t, held, longTTL))
	l := dialURLs(t, urls, throwaway())
	wait := waiting(t, servers, l, "k") // nothing but a notification wakes it
	release(t, held)
	lease := wait()
	require.Greater(t, lease.Token(), held.Token())
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	for _, n := range h.Nodes {
		require.NoError(t, n.Err, n.Name)
	}
	release(t, lease)
}

func TestRealUnixSockets(t *testing.T) {
	t.Parallel()
	var servers []*redistest.Server
	var urls []string
	for range 3 {
		path := filepath.Join(os.TempDir(), "lockkeeper-"+rand.Text()[:8]+".sock")
		s := redistest.Start(t, "--unixsocket", path, "--unixsocketperm", "700", "--requirepass", "right")
		servers, urls = append(servers, s), append(urls, "unix://:right@"+path)
	}
	_, err := redlock.Dial(t.Context(), []string{"unix:///nowhere/redis.sock"}, throwaway())
	require.ErrorContains(t, err, "node unix:/nowhere/redis.sock: ")
	require.ErrorContains(t, err, "no such file")
	handOver(t, servers, urls)
}

func TestRealIPv6(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6 loopback: %v", err)
	}
	ln.Close()
	var servers []*redistest.Server
	var urls []string
	for range 3 {
		s := redistest.Start(t, "--bind", "127.0.0.1", "::1")
		servers, urls = append(servers, s), append(urls, fmt.Sprintf("redis://[::1]:%d", s.Port()))
	}
	handOver(t, servers, urls)

	servers[0].Kill()
	_, err = redlock.Dial(t.Context(), urls[:1], throwaway())
	require.ErrorContains(t, err, fmt.Sprintf("node [::1]:%d: ", servers[0].Port()))
}
