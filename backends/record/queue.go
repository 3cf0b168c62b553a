package record

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// maxQueue bounds a record's size. Those beyond it are newcomers.
const maxQueue = 100

// enqueue puts this process into the queue of a record that it waits for. It is a help to
// order only, so it ends at the first trouble.
func (l *Locker) enqueue(ctx context.Context, name, key string, e Entry) {
	for n := 0; n < rewrites && l.toEnqueue(name, e); n++ {
		next := e.Record
		next.Queue = append(slices.Clone(next.Queue), l.process)
		next.Seq++
		_, err := l.put(ctx, name, next, e.Version)
		if err == nil {
			l.setQueued(name, true)
			return
		}
		if !errors.Is(err, ErrChanged) {
			l.setQueued(name, true) // it may be in it: leaving looks
			return
		}
		if n > 1 { // many come at once
			pause(ctx, rand.N(min(time.Duration(n)*5*time.Millisecond, 50*time.Millisecond)))
		}
		if e, err = l.get(ctx, name, key); err != nil {
			return
		}
		if held, _ := l.refusal(name, key, e); held == nil {
			return // it can be had: the subscription wakes
		}
	}
}

// toEnqueue reports whether this process should be in e's queue and is not.
func (l *Locker) toEnqueue(name string, e Entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.watched[name]
	if s == nil || l.opts.HeadStart == 0 || e.Version == "" {
		return false
	}
	if slices.Contains(e.Record.Queue, l.process) {
		s.queued = true
		return false
	}
	return len(e.Record.Queue) < maxQueue
}

func (l *Locker) setQueued(name string, queued bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.watched[name]; s != nil {
		s.queued = queued
	}
}

// dequeued notes that this process has the key: its own write left it out of the queue.
func (l *Locker) dequeued(name string) { l.setQueued(name, false) }

// dequeue takes this process out of a queue when nobody in it waits any more, so that it
// costs those behind it no head start.
func (l *Locker) dequeue(name, key string) {
	ctx, cancel := context.WithTimeout(l.closing, l.opts.Timeout)
	defer cancel()
	for range rewrites {
		e, err := l.get(ctx, name, key)
		i := slices.Index(e.Record.Queue, l.process)
		if err != nil || i < 0 || l.waitsFor(name) {
			return
		}
		next := e.Record
		next.Queue = slices.Delete(slices.Clone(next.Queue), i, i+1)
		next.Seq++
		if _, err := l.put(ctx, name, next, e.Version); !errors.Is(err, ErrChanged) {
			return
		}
	}
}
