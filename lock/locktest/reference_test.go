package locktest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// bug names one mistake that the reference locker makes on purpose; "" makes none.
type bug string

// refStore is what all clients share. Its requests are applied when a quarter of the
// delay has passed.
type refStore struct {
	bug bug

	mu      sync.Mutex // guards all below
	holds   map[string]refHold
	counts  map[string]uint64
	deleted uint64          // the largest count of a record that was deleted
	dead    map[string]bool // values whose attempt was given up: their requests may come yet
	seen    map[string]refSight
	watches map[*refWatch]struct{}
	waits   map[string][]*refWait // first come, first served
	skew    time.Duration
	raised  map[string]bool // counts that go with their hold
}

type refHold struct {
	key, value, client string
	token              uint64
	until              time.Time
	ttl                time.Duration
	mortal             bool // it ends with its client
	seq                int  // counts renewals
}

func newRefStore(b bug) *refStore {
	return &refStore{bug: b, holds: map[string]refHold{}, counts: map[string]uint64{}, dead: map[string]bool{}, seen: map[string]refSight{}, watches: map[*refWatch]struct{}{}, waits: map[string][]*refWait{}}
}

// name is where key's hold is kept.
func (s *refStore) name(key, client string) string {
	switch s.bug {
	case "clients have separate stores":
		return client + key
	case "one lock for all keys":
		return "k"
	case "case-folds keys":
		return strings.ToLower(key)
	case "cleans keys as paths":
		return path.Clean(key)
	case "trims keys":
		return strings.TrimSpace(key)
	case "ends keys at NUL":
		name, _, _ := strings.Cut(key, "\x00")
		return name
	case "compares keys by prefix":
		for name := range s.holds {
			if strings.HasPrefix(key, name) || strings.HasPrefix(name, key) {
				return name
			}
		}
	case "cuts keys at 255 bytes":
		return key[:min(len(key), 255)]
	case "hashes keys to 16 bits":
		sum := sha256.Sum256([]byte(key))
		return string(sum[:2])
	case "composes accents":
		return strings.NewReplacer("e\u0301", "\u00e9", "\u212b", "\u00c5").Replace(key)
	case "flattens slashes":
		return strings.ReplaceAll(key, "/", "_")
	}
	return key
}

func (s *refStore) now() time.Time {
	if s.bug == "the store goes by its wall clock" {
		return time.Now().Add(s.skew)
	}
	return time.Now()
}

// live returns the present hold. mu is held.
func (s *refStore) live(name string) (refHold, bool) {
	h, ok := s.holds[name]
	if ok && s.bug != "never expires" && !s.now().Before(h.until) {
		delete(s.holds, name)
		if s.bug == "counts afresh after expiry" {
			delete(s.counts, name)
		}
		return h, false
	}
	return h, ok
}

func (s *refStore) grant(key, client, value string, ttl time.Duration) (refHold, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(key, client)
	h, held := s.live(name)
	switch {
	case !s.dead[value], s.bug == "late attempts are granted":
	case s.bug == "a late attempt takes the key":
		held = false
	default:
		return refHold{}, false
	}
	if s.bug != "a key that has a queue is anybody's" && s.bug != "nobody is handed the key" && !held && len(s.waits[name]) > 0 && !s.dead[value] {
		s.passOn(name)
		h, held = s.live(name)
	}
	if held && h.value == value && s.bug != "a doubled request is refused by itself" {
		return h, true // it was sent twice
	}
	switch {
	case s.bug == "grants held keys", s.bug == "reentrant" && h.client == client:
		held = false
	case s.bug == "checks, then sets":
		s.mu.Unlock()
		time.Sleep(time.Microsecond)
		s.mu.Lock()
	case s.bug == "a refusal robs the holder" && held:
		h.value = "?"
		s.holds[name] = h
	case s.bug == "a refusal counts afresh" && held:
		delete(s.counts, name)
	}
	if held {
		return h, false
	}
	count := name
	if s.bug == "counts for each client" {
		count = client + name
	}
	if s.bug == "keeps counts among the keys" {
		delete(s.counts, strings.TrimSuffix(name, ":fence"))
	}
	if s.bug != "counts afresh once its record is deleted" {
		s.counts[count] = max(s.counts[count], s.deleted)
	}
	s.unraise(count)
	if s.bug != "token 0" {
		s.counts[count]++
	}
	h = refHold{key: key, client: client, value: value, token: s.counts[count], ttl: ttl}
	h.until = s.now().Add(s.storeTTL(ttl))
	s.holds[name] = h
	return h, true
}

func (s *refStore) storeTTL(ttl time.Duration) time.Duration {
	switch s.bug {
	case "the store rounds ttls down to seconds":
		return max(ttl.Truncate(time.Second), time.Second)
	case "the store rounds ttls up to seconds":
		return (ttl + time.Second - 1).Truncate(time.Second)
	case "the store keeps half the ttl":
		return ttl / 2
	case "the store caps ttls at 10s":
		return min(ttl, 10*time.Second)
	case "the store caps ttls at an hour":
		return min(ttl, time.Hour)
	case "the store counts ttls in 31 bits":
		return time.Duration(uint32(ttl.Milliseconds())&(1<<31-1)) * time.Millisecond
	}
	return ttl
}

// extend reports whether value still holds key.
func (s *refStore) extend(key, client, value string, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(key, client)
	h, held := s.live(name)
	switch {
	case held && h.value == value, held && s.bug == "extends another's hold":
	case !held && (s.bug == "a late extend revives" || s.bug == "extend takes a free key" || s.bug == "extend revives a released lease" || s.bug == "extend ignores a Release under way"):
		h = refHold{key: key, client: client, value: value, token: s.counts[name]}
	default:
		return false
	}
	if s.bug != "extend is local only" {
		from := s.now()
		if s.bug == "extend adds to the old end" {
			from = h.until
		}
		for bug, most := range map[bug]time.Duration{"the store caps extensions at 10s": 10 * time.Second, "the store caps extensions at an hour": time.Hour} {
			if s.bug == bug {
				ttl = min(ttl, most)
			}
		}
		h.until = from.Add(s.storeTTL(ttl))
		h.seq++
		s.holds[name] = h
	}
	return true
}

// remove takes value's hold away, or any if value is "".
func (s *refStore) remove(key, client, value string) (removed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(key, client)
	h, held := s.live(name)
	if !held || value != "" && h.value != value {
		return false
	}
	delete(s.holds, name)
	if s.bug == "counts afresh after release" && value != "" || s.bug == "counts afresh after a loss" && value == "" {
		delete(s.counts, name)
	}
	if s.bug != "no wake on release" {
		s.wake(key)
	}
	if s.bug != "a key that has a queue is anybody's" && s.bug != "nobody is handed the key" {
		s.passOn(name)
	}
	return true
}

// refLocker is one client.
type refLocker struct {
	*lock.Waiters

	store *refStore
	bug   bug
	id    string

	mu     sync.Mutex // guards all below
	delay  time.Duration
	lose   bool
	outage bool
	closed bool
	dead   bool // killed, and closed
	cut    int  // the request whose reply is lost; 0: none
	repeat bool
	clash  bool // the next request meets a false conflict
	stale  bool
}

func newRefLocker(s *refStore) *refLocker {
	l := &refLocker{store: s, bug: s.bug, id: "client-" + rand.Text()[:5]}
	if l.bug != "its waiters have no line" {
		l.Waiters = new(lock.Waiters)
	}
	return l
}

var _ interface {
	lock.Locker
	lock.Watcher
	lock.Inspector
	lock.ForceReleaser
	lock.HealthChecker
} = (*refLocker)(nil)

var errPlain = errors.New("no")

// call is one request: apply at the store, then wait for the reply.
func (l *refLocker) call(ctx context.Context, apply func()) error {
	l.mu.Lock()
	delay, lose, outage, closed := l.delay+100*time.Microsecond, l.lose, l.outage, l.closed
	l.lose = l.lose && outage
	conflict, repeat := l.clash, l.repeat
	l.clash = false
	if l.cut > 0 {
		l.cut--
		lose = lose || l.cut == 0
	}
	l.mu.Unlock()
	if closed {
		if l.bug == "closed looks unavailable" {
			return lock.ErrUnavailable
		}
		return lock.ErrClosed
	}
	if outage {
		if l.bug == "an outage is a plain error" {
			return errPlain
		}
		if l.bug == "an outage looks closed" {
			return lock.ErrClosed
		}
		return fmt.Errorf("%w: connection refused", lock.ErrUnavailable)
	}
	if conflict {
		if l.bug == "a conflict is a loss" {
			return lock.ErrLost
		}
		return fmt.Errorf("%w: changed meanwhile", lock.ErrUnavailable)
	}
	// What is on its way arrives, also if ctx ends meanwhile.
	applied := make(chan struct{})
	arrive := func() {
		defer close(applied)
		apply()
		if repeat {
			apply()
		}
	}
	if l.bug == "wakes block" {
		arrive() // for its caller to wait
	} else {
		time.AfterFunc(delay/4, arrive)
	}
	select {
	case <-applied:
	case <-ctx.Done():
		return l.ended(ctx)
	}
	timer := time.NewTimer(delay - delay/4)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return l.ended(ctx)
	}
	if lose {
		return fmt.Errorf("%w: connection reset", lock.ErrUnavailable)
	}
	return nil
}

func (l *refLocker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := l.tryAcquire(ctx, key, ttl)
	if err == nil {
		return lease, nil
	}
	if l.bug != "errors do not name the key" {
		err = fmt.Errorf("acquire %.520q: %w", key, err)
	}
	if l.bug == "typed nil lease on error" {
		return lease, err
	}
	return nil, err
}

func (l *refLocker) tryAcquire(ctx context.Context, key string, ttl time.Duration) (*refLease, error) {
	if err := lock.Check(key, ttl); err != nil && l.bug != "validates after I/O" {
		switch {
		case l.bug == "accepts any key" && lock.Check("k", ttl) == nil:
		case l.bug == "accepts any ttl" && lock.Check(key, time.Second) == nil:
		default:
			return nil, err
		}
	}
	if l.bug == "leaks a goroutine for each attempt" {
		go time.Sleep(time.Hour)
	}
	switch l.bug {
	case "an attempt ignores its ctx":
		ctx = context.WithoutCancel(ctx)
	case "grants under an ended ctx":
		if ctx.Err() != nil {
			ctx = context.WithoutCancel(ctx)
		}
	case "an outage is granted locally":
		if l.isCut() {
			return &refLease{l: l, key: key, value: "?", token: 1, start: time.Now(), expiry: time.Now().Add(ttl), turn: make(chan struct{}, 1)}, nil
		}
	case "a newcomer must observe first":
		if l.store.unseen(l.id, key) {
			return nil, &lock.HeldError{Key: key, Holder: "?"}
		}
	case "an outage looks held":
		if l.isCut() {
			return nil, &lock.HeldError{Key: key}
		}
	}
	if ctx.Err() != nil {
		return nil, l.ended(ctx)
	}
	start := time.Now()
	value := rand.Text()
	var h refHold
	var granted bool
	err := l.call(ctx, func() { h, granted = l.store.grant(key, l.id, value, ttl) })
	for err == nil && !granted && l.bug == "waits for the holder" && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
		err = l.call(ctx, func() { h, granted = l.store.grant(key, l.id, value, ttl) })
	}
	if err == nil && l.bug == "validates after I/O" {
		err = lock.Check(key, ttl)
	}
	if l.bug == "expiry counted from the reply" {
		start = time.Now()
	}
	expiry := start.Add(ttl)
	if err == nil && granted && !time.Now().Before(expiry) && l.bug != "grants with no time left" {
		err = fmt.Errorf("%w: granted too late", lock.ErrUnavailable)
	}
	if err != nil {
		l.cleanUp(ctx, key, value)
		return nil, err
	}
	if !granted && l.bug == "a slow observer takes over early" && l.store.silent(l.id, h, start) {
		err = l.call(ctx, func() {
			l.store.remove(key, l.id, h.value)
			h, granted = l.store.grant(key, l.id, value, ttl)
		})
		if err != nil {
			l.cleanUp(ctx, key, value)
			return nil, err
		}
	}
	if !granted && l.isStale() && l.bug == "old states are believed" {
		l.store.remove(key, l.id, "")
		_ = l.call(ctx, func() { h, granted = l.store.grant(key, l.id, value, ttl) })
	}
	if !granted {
		return nil, l.refusal(h, key)
	}
	if l.bug == "expiry is twice the ttl away" {
		expiry = start.Add(2 * ttl)
	}
	if l.bug == "Expiry has no monotonic reading" {
		expiry = expiry.Round(0)
	}
	lease := &refLease{l: l, key: key, value: value, token: h.token, start: start, expiry: expiry, turn: make(chan struct{}, 1)}
	if l.bug == "ctx ends the lease" {
		context.AfterFunc(ctx, func() { l.store.remove(key, l.id, value) })
	}
	return lease, nil
}

func (l *refLocker) ended(ctx context.Context) error {
	if l.bug == "the cause of ctx is dropped" {
		return ctx.Err()
	}
	return lock.ContextError(ctx)
}

func (l *refLocker) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.outage
}

// cleanUp goes to the store directly: the reference needs no second connection.
func (l *refLocker) cleanUp(ctx context.Context, key, value string) {
	l.store.mu.Lock()
	l.store.dead[value] = true
	l.store.mu.Unlock()
	switch l.bug {
	case "a lost reply is not cleaned up":
		if ctx.Err() != nil {
			l.store.remove(key, l.id, value)
		}
	case "failed attempts are not cleaned up":
		l.store.mu.Lock()
		delete(l.store.dead, value)
		l.store.mu.Unlock()
	case "cleanup frees another's hold":
		time.AfterFunc(1500*time.Millisecond, func() { l.store.remove(key, l.id, "") })
	case "cleanup counts afresh":
		l.store.mu.Lock()
		delete(l.store.counts, key)
		l.store.mu.Unlock()
		fallthrough
	default:
		l.store.remove(key, l.id, value)
	}
}

func (l *refLocker) refusal(h refHold, key string) error {
	if h.key == "" {
		return fmt.Errorf("%w: given up", lock.ErrUnavailable)
	}
	held := &lock.HeldError{Key: key, Holder: h.client, RetryAfter: time.Until(h.until)}
	switch l.bug {
	case "HeldError without a key":
		held.Key = ""
	case "RetryAfter is too short":
		held.RetryAfter /= 4
	case "RetryAfter is too long":
		held.RetryAfter *= 4
	case "contention is a plain error":
		return errPlain
	case "contention looks like an outage too":
		return fmt.Errorf("%w: %w", lock.ErrUnavailable, held)
	case "contention without a HeldError":
		return lock.ErrHeld
	}
	return held
}
