package nats

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// hanging is a store whose server hangs with the next write on its way to it.
type hanging struct {
	*store
	hang func() // nil: it does not
}

func (s *hanging) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if s.hang != nil {
		s.hang()
		s.hang = nil
	}
	return s.store.Put(ctx, name, r, version)
}

// pending is how many bytes the client has not sent yet.
func pending(conn *natsgo.Conn) int {
	n, err := conn.Buffered()
	if err != nil {
		return 0 // it is closed
	}
	return n
}

func TestAWriteThatIsAppliedAfterItWasGivenUpHoldsNothing(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	m := c.Members[0]
	other := locker(t, dialed(t, c), nil)
	used, err := other.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	require.NoError(t, used.Release(t.Context()))

	// What the record was, as another client saw it.
	var mu sync.Mutex
	var holders []string
	stop, err := opened(t, dialed(t, c), DefaultBucket).Watch(t.Context(), "k", func(e *record.Entry) {
		mu.Lock()
		defer mu.Unlock()
		if e != nil && e.Record.TTL > 0 {
			holders = append(holders, e.Record.Holder)
		}
	})
	require.NoError(t, err)
	defer stop()

	s := &hanging{store: opened(t, dialed(t, c), DefaultBucket)}
	l, err := record.New(s, &record.Options{Names: names, Owner: "late", Timeout: 20 * time.Second})
	require.NoError(t, err)
	defer l.Close()
	attempt, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	s.hang = func() {
		m.Pause()
		conn := s.conn.js.Conn()
		before := conn.Stats().OutMsgs
		go func() { // the attempt is given up when the write is on its way
			for conn.Stats().OutMsgs == before || pending(conn) > 0 {
				time.Sleep(time.Millisecond)
			}
			giveUp()
		}()
	}
	_, err = l.TryAcquire(attempt, "k", time.Hour)
	require.ErrorIs(t, err, context.Canceled)
	m.Resume() // it finds the write, and applies it

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(holders) > 0
	}, 50*time.Second, 10*time.Millisecond, "the write was not applied: this shows nothing")
	next, err := lock.Acquire(ctx, other, "k", time.Minute, nil)
	require.NoError(t, err, "the hold of an attempt that was given up stands")
	require.Greater(t, next.Token(), used.Token())
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, "late", holders[0])
}

func TestABucketThatIsDeletedAndMadeAnewUsesNoRevisionAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{Dir: dir})
	js := dialed(t, c)
	ctx := t.Context()
	// A server that has not removed the files of one deletion yet does not manage another, and
	// the stream that is made then has the old messages (nats-server 2.15.3).
	remove := func() {
		require.NoError(t, js.DeleteStream(ctx, stream))
		require.Eventually(t, func() bool {
			left, err := filepath.Glob(filepath.Join(dir, "jetstream", "$G", "streams", "*"))
			require.NoError(t, err)
			return len(left) == 0
		}, 30*time.Second, 10*time.Millisecond)
	}
	// As many writes before the deletion as after it: a bucket that begins at 1 would have
	// the same revision both times.
	for extends := range 3 {
		a, b := locker(t, js, nil), locker(t, dialed(t, c), nil)
		hold := func(l *Locker) lock.Lease {
			lease, err := l.TryAcquire(ctx, "k", time.Hour)
			require.NoError(t, err)
			for range extends {
				require.NoError(t, lease.Extend(ctx, time.Hour))
			}
			return lease
		}
		old := hold(a)
		remove()
		present := hold(b)
		require.Greater(t, present.Token(), old.Token())

		require.ErrorIs(t, old.Extend(ctx, time.Hour), lock.ErrLost, "another has the key")
		_ = old.Release(ctx)
		require.NoError(t, present.Extend(ctx, time.Hour), "a lease of before the deletion took or freed the key")
		require.NoError(t, present.Release(ctx))
		remove()
		_, err := a.TryAcquire(ctx, "other", time.Hour)
		require.NoError(t, err, "it is made anew for who had it, too")
		remove()
		for _, err := range a.List(ctx, "") {
			require.NoError(t, err)
		}
		remove()
	}
}

func TestARequestEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	m := c.Members[0]
	l := locker(t, dialed(t, c), &Options{Record: record.Options{Timeout: time.Hour}})
	_, err := l.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	m.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	refused := make(chan error, 1)
	go func() {
		_, err := l.TryAcquire(ctx, "k", time.Hour)
		refused <- err
	}()
	require.Eventually(t, func() bool {
		l.store.conn.mu.Lock()
		defer l.store.conn.mu.Unlock()
		return len(l.store.conn.requests) > 0
	}, 30*time.Second, time.Millisecond, "it is sent")
	m.Kill()
	err = <-refused
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.NotErrorIs(t, err, context.DeadlineExceeded, "it waited for a reply that can't come")
}

func TestADeletedBucketIsMadeAnewForThoseWhoWait(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	js := dialed(t, c)
	l, waiter := locker(t, js, nil), locker(t, dialed(t, c), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() {
		next, err := lock.Acquire(t.Context(), waiter, "k", time.Hour, nil)
		if err == nil && next.Token() <= lease.Token() {
			err = fmt.Errorf("the next token is %d, the last one was %d", next.Token(), lease.Token())
		}
		got <- err
	}()
	require.Eventually(t, func() bool {
		e, err := l.store.Get(t.Context(), "k")
		return err == nil && len(e.Record.Queue) > 0
	}, 30*time.Second, 10*time.Millisecond, "it waits")
	require.NoError(t, js.DeleteStream(t.Context(), stream))
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-time.After(50 * time.Second):
		t.Fatal("the waiter was not woken within 50s; the fallback would come after a minute")
	}
}

func TestAWaiterWhoseConnectionGoesSilentIsWoken(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	way := redistest.NewProxy(t, c.Members[0].Addr())
	l, waiter := locker(t, dialed(t, c), nil), atURL(t, "nats", "//"+way.Addr())
	lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() {
		_, err := lock.Acquire(t.Context(), waiter, "k", time.Hour, nil)
		got <- err
	}()
	require.Eventually(t, func() bool {
		e, err := l.store.Get(t.Context(), "k")
		return err == nil && len(e.Record.Queue) > 0
	}, 30*time.Second, 10*time.Millisecond, "it waits")
	way.Blackhole(true)
	require.NoError(t, lease.Release(t.Context()))
	way.Blackhole(false) // for new connections: the one that lost bytes stays silent
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-time.After(50 * time.Second):
		t.Fatal("the waiter was not woken within 50s; the fallback would come after a minute")
	}
}

// A kill -9 takes nothing from the operating system, which has what was acknowledged. What
// it has not written to the disk yet, a power cut takes: see the page.
func TestAKilledServerForgetsNoLockThatItGranted(t *testing.T) {
	for _, interval := range []string{"", "always"} {
		t.Run("sync_interval "+interval, func(t *testing.T) {
			t.Parallel()
			c := storetest.StartNats(t, 1, storetest.NatsConfig{SyncInterval: interval})
			l := locker(t, dialed(t, c), nil)
			var granted atomic.Int64
			var done sync.WaitGroup
			done.Go(func() {
				for {
					if _, err := l.TryAcquire(t.Context(), fmt.Sprint("k", granted.Load()), time.Hour); err != nil {
						return
					}
					granted.Add(1)
				}
			})
			require.Eventually(t, func() bool { return granted.Load() >= 100 }, time.Minute, time.Millisecond)
			c.Members[0].Kill()
			done.Wait()
			c.Members[0].Restart()
			other := locker(t, dialed(t, c), nil)
			for i := range granted.Load() {
				_, err := other.TryAcquire(t.Context(), fmt.Sprint("k", i), time.Hour)
				require.ErrorIs(t, err, lock.ErrHeld, "lock %d of %d was forgotten", i, granted.Load())
			}
		})
	}
}

// The server counts what there is, then sends it: what is pruned in between was counted, and never
// comes.
func TestAListingEndsAlthoughKeysArePrunedMeanwhile(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	s := opened(t, dialed(t, c), DefaultBucket)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for starved := true; starved; { // a busy machine's server may be silent for as long as one that has ended
		starved = false
		f, err := s.follow(ctx, s.prefix+">")
		require.NoError(t, err)
		f.pending = 1
		s.list(ctx, f, s.prefix, func(e record.Entry, err error) bool {
			require.NoError(t, ctx.Err(), "it waits for what never comes")
			require.ErrorIs(t, err, context.DeadlineExceeded, "it yields")
			starved = true
			return true
		})
		f.stop()
	}
}

func TestAKeyThatAnotherToolDeletedIsFree(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	js, ctx := dialed(t, c), t.Context()
	l := locker(t, js, nil)
	lease, err := l.TryAcquire(ctx, "k", time.Hour)
	require.NoError(t, err)
	kv, err := js.KeyValue(ctx, DefaultBucket)
	require.NoError(t, err)
	for _, remove := range []func(context.Context, string, ...jetstream.KVDeleteOpt) error{kv.Delete, kv.Purge} {
		require.NoError(t, remove(ctx, "k"))
		next, err := l.TryAcquire(ctx, "k", time.Hour)
		require.NoError(t, err)
		require.Greater(t, next.Token(), lease.Token())
		require.ErrorIs(t, lease.Extend(ctx, time.Hour), lock.ErrLost)
		lease = next
	}
	keys, err := kv.Keys(ctx)
	require.NoError(t, err)
	require.Equal(t, "k", strings.Join(keys, " "), "the client's own tools show the locks")
}

func TestARecordThatWasPrunedLeavesNothing(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	s, ctx := opened(t, dialed(t, c), DefaultBucket), t.Context()
	version, err := s.Put(ctx, "k", record.Record{Key: "k", Seq: 1}, "")
	require.NoError(t, err)
	require.NoError(t, s.Delete(ctx, "k", version))
	info, err := s.info(ctx)
	require.NoError(t, err)
	require.Zero(t, info.State.Msgs)
}
