package leadserve

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
)

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
