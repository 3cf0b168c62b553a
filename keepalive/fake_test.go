package keepalive

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

const (
	key   = "pricing-oracle"
	token = 7
	ttl   = 10 * time.Second
)

var errBroken = errors.New("connection reset")

// store grants one lease, and lets a test say how it answers.
type store struct {
	// onExtend is what the n-th Extend (from 1) answers; nil means success.
	onExtend  func(ctx context.Context, n int) error
	onRelease func() error
	onAcquire func() error

	mu       sync.Mutex
	extends  []time.Duration // when each Extend began, since began
	under    int             // Extends that have not returned
	releases int
	began    time.Time
}

func (s *store) TryAcquire(_ context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if s.onAcquire != nil {
		if err := s.onAcquire(); err != nil {
			return nil, err
		}
	}
	return s.lease(ttl), nil
}

func (s *store) lease(ttl time.Duration) lock.Lease {
	s.began = time.Now()
	grant := lock.Grant{
		Key: key, Token: token, Expiry: s.began.Add(ttl),
		Extend: func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			start := time.Now()
			s.mu.Lock()
			s.extends = append(s.extends, start.Sub(s.began))
			n := len(s.extends)
			s.under++
			onExtend := s.onExtend
			s.mu.Unlock()
			defer func() {
				s.mu.Lock()
				s.under--
				s.mu.Unlock()
			}()
			if onExtend != nil {
				if err := onExtend(ctx, n); err != nil {
					return time.Time{}, err
				}
			}
			return start.Add(ttl), nil
		},
		Release: func(context.Context) error {
			s.mu.Lock()
			s.releases++
			s.mu.Unlock()
			if s.onRelease != nil {
				return s.onRelease()
			}
			return nil
		},
	}
	if startable {
		grant.Term = &startTerm{extend: grant.Extend, release: grant.Release}
	}
	return lock.NewLease(grant)
}

// startable has the stores' leases extended without a goroutine of the Keeper's.
var startable bool

// startTerm is a Term whose extends can be started.
type startTerm struct {
	extend  func(ctx context.Context, ttl time.Duration) (time.Time, error)
	release func(ctx context.Context) error

	mu   sync.Mutex
	stop context.CancelFunc
}

func (t *startTerm) ExtendTerm(ctx context.Context, _ string, _ uint64, ttl time.Duration) (time.Time, error) {
	return t.extend(ctx, ttl)
}

func (t *startTerm) ReleaseTerm(ctx context.Context, _ string, _ uint64) error { return t.release(ctx) }

func (t *startTerm) StartExtendTerm(_ string, _ uint64, ttl time.Duration, done lock.ExtendDone) {
	ctx, cancel := context.WithCancel(context.Background())
	t.mu.Lock()
	t.stop = cancel
	t.mu.Unlock()
	go func() {
		defer cancel()
		done.Extended(t.extend(ctx, ttl))
	}()
}

func (t *startTerm) StopExtendTerm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop != nil {
		t.stop()
	}
}

// answer changes how a store in use answers.
func (s *store) answer(onExtend func(ctx context.Context, n int) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onExtend = onExtend
}

func (s *store) seen() (extends []time.Duration, under, releases int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Duration(nil), s.extends...), s.under, s.releases
}

// hang is a connection that swallows requests.
func hang(ctx context.Context, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

func failing(context.Context, int) error { return errBroken }

// inStep requires renewals at every interval, or up to a tenth of it earlier.
func inStep(t *testing.T, interval time.Duration, extends []time.Duration) {
	t.Helper()
	var last time.Duration
	for _, at := range extends {
		require.LessOrEqual(t, at-last, interval)
		require.GreaterOrEqual(t, at-last, interval-interval/10)
		last = at
	}
}

// bubble runs a test on fake time: with leases that are extended by a call that waits, and
// with such that are started. It fails if a goroutine is left.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	startable = true
	defer func() { startable = false }()
	t.Run(name+"Started", func(t *testing.T) { synctest.Test(t, f) })
}

func keep(t *testing.T, ctx context.Context, s *store, opts *Options) *Keeper {
	t.Helper()
	k, err := Start(ctx, s.lease(ttl), ttl, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = k.Release(context.Background()) })
	return k
}

// endsAfter waits for ctx and reports when it ended.
func endsAfter(t *testing.T, ctx context.Context) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(time.Hour):
		require.Fail(t, "the context never ended")
	}
	return time.Since(start)
}
