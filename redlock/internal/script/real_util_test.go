package script

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// Long enough that nothing expires on a busy machine.
const (
	claim     = Millis("3600000")
	retention = Millis("7200000")
)

var unguarded = Guard{Least: "0"}

// bench is one lock on one real server.
type bench struct {
	t *testing.T
	s *redistest.Server
	c rueidis.Client
	k Keys
	f Functions
	n int // of requests
}

func newBench(t *testing.T, args ...string) *bench {
	t.Parallel()
	s := redistest.Start(t, args...)
	b := &bench{t: t, s: s, c: connect(t, s, "", "")}
	b.k, _ = NewKeys("redlock:", "k")
	return b
}

func connect(t *testing.T, s *redistest.Server, user, password string) rueidis.Client {
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{s.Addr()}, Username: user, Password: password,
		DisableCache: true, ForceSingleClient: true, ClientSetInfo: rueidis.DisableClientSetInfo,
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func (b *bench) eval(q Request) rueidis.RedisMessage {
	b.t.Helper()
	msg, err := b.try(q)
	require.NoError(b.t, err)
	return msg
}

// try asks as a script and as a function by turns: the same lines run, on the same keys.
func (b *bench) try(q Request) (rueidis.RedisMessage, error) {
	if b.n++; b.n%2 == 0 {
		return q.Eval(b.t.Context(), b.c).ToMessage()
	}
	return b.call(q)
}

// call asks as a function, where the server has them.
func (b *bench) call(q Request) (rueidis.RedisMessage, error) {
	res := b.f.Run(b.t.Context(), b.c, []*Request{&q}, nil)
	return res[0].Msg, res[0].Err
}

// asked is the answer of any of the others.
func (b *bench) asked(q Request, parse func(rueidis.RedisMessage) (Reply, error)) Reply {
	b.t.Helper()
	r, err := parse(b.eval(q))
	require.NoError(b.t, err)
	return r
}

func (b *bench) acquire(value string) Reply {
	b.t.Helper()
	return b.asked(Acquire(b.k, value, claim, retention, unguarded), ParseAcquire)
}

func (b *bench) release(value, waiter string) Reply {
	b.t.Helper()
	return b.asked(Release(b.k, value, waiter, "", retention, unguarded), ParseRelease)
}

func (b *bench) stand(s Stand) Standing {
	b.t.Helper()
	return b.standGuarded(s, unguarded)
}

func (b *bench) standGuarded(s Stand, g Guard) Standing {
	b.t.Helper()
	if s.Claim == "" {
		s.Claim = claim
	}
	a, err := ParseStand(b.eval(s.Request(b.k, retention, g)))
	require.NoError(b.t, err)
	return a
}

// holder is the lock's value; "": nobody's.
func (b *bench) holder() string { return b.s.Do("GET", b.k.Lock) }

// queue are the waiters in their order.
func (b *bench) queue() []string {
	return strings.Fields(b.s.Do("ZRANGE", StandingPrefix+"{redlock:k}redlock:k", "0", "-1"))
}

func (b *bench) count() uint64 {
	n, err := strconv.ParseUint(b.s.Do("HGET", b.k.Fence, "count"), 10, 64)
	require.NoError(b.t, err)
	return n
}

// age makes a waiter one that has not asked for long.
func (b *bench) age(waiter string) {
	key := askedPrefix + "{redlock:k}redlock:k"
	part := strings.SplitN(b.s.Do("HGET", key, waiter), " ", 4)
	require.Len(b.t, part, 4)
	part[2] = "1"
	b.s.Do("HSET", key, waiter, strings.Join(part, " "))
}

// listen subscribes to a channel, until the test ends or stop is called.
func (b *bench) listen(channel string) (pushes <-chan string, stop func()) {
	b.t.Helper()
	ch := make(chan string, 100)
	c, cancel := b.c.Dedicate()
	wait := c.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) { ch <- m.Message }})
	require.NoError(b.t, c.Do(b.t.Context(), c.B().Subscribe().Channel(channel).Build()).Error())
	require.Eventually(b.t, func() bool {
		return strings.Contains(b.s.Do("PUBSUB", "NUMSUB", channel), "\n1")
	}, 30*time.Second, time.Millisecond)
	end := func() {
		c.Close()
		<-wait
		cancel()
	}
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		end()
		require.Eventually(b.t, func() bool {
			return strings.Contains(b.s.Do("PUBSUB", "NUMSUB", channel), "\n0")
		}, 30*time.Second, time.Millisecond)
	}
	b.t.Cleanup(func() {
		if !done {
			done = true
			end()
		}
	})
	return ch, stop
}

func (b *bench) pushed(ch <-chan string) Push {
	b.t.Helper()
	select {
	case m := <-ch:
		p, err := ParsePush(m)
		require.NoError(b.t, err)
		return p
	case <-time.After(30 * time.Second):
		b.t.Fatal("no notification")
		return Push{}
	}
}

// notPushed says so after a message that would have come behind it.
func (b *bench) notPushed(ch <-chan string, channel string) {
	b.t.Helper()
	b.s.Do("PUBLISH", channel, "end")
	require.Equal(b.t, "end", <-ch)
}

func waiter(name string, waited time.Duration) Stand {
	return Stand{Waiter: name, Value: "v" + name, Waited: waited, Channel: WakePrefix + name, Take: true}
}

func (b *bench) pttl() time.Duration {
	n, err := strconv.Atoi(b.s.Do("PTTL", b.k.Lock))
	require.NoError(b.t, err)
	return time.Duration(n) * time.Millisecond
}

func (b *bench) run() string {
	for line := range strings.Lines(b.s.Do("INFO", "server")) {
		if run, ok := strings.CutPrefix(strings.TrimSpace(line), "run_id:"); ok {
			return run
		}
	}
	panic(fmt.Sprint("no run_id at ", b.s.Addr()))
}
