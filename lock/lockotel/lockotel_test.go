package lockotel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/otlptranslator"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockotel"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
)

const (
	key = "prices:4711"
	ttl = 10 * time.Second
)

// scraped is what Prometheus sees of a Telemetry.
type scraped struct {
	*lockotel.Telemetry
	t        *testing.T
	registry *prometheus.Registry
}

func scrape(t *testing.T, o lockotel.Options) *scraped {
	t.Helper()
	registry := prometheus.NewRegistry()
	exp, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo(),
		exporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	require.NoError(t, err)
	o.MeterProvider = metric.NewMeterProvider(metric.WithReader(exp))
	tel, err := lockotel.New(&o)
	require.NoError(t, err)
	return &scraped{tel, t, registry}
}

func (s *scraped) gather() map[string]*dto.MetricFamily {
	s.t.Helper()
	all, err := s.registry.Gather()
	require.NoError(s.t, err)
	families := map[string]*dto.MetricFamily{}
	for _, f := range all {
		families[f.GetName()] = f
	}
	return families
}

// value gives a series: a counter, a gauge, or the number and the sum of what a
// histogram has. The labels are those of the series, all of them.
func (s *scraped) value(name string, labels ...string) (value, sum float64) {
	s.t.Helper()
	found := false
	for _, m := range s.gather()[name].GetMetric() {
		if !hasLabels(m, labels) {
			continue
		}
		require.False(s.t, found, "two series of %s %v", name, labels)
		found = true
		switch {
		case m.Histogram != nil:
			value, sum = float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum()
		case m.Counter != nil:
			value = m.Counter.GetValue()
		default:
			value = m.GetGauge().GetValue()
		}
	}
	require.True(s.t, found, "no series of %s %v", name, labels)
	return value, sum
}

// hasLabels leaves lock_store to the tests that ask for it.
func hasLabels(m *dto.Metric, labels []string) bool {
	has := m.GetLabel()
	if !slices.Contains(labels, "lock_store") {
		has = slices.DeleteFunc(slices.Clone(has), func(l *dto.LabelPair) bool { return l.GetName() == "lock_store" })
	}
	if len(has) != len(labels)/2 {
		return false
	}
	for _, l := range has {
		found := false
		for i := 0; i < len(labels); i += 2 {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

func (s *scraped) requireCount(want int, name string, labels ...string) {
	s.t.Helper()
	got, _ := s.value(name, labels...)
	require.EqualValues(s.t, want, got, "%s %v", name, labels)
}

// bubble runs a test on fake time.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestEvents(t *testing.T) {
	bubble(t, "AttemptsAndConflictsAreCountedApart", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		store := memory.New()
		l := s.Observe(store)
		lease, err := l.TryAcquire(t.Context(), key, ttl)
		require.NoError(t, err)
		for range 3 {
			_, err = l.TryAcquire(t.Context(), key, ttl)
			require.ErrorIs(t, err, lock.ErrHeld)
		}
		store.FailNext(1, nil)
		_, err = l.TryAcquire(t.Context(), "other", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NoError(t, lease.Release(t.Context()))
		s.requireCount(1, "lock_attempt_duration_seconds", "lock_outcome", "ok")
		s.requireCount(3, "lock_attempt_duration_seconds", "lock_outcome", "held")
		s.requireCount(1, "lock_attempt_duration_seconds", "lock_outcome", "unavailable")
		s.requireCount(1, "lock_release_duration_seconds", "lock_outcome", "ok")
	})

	bubble(t, "WaitAndHoldTimesAreInSeconds", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		l := s.Observe(memory.New())
		first, err := l.TryAcquire(t.Context(), key, ttl)
		require.NoError(t, err)
		time.AfterFunc(3*time.Second, func() { _ = first.Release(context.Background()) })
		second, err := lock.Acquire(t.Context(), l, key, ttl, nil)
		require.NoError(t, err)
		synctest.Wait() // the first one's release is reported after the second was woken
		_, waited := s.value("lock_wait_duration_seconds", "lock_outcome", "ok")
		require.InDelta(t, 3, waited, 0.1)
		_, held := s.value("lock_hold_duration_seconds", "lock_hold_end", "released")
		require.InDelta(t, 3, held, 0.001)
		require.NoError(t, second.Release(t.Context()))
		s.requireCount(2, "lock_hold_duration_seconds", "lock_hold_end", "released") // a hold of no time is one too
	})

	bubble(t, "WhatEndsWithItsContextIsCountedAsCanceled", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		l := s.Observe(memory.New())
		_, err := l.TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = lock.Acquire(ctx, l, key, ttl, nil)
		require.Error(t, err)
		s.requireCount(1, "lock_wait_duration_seconds", "lock_outcome", "canceled")
	})

	bubble(t, "RenewalsAndTheirFailures", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		store := memory.New()
		lease, err := s.Observe(store).TryAcquire(t.Context(), key, ttl)
		require.NoError(t, err)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		store.FailNext(2, nil)
		require.Error(t, lease.Extend(t.Context(), ttl))
		require.Error(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, store.ForceRelease(t.Context(), key, 0))
		time.Sleep(time.Second)
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
		s.requireCount(1, "lock_extend_duration_seconds", "lock_outcome", "ok")
		s.requireCount(2, "lock_extend_duration_seconds", "lock_outcome", "unavailable")
		s.requireCount(1, "lock_extend_duration_seconds", "lock_outcome", "lost")
		s.requireCount(1, "lock_hold_duration_seconds", "lock_hold_end", "taken")
	})

	bubble(t, "AnExpiredHoldEndsAtItsExpiry", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		lease, err := s.Observe(memory.New()).TryAcquire(t.Context(), key, ttl)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
		_, held := s.value("lock_hold_duration_seconds", "lock_hold_end", "expired")
		require.InDelta(t, ttl.Seconds(), held, 1)
	})
}

func TestEachErrorHasItsOutcome(t *testing.T) {
	for want, err := range map[string]error{
		"ok":          nil,
		"held":        &lock.HeldError{Key: key},
		"lost":        fmt.Errorf("x: %w", lock.ErrLost),
		"unavailable": fmt.Errorf("x: %w", lock.ErrUnavailable),
		"closed":      lock.ErrClosed,
		"canceled":    errors.Join(lock.ErrHeld, context.DeadlineExceeded),
		"error":       errors.New("x"),
	} {
		s := scrape(t, lockotel.Options{})
		s.Event(lock.Event{Kind: lock.EventAttempt, Context: t.Context(), Key: key, Err: err})
		s.requireCount(1, "lock_attempt_duration_seconds", "lock_outcome", want)
	}
}

func TestKeysAreNoAttributeUnlessMapped(t *testing.T) {
	event := func(s *scraped, key string) {
		s.Event(lock.Event{Kind: lock.EventAttempt, Context: s.t.Context(), Key: key})
	}
	s := scrape(t, lockotel.Options{})
	for i := range 100 {
		event(s, fmt.Sprint("account:", i))
	}
	require.Len(t, s.gather()["lock_attempt_duration_seconds"].GetMetric(), 1)

	s = scrape(t, lockotel.Options{
		KeyName: func(key string) string {
			if len(key) > 7 && key[:7] == "account" {
				return "account"
			}
			return ""
		},
		Attributes: []attribute.KeyValue{attribute.String("lock.store", "main")},
	})
	for i := range 100 {
		event(s, fmt.Sprint("account:", i))
	}
	event(s, "other")
	s.requireCount(100, "lock_attempt_duration_seconds", "lock_outcome", "ok", "lock_name", "account", "lock_store", "main")
	s.requireCount(1, "lock_attempt_duration_seconds", "lock_outcome", "ok", "lock_store", "main")
}

func TestMetricsNameTheStore(t *testing.T) {
	prefixed := lock.Prefix(lock.Observe(memory.New(), func(lock.Event) {}), "p:")
	main := []attribute.KeyValue{attribute.String("lock.store", "main")}
	for _, c := range []struct {
		l       lock.Locker
		options lockotel.Options
		want    string
	}{
		{memory.New(), lockotel.Options{}, "memory"},
		{prefixed, lockotel.Options{}, "memory"},
		{memory.New(), lockotel.Options{Store: "orders"}, "orders"},
		{memory.New(), lockotel.Options{Attributes: main}, "main"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := scrape(t, c.options)
			l := s.Observe(c.l)
			stop, err := s.Health(l, 0)
			require.NoError(t, err)
			lease, err := l.TryAcquire(t.Context(), key, ttl)
			require.NoError(t, err)
			require.NoError(t, lease.Release(t.Context()))
			synctest.Wait()
			s.requireCount(1, "lock_attempt_duration_seconds", "lock_outcome", "ok", "lock_store", c.want)
			s.requireCount(1, "lock_hold_duration_seconds", "lock_hold_end", "released", "lock_store", c.want)
			s.requireCount(0, "lock_quorum_spare", "lock_store", c.want)
			s.requireCount(1, "lock_node_voting", "lock_node_name", "memory", "lock_store", c.want)
			if c.options.Store != "" { // what sees no locker
				s.requireCount(0, "lock_keeper_losses_total", "lock_loss_cause", "taken", "lock_store", c.want)
			}
			require.NoError(t, stop())
		})
	}
}

func TestLosses(t *testing.T) {
	lose := func(t *testing.T, how func(store *memory.Locker)) *scraped {
		s := scrape(t, lockotel.Options{})
		s.requireCount(0, "lock_keeper_losses_total", "lock_loss_cause", "taken")
		s.requireCount(0, "lock_keeper_losses_total", "lock_loss_cause", "not_renewed")
		store := memory.New()
		err := keepalive.Do(t.Context(), s.Observe(store), key, ttl, func(ctx context.Context) error {
			how(store)
			<-ctx.Done()
			store.FailNext(0, nil)
			return nil
		}, &keepalive.Options{OnLost: s.Lost})
		require.ErrorIs(t, err, lock.ErrLost)
		synctest.Wait()
		return s
	}
	bubble(t, "OfALeaseThatTheStoreTookAway", func(t *testing.T) {
		s := lose(t, func(store *memory.Locker) { require.NoError(t, store.ForceRelease(t.Context(), key, 0)) })
		s.requireCount(1, "lock_keeper_losses_total", "lock_loss_cause", "taken")
		s.requireCount(0, "lock_keeper_losses_total", "lock_loss_cause", "not_renewed")
	})
	bubble(t, "OfALeaseThatNobodyCouldRenew", func(t *testing.T) {
		s := lose(t, func(store *memory.Locker) { store.FailNext(-1, nil) })
		s.requireCount(0, "lock_keeper_losses_total", "lock_loss_cause", "taken")
		s.requireCount(1, "lock_keeper_losses_total", "lock_loss_cause", "not_renewed")
	})
}

func TestElector(t *testing.T) {
	bubble(t, "TellsItsStateTermsAndOverdueFn", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		store := memory.New()
		states := func(want string) {
			t.Helper()
			synctest.Wait()
			for _, state := range []string{"stopped", "standing_by", "leading", "draining", "lost"} {
				n := 0
				if state == want {
					n = 1
				}
				s.requireCount(n, "lock_leader_state", "lock_leader_state", state)
			}
		}
		e := leader.New(store, key, &leader.Options{TTL: ttl})
		stop, err := s.Elector(e)
		require.NoError(t, err)
		states("stopped")
		other, err := store.TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		stuck, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			_ = e.Run(ctx, func(context.Context) error { <-stuck; return nil })
		}()
		states("standing_by")
		s.requireCount(0, "lock_leader_terms_total")
		require.NoError(t, other.Release(t.Context()))
		time.Sleep(time.Minute)
		states("leading")
		s.requireCount(1, "lock_leader_terms_total")
		s.requireCount(0, "lock_leader_overdue")
		require.NoError(t, store.ForceRelease(t.Context(), key, 0))
		time.Sleep(time.Minute)
		states("lost")
		s.requireCount(1, "lock_leader_overdue")
		close(stuck)
		time.Sleep(time.Minute)
		s.requireCount(2, "lock_leader_terms_total")
		cancel()
		<-done
		require.NoError(t, stop())
		require.NotContains(t, s.gather(), "lock_leader_state")
	})

	bubble(t, "ThatShareAttributesAreAddedUp", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		for _, key := range []string{"a", "b", "c"} {
			_, err := s.Elector(leader.New(memory.New(), key, nil))
			require.NoError(t, err)
		}
		s.requireCount(3, "lock_leader_state", "lock_leader_state", "stopped")
	})
}
