package locktest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

func (r *refLease) Extend(ctx context.Context, ttl time.Duration) error {
	b := r.l.bug
	if err := lock.Check(r.key, ttl); err != nil && b != "extend accepts any ttl" && b != "accepts any key" {
		return err
	}
	if b == "extend ignores its ctx" {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case r.turn <- struct{}{}:
	default:
		if r.isReleasing() && b != "extend ignores a Release under way" {
			return lock.ErrLost
		}
		if b != "extend ignores a Release under way" {
			select {
			case r.turn <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		} else {
			r.l.store.extend(r.key, r.l.id, r.value, ttl)
			return nil
		}
	}
	defer func() { <-r.turn }()

	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.releasing && b != "extend revives a released lease":
		return r.errLostKeeping()
	case r.lost && b == "loss is not final":
		return errPlain
	case r.expired() && b != "extends expired leases" && b != "extends whoever holds" && b != "extend takes a free key" &&
		b != "extend revives a released lease":
		return r.errLost()
	case ctx.Err() != nil && b == "an ended ctx loses the lease":
		return r.errLost()
	case ctx.Err() != nil:
		return ctx.Err()
	case b == "extend does nothing":
		return nil
	}
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	old := r.expiry
	if time.Now().Before(old) && b != "accepts answers after expiry" && b != "extend ignores its ctx" {
		bounded, cancel = context.WithDeadline(ctx, old)
		defer cancel()
	}
	r.cancel = cancel
	start := time.Now()
	r.mu.Unlock()
	ok := false
	err := r.l.call(bounded, func() { ok = r.l.store.extend(r.key, r.l.id, r.value, ttl) })
	r.mu.Lock()
	r.cancel = nil

	late := !time.Now().Before(old) && b != "accepts answers after expiry" && b != "extends expired leases" && b != "extends whoever holds" &&
		b != "extend takes a free key" && b != "extend revives a released lease"
	switch {
	case r.releasing && b != "extend revives a released lease":
		return r.errLostKeeping()
	case late:
		return r.errLost()
	case err != nil && b == "a failed extend loses the lease":
		return r.errLost()
	case err != nil && b == "a failed extend moves Expiry":
		r.expiry = start.Add(2 * ttl)
		return err
	case err != nil:
		return err
	case !ok && b == "extend is never refused":
	case !ok && b == "extends expired leases":
		r.l.store.grant(r.key, r.l.id, r.value, ttl)
	case !ok:
		return r.errLost()
	}
	if b == "extend counts from the reply" {
		start = time.Now()
	}
	if b == "extend changes the token" {
		r.token++
	}
	if expiry := start.Add(ttl); b != "extend never shortens" || expiry.After(r.expiry) {
		r.expiry = expiry
	}
	return nil
}

// errLostKeeping is for an Extend after Release: what Release found stands.
func (r *refLease) errLostKeeping() error {
	return fmt.Errorf("%w: %q was released", lock.ErrLost, r.key)
}

func (r *refLease) isReleasing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.releasing
}

func (r *refLease) Release(ctx context.Context) error {
	b := r.l.bug
	if b != "release obeys its ctx" {
		ctx = context.WithoutCancel(ctx)
	}
	if b != "release is unbounded" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lock.DefaultReleaseTimeout)
		defer cancel()
	}
	r.mu.Lock()
	r.releasing = b != "a failed release allows extends"
	if r.cancel != nil {
		r.cancel()
	}
	r.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", lock.ErrUnavailable, ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.done && b == "release is not idempotent":
		return errPlain
	case r.done && b == "release frees whoever holds":
		r.l.store.remove(r.key, r.l.id, "")
		return r.final
	case r.done && b == "loss is not final":
		return nil
	case r.done:
		return r.final
	}
	lost := r.expired() && b != "release past expiry is nil"
	if lost {
		r.final = r.errLost()
		if b == "release past expiry sends nothing" {
			r.done = true
			return r.final
		}
	}
	r.mu.Unlock()
	value := r.value
	if b == "release frees whoever holds" {
		value = ""
	}
	err := r.l.call(ctx, func() {
		if b != "release leaves the key" {
			r.l.store.remove(r.key, r.l.id, value)
		}
	})
	r.mu.Lock()
	if err != nil && b == "a failed release is final" {
		r.done, r.final = true, nil
	}
	if err != nil && b == "a failed release is lost" {
		return r.errLost()
	}
	if err != nil {
		return fmt.Errorf("%w: release %q: %w", lock.ErrUnavailable, r.key, err)
	}
	r.done = true
	if b != "a lost lease keeps its Expiry" {
		r.expiry = time.Time{}
	}
	return r.final
}

// What the reference offers beyond Locker.

func (l *refLocker) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

func (l *refLocker) info(h refHold) lock.Info {
	info := lock.Info{Key: h.key, Holder: h.client, Token: h.token, TTL: time.Until(h.until)}
	switch l.bug {
	case "Inspect has a wrong token":
		info.Token++
	case "Inspect has no holder":
		info.Holder = ""
	case "Inspect has a wrong ttl":
		info.TTL /= 4
	}
	return info
}

func (l *refLocker) Inspect(_ context.Context, key string) (lock.Info, error) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	h, held := l.store.live(key)
	if !held && !(l.bug == "Inspect shows those who left" && h.client != "") {
		info := lock.Info{Key: key}
		if l.bug == "Inspect shows those who left" {
			info.Holder = "somebody"
		}
		return info, nil
	}
	return l.info(h), nil
}

func (l *refLocker) List(_ context.Context, prefix string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) {
		l.store.mu.Lock()
		var all []lock.Info
		for name := range l.store.holds {
			if h, held := l.store.live(name); held {
				all = append(all, l.info(h))
			}
		}
		l.store.mu.Unlock()
		for _, info := range all {
			in := strings.HasPrefix(info.Key, prefix)
			if l.bug == "List takes prefixes for globs" {
				in, _ = path.Match(prefix+"*", info.Key)
			}
			if l.bug == "List is empty" {
				in = false
			}
			if in && !yield(info, nil) {
				return
			}
		}
	}
}

func (l *refLocker) ForceRelease(_ context.Context, key string, token uint64) error {
	l.store.mu.Lock()
	h, held := l.store.live(key)
	l.store.mu.Unlock()
	switch {
	case !held && l.bug == "ForceRelease of a free key fails":
		return lock.ErrHeld
	case !held:
		return nil
	case token != 0 && h.token != token && l.bug != "ForceRelease ignores the token":
		return fmt.Errorf("%w: by token %d", lock.ErrHeld, h.token)
	}
	if l.bug != "ForceRelease does nothing" {
		l.store.remove(key, l.id, "")
	}
	return nil
}

func (l *refLocker) Health(context.Context) (lock.Health, error) {
	node := lock.NodeHealth{Name: "reference"}
	if l.cut() && l.bug != "Health is always well" || l.bug == "Health is never well" {
		node.Err = errors.New("connection refused")
	}
	return lock.Health{Nodes: []lock.NodeHealth{node}, Quorum: 1}, nil
}

type refWatch struct {
	key     string
	wake    chan<- struct{}
	stopped chan struct{}
}

// wake tells the watchers of key. mu is held.
func (s *refStore) wake(key string) {
	for w := range maps.Clone(s.watches) {
		switch {
		case w.key != key:
		case s.bug == "wakes block":
			s.mu.Unlock()
			w.wake <- struct{}{}
			s.mu.Lock()
		default:
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (l *refLocker) Watch(ctx context.Context, key string, wake chan<- struct{}) (func(), error) {
	w := &refWatch{key: key, wake: wake, stopped: make(chan struct{})}
	s := l.store
	s.mu.Lock()
	s.watches[w] = struct{}{}
	s.mu.Unlock()
	stop := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, w)
	}
	if l.bug == "ctx ends the watch" {
		context.AfterFunc(ctx, stop)
	}
	ended := make(chan struct{})
	go func() { // spurious wakes are allowed: they stand in for news of expiries
		defer close(ended)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-w.stopped:
				return
			case <-ticker.C:
			}
			s.mu.Lock()
			before, had := s.holds[key]
			_, held := s.live(key)
			if _, watched := s.watches[w]; watched && had && !held && before.key == key && l.bug != "no wake on expiry" {
				s.wake(key)
			}
			s.mu.Unlock()
		}
	}()
	return func() {
		close(w.stopped)
		<-ended
		if l.bug != "stop does not stop" {
			stop()
		}
	}, nil
}
