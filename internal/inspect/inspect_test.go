package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/internal/resign"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// hung is an Inspector of a store that answers once, if at all, and then hangs.
type hung struct {
	lock.Inspector
	first []lock.Info
}

func (h hung) List(ctx context.Context, _ string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) {
		for _, info := range h.first {
			if !yield(info, nil) {
				return
			}
		}
		<-ctx.Done()
		yield(lock.Info{}, ctx.Err())
	}
}

func TestAListingOfAStoreThatHangsEndsAsAnOutage(t *testing.T) {
	for _, first := range [][]lock.Info{nil, {{Key: "a", Holder: "vm:1"}}} {
		synctest.Test(t, func(t *testing.T) {
			all, err := listed(t.Context(), hung{first: first}, "")
			require.Len(t, all, len(first), "what could be read is shown")
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.Equal(t, "the store can't decide: no answer within 10s", plain.Error(err))
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := listed(ctx, hung{}, "")
	require.ErrorIs(t, err, context.Canceled, "the caller's end is no outage")
}

func TestHealthTellsAnOutageFromARefusalInTheWordsOfAShellUser(t *testing.T) {
	for want, err := range map[string]error{
		"down: the store can't decide: connection refused": fmt.Errorf("%w: dial tcp 127.0.0.1:1: connect: connection refused", lock.ErrUnavailable),
		"down: no answer": fmt.Errorf("%w; the store: %w", context.DeadlineExceeded, context.DeadlineExceeded),
		"refuses: refused by the store: check user and password": fmt.Errorf("%w: check user and password", lock.ErrRefused),
		"refuses: answers, but refuses writes":                   errors.New("answers, but refuses writes"),
	} {
		r := Health(lock.Health{Quorum: 1, Nodes: []lock.NodeHealth{{Name: "mysql", Err: err, Latency: 2 * slow}}})
		require.Equal(t, want, r.Nodes[0].State+": "+r.Nodes[0].Reason)
		require.Equal(t, r.Nodes[0].State == Down, len(r.Nodes[0].Advice) == 0, "a store that is away is not slow")
	}
}

func TestWhatIsMeasuredIsANumberWithItsUnitInTheName(t *testing.T) {
	text, err := json.Marshal(Health(lock.Health{Quorum: 1, Nodes: []lock.NodeHealth{{
		Name: "a:1", Latency: 1500 * time.Microsecond,
		Facts: []lock.Fact{
			{Name: "version", Value: "Redis 8.0"},
			{Name: "uptime", Value: "1h0m", Measures: []lock.Measure{{Name: "uptime_seconds", Value: 3600}}},
			{Name: "memory", Value: "not permitted (INFO)"}, // a measure that is not known
			{Name: "flush at commit", Value: "1"},
		},
	}}}))
	require.NoError(t, err)
	require.JSONEq(t, `{"status": "healthy", "voting": 1, "quorum": 1, "nodes": [{"name": "a:1", "state": "votes", "votes": true,
		"latency_ms": 1.5, "advice": [], "facts": {"version": "Redis 8.0", "uptime_seconds": 3600, "memory": "not permitted (INFO)", "flush_at_commit": "1"}}]}`, string(text))
}

// What a store can't say is not there: it would look like a zero.
func TestWhatIsNotKnownIsLeftOut(t *testing.T) {
	text, err := json.Marshal(Reading{Info: lock.Info{Key: "k", Holder: "vm:1", TTL: -1}}.JSON())
	require.NoError(t, err)
	require.JSONEq(t, `{"key": "k", "held": true, "holder": "vm:1"}`, string(text))
	text, err = json.Marshal(Reading{Info: lock.Info{Key: "k", Holder: "vm:1", Token: 1 << 60, TTL: time.Second, Held: 2500 * time.Millisecond}, Queues: true}.JSON())
	require.NoError(t, err)
	require.JSONEq(t, `{"key": "k", "held": true, "holder": "vm:1", "token": "1152921504606846976", "left_ms": 1000, "held_ms": 2500, "waiting_count": 0}`, string(text))
	text, err = json.Marshal(Health(lock.Health{Quorum: 1, Nodes: []lock.NodeHealth{{Name: "a:1", Err: errors.New("away")}}}))
	require.NoError(t, err)
	require.NotContains(t, string(text), "latency")
}

// names are the keys of all, each with what it is held as and by whom.
func names(all []Reading) (names []string) {
	for _, k := range all {
		name := k.Name() + " " + k.Holder
		if as := k.As(); as != "" {
			name += " " + as
		}
		if k.ResignBy != "" {
			name += " asked by " + k.ResignBy
		}
		names = append(names, name)
	}
	return names
}

func list(t *testing.T, l lock.Locker, prefix string) []string {
	t.Helper()
	all, err := Keys(t.Context(), l, prefix)
	require.NoError(t, err)
	return names(Fold(all, prefix))
}

func take(t *testing.T, l lock.Locker, key string) lock.Lease {
	t.Helper()
	lease, err := l.TryAcquire(t.Context(), key, time.Minute)
	require.NoError(t, err)
	return lease
}

func rw(t *testing.T, l lock.Locker) *rwlock.Lock {
	t.Helper()
	rw, err := rwlock.New(l, rwlock.MaxReaders)
	require.NoError(t, err)
	return rw
}

func TestReadersAndWriterAreNamedAndNotTheirPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		writer := take(t, rw(t, store.Client("w:1")).Writer(), "doc")
		take(t, store.Client("x:1"), "doc;other") // a user's key
		require.Equal(t, []string{"doc w:1 writer", "doc;other x:1"}, list(t, store, ""))
		k, err := Key(t.Context(), store, "doc")
		require.NoError(t, err)
		k.Group(t.Context(), store)
		require.Equal(t, AsWriter, k.As())
		require.Empty(t, k.Readers)
		require.NoError(t, writer.Release(t.Context()))

		take(t, rw(t, store.Client("r:1")).Readers(), "doc")
		require.ElementsMatch(t, []string{"doc r:1 reader", "doc;other x:1"}, list(t, store, ""))
		time.Sleep(time.Second)
		second := rw(t, store.Client("r:2"))
		take(t, second.Readers(), "doc")
		require.ElementsMatch(t, []string{"doc r:1 reader", "doc r:2 reader", "doc;other x:1"}, list(t, store, "doc"))

		time.Sleep(2 * time.Second)
		// A writer that waits for them has some places, and the readers of its own process
		// were there before.
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			_, err := lock.Acquire(ctx, second.Writer(), "doc", time.Minute, nil)
			waited <- err
		}()
		time.Sleep(time.Second)
		require.ElementsMatch(t, []string{"doc r:1 reader", "doc r:2 reader", "doc r:2 gate", "doc;other x:1"}, list(t, store, "doc"))
		k, err = Key(t.Context(), store, "doc")
		require.NoError(t, err)
		k.Group(t.Context(), store)
		require.ElementsMatch(t, []string{"doc r:1 reader", "doc r:2 reader"}, names(k.Readers))
		require.Equal(t, AsGate, k.As())
		cancel()
		require.ErrorIs(t, <-waited, context.Canceled)

		require.Len(t, list(t, store, "doc;readers"), 2)
		require.Contains(t, list(t, store, "doc;readers")[0], "doc;readers", "a prefix that leaves the gate out shows places by their names")
	})
}

func TestARequestToResignIsToldWithTheTermThatItIsFor(t *testing.T) {
	store := memory.New()
	lease := take(t, store.Client("vm:1"), "k")
	_, request, err := resign.Ask(t.Context(), store.Client("vm:9"), "k")
	require.NoError(t, err)
	require.Equal(t, []string{"k vm:1 asked by vm:9"}, list(t, store, ""))
	k, err := Key(t.Context(), store, "k")
	require.NoError(t, err)
	k.Group(t.Context(), store)
	require.Equal(t, "vm:9", k.ResignBy)
	require.Equal(t, "vm:9", k.JSON().ResignBy)
	require.NoError(t, lease.Release(t.Context()))
	require.Equal(t, []string{"k vm:9 resign_request"}, list(t, store, ""), "it asks nobody any more")
	take(t, store.Client("vm:2"), "k")
	require.ElementsMatch(t, []string{"k vm:2", "k vm:9 resign_request"}, list(t, store, ""), "and not the next one")
	require.NoError(t, request.Release(t.Context()))
}

func TestWhoWaitsIsCountedWhereTheStoreQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		take(t, store.Client("vm:1"), "k")
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			_, err := lock.Acquire(ctx, store.Client("vm:2"), "k", time.Minute, nil)
			waited <- err
		}()
		synctest.Wait()
		k, err := Key(t.Context(), store, "k")
		require.NoError(t, err)
		require.Equal(t, 1, k.Waiting)
		require.True(t, k.Queues)
		all, err := Keys(t.Context(), store, "")
		require.NoError(t, err)
		require.Equal(t, 1, all[0].Waiting)
		require.Equal(t, 1, *all[0].JSON().WaitingCount)
		cancel()
		require.ErrorIs(t, <-waited, context.Canceled)
		k, err = Key(t.Context(), store, "k")
		require.NoError(t, err)
		require.Zero(t, k.Waiting)
	})
}
