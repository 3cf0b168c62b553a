package memory

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var (
	_ lock.Inspector     = (*Locker)(nil)
	_ lock.ForceReleaser = (*Locker)(nil)
	_ lock.HealthChecker = (*Locker)(nil)
	_ io.Closer          = (*Locker)(nil)
)

// Inspect describes key's holder; a zero Holder means that it is free.
func (l *Locker) Inspect(ctx context.Context, key string) (lock.Info, error) {
	s, err := l.open(ctx, key)
	if err != nil {
		return lock.Info{}, fmt.Errorf("memory: inspect: %w", err)
	}
	defer s.mu.Unlock()
	now := l.store.now()
	if t, ok := s.terms[key]; ok && t.live(now) {
		return s.info(key, t, now), nil
	}
	return lock.Info{Key: key}, nil // nobody waits for a free key
}

// List yields the held keys that start with prefix, each shard of them as it is
// at one moment.
func (l *Locker) List(ctx context.Context, prefix string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) {
		for i := range l.store.shards {
			if err := l.usable(ctx); err != nil {
				yield(lock.Info{}, fmt.Errorf("memory: list %q: %w", prefix, err))
				return
			}
			for _, info := range l.store.shards[i].list(prefix, l.store.now()) {
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// list copies, so that no mutex is held while the caller's loop runs.
func (s *shard) list(prefix string, now time.Duration) []lock.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var infos []lock.Info
	for key, t := range s.terms {
		if strings.HasPrefix(key, prefix) && t.live(now) {
			infos = append(infos, s.info(key, t, now))
		}
	}
	return infos
}

func (s *shard) info(key string, t *term, now time.Duration) lock.Info {
	info := lock.Info{Key: key, Holder: t.holder, Token: t.token, TTL: t.expiry - now, Held: now - t.began}
	if q := s.queue(key); q != nil {
		info.Waiting = len(q.requests)
	}
	return info
}

// ForceRelease takes key away from the term with this token, or from any if
// token is 0. Its holder's Extend and Release fail with ErrLost from then on.
func (l *Locker) ForceRelease(ctx context.Context, key string, token uint64) error {
	s, err := l.open(ctx, key)
	if err != nil {
		return fmt.Errorf("memory: force release: %w", err)
	}
	defer s.mu.Unlock()
	now := l.store.now()
	switch t, ok := s.terms[key]; {
	case !ok || !t.live(now):
	case token != 0 && token != t.token:
		return fmt.Errorf("memory: force release %q (token %d): now held with token %d: %w", key, token, t.token, t.refusal(key, now))
	default:
		s.end(key, t)
	}
	return nil
}

// open returns key's shard with its mutex held.
func (l *Locker) open(ctx context.Context, key string) (*shard, error) {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return nil, err
	}
	if err := l.usable(ctx); err != nil {
		return nil, fmt.Errorf("%q: %w", key, err)
	}
	s := &l.store.shards[shardOf(key)]
	s.mu.Lock()
	return s, nil
}

func (l *Locker) usable(ctx context.Context) error {
	if l.closed.Load() {
		return lock.ErrClosed
	}
	return lock.ContextError(ctx)
}

// Health is one node, "memory", that always votes, unless [Locker.FailNext] has
// failures left to give.
func (l *Locker) Health(ctx context.Context) (lock.Health, error) {
	start := time.Now()
	if err := l.usable(ctx); err != nil {
		return lock.Health{}, fmt.Errorf("memory: health: %w", err)
	}
	node := lock.NodeHealth{Name: "memory", Err: l.faults.due(), Latency: time.Since(start)}
	return lock.Health{Nodes: []lock.NodeHealth{node}, Quorum: 1}, nil
}

// Close refuses this client's later calls with [lock.ErrClosed]. Its held leases
// stay valid until their Expiry and can be released, but not extended. It always
// returns nil, and may be called again. Its waits end, with the same.
func (l *Locker) Close() error {
	l.closed.Store(true)
	// Those who looked at closed before are inside one of these.
	for i := range l.store.shards {
		s := &l.store.shards[i]
		s.mu.Lock()
		s.expel(l, func() error { return lock.ErrClosed })
		s.wake(l)
		s.mu.Unlock()
	}
	return nil
}
