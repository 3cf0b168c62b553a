//go:build linux || darwin || freebsd

package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.Watcher = (*Locker)(nil)

const (
	// lookEvery is how often records are read where the kernel notifies nobody.
	lookEvery = 10 * time.Millisecond
	// linger is how long what a watch has set up stays for the next one: to close an
	// inotify instance takes the kernel many milliseconds.
	linger = time.Second
	// checkEvery is how often a waiter asks whether its file is still the one of that
	// name. Where a directory above was renamed or mounted over, or a link leads
	// elsewhere now, the kernel has nothing to report of the file.
	checkEvery = 2 * time.Second
)

// Watch sends on wake when key becomes free: released, expired, broken, or left
// by a process that died. Renewals wake nobody. Close wakes too.
//
// A Locker that is refused while it watches the key enters the key's queue, as
// [Locker.Await] does, and is woken when the key is free and kept for it. One that does
// not ask then is out of the queue until it is refused again.
//
// On Linux the kernel notifies of changes (inotify): a waiter reads nothing while
// nothing changes. Elsewhere, and where the user's inotify instances are used up,
// one goroutine reads each watched record every 10ms.
func (l *Locker) Watch(ctx context.Context, key string, wake chan<- struct{}) (stop func(), err error) {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return nil, fmt.Errorf("file: watch: %w", err)
	}
	if err := ended(ctx); err != nil {
		return nil, fmt.Errorf("file: watch %q: %w", key, err)
	}
	f, err := l.openOrCreate(key) // what is not there can't be watched
	if err != nil {
		return nil, fmt.Errorf("file: watch %q: %w", key, err)
	}
	f.close()
	w := &watch{wake}
	if err := l.hub.add(key, w); err != nil {
		return nil, fmt.Errorf("file: watch %q: %w", key, err)
	}
	return sync.OnceFunc(func() {
		if l.hub.remove(key, w) {
			l.leave(key)
		}
	}), nil
}

// watch is one call of Watch.
type watch struct{ wake chan<- struct{} }

// hub receives the notifications for all keys that a Locker watches, in one goroutine that
// ends soon after the last watch. Its zero value is ready, but for l.
type hub struct {
	l  *Locker
	wg sync.WaitGroup // the goroutine

	mu       sync.Mutex // guards all below; never held together with l.mu but in this order
	closed   bool
	notifier *notifier // nil: there is no goroutine
	keys     map[string]*watched
	marks    map[int32][]*watched // by what the kernel calls them
}

// watched is a key that is watched, or was a moment ago.
type watched struct {
	key     string
	watches []*watch
	queued  bool      // this Locker is in the record's queue
	due     time.Time // when to look next without a notification; zero: never
	check   time.Time // when to see next whether file is still the one of that name

	file, life int32  // marks; 0: none
	of         life   // whose sign of life is marked
	blind      bool   // a mark could not be made
	failed     int    // looks in a row that could not read the record
	notified   uint64 // the record that the watches know to be free; 0: none

	died    time.Duration // when its holder was seen dead, on the machine's clock; 0: it was not
	closing int           // how often its holder was looked for since its file was closed; 0: not
}

func (h *hub) add(key string, w *watch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return lock.ErrClosed
	}
	if err := h.start(); err != nil {
		return err
	}
	k := h.keys[key]
	if k == nil {
		k = &watched{key: key}
		h.keys[key] = k
	}
	idle := len(k.watches) == 0
	k.watches = append(k.watches, w)
	if idle {
		k.notified = 0
		h.look(k, false) // its caller asks once more
		h.schedule()
	}
	return nil
}

// remove ends a watch, and reports whether the Locker is to leave the queue.
func (h *hub) remove(key string, w *watch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.keys[key]
	if k == nil {
		return false
	}
	k.watches = slices.DeleteFunc(k.watches, func(x *watch) bool { return x == w })
	if len(k.watches) > 0 {
		return false
	}
	k.due = time.Now().Add(linger)
	h.schedule()
	leave := k.queued
	k.queued = false
	return leave
}

// wants reports whether me is to be put into the queue of key's record.
func (h *hub) wants(key string, r *record, me position) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.keys[key]
	return k != nil && len(k.watches) > 0 && !slices.Contains(r.Queue, me)
}

// stands notes whether this Locker is in key's queue.
func (h *hub) stands(key string, queued bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.keys[key]; k != nil {
		k.queued = queued
	}
}

func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	for _, k := range h.keys {
		k.send()
	}
	n := h.notifier
	h.forget()
	h.mu.Unlock()
	if n != nil {
		n.close()
	}
	h.wg.Wait()
}

// forget leaves the goroutine nothing to do. mu is held, and the notifier is closed
// without it: that takes long.
func (h *hub) forget() { h.notifier, h.keys, h.marks = nil, nil, nil }

// start starts the goroutine if there is none. mu is held.
func (h *hub) start() error {
	if h.notifier != nil {
		return nil
	}
	n, err := openNotifier()
	if err != nil {
		return fmt.Errorf("%w: %w", lock.ErrUnavailable, err)
	}
	h.begin(n)
	return nil
}

func (h *hub) begin(n *notifier) {
	h.notifier, h.keys, h.marks = n, map[string]*watched{}, map[int32][]*watched{}
	h.wg.Go(func() { h.run(n) })
}

func (h *hub) run(n *notifier) {
	buf := make([]byte, 4096)
	for {
		size, err := n.file.Read(buf)
		h.mu.Lock()
		if h.notifier != n { // closed
			h.mu.Unlock()
			return
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			for _, k := range h.keys { // never seen; they ask, and watch anew
				k.send()
			}
			clear(h.keys)
		}
		n.events(buf[:max(0, size)], h.event)
		now := time.Now()
		for _, k := range h.keys {
			if h.moved(k, now) || !k.due.IsZero() && !now.Before(k.due) {
				h.look(k, true)
			}
		}
		over := len(h.keys) == 0
		if over {
			h.forget()
		} else {
			h.schedule()
		}
		h.mu.Unlock()
		if over {
			n.close()
			return
		}
	}
}

// event takes one notification: look at once at what it concerns.
func (h *hub) event(mark int32, what uint32) {
	keys := h.marks[mark]
	if what&newsLost != 0 {
		for _, k := range h.keys {
			k.closing, k.due = 1, time.Unix(0, 0)
		}
	}
	for _, k := range slices.Clone(keys) { // unmark takes from it
		switch {
		case what&onClosed != 0 && mark == k.life:
			k.closing = 1
		case what&newsGone != 0 && mark == k.file: // and another may have its name now
			h.unmark(k, &k.file)
			k.notified = 0
		}
		if len(k.watches) == 0 {
			continue // until the next watch
		}
		k.due = time.Unix(0, 0)
	}
}

// schedule makes run look when the next key is due. mu is held.
func (h *hub) schedule() {
	var next time.Time
	for _, k := range h.keys {
		if !k.due.IsZero() && (next.IsZero() || k.due.Before(next)) {
			next = k.due
		}
		if k.file != 0 && len(k.watches) > 0 && (next.IsZero() || k.check.Before(next)) {
			next = k.check
		}
	}
	if h.notifier != nil {
		_ = h.notifier.file.SetReadDeadline(next)
	}
}

// look reads k's record, wakes the watches if this Locker may ask now,
// and says when to look again. mu is held.
func (h *hub) look(k *watched, notify bool) {
	k.due = time.Time{}
	if len(k.watches) == 0 {
		h.unmark(k, &k.file)
		h.unmark(k, &k.life)
		delete(h.keys, k.key)
		return
	}
	path := h.l.keyPath(k.key)
	k.blind = false
	if k.file == 0 { // before the record is read
		h.mark(k, &k.file, path, onChanged)
		k.check = time.Now().Add(checkEvery)
	}
	fd, err := openRead(path)
	var r record
	if err == nil {
		r, err = readRecord(fd, h.l.boot)
		syscall.Close(fd)
	}
	if err != nil || r.Key != k.key {
		// Half-written, or deleted: those who wait find out, once.
		if k.failed++; k.failed == 3 && notify {
			k.send()
		}
		k.notified = 0
		k.due = time.Now().Add(min(time.Millisecond<<min(k.failed, 10), 100*time.Millisecond))
		return
	}
	k.failed = 0

	now := h.l.clock.Now()
	at := h.freeAt(k, &r, now) // when this Locker may ask, by what is known
	n := 0
	if me := h.l.position(); !slices.Contains(r.Queue, me) {
		if k.queued && notify { // it did not ask in time: it must ask to be queued again
			k.send()
		}
		k.queued = false
	} else {
		if n = r.ahead(me); at <= now && r.Life != lifeless { // nobody has cleaned the queue
			n = len(slices.DeleteFunc(r.Queue[:n:n], h.l.gone))
		}
	}
	at += time.Duration(n) * h.l.turnTimeout
	next := at
	switch {
	case at > now:
	case k.notified == r.seq:
		next = 0 // until the record changes
	default:
		k.notified, next = r.seq, 0
		if notify {
			k.send()
		}
	}
	if k.closing > 0 { // the file is closed a little before its lock is let go
		again := now + 50*time.Microsecond<<k.closing
		if k.closing++; k.closing > 11 {
			k.closing = 0
		} else if next == 0 || again < next {
			next = again
		}
	}
	if k.blind && (next == 0 || now+lookEvery < next) {
		next = now + lookEvery
	}
	if next != 0 {
		k.due = time.Now().Add(next - now)
	}
}

// freeAt is the moment on the machine's clock when r's key is free for the first
// in the queue.
func (h *hub) freeAt(k *watched, r *record, now time.Duration) time.Duration {
	if r.Life == lifeless || r.Boot != h.l.boot {
		k.closing, k.died = 0, 0
		return min(r.freeSince(), now)
	}
	expiry := time.Duration(r.Expiry)
	if r.Kept { // its holder's death changes nothing
		k.closing, k.died = 0, 0
		return expiry
	}
	if r.Life != k.of {
		h.unmark(k, &k.life)
		k.of, k.died = r.Life, 0
		h.mark(k, &k.life, h.l.livePath(r.Life.Slot), onClosed)
		k.closing = max(k.closing, 1) // it may have closed before
	}
	if k.died == 0 && (k.closing > 0 || k.blind) && !h.l.isMine(r.Life) && h.l.dead(r.Life) {
		k.died = now
	}
	if k.died == 0 {
		return expiry
	}
	k.closing = 0
	return min(k.died, expiry)
}

func (k *watched) send() {
	for _, w := range k.watches {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
