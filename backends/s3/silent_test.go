package s3

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// falling is a listener whose connections can fall silent, as behind a balancer that has
// forgotten them. Later ones work.
type falling struct {
	net.Listener
	mu    sync.Mutex // guards conns
	conns []*fallen
}

type fallen struct {
	net.Conn
	once   sync.Once
	silent chan struct{}
}

func (l *falling) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &fallen{Conn: conn, silent: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *falling) fall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.once.Do(func() { close(c.silent) })
	}
}

func (c *fallen) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		select {
		case <-c.silent:
			if err != nil {
				return 0, err // the other end has closed it
			}
		default:
			return n, err
		}
	}
}

func (c *fallen) Write(b []byte) (int, error) {
	select {
	case <-c.silent:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

// Over HTTP/2 all requests share one connection, which nobody leaves while it is silent.
func TestAConnectionThatFellSilentIsLeftWithTheRequestThatWaitedForIt(t *testing.T) {
	f := newFake()
	server := httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	ln := &falling{Listener: server.Listener}
	server.Listener, server.EnableHTTP2 = ln, true
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))

	// A balancer that has both is asked for HTTP/1.
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	require.Equal(t, "h2", conn.ConnectionState().NegotiatedProtocol)
	require.NoError(t, conn.Close())

	asUser(t, storetest.RootUser, storetest.Password)
	l := opened(t, "//"+storetest.Bucket+"?endpoint="+server.URL+"&tls-ca="+ca)
	lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	ln.fall()
	require.ErrorIs(t, lease.Extend(t.Context(), time.Hour), lock.ErrUnavailable, "it takes the time of a request to notice")
	require.NoError(t, lease.Extend(t.Context(), time.Hour), "the next one is made on another connection")
	require.NoError(t, lease.Release(t.Context()))
}
