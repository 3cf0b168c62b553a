package etcd

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// requireServers is set where a missing server is a failure.
const requireServers = "LOCKKEEPER_REQUIRE_SERVERS"

// binary is the server, which make servers builds.
func binary(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err == nil {
		if found, _ := filepath.Glob(filepath.Join(cache, "lockkeeper", "etcd-v*")); len(found) > 0 {
			for _, path := range found {
				if !strings.HasSuffix(path, ".part") {
					return path
				}
			}
		}
	}
	path, err := exec.LookPath("etcd")
	if err != nil {
		if os.Getenv(requireServers) != "" {
			t.Fatal("no etcd server; make servers builds one")
		}
		t.Skip("no etcd server")
	}
	return path
}

// member is one server of a cluster, on loopback.
type member struct {
	name         string
	dir          string
	client, peer string // addresses
	cmd          *exec.Cmd
}

// cluster is one of a test.
type cluster struct {
	t       *testing.T
	members []*member
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// startCluster starts n members and waits for a leader.
func startCluster(t *testing.T, n int) *cluster {
	t.Helper()
	binary(t)
	c := &cluster{t: t}
	for i := range n {
		c.members = append(c.members, &member{name: fmt.Sprint("m", i), dir: filepath.Join(t.TempDir(), fmt.Sprint(i)), client: freeAddr(t), peer: freeAddr(t)})
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			m.kill()
		}
	})
	for _, m := range c.members {
		c.start(m)
	}
	client := c.dial(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		_, err := client.Get(ctx, "ready")
		if err == nil {
			return c
		}
		require.NoError(t, ctx.Err(), "the cluster does not come up: %v", err)
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *cluster) start(m *member) {
	c.t.Helper()
	var initial []string
	for _, m := range c.members {
		initial = append(initial, m.name+"=http://"+m.peer)
	}
	cmd := exec.Command(binary(c.t), "--name", m.name, "--data-dir", m.dir, "--log-level", "error",
		"--listen-client-urls", "http://"+m.client, "--advertise-client-urls", "http://"+m.client,
		"--listen-peer-urls", "http://"+m.peer, "--initial-advertise-peer-urls", "http://"+m.peer,
		"--initial-cluster", strings.Join(initial, ","), "--heartbeat-interval", "50", "--election-timeout", "500")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(c.t, cmd.Start())
	m.cmd = cmd
}

func (m *member) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

func (m *member) signal(sig os.Signal) { _ = m.cmd.Process.Signal(sig) }

func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, "http://"+m.client)
	}
	return all
}

// dial opens a client of all members.
func (c *cluster) dial(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.endpoints(), DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// leader is the member that leads.
func (c *cluster) leader() *member {
	c.t.Helper()
	client := c.dial(c.t)
	for _, m := range c.members {
		if m.cmd == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		s, err := client.Status(ctx, "http://"+m.client)
		cancel()
		if err == nil && s.Leader == s.Header.MemberId {
			return m
		}
	}
	c.t.Fatal("no leader")
	return nil
}
