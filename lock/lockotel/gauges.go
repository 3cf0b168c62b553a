package lockotel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Elector reports e's state, terms and overdue terms whenever metrics are
// collected. Electors whose attributes are the same are added up. stop ends that.
func (t *Telemetry) Elector(e *leader.Elector) (stop func() error, err error) {
	if e == nil { // a panic would come with the first scrape
		return nil, fmt.Errorf("lockotel: elector: %w: elector is nil", lock.ErrInvalid)
	}
	state, err1 := t.meter.Int64ObservableUpDownCounter(leaderStates.Name, metric.WithUnit(leaderStates.Unit), metric.WithDescription(leaderStates.Description))
	terms, err2 := t.meter.Int64ObservableCounter(leaderTerms.Name, metric.WithUnit(leaderTerms.Unit), metric.WithDescription(leaderTerms.Description))
	overdue, err3 := t.meter.Int64ObservableUpDownCounter(leaderOverdue.Name, metric.WithUnit(leaderOverdue.Unit), metric.WithDescription(leaderOverdue.Description))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("lockotel: elector: %w", err)
	}
	r, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := e.Status()
		for _, each := range []leader.State{leader.Stopped, leader.StandingBy, leader.Leading, leader.Draining, leader.Lost} {
			o.ObserveInt64(state, one(s.State == each), t.common, t.named(s.Key, leaderState.String(strings.ReplaceAll(string(each), " ", "_"))))
		}
		o.ObserveInt64(terms, int64(s.Terms), t.common, t.named(s.Key))
		o.ObserveInt64(overdue, one(s.Overdue), t.common, t.named(s.Key))
		return nil
	}, state, terms, overdue)
	if err != nil {
		return nil, fmt.Errorf("lockotel: elector: %w", err)
	}
	return r.Unregister, nil
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// DefaultHealthInterval is how often Health asks.
const DefaultHealthInterval = 15 * time.Second

// Health asks l's nodes for their state at once and then every so often (at least 1ms; 0 means
// DefaultHealthInterval), and reports the last answer whenever metrics are collected:
// a scrape never waits for a node. A question takes no longer than every; where it
// can't be asked at all, nothing is reported until it can again. For redlock each is a real vote
// on every node.
//
// One a Telemetry: a second fails with an error matching [lock.ErrInvalid], and a
// locker without [lock.HealthChecker] with [errors.ErrUnsupported]. stop ends it,
// and returns when its goroutine has ended.
func (t *Telemetry) Health(l lock.Locker, every time.Duration) (stop func() error, err error) {
	checker, ok := lock.As[lock.HealthChecker](l)
	switch {
	case l == nil:
		return nil, fmt.Errorf("lockotel: health: %w: locker is nil", lock.ErrInvalid)
	case !ok:
		return nil, fmt.Errorf("lockotel: health: %T can't report on its nodes: %w", l, errors.ErrUnsupported)
	case every != 0 && every < time.Millisecond: // a number without its unit would ask all the time
		return nil, fmt.Errorf("lockotel: health: %w: every is %v, want 0 for the default, or at least 1ms", lock.ErrInvalid, every)
	case !t.hasHealth.CompareAndSwap(false, true):
		return nil, fmt.Errorf("lockotel: health: %w: this Telemetry has a locker already, want one Telemetry for each", lock.ErrInvalid)
	}
	if every == 0 {
		every = DefaultHealthInterval
	}
	var last atomic.Pointer[lock.Health]
	unregister, err := t.registerHealth(&last, t.of(l))
	if err != nil {
		t.hasHealth.Store(false)
		return nil, fmt.Errorf("lockotel: health: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for ctx.Err() == nil {
			asking, stop := context.WithTimeout(ctx, every)
			if h, err := checker.Health(asking); err == nil {
				last.Store(&h)
			} else {
				last.Store(nil)
			}
			stop()
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() error {
		cancel()
		<-done
		t.hasHealth.Store(false)
		return unregister.Unregister()
	}, nil
}

func (t *Telemetry) registerHealth(last *atomic.Pointer[lock.Health], store []attribute.KeyValue) (metric.Registration, error) {
	voting, err1 := t.meter.Int64ObservableUpDownCounter(nodeVoting.Name, metric.WithUnit(nodeVoting.Unit), metric.WithDescription(nodeVoting.Description))
	latency, err2 := t.meter.Float64ObservableGauge(nodeLatency.Name, metric.WithUnit(nodeLatency.Unit), metric.WithDescription(nodeLatency.Description))
	warnings, err3 := t.meter.Int64ObservableUpDownCounter(nodeWarnings.Name, metric.WithUnit(nodeWarnings.Unit), metric.WithDescription(nodeWarnings.Description))
	spare, err4 := t.meter.Int64ObservableGauge(quorumSpare.Name, metric.WithUnit(quorumSpare.Unit), metric.WithDescription(quorumSpare.Description))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	return t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		h := last.Load()
		if h == nil {
			return nil
		}
		for _, n := range h.Nodes {
			name := metric.WithAttributes(append(slices.Clip(store), nodeName.String(n.Name))...)
			o.ObserveInt64(voting, one(n.Err == nil), t.common, name)
			o.ObserveInt64(warnings, int64(len(n.Warnings)), t.common, name)
			if n.Latency > 0 {
				o.ObserveFloat64(latency, n.Latency.Seconds(), t.common, name)
			}
		}
		o.ObserveInt64(spare, int64(h.Voting()-h.Quorum), t.common, metric.WithAttributes(store...))
		return nil
	}, voting, latency, warnings, spare)
}
