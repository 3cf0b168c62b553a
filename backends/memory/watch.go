package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.Watcher = (*Locker)(nil)

// Watch sends on wake when a hold of key ends: released, expired or taken away, also
// where the key is handed over to one that waits in its queue ([Locker.Await]) in the
// same moment. Renewals wake nobody. Close of this client wakes too.
//
// [Locker.FailNext], [Locker.LoseReplies] and [Locker.Delay] do not concern wakes.
func (l *Locker) Watch(ctx context.Context, key string, wake chan<- struct{}) (stop func(), err error) {
	s, err := l.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("memory: watch: %w", err)
	}
	defer s.mu.Unlock()
	if l.closed.Load() { // in the meantime
		return nil, fmt.Errorf("memory: watch %q: %w", key, lock.ErrClosed)
	}
	q, w := s.queueFor(key), &watch{l, wake}
	q.watches = append(q.watches, w)
	q.advance(s.store.now())
	return func() { q.unwatch(w) }, nil
}

// watch is one call of Watch.
type watch struct {
	client *Locker
	wake   chan<- struct{}
}

func (w *watch) send() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (q *queue) unwatch(w *watch) {
	s := q.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(q.watches, w); i >= 0 { // else it was stopped before
		q.watches = slices.Delete(q.watches, i, i+1)
		q.drop()
	}
}
