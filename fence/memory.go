package fence

import (
	"context"
	"fmt"
	"sync"

	"github.com/tonsurance/lockkeeper/lock"
)

// Memory keeps the largest token of each key in this process. It is for state that ends
// with the process, too: a new process admits any token. The zero value is ready. It
// keeps one number for each key that was ever admitted, and is safe for concurrent use.
type Memory struct {
	mu   sync.Mutex // guards keys and all in them
	keys map[string]*admitted
}

// admitted is a key of a Memory.
type admitted struct {
	latest  uint64
	running map[*run]struct{} // with the latest token, or smaller ones that are ending
}

// run is one function that Do runs.
type run struct {
	token uint64
	end   context.CancelCauseFunc
	done  chan struct{}
}

// Do runs fn if token is not smaller than one that was admitted for key before;
// otherwise the error matches [ErrStale]. Where fn of a smaller token still runs, its
// ctx is ended, with a cause that matches ErrStale, and Do waits until it has returned:
// so writes of one holder never mix with those of the next. Functions with the same
// token run side by side. If ctx ends first, Do returns [lock.ContextError] and fn does
// not run; the token stays admitted.
//
// An error other than those is fn's.
func (m *Memory) Do(ctx context.Context, key string, token uint64, fn func(ctx context.Context) error) error {
	if err := checkCall(ctx, key, token); err != nil {
		return err
	}
	if fn == nil {
		return fmt.Errorf("fence: %w: fn is nil", lock.ErrInvalid)
	}
	m.mu.Lock()
	if m.keys == nil {
		m.keys = map[string]*admitted{}
	}
	k := m.keys[key]
	if k == nil {
		k = &admitted{running: map[*run]struct{}{}}
		m.keys[key] = k
	}
	if token < k.latest {
		defer m.mu.Unlock()
		return &StaleError{key, token, k.latest}
	}
	k.latest = token // from here on nothing smaller begins
	var earlier []*run
	for r := range k.running {
		if r.token < token {
			r.end(&StaleError{key, r.token, token})
			earlier = append(earlier, r)
		}
	}
	mine, end := context.WithCancelCause(ctx)
	r := &run{token, end, make(chan struct{})}
	// It is among those that run already while it waits: a larger token ends it, too.
	k.running[r] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(k.running, r)
		m.mu.Unlock()
		end(nil)
		close(r.done)
	}()
	for _, e := range earlier {
		select {
		case <-e.done:
		case <-mine.Done():
			return lock.ContextError(mine)
		}
	}
	if mine.Err() != nil { // the wait and the end came together
		return lock.ContextError(mine)
	}
	return fn(mine)
}
