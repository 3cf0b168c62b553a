package main

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// contention is a time in which callers compete for one key: each caller takes it, holds it, frees it
// and waits for it again. With n+1 callers, n wait at any time.
type contention struct {
	library string
	workers []*worker
	callers int // in each worker
	hold    time.Duration
	rest    time.Duration // after each term: without, a poller takes back what it freed
	length  time.Duration
}

// turn is a term, and whose it was.
type turn struct {
	term
	who int
}

// tally is what came of it.
type tally struct {
	turns    []turn // in the order in which they got the lock
	waiting  []turn // who had not got it in the end
	from, to int64  // between two looks at the commands
	end      int64
	commands []calls // meanwhile, by node
	pings    float64
}

func (b *bench) contend(ctx context.Context, f contention) (t tally, err error) {
	const warmUp = 5 // the first fifth is for getting into step
	start := mono() + int64(20*time.Millisecond)
	t.end = start + int64(f.length)
	o := order{Do: "contend", Library: f.library, Key: "contended", Times: f.callers, Hold: f.hold, Rest: f.rest, Start: start, End: t.end}
	answers := make([]<-chan report, len(f.workers))
	for i, p := range f.workers {
		answers[i] = p.send(o)
	}
	time.Sleep(untilMono(start) + f.length/warmUp)
	before, err := b.commands(ctx)
	if err != nil {
		return t, err
	}
	t.from = mono()
	time.Sleep(untilMono(t.end) - f.length/20)
	after, err := b.commands(ctx)
	if err != nil {
		return t, err
	}
	t.to = mono()
	t.commands, t.pings = since(before, after)
	for i, answer := range answers {
		r, err := await(ctx, o, answer)
		if err != nil {
			return t, err
		}
		for _, term := range r.Terms {
			switch {
			case term.Got == 0:
				t.waiting = append(t.waiting, turn{term, i})
			case term.Freed <= t.end: // later, the end had cut it short
				t.turns = append(t.turns, turn{term, i})
			}
		}
	}
	slices.SortFunc(t.turns, func(a, b turn) int { return cmp.Compare(a.Got, b.Got) })
	return t, nil
}

// handoffs are the times from a release to the success of one who had waited for it,
// while commands were counted. overlaps counts those who had the lock before it was
// released.
func (t tally) handoffs() (times []time.Duration, overlaps int) {
	for i := 1; i < len(t.turns); i++ {
		d := t.turns[i].Got - t.turns[i-1].Freed
		if d < 0 {
			overlaps++
		}
		waited := t.turns[i].Begun < t.turns[i-1].Freed
		if at := t.turns[i].Got; waited && at >= t.from && at <= t.to {
			times = append(times, time.Duration(d))
		}
	}
	return times, overlaps
}
