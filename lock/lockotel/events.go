package lockotel

import (
	"context"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Observe returns a locker that works as l does and reports every attempt, wait,
// renewal, release and loss; and, where l queues by itself ([lock.Awaiter]), of the
// requests that stand in its queues. Put it directly on the store: above a
// [lock.Semaphore] it would report the semaphore, not its slots.
func (t *Telemetry) Observe(l lock.Locker) lock.Locker {
	o := observer{t, t.of(l)}
	return lock.Observe(newQueued(l, o), o.event)
}

// Event measures e: for [lock.Observe], where a program has an observer of its own.
func (t *Telemetry) Event(e lock.Event) { observer{t, nil}.event(e) }

// observer reports the locks of one store.
type observer struct {
	*Telemetry
	store []attribute.KeyValue // names it, where the common attributes do not
}

func (t observer) event(e lock.Event) {
	ctx, now := e.Context, time.Now()
	switch e.Kind {
	case lock.EventAttempt:
		t.measure(ctx, t.attempt, e, now)
	case lock.EventWait:
		t.measure(ctx, t.wait, e, now)
	case lock.EventExtend:
		t.measure(ctx, t.extend, e, now)
	case lock.EventRelease:
		t.measure(ctx, t.release, e, now)
		if e.Err == nil {
			t.ended(ctx, e, released, now.Add(-e.Duration))
		}
	case lock.EventLost:
		end := taken
		if e.Expired {
			end = expired
		}
		t.ended(ctx, e, end, now)
	}
}

// measure reports one call, which is over.
func (t observer) measure(ctx context.Context, h metric.Float64Histogram, e lock.Event, end time.Time) {
	result := outcome(e.Err)
	// How long an attempt took says how quick the store is; the time in its queue is the
	// wait's.
	h.Record(ctx, (e.Duration - e.Queued).Seconds(), t.common, t.named(e.Key, lockOutcome.String(result)), metric.WithAttributes(t.store...))
	attrs := []attribute.KeyValue{lockOutcome.String(result)}
	if e.Kind == lock.EventWait {
		attrs = append(attrs, waitTries.Int(e.Attempts))
	}
	t.span(ctx, e, string(e.Kind), end.Add(-e.Duration), end, attrs, result)
}

// ended reports a lease that is over.
func (t observer) ended(ctx context.Context, e lock.Event, how string, end time.Time) {
	t.hold.Record(ctx, e.Held.Seconds(), t.common, t.named(e.Key, holdEnd.String(how)), metric.WithAttributes(t.store...))
	t.span(ctx, e, "hold", end.Add(-e.Held), end, []attribute.KeyValue{holdEnd.String(how)}, outcome(e.Err))
}

// span makes a span of what is over, below that of the call if it has one.
func (t observer) span(ctx context.Context, e lock.Event, name string, start, end time.Time, attrs []attribute.KeyValue, result string) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	attrs = append(append(attrs, lockKey.String(e.Key)), t.store...)
	if t.opts.Store != "" {
		attrs = append(attrs, lockStore.String(t.opts.Store))
	}
	if e.Token != 0 {
		attrs = append(attrs, lockToken.Int64(int64(e.Token)))
	}
	failed := e.Err != nil && result != "held" && result != "canceled"
	if failed {
		attrs = append(attrs, errorType.String(result))
	}
	_, s := t.tracer.Start(ctx, "lock."+name, trace.WithTimestamp(start),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	if failed {
		s.SetStatus(codes.Error, e.Err.Error())
	}
	s.End(trace.WithTimestamp(end))
}
