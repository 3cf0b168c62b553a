package lockotel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// scope names this package as the origin of metrics and spans.
const scope = "github.com/tonsurance/lockkeeper/lock/lockotel"

// Options for [New]. nil means the defaults.
type Options struct {
	// MeterProvider gets the metrics. Defaults to the global one.
	MeterProvider metric.MeterProvider

	// TracerProvider gets the spans. Defaults to the global one.
	TracerProvider trace.TracerProvider

	// KeyName maps a key to the value of the attribute lock.name: one of few, such
	// as "account" for "account:4711", because each value is a time series of its
	// own for ever. It gets the full key, or an Elector's as that was given; "" is
	// no attribute. It is called for each event and must be safe for concurrent
	// use. nil means that metrics do not distinguish keys.
	KeyName func(key string) string

	// Store names the store in the attribute lock.store of each metric and span: "s3", or "orders"
	// where a program has two of a kind. Defaults to the package of the locker that is given to
	// Observe or Health ("redlock", "postgres", "s3") in what these report; what Lost, Elector,
	// Request, Refresh and Event report has none then, because they see no locker.
	Store string

	// Attributes are added to every metric. lock.store among them stands in for Store.
	Attributes []attribute.KeyValue
}

// Telemetry turns what happens to locks into metrics and spans. It is safe for
// concurrent use.
type Telemetry struct {
	opts   Options
	meter  metric.Meter
	tracer trace.Tracer
	common metric.MeasurementOption

	attempt, wait, extend, release, hold, request metric.Float64Histogram
	losses, handoffs, refreshes                   metric.Int64Counter
	waiting                                       metric.Int64UpDownCounter

	hasHealth atomic.Bool
}

// New makes the instruments. An error is that of the MeterProvider.
func New(o *Options) (*Telemetry, error) {
	t := &Telemetry{}
	if o != nil {
		t.opts = *o
	}
	if t.opts.MeterProvider == nil {
		t.opts.MeterProvider = otel.GetMeterProvider()
	}
	if t.opts.TracerProvider == nil {
		t.opts.TracerProvider = otel.GetTracerProvider()
	}
	t.meter = t.opts.MeterProvider.Meter(scope)
	t.tracer = t.opts.TracerProvider.Tracer(scope)
	given := slices.Clone(t.opts.Attributes)
	if t.opts.Store != "" {
		given = append(given, lockStore.String(t.opts.Store))
	}
	set := attribute.NewSet(given...)
	if v, ok := set.Value(lockStore); ok {
		t.opts.Store = v.AsString()
	}
	t.common = metric.WithAttributeSet(set)

	var errs []error
	seconds := func(m Metric, buckets []float64) metric.Float64Histogram {
		h, err := t.meter.Float64Histogram(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Description),
			metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
		return h
	}
	t.attempt = seconds(attemptDuration, brief)
	t.wait = seconds(waitDuration, long)
	t.extend = seconds(extendDuration, brief)
	t.release = seconds(releaseDuration, brief)
	t.hold = seconds(holdDuration, long)
	t.request = seconds(requestDuration, brief)
	counter := func(m Metric) metric.Int64Counter {
		c, err := t.meter.Int64Counter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Description))
		errs = append(errs, err)
		return c
	}
	t.losses, t.handoffs, t.refreshes = counter(keeperLosses), counter(queueHandoffs), counter(queueRefreshes)
	var err error
	t.waiting, err = t.meter.Int64UpDownCounter(queueWaiting.Name, metric.WithUnit(queueWaiting.Unit), metric.WithDescription(queueWaiting.Description))
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("lockotel: %w", err)
	}
	if t.opts.KeyName == nil {
		// From 0 on: a counter that begins at 1 shows no increase for the first loss.
		for _, cause := range []string{notRenewed, taken} {
			t.losses.Add(context.Background(), 0, t.common, metric.WithAttributes(lossCause.String(cause)))
		}
	}
	return t, nil
}

// Buckets in seconds: for calls to a store, and for what takes as long as it takes.
var (
	brief = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	long  = []float64{.001, .01, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600}
)

// named are the attributes of a measurement about key.
func (t *Telemetry) named(key string, attrs ...attribute.KeyValue) metric.MeasurementOption {
	if t.opts.KeyName != nil {
		if name := t.opts.KeyName(key); name != "" {
			attrs = append(attrs, lockName.String(name))
		}
	}
	return metric.WithAttributes(attrs...)
}

// of names the store of l in what is measured of it: as the options say, else by l's package.
func (t *Telemetry) of(l lock.Locker) []attribute.KeyValue {
	if t.opts.Store != "" || l == nil { // in all metrics; or every call of it will fail
		return nil
	}
	var store any = l
	for {
		below, ok := store.(interface{ Unwrap() lock.Locker })
		if !ok {
			break
		}
		store = below.Unwrap()
	}
	// Below a decorator that changes keys and so has no Unwrap, what closes is the store.
	if c, ok := lock.As[io.Closer](l); ok {
		store = c
	}
	name, _, _ := strings.Cut(strings.TrimLeft(reflect.TypeOf(store).String(), "*"), ".")
	return []attribute.KeyValue{lockStore.String(name)}
}

// Lost counts a loss that a keeper has seen: for [keepalive.Options].OnLost.
func (t *Telemetry) Lost(k *keepalive.Keeper, err error) {
	cause := taken
	if errors.Is(err, keepalive.ErrNotRenewed) {
		cause = notRenewed
	}
	t.losses.Add(context.Background(), 1, t.common, t.named(k.Key(), lossCause.String(cause)))
}

// Request measures a request to one node of a store: for redlock's
// Options.OnRequest.
func (t *Telemetry) Request(node string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	t.request.Record(context.Background(), took.Seconds(), t.common,
		metric.WithAttributes(nodeName.String(node), lockOutcome.String(result)))
}

// Refresh counts a request that was sent to a node again to keep its position in the
// queue: for redlock's Options.OnRefresh.
func (t *Telemetry) Refresh(node string) {
	t.refreshes.Add(context.Background(), 1, t.common, metric.WithAttributes(nodeName.String(node)))
}

// outcome says in a word how a call that returned err ended.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled" // the last cause is joined to it
	case errors.Is(err, lock.ErrLost):
		return "lost"
	case errors.Is(err, lock.ErrClosed):
		return "closed"
	case errors.Is(err, lock.ErrHeld):
		return "held"
	case errors.Is(err, lock.ErrUnavailable):
		return "unavailable"
	}
	return "error"
}
