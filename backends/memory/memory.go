package memory

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.Locker = (*Locker)(nil)

// Locker is one client of a store in memory. It is safe for concurrent use.
type Locker struct {
	store  *store
	holder string
	faults faults
	closed atomic.Bool // set once, and then every shard's mutex is waited for
}

// New makes an empty store and its first client. Close is optional: nothing
// runs in the background.
func New() *Locker {
	return &Locker{store: newStore(), holder: "this process"}
}

// Client returns another client of the same store, as another process would be.
// Its holds bear this name in [lock.HeldError] and [lock.Info]; if it is empty,
// that of l. The faults that a test asks for and Close concern one client only.
func (l *Locker) Client(name string) *Locker {
	if name == "" {
		name = l.holder
	}
	return &Locker{store: l.store, holder: name}
}

// TryAcquire makes one attempt to take key for ttl; [lock.Locker] says what
// holds for it.
func (l *Locker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, fmt.Errorf("memory: acquire: %w", err)
	}
	if err := ended(ctx); err != nil {
		return nil, fmt.Errorf("memory: acquire %q: %w", key, err)
	}
	spent, lost, err := l.faults.meet(ctx)
	if err != nil {
		return nil, fmt.Errorf("memory: acquire %q: %w", key, err)
	}
	token, expiry, err := l.grant(key, ttl, spent)
	if err != nil {
		return nil, err
	}
	if lost != nil {
		// The caller will not know that it holds the key.
		l.store.shard(key).free(key, token)
		return nil, fmt.Errorf("memory: acquire %q: %w", key, lost)
	}
	return lock.NewLease(lock.Grant{
		Key: key, Token: token, Expiry: expiry,
		Term: l, ReleaseTimeout: -1, // ReleaseTerm bounds itself
	}), nil
}

// shardCount spreads the keys over mutexes. A power of two.
const shardCount = 64

type store struct {
	base   time.Time // all of the store's times are counted from it, on the monotonic clock
	shards [shardCount]shard
}

func newStore() *store { return &store{base: time.Now()} }

// now reads the monotonic clock alone, which takes half as long as time.Now.
func (s *store) now() time.Duration { return time.Since(s.base) }

// shard picks the shard by FNV-1a. It is deterministic, unlike hash/maphash, so
// that a test that sees certain tokens once sees them in every run.
func (s *store) shard(key string) *shard {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return &s.shards[h%shardCount]
}

// shard holds the terms of some of the keys.
type shard struct {
	mu     sync.Mutex // guards all below
	terms  map[string]term
	token  uint64 // of the latest grant: one counter serves all keys, freed ones cost nothing
	grants int    // since the last sweep
	kept   int    // terms that the last sweep left

	_ [64]byte // keeps neighbours' mutexes off this cache line
}

// term is one hold. It stays in the map when it expires, until a grant or a
// sweep replaces it.
type term struct {
	token  uint64
	expiry time.Duration // since the store's base
	holder string
}

// grant takes key for what is left of ttl after spent.
func (l *Locker) grant(key string, ttl, spent time.Duration) (uint64, time.Time, error) {
	if ttl <= spent {
		return 0, time.Time{}, fmt.Errorf("memory: acquire %q: %w: answered after %v, the ttl is %v", key, lock.ErrUnavailable, spent, ttl)
	}
	s := l.store.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.closed.Load() {
		return 0, time.Time{}, fmt.Errorf("memory: acquire %q: %w", key, lock.ErrClosed)
	}
	now := l.store.now() // inside the mutex: waiting for it costs the holder nothing
	if t, ok := s.terms[key]; ok && t.live(now) {
		return 0, time.Time{}, t.refusal(key, now)
	}
	if s.terms == nil {
		s.terms = make(map[string]term)
	}
	// As many grants as there are terms pay for looking at each.
	if s.grants++; s.grants > max(64, s.kept) {
		s.sweep(now)
	}
	s.token++
	t := term{token: s.token, expiry: now + ttl - spent, holder: l.holder}
	s.terms[key] = t
	return t.token, l.store.base.Add(t.expiry), nil
}

// sweep forgets the terms that expired. mu is held.
func (s *shard) sweep(now time.Duration) {
	for key, t := range s.terms {
		if !t.live(now) {
			delete(s.terms, key)
		}
	}
	s.grants, s.kept = 0, len(s.terms)
}

// free ends the term of key with this token, and reports whether it was there.
func (s *shard) free(key string, token uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terms[key].token != token {
		return false
	}
	delete(s.terms, key)
	return true
}

// live is the mirror of the lease's own test: at the same instant that the
// holder stops, and not before, the next one may start.
func (t term) live(now time.Duration) bool { return now < t.expiry }

func (t term) refusal(key string, now time.Duration) error {
	return &lock.HeldError{Key: key, Holder: t.holder, RetryAfter: t.expiry - now}
}

// Locker is the lock.Term of its leases, so that they need no closures.
var _ lock.Term = (*Locker)(nil)

// ExtendTerm is the store's half of Lease.Extend.
func (l *Locker) ExtendTerm(ctx context.Context, key string, token uint64, ttl time.Duration) (time.Time, error) {
	spent, lost, err := l.faults.meet(ctx)
	if err != nil {
		return time.Time{}, err
	}
	s := l.store.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.closed.Load() {
		return time.Time{}, lock.ErrClosed
	}
	now := l.store.now()
	t := s.terms[key]
	switch {
	case t.token != token:
		return time.Time{}, fmt.Errorf("%w: taken away", lock.ErrLost)
	case !t.live(now):
		return time.Time{}, fmt.Errorf("%w: expired", lock.ErrLost)
	}
	t.expiry = now + ttl - spent
	s.terms[key] = t
	return l.store.base.Add(t.expiry), lost
}

// ReleaseTerm is the store's half of Lease.Release.
func (l *Locker) ReleaseTerm(ctx context.Context, key string, token uint64) error {
	var lost error
	if l.faults.on.Load() {
		// Only a fault can make it wait.
		ctx, cancel := context.WithTimeout(ctx, lock.DefaultReleaseTimeout)
		defer cancel()
		var err error
		if _, lost, err = l.faults.meet(ctx); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("%w: no answer within %v: %w", lock.ErrUnavailable, lock.DefaultReleaseTimeout, err)
			}
			return err
		}
	}
	freed := l.store.shard(key).free(key, token)
	switch {
	case lost != nil:
		if freed {
			l.faults.remember(key, token)
		}
		return lost
	case !freed && !l.faults.recall(key, token):
		return fmt.Errorf("%w: taken away", lock.ErrLost)
	}
	return nil
}

// ended is ctx's error, and its cause if that is another.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
