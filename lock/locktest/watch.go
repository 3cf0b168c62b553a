package locktest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var watchCases = []testCase{
	{"ReleaseWakes", nil, releaseWakes},
	{"ExpiryWakes", nil, expiryWakes},
	{"TheCtxOfWatchBoundsItsSettingUpOnly", nil, theCtxOfWatchBoundsItsSettingUpOnly},
	{"WakesNeverBlock", nil, wakesNeverBlock},
	{"NothingIsSentAfterStop", nil, nothingIsSentAfterStop},
}

// watch sets a watch up and ends it with the case.
func (c *check) watch(ctx context.Context, l lock.Locker, key string, wake chan<- struct{}) func() {
	c.Helper()
	watcher := offered[lock.Watcher](c, l, needWatcher)
	var stop func()
	c.steady(func() (err error) {
		if stop, err = watcher.Watch(ctx, key, wake); err == nil && stop == nil {
			c.fatalf("Watch returned neither stop nor an error")
		}
		return err
	}, func(err error) bool { return err == nil })
	once := sync.OnceFunc(stop)
	c.cleanup(once)
	return once
}

// awake waits for a wake after which key can be had; others may be spurious.
func (c *check) awake(wake <-chan struct{}, l lock.Locker, key, after string) {
	c.Helper()
	timeout := time.NewTimer(4*c.ttl() + c.bound())
	defer timeout.Stop()
	for {
		select {
		case <-wake:
		case <-timeout.C:
			c.fatalf("no wake after %s", after)
		}
		lease, err := c.try(c.ctx(), l, key, c.long())
		if err == nil {
			c.release(lease)
			return
		}
		if !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrUnavailable) {
			c.fatalf("TryAcquire after a wake: %v", err)
		}
	}
}

func releaseWakes(c *check) {
	a, b := c.key("a"), c.key("b")
	wake := make(chan struct{}, 1)
	first, second := c.acquire(c.other(), a, c.long()), c.acquire(c.other(), b, c.long())
	c.watch(c.ctx(), c.l, a, wake)
	c.watch(c.ctx(), c.l, b, wake) // keys may share a channel
	c.release(first)
	c.awake(wake, c.l, a, "the release of one key")
	c.release(second)
	c.awake(wake, c.l, b, "the release of the other key")
}

func expiryWakes(c *check) {
	key := c.key("k")
	wake := make(chan struct{}, 1)
	c.watch(c.ctx(), c.l, key, wake)
	c.acquire(c.other(), key, c.ttl())
	c.awake(wake, c.l, key, "an expiry")
}

func theCtxOfWatchBoundsItsSettingUpOnly(c *check) {
	key := c.key("k")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wake := make(chan struct{}, 1)
	lease := c.acquire(c.other(), key, c.long())
	c.watch(ctx, c.l, key, wake)
	cancel()
	c.h.Advance(c.ttl() / 10)
	c.release(lease)
	c.awake(wake, c.l, key, "a release, with the ctx of Watch ended")
}

func wakesNeverBlock(c *check) {
	key := c.key("k")
	blocked := make(chan struct{}) // nobody receives
	stop := c.watch(c.ctx(), c.l, key, blocked)
	wake := make(chan struct{}, 1)
	c.watch(c.ctx(), c.l, key, wake)
	done := make(chan struct{})
	c.group().Go(func() {
		defer close(done)
		for range 3 {
			lease, err := c.try(c.ctx(), c.other(), key, c.long())
			if err == nil {
				c.releaseUnlessLost(lease)
			}
		}
		stop()
	})
	timeout := time.NewTimer(2 * c.bound())
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		c.Errorf("a release, or stop, waits for a watcher that does not receive")
		for waiting := true; waiting; { // so that the case ends
			select {
			case <-blocked:
			case <-wake:
			case <-done:
				waiting = false
			}
		}
		return
	}
	c.awake(wake, c.l, key, "a release, with another watcher that never receives")
}

func nothingIsSentAfterStop(c *check) {
	key := c.key("k")
	wake := make(chan struct{}, 100)
	stop := c.watch(c.ctx(), c.l, key, wake)
	c.release(c.acquire(c.other(), key, c.long()))
	stop()
	sent := len(wake)
	for range 3 {
		c.release(c.acquire(c.other(), key, c.long()))
	}
	c.h.Advance(c.ttl() / 4)
	if len(wake) != sent {
		c.Errorf("%d wakes were sent after stop had returned", len(wake)-sent)
	}
}
