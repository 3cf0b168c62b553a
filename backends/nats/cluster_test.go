package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

const stream = "KV_" + DefaultBucket

// keep extends a lease until stop, and returns the error with which it was lost.
func keep(t *testing.T, lease lock.Lease, ttl time.Duration, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(ttl / 20):
		}
		ctx, cancel := context.WithTimeout(t.Context(), ttl/6)
		err := lease.Extend(ctx, ttl)
		cancel()
		if err != nil {
			t.Logf("extend: %v", err)
		}
		if errors.Is(err, lock.ErrLost) {
			return err
		}
	}
}

// release tries until it succeeds.
func release(ctx context.Context, t *testing.T, lease lock.Lease) {
	t.Helper()
	for {
		err := lease.Release(ctx)
		if err == nil {
			return
		}
		require.NoError(t, ctx.Err(), "the last error of Release: %v", err)
		require.NotErrorIs(t, err, lock.ErrLost)
	}
}

// refused tries until the store can say that key is held.
func refused(ctx context.Context, t *testing.T, l lock.Locker, key string) {
	t.Helper()
	for {
		_, err := l.TryAcquire(ctx, key, time.Minute)
		if errors.Is(err, lock.ErrHeld) {
			return
		}
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NoError(t, ctx.Err())
	}
}

// Conflicts have another code in a cluster, and each client asks another server.
func TestStoreOfACluster(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 3, storetest.NatsConfig{})
	n := 0
	dial := func(t *testing.T) record.Store {
		n++
		one := &storetest.Nats{Members: c.Members[n%3 : n%3+1]}
		return opened(t, dialed(t, one), DefaultBucket)
	}
	recordtest.Run(t, recordtest.Stores{Dial: dial, Names: names})

	// Of writes that meet, the leader refuses all but the first before that one is applied.
	clients := []record.Store{dial(t), dial(t), dial(t)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for round := range 20 {
		var meet sync.WaitGroup
		results := make([]error, 2*len(clients))
		for i := range results {
			meet.Go(func() {
				store, name := clients[i%len(clients)], fmt.Sprint("round", round)
				_, results[i] = store.Put(ctx, name, record.Record{Key: "k", Seq: uint64(i)}, "")
				if errors.Is(results[i], record.ErrChanged) {
					if e, err := store.Get(ctx, name); err != nil || e.Version == "" {
						results[i] = fmt.Errorf("refused, with nothing there: %w", errors.Join(err, errUndecided))
					}
				}
			})
		}
		meet.Wait()
		won := 0
		for _, err := range results {
			if err == nil {
				won++
			} else {
				require.ErrorIs(t, err, record.ErrChanged, "a conflict is one, and no outage")
			}
		}
		require.Equal(t, 1, won)
	}
}

// beginningAt is a locker as a URL makes it, but that it tries this server first.
func beginningAt(t *testing.T, first *storetest.NatsMember, c *storetest.Nats) *Locker {
	servers := []string{first.Addr()}
	for _, addr := range c.Addrs() {
		if addr != first.Addr() {
			servers = append(servers, addr)
		}
	}
	options := append(options(), natsgo.DontRandomize())
	l, err := newLocker(dialing("nats://"+strings.Join(servers, ",nats://"), options, ""), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestALeaseSurvivesTheLossOfTheStreamsLeader(t *testing.T) {
	for name, fault := range map[string]func(m *storetest.NatsMember) (mend func()){
		"killed":  func(m *storetest.NatsMember) func() { m.Kill(); return m.Restart },
		"hung":    func(m *storetest.NatsMember) func() { m.Pause(); return m.Resume },
		"cut off": func(m *storetest.NatsMember) func() { m.Cut(true); return func() { m.Cut(false) } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := storetest.StartNats(t, 3, storetest.NatsConfig{})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			_, err := lock.Acquire(ctx, locker(t, dialed(t, c), nil), "first", time.Minute, nil)
			require.NoError(t, err) // there is a bucket
			// Both clients are connected to the leader: they have to leave it.
			leader := c.Leader(stream)
			l, other := beginningAt(t, leader, c), beginningAt(t, leader, c)
			const ttl = time.Minute
			lease, err := lock.Acquire(ctx, l, "k", ttl, nil)
			require.NoError(t, err)
			h, err := l.Health(ctx)
			require.NoError(t, err)
			require.NoError(t, h.Nodes[0].Err)
			require.Empty(t, h.Nodes[0].Warnings, "of a bucket with three replicas")
			stop, kept := make(chan struct{}), make(chan error, 1)
			go func() { kept <- keep(t, lease, ttl, stop) }()
			refused(ctx, t, other, "k") // it is connected
			mend := fault(leader)
			began := time.Now()
			refused(ctx, t, other, "k") // a minority is away: the key is refused, and others can be had
			_, err = lock.Acquire(ctx, other, "free", ttl, nil)
			require.NoError(t, err)
			t.Logf("locks could be had again after %v", time.Since(began).Round(time.Millisecond))
			before := lease.Expiry()
			for !lease.Expiry().After(before) {
				require.NoError(t, ctx.Err(), "the lease is not renewed")
				time.Sleep(10 * time.Millisecond)
			}
			mend()
			close(stop)
			require.NoError(t, <-kept)
			release(ctx, t, lease)
			next, err := lock.Acquire(ctx, other, "k", ttl, nil)
			require.NoError(t, err)
			require.Greater(t, next.Token(), lease.Token())
		})
	}
}

func TestWithoutAMajorityNothingIsGrantedAndItRecovers(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 3, storetest.NatsConfig{})
	l := locker(t, dialed(t, c), &Options{Record: record.Options{Timeout: 2 * time.Second}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	used, err := lock.Acquire(ctx, l, "k", time.Minute, nil)
	require.NoError(t, err)
	release(ctx, t, used)
	c.Members[0].Kill()
	c.Members[1].Pause()
	_, err = l.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	h, err := l.Health(ctx)
	require.NoError(t, err)
	require.False(t, h.HasQuorum())
	c.Members[1].Resume()
	c.Members[0].Restart()
	_, err = lock.Acquire(ctx, l, "k", time.Minute, nil)
	require.NoError(t, err)
}

func TestAWaiterIsNotifiedThroughAFailOver(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 3, storetest.NatsConfig{})
	hosts := "//" + strings.Join(c.Addrs(), ",")
	l, waiter := atURL(t, "nats", hosts), atURL(t, "nats", hosts)
	ctx, cancel := context.WithTimeout(t.Context(), 55*time.Second)
	defer cancel()
	lease, err := lock.Acquire(ctx, l, "k", time.Hour, nil)
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() {
		_, err := lock.Acquire(t.Context(), waiter, "k", time.Hour, nil)
		got <- err
	}()
	for { // it waits, which its place in the queue shows
		e, err := l.store.Get(ctx, "k")
		if err == nil && len(e.Record.Queue) > 0 {
			break
		}
		require.NoError(t, ctx.Err(), "the last error of Get: %v", err)
	}
	c.Leader(stream).Kill()
	release(ctx, t, lease)
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-ctx.Done():
		t.Fatal("the waiter was not woken within 55s; the fallback would come after a minute")
	}
}
