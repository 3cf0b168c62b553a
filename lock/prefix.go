package lock

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"
)

// Prefix is l with prefix before every key: a tenant's or a program's own part of
// a store that it shares. Short names go in, and full names of the store come out:
// in leases, refusals and Info. With an empty prefix it is l itself.
//
// It offers what l offers of [Awaiter], [Watcher], [Inspector] (whose List stays within the
// prefix), [ForceReleaser], [HealthChecker], [MaxReleaseAfterer] and io.Closer, which
// closes l itself, and its waiters stand in the queue of the full name. Other interfaces of l
// are not found through it, because it can't know whether they carry keys.
//
// A key whose full name is not a valid key fails with an error that matches
// [ErrInvalid], before l is asked.
func Prefix(l Locker, prefix string) Locker {
	if prefix == "" {
		return l
	}
	return &prefixed{l, prefix}
}

var (
	_ Locker     = (*prefixed)(nil)
	_ queuer     = (*prefixed)(nil)
	_ keyChanger = (*prefixed)(nil)
)

type prefixed struct {
	inner  Locker
	prefix string
}

// name is the full name of key.
func (p *prefixed) name(key string, ttl time.Duration) (string, error) {
	// key alone as well: an empty key must not name the bare prefix, nor may prefix and key
	// each be half of one UTF-8 character.
	if err := Check(key, ttl); err != nil {
		return "", err
	}
	name := p.prefix + key
	if err := Check(name, ttl); err != nil {
		return "", fmt.Errorf("key %q with prefix %q: %w", key, p.prefix, err)
	}
	return name, nil
}

func (p *prefixed) TryAcquire(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	name, err := p.name(key, ttl)
	if err == nil {
		err = checkArgs(ctx, p.inner)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	return p.inner.TryAcquire(ctx, name, ttl)
}

func (p *prefixed) below(key string) (Locker, string) { return p.inner, p.prefix + key }

func (p *prefixed) queue(key string) (*Waiters, string) { return queueOf(p.below(key)) }

// As is in place of Unwrap: through that, As would find what takes full names.
func (p *prefixed) As(target any) bool {
	switch t := target.(type) {
	case *Awaiter:
		return translated(p.inner, t, func(a Awaiter) Awaiter { return prefixedAwaiter{p, a} })
	case *Watcher:
		return translated(p.inner, t, func(w Watcher) Watcher { return prefixedWatcher{p, w} })
	case *Inspector:
		return translated(p.inner, t, func(i Inspector) Inspector { return prefixedInspector{p, i} })
	case *ForceReleaser:
		return translated(p.inner, t, func(f ForceReleaser) ForceReleaser { return prefixedForceReleaser{p, f} })
	case *HealthChecker:
		return translated(p.inner, t, func(h HealthChecker) HealthChecker { return h })
	case *MaxReleaseAfterer:
		return translated(p.inner, t, func(m MaxReleaseAfterer) MaxReleaseAfterer { return m })
	case *io.Closer:
		return translated(p.inner, t, func(c io.Closer) io.Closer { return c })
	case *slots:
		return translated(p.inner, t, func(s slots) slots { return prefixedSlots{p, s} })
	}
	return false
}

// translated sets target to what the locker below has of it, translated.
func translated[T any](below Locker, target *T, translate func(T) T) bool {
	inner, ok := As[T](below)
	if ok {
		*target = translate(inner)
	}
	return ok
}

type prefixedSlots struct {
	p     *prefixed
	inner slots
}

func (s prefixedSlots) Slots(key string) (Locker, []string) { return s.inner.Slots(s.p.prefix + key) }

type prefixedAwaiter struct {
	p     *prefixed
	inner Awaiter
}

func (a prefixedAwaiter) Await(ctx context.Context, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error) {
	name, err := a.p.name(key, ttl)
	if err == nil {
		err = checkArgs(ctx, a.p.inner)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	return a.inner.Await(ctx, name, ttl, refused)
}

type prefixedWatcher struct {
	p     *prefixed
	inner Watcher
}

func (w prefixedWatcher) Watch(ctx context.Context, key string, wake chan<- struct{}) (func(), error) {
	name, err := w.p.name(key, MinTTL)
	if err != nil {
		return nil, fmt.Errorf("lock: watch: %w", err)
	}
	return w.inner.Watch(ctx, name, wake)
}

type prefixedInspector struct {
	p     *prefixed
	inner Inspector
}

func (i prefixedInspector) Inspect(ctx context.Context, key string) (Info, error) {
	name, err := i.p.name(key, MinTTL)
	if err != nil {
		return Info{}, fmt.Errorf("lock: inspect: %w", err)
	}
	return i.inner.Inspect(ctx, name)
}

func (i prefixedInspector) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return i.inner.List(ctx, i.p.prefix+prefix)
}

type prefixedForceReleaser struct {
	p     *prefixed
	inner ForceReleaser
}

func (f prefixedForceReleaser) ForceRelease(ctx context.Context, key string, token uint64) error {
	name, err := f.p.name(key, MinTTL)
	if err != nil {
		return fmt.Errorf("lock: force release: %w", err)
	}
	return f.inner.ForceRelease(ctx, name, token)
}
