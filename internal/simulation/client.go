package simulation

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// client is a program that uses the locks; each crash starts it again as another
// process.
type client struct {
	w  *world
	id int

	rngMu sync.Mutex
	rng   *rand.Rand

	// The world's mutex guards these.
	frozen time.Time // until when nothing of it moves
	conns  []*conn
	crash  context.CancelFunc
}

func (w *world) newClient(id int) *client {
	return &client{w: w, id: id, rng: rand.New(rand.NewPCG(w.cfg.Seed, uint64(100+id))), crash: func() {}}
}

func (c *client) float() float64 {
	c.rngMu.Lock()
	defer c.rngMu.Unlock()
	return c.rng.Float64()
}

func (c *client) intN(n int) int { return int(c.float() * float64(n)) }

func (c *client) upTo(d time.Duration) time.Duration { return time.Duration(c.float() * float64(d)) }

// connect makes a locker, as a process does when it starts.
func (c *client) connect() *redlock.Locker {
	w := c.w
	conns := make([]*conn, len(w.nodes))
	clients := make([]rueidis.Client, len(w.nodes))
	for i, n := range w.nodes {
		c.rngMu.Lock()
		conns[i] = &conn{w: w, c: c, n: n, rng: rand.New(rand.NewPCG(c.rng.Uint64(), 2))}
		c.rngMu.Unlock()
		clients[i] = conns[i]
	}
	guard := w.guard
	if w.profile.GuardOff {
		guard = -1
	}
	l, err := redlock.New(clients, &redlock.Options{
		Owner: "c", Quorum: w.quorum, NodeTimeout: w.timeout, RestartGuard: guard, Retention: max(7*24*time.Hour, w.guard),
	})
	if err != nil {
		panic(err)
	}
	w.mu.Lock()
	c.conns = conns
	w.mu.Unlock()
	return l
}

func (c *client) disconnect(l *redlock.Locker) {
	if err := l.Close(); err != nil {
		panic(err)
	}
}

// live runs one process after another until ctx ends.
func (c *client) live(ctx context.Context) {
	for ctx.Err() == nil {
		alive, die := context.WithCancel(ctx)
		l := c.connect()
		c.w.mu.Lock()
		conns := c.conns
		c.crash = func() { // called with the world's mutex held
			for _, k := range conns {
				k.dead = true
			}
			die()
		}
		c.w.mu.Unlock()
		c.process(alive, c.locker(l))
		die()
		c.disconnect(l)
		pause(ctx, c.upTo(c.w.ttl/2))
	}
}

// process does one kind of work on one key, for some terms.
func (c *client) process(ctx context.Context, l lock.Locker) {
	key := c.w.keys[c.intN(len(c.w.keys))]
	kind := c.intN(4)
	ttl := c.ttl()
	for range 4 + c.intN(12) {
		if ctx.Err() != nil {
			return
		}
		switch kind {
		case 0, 1:
			_ = leader.Run(ctx, l, key, c.work(key), &leader.Options{TTL: ttl, Acquire: c.acquireOptions(), Keepalive: c.keep(ttl)})
		case 2:
			o := c.keep(ttl)
			o.Acquire = c.acquireOptions()
			_ = keepalive.Do(ctx, l, key, ttl, c.work(key), o)
		case 3:
			c.byHand(ctx, l, key)
		}
		thinks := c.w.ttl / 3
		if c.w.cfg.Waits {
			thinks = c.w.ttl / 30
		}
		pause(ctx, c.upTo(thinks))
	}
}

// ttl is mostly the run's, the longest.
func (c *client) ttl() time.Duration {
	if c.intN(3) > 0 {
		return c.w.ttl
	}
	return max(c.w.ttl/4+c.upTo(c.w.ttl*3/4), time.Second).Truncate(time.Millisecond)
}

func (c *client) acquireOptions() *lock.AcquireOptions {
	return &lock.AcquireOptions{Delay: c.w.ttl / 8, MaxDelay: c.w.ttl / 4}
}

func (c *client) keep(ttl time.Duration) *keepalive.Options {
	o := &keepalive.Options{}
	if c.intN(3) == 0 {
		o.Margin = -1
	}
	if c.intN(3) == 0 {
		o.DrainTimeout = -1
	}
	if c.intN(3) == 0 {
		o.Interval = ttl / 3
	}
	return o
}

// acquire is lock.Acquire as a newcomer does it.
func (c *client) acquire(ctx context.Context, l *redlock.Locker, key string) (lock.Lease, error) {
	return lock.Acquire(ctx, c.locker(l), key, c.w.ttl, c.acquireOptions())
}

// work is what needs a lease: it looks at its context, and writes.
func (c *client) work(key string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		w := c.w
		w.mu.Lock()
		t := w.hold[key].tokens[lock.Token(ctx)]
		t.inFn = true
		w.mu.Unlock()
		defer func() {
			w.mu.Lock()
			t.inFn = false
			w.mu.Unlock()
		}()
		span := 5 * w.ttl
		if w.cfg.Waits { // many hand-offs
			span = w.ttl * time.Duration(c.intN(3)) / 8
		}
		for end := time.Now().Add(c.upTo(span)); time.Now().Before(end); {
			if !pause(ctx, c.upTo(w.ttl/2)) {
				break
			}
			if !c.step(ctx, t) {
				break
			}
		}
		if ctx.Err() != nil {
			time.Sleep(c.upTo(w.ttl)) // it winds down
		}
		return nil
	}
}

// step is one piece of work. It may be held up between the look and the write.
func (c *client) step(ctx context.Context, t *term) bool {
	w := c.w
	w.mu.Lock()
	if ctx.Err() != nil {
		w.mu.Unlock()
		return false
	}
	t.works()
	held := time.Until(c.frozen)
	w.mu.Unlock()
	if held > 0 || c.intN(50) == 0 {
		time.Sleep(max(held, 0) + c.upTo(2*w.ttl))
	}
	w.mu.Lock()
	t.write()
	w.mu.Unlock()
	return true
}

// byHand does without keepalive, and forgets to release at times.
func (c *client) byHand(ctx context.Context, l lock.Locker, key string) {
	lease, err := lock.Acquire(ctx, l, key, c.ttl(), c.acquireOptions())
	if err != nil {
		return
	}
	t := lease.(*term)
	for range c.intN(5) {
		pause(ctx, c.upTo(c.w.ttl))
		c.w.mu.Lock()
		if time.Now().Before(t.Expiry()) {
			t.works()
			t.write()
		}
		c.w.mu.Unlock()
		bounded, cancel := ctx, context.CancelFunc(func() {})
		if c.intN(4) == 0 {
			bounded, cancel = context.WithTimeout(ctx, c.upTo(c.w.timeout))
		}
		_ = lease.Extend(bounded, c.ttl())
		cancel()
	}
	switch c.intN(5) {
	case 0:
	case 1:
		t.releaseAfter(ctx, c.upTo(c.w.ttl))
	default:
		_ = lease.Release(ctx)
		if c.intN(4) == 0 {
			_ = lease.Release(ctx)
		}
	}
}
