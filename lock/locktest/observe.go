package locktest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// These cases run lock.Observe over the locker: what it tells is what the
// locker's leases and errors say.
var observeCases = []testCase{
	{"EventsTellALeasesLife", nil, eventsTellALeasesLife},
	{"EventsTellALossOnce", nil, eventsTellALossOnce},
	{"EventsTellWhoRefused", nil, eventsTellWhoRefused},
	{"EachObserverIsToldOfAWaitOnce", nil, eachObserverIsToldOfAWaitOnce},
	{"AnObserverThatPanicsChangesNothing", nil, anObserverThatPanicsChangesNothing},
	{"WhatTheLockerOffersIsFoundBelowAnObserver", nil, whatTheLockerOffersIsFoundBelowAnObserver},
}

// events takes what an observer is told.
type events struct {
	mu    sync.Mutex // guards all below
	first time.Time  // when the first one was told
	all   []lock.Event
}

func (e *events) tell(event lock.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.all) == 0 {
		e.first = time.Now()
	}
	e.all = append(e.all, event)
}

// told returns all but what says nothing, which a busy machine may cause.
func (e *events) told() []lock.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var told []lock.Event
	for _, event := range e.all {
		if !errors.Is(event.Err, lock.ErrUnavailable) {
			told = append(told, event)
		}
	}
	return told
}

// wantEvents checks kind and error, with each event's key and the token it must have.
func (c *check) wantEvents(got []lock.Event, key string, want ...lock.Event) {
	c.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			c.Errorf("event %d is missing: want %q", i, want[i].Kind)
			continue
		case i >= len(want):
			c.Errorf("event %d is %q (error: %v), want none", i, got[i].Kind, show(got[i].Err))
			continue
		}
		g, w := got[i], want[i]
		if g.Kind != w.Kind || !errors.Is(g.Err, w.Err) {
			c.Errorf("event %d is %q with the error %v, want %q with %v", i, g.Kind, show(g.Err), w.Kind, show(w.Err))
		}
		if full := c.h.FullKey(key); g.Key != full || g.Token != w.Token {
			c.Errorf("event %d (%q) has key %q and token %d, want %q and %d", i, g.Kind, g.Key, g.Token, full, w.Token)
		}
	}
}

func eventsTellALeasesLife(c *check) {
	key := c.key("k")
	var e events
	l := lock.Observe(c.l, e.tell)
	start := time.Now()
	lease := c.acquire(l, key, c.long())
	token := lease.Token()
	c.refused(l, key)
	c.extend(lease, c.long())
	c.stillHolds(lease, key)
	c.release(lease)
	c.release(lease)
	took := time.Since(start)
	told := e.told()
	c.wantEvents(told, key,
		lock.Event{Kind: lock.EventAttempt, Token: token},
		lock.Event{Kind: lock.EventAttempt, Err: lock.ErrHeld},
		lock.Event{Kind: lock.EventExtend, Token: token},
		lock.Event{Kind: lock.EventExtend, Token: token}, // of stillHolds
		lock.Event{Kind: lock.EventRelease, Token: token},
	)
	for _, event := range told {
		if event.Duration < 0 || event.Duration > took || event.Held < 0 || event.Held > took {
			c.Errorf("event %q took %v and tells of a hold of %v, want at most the %v of the whole case",
				event.Kind, event.Duration, event.Held, took)
		}
	}
	c.free(key)
}

func eventsTellALossOnce(c *check) {
	key := c.key("k")
	var e events
	lease := c.acquire(lock.Observe(c.l, e.tell), key, c.ttl())
	granted, token := time.Now(), lease.Token()
	expiry := lease.Expiry()
	c.passExpiry(lease)
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend past Expiry")
	_ = c.steady(func() error { return lease.Release(c.ctx()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	told := e.told()
	c.wantEvents(told, key,
		lock.Event{Kind: lock.EventAttempt, Token: token},
		lock.Event{Kind: lock.EventLost, Token: token, Err: lock.ErrLost},
		lock.Event{Kind: lock.EventExtend, Token: token, Err: lock.ErrLost},
		lock.Event{Kind: lock.EventRelease, Token: token, Err: lock.ErrLost},
	)
	for _, event := range told {
		if event.Kind != lock.EventLost {
			continue
		}
		if !event.Expired {
			c.Errorf("EventLost of a lease whose time is up does not say so")
		}
		if least := expiry.Sub(granted); event.Held < least || event.Held > c.ttl() {
			c.Errorf("EventLost tells of a hold of %v, want %v to %v", event.Held, least, c.ttl())
		}
	}
	c.free(key)
}

func eventsTellWhoRefused(c *check) {
	key := c.key("k")
	lease := c.acquire(c.other(), key, c.long())
	refusal, ok := errors.AsType[*lock.HeldError](c.refused(c.l, key))
	if !ok {
		c.skip(needHeldError)
	}
	var e events
	_, err := lock.Acquire(c.ctx(), lock.Observe(c.l, e.tell), key, c.long(), &lock.AcquireOptions{Timeout: c.ttl()})
	if !errors.Is(err, lock.ErrHeld) {
		c.Errorf("Acquire of a key that is held: got %v, want an error matching lock.ErrHeld", show(err))
	}
	for _, event := range e.told() {
		held, ok := errors.AsType[*lock.HeldError](event.Err)
		switch {
		case !ok && event.Kind == lock.EventAttempt && !errors.Is(event.Err, lock.ErrHeld): // cut short by Timeout
		case !ok:
			c.Errorf("event %q has the error %v, want one that is a *lock.HeldError", event.Kind, show(event.Err))
		case held.Holder != refusal.Holder || held.Key != event.Key || event.Key != c.h.FullKey(key):
			c.Errorf("event %q of %q says that %q is held by %q, want %q and %q", event.Kind, event.Key,
				held.Key, held.Holder, c.h.FullKey(key), refusal.Holder)
		}
	}
	c.stillHolds(lease, key)
}

func eachObserverIsToldOfAWaitOnce(c *check) {
	key := c.key("k")
	lease := c.acquire(c.other(), key, c.long())
	var outer, inner events
	start := time.Now()
	result := c.waiting(lock.Observe(lock.Observe(c.l, inner.tell), outer.tell), key)
	time.Sleep(c.ttl() / 4)
	released := time.Now()
	c.release(lease)
	next, err := result()
	if err != nil {
		c.fatalf("Acquire of a key that was released: %v", err)
	}
	for _, e := range []*events{&outer, &inner} {
		told := e.told()
		waits := 0
		for _, event := range told {
			if event.Kind == lock.EventWait {
				waits++
			}
		}
		if waits != 1 {
			c.fatalf("an observer was told of one Acquire %d times", waits)
		}
		wait := told[len(told)-1]
		c.wantEvents([]lock.Event{wait}, key, lock.Event{Kind: lock.EventWait, Token: next.Token()})
		if least, most := released.Sub(e.first), time.Since(start); wait.Duration < least || wait.Duration > most || wait.Attempts < 1 {
			c.Errorf("EventWait tells of %d attempts in %v, want 1 or more in %v to %v", wait.Attempts, wait.Duration, least, most)
		}
	}
	c.refused(c.other(), key)
}

func anObserverThatPanicsChangesNothing(c *check) {
	key := c.key("k")
	l := lock.Observe(c.l, func(lock.Event) { panic("from an observer") })
	lease := c.acquire(l, key, c.long())
	c.refused(l, key)
	c.stillHolds(lease, key)
	result := c.waiting(l, key)
	c.release(lease)
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend after Release")
	next, err := result()
	if err != nil {
		c.fatalf("Acquire of a key that was released: %v", err)
	}
	c.stillHolds(next, key)
	c.release(next)
	c.free(key)
}

func whatTheLockerOffersIsFoundBelowAnObserver(c *check) {
	l := lock.Observe(lock.Observe(c.l, func(lock.Event) {}), func(lock.Event) {})
	key := c.key("k")
	lease := c.acquire(l, key, c.long())
	_, watches := lock.As[lock.Watcher](c.l)
	if watcher, ok := lock.As[lock.Watcher](l); ok != watches {
		c.Errorf("lock.As finds a Watcher below an observer: %v, want %v as without it", ok, watches)
	} else if ok {
		stop, err := watcher.Watch(c.ctx(), key, make(chan struct{}, 1))
		if err == nil {
			stop()
		}
	}
	_, inspects := lock.As[lock.Inspector](c.l)
	inspector, ok := lock.As[lock.Inspector](l)
	if ok != inspects {
		c.Errorf("lock.As finds an Inspector below an observer: %v, want %v as without it", ok, inspects)
	}
	if !ok {
		c.skip(needInspector)
	}
	var info lock.Info
	_ = c.steady(func() (err error) {
		info, err = inspector.Inspect(context.Background(), key)
		return err
	}, func(err error) bool { return err == nil })
	if info.Key != lease.Key() || info.Token != 0 && info.Token != lease.Token() {
		c.Errorf("Inspect through an observer: key %q and token %d, want %q and %d", info.Key, info.Token, lease.Key(), lease.Token())
	}
}
