package record

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// info describes a record's hold; a zero Holder where there is none.
func (l *Locker) info(name, key string, e Entry) lock.Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waitFor(name, e)
	if e.Version == "" || w.hold <= 0 {
		return lock.Info{Key: key}
	}
	return lock.Info{Key: key, Holder: e.Record.Holder, Token: e.Record.Token, TTL: w.hold}
}

// Inspect describes key's present holder, as [lock.Inspector] says. Where the store
// reports no ages, a holder that died before this Locker first saw it is shown for a ttl.
func (l *Locker) Inspect(ctx context.Context, key string) (lock.Info, error) {
	info, err := l.inspect(ctx, key)
	if err != nil {
		return lock.Info{}, fmt.Errorf("record: inspect %q: %w", key, err)
	}
	return info, nil
}

func (l *Locker) inspect(ctx context.Context, key string) (lock.Info, error) {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return lock.Info{}, err
	}
	ctx, done, err := l.begin(ctx)
	if err != nil {
		return lock.Info{}, err
	}
	defer done()
	name := l.opts.Names.name(key)
	e, err := l.get(ctx, name, key)
	if err != nil {
		return lock.Info{}, err
	}
	if newest, ok := l.newest(name); ok && e.Version != "" && newest.Record.newer(e.Record) {
		e = newest // the read was stale
	}
	return l.info(name, key, e), nil
}

// List yields the held keys with prefix, as [lock.Inspector] says. Its error matches
// errors.ErrUnsupported where the store can't list.
func (l *Locker) List(ctx context.Context, prefix string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) {
		fail := func(err error) { yield(lock.Info{}, fmt.Errorf("record: list %q: %w", prefix, err)) }
		lister, ok := l.store.(Lister)
		if !ok {
			fail(fmt.Errorf("%w by this store", errors.ErrUnsupported))
			return
		}
		ctx, done, err := l.begin(ctx)
		if err != nil {
			fail(err)
			return
		}
		defer done()
		for e, err := range lister.List(ctx, l.opts.Names.start(prefix)) {
			if err != nil {
				fail(l.failed(ctx, err))
				return
			}
			key := e.Record.Key
			name := l.opts.Names.name(key)
			if e.Version == "" || key == "" || !strings.HasPrefix(key, prefix) || e.Name != "" && e.Name != name {
				continue
			}
			e.Name = ""
			e = l.observe(name, e, time.Now())
			if info := l.info(name, key, e); info.Holder != "" && !yield(info, nil) {
				return
			}
		}
	}
}

// ForceRelease ends the term of key that has this token, as [lock.ForceReleaser] says.
func (l *Locker) ForceRelease(ctx context.Context, key string, token uint64) error {
	if err := l.forceRelease(ctx, key, token); err != nil {
		return fmt.Errorf("record: force release %q (token %d): %w", key, token, err)
	}
	return nil
}

func (l *Locker) forceRelease(ctx context.Context, key string, token uint64) error {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return err
	}
	ctx, done, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	name := l.opts.Names.name(key)
	e, err := l.get(ctx, name, key)
	if err != nil {
		return err
	}
	info := l.info(name, key, e)
	switch {
	case info.Holder == "":
		return nil
	case token != 0 && token != info.Token:
		return fmt.Errorf("now held with token %d: %w", info.Token, &lock.HeldError{Key: key, Holder: info.Holder, RetryAfter: info.TTL})
	}
	// That term and no other: if it has ended meanwhile, there is nothing left to do.
	if _, err := l.free(ctx, name, e.Record, "", nil); err != nil && !errors.Is(err, lock.ErrLost) {
		return err
	}
	return nil
}
