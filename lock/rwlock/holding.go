package rwlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// holding is what an attempt has acquired so far: the gate, and then places. While the
// attempt waits for more they are extended. In the end it is what a writer's lease holds.
type holding struct {
	ctx    context.Context // ends with the caller's, or when something was lost
	cancel context.CancelCauseFunc
	loop   sync.WaitGroup
	lost   error // why loop ended, if something was lost; read after loop

	mu     sync.Mutex // guards leases
	leases []lock.Lease
}

func hold(ctx context.Context, a *attempt, gate lock.Lease) *holding {
	h := &holding{leases: []lock.Lease{gate}}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	if a.refused != nil { // an attempt that does not wait needs no more time
		h.loop.Go(func() { h.keep(a.ttl) })
	}
	return h
}

// keep extends what there is until ctx ends.
func (h *holding) keep(ttl time.Duration) {
	for h.ctx.Err() == nil {
		begun := time.Now()
		// At once, too: a lease may start with less than the ttl.
		if err := h.extend(h.ctx, ttl); errors.Is(err, lock.ErrLost) {
			h.lost = fmt.Errorf("%w while it waited", err)
			h.cancel(h.lost)
			return
		}
		if pause := ttl/4 - time.Since(begun); pause > 0 {
			select {
			case <-time.After(pause):
			case <-h.ctx.Done():
			}
		}
	}
}

// stop ends the keeping. The error says that something was lost. (The cause of ctx does not:
// the caller's may have ended because a lease of its own was lost.)
func (h *holding) stop() error {
	h.cancel(nil)
	h.loop.Wait()
	return h.lost
}

// reason is err for the caller, who has no lease yet and so can't lose one, and who does not
// know the contexts that were made here: both are an outage to it, unless its ctx has ended.
func reason(ctx context.Context, err error) error {
	isContextError := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	switch ended := lock.ContextError(ctx); {
	case ended != nil && errors.Is(err, ctx.Err()) && errors.Is(err, context.Cause(ctx)):
		return err // the cause may well match lock.ErrLost
	case !errors.Is(err, lock.ErrLost) && !isContextError:
		return err
	case ended != nil:
		return fmt.Errorf("%w: %v", ended, err)
	}
	return fmt.Errorf("%w: the gate or a place was lost before it had all: %v", lock.ErrUnavailable, err)
}

// takePlaces takes all places at the same time. That can't deadlock: readers hold one and
// wait for no other, and only the holder of the gate takes several.
func (h *holding) takePlaces(a *attempt) error {
	within, cancel := context.WithCancel(h.ctx)
	defer cancel()
	errs := make([]error, MaxReaders)
	var wg sync.WaitGroup
	for i := range MaxReaders {
		wg.Go(func() {
			lease, err := a.ask(within, a.l.inner, placeName(a.key, i+1))
			if err != nil {
				errs[i] = err
				cancel() // the others need not go on
				return
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.leases = append(h.leases, lease)
		})
	}
	wg.Wait()
	var failed error
	for _, err := range errs { // the error that had the others cancelled, and not theirs
		if err != nil && (h.ctx.Err() != nil || !errors.Is(err, context.Canceled)) {
			return err
		}
		failed = cmp.Or(failed, err)
	}
	return failed // nil only where every place was acquired: a store may say Canceled for itself
}

// placeName is that of a slot of the readers' semaphore.
func placeName(key string, i int) string {
	if i == 1 {
		return key + readersMark
	}
	return fmt.Sprintf("%s%s;slot=%d", key, readersMark, i)
}

func (h *holding) all() []lock.Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.leases)
}

// expiry is when the first of them ends.
func (h *holding) expiry() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	var first time.Time
	for i, l := range h.leases {
		if e := l.Expiry(); i == 0 || e.Before(first) {
			first = e
		}
	}
	return first
}

// extend extends all. One that is lost is the error, whatever others say.
func (h *holding) extend(ctx context.Context, ttl time.Duration) error {
	return worst(each(h.all(), func(l lock.Lease) error { return l.Extend(ctx, ttl) }))
}

// release frees the places, and then the gate. ctx has a deadline, which is the lease's own or
// its caller's: half of the time is for the gate, lest it meets a ctx that has ended, which is
// no bound to a release.
func (h *holding) release(ctx context.Context) error {
	all := h.all()
	deadline, _ := ctx.Deadline()
	half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
	defer cancel()
	places := worst(each(all[1:], func(l lock.Lease) error { return l.Release(half) }))
	return worst([]error{places, all[0].Release(ctx)})
}

// giveBack frees what an attempt has. Where that takes longer than giveBackTime once ctx has
// ended, it goes on in the background, as long as the store's own bounds let it. (At once would
// be too soon: a program that gives up may exit, and leave all that it has for a ttl.)
func (l *Lock) giveBack(ctx context.Context, leases ...lock.Lease) error {
	done := l.releases(ctx, leases...)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(giveBackTime)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return nil
	}
}

const giveBackTime = 500 * time.Millisecond

// releases begins to free leases. After Close it returns when that is done.
func (l *Lock) releases(ctx context.Context, leases ...lock.Lease) (done <-chan error) {
	ended := make(chan error, 1)
	job := func() { ended <- release(ctx, leases...) }
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		job()
		return ended
	}
	defer l.mu.Unlock()
	l.jobs.Go(job)
	return ended
}

// release frees what there is of an attempt that failed.
func release(ctx context.Context, leases ...lock.Lease) error {
	leases = slices.DeleteFunc(leases, func(l lock.Lease) bool { return l == nil })
	err := worst(each(leases, func(l lock.Lease) error { return l.Release(context.WithoutCancel(ctx)) }))
	if errors.Is(err, lock.ErrLost) {
		return nil // it is not there, which is what was wanted
	}
	return err
}

// also adds to err what could not be freed.
func also(err, left error) error {
	if left == nil {
		return err
	}
	return fmt.Errorf("%w; what it had may be held until its ttl is over: %w", err, left)
}

func each(leases []lock.Lease, do func(lock.Lease) error) []error {
	errs := make([]error, len(leases))
	var wg sync.WaitGroup
	for i, l := range leases {
		wg.Go(func() { errs[i] = do(l) })
	}
	wg.Wait()
	return errs
}

// worst is a loss, or else the first error.
func worst(errs []error) error {
	var first error
	for _, err := range errs {
		if errors.Is(err, lock.ErrLost) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}
