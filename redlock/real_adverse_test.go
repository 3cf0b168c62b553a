package redlock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// Not parallel: it counts goroutines.
func TestRealLoadOnAHungNodeDoesNotPileUp(t *testing.T) {
	servers := redistest.StartN(t, 3)
	l := dial(t, servers, usual())
	connected(t, l, servers)
	servers[0].Pause()
	before := runtime.NumGoroutine()
	const clients, span = 64, 6 * time.Second // beyond the end of the hung connection
	stop := time.Now().Add(span)
	var done, most atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			ctx := context.Background()
			for n := 0; time.Now().Before(stop); n++ {
				lease, err := l.TryAcquire(ctx, fmt.Sprint("k", i, "-", n%100), 100*time.Millisecond)
				if err != nil {
					continue // of a hundred keys, an early one may still stand on the hung node
				}
				if lease.Release(ctx) == nil {
					done.Add(1)
				}
				if running := int64(runtime.NumGoroutine() - before); running > most.Load() {
					most.Store(running)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d acquired and released, at most %d goroutines more", done.Load(), most.Load())
	require.Positive(t, done.Load())
	// What waits for the node is what came before it was seen to be stuck, on each of
	// its connections. The whole span's requests would be one each.
	require.Less(t, most.Load(), done.Load()/2+clients*6)
	start := time.Now()
	require.NoError(t, l.Close())
	require.Less(t, time.Since(start), testTimeout)
}

func TestRealCloseEndsEverythingAlsoWhileAllNodesHang(t *testing.T) {
	servers := redistest.StartN(t, 5)
	before := runtime.NumGoroutine()
	o := throwaway()
	o.NodeTimeout = time.Minute // nothing but Close ends a request
	l, err := redlock.Dial(within(t, testTimeout), urls(redistest.Addrs(servers)), o)
	require.NoError(t, err)
	connected(t, l, servers)
	held, err := l.TryAcquire(within(t, testTimeout), "held", longTTL)
	require.NoError(t, err)
	standsOn(t, servers, "held", 5)
	for _, s := range servers {
		s.Pause()
	}
	results := make(chan error)
	const callers = 20
	for i := range callers {
		go func() {
			if i == 0 {
				results <- held.Extend(context.Background(), longTTL)
				return
			}
			_, err := l.TryAcquire(context.Background(), fmt.Sprint(i), longTTL)
			results <- err
		}()
	}
	eventually(t, "the callers, and a sender for each node", func() bool {
		return running("redlock.(*hold).waitFor(") == callers && running("node.(*Node).work(") == len(servers)
	})
	closed := make(chan error)
	go func() { closed <- l.Close() }()
	for range callers {
		select {
		case err := <-results:
			require.Error(t, err)
			require.True(t, errors.Is(err, lock.ErrUnavailable) || errors.Is(err, lock.ErrClosed), "%v", err)
		case <-time.After(testTimeout):
			t.Fatal("a call did not end with Close")
		}
	}
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-time.After(testTimeout):
		t.Fatal("Close did not return")
	}
	_, err = l.TryAcquire(context.Background(), "k", longTTL)
	require.ErrorIs(t, err, lock.ErrClosed)
	require.ErrorIs(t, held.Release(context.Background()), lock.ErrClosed)
	for deadline := time.Now().Add(testTimeout); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		<-time.After(10 * time.Millisecond)
	}
	if runtime.NumGoroutine() > before { // not Eventually: it has a goroutine of its own
		t.Fatal(stacks())
	}
}

// stacks are those of all goroutines.
func stacks() string {
	buf := make([]byte, 8<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// running is how many goroutines are in a function.
func running(function string) int { return strings.Count(stacks(), function) }

// A lease that somebody had, from the moment it was given to the moment that its
// holder let go or had to take it for lost.
type term struct {
	token    uint64
	from, to time.Time
}

func checkHistory(t *testing.T, terms []term) {
	t.Helper()
	slices.SortFunc(terms, func(a, b term) int { return a.from.Compare(b.from) })
	for i := 1; i < len(terms); i++ {
		require.False(t, terms[i].from.Before(terms[i-1].to), "two holders: %+v and %+v", terms[i-1], terms[i])
		require.Greater(t, terms[i].token, terms[i-1].token)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Contenders whose contexts end at any moment, over nodes that are cut off, slow
// and dead at random.
func TestRealHistoryUnderFaultsAndCancellationsHasOneHolderAtATime(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			servers, proxies, urls := proxied(t, n)
			o := throwaway()
			o.NodeTimeout = 200 * time.Millisecond
			const span, ttl = 6 * time.Second, 600 * time.Millisecond
			stop := time.Now().Add(span)
			var wg sync.WaitGroup
			var mu sync.Mutex
			var terms []term
			// A busy machine has hardly a lease while there are faults: some are had afterwards.
			const enough = 4
			running := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Before(stop) || len(terms) < enough && time.Now().Before(stop.Add(testTimeout))
			}
			for range 2 {
				l := dialURLs(t, urls, o)
				for range 3 {
					wg.Go(func() {
						for running() {
							ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(200*time.Millisecond))))
							lease, err := l.TryAcquire(ctx, "k", ttl)
							if err != nil {
								if !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
									t.Error(err)
								}
								cancel()
								<-time.After(time.Duration(rand.Int64N(int64(30 * time.Millisecond)))) // as Acquire does
								continue
							}
							had := term{token: lease.Token(), from: time.Now()}
							had.to = lease.Expiry()
							for rand.IntN(3) > 0 {
								expiry := lease.Expiry()
								if lease.Extend(ctx, ttl) != nil {
									had.to = earlier(expiry, time.Now())
									break
								}
								had.to = lease.Expiry()
							}
							if rand.IntN(4) > 0 {
								had.to = earlier(had.to, time.Now())
								_ = lease.Release(ctx)
							}
							cancel()
							mu.Lock()
							terms = append(terms, had)
							mu.Unlock()
						}
					})
				}
			}
			for time.Now().Before(stop) {
				p := proxies[rand.IntN(n)]
				switch rand.IntN(10) { // else nothing, as most of the time
				case 0:
					p.Reset()
				case 1:
					p.Delay(time.Duration(rand.Int64N(int64(150 * time.Millisecond))))
				case 2:
					p.DropReplies(true)
				case 3:
					p.Hold(true)
				case 4:
					p.Blackhole(true)
				}
				<-time.After(time.Duration(rand.Int64N(int64(200 * time.Millisecond))))
				p.Delay(0)
				p.DropReplies(false)
				p.Hold(false)
				p.Blackhole(false)
			}
			wg.Wait()
			t.Logf("%d leases", len(terms))
			require.GreaterOrEqual(t, len(terms), enough)
			checkHistory(t, terms)
			standsOn(t, servers, "k", 0)
		})
	}
}

// A server may answer anything at all.
func TestRealLyingServersGrantNothing(t *testing.T) {
	t.Parallel()
	bulk := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	for name, answer := range map[string]string{
		"zero":            ":0\r\n",
		"huge":            ":9223372036854775807\r\n",
		"least":           ":-9223372036854775808\r\n",
		"2^53":            ":9007199254740992\r\n",
		"beyond":          ":99999999999999999999999\r\n",
		"no number":       ":abc\r\n",
		"text":            "+OK\r\n",
		"number as text":  bulk("7"),
		"nil":             "_\r\n",
		"nil bulk":        "$-1\r\n",
		"nil array":       "*-1\r\n",
		"empty array":     "*0\r\n",
		"one element":     "*1\r\n:1\r\n",
		"code 7":          "*3\r\n:7\r\n:1\r\n" + bulk("x"),
		"nils":            "*3\r\n_\r\n_\r\n_\r\n",
		"held by nobody":  "*3\r\n:0\r\n_\r\n:5\r\n",
		"held by a list":  "*3\r\n:0\r\n*0\r\n:5\r\n",
		"waits for ever":  "*3\r\n:1\r\n:9223372036854775807\r\n" + bulk("x"),
		"waits backwards": "*3\r\n:1\r\n:-5\r\n" + bulk("x"),
		"nested":          strings.Repeat("*1\r\n", 200) + ":1\r\n",
		"map":             "%1\r\n+a\r\n:1\r\n",
		"set":             "~1\r\n:1\r\n",
		"double":          ",1.5\r\n",
		"boolean":         "#t\r\n",
		"big number":      "(1\r\n",
		"garbage":         "\x00\xff\xfe garbage\r\n",
		"empty error":     "-\r\n",
		"MOVED":           "-MOVED 1 127.0.0.1:1\r\n",
		"ASK":             "-ASK 1 127.0.0.1:1\r\n",
		"hang up":         "",
	} {
		t.Run(name, func(t *testing.T) {
			liars := []string{lyingServer(t, answer), lyingServer(t, answer)}
			honest := redistest.Start(t)
			o := throwaway()
			o.NodeTimeout = 500 * time.Millisecond
			l, err := redlock.Dial(within(t, testTimeout), urls(append(liars, honest.Addr())), o)
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			for range 3 {
				lease, err := l.TryAcquire(within(t, testTimeout), "k", longTTL)
				require.Error(t, err)
				require.Nil(t, lease)
			}
			_, _ = l.Inspect(within(t, testTimeout), "k")
			_, _ = l.Health(within(t, testTimeout))
			_ = l.ForceRelease(within(t, testTimeout), "k", 0)
			for _, err := range l.List(within(t, testTimeout), "") {
				_ = err
			}
			standsOn(t, []*redistest.Server{honest}, "k", 0)
		})
	}
}

// lyingServer shakes hands as Redis does, answers PING, and all else with answer.
func lyingServer(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			wg.Go(func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					cmd, err := readCommand(r)
					if err != nil {
						return
					}
					reply := answer
					switch strings.ToUpper(cmd[0]) {
					case "HELLO":
						reply = "%3\r\n+server\r\n+redis\r\n+version\r\n+7.0.0\r\n+proto\r\n:3\r\n"
					case "PING":
						reply = "+PONG\r\n"
					case "CLIENT":
						reply = "+OK\r\n"
					}
					if reply == "" {
						return
					}
					if _, err := conn.Write([]byte(reply)); err != nil {
						return
					}
				}
			})
		}
	})
	return ln.Addr().String()
}

func readCommand(r *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	cmd := make([]string, n)
	for i := range cmd {
		var size int
		if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		body := make([]byte, size+2)
		for read := 0; read < len(body); {
			k, err := r.Read(body[read:])
			if err != nil {
				return nil, err
			}
			read += k
		}
		cmd[i] = string(body[:size])
	}
	return cmd, nil
}
