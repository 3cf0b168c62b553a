package redlock

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	serverinfo "github.com/tonsurance/lockkeeper/redlock/internal/server"
)

// Whole quorums on fake time: miniredis nodes behind in-memory connections that
// lose and delay what they carry.

// fakeNode is a server whose run, uptime and network a test controls.
type fakeNode struct {
	redis *miniredis.Miniredis
	name  string

	mu      sync.Mutex
	info    bool   // it reports its run and uptime
	server  string // its run ids begin with it
	run     int
	started time.Time
	config  map[string]string
	stats   string        // lines of INFO commandstats
	skew    time.Duration // what TIME reports is off by this
	forbids string        // a request with this in a key's name is refused
	refuses string        // the error that votes get; releases find nothing
	calls   []string      // the scripts and commands that came, by name
}

func newFakeNode(t *testing.T, name string) *fakeNode {
	n := &fakeNode{redis: miniredis.NewMiniRedis(), name: name, started: time.Now()}
	n.redis.ClockTTL(true)
	conn, err := n.redis.Dial() // starts the server
	require.NoError(t, err)
	answer := make([]byte, 256)
	for _, s := range script.All() {
		_, err := fmt.Fprintf(conn, "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%d\r\n%s\r\n", len(s.Source), s.Source)
		require.NoError(t, err)
		_, err = conn.Read(answer) // so that each request is one round trip
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close())
	n.redis.Server().SetPreHook(n.hook)
	t.Cleanup(n.redis.Close)
	return n
}

// scriptNames are the scripts' names by their hashes.
var scriptNames = func() map[string]string {
	names := map[string]string{}
	for _, s := range script.All() {
		names[s.SHA] = s.Name
	}
	return names
}()

// hook answers INFO server and CONFIG GET, which miniredis does not.
func (n *fakeNode) hook(c *server.Peer, cmd string, args ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case cmd == "EVALSHA":
		n.calls = append(n.calls, scriptNames[args[0]])
		if n.refuses != "" && scriptNames[args[0]] != "release" {
			c.WriteError(n.refuses)
			return true
		}
		if scriptNames[args[0]] == "batch" {
			n.calls = append(n.calls, batched(args)...)
		}
		if n.forbids != "" && slices.ContainsFunc(args[2:], func(arg string) bool { return strings.Contains(arg, n.forbids) }) {
			c.WriteError("NOPERM No permissions to access a key")
			return true
		}
	case cmd == "HELLO" && len(args) == 0: // which protocol is it?
		c.WriteMapLen(1)
		c.WriteBulk("proto")
		c.WriteInt(3)
		return true
	case cmd == "INFO" && n.info && len(args) == 1 && (args[0] == "server" || args[0] == serverinfo.AllInfo && n.config != nil):
		uptime := int(time.Since(n.started) / time.Second)
		text := fmt.Sprintf("# Server\r\nrun_id:%srun%d\r\nuptime_in_seconds:%d\r\n", n.server, n.run, uptime)
		if args[0] == serverinfo.AllInfo {
			text += "role:master\r\nmaster_replid2:0000\r\naof_last_rewrite_time_sec:-1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n" +
				"cmdstat_config|get:calls=3,usec=1\r\n" + n.stats
		}
		c.WriteBulk(text)
		return true
	case cmd == "TIME" && n.skew != 0:
		now := time.Now().Add(n.skew).UnixMicro()
		c.WriteLen(2)
		c.WriteBulk(strconv.FormatInt(now/1e6, 10))
		c.WriteBulk(strconv.FormatInt(now%1e6, 10))
		return true
	case cmd == "CONFIG" && n.config != nil && len(args) == 2:
		c.WriteMapLen(1)
		c.WriteBulk(args[1])
		c.WriteBulk(n.config[args[1]])
		return true
	}
	return false
}

// batched names the scripts in a batch.
func batched(args []string) (names []string) {
	keys, _ := strconv.Atoi(args[1])
	for rest := args[2+keys:]; len(rest) > 0; {
		names = append(names, rest[0])
		count, _ := strconv.Atoi(rest[1])
		rest = rest[2+count:]
	}
	return names
}

// guarded makes the node report its run, as if it had been up for uptime.
func (n *fakeNode) guarded(uptime time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.info, n.started = true, time.Now().Add(-uptime)
}

// restart is a kill -9 and a start: a new run, and nothing remembered if empty.
func (n *fakeNode) restart(empty bool) {
	n.mu.Lock()
	n.info, n.run, n.started = true, n.run+1, time.Now()
	n.mu.Unlock()
	if empty {
		n.redis.FlushAll()
	}
}

// durable makes the node show that it is, and has been since it started.
func (n *fakeNode) durable() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.config = map[string]string{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
}

func (n *fakeNode) seen(script string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, call := range n.calls {
		if call == script {
			count++
		}
	}
	return count
}

// value is what a node has for key; "" is nothing.
func (n *fakeNode) value(key string) string {
	v, _ := n.redis.Get("redlock:" + key)
	return v
}

func (n *fakeNode) count(key string) string {
	k, _ := script.NewKeys("redlock:", key)
	return n.redis.HGet(k.Fence, "count")
}
