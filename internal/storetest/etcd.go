package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// Etcd is a cluster on loopback.
type Etcd struct {
	t       testing.TB
	Members []*Member
}

// Member is one server of it.
type Member struct {
	*Server
	peer    int // port
	inbound *redistest.Proxy
}

// Inbound is what the other members' connections to this one pass through.
func (m *Member) Inbound() *redistest.Proxy { return m.inbound }

// etcdProgram is the server, which make servers builds.
func etcdProgram(t testing.TB) string {
	t.Helper()
	if path, ok := built("etcd"); ok {
		return path
	}
	path, err := exec.LookPath("etcd")
	if err != nil {
		missing(t, "etcd server")
	}
	return path
}

// EtcdVersion is "etcd Version: 3.6.1"; it skips or fails a test without etcd.
func EtcdVersion(t testing.TB) string {
	t.Helper()
	return versionOf(etcdProgram(t))
}

// StartEtcd starts n members and waits until each answers with a quorum.
func StartEtcd(t testing.TB, n int) *Etcd {
	t.Helper()
	program := etcdProgram(t)
	c := &Etcd{t: t}
	var initial []string
	for i := range n {
		m := &Member{Server: newServer(t, fmt.Sprint("m", i)), peer: redistest.FreePort(t)}
		m.inbound = redistest.NewProxy(t, fmt.Sprint("127.0.0.1:", m.peer))
		m.ready = m.accepts // more would need the others
		c.Members = append(c.Members, m)
		initial = append(initial, m.name+"=http://"+m.inbound.Addr())
	}
	for _, m := range c.Members {
		m.command = func() *exec.Cmd {
			return exec.Command(program, "--name", m.name, "--data-dir", filepath.Join(m.dir, "data"), "--log-level", "error",
				"--listen-client-urls", "http://"+m.Addr(), "--advertise-client-urls", "http://"+m.Addr(),
				"--listen-peer-urls", fmt.Sprint("http://127.0.0.1:", m.peer), "--initial-advertise-peer-urls", "http://"+m.inbound.Addr(),
				"--initial-cluster", strings.Join(initial, ","), "--heartbeat-interval", "50", "--election-timeout", "500")
		}
		m.Restart()
	}
	for _, m := range c.Members {
		for deadline := time.Now().Add(upTimeout); !m.healthy(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("storetest: the cluster is not there after %v: %s", upTimeout, m.logTail())
			}
		}
	}
	return c
}

// StartEtcdTLS starts one member that takes clients by TLS alone, and only those whose
// certificates are of a. It may not have a leader yet when it returns.
func StartEtcdTLS(t testing.TB, a *Authority) *Member {
	t.Helper()
	a.Issue(t, Certificate{Name: "etcd"})
	program := etcdProgram(t)
	m := &Member{Server: newServer(t, "tls"), peer: redistest.FreePort(t)}
	peer := fmt.Sprint("http://127.0.0.1:", m.peer)
	m.command = func() *exec.Cmd {
		return exec.Command(program, "--name", m.name, "--data-dir", filepath.Join(m.dir, "data"), "--log-level", "error",
			"--listen-client-urls", "https://"+m.Addr(), "--advertise-client-urls", "https://"+m.Addr(),
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", m.name+"="+peer,
			"--cert-file", a.File("etcd.crt"), "--key-file", a.File("etcd.key"), "--trusted-ca-file", a.File("ca.crt"), "--client-cert-auth")
	}
	m.ready = m.accepts
	m.Restart()
	return m
}

// healthy reports whether the member reaches a quorum.
func (m *Member) healthy() bool {
	text, err := m.ask(http.MethodGet, "/health", "")
	return err == nil && bytes.Contains(text, []byte(`"health":"true"`))
}

// Post asks the member something over its HTTP gateway, in JSON, and returns the answer. An
// error of etcd's is one.
func (m *Member) Post(path, body string) ([]byte, error) { return m.ask(http.MethodPost, path, body) }

func (m *Member) ask(method, path, body string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+m.Addr()+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	return textOf(request)
}

// textOf sends a request to a server's own interface, on a connection of its own, and
// returns the text of its answer. A status other than 200 is an error.
func textOf(request *http.Request) ([]byte, error) {
	request.Close = true
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", request.URL.RequestURI(), reply.Status, text)
	}
	return text, err
}

// Endpoints are the members' client URLs.
func (c *Etcd) Endpoints() []string {
	var all []string
	for _, m := range c.Members {
		all = append(all, "http://"+m.Addr())
	}
	return all
}

// Leader is the member that leads.
func (c *Etcd) Leader() *Member {
	c.t.Helper()
	for deadline := time.Now().Add(upTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, m := range c.Members {
			if m.leads() {
				return m
			}
		}
	}
	c.t.Fatal("storetest: no member of the cluster leads")
	return nil
}

func (m *Member) leads() bool {
	if !m.Running() {
		return false
	}
	text, err := m.Post("/v3/maintenance/status", "{}")
	if err != nil {
		return false
	}
	var s struct {
		Header struct {
			MemberID string `json:"member_id"`
		}
		Leader string
	}
	return json.Unmarshal(text, &s) == nil && s.Leader != "" && s.Leader == s.Header.MemberID
}
