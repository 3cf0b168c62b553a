package redlock

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

// silentServer takes connections, and does not answer PING.
func silentServer(t *testing.T) string {
	m := miniredis.RunT(t)
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) }) // before the server waits for its connections
	m.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
		if cmd == "PING" {
			<-ended
		}
		return false
	})
	return "redis://" + m.Addr() + "?write_timeout=1m" // the node timeout comes first
}

func TestDialsErrorTellsTheEndOfCtxFromANodesTimeout(t *testing.T) {
	node := silentServer(t)
	o := &Options{NodeTimeout: 50 * time.Millisecond}

	_, err := Dial(t.Context(), []string{node}, o)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = Dial(ctx, []string{node}, o)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "node "+node[len("redis://"):strings.Index(node, "?")]+": ")

	for _, deadline := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if deadline {
			ctx, cancel = context.WithTimeout(ctx, time.Hour)
			defer cancel()
		}
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err = Dial(ctx, []string{node}, &Options{NodeTimeout: time.Minute})
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestDialsErrorKeepsWhatANodeSaidBeforeItFellSilent(t *testing.T) {
	for said, want := range map[string]string{
		"ERR out of order": "out of order",
		"LOADING Redis is loading the dataset in memory": "LOADING Redis is loading",
	} {
		m := miniredis.RunT(t)
		ended := make(chan struct{})
		end := sync.OnceFunc(func() { close(ended) })
		t.Cleanup(end)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var pings atomic.Int32
		m.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
			if cmd != "PING" {
				return false
			}
			if pings.Add(1) > 1 {
				cancel()
				<-ended
			}
			c.WriteError(said)
			return true
		})
		// Longer than a busy machine needs for the first answer; the second one never comes.
		l, err := Dial(ctx, []string{"redis://" + m.Addr()}, &Options{NodeTimeout: 20 * time.Second, Lazy: true})
		require.NoError(t, err)
		_, err = l.reach(ctx, l.nodes[0], true)
		require.ErrorContains(t, err, want)
		require.Greater(t, pings.Load(), int32(1))
		end()
		require.NoError(t, l.Close())
	}
}

func TestDialsErrorHasAReasonForEachNodeThatDidNotAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := miniredis.RunT(t)
	m.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
		cancel() // before it answers
		<-ctx.Done()
		return false
	})
	_, err := Dial(ctx, []string{"redis://" + m.Addr()}, nil)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
	require.Regexp(t, "want 1: node "+m.Addr()+": .", err)
}

// Nothing needs to be cleaned up at a node that could not be connected to.
func TestARequestWithoutAConnectionWasNeverSent(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)) // nobody listens there
	l, err := Dial(t.Context(), []string{"redis://" + addr}, &Options{Lazy: true})
	require.NoError(t, err)
	h, err := l.newHold(t.Context(), "k", ttl)
	require.NoError(t, err)
	require.ErrorIs(t, h.acquire(t.Context(), ttl), lock.ErrUnavailable)
	require.NoError(t, l.Close())
	h.mu.Lock()
	defer h.mu.Unlock()
	require.False(t, h.slots[0].asked)
	require.False(t, h.slots[0].doubt)
}
