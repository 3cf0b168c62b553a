package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// The nodes as they are in another data centre near by: each way takes so long, and a
// little more at random. The proxy keeps the order of bytes and does not throttle them.
const (
	farDelay  = time.Millisecond
	farJitter = farDelay / 10
)

// far is b with its nodes that far away, and processes of its own.
func (b *bench) far() *bench {
	far := *b
	far.addrs, far.workers = nil, nil
	for _, n := range b.nodes {
		p := redistest.NewProxy(b.t, n.Addr())
		p.Delay(farDelay)
		p.Jitter(farJitter)
		far.addrs = append(far.addrs, p.Addr())
	}
	far.at = &places{Redis: far.addrs}
	return &far
}

func farTitle(title string) string {
	return fmt.Sprintf("%s, each way %v and a little more", title, farDelay)
}

// uncontendedFar: acquire and release on three nodes that are far.
func uncontendedFar(ctx context.Context, b *bench) error {
	b = b.far()
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
	return b.compare(ctx, farTitle("Acquire + release, 3 nodes, no contention"), peers, floor)
}

// handoffFar: hand-off over nodes that are far.
func handoffFar(ctx context.Context, b *bench) error {
	return b.far().handoffs(ctx, farTitle("Hand-off between two processes"), []string{us, pushPeer}, 1.2, 0)
}
