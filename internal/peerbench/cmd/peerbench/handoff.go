package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// handoff: two processes pass a lock to and fro, and the one that gets it has waited
// for it. The time is from just before one calls release to the other's success.
func handoff(ctx context.Context, b *bench) error {
	return b.handoffs(ctx, "Hand-off between two processes: from just before release to the waiter's success",
		[]string{us, pushPeer, etcdPeer, bsmPeer, syncPeer, ourFile, ourMem}, 1.5, 6)
}

// handoffs measures libraries, whose settings are named below the table. Ours are to take no
// more round trips than those given.
func (b *bench) handoffs(ctx context.Context, title string, names []string, half, most float64) error {
	workers, err := b.startWorkers(2)
	if err != nil {
		return err
	}
	names, done, err := b.stage(ctx, names, workers, waitTTL, false)
	defer done()
	if err != nil {
		return err
	}
	at, err := b.places(ctx)
	if err != nil {
		return err
	}
	rounds := b.scale(20, 2)
	each := func(name string) int { // hand-offs in a round
		switch {
		case libraries[name].poll > 0:
			return b.scale(4, 2)
		case name == etcdPeer:
			return b.scale(10, 3)
		case name == ourFile || name == ourMem:
			return b.scale(50, 5)
		}
		return b.scale(100, 5)
	}
	times := map[string][]time.Duration{}
	var paced, b2b []time.Duration // round trips
	early := 0
	stalled := map[string]error{}
	for round := range rounds {
		for k := range names {
			name := names[(round+k)%len(names)]
			if stalled[name] != nil {
				continue
			}
			pass := passing{b: b, name: name, at: at, workers: [2]*worker(workers), ping: name == us}
			if libraries[name].inside {
				pass.workers[1] = workers[0]
			}
			switch err := pass.run(ctx, each(name)); {
			case errors.Is(err, errSilent) && name != us:
				stalled[name] = err // a waiter that was never woken: reported below, and no reason to lose the rest
			case err != nil:
				return err
			}
			times[name] = append(times[name], pass.times...)
			paced = append(paced, pass.trips...)
			early += pass.early
		}
		r, err := workers[0].ask(ctx, order{Do: "ping", Places: at, Times: each(us)})
		if err != nil {
			return err
		}
		b2b = append(b2b, r.Each...)
	}

	trip := quantile(paced, 0.5)
	b.printf("\n### %s\n\n", title)
	b.printf("| | p50 | p99 | slowest | p50 in round trips | p99 in round trips | hand-offs |\n|---|---|---|---|---|---|---|\n")
	row := func(title string, d []time.Duration) {
		p50, p99 := quantile(d, 0.5), quantile(d, 0.99)
		b.printf("| %s | %s | %s | %s | %.1f | %.1f | %d |\n", title, long(p50), long(p99), long(slices.Max(d)), ratio(p50, trip), ratio(p99, trip), len(d))
	}
	for _, name := range names {
		if len(times[name]) == 0 { // a peer that loses its first wake-up in a short run
			b.printf("| %s | none seen | | | | | 0 |\n", libraries[name].title)
			continue
		}
		row(libraries[name].title, times[name])
	}
	if len(paced) > 0 {
		row("round trip: PING to all 3 nodes in parallel, amid the hand-offs", paced)
	}
	row("round trip, one right after the other", b2b)
	for name, err := range stalled {
		b.printf("\n%s has only %d hand-offs above: then %v.\n", libraries[name].title, len(times[name]), err)
	}
	if early > 0 {
		b.printf("\n%d hand-offs were left out: the waiter had only just begun.\n", early)
	}
	if ours, theirs := times[us], times[pushPeer]; len(ours) > 0 && len(theirs) > 0 {
		p50, p99 := quantile(ours, 0.5), quantile(ours, 0.99)
		goals := []goal{{fmt.Sprintf("p50 at most %.1f round trips", half), fmt.Sprintf("%.2f", ratio(p50, trip)), ratio(p50, trip) <= half}}
		if most > 0 {
			goals = append(goals, goal{fmt.Sprintf("p99 at most %.0f round trips", most), fmt.Sprintf("%.1f", ratio(p99, trip)), ratio(p99, trip) <= most})
		}
		b.goals(append(goals, goal{"p50 at most rueidislock's on one node", fmt.Sprintf("%.2f of it", ratio(p50, quantile(theirs, 0.5))), p50 <= quantile(theirs, 0.5)}))
	}
	b.settings(names)
	return nil
}

// passing is a block of hand-offs of one library.
type passing struct {
	b       *bench
	name    string
	at      places
	workers [2]*worker // the same twice: within one process
	ping    bool       // measure round trips amid the hand-offs

	times, trips []time.Duration
	early        int // hand-offs whose waiter may not have waited yet
}

// settled is how long a waiter must have waited for its hand-off to count: many times
// what it takes to be refused and to listen for notifications.
const settled = 6 * time.Millisecond

func (p *passing) run(ctx context.Context, n int) error {
	o := order{Do: "lock", Library: p.name, Key: "handoff"}
	if _, err := p.workers[0].ask(ctx, o); err != nil {
		return err
	}
	holder := 0
	for range n {
		waiting := p.workers[1-holder].send(o)
		if p.ping {
			r, err := p.workers[holder].ask(ctx, order{Do: "ping", Places: p.at, Times: 1})
			if err != nil {
				return err
			}
			p.trips = append(p.trips, r.Each...)
		}
		// At any moment of a poller's pause, not at the same one each time.
		time.Sleep(settled + 2*time.Millisecond + rand.N(max(libraries[p.name].poll, 4*time.Millisecond)))
		freed, err := p.workers[holder].ask(ctx, order{Do: "unlock", Library: p.name, Key: o.Key})
		if err != nil {
			return err
		}
		got, err := await(ctx, o, waiting)
		if err != nil {
			return err
		}
		if got.At < freed.Begun {
			return fmt.Errorf("%s: two holders: the second %v before the first began to release", p.name, time.Duration(freed.Begun-got.At))
		}
		if freed.Begun-got.Begun < int64(settled) {
			p.early++
		} else {
			p.times = append(p.times, time.Duration(got.At-freed.Begun))
		}
		holder = 1 - holder
	}
	_, err := p.workers[holder].ask(ctx, order{Do: "unlock", Library: p.name, Key: o.Key})
	return err
}
