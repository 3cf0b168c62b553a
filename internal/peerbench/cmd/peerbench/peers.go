package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	redsyncgoredis "github.com/go-redsync/redsync/v4/redis/goredis/v9"
	redsyncrueidis "github.com/go-redsync/redsync/v4/redis/rueidis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidiscompat"
	"github.com/redis/rueidis/rueidislock"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// ttl of every lock in the short benchmarks. It is redsync's default, whose
// timeout for a node is a share of it.
const ttl = 8 * time.Second

// peer takes locks in one library's way, as somebody would who knows it.
type peer struct {
	name string
	// acquire makes one attempt.
	acquire func(ctx context.Context, key string) (hold, error)
	close   func()
}

type hold interface {
	extend(ctx context.Context) error
	release(ctx context.Context) error
}

// keyOf gives each worker a few keys of its own: prepared, so that no contender
// pays for making them.
var keyOf = func() func(worker, i int) string {
	const workers, each = 128, 16
	var keys [workers * each]string
	for i := range keys {
		keys[i] = fmt.Sprintf("bench:%04d", i)
	}
	return func(worker, i int) string { return keys[worker%workers*each+i%each] }
}()

// cycle is a contender that acquires and releases.
func (p peer) cycle(workers int) contender {
	turns := make([]struct {
		n int
		_ [56]byte // a cache line each
	}, workers)
	return contender{p.name, func(ctx context.Context, worker int) error {
		turns[worker].n++
		h, err := p.acquire(ctx, keyOf(worker, turns[worker].n))
		if err != nil {
			return err
		}
		return h.release(ctx)
	}}
}

func closeAll(peers []peer) {
	for _, p := range peers {
		p.close()
	}
}

// ourOptions: the restart guard would make a server that has only just started wait; it
// costs the same work when it is off. One node's clients have another prefix than those
// of three, because the nodes refuse clients of one prefix with different nodes.
func ourOptions(addrs []string) *redlock.Options {
	return &redlock.Options{RestartGuard: -1, Prefix: fmt.Sprintf("redlock%d:", len(addrs))}
}

// ours is lockkeeper as redlock.Dial makes it.
func ours(ctx context.Context, addrs []string) (peer, error) {
	urls := make([]string, len(addrs))
	for i, a := range addrs {
		urls[i] = "redis://" + a
	}
	l, err := redlock.Dial(ctx, urls, ourOptions(addrs))
	if err != nil {
		return peer{}, err
	}
	return peer{
		name: "lockkeeper",
		acquire: func(ctx context.Context, key string) (hold, error) {
			lease, err := l.TryAcquire(ctx, key, ttl)
			return ourHold{lease}, err
		},
		close: func() { _ = l.Close() },
	}, nil
}

type ourHold struct{ lock.Lease }

func (h ourHold) extend(ctx context.Context) error  { return h.Extend(ctx, ttl) }
func (h ourHold) release(ctx context.Context) error { return h.Release(ctx) }

// rueidisOption is the same for every peer on rueidis: no client-side cache, which
// a lock does not use, and one connection a node, which is the fastest way on this
// load. The rest are rueidis' defaults.
func rueidisOption(addr string) rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1,
	}
}

func dialRueidis(addrs []string, option func(addr string) rueidis.ClientOption) (clients []rueidis.Client, done func(), err error) {
	done = func() {
		for _, c := range clients {
			c.Close()
		}
	}
	for _, a := range addrs {
		c, err := rueidis.NewClient(option(a))
		if err != nil {
			done()
			return nil, nil, err
		}
		clients = append(clients, c)
	}
	return clients, done, nil
}

// overRueidis is redsync on rueidis. As it comes, it waits for every node;
// WithFailFast makes it return at the first majority.
func overRueidis(addrs []string, name string, options ...redsync.Option) (peer, error) {
	clients, done, err := dialRueidis(addrs, rueidisOption)
	if err != nil {
		return peer{}, err
	}
	var pools []redsyncredis.Pool
	for _, c := range clients {
		pools = append(pools, redsyncrueidis.NewPool(rueidiscompat.NewAdapter(c)))
	}
	return redsyncPeer(name, pools, done, options), nil
}

// overGoRedis is redsync on go-redis, which by default does not look at a context's
// deadline while it waits for a reply.
func overGoRedis(addrs []string, name string, options ...redsync.Option) (peer, error) {
	var pools []redsyncredis.Pool
	var clients []*redis.Client
	for _, a := range addrs {
		c := redis.NewClient(&redis.Options{Addr: a, ContextTimeoutEnabled: true})
		clients = append(clients, c)
		pools = append(pools, redsyncgoredis.NewPool(c))
	}
	return redsyncPeer(name, pools, func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}, options), nil
}

func redsyncPeer(name string, pools []redsyncredis.Pool, done func(), options []redsync.Option) peer {
	rs := redsync.New(pools...)
	options = append([]redsync.Option{redsync.WithExpiry(ttl)}, options...)
	return peer{
		name: name,
		acquire: func(ctx context.Context, key string) (hold, error) {
			m := rs.NewMutex(key, options...)
			return redsyncHold{m}, m.TryLockContext(ctx)
		},
		close: done,
	}
}

type redsyncHold struct{ *redsync.Mutex }

func (h redsyncHold) extend(ctx context.Context) error {
	ok, err := h.ExtendContext(ctx)
	return refused(ok, err)
}

func (h redsyncHold) release(ctx context.Context) error {
	ok, err := h.UnlockContext(ctx)
	return refused(ok, err)
}

func refused(ok bool, err error) error {
	if !ok {
		return fmt.Errorf("redsync: refused: %w", err)
	}
	return nil // with a quorum, what a minority answered is of no matter
}

// overBSM is bsm/redislock on go-redis: one node.
func overBSM(addr string) peer {
	c := redis.NewClient(&redis.Options{Addr: addr})
	locker := redislock.New(c)
	return peer{
		name: "bsm/redislock",
		acquire: func(ctx context.Context, key string) (hold, error) {
			l, err := locker.Obtain(ctx, key, ttl, nil)
			return bsmHold{l}, err
		},
		close: func() { _ = c.Close() },
	}
}

type bsmHold struct{ *redislock.Lock }

func (h bsmHold) extend(ctx context.Context) error  { return h.Refresh(ctx, ttl, nil) }
func (h bsmHold) release(ctx context.Context) error { return h.Release(ctx) }

// newRueidislock keeps a lock on majority of 2*majority-1 keys, all of them on one
// node, and renews by itself. NoLoopTracking spares it notifications of its own writes;
// it needs Redis 7.0.5. TryNextAfter is how long it waits for a key: its default
// of 20ms is too short for ten thousand acquisitions at once on a busy machine.
func newRueidislock(addr string, majority int32, validity time.Duration) (rueidislock.Locker, error) {
	return rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption:   rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true},
		KeyValidity:    validity,
		KeyMajority:    majority,
		NoLoopTracking: true,
		TryNextAfter:   time.Second,
	})
}

// overRueidislock has no extend: rueidislock renews by itself.
func overRueidislock(addr string) (peer, error) {
	l, err := newRueidislock(addr, 1, ttl)
	if err != nil {
		return peer{}, err
	}
	return peer{
		name: "rueidislock",
		acquire: func(ctx context.Context, key string) (hold, error) {
			_, cancel, err := l.TryWithContext(ctx, key)
			return cancelHold(cancel), err
		},
		close: l.Close,
	}, nil
}

type cancelHold context.CancelFunc

func (h cancelHold) extend(context.Context) error { return nil }
func (h cancelHold) release(context.Context) error {
	h()
	return nil
}

// pings is the floor: two rounds of PING, all nodes in parallel, as an acquire and
// a release are at the least.
func pings(addrs []string) (contender, func(), error) {
	clients, done, err := dialRueidis(addrs, rueidisOption)
	if err != nil {
		return contender{}, nil, err
	}
	return contender{"floor: two parallel rounds of PING", func(ctx context.Context, _ int) error {
		return errors.Join(pingAll(ctx, clients), pingAll(ctx, clients))
	}}, done, nil
}

// pingAll is one round trip: all nodes are asked in parallel, and it waits for all.
func pingAll(ctx context.Context, clients []rueidis.Client) error {
	answers := make(chan error, len(clients))
	for _, c := range clients {
		go func() { answers <- c.Do(ctx, c.B().Ping().Build()).Error() }()
	}
	var err error
	for range clients {
		err = errors.Join(err, <-answers)
	}
	return err
}
