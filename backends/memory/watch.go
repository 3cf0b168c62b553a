package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.Watcher = (*Locker)(nil)

// turn is how long a key that became free is kept for the client whose turn it
// is. A waiter that runs needs microseconds; one that hangs, or whose calls a test
// delays, holds the others up by this much, and then is out of the line until it
// asks again.
const turn = 10 * time.Millisecond

// Watch sends on wake when key becomes free: released, expired or taken away.
// Renewals wake nobody. Close of this client wakes too.
//
// Clients that wait are served in the order in which they came. One that is
// refused while it watches the key stands in line from then on. When the key
// becomes free, the first in line alone is woken, and the key is kept for it, for
// at most 10ms; all others are refused meanwhile. It has left the line when it
// gets the lease, when it lets its turn pass, or when its last watch of the key
// stops. Who watches without asking is woken each time.
//
// [Locker.FailNext], [Locker.LoseReplies] and [Locker.Delay] do not concern news.
func (l *Locker) Watch(ctx context.Context, key string, wake chan<- struct{}) (stop func(), err error) {
	s, err := l.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("memory: watch: %w", err)
	}
	defer s.mu.Unlock()
	if l.closed.Load() { // in the meantime
		return nil, fmt.Errorf("memory: watch %q: %w", key, lock.ErrClosed)
	}
	q := s.queues[key]
	if q == nil {
		if s.queues == nil {
			s.queues = make(map[string]*queue)
		}
		q = &queue{shard: s, key: key}
		s.queues[key] = q
	}
	m := q.member(l)
	if m == nil {
		m = &member{client: l}
		q.members = append(q.members, m)
	}
	w := &watch{wake}
	m.watches = append(m.watches, w)
	q.settle(s.store.now())
	return func() { q.unwatch(m, w) }, nil
}

// watch is one call of Watch.
type watch struct{ wake chan<- struct{} }

// member is a client that watches.
type member struct {
	client  *Locker
	watches []*watch // at least one
	waiting bool     // it is in line
}

func (m *member) wake() {
	for _, w := range m.watches {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// queue is what a key has while somebody watches it. The shard's mutex guards it.
type queue struct {
	shard   *shard
	key     string
	members []*member
	line    []*member     // those that were refused, in that order
	kept    time.Duration // until when the free key is for the first in line; 0: it is held, or nobody waits
	held    bool          // a hold was seen, whose end is news
	timer   *time.Timer   // of the hold's expiry or the turn's end; nil: never needed
}

// queue is key's, or nil, as it is at almost all times.
func (s *shard) queue(key string) *queue {
	if len(s.queues) == 0 {
		return nil
	}
	return s.queues[key]
}

// settle brings the queue up to date with what has become of the key: it tells
// the news and hands the turn on.
func (q *queue) settle(now time.Duration) {
	if t := q.shard.terms[q.key]; t != nil && t.live(now) {
		q.held, q.kept = true, 0
		q.arm(t.expiry - now)
		return
	}
	if q.held {
		q.held = false
		for _, m := range q.members {
			if !m.waiting {
				m.wake()
			}
		}
	}
	if q.kept != 0 && now >= q.kept { // let pass
		q.step()
	}
	if len(q.line) == 0 {
		return // if the timer rings all the same, it finds this again
	}
	if q.kept == 0 {
		q.kept = now + turn
		q.line[0].wake()
	}
	q.arm(q.kept - now)
}

// step ends the turn of the first in line, which leaves it.
func (q *queue) step() {
	q.line[0].waiting = false
	q.line, q.kept = q.line[1:], 0
}

// arm makes settle run again in d.
func (q *queue) arm(d time.Duration) {
	if q.timer == nil {
		q.timer = time.AfterFunc(d, q.ring)
		return
	}
	q.timer.Reset(d)
}

func (q *queue) ring() {
	s := q.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queues[q.key] == q {
		q.settle(s.store.now())
	}
}

// admit is nil if client may have the free key now; if it had the turn, it has
// left the line then.
func (q *queue) admit(client *Locker, now time.Duration) error {
	q.settle(now) // the timer may be late
	if q.kept == 0 {
		return nil
	}
	if first := q.line[0].client; first != client {
		q.join(client)
		// Nobody holds it: the one who waits is not named as the holder.
		return &lock.HeldError{Key: q.key, RetryAfter: q.kept - now}
	}
	q.step()
	return nil
}

// join puts a client that was refused into the line, if it watches.
func (q *queue) join(client *Locker) {
	if m := q.member(client); m != nil && !m.waiting {
		m.waiting = true
		q.line = append(q.line, m)
	}
}

func (q *queue) member(client *Locker) *member {
	for _, m := range q.members {
		if m.client == client {
			return m
		}
	}
	return nil
}

// leave takes m out of the line; if it had the turn, the next one has it.
func (q *queue) leave(m *member) {
	if !m.waiting {
		return
	}
	i := slices.Index(q.line, m)
	q.line = slices.Delete(q.line, i, i+1)
	m.waiting = false
	if i == 0 {
		q.kept = 0
		q.settle(q.shard.store.now())
	}
}

func (q *queue) unwatch(m *member, w *watch) {
	s := q.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(m.watches, w)
	if i < 0 { // stopped before
		return
	}
	m.watches = slices.Delete(m.watches, i, i+1)
	if len(m.watches) > 0 {
		return
	}
	i = slices.Index(q.members, m)
	q.members = slices.Delete(q.members, i, i+1)
	q.leave(m)
	if len(q.members) == 0 {
		if q.timer != nil {
			q.timer.Stop()
		}
		delete(s.queues, q.key)
	}
}

// expel wakes a client that closes, so that its waiters learn of it, and takes it
// out of all lines. mu is held.
func (s *shard) expel(client *Locker) {
	for _, q := range s.queues {
		if m := q.member(client); m != nil {
			m.wake()
			q.leave(m)
		}
	}
}
