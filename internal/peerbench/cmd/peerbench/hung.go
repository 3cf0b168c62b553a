package main

import (
	"context"
	"fmt"
	"time"
)

// callTimeout bounds one call of a peer that would wait for a hung node for ever.
func (b *bench) callTimeout() time.Duration { return time.Duration(b.scale(15, 1)) * time.Second }

// phases of a hold.
const (
	acquiring = iota
	extending
	releasing
	phases
)

// hung: one of three nodes is stopped (SIGSTOP) and each call is timed, in turns
// with all nodes up. The caller's context has no deadline shorter than 15 s: a
// library must bound the wait by itself.
func hung(ctx context.Context, b *bench) error {
	peers, err := quorumPeers(ctx, b.addrs)
	defer closeAll(peers)
	if err != nil {
		return err
	}
	b.printf("\n### One of three nodes hung (SIGSTOP)\n\n")
	b.printf("| | acquire: healthy → hung | extend | release | slowest call, hung |\n|---|---|---|---|---|\n")
	for _, p := range peers {
		if b.only != nil && !b.only.MatchString(p.name) {
			continue
		}
		if err := b.hungRow(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) hungRow(ctx context.Context, p peer) error {
	var healthy, stopped [phases][]float64
	turns, calls := b.scale(6, 2), b.scale(40, 5)
	var spent time.Duration
	for turn := 0; turn < turns && (turn == 0 || spent < 30*time.Second); turn++ {
		if err := b.timeCalls(ctx, p, calls, time.Minute, &healthy); err != nil {
			return fmt.Errorf("%s: all nodes up: %w", p.name, err)
		}
		node := b.nodes[turn%len(b.nodes)]
		start := time.Now()
		node.Pause()
		err := b.timeCalls(ctx, p, calls, time.Duration(b.scale(20, 1))*time.Second, &stopped)
		node.Resume()
		node.WaitUp()
		if err != nil {
			return fmt.Errorf("%s: one node hung: %w", p.name, err)
		}
		spent += time.Since(start)
		// What waits at the node that was stopped is done by it now; the next turn
		// starts when the peer sees three nodes again.
		var settle [phases][]float64
		if err := b.timeCalls(ctx, p, 5, time.Minute, &settle); err != nil {
			return fmt.Errorf("%s: after the node came back: %w", p.name, err)
		}
	}
	slowest := 0.0
	b.printf("| %s |", p.name)
	for i := range phases {
		was, is := spreadOf(healthy[i]), spreadOf(stopped[i])
		b.printf(" %s → %s (%.1f) |", span(was.median), span(is.median), is.median/was.median)
		for _, t := range stopped[i] {
			slowest = max(slowest, t)
		}
	}
	b.printf(" %s |\n", span(slowest))
	return nil
}

// timeCalls times acquire, extend and release up to n times, or until budget is
// spent. Each round has a key of its own, so that none waits for an earlier
// release. Calls that failed count too: the caller waited for them.
func (b *bench) timeCalls(ctx context.Context, p peer, n int, budget time.Duration, into *[phases][]float64) error {
	start := time.Now()
	var failed error
	done, timeout := 0, b.callTimeout()
	for i := 0; i < n && (i == 0 || time.Since(start) < budget); i++ {
		serial++
		key := fmt.Sprintf("hung:%d", serial)
		bounded, cancel := context.WithTimeout(ctx, timeout)
		var h hold
		err := timed(&into[acquiring], func() (err error) {
			h, err = p.acquire(bounded, key)
			return err
		})
		cancel()
		if err != nil {
			failed = err
			continue
		}
		for phase, call := range []func(context.Context) error{extending: h.extend, releasing: h.release} {
			if call == nil {
				continue
			}
			bounded, cancel := context.WithTimeout(ctx, timeout)
			// A peer may have waited longer than its own ttl: what it says then is
			// no matter here.
			_ = timed(&into[phase], func() error { return call(bounded) })
			cancel()
		}
		done++
	}
	if done == 0 {
		return failed
	}
	return ctx.Err()
}

// serial makes keys that were never used before.
var serial int

func timed(into *[]float64, call func() error) error {
	start := time.Now()
	err := call()
	*into = append(*into, float64(time.Since(start)))
	return err
}
