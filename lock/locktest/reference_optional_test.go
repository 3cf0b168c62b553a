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
	info := l.info(h)
	if l.bug != "Inspect does not count who waits" {
		info.Waiting = len(l.store.waits[l.store.name(key, l.id)])
	}
	return info, nil
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
	if l.isCut() && l.bug != "Health is always well" || l.bug == "Health is never well" {
		node.Err = errors.New("connection refused")
	}
	return lock.Health{Nodes: []lock.NodeHealth{node}, Quorum: 1}, nil
}

type refWatch struct {
	key     string
	wake    chan<- struct{}
	stopped chan struct{}
}

// wake notifies the watchers of key. mu is held.
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
	go func() { // spurious wakes are allowed: they stand in for notifications of expiries
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
			changed := had && !held && before.key == key && l.bug != "no wake on expiry"
			if _, watched := s.watches[w]; watched && (changed || l.bug == "wakes all the time") {
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
