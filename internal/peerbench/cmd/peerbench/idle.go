package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// counted counts the renewals of a lease.
type counted struct {
	lock.Lease
	n atomic.Int64
}

func (c *counted) Extend(ctx context.Context, ttl time.Duration) error {
	c.n.Add(1)
	return c.Lease.Extend(ctx, ttl)
}

// idle: one holds a lock and renews it, another waits for it, and nothing happens.
func idle(ctx context.Context, b *bench) error {
	const ttl = 3 * time.Second
	length := time.Duration(b.scale(10, 3)) * time.Second
	b.printf("\n### An idle holder and an idle waiter, for %v; ttl %v, renewed every %v\n\n", length, ttl, ttl/2)
	b.printf("| | renewals | commands on each node | of these beyond the renewals | PINGs of the client library, all nodes |\n|---|---|---|---|---|\n")
	beyond, err := b.ourIdle(ctx, ttl, length)
	if err != nil {
		return err
	}
	if err := b.rueidislockIdle(ctx, ttl, length); err != nil {
		return err
	}
	n := total(beyond)
	b.goals([]goal{{"no commands but the renewals", fmt.Sprintf("%.0f others", n), n == 0}})
	b.printf("\nCommands are those of INFO commandstats: a script counts, and each command that it runs. What one renewal runs was counted before, alone.\n")
	return nil
}

// watchIdle starts a waiter, lets it settle, and gives the commands of the time after.
func (b *bench) watchIdle(ctx context.Context, w waiter, length time.Duration, each func()) (nodes []calls, pings float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		h, err := w.lock(ctx, "idle")
		if err == nil {
			err = errors.Join(errors.New("the waiter got a held lock"), h.unlock(context.WithoutCancel(ctx)))
		}
		done <- err
	}()
	defer func() {
		cancel()
		if e := <-done; e != nil && err == nil && !errors.Is(e, context.Canceled) {
			err = e
		}
	}()
	time.Sleep(2 * time.Second)
	before, err := b.commands(ctx)
	if err != nil {
		return nil, 0, err
	}
	each()
	time.Sleep(length)
	after, err := b.commands(ctx)
	if err != nil {
		return nil, 0, err
	}
	each()
	nodes, pings = since(before, after)
	return nodes, pings, nil
}

func (b *bench) ourIdle(ctx context.Context, ttl, length time.Duration) (beyond []calls, err error) {
	at := places{Redis: b.addrs}
	var both [2]ourWaiter
	for i := range both {
		w, err := openOurs(ctx, at, ttl, true)
		if err != nil {
			return nil, err
		}
		defer w.close()
		both[i] = w.(ourWaiter)
	}
	l, err := both[0].l.TryAcquire(ctx, "idle", ttl)
	if err != nil {
		return nil, err
	}
	lease := &counted{Lease: l}

	// One renewal alone, by what several need: counters that come now and then even out.
	const alone = 4
	err = lease.Extend(ctx, ttl)       // the first one brings its script to the nodes
	time.Sleep(100 * time.Millisecond) // what that and acquiring left in the background is done
	before, e := b.commands(ctx)
	err = errors.Join(err, e)
	for range alone {
		err = errors.Join(err, lease.Extend(ctx, ttl))
		time.Sleep(50 * time.Millisecond)
	}
	after, e := b.commands(ctx)
	if err = errors.Join(err, e); err != nil {
		return nil, err
	}
	renewal, _ := since(before, after)

	k, err := keepalive.Start(ctx, lease, ttl, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.Release(ctx)) }()
	var counts []int64
	nodes, pings, err := b.watchIdle(ctx, both[1], length, func() { counts = append(counts, lease.n.Load()) })
	if err != nil {
		return nil, err
	}
	renewals := float64(counts[1] - counts[0])
	for i, c := range nodes {
		left := maps.Clone(c)
		for name, n := range renewal[i] {
			if left[name] -= renewals * n / alone; left[name] == 0 {
				delete(left, name)
			}
		}
		beyond = append(beyond, left)
	}
	b.idleRow(libraries[us].title, fmt.Sprintf("%.0f", renewals), nodes, beyond, pings)
	return beyond, nil
}

func (b *bench) rueidislockIdle(ctx context.Context, ttl, length time.Duration) error {
	at := places{Redis: b.addrs}
	var both [2]waiter
	for i := range both {
		w, err := openRueidislock(ctx, at, ttl, true)
		if err != nil {
			return err
		}
		defer w.close()
		both[i] = w
	}
	h, err := both[0].lock(ctx, "idle")
	if err != nil {
		return err
	}
	nodes, pings, err := b.watchIdle(ctx, both[1], length, func() {})
	if err != nil {
		return err
	}
	b.idleRow(libraries[pushPeer].title, fmt.Sprintf("about %.0f", float64(length)/float64(ttl/2)), nodes[:1], nil, pings)
	return h.unlock(ctx)
}

func (b *bench) idleRow(title, renewals string, nodes, beyond []calls, pings float64) {
	lists := func(nodes []calls) string {
		var parts []string
		same := true
		for _, c := range nodes {
			parts = append(parts, c.list())
			same = same && parts[0] == c.list()
		}
		if same && len(parts) > 0 {
			return parts[0]
		}
		return strings.Join(parts, "; ")
	}
	left := "not distinguished"
	if beyond != nil {
		left = lists(beyond)
	}
	b.printf("| %s | %s | %s | %s | %.0f |\n", title, renewals, lists(nodes), left, pings)
}
