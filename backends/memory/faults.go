package memory

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// FailNext makes this client's next n calls fail with err and do nothing, as if
// it were cut off from the store. A negative n means every call until FailNext is
// called again; 0 ends it. A nil err stands for [lock.ErrUnavailable].
//
// A call is a TryAcquire with good input, or an Extend or a Release that gets as
// far as the store, of a lease that this client acquired. Inspect, List and
// ForceRelease are the test's own view and always work; Health reports on the
// failure to come without using it up.
//
// An Await that stands in a queue is a call, too: it ends with err.
func (l *Locker) FailNext(n int, err error) {
	l.faults.set(func(f *faults) { f.fail = fault{n, orUnavailable(err)} })
	if n == 0 {
		return
	}
	for i := range l.store.shards {
		s := &l.store.shards[i]
		s.mu.Lock()
		s.expel(l, l.faults.next)
		s.mu.Unlock()
	}
}

// LoseReplies lets the store apply this client's next n calls, which then fail
// with err as if the connection broke before the reply came. Such a TryAcquire
// cleans up and leaves nothing held; an Extend is in force although its caller
// can't know; a Release has freed the key, and may be repeated. n and err are as
// in [Locker.FailNext]; a call that fails by that does not count.
func (l *Locker) LoseReplies(n int, err error) {
	l.faults.set(func(f *faults) { f.lose = fault{n, orUnavailable(err)} })
}

// Delay makes each later call of this client take d before the store looks at it
// (or it fails). The time counts: a lease that took d to get has its ttl less d
// left, and one that took all of it is not granted. A call whose ctx ends
// meanwhile has done nothing; a Release gives up after
// [lock.DefaultReleaseTimeout]. 0 or less ends the delay, for calls to come.
func (l *Locker) Delay(d time.Duration) {
	l.faults.set(func(f *faults) { f.delay = d })
}

func orUnavailable(err error) error {
	if err == nil {
		return lock.ErrUnavailable
	}
	return err
}

// faults are what happens to a client's calls on a test's behalf.
type faults struct {
	on atomic.Bool // anything set below? All that calls pay where there is nothing.

	mu    sync.Mutex // guards all below
	fail  fault
	lose  fault
	delay time.Duration
	freed map[hold]bool // by a Release whose reply was lost
}

// hold names a term: tokens alone are not unique between keys.
type hold struct {
	key   string
	token uint64
}

// remember notes that a Release was applied without its caller's knowing, so that
// it can be distinguished from a loss when it is repeated.
func (f *faults) remember(key string, token uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.freed == nil {
		f.freed = map[hold]bool{}
	}
	f.freed[hold{key, token}] = true
}

// recall reports whether remember had it, once.
func (f *faults) recall(key string, token uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	freed := f.freed[hold{key, token}]
	delete(f.freed, hold{key, token})
	return freed
}

// fault is an error and how many calls it is still for; negative: all.
type fault struct {
	n   int
	err error
}

// take uses f up by one call, and returns its error, or nil if none is due.
func (f *fault) take() error {
	if f.n == 0 {
		return nil
	}
	f.n = max(f.n-1, -1)
	return f.err
}

func (f *faults) set(change func(*faults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
	f.update()
}

// update sets on. mu is held.
func (f *faults) update() { f.on.Store(f.fail.n != 0 || f.lose.n != 0 || f.delay > 0) }

// meet lets a call run into what is due: err ends it before it does anything;
// else it has spent this long on its way, and if lost is not nil, answers that
// once it is applied.
func (f *faults) meet(ctx context.Context) (spent time.Duration, lost, err error) {
	if !f.on.Load() {
		return 0, nil, nil
	}
	return f.run(ctx)
}

func (f *faults) run(ctx context.Context) (spent time.Duration, lost, err error) {
	f.mu.Lock()
	delay := f.delay
	if err = f.fail.take(); err == nil {
		lost = f.lose.take()
	}
	f.update()
	f.mu.Unlock()

	if delay > 0 {
		start := time.Now()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			spent = time.Since(start)
		case <-ctx.Done():
			return 0, nil, lock.ContextError(ctx)
		}
	}
	return spent, lost, err
}

// next is what a call that is under way fails with now; nil: nothing.
func (f *faults) next() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.update()
	return f.fail.take()
}

// due is what the next call would fail with.
func (f *faults) due() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail.n == 0 {
		return nil
	}
	return f.fail.err
}
