package redlock_test

import (
	"embed"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

// The scripts of the version before direct hand-off, whose waiters were notified and asked
// again: during a rolling upgrade they run beside the new ones.
//
//go:embed testdata/before-hand-off
var before embed.FS

func oldScript(t *testing.T, name string, heads ...string) string {
	t.Helper()
	var b strings.Builder
	for _, f := range append(heads, name) {
		text, err := before.ReadFile("testdata/before-hand-off/" + f + ".lua")
		require.NoError(t, err)
		b.Write(text)
	}
	return b.String() + "return " + name + "(KEYS[1], KEYS[2], unpack(ARGV))\n"
}

const oldTTL = 10 * time.Second

// oldClient is as much of that version as decides: its attempt, and its release.
type oldClient struct {
	acquire, commit, release string
	servers                  []*redistest.Server
}

func newOldClient(t *testing.T, servers []*redistest.Server) *oldClient {
	return &oldClient{oldScript(t, "acquire", "server", "turn"), oldScript(t, "commit", "server"), oldScript(t, "release"), servers}
}

// try makes one attempt, and gives the token, or 0.
func (o *oldClient) try(key, value string) (token int) {
	counts := map[int]int{}
	for _, s := range o.servers {
		n, err := strconv.Atoi(s.Do("EVAL", o.acquire, "2", lockKey(key), fenceKey(key), value, strconv.FormatInt(oldTTL.Milliseconds(), 10), "600000", "0", ""))
		if err == nil {
			counts[n]++
		}
	}
	votes, highest := 0, 0
	for count, n := range counts {
		if n > len(o.servers)/2 {
			return count
		}
		votes, highest = votes+n, max(highest, count)
	}
	agreed := 0
	for _, s := range o.servers {
		if votes > len(o.servers)/2 && s.Do("EVAL", o.commit, "2", lockKey(key), fenceKey(key), value, strconv.Itoa(highest), "600000") == strconv.Itoa(highest) {
			agreed++
		}
	}
	if agreed > len(o.servers)/2 {
		return highest
	}
	o.free(key, value)
	return 0
}

func (o *oldClient) free(key, value string) {
	for _, s := range o.servers {
		s.Do("EVAL", o.release, "2", lockKey(key), fenceKey(key), value, "1")
	}
}

func TestRealOldClientsBesideNewOnesExcludeEachOther(t *testing.T) {
	servers := redistest.StartN(t, 3)
	var mu sync.Mutex
	holders, last := map[int]func() time.Time{}, 0
	hold := func(token int, expiry func() time.Time) {
		mu.Lock()
		for other, until := range holders {
			if time.Now().Before(until()) { // else it has stood still for longer than its lease
				t.Errorf("two hold: %d and %d", other, token)
			}
		}
		holders[token] = expiry
		if token <= last && time.Now().Before(expiry()) {
			t.Errorf("token %d after %d", token, last)
		}
		last = max(last, token)
		mu.Unlock()
		time.Sleep(time.Millisecond) // the work
		mu.Lock()
		delete(holders, token)
		mu.Unlock()
	}
	var wg sync.WaitGroup
	begun := time.Now()
	olders, newers := make([]int, 2), make([]int, 2)
	var oldTerms atomic.Int64
	over := func() bool {
		ran := time.Since(begun)
		return ran > 4*time.Second && oldTerms.Load() > 0 || ran > testTimeout/2
	}
	for i := range olders {
		o := newOldClient(t, servers)
		wg.Go(func() {
			for n := 0; !over(); n++ {
				value := "old" + strconv.Itoa(i) + "/" + strconv.Itoa(n)
				expiry := time.Now().Add(oldTTL)
				if token := o.try("k", value); token != 0 {
					hold(token, func() time.Time { return expiry })
					o.free("k", value)
					olders[i]++
					oldTerms.Add(1)
				}
				time.Sleep(20 * time.Millisecond) // it polls
			}
		})
	}
	for i := range newers {
		l := dial(t, servers, throwaway())
		wg.Go(func() {
			for !over() {
				lease, err := l.Await(within(t, testTimeout), "k", 10*time.Second, func(*lock.HeldError) {})
				if err != nil {
					t.Error(err)
					return
				}
				hold(int(lease.Token()), lease.Expiry)
				release(t, lease)
				time.Sleep(10 * time.Millisecond)
			}
			newers[i]++
		})
	}
	wg.Wait()
	t.Log("terms of old clients", olders, "last token", last)
	require.Positive(t, olders[0]+olders[1], "old clients get their turn")
	require.Equal(t, []int{1, 1}, newers)
}

func TestRealAnOldClientsReleaseCostsAWaiterARefreshAtMost(t *testing.T) {
	servers := redistest.StartN(t, 3)
	o := newOldClient(t, servers)
	token := o.try("k", "old/1")
	require.NotZero(t, token)
	wait := waiting(t, servers, dial(t, servers, throwaway()), "k")
	start := time.Now()
	o.free("k", "old/1")
	lease := wait()
	require.Greater(t, int(lease.Token()), token)
	t.Logf("%v after the old client's release", time.Since(start))
	if token := o.try("k", "old/2"); token != 0 { // a lease that was waited for begins with a second
		require.False(t, time.Now().Before(lease.Expiry()), "it excludes the old client")
	}
	release(t, lease)
}
