package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// Nats is a server of NATS with JetStream, or a cluster of them, on loopback.
type Nats struct {
	t       testing.TB
	Members []*NatsMember
}

// NatsMember is one server of it.
type NatsMember struct {
	*Server
	monitor int // port of its HTTP
	routes  int // port for the other servers
	// links are the ways to and from the other members, each of which dials through one.
	links []*redistest.Proxy

	cfg  NatsConfig
	dial []string // the other members, as this one dials them
}

// NatsConfig is what the servers have beside the defaults.
type NatsConfig struct {
	// SyncInterval is JetStream's: "always", or "" for the server's default of 2m.
	SyncInterval string
	// Domain is JetStream's.
	Domain string
	// Extra is appended to each server's configuration: accounts, TLS.
	Extra string
	// Dir is where one server keeps its data. Defaults to a directory of the test.
	Dir string
}

// natsProgram is the server, which make servers builds.
func natsProgram(t testing.TB) string {
	t.Helper()
	if cache, err := os.UserCacheDir(); err == nil {
		found, _ := filepath.Glob(filepath.Join(cache, "lockkeeper", "nats-server-v*.*.*"))
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
				return path
			}
		}
	}
	path, err := exec.LookPath("nats-server")
	if err != nil {
		missing(t, "nats-server")
	}
	return path
}

// NatsVersion is "nats-server: v2.15.3"; it skips or fails a test without the server.
func NatsVersion(t testing.TB) string {
	t.Helper()
	return versionOf(natsProgram(t))
}

// StartNats starts n servers and waits until JetStream works in all of them.
func StartNats(t testing.TB, n int, cfg NatsConfig) *Nats {
	t.Helper()
	program := natsProgram(t)
	c := &Nats{t: t}
	for i := range n {
		c.Members = append(c.Members, &NatsMember{
			Server: newServer(t, fmt.Sprint("n", i)), monitor: redistest.FreePort(t), routes: redistest.FreePort(t),
		})
	}
	for _, m := range c.Members {
		m.cfg = cfg
		for _, other := range c.Members {
			if other != m {
				link := redistest.NewProxy(t, fmt.Sprint("127.0.0.1:", other.routes))
				m.links, other.links = append(m.links, link), append(other.links, link)
				m.dial = append(m.dial, "nats-route://"+link.Addr())
			}
		}
		m.Configure(cfg.Extra)
		m.command = func() *exec.Cmd { return exec.Command(program, "-c", m.config()) }
		m.ready = m.accepts // JetStream would need the others
		m.Restart()
	}
	for _, m := range c.Members {
		for deadline := time.Now().Add(upTimeout); !m.healthy(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("storetest: JetStream of %s does not work after %v: %s", m.name, upTimeout, m.logTail())
			}
		}
	}
	return c
}

func (m *NatsMember) config() string { return filepath.Join(m.dir, "nats.conf") }

// Configure writes the server's configuration, with this in place of NatsConfig.Extra, for
// the next start.
func (m *NatsMember) Configure(extra string) {
	m.t.Helper()
	var b strings.Builder
	dir := m.cfg.Dir
	if dir == "" {
		dir = filepath.Join(m.dir, "data")
	}
	fmt.Fprintf(&b, "server_name: %s\nlisten: %q\nhttp: \"127.0.0.1:%d\"\n", m.name, m.Addr(), m.monitor)
	fmt.Fprintf(&b, "jetstream { store_dir: %q, max_memory_store: 64MB, max_file_store: 1GB", dir)
	if m.cfg.SyncInterval != "" {
		fmt.Fprintf(&b, ", sync_interval: %s", m.cfg.SyncInterval)
	}
	if m.cfg.Domain != "" {
		fmt.Fprintf(&b, ", domain: %s", m.cfg.Domain)
	}
	b.WriteString(" }\n")
	if len(m.dial) > 0 {
		// What is advertised leads nowhere: the others come by their own links alone.
		fmt.Fprintf(&b, "cluster { name: test, listen: \"127.0.0.1:%d\", cluster_advertise: \"127.0.0.1:1\", no_advertise: true, pool_size: -1, routes: [%s] }\n",
			m.routes, strings.Join(m.dial, ", "))
	}
	b.WriteString(extra)
	if err := os.WriteFile(m.config(), []byte(b.String()), 0o600); err != nil {
		m.t.Fatalf("storetest: %v", err)
	}
}

// Cut parts the member from the others while on, in both directions. When it is switched
// off, the connections are made anew. Clients reach it all the time.
func (m *NatsMember) Cut(on bool) {
	for _, link := range m.links {
		link.Blackhole(on)
		if !on {
			link.Reset() // so that what a lost byte made silent is dialed again
		}
	}
}

// healthy reports whether JetStream works.
func (m *NatsMember) healthy() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := m.get(ctx, "/healthz")
	return err == nil
}

// get asks the server's monitoring.
func (m *NatsMember) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", m.monitor, path), nil)
	if err != nil {
		return nil, err
	}
	return textOf(request)
}

// Addrs are the servers' host:port for clients.
func (c *Nats) Addrs() []string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.Addr())
	}
	return all
}

// Leader is the member that leads a stream, by what the members that run say of it.
func (c *Nats) Leader(stream string) *NatsMember {
	c.t.Helper()
	for deadline := time.Now().Add(upTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, m := range c.Members {
			if m.leads(stream) {
				return m
			}
		}
	}
	c.t.Fatalf("storetest: no server leads the stream %s", stream)
	return nil
}

func (m *NatsMember) leads(stream string) bool {
	if !m.Running() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	text, err := m.get(ctx, "/jsz?accounts=true&streams=true")
	if err != nil {
		return false
	}
	var s struct {
		Accounts []struct {
			Streams []struct {
				Name    string
				Cluster struct{ Leader string }
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if json.Unmarshal(text, &s) != nil {
		return false
	}
	for _, account := range s.Accounts {
		for _, x := range account.Streams {
			if x.Name == stream && x.Cluster.Leader == m.name {
				return true
			}
		}
	}
	return false
}
