package rwlock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// MaxReaders is the largest number of readers, and how many places a writer takes.
const MaxReaders = 16

// readersMark ends the name of the semaphore of a key's readers.
const readersMark = ";readers"

// maxKey leaves room for the name of any place, so that all clients accept the same keys.
const maxKey = lock.MaxKeyLen - len(readersMark) - len(";slot=1024")

// ReaderOf reads the name of a reader's place, such as that of [lock.Lease].Key, and returns its
// key: "catalogue" for "catalogue;readers" and for "catalogue;readers;slot=3".
func ReaderOf(name string) (key string, ok bool) {
	name, slot := lock.SlotOf(name)
	if slot > MaxReaders || len(name) == len(readersMark) {
		return "", false
	}
	return strings.CutSuffix(name, readersMark)
}

// Lock is a store in which keys have readers and writers. It is safe for concurrent use.
type Lock struct {
	inner   lock.Locker // where a writer takes all places, each by its name
	readers lock.Locker // a place for a reader

	granted atomic.Bool // a lease was returned: from then on the store's refusal is an outage

	mu     sync.Mutex // guards closed; held while a job is added, so that none is after closed
	closed bool
	jobs   sync.WaitGroup // releases of what attempts had
}

// New makes one over l, with up to n readers of a key at once, 1 to [MaxReaders]. An
// error matches [lock.ErrInvalid].
func New(l lock.Locker, n int) (*Lock, error) {
	switch {
	case l == nil:
		return nil, fmt.Errorf("rwlock: %w: locker is nil", lock.ErrInvalid)
	case n < 1 || n > MaxReaders:
		return nil, fmt.Errorf("rwlock: %w: %d readers, want 1 to %d", lock.ErrInvalid, n, MaxReaders)
	}
	return &Lock{inner: l, readers: lock.Semaphore(l, n)}, nil
}

// Readers locks keys for readers.
func (l *Lock) Readers() lock.Locker { return side{l, l.reader} }

// Writer locks keys for one writer.
func (l *Lock) Writer() lock.Locker { return side{l, l.writer} }

// side is what readers, or writers, use. It offers what the store offers of
// lock.HealthChecker, lock.Inspector (of the gate, which a writer has, or a reader that is
// taking its place), and io.Closer, which waits for what failed attempts still give back.
type side struct {
	l    *Lock
	take func(ctx context.Context, a *attempt) (lock.Lease, error)
}

var (
	_ lock.Locker  = side{}
	_ lock.Awaiter = side{}
)

func (s side) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	return s.acquire(ctx, key, ttl, nil)
}

// Await waits in the queue of the gate, and then, holding that, for what else its side
// takes.
func (s side) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	if refused == nil {
		refused = func(*lock.HeldError) {}
	}
	return s.acquire(ctx, key, ttl, refused)
}

func (s side) acquire(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	err := lock.Check(key, ttl)
	if err == nil && ctx == nil {
		err = lock.ContextError(ctx)
	}
	if err == nil && len(key) > maxKey {
		err = fmt.Errorf("%w: key %.32q... has %d bytes, want at most %d: the names of its readers are longer", lock.ErrInvalid, key, len(key), maxKey)
	}
	if err != nil {
		return nil, fmt.Errorf("rwlock: %w", err)
	}
	lease, err := s.take(ctx, &attempt{l: s.l, key: key, ttl: ttl, refused: refused})
	if err == nil {
		s.l.granted.Store(true)
		return lease, nil
	}
	if errors.Is(err, lock.ErrRefused) && s.l.granted.Load() && ctx.Err() == nil {
		err = fmt.Errorf("%w: %v", lock.ErrUnavailable, err) // what worked once may work again
	}
	return nil, fmt.Errorf("rwlock: acquire %q: %w", key, err)
}

func (s side) As(target any) bool {
	switch t := target.(type) {
	case *lock.Inspector:
		return as(s.l.inner, t)
	case *lock.HealthChecker:
		return as(s.l.inner, t)
	case *io.Closer:
		*t = closer{s.l}
		return true
	}
	return false
}

// closer closes the store, once no attempt gives anything back any more.
type closer struct{ l *Lock }

func (c closer) Close() error {
	c.l.mu.Lock()
	c.l.closed = true
	c.l.mu.Unlock()
	c.l.jobs.Wait()
	return lock.Close(c.l.inner)
}

func as[T any](l lock.Locker, target *T) bool {
	t, ok := lock.As[T](l)
	if ok {
		*target = t
	}
	return ok
}

// attempt is one call for a key.
type attempt struct {
	l       *Lock
	key     string
	ttl     time.Duration
	refused func(*lock.HeldError) // nil: it does not wait

	reporting sync.Mutex // held while refused runs: calls come one at a time
}

// ask acquires one lock, and waits if the attempt does. An outage ends the wait, and with it
// the attempt: lock.Acquire makes another.
func (a *attempt) ask(ctx context.Context, l lock.Locker, name string) (lock.Lease, error) {
	if a.refused == nil {
		lease, err := l.TryAcquire(ctx, name, a.ttl)
		return lease, a.named(ctx, err)
	}
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lease, err := lock.Acquire(within, l, name, a.ttl, &lock.AcquireOptions{OnWait: func(err error) {
		held, ok := errors.AsType[*lock.HeldError](a.named(ctx, err))
		switch {
		case ok:
			a.reporting.Lock()
			defer a.reporting.Unlock()
			a.refused(held)
		case !errors.Is(err, lock.ErrHeld):
			cancel(err)
		}
	}})
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		err = context.Cause(within) // the outage
	}
	return lease, a.named(ctx, err)
}

// named makes a refusal of the gate or of a place one of the key that was asked for. Of a
// wait that ctx ended, the refusal in err is the last one, or ctx's cause: err stays what it is.
func (a *attempt) named(ctx context.Context, err error) error {
	held, ok := errors.AsType[*lock.HeldError](err)
	if !ok || !errors.Is(err, lock.ErrHeld) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	named := *held
	key, _ := lock.SlotOf(held.Key)
	named.Key = strings.TrimSuffix(key, readersMark)
	return &named
}

// reader takes a place, for which it holds the gate: anyone who has the gate knows that
// nobody comes in, so the gate's token orders readers and writers.
func (l *Lock) reader(ctx context.Context, a *attempt) (lock.Lease, error) {
	gate, err := a.ask(ctx, l.inner, a.key)
	if err != nil {
		return nil, err
	}
	h := hold(ctx, a, gate)
	place, err := a.ask(h.ctx, l.readers, a.key+readersMark)
	if lost := h.stop(); err == nil {
		err = lost
	}
	if err == nil && !time.Now().Before(gate.Expiry()) {
		// A writer may have come and gone before the place was taken, with a larger token
		// than this reader would have. (While the gate is held nobody else gets it.)
		err = lock.ErrLost
	}
	if err == nil && time.Until(place.Expiry()) < a.ttl/2 { // it may start with less than the ttl
		err = place.Extend(ctx, a.ttl)
	}
	if err != nil {
		return nil, also(reason(ctx, err), l.giveBack(ctx, place, gate))
	}
	token := gate.Token()
	// The place ages meanwhile, so a release that takes longer goes on in the background. A gate
	// that can't be freed ends by itself: others wait for its ttl, and that is all.
	wait, cancel := context.WithTimeout(ctx, time.Until(place.Expiry())/4)
	select {
	case <-l.releases(ctx, gate):
	case <-wait.Done():
	}
	cancel()
	expiry := place.Expiry()
	switch {
	case ctx.Err() != nil: // cancellation beats a simultaneous grant
		return nil, also(lock.ContextError(ctx), l.giveBack(ctx, place))
	case !time.Now().Before(expiry):
		return nil, also(reason(ctx, lock.ErrLost), l.giveBack(ctx, place))
	}
	return &reading{bounded{lock.NewLease(lock.Grant{
		Key: place.Key(), Token: token, Expiry: expiry,
		Extend: func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			err := place.Extend(ctx, ttl)
			return place.Expiry(), err
		},
		Release: place.Release,
	}), place.Expiry}, place.Token()}, nil
}

// bounded is a lease that is held no longer than what it is made of. That may end earlier
// than it did at the last call: by a suspension of the machine, by an Extend for less that
// failed at some of it, or by a loss that it has found by itself.
type bounded struct {
	lock.Lease
	until func() time.Time
}

func (b bounded) Expiry() time.Time {
	expiry := b.Lease.Expiry()
	if until := b.until(); until.Before(expiry) {
		return until
	}
	return expiry
}

// reading is a reader's lease.
type reading struct {
	bounded
	place uint64 // the token of its place
}

// PlaceToken is the token of the place that a reader's lease has: by Lease.Key and this
// token the store shows that hold, and a [lock.ForceReleaser] ends it. Lease.Token is the
// gate's. Of any other lease it is Lease.Token.
func PlaceToken(l lock.Lease) uint64 {
	if r, ok := l.(*reading); ok {
		return r.place
	}
	return l.Token()
}

// writer takes the gate, and then every place as it becomes free.
func (l *Lock) writer(ctx context.Context, a *attempt) (lock.Lease, error) {
	gate, err := a.ask(ctx, l.inner, a.key)
	if err != nil {
		return nil, err
	}
	h := hold(ctx, a, gate)
	err = h.takePlaces(a)
	if lost := h.stop(); lost != nil {
		err = lost
	}
	if err == nil {
		// All are extended now, since the first may be old by the time that the last is taken.
		// This also finds one that was lost meanwhile; each that was not has been held all along.
		err = h.extend(ctx, a.ttl)
	}
	expiry := h.expiry()
	if err == nil && !time.Now().Before(expiry) {
		err = lock.ErrLost
	}
	if err != nil {
		return nil, also(reason(ctx, err), l.giveBack(ctx, h.all()...))
	}
	return bounded{lock.NewLease(lock.Grant{
		Key: gate.Key(), Token: gate.Token(), Expiry: expiry,
		Extend: func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			err := h.extend(ctx, ttl)
			return h.expiry(), err
		},
		Release: h.release,
	}), h.expiry}, nil
}
