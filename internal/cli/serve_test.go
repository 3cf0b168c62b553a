//go:build unix

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

func startServe(t *testing.T, url string, env []string, args ...string) (p *programtest.Program, address string) {
	t.Helper()
	p = start(t, url, env, append([]string{"serve", "--listen=127.0.0.1:0"}, args...)...)
	return p, strings.TrimSuffix(p.Finds(t, `serving on (\S+)\s`)[1], "/")
}

func fetch(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	r, err := client.Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode, string(text))
	return string(text)
}

// eventually waits until a page has a text.
func eventually(t *testing.T, url, text string) {
	t.Helper()
	last := ""
	require.Eventually(t, func() bool {
		last = fetch(t, http.DefaultClient, url)
		return strings.Contains(last, text)
	}, testTimeout, 20*time.Millisecond, "%s never had %q: %s", url, text, &last)
}

func TestServeShowsWhatTheOtherCommandsShow(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		holder(t, url, nil, "tenant:k")
		p, at := startServe(t, url, nil)
		eventually(t, at+"/lock?key=tenant:k", "Time left")
		for path, command := range map[string][]string{"/api/locks": {"list", "-o", "json"}, "/api/locks?key=tenant:k": {"list", "-o", "json"}} {
			var here, there []inspect.KeyJSON
			out, code := do(t, url, nil, command...)
			require.Zero(t, code, out)
			require.NoError(t, json.Unmarshal([]byte(out), &there))
			require.NoError(t, json.Unmarshal([]byte(fetch(t, http.DefaultClient, at+path)), &here))
			require.Len(t, here, 1)
			require.Equal(t, there[0].Key, here[0].Key)
			require.Equal(t, there[0].Holder, here[0].Holder)
			require.Equal(t, there[0].Token, here[0].Token)
			require.Equal(t, len(there[0].Nodes), len(here[0].Nodes))
		}
		eventually(t, at+"/api/health", `"status": "healthy"`)
		eventually(t, at+"/api/events", `"event": "holds"`)
		eventually(t, at+"/metrics", `lockkeeper_locks{state="held"} 1`)
		eventually(t, at+"/", "tenant:k")
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		require.Zero(t, p.Exits(t), &p.Out)

		p, at = startServe(t, url, nil, "other:")
		eventually(t, at+"/", "No lock is held")
		r, err := http.Get(at + "/lock?key=tenant:k")
		require.NoError(t, err)
		_ = r.Body.Close()
		require.Equal(t, http.StatusBadRequest, r.StatusCode, "what it does not ask for is not known")
		require.NoError(t, p.Process.Signal(syscall.SIGINT))
		require.Zero(t, p.Exits(t), &p.Out)
	})
}

func TestServeOnASocketThatItsUserAloneReaches(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.sock")
	p := start(t, fileURL(t), nil, "serve", "--listen=unix:"+path)
	p.Sees(t, "serving on unix:"+path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	require.Contains(t, fetch(t, client, "http://any.name/"), "lockkeeper")
	client.CloseIdleConnections()
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.Exits(t), &p.Out)
	require.NoFileExists(t, path)
}

func TestServeRefusesWhatOtherMachinesReachAndOtherMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen=0.0.0.0:0"}, "other machines reach"}, {[]string{"--listen=:4041"}, "other machines reach"},
		{[]string{"--listen=[::]:0"}, "--allow-remote"}, {[]string{"--listen=localhost"}, "want host:port"}, {[]string{"--listen=example.com:80"}, "want an address or localhost"},
		{[]string{"--listen=unix:"}, "the path of a socket"}, {[]string{"--allow-host=a:80"}, "want a host's name"}, {[]string{"--interval=1ms"}, "want 100ms or more"},
		{[]string{"a", "b"}, "want: lockkeeper serve [PREFIX]"},
	} {
		out, code := do(t, fileURL(t), nil, append([]string{"serve"}, c.args...)...)
		require.Equal(t, exitUsage, code, c.args)
		require.Contains(t, out, c.want, c.args)
	}
	out, code := do(t, "file:///nowhere/at/all", nil, "serve", "--listen=127.0.0.1:0")
	require.Equal(t, exitUsage, code, out)
	require.Contains(t, out, "no such directory")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	out, code = do(t, fileURL(t), nil, "serve", "--listen="+taken.Addr().String())
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "address already in use")
}

func TestServeShowsAStoreThatIsAwayAndThatItIsBack(t *testing.T) {
	server := redistest.Start(t, durable...)
	server.Kill()
	_, at := startServe(t, "redlock://"+server.Addr(), nil)
	eventually(t, at+"/", "The store does not say who holds what")
	eventually(t, at+"/metrics", "lockkeeper_store_available 0")
	server.Restart(false)
	eventually(t, at+"/", "No lock is held")
	eventually(t, at+"/api", `"available": true`)
}

func TestServeShowsNoPassword(t *testing.T) {
	const secret = "s3cret-word"
	for _, env := range []string{"REDIS_NODES=redis://keeper:" + secret + "@127.0.0.1:1", "LOCKKEEPER_URL=redlock://keeper:" + secret + "@127.0.0.1:1"} {
		p := start(t, "", []string{env}, "serve", "--listen=127.0.0.1:0")
		at := strings.TrimSuffix(p.Finds(t, `serving on (\S+)\s`)[1], "/")
		eventually(t, at+"/", "The store does not say who holds what")
		for _, path := range []string{"/", "/lock?key=k", "/api", "/metrics"} {
			text := fetch(t, http.DefaultClient, at+path)
			require.NotContains(t, text, secret, path)
			require.NotContains(t, text, "keeper:", path)
		}
		require.Contains(t, fetch(t, http.DefaultClient, at+"/"), "127.0.0.1:1")
		require.NotContains(t, p.Out.String(), secret)
	}
}

// switched is a store that can be out of reach for who looks, too.
type switched struct {
	*memory.Locker
	away bool
}

func (s *switched) err() error {
	if s.away {
		return fmt.Errorf("memory: list: %w: connection refused", lock.ErrUnavailable)
	}
	return nil
}

func (s *switched) Inspect(ctx context.Context, key string) (lock.Info, error) {
	if err := s.err(); err != nil {
		return lock.Info{}, err
	}
	return s.Locker.Inspect(ctx, key)
}

func (s *switched) List(ctx context.Context, prefix string) iter.Seq2[lock.Info, error] {
	if err := s.err(); err != nil {
		return func(yield func(lock.Info, error) bool) { yield(lock.Info{}, err) }
	}
	return s.Locker.List(ctx, prefix)
}

func (s *switched) Health(ctx context.Context) (lock.Health, error) {
	if err := s.err(); err != nil {
		return lock.Health{}, err
	}
	return s.Locker.Health(ctx)
}

// What the page shows is what watch sees, and what nobody holds besides.
func TestThePagesSourceIsWhatWatchSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &switched{Locker: memory.New()}
		a := &app{out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }}
		s := newSource(a, "mine:", &opener{open: func(context.Context) (lock.Locker, error) { return store, nil }})
		lease, err := store.Client("a").TryAcquire(t.Context(), "mine:k", time.Minute)
		require.NoError(t, err)
		_, err = store.Client("a").TryAcquire(t.Context(), "other", time.Minute)
		require.NoError(t, err)

		r := s.Locks(t.Context())
		require.NoError(t, r.Err)
		require.Len(t, r.Locks, 1)
		require.Equal(t, "mine:k", r.Locks[0].Key)
		require.True(t, r.Locks[0].Before)
		require.Equal(t, evHolds, r.Events[0].Kind)
		time.Sleep(20 * time.Second)
		r = s.Locks(t.Context())
		require.Equal(t, time.Minute, r.Locks[0].Full)
		require.Equal(t, 40*time.Second, r.Locks[0].TTL)
		require.Empty(t, r.Events)

		require.Equal(t, inspect.Healthy, s.Health(t.Context()).Health.Status)
		store.away = true
		r = s.Locks(t.Context())
		require.ErrorIs(t, r.Err, lock.ErrUnavailable)
		require.Equal(t, "connection refused", r.Err.Error(), "in words for people")
		require.Equal(t, evUnavailable, r.Events[0].Kind)
		c := s.Health(t.Context())
		require.NoError(t, c.Err, "which nodes there are is known from before")
		require.Equal(t, inspect.NoQuorum, c.Health.Status)
		require.Contains(t, c.Health.Nodes[0].Reason, "connection refused")
		require.Equal(t, evNodeDown, c.Events[0].Kind)
		store.away = false
		require.NoError(t, lease.Release(t.Context()))
		r = s.Locks(t.Context())
		require.Empty(t, r.Locks)
		require.Equal(t, evReleased, r.Events[1].Kind)
		require.Equal(t, inspect.Healthy, s.Health(t.Context()).Health.Status)
	})
}
