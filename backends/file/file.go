//go:build linux || darwin || freebsd

package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/internal/machineclock"
	"github.com/tonsurance/lockkeeper/lock"
)

var (
	_ lock.Locker        = (*Locker)(nil)
	_ lock.Inspector     = (*Locker)(nil)
	_ lock.ForceReleaser = (*Locker)(nil)
	_ lock.HealthChecker = (*Locker)(nil)
	_ io.Closer          = (*Locker)(nil)

	_ lock.MaxReleaseAfterer = (*Locker)(nil)
)

// Locker keeps locks in a directory. It is safe for concurrent use. It has one
// goroutine while somebody waits, and one for a moment when it tidies up. Two Lockers exclude each other whether or not they are of one
// process.
type Locker struct {
	dir  string
	opts Options
	fs   string // file system
	ok   bool   // it is known to be local

	owners owners // of files

	clock       machineclock.Clock
	boot        string
	turnTimeout time.Duration // turnTimeout, but in tests

	mu     sync.Mutex // guards all below
	closed bool
	liveFD int // -1: no sign of life yet, or no more
	life   life
	holds  int // leases that need it, and attempts under way

	tidied   time.Time // when tidy was begun last
	stopTidy context.CancelFunc
	tidying  sync.WaitGroup

	hub    hub
	awaits awaits
	lock.Waiters
}

// New makes a Locker on dir, which it creates, for this user only (0700), if it
// is not there. Programs exclude each other if they use the same dir. [DefaultDir]
// is for those whose user named none.
//
// Who may write to dir may use the locks, and may break them; nobody else can do
// anything with them, not even look. A directory that everybody can write to is
// refused; for several users make one of a common group, with mode 2770. What root
// makes in a user's directory belongs to that user.
//
// Errors match [lock.ErrInvalid] if dir or opts can't be used, also where the
// system has no support (Windows), [lock.ErrRefused] if permissions, mounts or names
// have to be mended first (EACCES, EROFS, ENOTDIR, ELOOP), and [lock.ErrUnavailable]
// if all may be well later.
func New(dir string, opts *Options) (*Locker, error) {
	o, err := opts.withDefaults()
	if err == nil {
		dir, err = checkDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	l := &Locker{dir: dir, opts: o, liveFD: -1, turnTimeout: turnTimeout, stopTidy: func() {}}
	l.hub.l = l
	if err := l.prepare(); err != nil {
		return nil, fmt.Errorf("file: %s: %w", dir, err)
	}
	return l, nil
}

// TryAcquire makes one attempt. A refused one reads two files and changes
// nothing. Beyond the obligations in [lock.Locker]: an error matching
// [lock.ErrUnavailable] or [lock.ErrRefused] names the file and what is wrong with
// it. ctx does not end a call into a file system that hangs.
func (l *Locker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, fmt.Errorf("file: acquire: %w", err)
	}
	// The position that this Locker may have in the queue is that of its Await, which was
	// there before.
	lease, err := l.tryAcquire(ctx, key, ttl, !l.awaits.any(key))
	if err != nil {
		return nil, fmt.Errorf("file: acquire %q: %w", key, err)
	}
	return lease, nil
}

// tryAcquire makes an attempt, by this Locker's position in the queue or as somebody who
// has none. With it, one that is refused while the key is watched enters the queue.
func (l *Locker) tryAcquire(ctx context.Context, key string, ttl time.Duration, queued bool) (_ lock.Lease, err error) {
	if l.isClosed() {
		return nil, lock.ErrClosed
	}
	if err := ended(ctx); err != nil {
		return nil, err
	}
	// In this order, so that whatever comes in between lengthens only what the
	// record says.
	suspended := lock.Suspension()
	start := time.Now()
	until := l.recordExpiry(ttl)

	// Without the file's lock: most attempts that are refused end here.
	f, err := l.openOrCreate(key)
	if err != nil {
		return nil, err
	}
	if r, err := readRecord(f.fd, l.boot); err == nil && r.Key == key {
		if held := l.held(r); held != nil && !(queued && l.hub.wants(key, &r, l.position())) {
			f.close()
			return nil, held
		}
	}

	// The sign of life comes before any record that names it.
	life, err := l.live()
	if err != nil {
		f.close()
		return nil, err
	}
	defer func() {
		if err != nil {
			l.dropHold()
		}
	}()
	for {
		if err = f.lock(ctx); err != errNoFile {
			break
		}
		f.close()
		if f, err = l.openOrCreate(key); err != nil {
			return nil, err
		}
	}
	defer func() { f.close() }()
	if err != nil {
		return nil, err
	}
	r, err := f.read()
	if err != nil {
		return nil, err
	}
	me, found := positionOf(life), r
	if !queued {
		me = ""
	}
	if err := l.refusal(&r, me); err != nil {
		f.refuse(&r, me, r.Life != found.Life || len(r.Queue) != len(found.Queue))
		return nil, err
	}

	if r.Boot != l.boot {
		r.nextBoot(l.boot)
	}
	if n := r.ahead(me); n < len(r.Queue) { // those ahead did not ask in time
		r.Queue = r.Queue[n+1:]
		l.hub.stands(key, false)
	} else {
		r.Queue = nil
	}
	r.Freed = 0
	r.clear()
	if r.unused() {
		// Under the lock of the file that has the name: all earlier files of that name
		// have been deleted by now, and what they gave out is in the floor.
		floor, err := l.floor(ctx)
		if err != nil {
			return nil, err
		}
		r.Token = max(r.Token, floor)
	}
	if r.Token >= r.Reserved {
		if err := reserveTokens(f.fd, &r); err != nil {
			return nil, f.failed(err)
		}
	}
	expiry := start.Add(ttl)
	switch {
	case ctx.Err() != nil:
		return nil, ended(ctx)
	case !time.Now().Before(expiry):
		return nil, fmt.Errorf("%w: the attempt took longer than the ttl of %v", lock.ErrUnavailable, ttl)
	}
	r.Token++
	r.Life, r.Holder, r.Expiry, r.Since = life, l.opts.Owner, int64(until), int64(l.clock.Now())
	r.Kept = l.opts.UntilExpiry
	if err := f.write(&r); err != nil {
		r.seq-- // the same slot again: who knows what it has now
		return nil, errors.Join(err, f.free(&r))
	}
	if !time.Now().Before(expiry) {
		return nil, errors.Join(fmt.Errorf("%w: the attempt took longer than the ttl of %v", lock.ErrUnavailable, ttl), f.free(&r))
	}
	return lock.NewLease(lock.Grant{
		Key: key, Token: r.Token, Start: start, Expiry: expiry,
		Term: &term{l: l, since: r.Since}, Suspended: suspended,
	}), nil
}

var lifeless life

// grace is how much later than for the holder a hold ends for all others: more
// than the suspension of the machine that the holder does not notice
// (lock.Suspension rounds down by 2ms).
const grace = 3 * time.Millisecond

func (l *Locker) recordExpiry(ttl time.Duration) time.Duration { return l.clock.Now() + ttl + grace }

// MaxReleaseAfter is [lock.MaxTTL]. A reboot ends what [lock.ReleaseAfter] keeps, as it
// ends all holds.
func (*Locker) MaxReleaseAfter() time.Duration { return lock.MaxTTL }

// left is how long r's hold still stands; 0 means that the key is free.
func (l *Locker) left(r record) time.Duration {
	if r.Life == lifeless || r.Boot != l.boot {
		return 0
	}
	left := time.Duration(r.Expiry) - l.clock.Now()
	if left <= 0 {
		return 0
	}
	// A kept hold needs nobody's life. Else the holder must be certain to have ended
	// before the key is free ahead of its time.
	if r.Kept || l.isMine(r.Life) || !l.dead(r.Life) {
		return left
	}
	return 0
}

// held is nil if the key is free.
func (l *Locker) held(r record) error {
	left := l.left(r)
	if left == 0 {
		return nil
	}
	return &lock.HeldError{Key: r.Key, Holder: r.Holder, RetryAfter: left}
}

func (l *Locker) isMine(of life) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.liveFD >= 0 && l.life == of
}

func (l *Locker) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func ended(ctx context.Context) error {
	return lock.ContextError(ctx)
}

// check is for calls that do some of their work although ctx has ended.
func check(ctx context.Context, key string, ttl time.Duration) error {
	if ctx == nil {
		return ended(ctx)
	}
	return lock.Check(key, ttl)
}

// Close refuses further attempts: they fail with [lock.ErrClosed]. Leases that
// are held stay what they are, and can be extended and released; the sign of
// life goes with the last that is released, so call Close after that. Waiters are
// woken, and learn of it. It never fails, and may be called again.
func (l *Locker) Close() error {
	l.mu.Lock()
	l.closed = true
	l.dropSlot()
	l.stopTidy()
	l.mu.Unlock()
	l.hub.close()
	l.tidying.Wait()
	return nil
}
