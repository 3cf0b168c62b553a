package redlock

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
)

// quorum is n nodes and what leads one client to them.
type quorum struct {
	t     *testing.T
	nodes []*fakeNode
}

// testNodeTimeout is the node timeout of the fake quorums, on fake time.
const testNodeTimeout = 200 * time.Millisecond

func newQuorum(t *testing.T, n int) *quorum {
	q := &quorum{t: t}
	for i := range n {
		q.nodes = append(q.nodes, newFakeNode(t, fmt.Sprintf("fake%d:6379", i+1)))
	}
	return q
}

// client connects a Locker of its own, as another process would.
func (q *quorum) client(o *Options) (*Locker, []*network) {
	q.t.Helper()
	return q.clientWith(o, func(*rueidis.ClientOption) {})
}

// pingEvery is how long a connection of rueidis is idle before its PING: never until the moment at
// which a test does something. Its Close can wait for ever if a PING begins at that very moment.
const pingEvery = time.Second + 7*time.Microsecond + 3

// clientWith is client with another setting of the client library.
func (q *quorum) clientWith(o *Options, set func(*rueidis.ClientOption)) (*Locker, []*network) {
	q.t.Helper()
	opts := Options{}
	if o != nil {
		opts = *o
	}
	if opts.NodeTimeout == 0 {
		opts.NodeTimeout = testNodeTimeout
	}
	var clients []rueidis.Client
	var nets []*network
	for _, n := range q.nodes {
		w := &network{node: n}
		option := rueidis.ClientOption{
			InitAddress: []string{n.name}, DialCtxFn: w.dial, ForceSingleClient: true, DisableCache: true,
			DisableRetry: true, ClientSetInfo: rueidis.DisableClientSetInfo, PipelineMultiplex: -1,
			ConnWriteTimeout: 2 * opts.NodeTimeout, Dialer: net.Dialer{Timeout: opts.NodeTimeout, KeepAlive: pingEvery},
		}
		set(&option)
		c, err := rueidis.NewClient(option)
		require.NoError(q.t, err)
		clients, nets = append(clients, c), append(nets, w)
	}
	l, err := New(clients, &opts)
	require.NoError(q.t, err)
	q.t.Cleanup(func() {
		for _, c := range clients {
			c.Close()
		}
		require.NoError(q.t, l.Close())
		for _, w := range nets { // a client that is closed while it dials leaves its connection
			w.set(refuse)
		}
		synctest.Wait()
	})
	return l, nets
}

// bubble runs a test on fake time.
func bubble(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, run)
}
