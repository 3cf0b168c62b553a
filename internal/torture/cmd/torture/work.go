package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// worker takes locks, in all the ways that there are, and works under them.
type worker struct {
	*client
	rng *rand.Rand
}

func (w *worker) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.rng.Int64N(int64(to-from)))
}

// ways to use a lock, with how often each is taken.
var ways = []struct {
	weight int
	use    func(*worker, context.Context, string, time.Duration) error
}{
	{62, (*worker).wait},
	{16, (*worker).try},
	{12, (*worker).extend},
	{4, (*worker).keep},
	{4, (*worker).lead},
	{2, (*worker).abandon},
}

// contend works until ctx ends.
func (w *worker) contend(ctx context.Context) {
	total := 0
	for _, way := range ways {
		total += way.weight
	}
	for ctx.Err() == nil {
		key, ttl := w.Keys[w.rng.IntN(len(w.Keys))], w.between(w.MaxTTL/5, w.MaxTTL)
		n := w.rng.IntN(total)
		for _, way := range ways {
			if n -= way.weight; n < 0 {
				w.judge(ctx, way.use(w, ctx, key, ttl))
				break
			}
		}
		w.pause(ctx, w.between(0, 5*time.Millisecond))
	}
}

// judge reports to the parent an error that must not be.
func (w *worker) judge(ctx context.Context, err error) {
	switch {
	case err == nil, errors.Is(err, lock.ErrHeld), errors.Is(err, lock.ErrUnavailable), errors.Is(err, lock.ErrLost):
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
	case errors.Is(err, lock.ErrRefused) && strings.Contains(err.Error(), "other clients of the keys"):
		// An outage here: each client has its own addresses of the nodes. Where what one has
		// written to agree on them arrives late, and its node has restarted meanwhile, another
		// can't know that it is the same node, for a guard time at most.
	default:
		w.say(said{What: saidOdd, Text: err.Error()})
	}
}

func (w *worker) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// wanting reports to the parent that the worker waits for key until done is called.
func (w *worker) wanting(key string) (done func()) {
	id := w.lastID.Add(1)
	w.say(said{What: saidWant, ID: id, Key: key, At: mono()})
	wrote := false
	return func() {
		if !wrote {
			wrote = true
			w.say(said{What: saidHas, ID: id, At: mono()})
		}
	}
}

func (w *worker) acquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	defer w.wanting(key)()
	return lock.Acquire(ctx, w.locker, key, ttl, &lock.AcquireOptions{Timeout: w.between(time.Second, 8*time.Second)})
}

// alive looks at a lease, and says when.
func alive(l lock.Lease) func() int64 { return l.(*recorded).sure }

// live looks at a context, and says when.
func live(ctx context.Context) func() int64 {
	return func() int64 {
		if at := time.Now(); ctx.Err() == nil {
			return monoOf(at)
		}
		return 0
	}
}

// work counts in the register under a token, for about d and as long as sure says
// that the lease is alive. It reads, thinks and writes, as programs do, so that a
// holder whose time ends in between would undo what the next one has written. Every
// fifth time it does not look again before it writes: then only the register can show it.
func (w *worker) work(ctx context.Context, key string, token uint64, d time.Duration, sure func() int64) {
	for end := time.Now().Add(d); ctx.Err() == nil; {
		hasty := w.rng.IntN(5) == 0
		at := sure()
		if at == 0 {
			return
		}
		got := w.ask(said{What: saidRead, Key: key, Token: token, Sure: at})
		if !got.OK {
			return // a later holder has been there
		}
		w.pause(ctx, w.between(0, max(d/2, time.Millisecond)))
		if hasty {
			at = 0
		} else if at = sure(); at == 0 {
			return
		}
		if !w.ask(said{What: saidWrite, Key: key, Token: token, Sure: at, Value: got.Value + 1, Plain: got.Plain + 1}).OK {
			return
		}
		if time.Now().After(end) {
			return
		}
	}
}

// moment is how long most leases are held.
func (w *worker) moment() time.Duration { return w.between(0, 40*time.Millisecond) }

func (w *worker) wait(ctx context.Context, key string, ttl time.Duration) error {
	lease, err := w.acquire(ctx, key, ttl)
	if err != nil {
		return err
	}
	w.work(ctx, key, lease.Token(), w.moment(), alive(lease))
	return lease.Release(ctx)
}

// try does not wait.
func (w *worker) try(ctx context.Context, key string, ttl time.Duration) error {
	lease, err := w.locker.TryAcquire(ctx, key, ttl)
	if err != nil {
		return err
	}
	w.work(ctx, key, lease.Token(), w.moment(), alive(lease))
	return lease.Release(ctx)
}

// extend renews by hand.
func (w *worker) extend(ctx context.Context, key string, ttl time.Duration) error {
	lease, err := w.acquire(ctx, key, ttl)
	if err != nil {
		return err
	}
	for range w.rng.IntN(4) {
		w.work(ctx, key, lease.Token(), w.moment(), alive(lease))
		err := lease.Extend(ctx, w.between(w.MaxTTL/5, w.MaxTTL))
		if errors.Is(err, lock.ErrLost) {
			break
		}
		w.judge(ctx, err)
	}
	w.work(ctx, key, lease.Token(), w.moment(), alive(lease))
	return lease.Release(ctx)
}

// abandon leaves the lease to its end.
func (w *worker) abandon(ctx context.Context, key string, ttl time.Duration) error {
	lease, err := w.acquire(ctx, key, ttl)
	if err != nil {
		return err
	}
	w.work(ctx, key, lease.Token(), w.between(0, ttl), alive(lease))
	if _, ok := lease.(*recorded).Lease.(looker); ok {
		return lease.Release(ctx) // it renews itself: it would never end
	}
	return nil
}

func (w *worker) keep(ctx context.Context, key string, ttl time.Duration) error {
	want := w.wanting(key)
	defer want()
	d := w.between(0, 3*ttl/4)
	return keepalive.Do(ctx, w.locker, key, ttl, func(ctx context.Context) error {
		want()
		w.work(ctx, key, lock.Token(ctx), d, live(ctx))
		return nil
	}, &keepalive.Options{Interval: ttl / 3, Acquire: &lock.AcquireOptions{Timeout: w.between(time.Second, 8*time.Second)}})
}

func (w *worker) lead(ctx context.Context, key string, ttl time.Duration) error {
	want := w.wanting(key)
	defer want()
	d := w.between(0, 3*ttl/4)
	return leader.Run(ctx, w.locker, key, func(ctx context.Context) error {
		want()
		w.work(ctx, key, lock.Token(ctx), d, live(ctx))
		return nil
	}, &leader.Options{TTL: ttl, Once: true, Acquire: &lock.AcquireOptions{Timeout: w.between(time.Second, 8*time.Second)},
		Keepalive: &keepalive.Options{Interval: ttl / 3}})
}

// keepFor holds key until ctx ends, under the longest ttl.
func (w *worker) keepFor(ctx context.Context, key string) {
	want := w.wanting(key)
	defer want()
	err := leader.Run(ctx, w.locker, key, func(ctx context.Context) error {
		want()
		for ctx.Err() == nil {
			w.work(ctx, key, lock.Token(ctx), 20*time.Millisecond, live(ctx))
			w.pause(ctx, 50*time.Millisecond)
		}
		return nil
	}, &leader.Options{TTL: w.MaxTTL, Once: true, Keepalive: &keepalive.Options{Interval: w.MaxTTL / 4}})
	w.judge(ctx, err)
}

// queue waits for key, and frees it soon.
func (w *worker) queue(ctx context.Context, key string) {
	want := w.wanting(key)
	defer want()
	lease, err := lock.Acquire(ctx, w.locker, key, w.MaxTTL/2, nil)
	want()
	if err == nil {
		w.work(ctx, key, lease.Token(), w.moment(), alive(lease))
		err = lease.Release(ctx)
	}
	w.judge(ctx, err)
}
