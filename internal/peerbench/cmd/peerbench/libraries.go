package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	redsyncrueidis "github.com/go-redsync/redsync/v4/redis/rueidis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis/rueidiscompat"
	"github.com/redis/rueidis/rueidislock"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/tonsurance/lockkeeper/backends/file"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// places are where the stores are.
type places struct {
	Redis []string // host:port of the nodes
	Etcd  string   // URL; "" where there is none
	Dir   string   // for locks in files
}

// waiter waits for locks in one library's way.
type waiter interface {
	// lock waits until it holds key.
	lock(ctx context.Context, key string) (holding, error)
	close()
}

// holding is a lock that is held.
type holding struct {
	unlock func(context.Context) error
	expiry func() time.Time // until when it is certain; nil where the library does not report it
}

// library is a library as the tables name it.
type library struct {
	title  string        // of its rows
	detail string        // its settings
	poll   time.Duration // the longest pause between its questions; 0: notifications wake it
	inside bool          // it works within one process only
	// open connects. keep means that holders renew.
	open func(ctx context.Context, at places, ttl time.Duration, keep bool) (waiter, error)
}

// waitTTL of every lock that nobody renews: longer than any of them is held.
const waitTTL = 30 * time.Second

// The names of libraries.
const (
	us       = "lockkeeper"
	pushPeer = "rueidislock"
	etcdPeer = "etcd"
	syncPeer = "redsync"
	bsmPeer  = "bsm"
	ourFile  = "file"
	ourMem   = "memory"
)

var libraries map[string]library

func init() { // not in the declaration: actors refer to it
	libraries = map[string]library{
		us: {"lockkeeper, 3 nodes", "lock.Acquire over redlock.Dial, no options", 0, false, openOurs},
		pushPeer: {"rueidislock, one node", "one key, no loop tracking, try next after 1 s, else defaults: renews at half of the validity",
			0, false, openRueidislock},
		etcdPeer: {"etcd mutex, one member", "concurrency.Mutex, a session each of 30 s; the member syncs to disk, as it comes",
			0, false, openEtcd},
		syncPeer: {"redsync, 3 nodes", "on rueidis, polls at its default, every 50 to 250 ms at random", 250 * time.Millisecond, false, openRedsync},
		bsmPeer: {"bsm/redislock, one node", "on go-redis, polls every 100 ms (LinearBackoff of its documentation)",
			100 * time.Millisecond, false, openBSM},
		ourFile: {"lockkeeper, files", "lock.Acquire over backends/file, no options", 0, false, func(_ context.Context, at places, ttl time.Duration, keep bool) (waiter, error) {
			l, err := file.New(at.Dir, nil)
			return ourWaiter{l, ttl, keep}, err
		}},
		ourMem: {"lockkeeper, memory", "lock.Acquire over backends/memory, two goroutines", 0, true, func(_ context.Context, _ places, ttl time.Duration, keep bool) (waiter, error) {
			return ourWaiter{memory.New(), ttl, keep}, nil
		}},
	}
}

// ourWaiter is lockkeeper over any backend.
type ourWaiter struct {
	l    lock.Locker
	ttl  time.Duration
	keep bool
}

func openOurs(ctx context.Context, at places, ttl time.Duration, keep bool) (waiter, error) {
	urls := make([]string, len(at.Redis))
	for i, a := range at.Redis {
		urls[i] = "redis://" + a
	}
	// The restart guard would make servers that have only just started wait.
	l, err := redlock.Dial(ctx, urls, &redlock.Options{RestartGuard: -1})
	return ourWaiter{l, ttl, keep}, err
}

func (w ourWaiter) lock(ctx context.Context, key string) (holding, error) {
	lease, err := lock.Acquire(ctx, w.l, key, w.ttl, nil)
	if err != nil {
		return holding{}, err
	}
	if w.keep {
		k, err := keepalive.Start(ctx, lease, w.ttl, nil)
		if err != nil {
			return holding{}, errors.Join(err, lease.Release(ctx))
		}
		lease = k
	}
	return holding{lease.Release, lease.Expiry}, nil
}

func (w ourWaiter) locker() lock.Locker { return w.l }

func (w ourWaiter) close() {
	if c, ok := w.l.(io.Closer); ok {
		_ = c.Close()
	}
}

type rueidislockWaiter struct{ rueidislock.Locker }

func openRueidislock(_ context.Context, at places, ttl time.Duration, _ bool) (waiter, error) {
	l, err := newRueidislock(at.Redis[0], 1, ttl)
	return rueidislockWaiter{l}, err
}

func (w rueidislockWaiter) lock(ctx context.Context, key string) (holding, error) {
	// The hold ends with ctx too: contenders end at the same time.
	_, cancel, err := w.WithContext(ctx, key)
	if err != nil {
		return holding{}, err
	}
	return holding{unlock: func(context.Context) error { cancel(); return nil }}, nil
}

func (w rueidislockWaiter) close() { w.Close() }

// etcdWaiter takes a session for each lock: a session is one owner, who would be let in
// twice.
type etcdWaiter struct {
	client *clientv3.Client
	ttl    time.Duration
	idle   chan *concurrency.Session
}

func openEtcd(_ context.Context, at places, ttl time.Duration, _ bool) (waiter, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{at.Etcd}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	return &etcdWaiter{c, ttl, make(chan *concurrency.Session, 256)}, err
}

func (w *etcdWaiter) lock(ctx context.Context, key string) (holding, error) {
	var s *concurrency.Session
	select {
	case s = <-w.idle:
	default:
		var err error
		s, err = concurrency.NewSession(w.client, concurrency.WithTTL(int(w.ttl/time.Second)))
		if err != nil {
			return holding{}, err
		}
	}
	m := concurrency.NewMutex(s, key)
	if err := m.Lock(ctx); err != nil {
		return holding{}, errors.Join(err, s.Close())
	}
	return holding{unlock: func(ctx context.Context) error {
		err := m.Unlock(ctx)
		w.idle <- s
		return err
	}}, nil
}

func (w *etcdWaiter) close() {
	close(w.idle)
	for s := range w.idle {
		_ = s.Close()
	}
	_ = w.client.Close()
}

type redsyncWaiter struct {
	*redsync.Redsync
	ttl  time.Duration
	done func()
}

func openRedsync(_ context.Context, at places, ttl time.Duration, _ bool) (waiter, error) {
	clients, done, err := dialRueidis(at.Redis, rueidisOption)
	if err != nil {
		return nil, err
	}
	var pools []redsyncredis.Pool
	for _, c := range clients {
		pools = append(pools, redsyncrueidis.NewPool(rueidiscompat.NewAdapter(c)))
	}
	return redsyncWaiter{redsync.New(pools...), ttl, done}, nil
}

func (w redsyncWaiter) lock(ctx context.Context, key string) (holding, error) {
	m := w.NewMutex(key, redsync.WithExpiry(w.ttl), redsync.WithTries(1<<30))
	if err := m.LockContext(ctx); err != nil {
		return holding{}, err
	}
	return holding{unlock: func(ctx context.Context) error { return redsyncHold{m}.release(ctx) }}, nil
}

func (w redsyncWaiter) close() { w.done() }

type bsmWaiter struct {
	client *redis.Client
	locker *redislock.Client
	ttl    time.Duration
}

func openBSM(_ context.Context, at places, ttl time.Duration, _ bool) (waiter, error) {
	c := redis.NewClient(&redis.Options{Addr: at.Redis[0]})
	return bsmWaiter{c, redislock.New(c), ttl}, nil
}

func (w bsmWaiter) lock(ctx context.Context, key string) (holding, error) {
	// Without a deadline of the context it would give up after the ttl.
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	l, err := w.locker.Obtain(ctx, key, w.ttl, &redislock.Options{RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond)})
	if err != nil {
		return holding{}, err
	}
	return holding{unlock: l.Release}, nil
}

func (w bsmWaiter) close() { _ = w.client.Close() }

// stage opens the libraries of those names with the workers, leaves out those who can't
// be there, and gives the rest and a function that closes them.
func (b *bench) stage(ctx context.Context, names []string, workers []*worker, ttl time.Duration, keep bool) (there []string, done func(), err error) {
	at, err := b.places(ctx)
	done = func() {
		for _, name := range there {
			_, _ = all(ctx, workers, order{Do: "close", Library: name})
		}
	}
	if err != nil {
		return nil, done, err
	}
	for _, name := range names {
		if name == etcdPeer && at.Etcd == "" {
			continue // settings says so
		}
		if b.only != nil && !b.only.MatchString(libraries[name].title) {
			continue
		}
		if _, err := all(ctx, workers, order{Do: "open", Library: name, Places: at, TTL: ttl, Keep: keep}); err != nil {
			return there, done, err
		}
		there = append(there, name)
	}
	return there, done, nil
}

// settings says under a table how its peers were set up.
func (b *bench) settings(names []string) {
	b.printf("\n")
	for _, name := range names {
		b.printf("- %s: %s.\n", libraries[name].title, libraries[name].detail)
	}
	if slices.Contains(names, etcdPeer) && b.at != nil && b.at.Etcd == "" {
		b.printf("- etcd mutex: left out, etcd is not installed here.\n")
	}
}

// places are those of this bench: etcd starts when it is first asked for.
func (b *bench) places(ctx context.Context) (places, error) {
	if b.at != nil {
		return *b.at, nil
	}
	dir, err := os.MkdirTemp("", "peerbench-")
	if err != nil {
		return places{}, err
	}
	b.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	etcd, err := b.startEtcd(ctx, dir)
	if err != nil {
		return places{}, fmt.Errorf("etcd: %w", err)
	}
	b.at = &places{Redis: b.addrs, Etcd: etcd, Dir: dir + "/locks"}
	return *b.at, nil
}
