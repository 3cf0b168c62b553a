package redlock_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// waiting starts an Await and returns once its request stands on all servers.
func waiting(t *testing.T, servers []*redistest.Server, l *redlock.Locker, key string) (wait func() lock.Lease) {
	t.Helper()
	before := queued(servers, key)
	got := make(chan lock.Lease, 1)
	ctx := within(t, testTimeout)
	go func() {
		lease, err := l.Await(ctx, key, longTTL, func(*lock.HeldError) {})
		if err != nil {
			t.Error(err)
		}
		got <- lease
	}()
	eventually(t, "the request in the queues", func() bool { return queued(servers, key) == before+len(servers) })
	return func() lock.Lease {
		lease := <-got
		if lease == nil {
			t.FailNow()
		}
		return lease
	}
}

// inTurn gives, again and again, who of all those that wait has the lock next.
func inTurn(t *testing.T, waits []func() lock.Lease) (next func() (lease lock.Lease, by int)) {
	type had struct {
		lease lock.Lease
		by    int
	}
	all := make(chan had, len(waits))
	for i, wait := range waits {
		go func() { all <- had{wait(), i} }()
	}
	return func() (lock.Lease, int) {
		t.Helper()
		select {
		case h := <-all:
			return h.lease, h.by
		case <-time.After(testTimeout):
			t.Fatal("nobody has the lock")
			return nil, 0
		}
	}
}

// queued is how many requests stand in the queues of all servers.
func queued(servers []*redistest.Server, key string) int {
	n := 0
	for _, s := range servers {
		count, _ := strconv.Atoi(s.Do("ZCARD", queueKey(key)))
		n += count
	}
	return n
}

func queueKey(key string) string {
	return redlock.StandingPrefix + "{redlock:" + key + "}redlock:" + key
}

func askedKey(key string) string {
	return redlock.StandingPrefix + "asked:{redlock:" + key + "}redlock:" + key
}

// notifiable waits until every request that stands names a channel, on every server: one that
// does not yet is left to ask.
func notifiable(t *testing.T, servers []*redistest.Server, key string) {
	t.Helper()
	eventually(t, "requests with channels", func() bool {
		for _, s := range servers {
			if s.Do("ZCARD", queueKey(key)) != strconv.Itoa(strings.Count(s.Do("HVALS", askedKey(key)), redlock.WakePrefix)) {
				return false
			}
		}
		return true
	})
}

// prompt is call, and reports whether nothing came in between: had the machine stood still for a
// claim, or for a heartbeat, which costs a subscription, others would have been granted the lock.
func prompt(servers []*redistest.Server, call func()) bool {
	before, begun := subscriptions(servers), time.Now()
	call()
	took := time.Since(begun)
	// One that nobody needs any more may end; one that was lost is made anew.
	return took < claim && !slices.ContainsFunc(subscriptions(servers), func(id string) bool { return !slices.Contains(before, id) })
}

// subscriptions are the ids of the connections that get notifications.
func subscriptions(servers []*redistest.Server) []string {
	return clientIDs(servers, "", "TYPE", "pubsub")
}

// claim is for how long a hand-over grants the lock. Who is not there for so long is passed over.
const claim = time.Second

// listenedTo waits for the subscriptions of somebody who waits, which are made beside its request.
func listenedTo(t *testing.T, servers []*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		eventually(t, "the subscription", func() bool { return s.Do("PUBSUB", "CHANNELS", redlock.WakePrefix+"*") != "" })
	}
}

// calls is how often the servers ran each command, without the tests' own.
func calls(servers []*redistest.Server) map[string]int {
	all := map[string]int{}
	for _, s := range servers {
		for line := range strings.Lines(s.Do("INFO", "commandstats")) {
			name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
			if ok {
				count, _, _ := strings.Cut(rest, ",")
				n, _ := strconv.Atoi(count)
				all[name] += n
			}
		}
	}
	return all
}
