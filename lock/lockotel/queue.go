package lockotel

import (
	"context"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"go.opentelemetry.io/otel/metric"
)

// queued counts the requests that stand in the queues of a store: what happens there is
// otherwise known only when a wait is over.
type queued struct {
	lock.Locker
	o observer
}

// newQueued is l, or a decorator of it where l queues by itself.
func newQueued(l lock.Locker, o observer) lock.Locker {
	if _, ok := lock.As[lock.Awaiter](l); !ok {
		return l
	}
	if o.opts.KeyName == nil {
		// From 0 on: a counter that begins at 1 shows no increase for the first hand-off.
		o.handoffs.Add(context.Background(), 0, o.common, metric.WithAttributes(o.store...))
		o.waiting.Add(context.Background(), 0, o.common, metric.WithAttributes(o.store...))
	}
	return &queued{l, o}
}

// Unwrap lets lock.As find all else that the store has.
func (q *queued) Unwrap() lock.Locker { return q.Locker }

// As passes the Awaiter on.
func (q *queued) As(target any) bool {
	t, ok := target.(*lock.Awaiter)
	if !ok {
		return false
	}
	inner, ok := lock.As[lock.Awaiter](q.Locker)
	if ok {
		*t = queuedAwaiter{q.o, inner}
	}
	return ok
}

type queuedAwaiter struct {
	o     observer
	inner lock.Awaiter
}

// Await counts a request as waiting from its first refusal on, after which it stands in
// the queue, until it is over.
func (a queuedAwaiter) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	measured := context.WithoutCancel(ctx) // the end of ctx must not keep a wait from being counted off
	var labels []metric.AddOption          // nil: it does not stand yet
	defer func() {                         // after a panic too
		if labels != nil {
			a.o.waiting.Add(measured, -1, labels...)
		}
	}()
	lease, err := a.inner.Await(ctx, key, ttl, func(held *lock.HeldError) {
		if labels == nil {
			if held.Key != "" {
				key = held.Key // the full one
			}
			labels = []metric.AddOption{a.o.common, a.o.named(key), metric.WithAttributes(a.o.store...)}
			a.o.waiting.Add(measured, 1, labels...)
		}
		if refused != nil {
			refused(held)
		}
	})
	if labels != nil && err == nil {
		a.o.handoffs.Add(measured, 1, labels...)
	}
	return lease, err
}
