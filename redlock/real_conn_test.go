package redlock_test

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// An endpoint fails over: new connections lead to another server, the old one lives on
// as its replica, and the connection to it stays open.
func TestRealAVoteComesBackAfterEachFailOverOfItsEndpoint(t *testing.T) {
	t.Parallel()
	servers, proxies, urls := proxied(t, 3)
	l := dialURLs(t, urls, throwaway())
	connected(t, l, servers)
	held := acquire(t, l, "held", longTTL)
	for i := range 2 {
		promoted := redistest.Start(t)
		servers[i].Do("REPLICAOF", "127.0.0.1", strconv.Itoa(promoted.Port()))
		proxies[i].Target(promoted.Addr())
		before := proxies[i].Carried()
		servers[i] = promoted
		eventually(t, "all votes", func() bool {
			lease, err := l.TryAcquire(within(t, testTimeout), "k", longTTL)
			require.NoError(t, err, "the others are a quorum")
			defer release(t, lease)
			return votes(servers, "k") == 3
		})
		require.NoError(t, extend(t, held, longTTL))
		require.LessOrEqual(t, proxies[i].Carried()-before, 10)
	}
	repairedOn(t, held, servers)
	servers[2].Kill()
	require.NoError(t, extend(t, held, longTTL), "the two that failed over are a quorum")
	release(t, held)
	release(t, acquire(t, l, "k", longTTL))
}

// filter is a proxy that hangs up at the first request with one of the words.
func filter(t *testing.T, target string, words ...string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { ln.Close() })
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			both := func() { client.Close(); server.Close() }
			wg.Go(func() { defer both(); _, _ = io.Copy(client, server) })
			wg.Go(func() {
				defer both()
				for request := make([]byte, 64<<10); ; {
					n, err := client.Read(request)
					if err != nil {
						return
					}
					for _, word := range words {
						if bytes.Contains(request[:n], []byte("$"+strconv.Itoa(len(word))+"\r\n"+word+"\r\n")) {
							return
						}
					}
					if _, err := server.Write(request[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return ln.Addr().String()
}

func TestRealServersWithoutHelloOrClientWillDo(t *testing.T) {
	t.Parallel()
	without := func(commands ...string) (args []string) {
		for _, c := range commands {
			args = append(args, "--rename-command", c, "")
		}
		return args
	}
	for name, start := range map[string]func(t *testing.T) (*redistest.Server, string){
		"no HELLO": func(t *testing.T) (*redistest.Server, string) {
			s := redistest.Start(t, without("HELLO")...)
			return s, "redis://" + s.Addr()
		},
		"no CLIENT": func(t *testing.T) (*redistest.Server, string) {
			s := redistest.Start(t, without("CLIENT")...)
			return s, "redis://" + s.Addr()
		},
		"neither": func(t *testing.T) (*redistest.Server, string) {
			s := redistest.Start(t, without("HELLO", "CLIENT")...)
			return s, "redis://" + s.Addr()
		},
		"neither, with a password": func(t *testing.T) (*redistest.Server, string) {
			s := redistest.Start(t, append(without("HELLO", "CLIENT"), "--requirepass", "topsecret")...)
			return s, "redis://:topsecret@" + s.Addr()
		},
		"neither, and no INFO": func(t *testing.T) (*redistest.Server, string) {
			s := redistest.Start(t, without("HELLO", "CLIENT", "INFO", "CONFIG")...)
			return s, "redis://" + s.Addr()
		},
		"by protocol=2": func(t *testing.T) (*redistest.Server, string) {
			s := redistest.Start(t, "--requirepass", "topsecret")
			return s, "redis://:topsecret@" + s.Addr() + "/3?protocol=2"
		},
		"hangs up at HELLO": func(t *testing.T) (*redistest.Server, string) {
			s := redistest.Start(t)
			return s, "redis://" + filter(t, s.Addr(), "HELLO")
		},
		"hangs up at both": func(t *testing.T) (*redistest.Server, string) {
			s := redistest.Start(t)
			return s, "redis://" + filter(t, s.Addr(), "HELLO", "CLIENT", "INFO", "SUBSCRIBE")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := start(t)
			l, err := redlock.Dial(t.Context(), []string{url}, throwaway())
			require.NoError(t, err)
			defer l.Close()
			lease := acquire(t, l, "k", longTTL)
			require.NoError(t, extend(t, lease, longTTL))
			info, err := l.Inspect(within(t, testTimeout), "k")
			require.NoError(t, err)
			require.Equal(t, lease.Token(), info.Token)
			second := dialURLs(t, []string{url}, throwaway())
			_, err = second.TryAcquire(within(t, testTimeout), "k", longTTL)
			require.ErrorIs(t, err, lock.ErrHeld)
			got := make(chan lock.Lease)
			go func() {
				lease, _ := lock.Acquire(within(t, testTimeout), second, "k", longTTL, nil)
				got <- lease
			}()
			release(t, lease)
			next := <-got
			require.NotNil(t, next)
			require.Greater(t, next.Token(), lease.Token())
			release(t, next)
			if !strings.HasPrefix(name, "hangs") {
				h, err := l.Health(within(t, testTimeout))
				require.NoError(t, err)
				require.NoError(t, h.Nodes[0].Err)
			}
		})
	}
}

func TestRealAWrongPasswordIsNotShownWhereThereIsNoHello(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--rename-command", "HELLO", "", "--requirepass", "right")
	for _, user := range []string{"", "somebody"} {
		_, err := redlock.Dial(within(t, testTimeout), []string{"redis://" + user + ":topsecret@" + s.Addr()}, throwaway())
		require.ErrorIs(t, err, lock.ErrRefused)
		require.Contains(t, err.Error(), "WRONGPASS")
		require.NotContains(t, err.Error(), "topsecret")
	}
	for url, says := range map[string]string{
		"redis://" + s.Addr():                "NOAUTH: it asks for a password",
		"redis://:right@" + s.Addr() + "/99": "DB index is out of range",
	} {
		require.ErrorContains(t, dialError(t, []string{url}, throwaway(), says), says)
	}
}

func TestRealAServerThatIsFullSaysSo(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("CONFIG", "SET", "maxclients", "1")
	var other net.Conn
	eventually(t, "the only place", func() bool { // one whose client has left may not be free yet
		c, err := net.Dial("tcp", s.Addr())
		require.NoError(t, err)
		_, err = io.WriteString(c, "PING\r\n")
		require.NoError(t, err)
		pong := make([]byte, len("+PONG\r\n"))
		if _, err = io.ReadFull(c, pong); err != nil || string(pong) != "+PONG\r\n" {
			c.Close()
			return false
		}
		other = c
		return true
	})
	defer other.Close()
	for range 10 {
		_, err := redlock.Dial(t.Context(), []string{"redis://" + s.Addr()}, throwaway())
		require.ErrorContains(t, err, "max number of clients reached")
	}
	o := throwaway()
	o.Lazy = true
	l := dialURLs(t, []string{"redis://" + s.Addr()}, o)
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	require.ErrorContains(t, h.Nodes[0].Err, "has no room for another connection (see maxclients): max number of clients reached")
	require.Equal(t, "yes", factOf(h.Nodes[0], "reachable"))
	_, err = l.TryAcquire(within(t, testTimeout), "k", longTTL)
	require.ErrorContains(t, err, "max number of clients reached")
	other.Close()
	release(t, acquire(t, l, "k", longTTL))
}

// A server speaks first, and hangs up: at once, or with what was sent to it unread.
func TestRealTheFirstWordsOfAServerAreTheError(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]struct {
		says string
		kind error
	}{
		"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface.\r\n": {"DENIED: it is in protected mode", lock.ErrRefused},
		"-ERR max number of clients reached\r\n":                       {"max number of clients reached", lock.ErrUnavailable},
		"-ERR max number of clients + cluster connections reached\r\n": {"max number of clients + cluster", lock.ErrUnavailable},
		"-ERR the proxy has no backend\r\n":                            {"the proxy has no backend", lock.ErrUnavailable},
	} {
		for _, pause := range []time.Duration{0, 20 * time.Millisecond} {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, words)
					time.Sleep(pause) // HELLO lies there unread, so that the end is a reset
					c.Close()
				}
			})
			for range 20 {
				_, err = redlock.Dial(t.Context(), []string{"redis://:topsecret@" + ln.Addr().String()}, throwaway())
				require.ErrorIs(t, err, want.kind)
				require.ErrorContains(t, err, want.says)
				require.NotContains(t, err.Error(), "topsecret")
			}
			ln.Close()
			wg.Wait()
		}
	}
}

func TestRealServersOfOneClusterAreNoNodes(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	var plain []string
	for _, s := range c.Servers[:3] {
		plain = append(plain, "redis://"+s.Addr())
	}
	for _, list := range [][]string{plain, plain[:1], {"redis://" + redistest.Start(t).Addr(), plain[1], "redis://127.0.0.1:1"}} {
		l, err := redlock.Dial(within(t, testTimeout), list, throwaway())
		require.Nil(t, l)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.ErrorContains(t, err, "it is one of 6 servers of a Redis Cluster")
		require.ErrorContains(t, err, "cluster=true once")
	}
	// A user of few rights may not ask about the Cluster.
	c.Servers[0].Do("ACL", "SETUSER", "keeper", "on", ">topsecret", "~redlock:*", "~"+redlock.FencePrefix+"*", "-@all", "+ping", "+evalsha", "+eval", "+get", "+pttl", "+hget")
	_, err := redlock.Dial(within(t, testTimeout), []string{"redis://keeper:topsecret@" + c.Servers[0].Addr()}, throwaway())
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "it is one of several servers of a Redis Cluster")

	o := throwaway()
	o.Lazy = true
	l := dialURLs(t, plain, o)
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	for _, n := range h.Nodes {
		require.ErrorContains(t, n.Err, "of a Redis Cluster", "the server that has the slot of the key that is asked for")
		require.ErrorContains(t, n.Err, "cluster=true once")
		require.Equal(t, "yes", factOf(n, "reachable"))
	}
	_, err = l.TryAcquire(within(t, testTimeout), "k", longTTL)
	require.ErrorContains(t, err, "MOVED")
	release(t, acquire(t, dialURLs(t, []string{plain[0] + "?cluster=true"}, throwaway()), "k", longTTL))

	// A server that is a whole Cluster by itself is a node.
	one := redistest.StartClusterOfOne(t)
	release(t, acquire(t, dialURLs(t, []string{"redis://" + one.Addr()}, throwaway()), "k", longTTL))
}

func TestRealASentinelIsNoNode(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 1, nil, nil)
	_, err := redlock.Dial(within(t, testTimeout), []string{"redis://" + set.Sentinels[0].Addr()}, throwaway())
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "master_set=name")
}

func TestRealSentinelsWithTLSAndServersWithoutIt(t *testing.T) {
	t.Parallel()
	ca := storetest.NewAuthority(t)
	ca.Issue(t, storetest.Certificate{Name: "server"})
	port := strconv.Itoa(redistest.FreePort(t))
	var conf []string
	args := tlsArgs(ca, storetest.Certificate{Name: "server"}, port)
	for i := 0; i < len(args); i += 2 {
		conf = append(conf, strings.TrimPrefix(args[i], "--")+" "+args[i+1])
	}
	set := redistest.StartSentinels(t, 1, []string{"--requirepass", "topsecret", "--masterauth", "topsecret"}, append(conf, "sentinel auth-pass "+redistest.MasterSet+" topsecret"))
	o := withTLS(ca, ca.Issue(t, storetest.Certificate{Name: "client"}))
	url := "redis://:topsecret@127.0.0.1:" + port + "?master_set=" + redistest.MasterSet
	release(t, acquire(t, dialURLs(t, []string{url + "&sentinel_tls=true"}, o), "k", longTTL))
	const says = "it may want TLS"
	require.ErrorContains(t, dialError(t, []string{url}, o, says), says)
	_, err := redlock.Dial(within(t, time.Second), []string{strings.Replace(url, "redis:", "rediss:", 1)}, o)
	require.ErrorIs(t, err, lock.ErrUnavailable, "the server has no TLS")
	require.NotNil(t, set)
}
