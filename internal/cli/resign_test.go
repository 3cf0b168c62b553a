//go:build unix

package cli

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func TestResignLetsAnotherCopyLead(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		first := start(t, url, nil, "run", "k", "--ttl=6s", "--restart", "--holder=first", "--", "sleep", "1000")
		first.Sees(t, "holding k")
		second := start(t, url, nil, "run", "k", "--ttl=6s", "--holder=second", "--", "sleep", "1000")
		second.Sees(t, "standing by")
		token := shown(t, url, "k").Token

		out, code := do(t, url, nil, "resign", "k", "--wait=20s")
		require.Zero(t, code, out)
		require.Contains(t, out, ", token "+token+", to resign from k")
		require.Contains(t, out, " is over; ") // who leads is said if that is known soon, see below
		first.Sees(t, "to resign: ending the command")
		first.Sees(t, "campaigning again")
		second.Sees(t, "holding k")
		require.NotEqual(t, token, shown(t, url, "k").Token)

		// Without --restart a copy that resigns ends; the first one leads again.
		out, code = do(t, url, nil, "resign", "k")
		require.Zero(t, code, out)
		require.Equal(t, exitSignal+15, second.Exits(t))
	})
}

func TestResignOfAKeyThatNobodyHolds(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		out, code := do(t, url, nil, "resign", "k")
		require.Zero(t, code)
		require.Contains(t, out, "nobody holds k\n")
	})
}

func TestResignOfAKeyThatIsHeldInSlots(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		ends := start(t, url, nil, "run", "crawl", "--slots=1", "--ttl=6s", "--", "sleep", "1000")
		ends.Sees(t, "holding crawl")
		others := []*programtest.Program{}
		for range 2 {
			p := start(t, url, nil, "run", "crawl", "--slots=3", "--ttl=6s", "--", "sleep", "1000")
			p.Sees(t, "holding crawl")
			others = append(others, p)
		}
		out, code := do(t, url, nil, "resign", "crawl", "--wait=1m")
		require.Zero(t, code, out)
		require.Equal(t, exitSignal+15, ends.Exits(t), "without --slots the holder of the key itself alone is asked")
		require.Len(t, shown(t, url, "crawl").Slots, 2)

		out, code = do(t, url, nil, "resign", "crawl")
		require.Equal(t, exitHeld, code, out)
		require.Contains(t, out, `nobody was asked: crawl is held in slots, or by readers: name one, as in lockkeeper resign 'crawl;slot=2', or give --slots`)
		out, code = do(t, url, nil, "resign", "crawl;slot=1")
		require.Equal(t, exitHeld, code, out)
		require.Contains(t, out, "nobody was asked: ")

		out, code = do(t, url, nil, "resign", "crawl", "--slots", "--wait=1m")
		require.Zero(t, code, out)
		require.Contains(t, out, "to resign from crawl;slot=2: ")
		require.Contains(t, out, "nobody holds crawl;slot=3 now")
		for _, p := range others {
			require.Equal(t, exitSignal+15, p.Exits(t))
		}
		out, code = do(t, url, nil, "resign", "crawl", "--slots")
		require.Zero(t, code, out)
		require.Contains(t, out, "nobody holds crawl\n")
	})
}

// A node that is down may hide who leads now, and with which token: the term that was asked to
// end is over all the same, where too few nodes can still have its value.
func TestATermIsOverWhereTooFewNodesCanStillHaveIt(t *testing.T) {
	down := redlock.NodeView{Err: lock.ErrUnavailable}
	at := func(holder string, term int) redlock.NodeView { return redlock.NodeView{Holder: holder, Term: term} }
	unknown := func(nodes ...redlock.NodeView) inspect.Reading {
		return inspect.Reading{View: &redlock.View{State: redlock.StateUnknown, Quorum: 2, Nodes: nodes}}
	}
	term := lock.Info{Key: "k", Holder: "a", Token: 7}
	for name, c := range map[string]struct {
		k    inspect.Reading
		over bool
	}{
		"the same":                          {inspect.Reading{Info: lock.Info{Holder: "a", Token: 7}}, false},
		"the same, its token is not known":  {inspect.Reading{Info: lock.Info{Holder: "a"}}, false},
		"it leads again":                    {inspect.Reading{Info: lock.Info{Holder: "a", Token: 8}}, true},
		"another":                           {inspect.Reading{Info: lock.Info{Holder: "b", Token: 8}}, true},
		"another, its token is not known":   {inspect.Reading{Info: lock.Info{Holder: "b"}}, true},
		"nobody":                            {inspect.Reading{}, true},
		"another on one of two that answer": {unknown(at("b", 1), at("", 0), down), true},
		"the same on one of two":            {unknown(at("a", 1), at("", 0), down), false},
		"both":                              {unknown(at("a", 1), at("b", 2), down), false},
		"two are down":                      {unknown(at("b", 1), down, down), false},
		"all are down":                      {unknown(down, down, down), false},
	} {
		require.Equal(t, c.over, termOver(c.k, term), name)
	}
}

// One that takes over within nextTime is named, and a store where nobody does is not waited for.
func TestWhoLeadsAfterATermIsNamedIfThatIsKnownSoon(t *testing.T) {
	for after, next := range map[time.Duration]string{nextTime / 2: "second", 2 * nextTime: ""} {
		synctest.Test(t, func(t *testing.T) {
			store := memory.New()
			first, err := store.Client("first").TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			term, err := store.Inspect(t.Context(), "k")
			require.NoError(t, err)
			time.AfterFunc(time.Second, func() { _ = first.Release(context.Background()) })
			time.AfterFunc(time.Second+after, func() { _, _ = store.Client("second").TryAcquire(context.Background(), "k", time.Hour) })
			k, err := untilOver(t.Context(), store, term, time.Minute, time.Now().Add(time.Minute))
			require.NoError(t, err)
			require.Equal(t, next, k.Holder)
			time.Sleep(3 * nextTime) // what has not happened yet
		})
	}
}

// fades answers once, and then no more.
type fades struct {
	*memory.Locker
	asked int
}

func (f *fades) Inspect(ctx context.Context, key string) (lock.Info, error) {
	if f.asked++; f.asked > 1 {
		return lock.Info{}, lock.ErrUnavailable
	}
	return f.Locker.Inspect(ctx, key)
}

func TestATermThatWasOverStaysSoInAnOutage(t *testing.T) {
	for _, wait := range []time.Duration{time.Millisecond, nextTime / 2, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			k, err := untilOver(t.Context(), &fades{Locker: memory.New()}, lock.Info{Key: "k", Holder: "a", Token: 7}, wait, began.Add(wait))
			require.NoError(t, err)
			require.Empty(t, k.Holder)
			require.Less(t, time.Since(began), 2*nextTime)
		})
	}
}

func TestResignOfAHolderThatTakesItsTimeIsToldSo(t *testing.T) {
	url := fileURL(t)
	p := start(t, url, nil, "run", "k", "--ttl=6s", "--holder=stubborn", "--", "sh", "-c", "trap '' TERM; echo ready >&2; sleep 1000 & wait; wait; sleep 1000")
	p.Sees(t, "ready")
	out, code := do(t, url, nil, "resign", "k", "--wait=2s")
	require.Equal(t, exitHeld, code, out)
	require.Contains(t, out, "still holds k after 2s")
	out, code = do(t, url, nil, "resign", "k", "--wait=0.5")
	require.Equal(t, exitUsage, code, out)
}
