package lock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// slotAwaiter stands in the queues of all slots at once.
type slotAwaiter struct {
	s     *semaphore
	inner Awaiter
}

func (a slotAwaiter) Await(ctx context.Context, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error) {
	if err := a.s.check(ctx, key, ttl); err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	if a.s.n == 1 {
		lease, err := a.inner.Await(ctx, slotName(key, 1), ttl, refused)
		if err == nil {
			a.s.granted.Store(true)
		}
		return lease, err
	}
	refused = reporter(refused)
	// Each slot is asked on its own first: requests in all queues would be granted all
	// slots that are free, of which one is wanted.
	lease, err := a.s.tryAcquire(ctx, key, ttl)
	if held, ok := errors.AsType[*HeldError](err); ok && errors.Is(err, ErrHeld) && !endedBy(ctx, err) {
		refused(held)
		lease, err = a.queue(ctx, key, ttl, refused)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: acquire a slot of %q: %w", key, err)
	}
	return lease, nil
}

// queue takes the first slot that is handed over. It may get several at the same moment, and
// gives back all but one: until then they keep others out, and let nobody in.
func (a slotAwaiter) queue(ctx context.Context, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error) {
	type result struct {
		lease Lease
		err   error
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan result, a.s.n)
	slots := slotRefusals{key: key, refused: refused, of: make([]slotRefusal, a.s.n)}
	for i := range a.s.n {
		go func() {
			lease, err := a.inner.Await(within, slotName(key, i+1), ttl, func(held *HeldError) { slots.note(i, held) })
			ended <- result{lease, err}
		}()
	}
	var best Lease
	var surplus []Lease
	var failed error
	for range a.s.n { // until all have ended: none may be granted a slot after this
		switch r := <-ended; {
		case r.err != nil:
			if within.Err() == nil {
				failed = r.err // the first; later ones were cut short
			}
		case best == nil:
			best = r.lease
		case r.lease.Expiry().After(best.Expiry()):
			best, surplus = r.lease, append(surplus, best)
		default:
			surplus = append(surplus, r.lease)
		}
		cancel()
	}
	if best == nil {
		if err := ContextError(ctx); err != nil {
			return nil, err
		}
		return nil, a.s.slotError(ctx, failed)
	}
	a.s.granted.Store(true)
	if len(surplus) > 0 {
		// The lease that is kept ages meanwhile. What can't be released within a quarter
		// of its time runs out by itself.
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Until(best.Expiry())/4)
		defer cancel()
		each(surplus, func(l Lease) error { return l.Release(bound) })
	}
	if !time.Now().Before(best.Expiry()) {
		_ = best.Release(ctx) // of what is over there is little to free
		return nil, fmt.Errorf("%w: the lease of %q was over before the requests for the other slots had ended", ErrUnavailable, best.Key())
	}
	return best, nil
}

// slotRefusals makes of what each slot's queue reports what the semaphore reports.
type slotRefusals struct {
	key     string
	refused func(*HeldError)

	mu sync.Mutex    // guards of; held while refused runs, so that calls come one at a time
	of []slotRefusal // by slot, from 0
}

type slotRefusal struct {
	held *HeldError // nil: none yet
	at   time.Time
}

func (s *slotRefusals) note(i int, held *HeldError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.of[i] = slotRefusal{held, now}
	all := HeldError{Key: s.key}
	for i, r := range s.of {
		if r.held == nil {
			continue
		}
		aged := *r.held
		if aged.RetryAfter > 0 {
			aged.RetryAfter = max(time.Millisecond, aged.RetryAfter-now.Sub(r.at))
		}
		all.meet(&aged, i+1)
	}
	s.refused(&all)
}
