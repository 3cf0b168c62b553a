package redlock

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
)

// road leads the connections of one node to servers, as a name or a proxy does.
type road struct {
	mu    sync.Mutex
	to    *network
	slow  time.Duration // each connection takes so long to open: a name that is looked up
	drops int           // so many connections end at the first request, as of a server that goes down
	dials int
}

func (r *road) open(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error) {
	r.mu.Lock()
	r.dials++
	to, slow, dropped := r.to, r.slow, r.dials <= r.drops
	r.mu.Unlock()
	if dropped {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Read(make([]byte, 1<<10))
			_ = theirs.Close()
		}()
		return ours, nil
	}
	if slow > 0 {
		httptrace.ContextClientTrace(ctx).DNSStart(httptrace.DNSStartInfo{Host: "node.example"})
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		httptrace.ContextClientTrace(ctx).ConnectStart("tcp", addr)
	}
	return to.dial(ctx, addr, d, conf)
}

func (r *road) set(change func(r *road)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *road) dialed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dials
}

// dialed is a Locker as Dial makes it, before it connects.
func (q *quorum) dialed(o *Options) (*Locker, []*road) {
	q.t.Helper()
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.NodeTimeout == 0 {
		opts.NodeTimeout = testNodeTimeout
	}
	var urls []string
	var roads []*road
	var nets []*network
	var open []nodeconn.OpenFunc
	for _, n := range q.nodes {
		w := &network{node: n}
		r := &road{to: w}
		urls, roads, nets, open = append(urls, "redis://"+n.name), append(roads, r), append(nets, w), append(open, r.open)
	}
	l := undialed(q.t, urls, &opts, open...)
	q.t.Cleanup(func() {
		require.NoError(q.t, l.Close())
		for _, w := range nets {
			w.set(refuse)
		}
		synctest.Wait()
	})
	return l, roads
}

// replica makes a server refuse what writes.
func replica(n *fakeNode) {
	n.redis.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if strings.HasPrefix(cmd, "EVAL") {
			c.WriteError("READONLY You can't write against a read only replica.")
			return true
		}
		return n.hook(c, cmd, args...)
	})
}
