package redlock_test

import (
	"embed"
	"strconv"
	"strings"
	"sync"
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
		n, err := strconv.Atoi(s.Do("EVAL", o.acquire, "2", lockKey(key), fenceKey(key), value, "10000", "600000", "0", ""))
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
	holders, last := 0, 0
	hold := func(token int) {
		mu.Lock()
		holders++
		if holders > 1 {
			t.Error("two hold")
		}
		if token <= last {
			t.Errorf("token %d after %d", token, last)
		}
		last = token
		mu.Unlock()
		time.Sleep(time.Millisecond) // the work
		mu.Lock()
		holders--
		mu.Unlock()
	}
	var wg sync.WaitGroup
	end := time.Now().Add(4 * time.Second)
	olders, newers := make([]int, 2), make([]int, 2)
	for i := range olders {
		o := newOldClient(t, servers)
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				value := "old" + strconv.Itoa(i) + "/" + strconv.Itoa(n)
				if token := o.try("k", value); token != 0 {
					hold(token)
					o.free("k", value)
					olders[i]++
				}
				time.Sleep(20 * time.Millisecond) // it polls
			}
		})
	}
	for i := range newers {
		l := dial(t, servers, throwaway())
		wg.Go(func() {
			for time.Now().Before(end) {
				lease, err := l.Await(within(t, testTimeout), "k", 10*time.Second, func(*lock.HeldError) {})
				if err != nil {
					t.Error(err)
					return
				}
				hold(int(lease.Token()))
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
	require.Zero(t, o.try("k", "old/2"), "and it excludes the old client")
	release(t, lease)
}
