package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/internal/redistest"
)

const (
	dark    = 2 * time.Second  // how long no byte passes
	forlorn = 15 * time.Second // nobody waits longer for a waiter
)

// outage is one library's waiter behind connections that fail in one way.
type outage struct {
	b       *bench
	name    string
	how     string
	set     func(*redistest.Proxy, bool)
	proxies []*redistest.Proxy
	prefix  string // of its keys in Redis
	times   []time.Duration
}

// blackout: no byte passes for 2 s, and meanwhile the lock that a waiter wants is
// deleted on the nodes. The time is from the return of the connections to its lease.
func blackout(ctx context.Context, b *bench) error {
	swallow := (*redistest.Proxy).Blackhole
	keep := (*redistest.Proxy).Hold
	var lanes []*outage
	for _, l := range []outage{
		{name: us, how: "bytes are lost: a connection that was used stays silent for good", set: swallow},
		{name: us, how: "bytes come late, as TCP sends them again", set: keep},
		{name: pushPeer, how: "bytes are lost", set: swallow},
		{name: pushPeer, how: "bytes come late", set: keep},
	} {
		l.b, l.prefix = b, "redlock:"
		addrs := b.addrs
		if l.name == pushPeer {
			l.prefix, addrs = "rueidislock:0:", addrs[:1]
		}
		for _, a := range addrs {
			l.proxies = append(l.proxies, redistest.NewProxy(b.t, a))
		}
		lanes = append(lanes, &l)
	}
	errs := make(chan error, len(lanes))
	for i, l := range lanes { // side by side: they mostly wait
		go func() { errs <- l.run(ctx, fmt.Sprintf("blackout-%d", i), b.scale(5, 1)) }()
	}
	var err error
	for range lanes {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	b.printf("\n### A black-out of all connections for %v, in which the lock is freed\n\n", dark)
	b.printf("From the return of the connections to the waiter's lease:\n\n| | black-out | p50 | slowest | tries |\n|---|---|---|---|---|\n")
	var slowest time.Duration
	for _, l := range lanes {
		worst := slices.Max(l.times)
		if l.name == us {
			slowest = max(slowest, worst)
		}
		b.printf("| %s | %s | %s | %s | %d |\n", libraries[l.name].title, l.how, bounded(quantile(l.times, 0.5)), bounded(worst), len(l.times))
	}
	b.goals([]goal{{"the waiter has it within 1 s of the connections' return", "slowest " + bounded(slowest), slowest <= time.Second}})
	return nil
}

func bounded(d time.Duration) string {
	if d >= forlorn {
		return "over " + long(forlorn)
	}
	return long(d)
}

func (l *outage) run(ctx context.Context, key string, tries int) error {
	direct := places{Redis: l.b.addrs}
	holder, err := libraries[l.name].open(ctx, direct, waitTTL, false)
	if err != nil {
		return err
	}
	defer holder.close()
	through := places{Redis: redistestAddrs(l.proxies)}
	for i := range tries {
		d, err := l.try(ctx, holder, through, fmt.Sprintf("%s-%d", key, i))
		if err != nil {
			return fmt.Errorf("%s, %s: %w", l.name, l.how, err)
		}
		l.times = append(l.times, d)
	}
	return nil
}

func redistestAddrs(proxies []*redistest.Proxy) (addrs []string) {
	for _, p := range proxies {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

func (l *outage) try(ctx context.Context, holder waiter, through places, key string) (time.Duration, error) {
	w, err := libraries[l.name].open(ctx, through, waitTTL, false)
	if err != nil {
		return 0, err
	}
	defer w.close()
	held, err := holder.lock(ctx, key)
	if err != nil {
		return 0, err
	}
	defer func() { _ = held.unlock(context.WithoutCancel(ctx)) }() // it is gone, of course

	ctx, cancel := context.WithTimeout(ctx, 2*dark+forlorn)
	defer cancel()
	type success struct {
		at  int64
		err error
	}
	got := make(chan success, 1)
	go func() {
		h, err := w.lock(ctx, key)
		s := success{mono(), err}
		if err == nil {
			_ = h.unlock(context.WithoutCancel(ctx))
		}
		got <- s
	}()
	time.Sleep(500 * time.Millisecond)
	l.dark(true)
	time.Sleep(dark / 4)
	err = l.delete(ctx, key)
	time.Sleep(dark * 3 / 4)
	l.dark(false)
	back := mono()
	if err != nil {
		cancel()
		<-got
		return 0, err
	}
	select {
	case s := <-got:
		if s.err != nil {
			return 0, s.err
		}
		if s.at < back {
			return 0, errors.New("a lease came through the black-out")
		}
		return time.Duration(s.at - back), nil
	case <-time.After(forlorn):
		cancel()
		<-got
		return forlorn, nil
	}
}

func (l *outage) dark(on bool) {
	for _, p := range l.proxies {
		l.set(p, on)
	}
}

// delete frees the lock on the nodes, past the proxies.
func (l *outage) delete(ctx context.Context, key string) error {
	gone := int64(0)
	for _, c := range l.b.observers[:len(l.proxies)] {
		n, err := c.Do(ctx, c.B().Del().Key(l.prefix+key).Build()).AsInt64()
		if err != nil {
			return err
		}
		gone += n
	}
	if gone < int64(len(l.proxies)/2+1) {
		return fmt.Errorf("the holder's key %s%s was on %d of %d nodes", l.prefix, key, gone, len(l.proxies))
	}
	return nil
}
