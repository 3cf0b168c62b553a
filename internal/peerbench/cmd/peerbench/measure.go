package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// contender does one piece of work in one way.
type contender struct {
	name string
	// op does it once. worker tells concurrent calls apart, from 0.
	op func(ctx context.Context, worker int) error
}

// result is what one contender needed, over all rounds.
type result struct {
	name   string
	time   spread // of one op, in ns
	cpu    float64
	allocs float64
	bytes  float64
	ratio  spread // of its time to the reference's in the same round
}

// spread is a median with its quartiles.
type spread struct{ low, median, high float64 }

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		return spread{}
	}
	at := func(part float64) float64 { return v[int(part*float64(len(v)-1)+0.5)] }
	return spread{at(0.25), at(0.5), at(0.75)}
}

// plan says how much to measure.
type plan struct {
	rounds  int
	block   int // ops of one contender in one round, of each worker
	workers int // concurrent callers
}

// alternate lets the contenders take turns in short blocks, so that whatever
// else the machine does meanwhile meets all of them alike. Ratios are taken
// within a round, against contender number reference. The order turns with each
// round.
func alternate(ctx context.Context, p plan, reference int, contenders []contender) ([]result, error) {
	n := len(contenders)
	times := make([][]float64, n)
	results := make([]result, n)
	for i, c := range contenders {
		if _, err := runBlock(ctx, plan{1, max(p.block/4, 1), p.workers}, c); err != nil { // warms up
			return nil, err
		}
		results[i].name = c.name
	}
	ops := float64(p.rounds * p.block * p.workers)
	for round := range p.rounds {
		for k := range n {
			i := (round + k) % n
			used, err := runBlock(ctx, p, contenders[i])
			if err != nil {
				return nil, err
			}
			r := &results[i]
			times[i] = append(times[i], float64(used.wall)/float64(p.block*p.workers))
			r.cpu += float64(used.cpu) / ops
			r.allocs += float64(used.allocs) / ops
			r.bytes += float64(used.bytes) / ops
		}
	}
	for i := range results {
		ratios := make([]float64, p.rounds)
		for round := range ratios {
			ratios[round] = times[i][round] / times[reference][round]
		}
		results[i].time, results[i].ratio = spreadOf(times[i]), spreadOf(ratios)
	}
	return results, nil
}

// usage is what a block took.
type usage struct {
	wall, cpu     time.Duration
	allocs, bytes uint64
}

func runBlock(ctx context.Context, p plan, c contender) (usage, error) {
	var before, after runtime.MemStats
	if ctx.Err() != nil {
		return usage{}, context.Cause(ctx)
	}
	runtime.ReadMemStats(&before)
	cpu, start := processCPU(), time.Now()
	// Without a Done channel: that suits rueidis best, whoever calls it.
	err := c.run(context.WithoutCancel(ctx), p)
	used := usage{wall: time.Since(start), cpu: processCPU() - cpu}
	runtime.ReadMemStats(&after)
	used.allocs, used.bytes = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	if err != nil {
		return used, fmt.Errorf("%s: %w", c.name, err)
	}
	return used, nil
}

func (c contender) run(ctx context.Context, p plan) error {
	work := func(worker int) error {
		for range p.block {
			if err := c.op(ctx, worker); err != nil {
				return err
			}
		}
		return nil
	}
	if p.workers == 1 {
		return work(0)
	}
	var wg sync.WaitGroup
	errs := make([]error, p.workers)
	for i := range p.workers {
		wg.Go(func() { errs[i] = work(i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
