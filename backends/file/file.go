//go:build linux || darwin || freebsd

package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/internal/suspend"
	"github.com/tonsurance/lockkeeper/lock"
)

var (
	_ lock.Locker        = (*Locker)(nil)
	_ lock.Inspector     = (*Locker)(nil)
	_ lock.ForceReleaser = (*Locker)(nil)
	_ lock.HealthChecker = (*Locker)(nil)
	_ io.Closer          = (*Locker)(nil)
)

// Locker keeps locks in a directory. It is safe for concurrent use, and has one
// goroutine while somebody waits. Two Lockers exclude each other whether or not they are of one
// process.
type Locker struct {
	dir  string
	opts Options
	mode uint32 // of files
	fs   string // file system
	ok   bool   // it is known to be local

	clock clock
	boot  string
	turn  time.Duration // turn, but in tests

	mu     sync.Mutex // guards all below
	closed bool
	liveFD int // -1: no sign of life yet, or no more
	life   life
	holds  int // leases that need it, and attempts under way

	hub hub
	lock.Waiters
}

// New makes a Locker on dir, which it creates, for this user only (0700), if it
// is not there. Programs exclude each other if they use the same dir.
//
// Who may write to dir may use the locks, and may break them: files get the
// directory's own read and write bits. A directory that everybody can write to
// is refused; for several users make one of a common group, with mode 2770.
//
// Errors match [lock.ErrInvalid] if dir or opts can't be used, also where the
// system has no support (Windows), and [lock.ErrUnavailable] if they might be
// later.
func New(dir string, opts *Options) (*Locker, error) {
	o, err := opts.withDefaults()
	if err == nil {
		dir, err = checkDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	l := &Locker{dir: dir, opts: o, liveFD: -1, turn: turn}
	l.hub.l = l
	if err := l.prepare(); err != nil {
		return nil, fmt.Errorf("file: %s: %w", dir, err)
	}
	return l, nil
}

func (l *Locker) prepare() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", lock.ErrUnavailable, err)
	}
	info, err := os.Stat(l.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", lock.ErrUnavailable, err)
	}
	if info.Mode()&0o002 != 0 {
		return fmt.Errorf("%w: everybody can write to this directory (%v), want one for its users only, such as a new one inside it",
			lock.ErrInvalid, info.Mode())
	}
	l.mode = uint32(info.Mode().Perm() & 0o666)
	if l.fs, l.ok, _, err = fileSystem(l.dir); err != nil {
		return fmt.Errorf("%w: statfs: %w", lock.ErrUnavailable, err)
	}
	if !l.ok && !l.opts.TrustFileSystem {
		return fmt.Errorf("%w: its file system is %s, want a local one, where kernel locks can be relied on (Options.TrustFileSystem accepts it)",
			lock.ErrInvalid, l.fs)
	}
	if l.clock, err = newClock(); err != nil {
		return fmt.Errorf("%w: no clock common to all processes: %w", lock.ErrInvalid, err)
	}
	if l.boot, err = bootID(); err != nil || l.boot == "" {
		return fmt.Errorf("%w: the system does not tell one boot from the next: %w", lock.ErrInvalid, err)
	}
	l.sweep()
	return l.writable()
}

// writable tries whether files can be made.
func (l *Locker) writable() error {
	f, err := os.CreateTemp(l.dir, newPrefix)
	if err != nil {
		return fmt.Errorf("%w: %w", lock.ErrUnavailable, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// sweep deletes what processes left that died while they made a record. (To
// take one of a process that is merely slow would cost it one more try.)
func (l *Locker) sweep() {
	entries, _ := os.ReadDir(l.dir)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), newPrefix) {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
			os.Remove(filepath.Join(l.dir, entry.Name()))
		}
	}
}

// TryAcquire makes one attempt. A refused one reads two files and changes
// nothing. Beyond the obligations in [lock.Locker]: an error matching
// [lock.ErrUnavailable] names the file and what is wrong with it. ctx does not
// end a call into a file system that hangs.
func (l *Locker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, fmt.Errorf("file: acquire: %w", err)
	}
	lease, err := l.tryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, fmt.Errorf("file: acquire %q: %w", key, err)
	}
	return lease, nil
}

func (l *Locker) tryAcquire(ctx context.Context, key string, ttl time.Duration) (_ lock.Lease, err error) {
	if l.isClosed() {
		return nil, lock.ErrClosed
	}
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	// In this order, so that whatever comes in between lengthens only what the
	// record says.
	suspended := suspend.Since()
	start := time.Now()
	until := l.recordExpiry(ttl)

	// Without the file's lock: most attempts that are refused end here.
	f, err := l.openOrCreate(key)
	if err != nil {
		return nil, err
	}
	if r, err := readRecord(f.fd, l.boot); err == nil && r.Key == key {
		if held := l.held(r); held != nil && !l.hub.wants(key, &r, l.place()) {
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
			l.unlive()
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
	me, found := placeOf(life), r
	if err := l.refusal(&r, me); err != nil {
		f.refuse(&r, me, r.Life != found.Life || len(r.Line) != len(found.Line))
		return nil, err
	}

	if r.Boot != l.boot {
		r.Token = max(r.Token, r.Reserved)
		r.Line = nil
	}
	if n := r.ahead(me); n < len(r.Line) { // those ahead let their turns pass
		r.Line = r.Line[n+1:]
		l.hub.stands(key, false)
	} else {
		r.Line = nil
	}
	r.Boot, r.Life, r.Holder, r.Expiry, r.Freed = l.boot, lifeless, "", 0, 0
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
	r.Life, r.Holder, r.Expiry = life, l.opts.Owner, int64(until)
	if err := f.write(&r); err != nil {
		r.seq-- // the same slot again: who knows what it has now
		return nil, errors.Join(err, f.free(&r))
	}
	if !time.Now().Before(expiry) {
		return nil, errors.Join(fmt.Errorf("%w: the attempt took longer than the ttl of %v", lock.ErrUnavailable, ttl), f.free(&r))
	}
	return lock.NewLease(lock.Grant{
		Key: key, Token: r.Token, Expiry: expiry,
		Term: &term{l: l}, Suspended: suspended,
	}), nil
}

var lifeless life

// grace is how much later than for the holder a hold ends for all others: more
// than the suspension of the machine that the holder does not notice
// (internal/suspend rounds down by 2ms).
const grace = 3 * time.Millisecond

func (l *Locker) recordExpiry(ttl time.Duration) time.Duration { return l.clock.now() + ttl + grace }

// left is how long r's hold still stands; 0 means that the key is free.
func (l *Locker) left(r record) time.Duration {
	if r.Life == lifeless || r.Boot != l.boot {
		return 0
	}
	left := time.Duration(r.Expiry) - l.clock.now()
	if left <= 0 {
		return 0
	}
	if l.isMine(r.Life) || !l.dead(r.Life) {
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

// Close refuses further attempts: they fail with [lock.ErrClosed]. Leases that
// are held stay what they are, and can be extended and released; the sign of
// life goes with the last that is released, so call Close after that. Waiters are
// woken, and learn of it. It never fails, and may be called again.
func (l *Locker) Close() error {
	l.mu.Lock()
	l.closed = true
	l.dropSlot()
	l.mu.Unlock()
	l.hub.close()
	return nil
}

// term is one lease's side of the store. Calls never overlap.
type term struct {
	l        *Locker
	released bool // a release was begun
	done     bool // it no longer needs the sign of life
}

var _ lock.Term = (*term)(nil)

// ExtendTerm moves the record's expiry, if the record still names this term.
func (t *term) ExtendTerm(ctx context.Context, key string, token uint64, ttl time.Duration) (time.Time, error) {
	expiry := time.Now().Add(ttl)
	until := t.l.recordExpiry(ttl)
	f, r, err := t.own(ctx, key, token)
	if err != nil {
		return time.Time{}, err
	}
	defer f.close()
	if r.Life == lifeless {
		return time.Time{}, fmt.Errorf("%w: released by force", lock.ErrLost)
	}
	if time.Duration(r.Expiry) <= t.l.clock.now() {
		return time.Time{}, fmt.Errorf("%w: expired", lock.ErrLost)
	}
	// Never shorter than before: should this call's answer not count, the lease
	// keeps its old deadline.
	r.Expiry = max(r.Expiry, int64(until))
	if err := f.write(&r); err != nil {
		return time.Time{}, err
	}
	return expiry, nil
}

// ReleaseTerm frees the key, if the record still names this term.
func (t *term) ReleaseTerm(ctx context.Context, key string, token uint64) error {
	f, r, err := t.own(ctx, key, token)
	if err != nil {
		if errors.Is(err, lock.ErrLost) {
			t.over()
		}
		return err
	}
	defer f.close()
	if r.Life == lifeless {
		t.over()
		if t.released { // by an earlier call, which failed afterwards
			return nil
		}
		return fmt.Errorf("%w: released by force", lock.ErrLost)
	}
	t.released = true
	if err := f.free(&r); err != nil {
		return err
	}
	t.over()
	return nil
}

func (t *term) over() {
	if !t.done {
		t.done = true
		t.l.unlive()
	}
}

// own opens and locks key's file, whose last term was this one.
func (t *term) own(ctx context.Context, key string, token uint64) (*keyFile, record, error) {
	f, err := t.l.open(key)
	if err == nil {
		if err = f.lock(ctx); err != nil {
			f.close()
		}
	}
	if err == errNoFile {
		return nil, record{}, fmt.Errorf("%w: its record was deleted: %s", lock.ErrLost, t.l.keyPath(key))
	}
	if err != nil {
		return nil, record{}, err
	}
	r, err := f.read()
	if err == nil && (r.Token != token || r.Boot != t.l.boot) {
		err = fmt.Errorf("%w: the key is at token %d", lock.ErrLost, r.Token)
		if r.Holder != "" {
			err = fmt.Errorf("%w, of %s", err, r.Holder)
		}
	}
	if err != nil {
		f.close()
		return nil, record{}, err
	}
	return f, r, nil
}
