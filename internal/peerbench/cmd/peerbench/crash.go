package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// death is the end of one holder's process by SIGKILL.
type death struct {
	early time.Duration // from the dead holder's expiry to the next one's success
	known bool          // the dead holder's library reported its expiry
	late  time.Duration // from the expiry of the keys to the next one's success
}

// crash: the process that holds and renews a lock is killed, and another process
// waits for it.
func crash(ctx context.Context, b *bench) error {
	const ttl = time.Second
	at, err := b.places(ctx)
	if err != nil {
		return err
	}
	tries := b.scale(20, 2)
	var trips []time.Duration
	for range 200 {
		start := mono()
		if err := pingAll(ctx, b.observers); err != nil {
			return err
		}
		trips = append(trips, time.Duration(mono()-start))
	}
	trip := quantile(trips, 0.5)

	lanes := []*killing{
		{b: b, name: us, key: "redlock:crash", majority: 2, nodes: 3},
		{b: b, name: pushPeer, key: "rueidislock:0:crash", majority: 1, nodes: 1},
	}
	errs := make(chan error, len(lanes))
	for _, k := range lanes { // side by side: they mostly wait
		go func() { errs <- k.run(ctx, at, ttl, tries) }()
	}
	for range lanes {
		if e := <-errs; e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}

	b.printf("\n### The holder's process is killed (SIGKILL), ttl %v, renewed every %v\n\n", ttl, ttl/2)
	b.printf("The next holder's success, from the dead one's own `Expiry`, and from when its keys expired on so many nodes that a majority was free:\n\n")
	b.printf("| | earliest after its expiry | p50 after the keys | latest after the keys | kills |\n|---|---|---|---|---|\n")
	for _, k := range lanes {
		var early, late []time.Duration
		for _, d := range k.deaths {
			late = append(late, d.late)
			if d.known {
				early = append(early, d.early)
			}
		}
		stated := "not reported"
		if len(early) > 0 {
			stated = long(slices.Min(early))
		}
		b.printf("| %s | %s | %s | %s | %d |\n", libraries[k.name].title, stated, long(quantile(late, 0.5)), long(slices.Max(late)), len(late))
		if k.name == us {
			defer b.goals([]goal{
				{"never before the dead holder's expiry", "earliest " + long(slices.Min(early)) + " after it", slices.Min(early) >= 0},
				{"at most 50 ms + a round trip (" + long(trip) + ") after the keys", long(slices.Max(late)), slices.Max(late) <= 50*time.Millisecond+trip},
			})
		}
	}
	return nil
}

// killing kills the holders of one library, one after the other.
type killing struct {
	b        *bench
	name     string
	key      string // in Redis
	majority int    // of so many nodes
	nodes    int
	deaths   []death
}

func (k *killing) run(ctx context.Context, at places, ttl time.Duration, tries int) error {
	lock := order{Do: "lock", Library: k.name, Key: "crash"}
	open := order{Do: "open", Library: k.name, Places: at, TTL: ttl, Keep: true}
	holder, err := newWorker()
	if err != nil {
		return err
	}
	defer func() { holder.end() }()
	for _, o := range []order{open, lock} {
		if _, err := holder.ask(ctx, o); err != nil {
			return err
		}
	}
	for range tries {
		next, err := newWorker()
		if err != nil {
			return err
		}
		dead := holder
		holder = next // ends with this function
		if _, err := next.ask(ctx, open); err != nil {
			dead.end()
			return err
		}
		waiting := next.send(lock)
		time.Sleep(50*time.Millisecond + rand.N(ttl)) // anywhere between two renewals
		last, err := dead.ask(ctx, order{Do: "die", Library: k.name, Key: lock.Key})
		dead.end()
		if err != nil {
			return err
		}
		free, err := k.free(ctx)
		if err != nil {
			return err
		}
		got, err := await(ctx, lock, waiting)
		if err != nil {
			return err
		}
		k.deaths = append(k.deaths, death{time.Duration(got.At - last.Expiry), last.Expiry != 0, time.Duration(got.At - free)})
	}
	return nil
}

// free is when the key will have expired on enough nodes for a majority, by the time
// that it has left on each.
func (k *killing) free(ctx context.Context) (int64, error) {
	var ends []int64
	for _, c := range k.b.observers[:k.nodes] {
		asked := mono()
		left, err := c.Do(ctx, c.B().Pttl().Key(k.key).Build()).AsInt64()
		if err != nil {
			return 0, err
		}
		if left == -1 {
			return 0, fmt.Errorf("%s: %s never expires", k.name, k.key)
		}
		ends = append(ends, asked+int64(time.Duration(max(left, 0))*time.Millisecond))
	}
	slices.Sort(ends)
	return ends[k.majority-1], nil
}
