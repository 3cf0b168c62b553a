package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	redsyncrueidis "github.com/go-redsync/redsync/v4/redis/rueidis"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidiscompat"
	"github.com/redis/rueidis/rueidislock"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// library is one that can be tortured.
type library struct {
	// open connects. It is called again until it succeeds.
	open   func(ctx context.Context, b brief) (l lock.Locker, done func(), err error)
	tokens bool // its leases have fencing tokens
}

// lockers by name. The others are used as somebody would who knows them; what they lack
// (waiting, renewing, electing) is put on them from this module's packages.
var lockers = map[string]library{
	"lockkeeper":  {openOurs, true},
	"redsync":     {openRedsync, false},
	"rueidislock": {openRueidislock, false},
}

func openOurs(ctx context.Context, b brief) (lock.Locker, func(), error) {
	if b.Store != "redlock" {
		return openStore(ctx, b)
	}
	l, err := redlock.Dial(ctx, b.URLs, &redlock.Options{
		Owner:  fmt.Sprintf("client-%d.%d", b.Client, b.Run),
		Quorum: b.Quorum, NodeTimeout: b.NodeTimeout, RestartGuard: b.Guard,
	})
	if err != nil {
		return nil, nil, err
	}
	return l, func() { _ = l.Close() }, nil
}

// redsyncLocker is redsync on rueidis, returning at the first majority. Its timeout for
// a node is its default, a twentieth of the ttl.
type redsyncLocker struct{ *redsync.Redsync }

func openRedsync(_ context.Context, b brief) (lock.Locker, func(), error) {
	var clients []rueidis.Client
	done := func() {
		for _, c := range clients {
			c.Close()
		}
	}
	var pools []redsyncredis.Pool
	for _, u := range b.URLs {
		option, err := rueidis.ParseURL(u)
		if err != nil {
			return nil, nil, err
		}
		option.ForceSingleClient, option.DisableCache, option.PipelineMultiplex = true, true, -1
		c, err := rueidis.NewClient(option)
		if err != nil {
			done()
			return nil, nil, err
		}
		clients = append(clients, c)
		pools = append(pools, redsyncrueidis.NewPool(rueidiscompat.NewAdapter(c)))
	}
	return redsyncLocker{redsync.New(pools...)}, done, nil
}

func (l redsyncLocker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	m := l.NewMutex("redlock:"+key, redsync.WithExpiry(ttl), redsync.WithFailFast(true))
	if err := m.TryLockContext(ctx); err != nil {
		return nil, outcome(ctx, err)
	}
	return &redsyncLease{m: m, until: m.Until()}, nil
}

// outcome is the error of an attempt in this module's terms.
func outcome(ctx context.Context, err error) error {
	if _, taken := errors.AsType[*redsync.ErrTaken](err); taken || errors.Is(err, rueidislock.ErrNotLocked) {
		return fmt.Errorf("%w: %v", lock.ErrHeld, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %v", ctx.Err(), err)
	}
	return fmt.Errorf("%w: %v", lock.ErrUnavailable, err)
}

// redsyncLease says itself when it is over: redsync reports its validity (Until), and
// leaves it to the caller to keep to it.
type redsyncLease struct {
	m *redsync.Mutex

	extending sync.Mutex // held during calls of m
	mu        sync.Mutex // guards all below
	until     time.Time
	over      bool
}

func (l *redsyncLease) Key() string { return l.m.Name() }
func (*redsyncLease) Token() uint64 { return 0 }

func (l *redsyncLease) Expiry() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return time.Time{}
	}
	return l.until
}

func (l *redsyncLease) Extend(ctx context.Context, _ time.Duration) error {
	l.extending.Lock()
	defer l.extending.Unlock()
	if !time.Now().Before(l.Expiry()) {
		return lock.ErrLost
	}
	ctx, cancel := context.WithDeadline(ctx, l.Expiry())
	defer cancel()
	ok, err := l.m.ExtendContext(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.over || !time.Now().Before(l.until): // too late, whatever it says
		return lock.ErrLost
	case !ok:
		return fmt.Errorf("%w: %v", lock.ErrUnavailable, err)
	}
	l.until = l.m.Until()
	return nil
}

func (l *redsyncLease) Release(ctx context.Context) error {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.extending.Lock()
	defer l.extending.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), nodeTimeout)
	defer cancel()
	if ok, err := l.m.UnlockContext(ctx); !ok {
		return fmt.Errorf("%w: %v", lock.ErrUnavailable, err)
	}
	return nil
}

// rueidislockLocker keeps each lock on one key of one node, the one that syncs every
// write to disk: it asks no more of the library than it says of itself.
type rueidislockLocker struct{ rueidislock.Locker }

func openRueidislock(_ context.Context, b brief) (lock.Locker, func(), error) {
	option, err := rueidis.ParseURL(b.URLs[0])
	if err != nil {
		return nil, nil, err
	}
	option.ForceSingleClient = true
	l, err := rueidislock.NewLocker(rueidislock.LockerOption{ClientOption: option, KeyValidity: b.MaxTTL, KeyMajority: 1,
		NoLoopTracking: true, TryNextAfter: b.NodeTimeout})
	if err != nil {
		return nil, nil, err
	}
	return rueidislockLocker{l}, l.Close, nil
}

func (l rueidislockLocker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	// The hold must not end with the attempt's ctx.
	held, release, err := l.TryWithContext(context.WithoutCancel(ctx), key)
	if err != nil {
		return nil, outcome(ctx, err)
	}
	return &rueidislockLease{key, held, release}, nil
}

// rueidislockLease lasts as long as its context, and reports no validity.
type rueidislockLease struct {
	key     string
	held    context.Context
	release context.CancelFunc
}

func (l *rueidislockLease) Key() string { return l.key }
func (*rueidislockLease) Token() uint64 { return 0 }
func (l *rueidislockLease) Alive() bool { return l.held.Err() == nil }

// Expiry is far off while the context is alive: the library renews by itself.
func (l *rueidislockLease) Expiry() time.Time {
	if l.held.Err() != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Hour)
}

func (l *rueidislockLease) Extend(context.Context, time.Duration) error {
	if l.held.Err() != nil {
		return lock.ErrLost
	}
	return nil
}

func (l *rueidislockLease) Release(context.Context) error {
	l.release()
	return nil
}
