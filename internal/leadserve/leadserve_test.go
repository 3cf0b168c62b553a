package leadserve

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
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

// pipes is a listener of connections that stay in the bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// stream opens one, and returns its connection, of which nothing was read.
func (p pipes) stream(t *testing.T) net.Conn {
	ours, theirs := net.Pipe()
	p <- theirs
	_, err := ours.Write([]byte("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	require.NoError(t, err)
	return ours
}

// event is an answer in a stream, and until when the copy leads by it.
type event struct {
	body
	until, received time.Time
}

// events reads a stream to its end.
func events(t *testing.T, conn net.Conn, opened time.Time) <-chan event {
	found := make(chan event, 10000)
	go func() {
		defer close(found)
		defer conn.Close()
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return
		}
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			var b body
			if json.Unmarshal([]byte(data), &b) == nil {
				found <- event{b, opened.Add(time.Duration(b.Certain) * time.Millisecond), time.Now()}
			}
		}
	}()
	return found
}

func serve(t *testing.T, c *copyOf) (pipes, func()) {
	p := make(pipes)
	server := &http.Server{Handler: c.h, ReadTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(p) }()
	return p, func() { close(p); _ = server.Close(); <-ended }
}

func TestAStreamIsCertainForAsLongAsThisCopyLeadsAndEndsBefore(t *testing.T) {
	for _, loss := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			locker := memory.New()
			lease, err := locker.Client("other").TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
			me := locker.Client("me")
			c := start(t, me)
			p, end := serve(t, c)
			defer end()
			opened := time.Now()
			found := events(t, p.stream(t), opened)
			time.Sleep(40 * time.Second)
			require.NoError(t, lease.Release(t.Context()))
			led := time.Now()
			time.Sleep(200 * time.Second)
			if loss {
				me.FailNext(-1, nil)
				time.Sleep(opts.TTL)
				me.FailNext(0, nil)
			}
			c.cancel()
			at := freeAt(t, locker)
			<-c.done

			first := <-found
			require.Equal(t, "other", first.Leader)
			until, n := led, 0
			var last event
			for last = range found {
				if n == 0 && !last.Leading {
					continue // it still stands by
				}
				if !last.Leading {
					break
				}
				require.False(t, last.received.After(until), "a reader did not know for a while: %v", last.received.Sub(until))
				until = last.until
				n++
			}
			require.GreaterOrEqual(t, n, 100)
			require.LessOrEqual(t, n, 140, "an answer each third of the certain time")
			require.False(t, last.Leading)
			require.Less(t, last.received.Sub(until), time.Millisecond, "what is certain is rounded down")
			require.False(t, at.Before(until.Add(opts.Grace)))
			_, more := <-found
			require.False(t, more, "the stream goes on after the term")
		})
	}
}

func TestASlowReaderHoldsUpNobodyAndIsLeftSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, memory.New())
		p, end := serve(t, c)
		slow := p.stream(t) // of which nothing is read
		found := events(t, p.stream(t), time.Now())
		time.Sleep(21 * time.Second)
		require.GreaterOrEqual(t, len(found), 10)
		c.mu.Lock()
		streams := c.streams
		c.mu.Unlock()
		require.Equal(t, 1, streams)
		_ = c.end()
		_ = slow.Close()
		end()
	})
}

func TestAStreamEndsBeforeClocksThatDifferCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, memory.New())
		p, end := serve(t, c)
		opened := time.Now()
		var last event
		for last = range events(t, p.stream(t), opened) {
			require.True(t, last.Leading)
		}
		require.Equal(t, streamTTLs*opts.TTL, time.Since(opened))
		require.True(t, last.until.After(time.Now()), "there is time to open another")
		_ = c.end()
		end()
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, memory.New())
		p, end := serve(t, c)
		for range maxStreams {
			events(t, p.stream(t), time.Now())
		}
		synctest.Wait()
		code, _, _ := c.ask("GET", "/events")
		require.Equal(t, 503, code)
		_ = c.end()
		synctest.Wait()
		require.Zero(t, c.streams)
		end()
	})
}

func TestTheEndOfATermNamesItWhateverFollowsByTheTimeThatAStreamLooks(t *testing.T) {
	led := answer{state: leader.Leading, leading: true, token: 1, until: time.Now(), holder: "me"}
	for name, c := range map[string]struct{ now, want answer }{
		"it drains":        {answer{state: leader.Draining, token: 1, holder: "me"}, answer{state: leader.Draining, token: 1, holder: "me"}},
		"it stands by":     {answer{state: leader.StandingBy, holder: "other"}, answer{state: leader.StandingBy, token: 1, holder: "other"}},
		"it has stopped":   {answer{state: leader.Stopped}, answer{state: leader.Stopped, token: 1}},
		"it leads again":   {answer{state: leader.Leading, leading: true, token: 2, holder: "me"}, answer{state: leader.Draining, token: 1}},
		"the next drains":  {answer{state: leader.Draining, token: 2, holder: "me"}, answer{state: leader.Draining, token: 1}},
		"no promise of it": {answer{state: leader.StandingBy, token: 0}, answer{state: leader.StandingBy, token: 1}},
	} {
		got, over := following(led, c.now)
		require.True(t, over, name)
		require.Equal(t, c.want, got, name)
	}
	for _, last := range []answer{{}, {state: leader.StandingBy, holder: "other"}} {
		got, over := following(last, led)
		require.False(t, over)
		require.Equal(t, led, got)
	}
	_, over := following(led, led)
	require.False(t, over)
}

func TestANewTermIsAnotherStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, memory.New())
		p, end := serve(t, c)
		defer func() { _ = c.end(); end() }()
		found := events(t, p.stream(t), time.Now())
		time.Sleep(time.Second)
		code, _, _ := c.ask("POST", "/stopped?token=1")
		require.Equal(t, 202, code)
		time.Sleep(time.Minute) // it leads again
		var tokens []string
		for e := range found {
			tokens = append(tokens, strconv.FormatBool(e.Leading)+" "+e.Token)
		}
		require.Equal(t, "false 1", tokens[len(tokens)-1])
		for _, s := range tokens[:len(tokens)-1] {
			require.Equal(t, "true 1", s)
		}
		_, b, _ := c.ask("GET", "/")
		require.Equal(t, "2", b.Token)
		require.True(t, b.Leading)
	})
}
