package main

import (
	"context"
	"fmt"
	"time"

	"github.com/go-redsync/redsync/v4"
)

// uncontended: acquire and release on three nodes, one caller.
func uncontended(ctx context.Context, b *bench) error {
	peers, err := quorumPeers(ctx, b.addrs)
	defer closeAll(peers)
	if err != nil {
		return err
	}
	floor, done, err := pings(b.addrs)
	if err != nil {
		return err
	}
	defer done()
	return b.compare(ctx, "Acquire + release, 3 nodes, no contention", peers, floor)
}

// oneNode: the same on one node.
func oneNode(ctx context.Context, b *bench) error {
	addrs := b.addrs[:1]
	peers := []peer{overBSM(addrs[0])}
	defer func() { closeAll(peers) }()
	rl, err := overRueidislock(addrs[0])
	if err != nil {
		return err
	}
	peers = append([]peer{rl}, peers...)
	gr, err := overGoRedis(addrs, "redsync on go-redis")
	if err != nil {
		return err
	}
	peers = append([]peer{gr}, peers...)
	rr, err := overRueidis(addrs, "redsync on rueidis")
	if err != nil {
		return err
	}
	peers = append([]peer{rr}, peers...)
	us, err := ours(ctx, addrs)
	if err != nil {
		return err
	}
	peers = append([]peer{us}, peers...)
	floor, done, err := pings(addrs)
	if err != nil {
		return err
	}
	defer done()
	return b.compare(ctx, "Acquire + release, one node, no contention", peers, floor)
}

// quorumPeers are those that work on independent nodes; the second is the
// reference of every ratio. What is there already is returned with an error too.
func quorumPeers(ctx context.Context, addrs []string) (peers []peer, err error) {
	add := func(p peer, e error) {
		if e == nil {
			peers = append(peers, p)
		} else if err == nil {
			err = e
		}
	}
	add(ours(ctx, addrs))
	add(overRueidis(addrs, "redsync on rueidis"))
	add(overRueidis(addrs, "redsync on rueidis, fail fast", redsync.WithFailFast(true)))
	add(overGoRedis(addrs, "redsync on go-redis"))
	return peers, err
}

const reference = 1 // redsync on rueidis

func (b *bench) compare(ctx context.Context, title string, peers []peer, floor contender) error {
	var contenders []contender
	for _, p := range peers {
		contenders = append(contenders, p.cycle(1))
	}
	contenders = b.chosen(append(contenders, floor))
	p := plan{rounds: b.scale(60, 3), block: b.scale(200, 20), workers: 1, servers: b.serverCPU}
	results, err := alternate(ctx, p, min(reference, len(contenders)-1), contenders)
	if err != nil {
		return err
	}
	b.printf("\n### %s\n\n", title)
	b.printf("| | µs | relative time | allocs | bytes | client CPU µs | server CPU µs |\n|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		b.printf("| %s | %s | %s | %.0f | %.0f | %.0f | %.0f |\n",
			r.name, r.time.format("%.0f", 1e-3), r.ratio.format("%.2f", 1), r.allocs, r.bytes, r.cpu/1e3, r.server/1e3)
	}
	b.failures(results)
	return nil
}

// parallel: 64 callers, each with keys of its own.
func parallel(ctx context.Context, b *bench) error {
	const workers = 64
	peers, err := quorumPeers(ctx, b.addrs)
	defer closeAll(peers)
	if err != nil {
		return err
	}
	var contenders []contender
	for _, p := range peers {
		contenders = append(contenders, p.cycle(workers))
	}
	contenders = b.chosen(contenders)
	p := plan{rounds: b.scale(30, 2), block: b.scale(40, 5), workers: workers, servers: b.serverCPU}
	results, err := alternate(ctx, p, min(reference, len(contenders)-1), contenders)
	if err != nil {
		return err
	}
	b.printf("\n### %d goroutines, distinct keys, 3 nodes: acquire + release\n\n", workers)
	b.printf("| | pairs/s | relative rate | allocs | client CPU µs | server CPU µs |\n|---|---|---|---|---|---|\n")
	for _, r := range results {
		b.printf("| %s | %s | %s | %.0f | %.0f | %.0f |\n",
			r.name, r.time.inverse().format("%.0f", 1e9), r.ratio.inverse().format("%.2f", 1), r.allocs, r.cpu/1e3, r.server/1e3)
	}
	b.failures(results)
	return nil
}

func (b *bench) failures(results []result) {
	for _, r := range results {
		if r.failed > 0 {
			b.printf("\n%s: %d calls failed.\n", r.name, r.failed)
		}
	}
}

func (s spread) format(verb string, factor float64) string {
	return fmt.Sprintf(verb+" ["+verb+"–"+verb+"]", s.median*factor, s.low*factor, s.high*factor)
}

// inverse turns times into rates.
func (s spread) inverse() spread { return spread{1 / s.high, 1 / s.median, 1 / s.low} }

// span prints a duration with three digits or so.
func span(ns float64) string {
	d := time.Duration(ns)
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.0f µs", ns/1e3)
	}
}
