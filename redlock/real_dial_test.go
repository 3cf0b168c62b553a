package redlock

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

// slowNames makes every name 127.0.0.1, after a while. It is for tests that don't run
// beside others.
func slowNames(t *testing.T, after func() time.Duration) {
	before := net.DefaultResolver
	var mu sync.Mutex // guards closed, and that wg grows only before it is waited for
	var wg sync.WaitGroup
	closed, ended := false, make(chan struct{})
	t.Cleanup(func() { // a look-up that nobody waits for goes on in package net
		net.DefaultResolver = before
		close(ended)
		mu.Lock()
		closed = true
		mu.Unlock()
		wg.Wait()
	})
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		ours, theirs := net.Pipe() // a stream: as over TCP, each message has its length before it
		wg.Go(func() {
			defer theirs.Close()
			for {
				var length [2]byte
				if _, err := io.ReadFull(theirs, length[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(theirs, query); err != nil {
					return
				}
				select {
				case <-time.After(after()):
				case <-ended:
					return
				}
				if _, err := theirs.Write(addressOf(query)); err != nil {
					return
				}
			}
		})
		return ours, nil
	}}
}

// addressOf answers a query: 127.0.0.1 for an address of IPv4, nothing for others.
func addressOf(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	question := query[12 : end+5]
	answers := byte(0)
	if query[end+2] == 1 { // type A
		answers = 1
	}
	message := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0}, question...)
	if answers == 1 {
		message = append(message, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

func TestRealNamesThatAreLookedUpSlowlyTakeNoVoteAway(t *testing.T) {
	var mu sync.Mutex
	delay := 2500 * time.Millisecond
	slowNames(t, func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return delay
	})
	s := redistest.Start(t)
	_, port, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	o := &Options{RestartGuard: -1, NodeTimeout: time.Second} // less than a look-up, more than a busy machine needs
	url := "redis://node.example:" + port
	for _, deadline := range []bool{false, true} {
		ctx := t.Context()
		if deadline {
			ctx = soonAfter(t, 30*time.Second)
		}
		l, err := Dial(ctx, []string{url}, o)
		for try := 0; err != nil && try < 5; try++ { // a machine that stands still is silent
			l, err = Dial(ctx, []string{url}, o)
		}
		require.NoError(t, err)
		lease, err := lock.Acquire(soonAfter(t, 2*time.Minute), l, "k", time.Minute, &lock.AcquireOptions{Attempts: 1000})
		require.NoError(t, err)
		s.Do("CLIENT", "KILL", "TYPE", "normal")
		said := ""
		for end := time.Now().Add(50 * time.Second); time.Now().Before(end); {
			if err = lease.Extend(t.Context(), time.Minute); err == nil {
				break
			}
			require.ErrorIs(t, err, lock.ErrUnavailable)
			said += err.Error() + "\n"
		}
		require.NoError(t, err, "the server is well")
		require.Contains(t, said, "still looking up node.example (DNS)")
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, l.Close())
	}
	mu.Lock()
	delay = time.Minute
	mu.Unlock()
	_, err = Dial(soonAfter(t, 3*time.Second), []string{url}, o)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "still looking up node.example")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A listing asks a Cluster's servers one by one, and takes its time.
func TestRealAClustersServersAreAskedAcrossARenewal(t *testing.T) {
	t.Parallel()
	s := redistest.StartClusterOfOne(t)
	l, err := Dial(soonAfter(t, 30*time.Second), []string{"redis://" + s.Addr() + "?cluster=true"}, &Options{RestartGuard: -1, NodeTimeout: 10 * time.Second})
	require.NoError(t, err)
	defer l.Close()
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	client, err := l.nodes[0].Conn.Client()
	require.NoError(t, err)
	servers := client.Nodes()
	require.Len(t, servers, 1)
	for range 3 {
		require.NoError(t, l.begin(1))
		require.True(t, l.nodes[0].Conn.Renew())
		l.wg.Done()
		for _, c := range servers {
			names, err := c.Do(t.Context(), c.B().Arbitrary("SCAN", "0").Build()).AsScanEntry()
			require.NoError(t, err)
			require.NotEmpty(t, names.Elements)
		}
	}
	require.NoError(t, lease.Extend(t.Context(), time.Minute))
	require.NoError(t, lease.Release(t.Context()))
}

// A name that leads to a primary and its replicas, or to one that is not promoted yet.
func TestRealAReplicaDoesNotTakeAPrimarysPlace(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	replica := redistest.Start(t, "--replicaof", "127.0.0.1", strconv.Itoa(primary.Port()))
	proxy := redistest.NewProxy(t, primary.Addr())
	l, err := Dial(soonAfter(t, 30*time.Second), []string{"redis://" + proxy.Addr()}, &Options{RestartGuard: -1, NodeTimeout: 10 * time.Second})
	require.NoError(t, err)
	defer l.Close()
	renew := func() bool {
		require.NoError(t, l.begin(1))
		defer l.wg.Done()
		return l.nodes[0].Conn.Renew()
	}
	proxy.Target(replica.Addr())
	require.False(t, renew())
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	replica.Do("REPLICAOF", "NO", "ONE")
	require.True(t, renew())
	lease, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.Equal(t, "1", replica.Do("EXISTS", "redlock:k"))
	require.NoError(t, lease.Release(t.Context()))
}
