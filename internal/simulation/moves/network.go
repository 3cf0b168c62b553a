package moves

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
)

// network is a process's way to a record store.
type network struct {
	ttl  time.Duration
	late *sync.WaitGroup // requests that nobody waits for

	mu         sync.Mutex // guards all below
	rng        *rand.Rand
	cut        bool // for good
	down, slow bool
	calm       bool // nothing goes wrong
}

func (w *world) network() *network {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &network{ttl: w.ttl, late: &w.late, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 2))}
}

func (n *network) set(change func(*network)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

var errReset = errors.New("connection reset")

// fate is what happens to one request.
type fate struct {
	there, back time.Duration
	lost, mute  bool // on its way there; its reply
}

func (n *network) draw() fate {
	n.mu.Lock()
	defer n.mu.Unlock()
	some := func(most time.Duration) time.Duration { return time.Duration(n.rng.Int64N(int64(most) + 1)) }
	f := fate{there: some(n.ttl / 400), back: some(n.ttl / 400), lost: n.cut || n.down}
	if n.calm {
		return f
	}
	if n.slow {
		f.there, f.back = some(n.ttl/10), some(n.ttl/10)
	}
	switch i := n.rng.IntN(100); {
	case i < 3:
		f.lost = true
	case i < 6:
		f.mute = true
	case i < 9: // it arrives although its caller has given up
		f.there += some(2 * n.ttl)
	}
	return f
}

// lossy is a record store behind a network.
type lossy struct {
	record.Store
	net *network
}

func (s lossy) Get(ctx context.Context, name string) (record.Entry, error) {
	return call(ctx, s.net, func(ctx context.Context) (record.Entry, error) { return s.Store.Get(ctx, name) })
}

func (s lossy) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	return call(ctx, s.net, func(ctx context.Context) (string, error) { return s.Store.Put(ctx, name, r, version) })
}

// call sends one request, which goes on when nobody waits for it any more.
func call[T any](ctx context.Context, n *network, do func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	f := n.draw()
	done := make(chan answer, 1)
	n.late.Go(func() {
		time.Sleep(f.there)
		if f.lost {
			return
		}
		value, err := do(context.Background())
		time.Sleep(f.back)
		if !f.mute {
			done <- answer{value, err}
		}
	})
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, errors.Join(errReset, ctx.Err())
	}
}
