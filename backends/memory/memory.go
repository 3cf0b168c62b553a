package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var (
	_ lock.Locker            = (*Locker)(nil)
	_ lock.MaxReleaseAfterer = (*Locker)(nil)
)

// Locker is one client of a store in memory. It is safe for concurrent use.
type Locker struct {
	store  *store
	holder string
	faults faults
	closed atomic.Bool // set once, and then every shard's mutex is waited for
	views  [shardCount]view

	lock.Waiters
}

// view is a client's sight of one shard. It is the lock.Term of the leases there,
// which so need neither closures nor to look for their shard.
type view struct {
	client *Locker
	shard  *shard
}

var (
	_ lock.TermAfterReleaser = (*view)(nil)
	_ lock.TermTokenRaiser   = (*view)(nil)
)

func newLocker(s *store, holder string) *Locker {
	l := &Locker{store: s, holder: holder}
	for i := range l.views {
		l.views[i] = view{l, &s.shards[i]}
	}
	return l
}

// New makes an empty store and its first client. Close is optional: nothing
// runs in the background.
func New() *Locker {
	return newLocker(newStore(), "this process")
}

// Client returns another client of the same store, as another process would be.
// Its holds bear this name in [lock.HeldError] and [lock.Info]; if it is empty,
// that of l. The faults that a test asks for and Close concern one client only.
func (l *Locker) Client(name string) *Locker {
	if name == "" {
		name = l.holder
	}
	return newLocker(l.store, name)
}

// TryAcquire makes one attempt to take key for ttl; [lock.Locker] says what
// holds for it.
func (l *Locker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, fmt.Errorf("memory: acquire: %w", err)
	}
	return l.acquire(ctx, key, ttl, nil)
}

// acquire makes an attempt or, with refused, waits.
func (l *Locker) acquire(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	if err := lock.ContextError(ctx); err != nil {
		return nil, fmt.Errorf("memory: acquire %q: %w", key, err)
	}
	spent, lost, err := l.faults.meet(ctx)
	if err != nil {
		return nil, fmt.Errorf("memory: acquire %q: %w", key, err)
	}
	v := &l.views[shardOf(key)]
	token, start, r, err := v.grant(key, ttl, spent, refused != nil && lost == nil)
	if r != nil {
		held, _ := errors.AsType[*lock.HeldError](err)
		refused(held)
		token, start, err = v.wait(ctx, key, r)
	}
	if lost != nil && (err == nil || refused != nil) {
		// The caller will not know that it holds the key, or waits.
		if err == nil {
			v.shard.free(key, token)
		}
		return nil, fmt.Errorf("memory: acquire %q: %w", key, lost)
	}
	if err != nil {
		return nil, err
	}
	return lock.NewLease(lock.Grant{
		Key: key, Token: token, Expiry: start.Add(ttl), Start: start,
		Term: v, ReleaseTimeout: -1, // ReleaseTerm bounds itself
	}), nil
}

// shardCount spreads the keys over mutexes. A power of two.
const shardCount = 64

type store struct {
	base   time.Time // all of the store's times are counted from it, on the monotonic clock
	shards [shardCount]shard
}

func newStore() *store {
	s := &store{base: time.Now()}
	for i := range s.shards {
		s.shards[i].store = s
	}
	return s
}

// now reads the monotonic clock alone, which takes half as long as time.Now.
func (s *store) now() time.Duration { return time.Since(s.base) }

// shardOf is FNV-1a. It is deterministic, unlike hash/maphash, so that a test
// that sees certain tokens once sees them in every run.
func shardOf(key string) int {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return int(h % shardCount)
}

// shard holds the terms of some of the keys.
type shard struct {
	store *store

	mu     sync.Mutex // guards all below
	terms  map[string]*term
	queues map[string]*queue // of the keys that somebody waits for or watches
	spare  []*term           // of keys that were swept, to be used again
	token  uint64            // of the latest grant: one counter serves all keys, freed ones cost nothing
	grants int               // since the last sweep
	kept   int               // terms that the last sweep left

	_ [64]byte // keeps neighbours' mutexes off this cache line
}

// term is one hold. It stays in the map when it is over, for the key's next
// grant, until a sweep: looking a key up once is half the work of insert and
// delete.
type term struct {
	token  uint64        // that it was granted with, which names it
	raised uint64        // by lock.RaiseToken; 0: it was not
	expiry time.Duration // since the store's base; 0 once freed
	began  time.Duration // since the store's base
	holder string
}

// grant takes key for what is left of ttl after spent, and gives the moment from
// which ttl counts. Where it is refused and is to wait, it gives the request that
// stands in the queue then, besides the refusal.
func (v *view) grant(key string, ttl, spent time.Duration, waits bool) (uint64, time.Time, *request, error) {
	if ttl <= spent {
		return 0, time.Time{}, nil, fmt.Errorf("memory: acquire %q: %w: answered after %v, the ttl is %v", key, lock.ErrUnavailable, spent, ttl)
	}
	l, s := v.client, v.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.closed.Load() {
		return 0, time.Time{}, nil, fmt.Errorf("memory: acquire %q: %w", key, lock.ErrClosed)
	}
	now := l.store.now() // inside the mutex: waiting for it costs the holder nothing
	q := s.queue(key)
	if q != nil {
		q.advance(now) // its timer may be late
	}
	t := s.terms[key]
	if t != nil && t.live(now) {
		var r *request
		if waits {
			r = &request{client: l, ttl: ttl, spent: spent, done: make(chan struct{})}
			q = s.queueFor(key)
			q.requests = append(q.requests, r)
			q.advance(now)
		}
		return 0, time.Time{}, r, t.refusal(key, now)
	}
	t = s.take(key, t, l.holder, now, now+ttl-spent)
	if q != nil {
		q.advance(now)
	}
	return t.token, l.store.base.Add(now - spent), nil, nil
}

// take begins a term of a free key, whose last term, if there is one, is t. mu is held.
func (s *shard) take(key string, t *term, holder string, now, expiry time.Duration) *term {
	// As many grants as there are terms pay for looking at each.
	if s.grants++; s.grants > max(minSweep, s.kept) {
		s.sweep(now)
		t = nil
	}
	if t == nil {
		t = s.insert(key)
	}
	s.token++
	*t = term{token: s.token, expiry: expiry, began: now, holder: holder}
	return t
}

// minSweep is how many terms that are over a shard may keep at least.
const minSweep = 64

// insert adds an empty term. mu is held.
func (s *shard) insert(key string) *term {
	if s.terms == nil {
		s.terms = make(map[string]*term)
	}
	var t *term
	if n := len(s.spare); n > 0 {
		t, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		t = new(term)
	}
	s.terms[key] = t
	return t
}

// sweep forgets the terms that are over. mu is held.
func (s *shard) sweep(now time.Duration) {
	for key, t := range s.terms {
		if !t.live(now) {
			delete(s.terms, key)
			if len(s.spare) < minSweep {
				s.spare = append(s.spare, t)
			}
		}
	}
	s.grants, s.kept = 0, len(s.terms)
}

// free ends the term of key with this token, and reports whether it was there.
func (s *shard) free(key string, token uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.terms[key]
	if t == nil || t.token != token {
		return false
	}
	s.end(key, t)
	return true
}

// keep lets the term of key with this token end at until, and reports whether it
// was there.
func (s *shard) keep(key string, token uint64, until time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.store.now()
	t := s.terms[key]
	if t == nil || t.token != token || !t.live(now) { // what is over stays over
		return false
	}
	t.expiry = until
	if q := s.queue(key); q != nil {
		q.advance(now)
	}
	return true
}

// end ends a term for good. mu is held.
func (s *shard) end(key string, t *term) {
	*t = term{} // no token is 0
	if q := s.queue(key); q != nil {
		q.advance(s.store.now())
	}
}

// live is the mirror of the lease's own test: at the same instant that the
// holder stops, and not before, the next one may start.
func (t *term) live(now time.Duration) bool { return now < t.expiry }

// current is the token that the term has now.
func (t *term) current() uint64 { return max(t.token, t.raised) }

func (t *term) refusal(key string, now time.Duration) error {
	return &lock.HeldError{Key: key, Holder: t.holder, RetryAfter: t.expiry - now}
}

// ExtendTerm is the store's half of Lease.Extend.
func (v *view) ExtendTerm(ctx context.Context, key string, token uint64, ttl time.Duration) (time.Time, error) {
	spent, lost, err := v.client.faults.meet(ctx)
	if err != nil {
		return time.Time{}, err
	}
	l, s := v.client, v.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.closed.Load() {
		return time.Time{}, lock.ErrClosed
	}
	now := l.store.now()
	t := s.terms[key]
	switch {
	case t == nil || t.token != token:
		return time.Time{}, fmt.Errorf("%w: taken away", lock.ErrLost)
	case !t.live(now):
		return time.Time{}, fmt.Errorf("%w: expired", lock.ErrLost)
	}
	expiry := now + ttl - spent
	// Never shorter than before: until this call's answer is noted, if it ever is, the lease
	// counts on what it had.
	t.expiry = max(t.expiry, expiry)
	if q := s.queue(key); q != nil {
		q.advance(now)
	}
	return l.store.base.Add(expiry), lost
}

// RaiseTermToken is the store's half of [lock.RaiseToken]. The counter goes up with it,
// which serves other keys, too: they skip some tokens.
func (v *view) RaiseTermToken(ctx context.Context, key string, token, least uint64) (uint64, error) {
	_, lost, err := v.client.faults.meet(ctx)
	if err != nil {
		return 0, err
	}
	l, s := v.client, v.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.closed.Load() {
		return 0, lock.ErrClosed
	}
	t := s.terms[key]
	switch {
	case t == nil || t.token != token:
		return 0, fmt.Errorf("%w: taken away", lock.ErrLost)
	case !t.live(l.store.now()):
		return 0, fmt.Errorf("%w: expired", lock.ErrLost)
	}
	t.raised = max(t.raised, least)
	s.token = max(s.token, least)
	return t.current(), lost
}

// ReleaseTerm is the store's half of Lease.Release.
func (v *view) ReleaseTerm(ctx context.Context, key string, token uint64) error {
	return v.release(ctx, key, token, v.shard.free)
}

// ReleaseTermAfter is the store's half of [lock.ReleaseAfter].
func (v *view) ReleaseTermAfter(ctx context.Context, key string, token uint64, until time.Time) error {
	return v.release(ctx, key, token, func(key string, token uint64) bool {
		return v.shard.keep(key, token, until.Sub(v.client.store.base))
	})
}

// MaxReleaseAfter is [lock.MaxTTL]: a store in memory keeps what it was asked to, for
// as long as its process lives.
func (l *Locker) MaxReleaseAfter() time.Duration { return lock.MaxTTL }

// release ends a term by end, which reports whether the term was there.
func (v *view) release(ctx context.Context, key string, token uint64, end func(key string, token uint64) bool) error {
	var lost error
	if v.client.faults.on.Load() {
		// Only a fault can make it wait.
		start := time.Now()
		ctx, cancel := lock.ReleaseContext(ctx, lock.DefaultReleaseTimeout)
		defer cancel()
		var err error
		if _, lost, err = v.client.faults.meet(ctx); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("%w: no answer within %v: %w", lock.ErrUnavailable, time.Since(start).Round(time.Millisecond), err)
			}
			return err
		}
	}
	freed := end(key, token)
	switch {
	case lost != nil:
		if freed {
			v.client.faults.remember(key, token)
		}
		return lost
	case !freed && !v.client.faults.recall(key, token):
		return fmt.Errorf("%w: taken away", lock.ErrLost)
	}
	return nil
}
