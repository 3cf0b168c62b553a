package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// wire is the way from one client to the store, with faults.
type wire struct {
	base  http.RoundTripper
	store *Store
	url   string

	mu     sync.Mutex // guards all below
	delay  time.Duration
	lose   bool
	outage bool
	cut    int  // the request whose reply is lost; 0: none
	repeat bool // each write arrives twice
	clash  bool // the next write is refused, though nobody was faster
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	put := req.Method == http.MethodPut
	delay, lose, outage, repeat, clash := w.delay, w.lose && put, w.outage, w.repeat && put, w.clash && put
	if lose {
		w.lose = false
	}
	if clash {
		w.clash = false
	}
	if w.cut > 0 {
		w.cut--
		lose = lose || w.cut == 0
	}
	w.mu.Unlock()
	if outage {
		return nil, errors.New("connection refused")
	}
	if clash {
		return &http.Response{StatusCode: http.StatusPreconditionFailed, Body: http.NoBody, Request: req}, nil
	}
	resp, err := w.base.RoundTrip(req)
	if err == nil && repeat {
		_ = resp.Body.Close()
		again := req.Clone(req.Context())
		again.Body, _ = req.GetBody()
		resp, err = w.base.RoundTrip(again)
	}
	if delay > 0 && req.Method == http.MethodPut {
		select {
		case <-time.After(delay):
		case <-req.Context().Done():
			lose = true
		}
	}
	if err == nil && lose {
		_ = resp.Body.Close()
		return nil, errors.Join(errors.New("connection reset"), req.Context().Err())
	}
	return resp, err
}

func (w *wire) CloseIdleConnections() {
	if c, ok := w.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// direct is a wire without a network, which runs on fake time.
type direct struct{ store *Store }

func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	d.store.ServeHTTP(rec, req)
	return rec.Result(), nil
}

func client(t *testing.T, w *wire) lock.Locker {
	l := &Locker{client: Client{URL: w.url, HTTP: &http.Client{Transport: w}}}
	t.Cleanup(func() { l.Wait(); l.client.HTTP.CloseIdleConnections() })
	return l
}

func harness(newWire func(t *testing.T) *wire, peer func(w *wire) *wire) locktest.Harness {
	of := func(l lock.Locker) *wire { return l.(*Locker).client.HTTP.Transport.(*wire) }
	set := func(l lock.Locker, f func(w *wire)) {
		of(l).mu.Lock()
		defer of(l).mu.Unlock()
		f(of(l))
	}
	return locktest.Harness{
		New:       func(t *testing.T) lock.Locker { return client(t, newWire(t)) },
		Peer:      func(t *testing.T, l lock.Locker) lock.Locker { return client(t, peer(of(l))) },
		Delay:     func(_ *testing.T, l lock.Locker, d time.Duration) { set(l, func(w *wire) { w.delay = d }) },
		LoseReply: func(_ *testing.T, l lock.Locker) { set(l, func(w *wire) { w.lose = true }) },
		Outage:    func(_ *testing.T, l lock.Locker, on bool) { set(l, func(w *wire) { w.outage = on }) },
		Cut: func(_ *testing.T, l lock.Locker, n int) func() bool {
			set(l, func(w *wire) { w.cut = n })
			return func() (hit bool) {
				set(l, func(w *wire) { hit, w.cut = w.cut == 0, 0 })
				return hit
			}
		},
		Repeat:   func(_ *testing.T, l lock.Locker, on bool) { set(l, func(w *wire) { w.repeat = on }) },
		Conflict: func(_ *testing.T, l lock.Locker) { set(l, func(w *wire) { w.clash = true }) },
		Kill:     func(_ *testing.T, l lock.Locker) { set(l, func(w *wire) { w.outage = true }) },
		Break: func(t *testing.T, l lock.Locker, key string) {
			admin := client(t, peer(of(l))).(*Locker)
			now, _, version, err := admin.client.Get(context.Background(), key)
			require.NoError(t, err)
			require.NoError(t, admin.client.Put(context.Background(), key, version, record{Token: now.Token}))
		},
		// It offers nothing beyond a Locker, and no wall clock is used anywhere. Reads are
		// of the store itself, and its documents are never deleted.
		AllowSkips: []string{"Skew", "StaleReads", "Delete", "Awaiter", "Watcher", "Inspector", "ForceReleaser", "HealthChecker", "io.Closer", "ReleaseAfter", "TokenRaiser", "ExtendStarter"},
	}
}

func TestConformance(t *testing.T) {
	h := harness(
		func(*testing.T) *wire { s := &Store{}; return &wire{base: direct{s}, store: s, url: "http://store/"} },
		func(w *wire) *wire { return &wire{base: direct{w.store}, store: w.store, url: w.url} },
	)
	h.Wrap = synctest.Test
	locktest.Run(t, h)
}

func TestConformanceOverHTTP(t *testing.T) {
	h := harness(
		func(t *testing.T) *wire {
			server := httptest.NewServer(&Store{})
			t.Cleanup(server.Close)
			return &wire{base: &http.Transport{}, url: server.URL}
		},
		func(w *wire) *wire { return &wire{base: &http.Transport{}, url: w.url} },
	)
	h.TTL = 200 * time.Millisecond
	h.AllowSkips = append(h.AllowSkips, "Wrap")
	locktest.Run(t, h)
}

func TestTheShowRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{}
		require.NoError(t, show(t.Context(),
			client(t, &wire{base: direct{s}, url: "http://store/"}).(*Locker),
			client(t, &wire{base: direct{s}, url: "http://store/"}).(*Locker)))
	})
}

func TestTheBackendIsUnder120Lines(t *testing.T) {
	source, err := os.ReadFile("backend.go")
	require.NoError(t, err)
	require.Less(t, bytes.Count(source, []byte("\n")), 120)
}
