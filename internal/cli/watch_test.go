package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/lock"
)

// watched runs watch on fake time over a memory store, and returns what it has
// printed when during has returned.
func watched(t *testing.T, output string, during func(store *memory.Locker)) []string {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		a := &app{out: &out, err: &out, getenv: func(string) string { return "" }, output: output}
		w := &watcher{a: a, interval: time.Second}
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		time.AfterFunc(500*time.Millisecond, func() { ended <- w.run(ctx, func(context.Context) (lock.Locker, error) { return store, nil }) }) // between whole seconds
		during(store)
		synctest.Wait()
		cancel(signalled{syscall.SIGINT})
		require.NoError(t, <-ended)
	})
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

// history is something of each kind.
func history(t *testing.T) func(store *memory.Locker) {
	return func(store *memory.Locker) {
		take := func(client *memory.Locker, key string, ttl time.Duration) lock.Lease {
			lease, err := client.TryAcquire(t.Context(), key, ttl)
			require.NoError(t, err)
			return lease
		}
		a, b := store.Client("a"), store.Client("b")
		first := take(a, "x", time.Minute)
		time.Sleep(time.Second)
		take(a, "brief", 1500*time.Millisecond)
		time.Sleep(time.Second)
		require.NoError(t, first.Release(t.Context()))
		second := take(b, "x", time.Minute)
		time.Sleep(2 * time.Second)
		store.FailNext(1, errors.New("down"))
		time.Sleep(2 * time.Second)
		require.NoError(t, second.Release(t.Context()))
		time.Sleep(time.Second)
	}
}

func TestWatchTellsWhatHappens(t *testing.T) {
	kinds := []string{}
	for _, line := range watched(t, "json", history(t)) {
		var e event
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		require.False(t, e.Time.IsZero())
		if e.Node != "" {
			continue
		}
		text := e.Kind + " " + e.Key
		if e.Kind == evHandedOver {
			text += fmt.Sprintf(" %s to %s", e.From, e.Holder)
			require.NotEmpty(t, e.Token)
			require.NotEqual(t, e.FromToken, e.Token)
		}
		kinds = append(kinds, text)
	}
	require.Subset(t, kinds, []string{"holds x", "acquired brief", "handed_over x a to b", "expired brief", "released x"})
	require.Equal(t, "holds x", kinds[0])
	require.Equal(t, "released x", kinds[len(kinds)-1])
}

func TestWatchIsALineAnEventWithoutATerminal(t *testing.T) {
	lines := watched(t, "table", history(t))
	for _, line := range lines {
		require.Regexp(t, `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  [a-z]`, line)
		require.NotContains(t, line, "\x1b")
	}
	require.Contains(t, strings.Join(lines, "\n"), "  holds         x  by a, token ")
}

func TestWatchASourceThatComesLaterIsWatched(t *testing.T) {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		_, err := store.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		w := &watcher{a: &app{out: &out, getenv: func(string) string { return "" }}, interval: time.Second}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, w.run(ctx, func(context.Context) (lock.Locker, error) {
			if time.Since(began) < 20*time.Second {
				return nil, fmt.Errorf("%w: away", lock.ErrUnavailable)
			}
			return store, nil
		}), context.DeadlineExceeded)
	})
	require.Regexp(t, `(?s)^[^\n]* unavailable .*away\n.* available .*holds +k `, out.String())
	require.Equal(t, 1, strings.Count(out.String(), "away"), "reported once")

	w := &watcher{a: &app{out: &out}, interval: time.Second}
	err := w.run(t.Context(), func(context.Context) (lock.Locker, error) { return nil, lock.ErrInvalid })
	require.ErrorIs(t, err, lock.ErrInvalid, "what can never be opened")
}

var start0 = time.Now()

func answer(after, took time.Duration, locks ...lock.Info) listing {
	l := listing{began: start0.Add(after), ended: start0.Add(after + took)}
	for _, info := range locks {
		l.locks = append(l.locks, inspect.Reading{Info: info})
	}
	return l
}

func kindsOf(events []event) []string {
	kinds := []string{}
	for _, e := range events {
		kinds = append(kinds, strings.TrimSpace(e.Kind+" "+e.Key+e.Node))
	}
	return kinds
}

func TestWatchWhatIsGoneBeforeItsTimeWasReleased(t *testing.T) {
	k := lock.Info{Key: "k", Holder: "a", Token: 1, TTL: 2 * time.Second}
	for gone, want := range map[time.Duration]string{time.Second: "released k", 2 * time.Second: "expired k"} {
		var s watchState
		s.update(answer(0, time.Millisecond, k))
		require.Equal(t, []string{want}, kindsOf(s.update(answer(gone, 0))))
	}
	var s watchState
	k.TTL = -1
	s.update(answer(0, 0, k))
	require.Equal(t, []string{"released k"}, kindsOf(s.update(answer(time.Hour, 0))), "what never expires has not")
}

func TestWatchAnOutageIsNoRelease(t *testing.T) {
	var s watchState
	k := lock.Info{Key: "k", Holder: "a", Token: 1, TTL: time.Minute}
	s.update(answer(0, 0, k))
	down := answer(time.Second, 0)
	down.err = lock.ErrUnavailable
	require.Equal(t, []string{"unavailable"}, kindsOf(s.update(down)))
	require.Empty(t, s.update(down), "reported once")
	require.Equal(t, []string{"available"}, kindsOf(s.update(answer(3*time.Second, 0, k))))
}

func TestWatchARenewalIsNoEvent(t *testing.T) {
	var s watchState
	k := lock.Info{Key: "k", Holder: "a", Token: 1, TTL: 10 * time.Second}
	s.update(answer(0, 0, k))
	k.TTL = 30 * time.Second
	require.Empty(t, s.update(answer(time.Second, 0, k)))
	require.Equal(t, 30*time.Second, s.holds["k"].full)
	k.Token = 2
	require.Equal(t, []string{"acquired k"}, kindsOf(s.update(answer(2*time.Second, 0, k))), "the same holder's next term")
}

func TestWatchTellsOfNodes(t *testing.T) {
	var s watchState
	up, down := lock.NodeHealth{Name: "n"}, lock.NodeHealth{Name: "n", Err: errors.New("refused")}
	check := func(n lock.NodeHealth, err error) []string {
		return kindsOf(s.checkup(start0, lock.Health{Nodes: []lock.NodeHealth{n}, Quorum: 1}, err))
	}
	require.Equal(t, []string{"node_up n"}, check(up, nil))
	require.Empty(t, check(up, nil))
	require.Equal(t, []string{"node_down n"}, check(down, nil))
	require.Empty(t, check(down, nil))
	require.Equal(t, []string{"node_back n"}, check(up, nil))
	require.Equal(t, []string{"node_down n"}, check(up, errors.New("could not ask")))
}

func TestWatchAFrameFitsTheTerminal(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	w := &watcher{a: a, prefix: "tenant:"}
	var locks []lock.Info
	for i := range 40 {
		locks = append(locks, lock.Info{Key: fmt.Sprintf("锁%02d-%s", i, strings.Repeat("x", i)), Holder: "vm:1\x1b[2J", Token: 1795676996249566, TTL: time.Minute})
	}
	w.recent = append(w.recent, w.state.update(answer(0, 0, locks...))...)
	var nodes []lock.NodeHealth
	for i := range 5 {
		nodes = append(nodes, lock.NodeHealth{Name: fmt.Sprint("node", i), Err: errors.New(strings.Repeat("why ", 50))})
	}
	w.state.checkup(start0, lock.Health{Nodes: nodes, Quorum: 3}, nil)
	for width := 20; width < 200; width += 9 {
		for height := 1; height < 120; height++ {
			lines := w.frame(start0, width, height)
			require.LessOrEqual(t, len(lines), height)
			shown := 0
			for _, line := range lines {
				require.Less(t, columns(line), width, "%d: %q", width, line)
				require.NotContains(t, line, "\x1b")
				if strings.HasPrefix(line, "锁") {
					shown++
				}
			}
			text := strings.Join(lines, "\n")
			if shown < len(locks) && height > 2 {
				assert.Contains(t, text, fmt.Sprintf("... and %d more", len(locks)-shown), "height %d", height)
			} else {
				require.NotContains(t, text, "more", "height %d", height)
			}
		}
	}
}

func TestWatchABarIsAsFullAsTheTimeLeft(t *testing.T) {
	for left, want := range map[time.Duration]string{
		-1: "████", 0: "░░░░", time.Second: "█░░░", 1500 * time.Millisecond: "█▌░░", 4 * time.Second: "████", 9 * time.Second: "████",
	} {
		got, _ := bar(left, 4*time.Second, 4)
		require.Equal(t, want, got, left)
	}
}

func TestWatchRefusesAnIntervalThatIsNotLight(t *testing.T) {
	a := &app{out: &bytes.Buffer{}, err: &bytes.Buffer{}, getenv: func(string) string { return "" }}
	require.Equal(t, exitUsage, a.main(t.Context(), []string{"watch", "--interval=1ms"}))
}

// It asks once an interval, and for the health every few seconds.
func TestWatchIsLightOnTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lists, checks := 0, 0
		w := &watcher{
			a: &app{out: &bytes.Buffer{}}, interval: time.Second,
			locks: func(context.Context) ([]inspect.Reading, error) {
				lists++
				time.Sleep(10 * time.Millisecond)
				return nil, nil
			},
			health: func(context.Context) (lock.Health, error) { checks++; return lock.Health{}, nil },
		}
		ctx, cancel := context.WithTimeout(t.Context(), 60500*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, w.loop(ctx), context.DeadlineExceeded)
		require.Equal(t, 61, lists)
		require.Equal(t, 13, checks)
	})
}

func TestATokenIsWholeWhereNamesCanBeCut(t *testing.T) {
	tab := &table{}
	tab.add("KEY", "HOLDER", "TOKEN", "LEFT", "HELD FOR", "WAITING", "AS")
	tab.add("pricing-oracle-keeper-of-the-west", "web-1.example.com:44361", "1795678661850660", "28.1s", "3d4h", "1", "asked to resign")
	for width, whole := range map[int]bool{120: true, 80: true, 76: true, 60: false, 20: false} {
		lines := tab.lines(&app{}, width)
		require.Equal(t, whole, strings.Contains(lines[1], "1795678661850660"), lines)
		require.LessOrEqual(t, columns(lines[1]), max(width, 7*leastWidth+6*gap), lines)
	}
}

func TestColumnsAreThoseOfTheTerminal(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "锁": 2, "é": 1, "e\u0301": 1, "🔒": 2} {
		require.Equal(t, want, columns(s), s)
	}
	require.Equal(t, "锁…", cut("锁锁锁", 4))
	require.Equal(t, "ab…", cut("abcd", 3))
	require.Equal(t, "abc", cut("abc", 3))
}

// Too few of the nodes that answer have counted alike: the token is unknown for a while.
func TestWatchAnUnknownTokenIsNoNewHold(t *testing.T) {
	var s watchState
	k := lock.Info{Key: "k", Holder: "a", Token: 7, TTL: time.Minute}
	s.update(answer(0, 0, k))
	k.Token = 0
	require.Empty(t, s.update(answer(time.Second, 0, k)))
	require.Equal(t, uint64(7), s.holds["k"].Token, "it is known from before")
	k.Token = 7
	require.Empty(t, s.update(answer(2*time.Second, 0, k)))
	k.Token = 0
	require.Empty(t, s.update(answer(3*time.Second, 0, k)))
	k.Token = 8
	require.Equal(t, []string{"acquired k"}, kindsOf(s.update(answer(4*time.Second, 0, k))), "the next term, when it is known again")
	k.Holder, k.Token = "b", 0
	require.Equal(t, []string{"handed_over k"}, kindsOf(s.update(answer(5*time.Second, 0, k))))
	k.Token = 9
	require.Empty(t, s.update(answer(6*time.Second, 0, k)))
	require.Equal(t, uint64(9), s.holds["k"].Token)
}

func TestWatchWhatCanNotBeReadIsNotSaidToBeReleased(t *testing.T) {
	var s watchState
	a, b := lock.Info{Key: "a", Holder: "x", Token: 1, TTL: time.Minute}, lock.Info{Key: "b", Holder: "y", Token: 2, TTL: time.Minute}
	s.update(answer(0, 0, a, b))
	partial := answer(time.Second, 0, b)
	partial.partial, partial.unknown = lock.ErrUnavailable, []string{"a", "unheard of"}
	require.Equal(t, []string{"incomplete"}, kindsOf(s.update(partial)))
	require.Empty(t, s.update(partial), "said once")
	partial.locks = nil
	require.Equal(t, []string{"released b"}, kindsOf(s.update(partial)), "the others are watched")
	require.Equal(t, []string{"complete"}, kindsOf(s.update(answer(2*time.Second, 0, a))))
}

func TestWatchAsksForEachLockThatAListWhichIsNotWholeMisses(t *testing.T) {
	down := fmt.Errorf("%w: damaged", lock.ErrUnavailable)
	k := func(key string) inspect.Reading {
		return inspect.Reading{Info: lock.Info{Key: key, Holder: "x", Token: 1, TTL: time.Minute}}
	}
	asked := []string{}
	list, failed := []inspect.Reading{k("a"), k("b"), k("c")}, error(nil)
	w := &watcher{
		locks: func(context.Context) ([]inspect.Reading, error) { return list, failed },
		inspect: func(_ context.Context, key string) (inspect.Reading, error) {
			asked = append(asked, key)
			switch key {
			case "b":
				return inspect.Reading{Info: lock.Info{Key: key}}, nil
			case "c":
				return inspect.Reading{}, down
			}
			return k(key), nil
		},
	}
	require.NoError(t, w.list(t.Context()).partial)
	require.Empty(t, asked)
	list, failed = nil, down
	l := w.list(t.Context())
	require.NoError(t, l.err)
	require.ErrorIs(t, l.partial, lock.ErrUnavailable)
	require.Equal(t, []string{"a", "b", "c"}, asked)
	require.Equal(t, []inspect.Reading{k("a")}, l.locks)
	require.Equal(t, []string{"c"}, l.unknown)

	w.inspect = func(_ context.Context, key string) (inspect.Reading, error) { return inspect.Reading{}, down }
	require.ErrorIs(t, w.list(t.Context()).err, lock.ErrUnavailable, "the store is away")
}

// A writer that waits at the gate has not got the key: it is reported when it has.
func TestWatchAWriterIsAcquiredWhenItHasAllPlaces(t *testing.T) {
	var s watchState
	gate := inspect.Reading{Info: lock.Info{Key: "k", Holder: "w", Token: 7, TTL: time.Minute}, AtGate: true}
	reader := inspect.Reading{Info: lock.Info{Key: "k;readers", Holder: "r", Token: 3, TTL: time.Minute}, ReaderOf: "k"}
	writer := gate
	writer.AtGate, writer.Writer = false, true
	at := func(seconds int, all ...inspect.Reading) []event {
		l := answer(time.Duration(seconds)*time.Second, 0)
		l.locks = all
		return s.update(l)
	}
	require.Empty(t, at(0))
	require.Equal(t, []string{"acquired k"}, kindsOf(at(1, reader)))
	require.Empty(t, at(2, reader, gate))
	require.Equal(t, []string{"released k"}, kindsOf(at(3, gate)), "the reader")
	events := at(4, writer)
	require.Equal(t, []string{"acquired k"}, kindsOf(events))
	require.Equal(t, "writer", events[0].As)
	require.Empty(t, at(5, writer), "reported once")
	require.Equal(t, []string{"released k"}, kindsOf(at(6)))
	require.Empty(t, at(7, gate), "one that gives up at the gate has come and gone unseen")
	require.Empty(t, at(8))
}

func TestWatchTellsWhoHadALockBeforeAlsoAfterAPause(t *testing.T) {
	var s watchState
	k := func(holder string, token uint64) lock.Info {
		return lock.Info{Key: "k", Holder: holder, Token: token, TTL: time.Minute}
	}
	s.update(answer(0, 0, k("a", 1)))
	require.Equal(t, "a → b, token 2", s.update(answer(time.Second, 0, k("b", 2)))[0].detail())
	require.Equal(t, []string{"released k"}, kindsOf(s.update(answer(2*time.Second, 0))))
	events := s.update(answer(3*time.Second, 0, k("c", 3)))
	require.Equal(t, "by c, token 3; b had it before, token 2", events[0].detail())
	require.Equal(t, "2", events[0].FromToken)
	asked := answer(4*time.Second, 0, k("c", 3))
	asked.locks[0].ResignBy = "ops:1"
	require.Equal(t, []string{"resign_asked k"}, kindsOf(s.update(asked)))
	require.Empty(t, s.update(asked), "reported once")
	for i := range 3 * mostLast {
		s.remember(hold{Reading: inspect.Reading{Info: lock.Info{Key: fmt.Sprint(i)}}})
	}
	require.Len(t, s.last, mostLast)
}
