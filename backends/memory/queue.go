package memory

import (
	"slices"
	"time"
)

// queue is what a key has while somebody waits for it or watches it. The shard's mutex
// guards it.
type queue struct {
	shard    *shard
	key      string
	requests []*request // first come, first served
	watches  []*watch
	held     bool        // a hold was seen, of whose end the watches are to be notified
	timer    *time.Timer // of the hold's expiry; nil: never needed
}

// queue is key's, or nil, as it is at almost all times.
func (s *shard) queue(key string) *queue {
	if len(s.queues) == 0 {
		return nil
	}
	return s.queues[key]
}

// queueFor is key's, made if it is not there. It must get a request or a watch.
func (s *shard) queueFor(key string) *queue {
	q := s.queue(key)
	if q == nil {
		if s.queues == nil {
			s.queues = make(map[string]*queue)
		}
		q = &queue{shard: s, key: key}
		s.queues[key] = q
	}
	return q
}

// advance brings the queue up to date with what has become of the key: a free key that
// has a queue is handed over to the first in it. So no key is ever seen free while
// somebody waits for it, and no attempt that comes later gets in between.
func (q *queue) advance(now time.Duration) {
	t := q.shard.terms[q.key]
	live := t != nil && t.live(now)
	if !live && q.held {
		for _, w := range q.watches {
			w.send()
		}
	}
	if !live && len(q.requests) > 0 {
		r := q.requests[0]
		q.requests = slices.Delete(q.requests, 0, 1)
		t, live = q.shard.take(q.key, t, r.client.holder, now, now+r.ttl-r.spent), true
		r.token, r.start = t.token, now-r.spent
		r.end(nil)
	}
	if q.held = live; !q.drop() && live {
		q.arm(t.expiry - now)
	}
}

// drop forgets a queue that nobody needs, and reports whether it did.
func (q *queue) drop() bool {
	if len(q.requests) > 0 || len(q.watches) > 0 {
		return false
	}
	if q.timer != nil {
		q.timer.Stop()
	}
	delete(q.shard.queues, q.key)
	return true
}

// arm makes advance run again in d.
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
		q.advance(s.store.now())
	}
}

// remove takes r out, wherever it stands.
func (q *queue) remove(r *request) {
	if i := slices.Index(q.requests, r); i >= 0 {
		q.requests = slices.Delete(q.requests, i, i+1)
		q.drop()
	}
}

// expel ends the requests of client for which why has an error. mu is held.
func (s *shard) expel(client *Locker, why func() error) {
	for _, q := range s.queues {
		q.requests = slices.DeleteFunc(q.requests, func(r *request) bool {
			if r.client != client {
				return false
			}
			err := why()
			if err != nil {
				r.end(err)
			}
			return err != nil
		})
		q.drop()
	}
}

// wake wakes the watches of client. mu is held.
func (s *shard) wake(client *Locker) {
	for _, q := range s.queues {
		for _, w := range q.watches {
			if w.client == client {
				w.send()
			}
		}
	}
}
