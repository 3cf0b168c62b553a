package redlock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// servers are three in this process; yours are "redis://10.0.0.1:6379" and so on. What
// they count from is the clock's microseconds, as on a real one.
func servers() (urls []string, nodes []*miniredis.Miniredis, stop func()) {
	for range 3 {
		m := miniredis.NewMiniRedis()
		if err := m.Start(); err != nil {
			panic(err)
		}
		nodes, urls = append(nodes, m), append(urls, "redis://"+m.Addr())
	}
	return urls, nodes, func() {
		for _, m := range nodes {
			m.Close()
		}
	}
}

// One job at a time, wherever it is started, renewed for as long as it runs.
func ExampleDial() {
	urls, _, stop := servers()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	locker, err := redlock.Dial(ctx, urls, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer locker.Close()
	err = keepalive.Do(ctx, locker, "nightly-report", 30*time.Second, func(ctx context.Context) error {
		fmt.Println("reporting, with a fencing token:", lock.Token(ctx) > 0)
		return ctx.Err()
	}, nil)
	fmt.Println("done:", err)
	// Output:
	// reporting, with a fencing token: true
	// done: <nil>
}

// One node of three is down: locks are granted and freed. Two are down: the error says
// so, and names each node's own reason.
func ExampleLocker_TryAcquire() {
	urls, nodes, stop := servers()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	locker, err := redlock.Dial(ctx, urls, &redlock.Options{Owner: "host-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer locker.Close()

	nodes[0].Close()
	lease, err := locker.TryAcquire(ctx, "prices", 10*time.Second)
	fmt.Println("one down:", err)
	_, err = locker.TryAcquire(ctx, "prices", 10*time.Second)
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		fmt.Println("held by", held.Holder)
	}
	fmt.Println("released:", lease.Release(ctx))

	nodes[1].Close()
	_, err = locker.TryAcquire(ctx, "prices", 10*time.Second)
	fmt.Println("two down:", errors.Is(err, lock.ErrUnavailable))
	// Output:
	// one down: <nil>
	// held by host-1
	// released: <nil>
	// two down: true
}

// What each node has of a key, for an operator.
func ExampleLocker_View() {
	urls, nodes, stop := servers()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	locker, err := redlock.Dial(ctx, urls, &redlock.Options{Owner: "host-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer locker.Close()
	if err := nodes[0].Set("redlock:prices", "set by hand"); err != nil {
		fmt.Println(err)
		return
	}
	lease, err := locker.TryAcquire(ctx, "prices", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer lease.Release(ctx)

	view, err := locker.View(ctx, "prices")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s by %s, on %d of %d nodes\n", view.State, view.Holder, view.Votes(), len(view.Nodes))
	// Output: held by host-1, on 2 of 3 nodes
}
