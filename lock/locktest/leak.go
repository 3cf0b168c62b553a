package locktest

import (
	"context"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var leakCases = []testCase{
	{"NoGoroutineOutlivesTheLocker", nil, noGoroutineOutlivesTheLocker},
}

// noGoroutineOutlivesTheLocker uses the locker in every way that may start
// something; whether all has ended is seen once it is closed.
func noGoroutineOutlivesTheLocker(c *check) {
	c.wantNoLeaks = true
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.refused(c.other(), key)
	c.extend(lease, c.long())
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for range 5 {
		_, _ = c.try(cancelled, c.l, key, c.long())
		_ = lease.Extend(cancelled, c.long())
	}
	c.extend(lease, c.long())
	if w, ok := lock.As[lock.Watcher](c.l); ok {
		if stop, err := w.Watch(c.ctx(), key, make(chan struct{}, 1)); err == nil {
			stop()
		}
	}
	c.release(lease)
	_ = lease.Release(cancelled)
	for i := range 5 { // cut short anywhere
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*50*time.Microsecond)
		if lease, err := c.try(ctx, c.l, key, c.long()); err == nil {
			_ = lease.Release(ctx)
			c.release(lease) // ctx may have cut the first one short, and then the lease stands
		}
		cancel()
	}
	expires := c.acquire(c.l, key, c.ttl())
	c.passExpiry(expires)
	_ = expires.Release(c.ctx())
	c.acquire(c.l, c.key("held when closed"), c.ttl())
	for _, l := range []lock.Locker{c.l, c.other()} {
		if closer, ok := lock.As[io.Closer](l); ok {
			if err := closer.Close(); err != nil {
				c.Errorf("Close: %v", err)
			}
		}
	}
}

// checkLeaks reports goroutines that were not there before the case and do not
// end within the cleanup time.
func (c *check) checkLeaks(before map[string]string) {
	deadline := time.Now().Add(c.bound())
	for {
		left := goroutines(before)
		for id, stack := range left {
			if c.h.IgnoreGoroutine != nil && c.h.IgnoreGoroutine(stack) {
				delete(left, id)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			for _, stack := range left {
				c.Errorf("a goroutine outlives the locker and all cleanups by %v:\n%s", c.bound(), stack)
			}
			return
		}
		time.Sleep(c.poll())
	}
}

// goroutines returns the stack of each goroutine but the caller's and the
// testing package's own, by id, without those in known.
func goroutines(known map[string]string) map[string]string {
	buf := make([]byte, 1<<20)
	n := runtime.Stack(buf, true)
	for n == len(buf) {
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	found := map[string]string{}
	for i, stack := range strings.Split(strings.TrimSpace(string(buf[:n])), "\n\n") {
		id, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		if _, ok := known[id]; !ok && i > 0 { // the first is this one
			found[id] = stack
		}
	}
	return found
}
