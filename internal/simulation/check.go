package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// register is what is known of one key: who was granted it until when, and the
// resource that it protects. The world's mutex guards it.
type register struct {
	key    string
	active time.Time // of the last grant or renewal
	live   []*term   // that may be valid
	last   *term
	tokens map[uint64]*term
	grants []grant // in the order of their ends

	// The fenced resource: the largest token that it has seen, and who wrote last.
	fence  uint64
	writer *term
}

// grant is one that ended at, and the highest token given by then.
type grant struct {
	at      time.Time
	highest uint64
}

func newRegister(key string) *register { return &register{key: key, tokens: map[uint64]*term{}} }

// highestBy is the highest token that was given before t.
func (r *register) highestBy(t time.Time) uint64 {
	for i := len(r.grants) - 1; i >= 0; i-- {
		if r.grants[i].at.Before(t) {
			return r.grants[i].highest
		}
	}
	return 0
}

// term is a lease as its holder sees it, watched.
type term struct {
	lock.Lease
	w     *world
	c     *client
	r     *register
	asked time.Time // when the attempt began
	given time.Time
	until time.Time // it was granted until then
	inFn  bool      // a function runs that stands for it
	over  bool      // released, or seen lost
}

// witness is the Locker that programs get: redlock's, with all answers checked. It
// does not wait, so that Acquire polls.
type witness struct {
	inner *redlock.Locker
	c     *client
}

// waiter is a witness that waits in the nodes' queues.
type waiter struct{ *witness }

// locker is what c's programs get.
func (c *client) locker(l *redlock.Locker) lock.Locker {
	if c.w.cfg.Waits {
		return waiter{&witness{l, c}}
	}
	return &witness{l, c}
}

func (l *witness) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	asked := time.Now()
	lease, err := l.inner.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return l.granted(lease, key, asked)
}

// Await implements [lock.Awaiter]. The order of tokens counts from the sending from which
// the lease counts, which is no longer ago than the ttl.
func (l waiter) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	asked := time.Now()
	lease, err := l.inner.Await(ctx, key, ttl, refused)
	if err != nil {
		return nil, err
	}
	l.c.w.mu.Lock()
	l.c.w.res.Waits++
	l.c.w.mu.Unlock()
	return l.granted(lease, key, later(asked, time.Now().Add(-ttl)))
}

// granted looks at a lease that was asked for at that time.
func (l *witness) granted(lease lock.Lease, key string, asked time.Time) (lock.Lease, error) {
	w := l.c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.hold[key]
	t := &term{Lease: lease, w: w, c: l.c, r: r, asked: asked, given: time.Now(), until: lease.Expiry()}
	token := lease.Token()
	w.res.Grants++
	if r.last != nil && r.last.c != t.c {
		w.res.HandOffs++
	}
	r.last, r.active = t, t.given
	w.note("c%d holds %s with token %d for %v", t.c.id, key, token, t.until.Sub(t.given))
	if !t.until.After(t.given) {
		w.violate("c%d got %s with no time left", t.c.id, key)
	}
	if r.tokens[token] != nil {
		w.violate("token %d of %s was given twice, to c%d and c%d", token, key, r.tokens[token].c.id, t.c.id)
	}
	r.tokens[token] = t
	if before := r.highestBy(asked); before >= token {
		w.violate("c%d got %s with token %d, although %d had been given before it asked", t.c.id, key, token, before)
	}
	highest := token
	if n := len(r.grants); n > 0 {
		highest = max(highest, r.grants[n-1].highest)
	}
	r.grants = append(r.grants, grant{t.given, highest})
	t.exclusive()
	r.live = append(r.live, t)
	return t, nil
}

// grown takes in that a lease has extended itself since. mu is held.
func (t *term) grown() {
	if expiry := t.Lease.Expiry(); !t.over && expiry.After(t.until) {
		t.until = expiry
		t.exclusive()
	}
}

// exclusive looks for another lease that is valid now. mu is held.
func (t *term) exclusive() {
	now := time.Now()
	live := t.r.live[:0]
	for _, o := range t.r.live {
		if expiry := o.Lease.Expiry(); !o.over && expiry.After(o.until) {
			o.until = expiry
		}
		if !o.until.After(now) {
			continue
		}
		live = append(live, o)
		if o == t {
			continue
		}
		t.w.res.Overlaps++
		if t.w.profile.Exclusive {
			t.w.violate("%s has two holders: c%d (token %d) until %v and c%d (token %d) until %v", t.r.key,
				o.c.id, o.Token(), o.until.Sub(t.w.began), t.c.id, t.Token(), t.until.Sub(t.w.began))
		}
	}
	t.r.live = live
}

func (t *term) Extend(ctx context.Context, ttl time.Duration) error {
	err := t.Lease.Extend(ctx, ttl)
	w := t.w
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	t.grown()
	switch {
	case err == nil:
		expiry := t.Lease.Expiry()
		if expiry.IsZero() { // a release has begun since
			return nil
		}
		if !t.until.After(now) && !t.over {
			w.violate("c%d renewed %s (token %d) %v after its end", t.c.id, t.r.key, t.Token(), now.Sub(t.until))
		}
		w.res.Extends++
		t.until, t.r.active = expiry, now
		w.note("c%d keeps %s (token %d) for %v", t.c.id, t.r.key, t.Token(), t.until.Sub(now))
		t.exclusive()
	case errors.Is(err, lock.ErrLost) && !t.over:
		t.over = true
		w.res.Losses++
		if t.until.After(now) {
			t.until = now
		}
		w.note("c%d lost %s (token %d)", t.c.id, t.r.key, t.Token())
	}
	return err
}

func (t *term) Release(ctx context.Context) error {
	t.ends("releases")
	return t.Lease.Release(ctx)
}

// releaseAfter is lock.ReleaseAfter: if it succeeds, the hold lasts until d after the
// request began.
func (t *term) releaseAfter(ctx context.Context, d time.Duration) {
	t.ends("gives up")
	err := lock.ReleaseAfter(ctx, t.Lease, d)
	w := t.w
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if until := t.asked.Add(d); err == nil && until.After(now) {
		t.until, t.r.active = until, now
		t.r.live = append(t.r.live, t)
		w.note("%s (token %d) stays held for %v", t.r.key, t.Token(), until.Sub(now))
		t.exclusive()
	}
}

// ends notes that the holder needs its lease no more.
func (t *term) ends(how string) {
	w := t.w
	w.mu.Lock()
	if t.inFn {
		w.violate("c%d releases %s (token %d) while its function runs", t.c.id, t.r.key, t.Token())
	}
	now := time.Now()
	t.grown()
	if !t.over && !t.until.After(now) {
		w.res.Losses++
	}
	t.over = true
	if t.until.After(now) {
		t.until = now
	}
	w.note("c%d %s %s (token %d)", t.c.id, how, t.r.key, t.Token())
	w.mu.Unlock()
}

// works says that a program does now what needs the lease, because its context is
// alive. mu is held.
func (t *term) works() {
	t.grown()
	if now := time.Now(); !t.until.After(now) {
		t.w.violate("c%d works under %s (token %d) %v after its end", t.c.id, t.r.key, t.Token(), now.Sub(t.until))
	}
}

// write reaches the fenced resource, which takes a token above the largest that it
// has seen, or equal to it from the same holder. mu is held.
func (t *term) write() {
	r, token := t.r, t.Token()
	if token < r.fence || token == r.fence && r.writer.c != t.c {
		t.w.res.Refused++
		return
	}
	if r.writer != nil && r.writer != t && r.writer.asked.After(t.given) {
		t.w.violate("a stale write of c%d (token %d) came through after one of c%d (token %d)", t.c.id, token, r.writer.c.id, r.writer.Token())
	}
	r.fence, r.writer = token, t
	t.w.res.Writes++
}
