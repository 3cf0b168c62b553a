package redlock

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// ours is a value as a client of ours has it.
func ours(owner string) string { return newValue(owner) }

func TestViewTellsHowAKeyStands(t *testing.T) {
	a, b, theirs := ours("alpha:1"), ours("beta:2"), "theirs"
	for _, tc := range []struct {
		name   string
		values []string // "" is none, "-" a node that is down
		want   State
		holder string
		terms  []int
	}{
		{"nothing", []string{"", "", ""}, StateFree, "", []int{0, 0, 0}},
		{"all", []string{a, a, a}, StateHeld, "alpha:1", []int{1, 1, 1}},
		{"a quorum", []string{"", a, a}, StateHeld, "alpha:1", []int{0, 1, 1}},
		{"a quorum beside another's", []string{b, a, a}, StateHeld, "alpha:1", []int{2, 1, 1}},
		{"a quorum without a node", []string{a, "-", a}, StateHeld, "alpha:1", []int{1, 0, 1}},
		{"one and one", []string{a, b, ""}, StateSplit, "", []int{1, 2, 0}},
		{"one each", []string{a, b, theirs}, StateSplit, "", []int{1, 2, 3}},
		{"one", []string{"", a, ""}, StateOrphaned, "", []int{0, 1, 0}},
		{"one of another library", []string{"", "", theirs}, StateForeign, "", []int{0, 0, 1}},
		{"a quorum of another library", []string{a, theirs, theirs}, StateForeign, foreign, []int{2, 1, 1}},
		{"one that could be more", []string{a, "-", ""}, StateUnknown, "", []int{1, 0, 0}},
		{"free as far as one can see", []string{"", "-", "-"}, StateUnknown, "", []int{0, 0, 0}},
		{"free with one away", []string{"", "-", ""}, StateFree, "", []int{0, 0, 0}},
		{"split, whatever one says", []string{a, b, "-", "", ""}, StateSplit, "", []int{1, 2, 0, 0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQuorum(t, len(tc.values))
				l, nets := q.client(nil)
				for i, value := range tc.values {
					switch value {
					case "":
					case "-":
						nets[i].set(refuse)
					default:
						require.NoError(t, q.nodes[i].redis.Set("redlock:k", value))
						q.nodes[i].redis.SetTTL("redlock:k", time.Minute)
					}
				}
				v, err := l.View(t.Context(), "k")
				require.NoError(t, err)
				require.Equal(t, tc.want, v.State)
				require.Equal(t, tc.holder, v.Holder)
				require.Equal(t, "k", v.Key)
				require.Equal(t, len(tc.values)/2+1, v.Quorum)
				require.NotContains(t, fmt.Sprintf("%+v %#v", v, v), theirs, "anyone who knows a value can free the lock")
				require.NotContains(t, fmt.Sprintf("%+v %#v", v, v), a[len("alpha:1/"):])
				for i, n := range v.Nodes {
					require.Equal(t, q.nodes[i].name, n.Node)
					require.Equal(t, tc.values[i] == "-", n.Err != nil)
					require.Equal(t, tc.terms[i], n.Term, "node %d", i)
					require.Equal(t, tc.values[i] == theirs, n.Foreign)
					if n.Term > 0 {
						require.Equal(t, time.Minute, n.TTL)
					}
				}
				info, err := l.Inspect(t.Context(), "k")
				if tc.want == StateUnknown {
					require.ErrorIs(t, err, lock.ErrUnavailable)
				} else {
					require.NoError(t, err)
					require.Equal(t, v.Info, info)
				}
				var listed []string
				for v, err := range l.Views(t.Context(), "") {
					if err != nil {
						require.ErrorIs(t, err, lock.ErrUnavailable)
						require.Equal(t, "free as far as one can see", tc.name, "a quorum can be listed")
						break
					}
					listed = append(listed, fmt.Sprint(v.Key, " ", v.State))
				}
				if tc.want == StateFree || tc.name == "free as far as one can see" {
					require.Empty(t, listed)
				} else {
					require.Equal(t, []string{fmt.Sprint("k ", tc.want)}, listed)
				}
			})
		})
	}
}

// stands puts a request for this value, of a waiter with the same name, into the queue of
// a node.
func stands(t *testing.T, n *fakeNode, k script.Keys, value string, position int) {
	name := strings.TrimPrefix(k.Fence, FencePrefix)
	_, err := n.redis.ZAdd(StandingPrefix+name, float64(position), value)
	require.NoError(t, err)
	n.redis.HSet(StandingPrefix+"asked:"+name, value, fmt.Sprintf("%d 1 9000000000000000 1000 1 channel %s", position, value))
}

func TestViewNamesThoseWhoWaitInTheOrderOfMostNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		a, b, c := ours("a:1"), ours("b:2"), ours("c:3")
		k, _ := script.NewKeys("redlock:", "k")
		for i, order := range [][]string{{a, b}, {b, a}, {c, a, b}} {
			for place, id := range order {
				stands(t, q.nodes[i], k, id, place+1)
			}
		}
		v, err := l.View(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, []string{"a:1", "b:2", "c:3"}, v.Waiters)
		require.Equal(t, StateFree, v.State)
		queue := StandingPrefix + strings.TrimPrefix(k.Fence, FencePrefix)
		q.nodes[0].redis.Del(queue)
		require.NoError(t, q.nodes[0].redis.Set(queue, "no queue")) // is no reason to hide the lock
		nets[1].set(refuse)
		v, err = l.View(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, []string{"c:3", "a:1", "b:2"}, v.Waiters)
		require.NoError(t, v.Nodes[0].Err)
	})
}

// A node that did not answer when the holder left its queue still has it there.
func TestViewDoesNotNameTheHolderAmongThoseWhoWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(&Options{Owner: "holder:1"})
		must(t)(l.TryAcquire(t.Context(), "k", ttl))
		time.Sleep(time.Second) // it stands on all three
		k, _ := script.NewKeys("redlock:", "k")
		waits := func(owner string, nodes ...int) {
			id := ours(owner)
			for _, i := range nodes {
				stands(t, q.nodes[i], k, id, 1)
			}
		}
		waiters := func() []string {
			v, err := l.View(t.Context(), "k")
			require.NoError(t, err)
			return v.Waiters
		}
		waits("holder:1", 2)
		waits("other:2", 2)
		require.Equal(t, []string{"other:2"}, waiters())
		nets[0].set(refuse)
		require.Equal(t, []string{"other:2"}, waiters(), "on one of the two that answer")
		nets[0].set(func(w *network) { w.down = false })
		waits("holder:1", 0, 1)
		require.Equal(t, []string{"holder:1", "other:2"}, waiters(), "somebody else in the holder's process waits")
	})
}

// A value is any text that another program wrote: one that reads like an order is none.
func TestBreakFreesTheValueThatItSawWhateverThatIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		for _, value := range []string{"*", "", "0", "1", "a*"} {
			for _, n := range q.nodes {
				require.NoError(t, n.redis.Set("redlock:k", value))
			}
			v, err := l.View(t.Context(), "k")
			require.NoError(t, err)
			all, err := l.Break(t.Context(), v)
			require.NoError(t, err)
			require.Equal(t, []Did{Freed, Freed, Freed}, []Did{all[0].Did, all[1].Did, all[2].Did}, "%q", value)

			lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
			synctest.Wait()
			all, err = l.Break(t.Context(), v) // the same view, late
			require.NoError(t, err)
			require.Equal(t, []Did{Anothers, Anothers, Anothers}, []Did{all[0].Did, all[1].Did, all[2].Did}, "%q", value)
			require.NoError(t, lease.Extend(t.Context(), ttl))
			require.NoError(t, lease.Release(t.Context()))
			synctest.Wait()
		}
	})
}

func TestBreakTellsWhatItDidOnEachNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 5)
		l, nets := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		time.Sleep(time.Second) // it stands on all five
		q.nodes[1].redis.Del("redlock:k")
		require.NoError(t, q.nodes[2].redis.Set("redlock:k", ours("other:1")))
		v, err := l.View(t.Context(), "k")
		require.NoError(t, err)
		nets[3].set(refuse)
		all, err := l.Break(t.Context(), v)
		require.NoError(t, err)
		for i, want := range []Did{Freed, WasFree, Anothers, "", Freed} {
			require.Equal(t, want, all[i].Did, "node %d", i)
			require.Equal(t, q.nodes[i].name, all[i].Node)
			require.Equal(t, i == 3, all[i].Err != nil)
		}
		require.Empty(t, q.nodes[0].value("k"))
		require.NotEmpty(t, q.nodes[2].value("k"), "another's is left alone")
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)

		nets[0].set(refuse)
		nets[4].set(refuse)
		all, err = l.Break(t.Context(), v)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.Len(t, all, 5, "what was done is reported all the same")
		_, err = l.Break(t.Context(), View{})
		require.ErrorIs(t, err, lock.ErrInvalid)
	})
}

func TestBreakFreesNothingThatCameLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		for _, values := range [][]string{{ours("a:1"), "", ""}, {ours("a:1"), "theirs", ours("b:2")}, {"theirs", "theirs", ""}} {
			for i, value := range values {
				if value != "" {
					require.NoError(t, q.nodes[i].redis.Set("redlock:k", value))
				}
			}
			v, err := l.View(t.Context(), "k")
			require.NoError(t, err)
			stale := v
			all, err := l.Break(t.Context(), v)
			require.NoError(t, err)
			for i, value := range values {
				require.Equal(t, map[bool]Did{true: WasFree, false: Freed}[value == ""], all[i].Did)
			}
			q.free("k")
			lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
			time.Sleep(time.Second)
			all, err = l.Break(t.Context(), stale)
			require.NoError(t, err)
			for _, node := range all {
				require.Equal(t, Anothers, node.Did)
			}
			require.NoError(t, lease.Extend(t.Context(), ttl))
			require.NoError(t, lease.Release(t.Context()))
			time.Sleep(time.Second)
		}
	})
}

// A node that hangs costs a listing its time once, not once a key.
func TestAHungNodeHoldsUpAListingOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		const n = 50
		for i := range n {
			must(t)(l.TryAcquire(t.Context(), fmt.Sprint(i), time.Minute))
		}
		nets[0].set(hang)
		for name, list := range map[string]func() int{
			"List": func() (keys int) {
				for _, err := range l.List(t.Context(), "") {
					require.NoError(t, err)
					keys++
				}
				return keys
			},
			"Views": func() (keys int) {
				for v, err := range l.Views(t.Context(), "") {
					require.NoError(t, err)
					require.Equal(t, StateHeld, v.State)
					require.Error(t, v.Nodes[0].Err)
					keys++
				}
				return keys
			},
		} {
			start := time.Now()
			require.Equal(t, n, list(), name)
			require.Less(t, time.Since(start), n*testNodeTimeout/5, name)
		}
	})
}
