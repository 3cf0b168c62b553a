package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// contender does one piece of work in one way.
type contender struct {
	name string
	// op does it once. worker distinguishes concurrent calls, from 0.
	op func(ctx context.Context, worker int) error
}

// result is what one contender needed, over all rounds.
type result struct {
	name   string
	time   spread  // of one op, in ns
	cpu    float64 // of this process
	server float64 // CPU of the servers
	allocs float64
	bytes  float64
	ratio  spread // of its time to the reference's in the same round
	failed int    // ops that ended in an error; they count like the others
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
	// servers reports the CPU time that the servers have used; nil if there are none.
	servers func(context.Context) (time.Duration, error)
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
		if _, err := runBlock(ctx, plan{rounds: 1, block: max(p.block/4, 1), workers: p.workers}, c); err != nil { // warms up
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
			r.failed += used.failed
			r.cpu += float64(used.cpu) / ops
			r.server += float64(used.server) / ops
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
	wall, cpu, server time.Duration
	allocs, bytes     uint64
	failed            int
}

func runBlock(ctx context.Context, p plan, c contender) (used usage, err error) {
	var before, after runtime.MemStats
	if ctx.Err() != nil {
		return used, context.Cause(ctx)
	}
	if p.servers != nil {
		from, e := p.servers(ctx)
		if e != nil {
			return used, e
		}
		defer func() {
			to, e := p.servers(ctx)
			used.server = to - from
			err = errors.Join(err, e)
		}()
	}
	runtime.ReadMemStats(&before)
	cpu, start := processCPU(), time.Now()
	// Without a Done channel: that suits rueidis best.
	used.failed, err = c.run(context.WithoutCancel(ctx), p)
	used.wall, used.cpu = time.Since(start), processCPU()-cpu
	runtime.ReadMemStats(&after)
	used.allocs, used.bytes = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	if err != nil {
		return used, fmt.Errorf("%s: %w", c.name, err)
	}
	return used, nil
}

// run does a block. A busy machine makes some calls time out, so that is reported in
// the table; if all of them fail, so does the block.
func (c contender) run(ctx context.Context, p plan) (failed int, err error) {
	work := func(worker int) (failed int, last error) {
		for range p.block {
			if err := c.op(ctx, worker); err != nil {
				failed, last = failed+1, err
			}
		}
		return failed, last
	}
	if p.workers == 1 {
		failed, err = work(0)
	} else {
		var wg sync.WaitGroup
		counts, errs := make([]int, p.workers), make([]error, p.workers)
		for i := range p.workers {
			wg.Go(func() { counts[i], errs[i] = work(i) })
		}
		wg.Wait()
		for i := range counts {
			failed += counts[i]
			if errs[i] != nil {
				err = errs[i]
			}
		}
	}
	if failed == p.block*p.workers {
		return failed, err
	}
	return failed, nil
}
