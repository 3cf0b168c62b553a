package record

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// subscription is what those of this process who wait for one key share: notifications
// of the store, or the poller's looks.
type subscription struct {
	l         *Locker
	name, key string

	ready chan struct{} // closed when it has been set up, or has failed
	err   error         // why it failed; to be read after ready
	stop  func()        // ends the store's watch; nil: polled. To be read after ready

	wakes    []*chan<- struct{} // of those who wait. All from here on is guarded by l.mu
	timer    *time.Timer        // until the key can be had; nil: none yet
	woken    Record             // the state for which they were woken; zero: none
	queued   bool               // this process is in the record's queue
	looking  bool               // a look is under way
	unlooked bool               // the latest look failed
}

// Watch notifies of key, as [lock.Watcher] says: the store's notifications are passed on,
// or the store is polled, and the end of a hold is timed. With a queue, wake is sent when
// it is this process's turn.
func (l *Locker) Watch(ctx context.Context, key string, wake chan<- struct{}) (stop func(), err error) {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return nil, fmt.Errorf("record: watch: %w", err)
	}
	ctx, done, err := l.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("record: watch %q: %w", key, err)
	}
	defer done()
	entry := &wake
	s := l.subscribe(ctx, key, entry)
	select {
	case <-s.ready:
		err = s.err
	case <-ctx.Done():
		err = l.failed(ctx, ctx.Err())
	}
	if err != nil {
		s.leave(entry)
		return nil, fmt.Errorf("record: watch %q: %w", key, err)
	}
	return sync.OnceFunc(func() { s.leave(entry) }), nil
}

// subscribe joins key's subscription, and sets it up if it is the first.
func (l *Locker) subscribe(ctx context.Context, key string, wake *chan<- struct{}) *subscription {
	name := l.opts.Names.name(key)
	l.mu.Lock()
	s := l.watched[name]
	first := s == nil
	if first {
		s = &subscription{l: l, name: name, key: key, ready: make(chan struct{})}
		l.watched[name] = s
	}
	s.wakes = append(s.wakes, wake)
	l.mu.Unlock()
	if first {
		s.start(ctx)
		close(s.ready)
	}
	return s
}

// start makes notifications flow.
func (s *subscription) start(ctx context.Context) {
	w, pushes := s.l.store.(Watcher)
	if !pushes {
		s.l.poll()
		return
	}
	// Bounded as every request: an answer can be lost, and the caller's ctx may have no end.
	// Without a watch, the caller asks now and then, and tries again.
	bounded, cancel := context.WithTimeout(ctx, s.l.opts.Timeout)
	stop, err := w.Watch(bounded, s.name, s.changed)
	cancel()
	if err != nil {
		s.err = s.l.failed(ctx, err)
		s.l.mu.Lock()
		if s.l.watched[s.name] == s {
			delete(s.l.watched, s.name) // the next one tries anew
		}
		s.l.mu.Unlock()
		return
	}
	s.stop = stop
}

// leave takes one waiter out, and ends the subscription with the last.
func (s *subscription) leave(wake *chan<- struct{}) {
	l := s.l
	l.mu.Lock()
	i := slices.Index(s.wakes, wake)
	if i >= 0 {
		s.wakes = slices.Delete(s.wakes, i, i+1)
	}
	last := i >= 0 && len(s.wakes) == 0 && l.watched[s.name] == s
	queued := s.queued
	if last {
		delete(l.watched, s.name)
	}
	l.mu.Unlock()
	if !last {
		return
	}
	s.end()
	if queued {
		l.background(func() { l.dequeue(s.name, s.key) })
	}
}

// end stops what start began, without waiting for the store.
func (s *subscription) end() {
	s.l.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	closed := s.l.closed
	s.l.mu.Unlock()
	stop := func() {
		<-s.ready
		if s.stop != nil {
			s.stop()
		}
	}
	if closed {
		stop()
	} else {
		s.l.background(stop)
	}
}

// wake notifies all who wait. l.mu is held.
func (s *subscription) wake() {
	for _, wake := range s.wakes {
		select {
		case *wake <- struct{}{}:
		default:
		}
	}
}

// update wakes who waits if the key can be had by the newest state, and else sees to it
// that it happens when its time has come. l.mu is held.
func (s *subscription) update() {
	o := s.l.observed[s.name]
	if o == nil || len(s.wakes) == 0 {
		return
	}
	e := o.newest
	if left := s.l.waitFor(s.name, e).left(); left > 0 {
		s.woken = Record{}
		if s.timer == nil {
			s.timer = time.AfterFunc(left, s.due)
		} else {
			s.timer.Reset(left)
		}
		return
	}
	// Once for each state: an attempt follows, whose own reads come through here, too.
	if e.Version == "" || s.woken.Seq != e.Record.Seq || s.woken.Term != e.Record.Term {
		s.woken = e.Record
		s.wake()
	}
}

func (s *subscription) due() {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if !s.l.closed {
		s.update()
	}
}

// changed receives what the store pushes.
func (s *subscription) changed(e *Entry) {
	if e != nil && (e.Version == "" || e.Record.Key == s.key) {
		s.l.observe(s.name, *e, time.Now())
		return
	}
	// Notifications may have been missed: the present state is read.
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if s.looking || s.l.closed {
		return
	}
	s.looking = true
	s.l.jobs.Go(func() {
		s.look()
		s.l.mu.Lock()
		defer s.l.mu.Unlock()
		s.looking = false
	})
}

// look reads the record for those who wait.
func (s *subscription) look() {
	ctx, cancel := context.WithTimeout(s.l.closing, s.l.opts.Timeout)
	defer cancel()
	_, err := s.l.get(ctx, s.name, s.key)
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if s.unlooked != (err != nil) {
		s.unlooked = err != nil
		s.wake() // notifications may have been missed, and come again
	}
}

// polledAtOnce is how many looks of the poller are under way at a time.
const polledAtOnce = 8

// poll makes the one poller run, which looks at each key that is waited for.
func (l *Locker) poll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.polling || l.closed {
		return
	}
	l.polling = true
	l.jobs.Go(func() {
		for {
			// Processes that were started together must not ask in step.
			pause(l.closing, l.opts.Poll*3/4+rand.N(l.opts.Poll/2))
			subs, more := l.toPoll()
			if !more {
				return
			}
			var looks sync.WaitGroup
			slots := make(chan struct{}, polledAtOnce)
			for _, s := range subs {
				slots <- struct{}{}
				looks.Go(func() { s.look(); <-slots })
			}
			looks.Wait()
		}
	})
}

// toPoll is what to look at; with nothing, the poller ends.
func (l *Locker) toPoll() (subs []*subscription, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.watched) == 0 || l.closed {
		l.polling = false
		return nil, false
	}
	for _, s := range l.watched {
		subs = append(subs, s)
	}
	return subs, true
}

// notified is the newest state of name, if the store pushes states, and the key can be had
// by it: the write alone then shows whether it still can.
func (l *Locker) notified(name string) (Entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, o := l.watched[name], l.observed[name]
	if _, pushes := l.store.(Watcher); !pushes || s == nil || o == nil || o.newest.Version == "" {
		return Entry{}, false
	}
	return o.newest, l.waitFor(name, o.newest).left() <= 0
}

// waitsFor reports whether anybody in this process waits for name.
func (l *Locker) waitsFor(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watched[name] != nil
}
