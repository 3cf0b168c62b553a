package leadserve

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

var opts = Options{TTL: 30 * time.Second, Grace: 5 * time.Second, Certain: 6 * time.Second, Words: error.Error}

// copy is a Leadership that runs in a bubble.
type copyOf struct {
	*Leadership
	t      *testing.T
	h      http.Handler
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, locker lock.Locker) *copyOf {
	l := New("k", opts)
	ctx, cancel := context.WithCancel(t.Context())
	c := &copyOf{l, t, l.Handler(nil, false), cancel, make(chan error, 1)}
	go func() { c.done <- l.Run(ctx, locker) }()
	synctest.Wait()
	return c
}

func (c *copyOf) end() error {
	c.cancel()
	c.Close()
	return <-c.done
}

// ask returns an answer, and until when this copy leads by it: counted from before the request.
func (c *copyOf) ask(method, path string) (int, body, time.Time) {
	c.t.Helper()
	before := time.Now()
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, httptest.NewRequest(method, "http://localhost:4040"+path, nil))
	var b body
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &b))
		require.Equal(c.t, "no-store", w.Header().Get("Cache-Control"))
	}
	return w.Code, b, before.Add(time.Duration(b.Certain) * time.Millisecond)
}

// freeAt waits until another client gets the key.
func freeAt(t *testing.T, locker *memory.Locker) time.Time {
	t.Helper()
	for {
		lease, err := locker.Client("other").TryAcquire(t.Context(), "k", time.Minute)
		if err == nil {
			require.NoError(t, lease.Release(t.Context()))
			return time.Now()
		}
		require.ErrorIs(t, err, lock.ErrHeld)
		time.Sleep(10 * time.Millisecond)
	}
}

func TestAnAnswerSaysWhoLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, _ := (&copyOf{t: t, h: New("k", opts).Handler(nil, false)}).ask("GET", "/")
		require.Equal(t, body{Key: "k", State: "stopped"}, b, "the store is not open yet")

		locker := memory.New()
		lease, err := locker.Client("other").TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		c := start(t, locker.Client("me"))
		code, b, _ := c.ask("GET", "/readyz")
		require.Equal(t, 503, code)
		require.Equal(t, body{Key: "k", State: "standing by", Leader: "other"}, b)
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		code, b, _ = c.ask("GET", "/readyz")
		require.Equal(t, 200, code)
		require.Equal(t, body{Key: "k", State: "leading", Leading: true, Token: "2", Certain: 6000, Leader: "me"}, b)
		require.NoError(t, c.end())
		_, b, until := c.ask("GET", "/")
		require.Equal(t, body{Key: "k", State: "stopped"}, b)
		require.Equal(t, time.Now(), until)
	})
}

func TestAnAnswerIsCertainWhateverTheStoreDoes(t *testing.T) {
	for _, outage := range []time.Duration{0, time.Second, 13 * time.Second, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			locker := memory.New()
			me := locker.Client("me")
			c := start(t, me)
			var promised time.Time
			poll := func(until func(body) bool) {
				for range 10000 {
					_, b, at := c.ask("GET", "/")
					if b.Leading {
						require.True(t, at.After(time.Now()))
						require.LessOrEqual(t, time.Until(at), opts.Certain)
						promised = at
					}
					if until(b) {
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
				require.Fail(t, "it led for ever")
			}
			began := time.Now()
			poll(func(body) bool { return time.Since(began) >= outage })
			me.FailNext(-1, nil)
			poll(func(b body) bool { return !b.Leading })
			require.False(t, time.Now().After(promised.Add(100*time.Millisecond)), "it led until the last moment")
			me.FailNext(0, nil)
			c.cancel()
			at := freeAt(t, locker)
			require.False(t, at.Before(promised.Add(opts.Grace)), "free %v before the last promise and the grace were over", promised.Add(opts.Grace).Sub(at))
			<-c.done
		})
	}
}

func TestATermThatEndsInGoodOrderKeepsItsLastPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker := memory.New()
		c := start(t, locker.Client("me"))
		time.Sleep(40 * time.Second)
		_, b, promised := c.ask("GET", "/")
		require.True(t, b.Leading)
		c.cancel()
		synctest.Wait()
		_, b, _ = c.ask("GET", "/")
		require.Equal(t, body{Key: "k", State: "draining", Token: "1", Leader: "me"}, b)
		at := freeAt(t, locker)
		require.False(t, at.Before(promised.Add(opts.Grace)))
		require.Less(t, at.Sub(promised.Add(opts.Grace)), time.Second)
		require.NoError(t, <-c.done)
	})
}

func TestATermThatNobodyWasNotifiedOfEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, memory.New())
		began := time.Now()
		require.NoError(t, c.end())
		require.Zero(t, time.Since(began))
	})
}

func TestProgramsThatHaveStoppedAreNotWaitedFor(t *testing.T) {
	for _, leading := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			locker := memory.New()
			c := start(t, locker.Client("me"))
			_, b, _ := c.ask("GET", "/")
			require.True(t, b.Leading)
			if !leading {
				c.cancel()
				synctest.Wait()
			}
			for path, want := range map[string]int{"/stopped": 400, "/stopped?token=x": 400, "/stopped?token=2": 409} {
				code, _, _ := c.ask("POST", path)
				require.Equal(t, want, code, path)
			}
			began := time.Now()
			code, _, _ := c.ask("POST", "/stopped?token="+b.Token)
			require.Equal(t, 202, code)
			require.Less(t, freeAt(t, locker).Sub(began), time.Second)
			synctest.Wait()
			code, _, _ = c.ask("POST", "/stopped?token="+b.Token)
			require.Equal(t, 409, code, "that term is over")
			_ = c.end()
		})
	}
}

func TestNoAnswerPromisesATermOnceItsProgramsHaveStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker := memory.New()
		c := start(t, locker.Client("me"))
		_, b, _ := c.ask("GET", "/")
		require.True(t, b.Leading)
		code, stopped, _ := c.ask("POST", "/stopped?token="+b.Token)
		require.Equal(t, 202, code)
		for range 20 { // while the term is being ended, too
			require.False(t, stopped.Leading)
			require.Zero(t, stopped.Certain)
			code, stopped, _ = c.ask("GET", "/readyz")
			require.Equal(t, 503, code)
		}
		freeAt(t, locker)
		_ = c.end()
	})
}

func TestARequestByAnotherSitesPageIsRefused(t *testing.T) {
	do := func(h http.Handler, method, host string, header ...string) int {
		r := httptest.NewRequest(method, "http://x/stopped?token=1", nil)
		if method == "GET" {
			r.URL.Path = "/"
		}
		r.Host = host
		if len(header) > 0 {
			r.Header.Set(header[0], header[1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	h := New("k", opts).Handler([]string{"Sidecar.internal"}, false)
	for _, host := range []string{"localhost", "LOCALHOST:4040", "127.0.0.1:4040", "127.8.8.8", "[::1]:4040", "[::1]", "10.0.0.7:80", "sidecar.internal:1"} {
		require.Equal(t, 200, do(h, "GET", host), host)
	}
	for _, host := range []string{"", "evil.example", "evil.example:4040", "127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost:4040",
		"localhost:4040@evil.example", "evil.example:localhost", "::1.evil", "[evil]", "127.1", "0x7f.1", "2130706433", ":4040"} {
		require.Equal(t, 403, do(h, "GET", host), host)
		require.Equal(t, 403, do(h, "POST", host), host)
	}
	require.Equal(t, 403, do(h, "POST", "localhost:4040", "Sec-Fetch-Site", "cross-site"))
	require.Equal(t, 403, do(h, "POST", "localhost:4040", "Origin", "https://evil.example"))
	require.Equal(t, 409, do(h, "POST", "localhost:4040"))
	require.Equal(t, 200, do(New("k", opts).Handler(nil, true), "GET", "anything"), "a unix socket")
	require.Equal(t, 405, do(h, "DELETE", "localhost"))
}
