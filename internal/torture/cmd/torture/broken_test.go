package main

import (
	"context"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// Lockers with one mistake each. They are in the clients too, which are this test
// program.
func init() {
	lockers["released without an owner check"] = library{open: broken(func(l lock.Lease, nodes []rueidis.Client) lock.Lease {
		return ownerless{l, nodes}
	}), tokens: true}
	lockers["valid for longer than the store keeps it"] = library{open: broken(func(l lock.Lease, _ []rueidis.Client) lock.Lease {
		return lateLease{l}
	}), tokens: true}
	lockers["one token for all"] = library{open: broken(func(l lock.Lease, _ []rueidis.Client) lock.Lease { return sameToken{l} }), tokens: true}
}

// broken is lockkeeper with its leases changed.
func broken(spoil func(lock.Lease, []rueidis.Client) lock.Lease) func(context.Context, brief) (lock.Locker, func(), error) {
	return func(ctx context.Context, b brief) (lock.Locker, func(), error) {
		good, done, err := openOurs(ctx, b)
		if err != nil {
			return nil, nil, err
		}
		var nodes []rueidis.Client
		for _, u := range b.URLs {
			if b.Store != "redlock" {
				break
			}
			// Where a node is down just now, this client does no harm there.
			if c, err := rueidis.NewClient(rueidis.MustParseURL(u)); err == nil {
				nodes = append(nodes, c)
			}
		}
		return spoiled{good, func(l lock.Lease) lock.Lease { return spoil(l, nodes) }}, func() {
			for _, c := range nodes {
				c.Close()
			}
			done()
		}, nil
	}
}

type spoiled struct {
	lock.Locker
	spoil func(lock.Lease) lock.Lease
}

func (s spoiled) Unwrap() lock.Locker { return s.Locker }

func (s spoiled) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := s.Locker.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return s.spoil(lease), nil
}

// As lets Acquire stand in the store's own queue.
func (s spoiled) As(target any) bool {
	return lock.PassAwaiter(target, s.Locker, func(inner lock.Awaiter) lock.Awaiter { return queuedSpoiled{s, inner} })
}

type queuedSpoiled struct {
	s     spoiled
	inner lock.Awaiter
}

func (q queuedSpoiled) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	lease, err := q.inner.Await(ctx, key, ttl, refused)
	if err != nil {
		return nil, err
	}
	return q.s.spoil(lease), nil
}

type ownerless struct {
	lock.Lease
	nodes []rueidis.Client
}

func (l ownerless) Release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), nodeTimeout)
	defer cancel()
	for _, c := range l.nodes {
		go c.Do(ctx, c.B().Del().Key("redlock:"+l.Key()).Build())
	}
	<-ctx.Done()
	return l.Lease.Release(ctx)
}

type lateLease struct{ lock.Lease }

func (l lateLease) Expiry() time.Time {
	if t := l.Lease.Expiry(); !t.IsZero() {
		return t.Add(maxTTL / 10)
	}
	return time.Time{}
}

type sameToken struct{ lock.Lease }

func (sameToken) Token() uint64 { return 7 }

// The torture sees what is wrong with each.
func TestBrokenLockersAreCaught(t *testing.T) {
	const exclusion = "at most one lease of a key is valid at a time"
	for _, test := range []struct{ store, name, want, faults string }{
		{"redlock", "released without an owner check", exclusion, "client: SIGSTOP"},
		{"redlock", "valid for longer than the store keeps it", exclusion, "client:"},
		{"redlock", "one token for all", "tokens are unique", "network:"},
		{"sqlite", "valid for longer than the store keeps it", exclusion, "client:"},
		{"file", "one token for all", "tokens are unique", "client:"},
	} {
		t.Run(test.store+" "+test.name, func(t *testing.T) {
			c := settings(t)
			if c.store = storeNamed(test.store); !c.store.some {
				c.nodes = 0
			}
			c.store.require(t)
			c.locker, c.noRolls, c.only = test.name, true, regexp.MustCompile(test.faults)
			c.duration, c.pace = 10*time.Second, 100*time.Millisecond
			var r report
			var rules []string
			for range 3 { // it takes a holder that wakes late: the machine decides
				r = tortured(t, c)
				for _, v := range r.violations {
					rules = append(rules, v.Rule)
				}
				if slices.Contains(rules, test.want) {
					break
				}
				c.seed++
			}
			require.Contains(t, rules, test.want)
			dir, err := r.keepIn(t.TempDir())
			require.NoError(t, err)
			require.ErrorIs(t, checkAgain(t.Output(), dir+"/history.json", dir+"/again.html"), errBroken)
		})
	}
}
